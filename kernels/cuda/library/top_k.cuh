// `top_k`, see `kernels/src/library/top_k.rs`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"
#include "number.cuh"

namespace gb {

struct TopK {
    static constexpr u32 ID = 12;
    static constexpr u32 BUFFERS = INPUT | OUTPUT;
    static constexpr bool IN_PLACE = false;
    static constexpr u64 IN_RING_UP_TO = UP_TO_64_KI;
    static constexpr u32 PHASES = 0;

    GB_MEMBER static bool check(const Call &call) {
        u64 k = call.scalars.bits(0);
        return k >= 1 && k <= call.count && call.count <= 1ull << 32 && call.count <= call.input.count &&
               2 * k <= call.output.count;
    }

    GB_MEMBER static u64 work(const Call &call) {
        u32 steps = 1;
        for (u32 k = call.scalars.bits(0); k > 1; k /= 2) ++steps;
        return saturating_mul(call.count, steps);
    }

    // No memory but the output: until the values are written, the orders lie in their place.
    template <class Team>
    GB_MEMBER static void run(const Team &team, const Call &call, Answer &) {
        u64 k = call.scalars.bits(0);
        Elements orders = {call.output.words, k}, indices = {call.output.words + k, k};
        Bounds bounds = find(team, call, k);
        gather(team, call, bounds, orders, indices);
        sort(team, bounds.above, orders, indices);
        for (u64 i = team.rank(); i < k; i += team.size()) {
            u32 index = indices.get<u32>(i);
            // False only where others write to these buffers meanwhile.
            if (index < call.count) orders.set(i, call.input.get<u32>(index));
        }
    }

private:
    // Where the k-th largest element lies.
    struct Bounds {
        // Its order, if `above` is less than k.
        u32 low;
        // The `above` elements from here on belong to the k largest.
        u32 high;
        u64 above;
    };

    GB_MEMBER static u32 order_of(f32 x) { return u32(Number<f32>::order(x, LOWEST_ORDER)) ^ 1u << 31; }

    // Divides the orders in eight parts, counts how many elements lie above each bound, and goes on with one part.
    template <class Team>
    GB_MEMBER static Bounds find(const Team &team, const Call &call, u64 k) {
        constexpr u32 PARTS = 8;
        Bounds bounds = {0, order_of(bit_cast<f32>(0x7f800000)) + 1, 0};
        while (bounds.high - bounds.low > 1 && bounds.above < k) {
            u32 first = bounds.low, step = (bounds.high - first - 1) / PARTS + 1;
            u32 counts[PARTS] = {};
            auto get = [&](u64 i) { return order_of(call.input.get<f32>(i)); };
            each(team, call.count, get, [&](u64, u32 order) {
#pragma unroll
                for (u32 part = 1; part < PARTS; ++part) counts[part] += order >= first + part * step;
            });
#pragma unroll
            for (u32 part = PARTS - 1; part > 0; --part) {
                u32 bound = first + part * step;
                // All together may be 2³², one more than each counts to.
                u64 count = team.reduce(u64(counts[part]), Plus{});
                if (count > k) bounds.low = Greatest{}(bounds.low, bound);
                else if (bound < bounds.high) bounds = {bounds.low, bound, count};
            }
        }
        return bounds;
    }

    // The elements above, then as many of the k-th largest's order as are missing, both by ascending indices.
    template <class Team>
    GB_MEMBER static void gather(const Team &team, const Call &call, Bounds bounds, Elements orders, Elements indices) {
        u64 above = 0, equal = bounds.above;
        auto get = [&](u64 i) { return order_of(call.input.get<f32>(i)); };
        each_in_step(team, call.count, 0u, get, [&](u64 i, u32 order) {
            bool is_above = i < call.count && order >= bounds.high;
            bool is_equal = i < call.count && order == bounds.low;
            // Two sums in one word: a team that syncs has no more than 1024 threads.
            u32 total, sum = team.scan(u32(is_above) << 16 | u32(is_equal), Plus{}, total);
            u64 place = is_above ? above + (sum >> 16) - 1 : equal + (sum & 0xffff) - 1;
            if ((is_above || is_equal) && place < orders.count) {
                orders.set(place, order);
                indices.set(place, u32(i));
            }
            above += total >> 16;
            equal += total & 0xffff;
        });
        team.sync();
    }

    // Batcher's bitonic sort of the first `count`, in the form whose comparisons all point one way: what would lie
    // behind them stays there, and so need not be.
    template <class Team>
    GB_MEMBER static void sort(const Team &team, u64 count, Elements orders, Elements indices) {
        auto rank = [&](u64 at) { return u64(orders.get<u32>(at)) << 32 | u32(~indices.get<u32>(at)); };
        auto swap = [&](Elements of, u64 a, u64 b) {
            u32 was = of.get<u32>(a);
            of.set(a, of.get<u32>(b));
            of.set(b, was);
        };
        for (u64 sorted = 1; sorted < count; sorted *= 2) {
            for (u64 step = sorted; step > 0; step /= 2) {
                u64 mask = step == sorted ? 2 * sorted - 1 : step;
                for (u64 i = team.rank(); i < count; i += team.size()) {
                    u64 partner = i ^ mask;
                    if (partner > i && partner < count && rank(i) < rank(partner)) {
                        swap(orders, i, partner);
                        swap(indices, i, partner);
                    }
                }
                team.sync();
            }
        }
    }
};

} // namespace gb
