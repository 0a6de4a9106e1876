// `matmul`, see `kernels/src/library/matmul.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "number.cuh"
#include "products.cuh"

namespace gb {

struct Matmul {
    static constexpr u32 ID = 14;
    static constexpr u32 BUFFERS = INPUT | OPERAND | OUTPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 1;

    GB_MEMBER static bool check(const Call &call) {
        u64 m = call.scalars.bits(0), k = call.scalars.bits(1), n = call.scalars.bits(2);
        return m >= 1 && k >= 1 && n >= 1 && m * k <= call.input.count && k * n <= call.operand.count &&
               m * n <= call.output.count;
    }

    GB_MEMBER static u64 work(const Call &call) {
        return saturating_mul(u64(call.scalars.bits(0)) * call.scalars.bits(1), call.scalars.bits(2));
    }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        multiply(team, call, call.scalars.bits(0), call.scalars.bits(1), call.scalars.bits(2));
    }
};

} // namespace gb
