// `dot`, see `kernels/src/library/dot.rs`.
const uint DOT = 6;

double partial_dot(Team by) {
    dvec4 sum = dvec4(0);
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn);
        // Exact in f64.
        sum += wide(load(call.input_words, at, call.count)) * wide(load(call.operand, at, call.count));
    }
    return sum_of(sum);
}

#ifdef WALK
void dot_run() { push(narrow(reduce_plus(partial_dot(team())))); }
#else
void dot_run_phase(uint phase) {
    if (phase == 0) keep(0, reduce_plus(partial_dot(team())));
    else if (block_rank() == 0) push(narrow(joined_f64(0, blocks())));
}
#endif
