// `histogram`, see `kernels/src/library/histogram.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

template <class T>
struct Histogram {
    static constexpr u32 ID = 11;
    static constexpr u32 BUFFERS = INPUT | OUTPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 2;

    GB_MEMBER static bool check(const Call &call) {
        return bins(call) >= 1 && call.count <= call.input.count && bins(call) <= call.output.count;
    }
    GB_MEMBER static u64 work(const Call &call) { return saturating_add(call.count, bins(call)); }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        empty(team, call);
        team.sync();
        count(team, call);
    }

    GB_MEMBER static void run_phase(u32 phase, const Grid &grid, const Call &call, Answer &) {
        if (phase == 0) empty(grid, call);
        else count(grid, call);
    }

private:
    GB_MEMBER static u64 bins(const Call &call) { return call.scalars.bits(2); }

    template <class Team>
    GB_MEMBER static void empty(const Team &team, const Call &call) {
        for (u64 i = team.rank(); i < bins(call); i += team.size()) call.output.set(i, 0u);
    }

    template <class Team>
    GB_MEMBER static void count(const Team &team, const Call &call) {
        u32 bins = call.scalars.bits(2);
        T lo = call.scalars.get<T>(0), hi = call.scalars.get<T>(1);
        auto get = [&](u64 i) { return call.input.get<T>(i); };
        bool has_width = Number<T>::is_finite(lo) && Number<T>::is_finite(hi);
        each(team, call.count, get, [&](u64, T x) {
            if (has_width && lo <= x && x < hi) atomic_add(&call.output.words[bin(x, lo, hi, bins)], 1);
        });
    }

    GB_MEMBER static u32 bin(f32 x, f32 lo, f32 hi, u32 bins) {
        f64 quotient = (f64(x) - f64(lo)) * f64(bins) / (f64(hi) - f64(lo));
        return Least{}(u32(quotient), bins - 1);
    }

    GB_MEMBER static u32 bin(u32 x, u32 lo, u32 hi, u32 bins) { return u32(u64(x - lo) * bins / (hi - lo)); }

    // The differences of any two i32 are below 2³², which a subtraction of signed ones cannot tell.
    GB_MEMBER static u32 bin(i32 x, i32 lo, i32 hi, u32 bins) { return bin(u32(x), u32(lo), u32(hi), bins); }
};

} // namespace gb
