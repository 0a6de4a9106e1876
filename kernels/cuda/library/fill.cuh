// `fill`, see `kernels/src/library/fill.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "number.cuh"

namespace gb {

// Of bits, whatever they stand for.
struct Fill {
    static constexpr u32 ID = 1;
    static constexpr u32 BUFFERS = OUTPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 1;

    GB_MEMBER static bool check(const Call &call) { return call.count <= call.output.count; }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        u32 value = call.scalars.bits(0);
        for (u64 i = team.rank(); i < call.count; i += team.size()) call.output.set(i, value);
    }
};

} // namespace gb
