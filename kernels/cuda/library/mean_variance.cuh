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
    static constexpr bool BY_GRID = false;

    GB_MEMBER static bool check(const Call &call) { return call.count >= 1 && call.count <= call.input.count; }
    GB_MEMBER static u64 work(const Call &call) { return saturating_mul(call.count, 2); }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        auto get = [&](u64 i) { return call.input.get<f32>(i); };
        f64 sum = 0, squares = 0;
        each(team, call.count, get, [&](u64, f32 x) { sum += f64(x); });
        f64 mean = team.reduce(sum, Plus{}) / f64(call.count);
        each(team, call.count, get, [&](u64, f32 x) { squares += (f64(x) - mean) * (f64(x) - mean); });
        answer.push(f32(mean));
        answer.push(f32(team.reduce(squares, Plus{}) / f64(call.count)));
    }
};

} // namespace gb
