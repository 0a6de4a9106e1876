// What the workgroups of a dispatch keep from phase to phase: `Grid` of `kernels/cuda/team.cuh`.

// Words for each workgroup, two for each number under which something is kept.
const uint PARTIALS_WORDS = 32;

uint block_rank() { return gl_WorkGroupID.x; }
uint blocks() { return gl_NumWorkGroups.x; }

// Elements in a row.
struct Stretch {
    uint first, count;
};

// What falls to this workgroup of `count` elements when each has a stretch of them, of whole cache lines.
Stretch stretch_of(uint count) {
    uint length = (count / blocks() + 32) / 32 * 32;
    uint first = block_rank() <= count / length ? block_rank() * length : count;
    return Stretch(first, min(count - first, length));
}

Words partials_of(uint block) { return record(given.partials, block, PARTIALS_WORDS); }

// By one thread of each workgroup, in every one of which the value is that of the workgroup.
void keep(uint which, uvec2 value) {
    if (gl_LocalInvocationIndex != 0) return;
    Words partials = partials_of(block_rank());
    partials.words[2 * which] = value.x;
    partials.words[2 * which + 1] = value.y;
}

void keep(uint which, uint value) { keep(which, uvec2(value, 0)); }
void keep(uint which, double value) { keep(which, unpackDouble2x32(value)); }

// What this workgroup itself has kept in an earlier phase.
uvec2 kept(uint which) {
    Words partials = partials_of(block_rank());
    return uvec2(partials.words[2 * which], partials.words[2 * which + 1]);
}

uvec4 kept_of(uvec4 at, uint which, uint upper, uint count) {
    return load(Words(given.partials), 2 * which + upper, PARTIALS_WORDS, at, count);
}

// The join of what the first `count` workgroups have kept in an earlier phase, in every thread of the workgroup.
double joined_f64(uint which, uint count) {
    double sum = 0;
    EACH(workgroup(), turn, count) {
        uvec4 at = places(workgroup(), turn);
        uvec4 low = kept_of(at, which, 0, count), high = kept_of(at, which, 1, count);
        dvec4 x;
#define DOUBLE(c) x.c = packDouble2x32(uvec2(low.c, high.c));
        FOUR(DOUBLE)
        sum += sum_of(x);
    }
    return reduce_plus(sum);
}

// Of four numbers from this one on.
uvec4 joined_u32x4(uint which, uint count) {
    uvec4 sum = uvec4(0);
    EACH(workgroup(), turn, count) {
        uvec4 at = places(workgroup(), turn);
        sum += uvec4(sum_of(kept_of(at, which, 0, count)), sum_of(kept_of(at, which + 1, 0, count)),
                     sum_of(kept_of(at, which + 2, 0, count)), sum_of(kept_of(at, which + 3, 0, count)));
    }
    return reduce_plus(sum);
}

uint joined_u32(uint which, uint count) {
    uint sum = 0;
    EACH(workgroup(), turn, count) sum += sum_of(kept_of(places(workgroup(), turn), which, 0, count));
    return reduce_plus(sum);
}
