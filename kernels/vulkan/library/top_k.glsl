// `top_k`, see `kernels/src/library/top_k.rs`.
//
// No memory but the output: until the values are written, the orders lie in their place.
const uint TOP_K = 12;

// Into how many parts the orders between two bounds are divided, and how often, until a part holds but one.
const uint PARTS = 8, NARROWINGS = 11;

// Where the k-th largest element lies.
struct Bounds {
    // Its order, if `above` is less than k.
    uint low;
    // The `above` elements from here on belong to the k largest.
    uint high;
    uint above;
};

// How many elements lie above the bounds, and how many have the order of the k-th largest; or where the next ones go.
struct Places {
    uint above, equal;
};

uint rank_order(uint bits) { return uint(order_of(F32, bits, LOWEST_ORDER)) ^ 0x80000000; }

uvec4 rank_orders(uvec4 bits) {
    return uvec4(rank_order(bits.x), rank_order(bits.y), rank_order(bits.z), rank_order(bits.w));
}

Bounds all_bounds() { return Bounds(0, rank_order(0x7f800000) + 1, 0); }
bool is_found(Bounds bounds, uint k) { return bounds.high - bounds.low <= 1 || bounds.above >= k; }
uint step_of(Bounds bounds) { return (bounds.high - bounds.low - 1) / PARTS + 1; }

// The bounds above the first four parts, and above the next three.
uvec4 first_bounds(Bounds bounds) { return bounds.low + uvec4(1, 2, 3, 4) * step_of(bounds); }
uvec4 other_bounds(Bounds bounds) { return first_bounds(bounds) + 4 * step_of(bounds); }

void narrow_by(inout Bounds bounds, uint k, uint bound, uint count) {
    if (count > k) {
        bounds.low = max(bounds.low, bound);
    } else if (bound < bounds.high) {
        bounds.high = bound;
        bounds.above = count;
    }
}

// So many elements lie from the bound above each part on.
Bounds narrowed(Bounds bounds, uint k, uvec4 first_counts, uvec4 other_counts) {
    uvec4 first = first_bounds(bounds), other = other_bounds(bounds);
    narrow_by(bounds, k, other.z, other_counts.z);
    narrow_by(bounds, k, other.y, other_counts.y);
    narrow_by(bounds, k, other.x, other_counts.x);
    narrow_by(bounds, k, first.w, first_counts.w);
    narrow_by(bounds, k, first.z, first_counts.z);
    narrow_by(bounds, k, first.y, first_counts.y);
    narrow_by(bounds, k, first.x, first_counts.x);
    return bounds;
}

// As one thread counts them.
void count_parts(Team by, Bounds bounds, out uvec4 first_counts, out uvec4 other_counts) {
    uvec4 first = first_bounds(bounds), other = other_bounds(bounds);
    first_counts = uvec4(0);
    other_counts = uvec4(0);
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn), orders = rank_orders(load(call.input_words, at, call.count));
#define COUNT_PARTS(c)                                                              \
        if (at.c < call.count) {                                                    \
            first_counts += uvec4(greaterThanEqual(uvec4(orders.c), first));        \
            other_counts += uvec4(greaterThanEqual(uvec4(orders.c), other));        \
        }
        FOUR(COUNT_PARTS)
    }
}

// Of `count` elements from `first` on, by a workgroup, those above and as many of the k-th largest's order as there is room for, both
// by ascending indices.
void gather(uint first, uint count, Bounds bounds, Places to) {
    uint k = call.scalars[0];
    EACH(workgroup(), turn, count) {
        uvec4 at = places(workgroup(), turn), orders = rank_orders(load(call.input_words, first, 1, at, count));
        uvec4 is_there = uvec4(lessThan(at, uvec4(count)));
        uvec4 above = is_there * uvec4(greaterThanEqual(orders, uvec4(bounds.high)));
        uvec4 equal = is_there * uvec4(equal(orders, uvec4(bounds.low)));
        // Two sums in one word: a turn has 512 elements.
        uint total;
        uvec4 sum = scan(above << 16 | equal, total);
#define GATHER(c)                                                                                             \
        {                                                                                                     \
            uint place = above.c != 0 ? to.above + (sum.c >> 16) - 1 : to.equal + (sum.c & 0xffff) - 1;       \
            if ((above.c | equal.c) != 0 && place < k) {                                                      \
                call.output_words.words[place] = orders.c;                                                    \
                call.output_words.words[k + place] = first + at.c;                                            \
            }                                                                                                 \
        }
        FOUR(GATHER)
        to.above += total >> 16;
        to.equal += total & 0xffff;
    }
    sync();
}

// Swaps two of those that were gathered if the second ranks higher.
void in_order(uint a, uint b, uint k) {
    Words of = call.output_words;
    uint order_a = of.words[a], order_b = of.words[b], index_a = of.words[k + a], index_b = of.words[k + b];
    if (order_a > order_b || (order_a == order_b && index_a <= index_b)) return;
    of.words[a] = order_b;
    of.words[b] = order_a;
    of.words[k + a] = index_b;
    of.words[k + b] = index_a;
}

