// The grains of an executor that wait for a command beside the ring, and what waits behind it.
#pragma once

#include "ring.cuh"
#include "team.cuh"

namespace gb {

// An entry: grain · answered · lane · slot. The slot is that of the command at work; of an entry that is answered, that of
// the first command that waits.
constexpr u64 HELD_ANSWERED = 1ull << 24;
constexpr u32 HELD_LANE_SHIFT = 16;
constexpr u32 HELD_GRAIN_SHIFT = 32;

GB_DEVICE u32 held_lane(u64 entry) { return u32(entry >> HELD_LANE_SHIFT) & (LANES_MAX - 1); }
GB_DEVICE u32 held_slot(u64 entry) { return u32(entry) & 0xffff; }

// All lanes of the warp call each function together; one of them writes.
struct Held {
    u64 *entries;
    u32 count;
    // How many of them have a command at work.
    u32 at_work;

    // Takes over what an earlier launch left. Nothing is at work beside a ring that was parked; beside one that ended by itself
    // there may be.
    GB_MEMBER void load(u32 before) {
        count = before;
        at_work = 0;
        for (u32 base = 0; base < count; base += WARP) {
            u32 at = base + Warp{}.rank();
            at_work += u32(__builtin_popcount(ballot(at < count && !(entries[at] & HELD_ANSWERED))));
        }
    }

    // The slot of the first command of the grain's chain, if the grain is held.
    GB_MEMBER u32 find(u32 lane, u32 grain) const {
        u64 wanted = u64(grain) << HELD_GRAIN_SHIFT | u64(lane) << HELD_LANE_SHIFT;
        u64 ignored = HELD_ANSWERED | 0xffff;
        for (u32 base = 0; base < count; base += WARP) {
            u32 at = base + Warp{}.rank();
            u32 hits = ballot(at < count && (entries[at] & ~ignored) == wanted);
            if (hits != 0) return base + u32(__builtin_ctz(hits));
        }
        return NO_SLOT;
    }

    // The command of this slot is at work from now on.
    GB_MEMBER void begin(Record *record, u32 lane, u32 slot, u32 grain) {
        if (Warp{}.rank() == 0) {
            record->first_waiting = NO_SLOT;
            record->last_waiting = NO_SLOT;
            entries[count] = u64(grain) << HELD_GRAIN_SHIFT | u64(lane) << HELD_LANE_SHIFT | slot;
        }
        ++count;
        ++at_work;
        sync_warp();
    }

    // The command of `slot` waits behind what the entry holds.
    GB_MEMBER void wait(Record *records, u32 at, u32 slot, const Command &command) {
        u32 rank = Warp{}.rank();
        Record *waits = &records[slot];
        if (rank < SLOT_WORDS) waits->command[rank] = command.words[rank];
        if (rank == 0) {
            u64 entry = entries[at];
            Record *head = &records[held_slot(entry)];
            waits->next_waiting = NO_SLOT;
            bool is_first = !(entry & HELD_ANSWERED) && head->first_waiting == NO_SLOT;
            if (is_first) head->first_waiting = slot;
            else records[head->last_waiting].next_waiting = slot;
            head->last_waiting = slot;
        }
        sync_warp();
    }

    // The entry's command is answered: what waited behind it is held in its stead, if there is any.
    GB_MEMBER void answer(Record *records, u32 at) {
        u64 entry = entries[at];
        const Record *record = &records[held_slot(entry)];
        u32 first = record->first_waiting, last = record->last_waiting;
        sync_warp();
        if (first == NO_SLOT) return remove(at);
        if (Warp{}.rank() == 0) {
            records[first].last_waiting = last;
            entries[at] = (entry & ~u64(0xffff)) | HELD_ANSWERED | first;
        }
        --at_work;
        sync_warp();
    }

    // Keeps a command whose grain has nothing at work.
    GB_MEMBER void keep(Record *records, u32 lane, u32 slot, const Command &command) {
        u32 rank = Warp{}.rank();
        if (rank < SLOT_WORDS) records[slot].command[rank] = command.words[rank];
        if (rank == 0) records[slot].next_waiting = NO_SLOT;
        sync_warp();
        keep(records, lane, slot, slot);
    }

    // Keeps the commands from slot `first` to `last`, whose grain has nothing at work.
    GB_MEMBER void keep(Record *records, u32 lane, u32 first, u32 last) {
        if (Warp{}.rank() == 0) {
            records[first].last_waiting = last;
            u64 grain = u32(records[first].command[0]);
            entries[count] = grain << HELD_GRAIN_SHIFT | HELD_ANSWERED | u64(lane) << HELD_LANE_SHIFT | first;
        }
        ++count;
        sync_warp();
    }

    GB_MEMBER void remove(u32 at) {
        bool worked = !(entries[at] & HELD_ANSWERED);
        sync_warp();
        if (Warp{}.rank() == 0) entries[at] = entries[count - 1];
        --count;
        if (worked) --at_work;
        sync_warp();
    }
};

} // namespace gb
