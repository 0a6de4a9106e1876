// `scale`, see `kernels/src/library/scale.rs`.
const uint SCALE = 3;

void scale(Team by) {
    float factor = uintBitsToFloat(call.scalars[0]);
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn);
        precise vec4 product = factor * uintBitsToFloat(load(call.input_words, at, call.count));
        store(call.output_words, at, call.count, floatBitsToUint(product));
    }
}
