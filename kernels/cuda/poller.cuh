// The polling warp of a block: reads what its lanes bring and hands it to the executors; follows what the host wants.
#pragma once

#include "ring.cuh"
#include "team.cuh"

namespace gb {

// Four slots are read by one load of the warp, and so many loads are under way at once: up to 32 slots per look.
constexpr u32 LOADS = 8;
constexpr u32 SLOTS_PER_LOAD = WARP / SLOT_WORDS;
// Looks between two beats of the heart: well below a millisecond, idle or not.
constexpr u32 LOOKS_PER_BEAT = 128;

struct Poller {
    const Parameters &ring;
    Hall &hall;
    u32 executors;
    u64 *control;
    // Lanes of this block: every `grid_blocks()`th.
    u32 lanes;
    u64 wanted;
    // Whether a command was handed over that stands on what others wrote before it: bytes in its staging area, memory that was
    // zeroed.
    bool relies;
    bool any;

    GB_MEMBER u32 lane_at(u32 place) const { return block_index() + place * grid_blocks(); }
    GB_MEMBER u32 state() const { return u32(wanted) & 0xff; }

    GB_MEMBER void run() {
        u64 reached = ~0ull;
        u32 looks = 0;
        for (u32 look = 0;; ++look) {
            follow();
            any = false;
            if (state() == RUN || state() == STOP) look_at_lanes();
            bool at_once = state() == RUN || state() == ABANDON;
            if (reached != wanted && (at_once || (is_quiet() && !any))) {
                reached = wanted;
                if (leave(reached)) return;
            }
            if (look % LOOKS_PER_BEAT == 0 && Warp{}.rank() == 0) store_system(control + HEARTBEAT, look);
            looks = any ? 0 : looks + 1;
            idle(looks);
        }
    }

private:
    // Reads what the host wants, and tells the executors.
    GB_MEMBER void follow() {
        u64 now = shuffle_bits(load_system(control + WANTED), 0);
        if (now == wanted) return;
        wanted = now;
        if (Warp{}.rank() == 0) store_release_block(&hall.wanted, u32(now));
    }

    // Whether the executors have seen what is wanted and have nothing begun.
    GB_MEMBER bool is_quiet() {
        u32 rank = Warp{}.rank();
        bool busy = false;
        if (rank < executors) {
            busy = load_acquire_block(&hall.seen[rank]) != u32(wanted) ||
                   load_acquire_block(&hall.done[rank]) != hall.handing[rank] ||
                   load_acquire_block(&hall.beside[rank]) != 0;
        }
        return ballot(busy) == 0;
    }

    // Answers the host; whether the kernel is to end.
    GB_MEMBER bool leave(u64 reached) {
        // The executors' completions, seen by the acquires of `is_quiet`, are the host's before this word is.
        fence_system();
        sync_warp();
        bool ends = state() == EXIT || state() == STOP || state() == ABANDON;
        u32 rank = Warp{}.rank();
        if (ends) {
            for (u32 place = rank; place < lanes; place += WARP) ring.blocks[block_index()].next[place] = hall.next[place];
            if (rank == 0) store_release_block(&hall.ended, 1);
        }
        if (rank == 0) store_system(control + REACHED, reached);
        return ends;
    }

    GB_MEMBER void look_at_lanes() {
        relies = false;
        for (u32 first = 0; first < lanes; first += LOADS) look_at_some(first, lanes - first < LOADS ? lanes - first : LOADS);
        if (!any) return;
        // That was written before the command: the executors reach it behind this fence.
        if (relies) fence_system();
        sync_warp();
        u32 rank = Warp{}.rank();
        if (rank < executors) store_release_block(&hall.handed[rank], hall.handing[rank]);
        // The slots were read: their words stand in the hall.
        for (u32 place = rank; place < lanes; place += WARP) {
            store_system(words_of(ring, lane_at(place)).consumed(), hall.next[place]);
        }
    }

    // Looks at up to LOADS lanes, from place `first` on.
    GB_MEMBER void look_at_some(u32 first, u32 count) {
        u32 rank = Warp{}.rank();
        u32 depth = LOADS / count;
        u64 words[LOADS];
        u32 fresh = 0;
#pragma unroll
        for (u32 load = 0; load < LOADS; ++load) {
            words[load] = 0;
            if (load / depth >= count) continue;
            u32 place = first + load / depth;
            LaneWords lane = words_of(ring, lane_at(place));
            u32 ahead = load % depth * SLOTS_PER_LOAD + rank / SLOT_WORDS;
            u64 sequence = hall.next[place] + ahead;
            words[load] = load_system(lane.command(sequence) + rank % SLOT_WORDS);
            // A slot that is looked at for the second time shows the lap before by the tag of the one behind.
            fresh |= u32(ahead < ring.slots && tagged(words[load], lane.lap(sequence))) << load;
        }
        if (ballot(fresh != 0) == 0) return;
        u32 blocked = NO_SLOT;
#pragma unroll
        for (u32 load = 0; load < LOADS; ++load) {
            u32 place = first + load / depth;
            u32 arrived = ballot(fresh >> load & 1);
            for (u32 slot = 0; slot < SLOTS_PER_LOAD && place != blocked && load / depth < count; ++slot) {
                bool whole = (arrived >> (slot * SLOT_WORDS) & 0xff) == 0xff;
                if (!whole || !hand_over(place, words[load], slot)) blocked = place;
            }
        }
    }

    // Hands the command whose words lie with the lanes from `slot * SLOT_WORDS` on to its executor, unless that is full.
    GB_MEMBER bool hand_over(u32 place, u64 word, u32 slot) {
        u32 rank = Warp{}.rank();
        u64 header = shuffle_bits(word, slot * SLOT_WORDS);
        u64 sequence = hall.next[place];
        u32 opcode = u32(header >> OPCODE_SHIFT) & OPCODE_MASK;
        if (opcode != OPCODE_SKIP) {
            u32 executor = executor_of(u32(header));
            u32 at = hall.handing[executor];
            bool full = at - load_acquire_block(&hall.done[executor]) >= Hall::PLACES;
            if (ballot(full) != 0) return false;
            u64 *entry = hall.places[executor][at % Hall::PLACES];
            if (rank / SLOT_WORDS == slot) entry[rank % SLOT_WORDS] = word;
            if (rank == 0) {
                u64 cancelled = state() == STOP ? PLACE_CANCELLED : 0;
                entry[SLOT_WORDS] = cancelled | u64(lane_at(place)) << PLACE_LANE_SHIFT | (sequence & (ring.slots - 1));
            }
            relies |= opcode == OPCODE_WRITE || opcode == OPCODE_BIND;
            sync_warp();
            if (rank == 0) hall.handing[executor] = at + 1;
        }
        if (rank == 0) hall.next[place] = sequence + 1;
        any = true;
        sync_warp();
        return true;
    }

    // A grain's commands go to one executor, which executes them in order.
    GB_MEMBER u32 executor_of(u32 grain) const { return u32(u64(grain * 2654435769u) * executors >> 32); }
};

} // namespace gb
