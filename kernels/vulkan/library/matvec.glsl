// `matvec`, see `kernels/src/library/matvec.rs`.
const uint MATVEC = 13;

void matvec(Team by) { multiply(by, call.scalars[0], call.scalars[1], 1); }
