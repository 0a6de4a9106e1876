// `matmul`, see `kernels/src/library/matmul.rs`.
const uint MATMUL = 14;

void matmul(Team by) { multiply(by, call.scalars[0], call.scalars[1], call.scalars[2]); }
