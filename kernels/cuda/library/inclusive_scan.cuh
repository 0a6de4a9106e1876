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
    static constexpr u32 PHASES = 2;

    GB_MEMBER static bool check(const Call &call) {
        return call.count <= call.input.count && call.count <= call.output.count;
    }
    GB_MEMBER static u64 work(const Call &call) { return call.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        scan(team, call, {0, call.count}, 0);
    }

    // Each block has a stretch of the elements.
    GB_MEMBER static void run_phase(u32 phase, const Grid &grid, const Call &call, Answer &) {
        Stretch stretch = grid.stretch(call.count);
        if (phase == 0) {
            Sum sum = 0;
            auto get = [&](u64 i) { return Sum(call.input.get<T>(stretch.first + i)); };
            each(grid.block(), stretch.count, get, [&](u64, Sum x) { sum += x; });
            grid.keep(0, sum, Plus{});
        } else {
            scan(grid.block(), call, stretch, grid.joined(0, grid.block_rank(), Sum(0), Plus{}));
        }
    }

private:
    using Sum = typename Number<T>::Sum;

    // The running sum of a stretch, with `before` as the sum of those before.
    template <class Team>
    GB_MEMBER static void scan(const Team &team, const Call &call, Stretch stretch, Sum before) {
        auto get = [&](u64 i) { return Sum(call.input.get<T>(stretch.first + i)); };
        each_in_step(team, stretch.count, Sum(0), get, [&](u64 i, Sum x) {
            Sum total, sum = team.scan(x, Plus{}, total);
            if (i < stretch.count) call.output.set(stretch.first + i, T(before + sum));
            before += total;
        });
    }
};

} // namespace gb
