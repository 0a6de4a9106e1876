// `min_max`, see `kernels/src/library/min_max.rs`.
const uint MIN_MAX = 8;

struct Extremes {
    int least, greatest;
};

// The least and the greatest order of what falls to this thread.
Extremes partial_extremes(Team by, uint element) {
    Extremes found = Extremes(HIGHEST_ORDER, LOWEST_ORDER);
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn), x = load(call.input_words, at, call.count);
#define EXTREMES(c)                                                                  \
        if (at.c < call.count) {                                                     \
            found.least = min(found.least, order_of(element, x.c, HIGHEST_ORDER));   \
            found.greatest = max(found.greatest, order_of(element, x.c, LOWEST_ORDER)); \
        }
        FOUR(EXTREMES)
    }
    return Extremes(reduce_least(found.least), reduce_greatest(found.greatest));
}

void push_extremes(uint element, Extremes found) {
    push(from_order(element, found.least));
    push(from_order(element, found.greatest));
}

#ifdef WALK
void min_max_run() {
    uint element = call.what & 3;
    push_extremes(element, partial_extremes(team(), element));
}
#else
void min_max_run_phase(uint phase) {
    uint element = call.what & 3;
    if (phase == 0) {
        Extremes found = partial_extremes(team(), element);
        keep(0, uvec2(found.least, found.greatest));
    } else if (block_rank() == 0) {
        Extremes all = Extremes(HIGHEST_ORDER, LOWEST_ORDER);
        uint count = blocks();
        EACH(workgroup(), turn, count) {
            uvec4 at = places(workgroup(), turn);
            ivec4 least = ivec4(kept_of(at, 0, 0, count)), greatest = ivec4(kept_of(at, 0, 1, count));
#define JOIN(c)                                              \
            if (at.c < count) {                              \
                all.least = min(all.least, least.c);         \
                all.greatest = max(all.greatest, greatest.c); \
            }
            FOUR(JOIN)
        }
        push_extremes(element, Extremes(reduce_least(all.least), reduce_greatest(all.greatest)));
    }
}
#endif
