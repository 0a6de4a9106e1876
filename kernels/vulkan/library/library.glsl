// All kernels of the library, found by their variant, and the operations that are no kernels.
#include "fill.glsl"
#include "copy.glsl"
#include "scale.glsl"
#include "add.glsl"
#include "saxpy.glsl"
#include "dot.glsl"
#include "sum.glsl"
#include "min_max.glsl"
#include "mean_variance.glsl"
#include "inclusive_scan.glsl"
#include "histogram.glsl"
#include "products.glsl"
#include "matvec.glsl"
#include "matmul.glsl"
#include "top_k.glsl"
#include "window_zscore.glsl"

// The variant of a kernel for an element type, `id << 2 | element type`.
#define OF_F32(kernel) (kernel << 2 | F32)
#define OF_I32(kernel) (kernel << 2 | I32)
#define OF_U32(kernel) (kernel << 2 | U32)
#define OF_INTEGERS(kernel) case OF_I32(kernel): case OF_U32(kernel)
#define OF_ALL(kernel) case OF_F32(kernel): OF_INTEGERS(kernel)

// Elements that do not depend on each other: one phase.
#define ALONE(kernel) { kernel(team()); return 1; }
#ifdef WALK
#define IN_PHASES(phases, kernel) { kernel##_run(); return phases; }
#else
#define IN_PHASES(phases, kernel) { kernel##_run_phase(given.phase); return phases; }
#endif

// The one kernel that a pipeline is made for, all of them, or none: what it cannot run is not compiled. For devices where
// a branch costs though no thread takes it.
layout(constant_id = 0) const uint ONLY = 0;
const uint ALL = 0;

// Runs the operation at hand, and tells in how many phases a grid does; 0 when there is none such.
uint run() {
    switch (call.what) {
    case COPY_BYTES: ALONE(copy_bytes)
    case ZERO_WORDS: ALONE(zero_words)
    case ECHO: return 1;
    }
    if (ONLY != ALL && call.what != ONLY) return 0;
    switch (ONLY == ALL ? call.what : ONLY) {
    OF_ALL(FILL): ALONE(fill)
    OF_ALL(COPY): ALONE(copy)
    case OF_F32(SCALE): ALONE(scale)
    case OF_F32(ADD): ALONE(add_f32)
    OF_INTEGERS(ADD): ALONE(add_u32)
    case OF_F32(SAXPY): ALONE(saxpy)
    case OF_F32(DOT): IN_PHASES(2, dot)
    case OF_F32(SUM): IN_PHASES(2, sum_f32)
    OF_INTEGERS(SUM): IN_PHASES(2, sum_u32)
    OF_ALL(MIN_MAX): IN_PHASES(2, min_max)
    case OF_F32(MEAN_VARIANCE): IN_PHASES(3, mean_variance)
    case OF_F32(INCLUSIVE_SCAN): IN_PHASES(2, inclusive_scan_f32)
    OF_INTEGERS(INCLUSIVE_SCAN): IN_PHASES(2, inclusive_scan_u32)
    OF_ALL(HISTOGRAM): IN_PHASES(2, histogram)
    case OF_F32(TOP_K): IN_PHASES(14, top_k)
    case OF_F32(MATVEC): ALONE(matvec)
    case OF_F32(MATMUL): ALONE(matmul)
#ifdef WALK
    case OF_F32(WINDOW_ZSCORE): IN_PHASES(1, window_zscore)
#endif
    default: return 0;
    }
}
