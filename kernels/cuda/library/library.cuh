// All kernels of the library, found by their variant.
#pragma once

#include "add.cuh"
#include "copy.cuh"
#include "dot.cuh"
#include "fill.cuh"
#include "histogram.cuh"
#include "inclusive_scan.cuh"
#include "matmul.cuh"
#include "matvec.cuh"
#include "mean_variance.cuh"
#include "min_max.cuh"
#include "saxpy.cuh"
#include "scale.cuh"
#include "sum.cuh"
#include "top_k.cuh"
#include "window_zscore.cuh"

namespace gb {

// The variant of a kernel for an element type, `id << 2 | element type`.
template <class Kernel>
constexpr u32 OF_F32 = Kernel::ID << 2 | F32;
template <class Kernel>
constexpr u32 OF_I32 = Kernel::ID << 2 | I32;
template <class Kernel>
constexpr u32 OF_U32 = Kernel::ID << 2 | U32;

// What a kernel declares of itself.
struct Traits {
    u32 buffers;
    bool in_place;
    // In how many launches all threads of a grid work on it beside the ring. With 0 it never leaves the ring, or is a user's, which
    // one block runs then.
    u32 phases;
    u64 in_ring_up_to;
};

template <class Kernel>
GB_DEVICE Traits traits_of() {
    return {Kernel::BUFFERS, Kernel::IN_PLACE, Kernel::PHASES, Kernel::IN_RING_UP_TO};
}

// Calls `use` with the kernel of this variant; false when there is none.
template <class Use>
GB_DEVICE bool with_kernel(u32 variant, Use &use) {
    switch (variant) {
    case OF_F32<Fill>: case OF_I32<Fill>: case OF_U32<Fill>: use(Fill{}); return true;
    case OF_F32<Copy>: case OF_I32<Copy>: case OF_U32<Copy>: use(Copy{}); return true;
    case OF_F32<Scale>: use(Scale{}); return true;
    case OF_F32<Add<f32>>: use(Add<f32>{}); return true;
    case OF_I32<Add<u32>>: case OF_U32<Add<u32>>: use(Add<u32>{}); return true;
    case OF_F32<Saxpy>: use(Saxpy{}); return true;
    case OF_F32<Dot>: use(Dot{}); return true;
    case OF_F32<Sum<f32>>: use(Sum<f32>{}); return true;
    case OF_I32<Sum<u32>>: case OF_U32<Sum<u32>>: use(Sum<u32>{}); return true;
    case OF_F32<MinMax<f32>>: use(MinMax<f32>{}); return true;
    case OF_I32<MinMax<i32>>: use(MinMax<i32>{}); return true;
    case OF_U32<MinMax<u32>>: use(MinMax<u32>{}); return true;
    case OF_F32<MeanVariance>: use(MeanVariance{}); return true;
    case OF_F32<InclusiveScan<f32>>: use(InclusiveScan<f32>{}); return true;
    case OF_I32<InclusiveScan<u32>>: case OF_U32<InclusiveScan<u32>>: use(InclusiveScan<u32>{}); return true;
    case OF_F32<Histogram<f32>>: use(Histogram<f32>{}); return true;
    case OF_I32<Histogram<i32>>: use(Histogram<i32>{}); return true;
    case OF_U32<Histogram<u32>>: use(Histogram<u32>{}); return true;
    case OF_F32<TopK>: use(TopK{}); return true;
    case OF_F32<Matvec>: use(Matvec{}); return true;
    case OF_F32<Matmul>: use(Matmul{}); return true;
    case OF_F32<WindowZscore>: use(WindowZscore{}); return true;
    default: return false;
    }
}

} // namespace gb
