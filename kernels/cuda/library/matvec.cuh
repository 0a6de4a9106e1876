// `matvec`, see `kernels/src/library/matvec.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "number.cuh"
#include "products.cuh"

namespace gb {

struct Matvec {
    static constexpr u32 ID = 13;
    static constexpr u32 BUFFERS = INPUT | OPERAND | OUTPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 1;

    GB_MEMBER static bool check(const Call &call) {
        u64 rows = call.scalars.bits(0), cols = call.scalars.bits(1);
        return rows >= 1 && cols >= 1 && rows * cols <= call.input.count && cols <= call.operand.count &&
               rows <= call.output.count;
    }

    GB_MEMBER static u64 work(const Call &call) { return u64(call.scalars.bits(0)) * call.scalars.bits(1); }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        multiply(team, call, call.scalars.bits(0), call.scalars.bits(1), 1);
    }
};

} // namespace gb
