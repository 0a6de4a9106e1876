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
    static constexpr u32 PHASES = 14;
    static constexpr u64 K_MAX = 1 << 20;

    GB_MEMBER static bool check(const Call &call) {
        u64 k = call.scalars.bits(0);
        return k >= 1 && k <= K_MAX && k <= call.count && call.count <= 1ull << 32 && call.count <= call.input.count &&
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
        Bounds bounds;
        while (!bounds.found(k)) {
            Counts counts = count(team, call, bounds);
            // All together may be 2³², one more than each counts to.
            bounds.narrow(k, [&](u32 part) { return team.reduce(u64(counts.from[part]), Plus{}); });
        }
        gather(team, call, {0, call.count}, bounds, {0, bounds.above});
        finish(team, call, bounds);
    }

    // A phase for each time that the bounds are narrowed; then one to count and one to gather what lies within, and one to sort it,
    // by one block.
    GB_MEMBER static void run_phase(u32 phase, const Grid &grid, const Call &call, Answer &) {
        u64 k = call.scalars.bits(0);
        Bounds bounds;
        if (phase > 0) {
            bounds = {u32(grid.kept(BOUNDS)), u32(grid.kept(BOUNDS) >> 32), grid.kept(BOUNDS + 1)};
            if (phase <= NARROWINGS && !bounds.found(k)) {
                u32 counts = counts_of(phase - 1);
                bounds.narrow(k, [&](u32 part) { return grid.joined(counts + part, grid.blocks(), u64(0), Plus{}); });
            }
        }
        if (phase <= NARROWINGS) {
            grid.keep(BOUNDS, u64(bounds.high) << 32 | bounds.low, Least{});
            grid.keep(BOUNDS + 1, bounds.above, Least{});
        }
        Stretch stretch = grid.stretch(call.count);
        if (phase < NARROWINGS) {
            if (bounds.found(k)) return;
            Counts counts = count(grid, call, bounds);
            for (u32 part = 0; part < PARTS - 1; ++part) grid.keep(counts_of(phase) + part, u64(counts.from[part]), Plus{});
        } else if (phase == NARROWINGS) {
            Places places = places_of(grid.block(), call, stretch, bounds);
            grid.keep(ABOVE, places.above, Plus{});
            grid.keep(EQUAL, places.equal, Plus{});
        } else if (phase == NARROWINGS + 1) {
            u64 above = grid.joined(ABOVE, grid.block_rank(), u64(0), Plus{});
            u64 equal = grid.joined(EQUAL, grid.block_rank(), u64(0), Plus{});
            gather(grid.block(), call, stretch, bounds, {above, bounds.above + equal});
        } else if (grid.block_rank() == 0) {
            finish(grid.block(), call, bounds);
        }
    }

