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
    static constexpr bool BY_GRID = false;

    GB_MEMBER static bool check(const Call &call) { return call.count >= 1 && call.count <= call.input.count; }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        i32 min = HIGHEST_ORDER, max = LOWEST_ORDER;
        auto get = [&](u64 i) { return call.input.get<T>(i); };
        each(team, call.count, get, [&](u64, T x) {
            min = Least{}(min, Number<T>::order(x, HIGHEST_ORDER));
            max = Greatest{}(max, Number<T>::order(x, LOWEST_ORDER));
        });
        answer.push(Number<T>::from_order(team.reduce(min, Least{})));
        answer.push(Number<T>::from_order(team.reduce(max, Greatest{})));
    }
};

} // namespace gb
