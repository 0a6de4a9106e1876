// `dot`, see `kernels/src/library/dot.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "number.cuh"
#include "products.cuh"

namespace gb {

struct Dot {
    static constexpr u32 ID = 6;
    static constexpr u32 BUFFERS = INPUT | OPERAND;
    static constexpr bool IN_PLACE = true;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr bool BY_GRID = false;

    GB_MEMBER static bool check(const Call &call) {
        return call.count <= call.input.count && call.count <= call.operand.count;
    }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        answer.push(f32(sum_of_products(team, call.input.words, call.operand.words, 1, call.count)));
    }
};

} // namespace gb