private:
    // Into how many parts the orders between two bounds are divided, and how often, until a part holds but one.
    static constexpr u32 PARTS = 8, NARROWINGS = 11;
    static_assert(PHASES == NARROWINGS + 3, "");

    // Where a grid keeps what. While the counts of one phase are read, those of the next are kept.
    GB_MEMBER static constexpr u32 counts_of(u32 phase) { return phase % 2 * (PARTS - 1); }
    static constexpr u32 BOUNDS = 2 * (PARTS - 1);
    static constexpr u32 ABOVE = NARROWINGS % 2 * (PARTS - 1), EQUAL = ABOVE + 1;
    static_assert(BOUNDS + 2 <= PARTIALS, "");

    GB_MEMBER static u32 order_of(f32 x) { return u32(Number<f32>::order(x, LOWEST_ORDER)) ^ 1u << 31; }

    // Where the k-th largest element lies.
    struct Bounds {
        // Its order, if `above` is less than k.
        u32 low = 0;
        // The `above` elements from here on belong to the k largest.
        u32 high = order_of(bit_cast<f32>(0x7f800000)) + 1;
        u64 above = 0;

        GB_MEMBER bool found(u64 k) const { return high - low <= 1 || above >= k; }
        GB_MEMBER u32 step() const { return (high - low - 1) / PARTS + 1; }

        // `counted(part)` elements lie from the bound above this part on.
        template <class Counted>
        GB_MEMBER void narrow(u64 k, Counted counted) {
            u32 first = low, step = this->step();
#pragma unroll
            for (u32 part = PARTS - 1; part-- > 0;) {
                u32 bound = first + (part + 1) * step;
                u64 count = counted(part);
                if (count > k) low = Greatest{}(low, bound);
                else if (bound < high) {
                    high = bound;
                    above = count;
                }
            }
        }
    };

    // Elements from the bound above each part but the last on, as one thread counts them.
    struct Counts {
        u32 from[PARTS - 1];
    };

    // How many elements lie above the bounds, and how many have the order of the k-th largest; or where the next ones go.
    struct Places {
        u64 above, equal;
    };

    template <class Team>
    GB_MEMBER static Counts count(const Team &team, const Call &call, const Bounds &bounds) {
        Counts counts = {};
        u32 first = bounds.low, step = bounds.step();
        auto get = [&](u64 i) { return order_of(call.input.get<f32>(i)); };
        each(team, call.count, get, [&](u64, u32 order) {
#pragma unroll
            for (u32 part = 0; part < PARTS - 1; ++part) counts.from[part] += order >= first + (part + 1) * step;
        });
        return counts;
    }

    template <class Team>
    GB_MEMBER static Places places_of(const Team &team, const Call &call, Stretch stretch, const Bounds &bounds) {
        Places places = {0, 0};
        auto get = [&](u64 i) { return order_of(call.input.get<f32>(stretch.first + i)); };
        each(team, stretch.count, get, [&](u64, u32 order) {
            places.above += order >= bounds.high;
            places.equal += order == bounds.low;
        });
        return places;
    }

    // Of a stretch, the elements above and as many of the k-th largest's order as there is room for, both by ascending indices.
    template <class Team>
    GB_MEMBER static void gather(const Team &team, const Call &call, Stretch stretch, const Bounds &bounds, Places places) {
        Elements orders = orders_of(call), indices = indices_of(call);
        auto get = [&](u64 i) { return order_of(call.input.get<f32>(stretch.first + i)); };
        each_in_step(team, stretch.count, 0u, get, [&](u64 i, u32 order) {
            bool is_above = i < stretch.count && order >= bounds.high;
            bool is_equal = i < stretch.count && order == bounds.low;
            // Two sums in one word: a team that syncs has no more than 1024 threads.
            u32 total, sum = team.scan(u32(is_above) << 16 | u32(is_equal), Plus{}, total);
            u64 place = is_above ? places.above + (sum >> 16) - 1 : places.equal + (sum & 0xffff) - 1;
            if ((is_above || is_equal) && place < orders.count) {
                orders.set(place, order);
                indices.set(place, u32(stretch.first + i));
            }
            places.above += total >> 16;
            places.equal += total & 0xffff;
        });
        team.sync();
    }

    // Sorts what was gathered, and writes the values.
    template <class Team>
    GB_MEMBER static void finish(const Team &team, const Call &call, const Bounds &bounds) {
        Elements orders = orders_of(call), indices = indices_of(call);
        sort(team, bounds.above, orders, indices);
        for (u64 i = team.rank(); i < orders.count; i += team.size()) {
            u32 index = indices.get<u32>(i);
            // False only where others write to these buffers meanwhile.
            if (index < call.count) orders.set(i, call.input.get<u32>(index));
        }
    }

    GB_MEMBER static Elements orders_of(const Call &call) { return {call.output.words, call.scalars.bits(0)}; }
    GB_MEMBER static Elements indices_of(const Call &call) {
        u64 k = call.scalars.bits(0);
        return {call.output.words + k, k};
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
