// What a kernel of a user's own is written with. The whole of one:
//
//     #include "gpubridge.cuh"
//
//     struct Decay : gb::UserKernel {
//         static constexpr gb::u32 PHASES = 1;
//
//         template <class Team>
//         GB_MEMBER static void run(const Team &team, const gb::Call &call, gb::Answer &answer) {
//             auto kept = [&](gb::u64 i) { return call.scalars.get<gb::f32>(0) * call.output.get<gb::f32>(i); };
//             gb::each(team, call.count, kept, [&](gb::u64 i, gb::f32 x) { call.output.set(i, x); });
//         }
//     };
//     GPUBRIDGE_KERNEL(Decay)
//
// Compiled by the backend it finds GPUBRIDGE_ELEMENT, the element type, and GPUBRIDGE_CONSTANT_0 and _1. Compiled beforehand,
// to PTX that can be linked, GPUBRIDGE_FUNCTION is the name of the function that the PTX shows.
#pragma once

#include "call.cuh"
#include "library/each.cuh"
#include "library/number.cuh"
#include "team.cuh"

namespace gb {

// What the ring asks of a user's kernel: to check a call, or to run it by the threads of a warp, of a block or, from STEP_BY_GRID on
// phase by phase, of a grid. All of them ask together.
constexpr u32 STEP_CHECK = 0, STEP_BY_WARP = 1, STEP_BY_BLOCK = 2, STEP_BY_GRID = 3;
// A check is told beside it in how many phases the declaration has the kernel run.
constexpr u32 STEP_MASK = 0xff, STEP_PHASES_SHIFT = 8;
// The answer of a check that fails, and of a run that did; else a check answers with the work, a run with the bytes of its
// answer.
constexpr u64 REFUSED = ~0ull;

// What a kernel is like that says nothing else.
struct UserKernel {
    // Beside the ring one block runs it. With 1 all threads of a grid do; with more they do in as many phases, each a launch, by
    //     GB_MEMBER static void run_phase(gb::u32 phase, const gb::Grid &grid, const gb::Call &call, gb::Answer &answer)
    // of which the last one answers. A warp in the ring calls `run` in any case.
    static constexpr u32 PHASES = 0;

    // The same as the declaration's.
    GB_MEMBER static bool check(const Call &) { return true; }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }
};

// How a run went, as the thread knows it that writes the answer.
GB_DEVICE u64 outcome(const Answer &answer) { return answer.failed ? REFUSED : answer.bytes; }

template <class Kernel, class Team>
GB_DEVICE u64 run_by(const Team &team, const Call &call, u64 *words) {
    Answer answer{words, 0, team.rank() == 0, false};
    Kernel::run(team, call, answer);
    return outcome(answer);
}

template <class Kernel>
GB_DEVICE u64 run_phase_by(const Grid &grid, u32 phase, const Call &call, u64 *words) {
    Answer answer{words, 0, grid.rank() == 0, false};
    run_phase<Kernel>(phase, grid, call, answer);
    return outcome(answer);
}

template <class Kernel>
GB_DEVICE u64 take_step(u32 step, const Call &call, u64 *words, u64 *scratch) {
    u64 work;
    switch (step & STEP_MASK) {
    case STEP_CHECK:
        if (step >> STEP_PHASES_SHIFT != Kernel::PHASES || !Kernel::check(call)) return REFUSED;
        work = Kernel::work(call);
        return work == REFUSED ? REFUSED - 1 : work;
    case STEP_BY_WARP: return run_by<Kernel>(Warp{}, call, words);
    case STEP_BY_BLOCK: return run_by<Kernel>(Block{scratch}, call, words);
    // Where the partial results lie comes in a word of its own.
    default:
        return run_phase_by<Kernel>(Grid{scratch, reinterpret_cast<u64 *>(scratch[WARP])}, step - STEP_BY_GRID, call, words);
    }
}

} // namespace gb

#ifdef GPUBRIDGE_PHASES
#define GPUBRIDGE_CHECK_PHASES(Kernel)                                                                                         \
    static_assert(Kernel::PHASES == GPUBRIDGE_PHASES, "PHASES of the kernel is not what its CudaKernel was told")
#else
#define GPUBRIDGE_CHECK_PHASES(Kernel) static_assert(true, "")
#endif

// The function by which the ring knows a kernel.
#define GPUBRIDGE_KERNEL(Kernel)                                                                                               \
    GPUBRIDGE_CHECK_PHASES(Kernel);                                                                                            \
    GB_LINKED gb::u64 GPUBRIDGE_FUNCTION(gb::u32 step, const gb::Call *call, gb::u64 *words, gb::u64 *scratch) {               \
        return gb::take_step<Kernel>(step, *call, words, scratch);                                                             \
    }
