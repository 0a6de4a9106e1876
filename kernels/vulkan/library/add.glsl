// `add`, see `kernels/src/library/add.rs`.
const uint ADD = 4;

void add_f32(Team by) {
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn);
        uvec4 x = load(call.input_words, at, call.count), y = load(call.operand, at, call.count);
        precise vec4 sum = uintBitsToFloat(x) + uintBitsToFloat(y);
        store(call.output_words, at, call.count, floatBitsToUint(sum));
    }
}

// Of all integers: they wrap, signed or not.
void add_u32(Team by) {
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn);
        uvec4 x = load(call.input_words, at, call.count), y = load(call.operand, at, call.count);
        store(call.output_words, at, call.count, x + y);
    }
}
