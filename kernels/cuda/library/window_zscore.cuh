// `window_zscore`, see `kernels/src/library/window_zscore.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

struct WindowZscore {
    static constexpr u32 ID = 15;
    static constexpr u32 BUFFERS = OUTPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = ALWAYS;
    static constexpr u32 PHASES = 0;

    GB_MEMBER static bool check(const Call &call) {
        return call.constant >= 2 && call.constant <= 65536 && HEADER + u64(call.constant) <= call.output.count &&
               Number<f32>::is_finite(call.scalars.get<f32>(0));
    }

    GB_MEMBER static u64 work(const Call &call) { return call.constant; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &answer) {
        u32 window = call.constant;
        f32 x = call.scalars.get<f32>(0);
        Elements values = {call.output.words + HEADER, window};
        // Both are in range but for a state that was overwritten.
        u32 held = Least{}(call.output.get<u32>(0), window);
        u32 next = call.output.get<u32>(1), at = next < window ? next : 0;
        answer.push(held < 2 ? 0.0f : score(team, values, held, held == window ? at : 0, x));
        // All have read what changes.
        team.sync();
        if (team.rank() == 0) {
            values.set(at, x);
            call.output.set(0, Least{}(held + 1, window));
            call.output.set(1, at + 1 < window ? at + 1 : 0);
        }
    }

private:
    // Elements of the state before the values: how many it holds, and where the next one goes.
    static constexpr u32 HEADER = 2;

    template <class Team>
    GB_MEMBER static f32 score(const Team &team, Elements values, u32 held, u32 oldest, f32 x) {
        auto get = [&](u64 i) { return values.get<f32>(i); };
        f64 origin = f64(get(oldest)), share = 1.0 / f64(held), sum = 0, squares = 0;
        each(team, held, get, [&](u64, f32 value) { sum += f64(value) - origin; });
        f64 mean = share * team.reduce(sum, Plus{});
        each(team, held, get, [&](u64, f32 value) {
            f64 distance = f64(value) - origin - mean;
            squares += distance * distance;
        });
        f64 deviation = square_root(share * team.reduce(squares, Plus{}));
        f64 center = origin + mean, size = center < 0 ? -center : center;
        if (deviation <= 1e-6 * (size > 1 ? size : 1)) return 0;
        return f32((f64(x) - origin - mean) / deviation);
    }
};

} // namespace gb