// Batcher's bitonic sort of the first `count` by a workgroup, in the form whose comparisons all point one way: what would lie
// behind them stays there, and so need not be. A turn compares sixteen pairs a thread, which makes few turns of the largest k.
void sort(uint count, uint k) {
    for (uint sorted = 1; sorted < count; sorted *= 2) {
        for (uint step = sorted; step > 0; step /= 2) {
            uint mask = step == sorted ? 2 * sorted - 1 : step;
            uint pairs = turns_of(count, 2 * step) * step;
            FOR_TURNS(turn, turns_of(pairs, 16 * THREADS)) {
                uint pair = turn * 16 * THREADS + gl_LocalInvocationIndex;
#define PAIR                                                                    \
                {                                                               \
                    uint a = (pair & ~(step - 1)) << 1 | (pair & (step - 1));   \
                    uint b = a ^ mask;                                          \
                    if (pair < pairs && b < count) in_order(a, b, k);           \
                    pair += THREADS;                                            \
                }
#define FOUR_PAIRS PAIR PAIR PAIR PAIR
                FOUR_PAIRS FOUR_PAIRS FOUR_PAIRS FOUR_PAIRS
            }
            sync();
        }
    }
}

// Sorts what was gathered, and writes the values, by a workgroup.
void finish(Bounds bounds) {
    uint k = call.scalars[0];
    sort(bounds.above, k);
    EACH(workgroup(), turn, k) {
        uvec4 at = places(workgroup(), turn), index = load(call.output_words, k, 1, at, k);
#define VALUE(c) \
        if (at.c < k && index.c < call.count) call.output_words.words[at.c] = call.input_words.words[index.c];
        FOUR(VALUE)
    }
}

#ifdef WALK
void top_k_run() {
    uint k = call.scalars[0];
    Bounds bounds = all_bounds();
    for (uint i = 0; i < NARROWINGS && !is_found(bounds, k); ++i) {
        uvec4 first, other;
        count_parts(team(), bounds, first, other);
        first = reduce_plus(first);
        bounds = narrowed(bounds, k, first, reduce_plus(other));
    }
    gather(0, call.count, bounds, Places(0, bounds.above));
    finish(bounds);
}
#else
// Where a grid keeps what. While the counts of one phase are read, those of the next are kept.
uint counts_of(uint phase) { return phase % 2 * (PARTS - 1); }
const uint BOUNDS = 2 * (PARTS - 1);
const uint ABOVE = NARROWINGS % 2 * (PARTS - 1), EQUAL = ABOVE + 1;

// A phase for each time that the bounds are narrowed; then one to count and one to gather what lies within, and one to sort it, by
// one workgroup.
void top_k_run_phase(uint phase) {
    uint k = call.scalars[0];
    Bounds bounds = all_bounds();
    if (phase > 0) {
        bounds = Bounds(kept(BOUNDS).x, kept(BOUNDS).y, kept(BOUNDS + 1).x);
        // The whole workgroup has read what changes.
        sync();
        if (phase <= NARROWINGS && !is_found(bounds, k)) {
            uint counts = counts_of(phase - 1);
            uvec4 first = joined_u32x4(counts, blocks());
            // One more than is asked for lies behind.
            bounds = narrowed(bounds, k, first, joined_u32x4(counts + 4, blocks()));
        }
    }
    if (phase <= NARROWINGS) {
        keep(BOUNDS, uvec2(bounds.low, bounds.high));
        keep(BOUNDS + 1, bounds.above);
    }
    Stretch part = stretch_of(call.count);
    if (phase < NARROWINGS) {
        if (is_found(bounds, k)) return;
        uvec4 first, other;
        count_parts(team(), bounds, first, other);
        first = reduce_plus(first);
        other = reduce_plus(other);
        uint counts = counts_of(phase);
        keep(counts, first.x);
        keep(counts + 1, first.y);
        keep(counts + 2, first.z);
        keep(counts + 3, first.w);
        keep(counts + 4, other.x);
        keep(counts + 5, other.y);
        keep(counts + 6, other.z);
    } else if (phase == NARROWINGS) {
        Places here = Places(0, 0);
        EACH(workgroup(), turn, part.count) {
            uvec4 at = places(workgroup(), turn), orders = rank_orders(load(call.input_words, part.first, 1, at, part.count));
            uvec4 is_there = uvec4(lessThan(at, uvec4(part.count)));
            here.above += sum_of(is_there * uvec4(greaterThanEqual(orders, uvec4(bounds.high))));
            here.equal += sum_of(is_there * uvec4(equal(orders, uvec4(bounds.low))));
        }
        keep(ABOVE, reduce_plus(here.above));
        keep(EQUAL, reduce_plus(here.equal));
    } else if (phase == NARROWINGS + 1) {
        uint above = joined_u32(ABOVE, block_rank());
        gather(part.first, part.count, bounds, Places(above, bounds.above + joined_u32(EQUAL, block_rank())));
    } else if (block_rank() == 0) {
        finish(bounds);
    }
}
#endif
