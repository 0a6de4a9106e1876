// `sum`, see `kernels/src/library/sum.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

// `T` is u32 for all integers: they wrap, signed or not.
template <class T>
struct Sum {
    static constexpr u32 ID = 7;
    static constexpr u32 BUFFERS = INPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr bool BY_GRID = false;

    GB_MEMBER static bool check(const Call &call) { return call.count <= call.input.count; }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        typename Number<T>::Sum sum = 0;
        auto get = [&](u64 i) { return call.input.get<T>(i); };
        each(team, call.count, get, [&](u64, T x) { sum += x; });
        answer.push(T(team.reduce(sum, Plus{})));
    }
};

} // namespace gb
