// `saxpy`, see `kernels/src/library/saxpy.rs`.
const uint SAXPY = 5;

void saxpy(Team by) {
    float a = uintBitsToFloat(call.scalars[0]);
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn);
        uvec4 x = load(call.input_words, at, call.count), y = load(call.operand, at, call.count);
        // Rounded twice, as the twin does.
        precise vec4 product = a * uintBitsToFloat(x);
        precise vec4 sum = product + uintBitsToFloat(y);
        store(call.output_words, at, call.count, floatBitsToUint(sum));
    }
}
