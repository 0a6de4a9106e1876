// `window_zscore`, see `kernels/src/library/window_zscore.rs`.
const uint WINDOW_ZSCORE = 15;

// Elements of the state before the values: how many it holds, and where the next one goes.
const uint HEADER = 2;

#ifdef WALK
// By the whole workgroup, of however few values: then the score is 0.
uint score(uint held, uint oldest, uint x) {
    Team by = workgroup();
    double origin = wide(call.output_words.words[HEADER + oldest]), share = 1.0lf / double(max(held, 1));
    dvec4 sum = dvec4(0), squares = dvec4(0);
    EACH(by, turn, held) {
        uvec4 at = places(by, turn);
        dvec4 distance = wide(load(call.output_words, HEADER, 1, at, held)) - origin;
#define ADD_UP(c) \
        if (at.c < held) sum.c += distance.c;
        FOUR(ADD_UP)
    }
    double mean = share * reduce_plus(sum_of(sum));
    EACH(by, turn, held) {
        uvec4 at = places(by, turn);
        dvec4 distance = wide(load(call.output_words, HEADER, 1, at, held)) - origin - mean;
#define ADD_UP_SQUARE(c) \
        if (at.c < held) squares.c += distance.c * distance.c;
        FOUR(ADD_UP_SQUARE)
    }
    double deviation = sqrt(share * reduce_plus(sum_of(squares)));
    if (held < 2 || deviation <= 1e-6lf * max(abs(origin + mean), 1.0lf)) return 0;
    return narrow((wide(x) - origin - mean) / deviation);
}

void window_zscore_run() {
    uint window = call.constant, x = call.scalars[0];
    // Both are in range but for a state that was overwritten.
    uint held = min(call.output_words.words[0], window);
    uint next = call.output_words.words[1], at = next < window ? next : 0;
    push(score(held, held == window ? at : 0, x));
    // All have read what changes.
    sync();
    if (gl_LocalInvocationIndex == 0) {
        call.output_words.words[HEADER + at] = x;
        call.output_words.words[0] = min(held + 1, window);
        call.output_words.words[1] = at + 1 < window ? at + 1 : 0;
    }
}
#endif
