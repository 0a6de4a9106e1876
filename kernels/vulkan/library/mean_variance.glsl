// `mean_variance`, see `kernels/src/library/mean_variance.rs`.
const uint MEAN_VARIANCE = 9;

// Of what falls to this thread; `partial_sum_f32` is the first pass.
double partial_squares(Team by, double mean) {
    dvec4 squares = dvec4(0);
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn);
        dvec4 distance = wide(load(call.input_words, at, call.count)) - mean;
#define SQUARE(c) \
        if (at.c < call.count) squares.c += distance.c * distance.c;
        FOUR(SQUARE)
    }
    return sum_of(squares);
}

#ifdef WALK
void mean_variance_run() {
    double mean = reduce_plus(partial_sum_f32(team())) / double(call.count);
    double squares = reduce_plus(partial_squares(team(), mean));
    push(narrow(mean));
    push(narrow(squares / double(call.count)));
}
#else
void mean_variance_run_phase(uint phase) {
    if (phase == 0) {
        keep(0, reduce_plus(partial_sum_f32(team())));
        return;
    }
    // Each workgroup for itself: cheaper than another phase.
    double mean = joined_f64(0, blocks()) / double(call.count);
    if (phase == 1) {
        keep(1, reduce_plus(partial_squares(team(), mean)));
    } else if (block_rank() == 0) {
        push(narrow(mean));
        push(narrow(joined_f64(1, blocks()) / double(call.count)));
    }
}
#endif
