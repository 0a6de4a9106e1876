// `copy`, see `kernels/src/library/copy.rs`. Of bits, whatever they stand for.
const uint COPY = 2;

void copy(Team by) {
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn);
        store(call.output_words, at, call.count, load(call.input_words, at, call.count));
    }
}
