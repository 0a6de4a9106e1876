// `scale`, see `kernels/src/library/scale.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

struct Scale {
    static constexpr u32 ID = 3;
    static constexpr u32 BUFFERS = INPUT | OUTPUT;
    static constexpr bool IN_PLACE = true;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 1;

    GB_MEMBER static bool check(const Call &call) {
        return call.count <= call.input.count && call.count <= call.output.count;
    }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        f32 factor = call.scalars.get<f32>(0);
        auto product = [&](u64 i) { return factor * call.input.get<f32>(i); };
        each(team, call.count, product, [&](u64 i, f32 x) { call.output.set(i, x); });
    }
};

} // namespace gb
