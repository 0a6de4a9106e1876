// What the kernels ask of the machine: threads, barriers, and memory accesses that say how far they reach.
//
// One source for clang, nvcc and NVRTC, and for a host compiler that runs the kernels on a CPU: there `emulation.hpp`
// provides the same names. Scopes: `block`, `device`, `system` (the host included). An access without a scope is a plain one:
// for memory that only this warp works on, or that was written before an acquire that this thread is ordered behind.
#pragma once

#if defined(__CUDA__) || defined(__CUDACC__) || defined(__CUDACC_RTC__)

#if defined(__clang__) && !defined(__CUDACC_RTC__) && !defined(__NVCC__)
// clang alone, without a toolkit's headers.
#define __forceinline__ __inline__ __attribute__((always_inline))
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#include <__clang_cuda_builtin_vars.h>
#endif

namespace gb {
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using f32 = float;
using f64 = double;
} // namespace gb

#define GB_DEVICE static __device__ __forceinline__
#define GB_MEMBER __device__ __forceinline__
#define GB_KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
// A function that others are linked with, and one that may be linked with later: until then it answers with `otherwise`.
#define GB_LINKED extern "C" __device__
#define GB_LINKED_LATER(declaration, otherwise)                                                                                \
    extern "C" __device__ __attribute__((weak, noinline)) declaration { return otherwise; }
// Memory that the threads of a block share; to be declared at the top of a kernel, by all of its threads.
#define GB_SHARED(type, name) __shared__ type name

namespace gb {

GB_DEVICE u32 thread_index() { return threadIdx.x; }
GB_DEVICE u32 block_threads() { return blockDim.x; }
GB_DEVICE u32 block_index() { return blockIdx.x; }
GB_DEVICE u32 grid_blocks() { return gridDim.x; }

GB_DEVICE void sync_block() { asm volatile("bar.sync 0;" ::: "memory"); }
GB_DEVICE void sync_warp() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }

GB_DEVICE u32 shuffle(u32 value, u32 from) {
    u32 got;
    asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(got) : "r"(value), "r"(from));
    return got;
}

// One bit per lane of the warp.
GB_DEVICE u32 ballot(bool holds) {
    u32 bits;
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %1, 0; vote.sync.ballot.b32 %0, p, 0xffffffff; }"
                 : "=r"(bits)
                 : "r"(u32(holds)));
    return bits;
}

GB_DEVICE u64 load_system(const u64 *at) {
    u64 value;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(at) : "memory");
    return value;
}

GB_DEVICE void store_system(u64 *at, u64 value) {
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(at), "l"(value) : "memory");
}

GB_DEVICE u64 load_acquire_device(const u64 *at) {
    u64 value;
    asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(at) : "memory");
    return value;
}

GB_DEVICE void store_release_device(u64 *at, u64 value) {
    asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(at), "l"(value) : "memory");
}

// `at` lies in the block's shared memory.
GB_DEVICE u32 load_acquire_block(const u32 *at) {
    u32 value;
    asm volatile("ld.acquire.cta.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
    return value;
}

// `at` lies in the block's shared memory.
GB_DEVICE void store_release_block(u32 *at, u32 value) {
    asm volatile("st.release.cta.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}

// Without order. `at` lies in the block's shared memory.
GB_DEVICE u64 load_block(const u64 *at) {
    u64 value;
    asm volatile("ld.relaxed.cta.u64 %0, [%1];" : "=l"(value) : "l"(at) : "memory");
    return value;
}

// Without order. `at` lies in the block's shared memory.
GB_DEVICE void store_block(u64 *at, u64 value) {
    asm volatile("st.relaxed.cta.u64 [%0], %1;" ::"l"(at), "l"(value) : "memory");
}

GB_DEVICE void fence_system() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }
GB_DEVICE void fence_device() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

// Adds in device memory, without order; returns what was there.
GB_DEVICE u32 atomic_add(u32 *at, u32 by) {
    u32 before;
    asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(at), "r"(by) : "memory");
    return before;
}

GB_DEVICE u64 nanoseconds() {
    u64 now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

// Between two looks at shared memory that another warp of the block will change.
GB_DEVICE void spin() { asm volatile("nanosleep.u32 20;"); }

// Between two looks at memory that the host will change, after `looks` in vain.
GB_DEVICE void idle(u32 looks) {
    if (looks > 64) asm volatile("nanosleep.u32 %0;" ::"r"(looks > 4096 ? 1000u : 32u));
}

GB_DEVICE f64 square_root(f64 x) {
    f64 root;
    asm("sqrt.rn.f64 %0, %1;" : "=d"(root) : "d"(x));
    return root;
}

template <class To, class From>
GB_DEVICE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "the bits of one type as another of the same size");
    return __builtin_bit_cast(To, from);
}

} // namespace gb

#else
#include "emulation.hpp"
#endif
