// `saxpy`, see `kernels/src/library/saxpy.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

struct Saxpy {
    static constexpr u32 ID = 5;
    static constexpr u32 BUFFERS = INPUT | OPERAND | OUTPUT;
    static constexpr bool IN_PLACE = true;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 1;

    GB_MEMBER static bool check(const Call &call) {
        return call.count <= call.input.count && call.count <= call.operand.count && call.count <= call.output.count;
    }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        f32 a = call.scalars.get<f32>(0);
        auto sum = [&](u64 i) { return a * call.input.get<f32>(i) + call.operand.get<f32>(i); };
        each(team, call.count, sum, [&](u64 i, f32 x) { call.output.set(i, x); });
    }
};

} // namespace gb
