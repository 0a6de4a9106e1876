// `mean_variance`, see `kernels/src/library/mean_variance.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

struct MeanVariance {
    static constexpr u32 ID = 9;
    static constexpr u32 BUFFERS = INPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 3;

    GB_MEMBER static bool check(const Call &call) { return call.count >= 1 && call.count <= call.input.count; }
    GB_MEMBER static u64 work(const Call &call) { return saturating_mul(call.count, 2); }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        f64 mean = team.reduce(sum(team, call), Plus{}) / f64(call.count);
        f64 squared = team.reduce(squares(team, call, mean), Plus{});
        answer.push(f32(mean));
        answer.push(f32(squared / f64(call.count)));
    }

    GB_MEMBER static void run_phase(u32 phase, const Grid &grid, const Call &call, Answer &answer) {
        if (phase == 0) return grid.keep(0, sum(grid, call), Plus{});
        // Each block for itself: cheaper than another phase.
        f64 mean = grid.joined(0, grid.blocks(), f64(0), Plus{}) / f64(call.count);
        if (phase == 1) {
            grid.keep(1, squares(grid, call, mean), Plus{});
        } else if (grid.block_rank() == 0) {
            answer.push(f32(mean));
            answer.push(f32(grid.joined(1, grid.blocks(), f64(0), Plus{}) / f64(call.count)));
        }
    }

private:
    // Of what falls to this thread.
    template <class Team>
    GB_MEMBER static f64 sum(const Team &team, const Call &call) {
        f64 sum = 0;
        auto get = [&](u64 i) { return call.input.get<f32>(i); };
        each(team, call.count, get, [&](u64, f32 x) { sum += f64(x); });
        return sum;
    }

    template <class Team>
    GB_MEMBER static f64 squares(const Team &team, const Call &call, f64 mean) {
        f64 squares = 0;
        auto get = [&](u64 i) { return call.input.get<f32>(i); };
        each(team, call.count, get, [&](u64, f32 x) { squares += (f64(x) - mean) * (f64(x) - mean); });
        return squares;
    }
};

} // namespace gb
