// `inclusive_scan`, see `kernels/src/library/inclusive_scan.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

// `T` is u32 for all integers: they wrap, signed or not.
template <class T>
struct InclusiveScan {
    static constexpr u32 ID = 10;
    static constexpr u32 BUFFERS = INPUT | OUTPUT;
    static constexpr bool IN_PLACE = true;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr bool BY_GRID = false;

    GB_MEMBER static bool check(const Call &call) {
        return call.count <= call.input.count && call.count <= call.output.count;
    }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        using Sum = typename Number<T>::Sum;
        Sum before = 0;
        auto get = [&](u64 i) { return Sum(call.input.get<T>(i)); };
        each_in_step(team, call.count, Sum(0), get, [&](u64 i, Sum x) {
            Sum total, sum = team.scan(x, Plus{}, total);
            if (i < call.count) call.output.set(i, T(before + sum));
            before += total;
        });
    }
};

} // namespace gb
