// `sum`, see `kernels/src/library/sum.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

// `T` is u32 for all integers: they wrap, signed or not.
template <class T>
struct Sum {
    static constexpr u32 ID = 7;
    static constexpr u32 BUFFERS = INPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 2;

    GB_MEMBER static bool check(const Call &call) { return call.count <= call.input.count; }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        answer.push(T(team.reduce(partial(team, call), Plus{})));
    }

    GB_MEMBER static void run_phase(u32 phase, const Grid &grid, const Call &call, Answer &answer) {
        if (phase == 0) {
            grid.keep(0, partial(grid, call), Plus{});
        } else if (grid.block_rank() == 0) {
            answer.push(T(grid.joined(0, grid.blocks(), Carried(0), Plus{})));
        }
    }

private:
    using Carried = typename Number<T>::Sum;

    // The sum of what falls to this thread.
    template <class Team>
    GB_MEMBER static Carried partial(const Team &team, const Call &call) {
        Carried sum = 0;
        auto get = [&](u64 i) { return call.input.get<T>(i); };
        each(team, call.count, get, [&](u64, T x) { sum += x; });
        return sum;
    }
};

} // namespace gb
