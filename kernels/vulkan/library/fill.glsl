// `fill`, see `kernels/src/library/fill.rs`. Of bits, whatever they stand for.
const uint FILL = 1;

void fill(Team by) {
    EACH(by, turn, call.count) store(call.output_words, places(by, turn), call.count, uvec4(call.scalars[0]));
}
