// `sum`, see `kernels/src/library/sum.rs`.
const uint SUM = 7;

// The sum of what falls to this thread.
double partial_sum_f32(Team by) {
    dvec4 sum = dvec4(0);
    EACH(by, turn, call.count) sum += wide(load(call.input_words, places(by, turn), call.count));
    return sum_of(sum);
}

// Of all integers: they wrap, signed or not.
uint partial_sum_u32(Team by) {
    uvec4 sum = uvec4(0);
    EACH(by, turn, call.count) sum += load(call.input_words, places(by, turn), call.count);
    return sum_of(sum);
}

#ifdef WALK
void sum_f32_run() { push(narrow(reduce_plus(partial_sum_f32(team())))); }
void sum_u32_run() { push(reduce_plus(partial_sum_u32(team()))); }
#else
void sum_f32_run_phase(uint phase) {
    if (phase == 0) keep(0, reduce_plus(partial_sum_f32(team())));
    else if (block_rank() == 0) push(narrow(joined_f64(0, blocks())));
}

void sum_u32_run_phase(uint phase) {
    if (phase == 0) keep(0, reduce_plus(partial_sum_u32(team())));
    else if (block_rank() == 0) push(joined_u32(0, blocks()));
}
#endif
