// `min_max`, see `kernels/src/library/min_max.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

template <class T>
struct MinMax {
    static constexpr u32 ID = 8;
    static constexpr u32 BUFFERS = INPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 2;

    GB_MEMBER static bool check(const Call &call) { return call.count >= 1 && call.count <= call.input.count; }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        i32 min, max;
        partial(team, call, min, max);
        push(answer, team.reduce(min, Least{}), team.reduce(max, Greatest{}));
    }

    GB_MEMBER static void run_phase(u32 phase, const Grid &grid, const Call &call, Answer &answer) {
        if (phase == 0) {
            i32 min, max;
            partial(grid, call, min, max);
            grid.keep(0, min, Least{});
            grid.keep(1, max, Greatest{});
        } else if (grid.block_rank() == 0) {
            i32 min = grid.joined(0, grid.blocks(), HIGHEST_ORDER, Least{});
            push(answer, min, grid.joined(1, grid.blocks(), LOWEST_ORDER, Greatest{}));
        }
    }

private:
    // The least and the greatest order of what falls to this thread.
    template <class Team>
    GB_MEMBER static void partial(const Team &team, const Call &call, i32 &min, i32 &max) {
        min = HIGHEST_ORDER;
        max = LOWEST_ORDER;
        auto get = [&](u64 i) { return call.input.get<T>(i); };
        each(team, call.count, get, [&](u64, T x) {
            min = Least{}(min, Number<T>::order(x, HIGHEST_ORDER));
            max = Greatest{}(max, Number<T>::order(x, LOWEST_ORDER));
        });
    }

    GB_MEMBER static void push(Answer &answer, i32 min, i32 max) {
        answer.push(Number<T>::from_order(min));
        answer.push(Number<T>::from_order(max));
    }
};

} // namespace gb
