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
    static constexpr u32 PHASES = 2;

    GB_MEMBER static bool check(const Call &call) {
        return call.count <= call.input.count && call.count <= call.operand.count;
    }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        answer.push(f32(sum_of_products(team, call.input.words, call.operand.words, 1, call.count)));
    }

    GB_MEMBER static void run_phase(u32 phase, const Grid &grid, const Call &call, Answer &answer) {
        if (phase == 0) {
            grid.keep(0, partial_sum_of_products(grid, call.input.words, call.operand.words, 1, call.count), Plus{});
        } else if (grid.block_rank() == 0) {
            answer.push(f32(grid.joined(0, grid.blocks(), f64(0), Plus{})));
        }
    }
};

} // namespace gb
