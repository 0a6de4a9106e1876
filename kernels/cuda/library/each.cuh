// How a team goes over elements: several loads at a time, since each alone is waited for as long as all together.
//
// The compiler cannot do this by itself: it may not move a load ahead of a store, as the output may be the input.
#pragma once

#include "platform.cuh"

namespace gb {

constexpr u32 LOADS_AT_ONCE = 4;

// `use(i, get(i))` for all i below `count`, in ascending order in each thread. All threads of the team call `use`
// together and equally often, beyond `count` with `none`: it may ask the whole team.
template <class Team, class Value, class Get, class Use>
GB_DEVICE void each_in_step(const Team &team, u64 count, Value none, Get get, Use use) {
    for (u64 start = 0; start < count; start += LOADS_AT_ONCE * team.size()) {
        Value values[LOADS_AT_ONCE];
#pragma unroll
        for (u32 load = 0; load < LOADS_AT_ONCE; ++load) {
            u64 i = start + load * team.size() + team.rank();
            values[load] = i < count ? get(i) : none;
        }
#pragma unroll
        for (u32 load = 0; load < LOADS_AT_ONCE; ++load) {
            use(start + load * team.size() + team.rank(), values[load]);
        }
    }
}

// `use(i, get(i))` for all i below `count`, in ascending order in each thread.
template <class Team, class Get, class Use>
GB_DEVICE void each(const Team &team, u64 count, Get get, Use use) {
    using Value = decltype(get(0));
    each_in_step(team, count, Value(), get, [&](u64 i, Value value) {
        if (i < count) use(i, value);
    });
}

} // namespace gb
