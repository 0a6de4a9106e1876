// Threads that work on one call together: a workgroup in `walk.comp`, all workgroups of a dispatch in `grid.comp`.
//
// `reduce` and `scan` join a workgroup's values through shared memory: they begin by writing the first row of it and read it for
// the last time before they last come together. So nobody need wait between one and the next.

const uint THREADS = 128;

struct Team {
    uint rank, size;
};

Team workgroup() { return Team(gl_LocalInvocationIndex, THREADS); }
Team team() { return Team(TEAM_RANK, TEAM_SIZE); }

shared uvec4 shared_u32[2][THREADS];
shared dvec4 shared_f64[2][THREADS];

uvec4 plus(uvec4 a, uvec4 b) { return a + b; }
double plus(double a, double b) { return a + b; }
int least(int a, int b) { return min(a, b); }
int greatest(int a, int b) { return max(a, b); }

// Without loops: there are devices that count their turns.
#define JOIN_4(join, of, first) join(join(of(first), of(first + 1)), join(of(first + 2), of(first + 3)))
#define JOIN_8(join, of, first) join(JOIN_4(join, of, first), JOIN_4(join, of, first + 4))
#define JOIN_16(join, of, first) join(JOIN_8(join, of, first), JOIN_8(join, of, first + 8))

#define REDUCE(type, name, join, to_shared, row, of_0, of_1)         \
    type name(type value) {                                            \
        uint rank = gl_LocalInvocationIndex;                           \
        row[0][rank].to_shared;                                       \
        sync();                                                        \
        if (rank < 16) {                                               \
            value = JOIN_8(join, of_0, 8 * rank);                      \
            row[1][rank].to_shared;                                   \
        }                                                              \
        sync();                                                        \
        return JOIN_16(join, of_1, 0);                                 \
    }

#define WORDS_0(i) shared_u32[0][i]
#define WORDS_1(i) shared_u32[1][i]
#define INT_0(i) int(shared_u32[0][i].x)
#define INT_1(i) int(shared_u32[1][i].x)
#define F64_0(i) shared_f64[0][i].x
#define F64_1(i) shared_f64[1][i].x

// The join of the values of all threads of the workgroup, in every thread; in the same order each time.
REDUCE(uvec4, reduce_plus, plus, xyzw = value, shared_u32, WORDS_0, WORDS_1)
REDUCE(int, reduce_least, least, x = uint(value), shared_u32, INT_0, INT_1)
REDUCE(int, reduce_greatest, greatest, x = uint(value), shared_u32, INT_0, INT_1)
REDUCE(double, reduce_plus, plus, x = value, shared_f64, F64_0, F64_1)

uint reduce_plus(uint value) { return reduce_plus(uvec4(value, 0, 0, 0)).x; }

// The same over each 32 threads in a row, or over all, in the first of them.
double reduce_plus_of(uint threads, double value) {
    uint rank = gl_LocalInvocationIndex;
    shared_f64[0][rank].x = value;
    sync();
    if (rank < 16) {
        value = JOIN_8(plus, F64_0, 8 * rank);
        shared_f64[1][rank].x = value;
    }
    sync();
    if (threads == THREADS) return JOIN_16(plus, F64_1, 0);
    return JOIN_4(plus, F64_1, rank / 32 * 4);
}

#define SCAN_STEP(row, from, by)             \
    row[from][rank] = x;                     \
    sync();                                   \
    if (rank >= by) x = row[from][rank - by] + x;

// Of four elements a thread, which lie the workgroup's size apart: the sum of each and of all before it; that of all goes to `total`.
#define SCAN(type, four, row)                                                        \
    four scan(four x, out type total) {                                               \
        uint rank = gl_LocalInvocationIndex;                                          \
        SCAN_STEP(row, 0, 1)                                                         \
        SCAN_STEP(row, 1, 2)                                                         \
        SCAN_STEP(row, 0, 4)                                                         \
        SCAN_STEP(row, 1, 8)                                                         \
        SCAN_STEP(row, 0, 16)                                                        \
        SCAN_STEP(row, 1, 32)                                                        \
        SCAN_STEP(row, 0, 64)                                                        \
        row[1][rank] = x;                                                            \
        sync();                                                                       \
        four of_row = row[1][THREADS - 1];                                           \
        type before = of_row.x;                                                       \
        x.y += before;                                                                \
        before += of_row.y;                                                           \
        x.z += before;                                                                \
        before += of_row.z;                                                           \
        x.w += before;                                                                \
        total = before + of_row.w;                                                    \
        return x;                                                                     \
    }

SCAN(uint, uvec4, shared_u32)
SCAN(double, dvec4, shared_f64)
