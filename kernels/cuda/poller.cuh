// The polling warp of a block: reads what its lanes bring and hands it to the executors; follows what the host wants.
#pragma once

#include "ring.cuh"
#include "team.cuh"

namespace gb {

// Four slots are read by one load of the warp, and so many loads are under way at once: up to 32 slots per look.
constexpr u32 LOADS = 8;
constexpr u32 SLOTS_PER_LOAD = WARP / SLOT_WORDS;
// Looks between two beats of the heart: below a millisecond with few lanes, a few with the most that a block may have.
constexpr u32 LOOKS_PER_BEAT = 128;
// Looks in vain after which a block ends that ends by itself: a few milliseconds.
constexpr u32 LOOKS_IN_VAIN_MAX = 1024;

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
    // Commands handed over.
    u32 taken;

    GB_MEMBER u32 lane_at(u32 place) const { return block_index() + place * grid_blocks(); }
    GB_MEMBER u32 state() const { return u32(wanted) & 0xff; }

    GB_MEMBER void run() {
        u64 reached = ~0ull;
        u32 looks = 0;
        for (u32 look = 0;; ++look) {
            // Under way together with what the lanes bring.
            u64 now = load_system(control + WANTED);
            any = false;
            // At a stop, what is not read any more is cancelled by the host.
            bool spent = ring.max_commands != 0 && (taken >= ring.max_commands || looks >= LOOKS_IN_VAIN_MAX);
            if (!spent && (state() == RUN || state() == STOP)) look_at_lanes();
            follow(now);
            bool at_once = state() == RUN || state() == ABANDON;
            if (reached != wanted && (at_once || (is_quiet() && !any))) {
                reached = wanted;
                if (leave(reached)) return;
            } else if (spent && has_nothing_at_hand()) {
                return rest();
            }
            if (look % LOOKS_PER_BEAT == 0) beat(look);
            looks = any ? 0 : looks + 1;
            idle(looks);
        }
    }

private:
    // Tells the host that the block is alive, and what its executors are at.
    GB_MEMBER void beat(u64 count) {
        u32 rank = Warp{}.rank();
        if (rank < executors) store_system(control + AT_WORK + rank, load_block(&hall.at_work[rank]));
        if (rank == 0) store_system(control + HEARTBEAT, count);
    }

    // Tells the executors what the host wants, as this lane of the warp saw it.
    GB_MEMBER void follow(u64 seen) {
        u64 now = shuffle_bits(seen, 0);
        if (now == wanted) return;
        wanted = now;
        if (Warp{}.rank() == 0) store_release_block(&hall.wanted, u32(now));
    }

    // Whether the executors have seen what is wanted and have nothing begun that it waits for.
    GB_MEMBER bool is_quiet() {
        u32 rank = Warp{}.rank();
        bool busy = false;
        if (rank < executors) {
            busy = load_acquire_block(&hall.seen[rank]) != u32(wanted) ||
                   load_acquire_block(&hall.done[rank]) != hall.handing[rank] ||
                   (state() != PAUSE && state() != EXIT && load_acquire_block(&hall.beside[rank]) != 0);
        }
        return ballot(busy) == 0;
    }

    GB_MEMBER bool has_nothing_at_hand() {
        u32 rank = Warp{}.rank();
        return ballot(rank < executors && load_acquire_block(&hall.done[rank]) != hall.handing[rank]) == 0;
    }

    // Ends the block by itself, as it stands.
    GB_MEMBER void rest() {
        sync_warp();
        fence_system();
        end(ENDED_FOR_NOW);
        if (Warp{}.rank() == 0) store_system(control + RESTS, 1);
    }

    GB_MEMBER void end(u32 how) {
        u32 rank = Warp{}.rank();
        for (u32 place = rank; place < lanes; place += WARP) ring.blocks[block_index()].next[place] = hall.next[place];
        if (rank == 0) store_release_block(&hall.ended, how);
    }

    // Answers the host; whether the kernel is to end.
    GB_MEMBER bool leave(u64 reached) {
        // The executors' completions, which the acquires of `is_quiet` saw, are the host's before this word is.
        sync_warp();
        fence_system();
        bool ends = state() == EXIT || state() == STOP || state() == ABANDON;
        if (ends) end(ENDED);
        if (Warp{}.rank() == 0) store_system(control + REACHED, reached);
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
        const u64 *from[LOADS];
        u64 words[LOADS];
        u32 laps = 0, within = 0;
#pragma unroll
        for (u32 load = 0, place = first, step = 0; load < LOADS; ++load) {
            LaneWords lane = words_of(ring, lane_at(place));
            u64 sequence = hall.next[place] + step * SLOTS_PER_LOAD + rank / SLOT_WORDS;
            from[load] = lane.command(sequence) + rank % SLOT_WORDS;
            laps |= u32(lane.lap(sequence)) << load;
            // A slot that is looked at twice in one look may show what it held before to the second load, which asks for the lap
            // of just that, and what it holds now to the first.
            within |= u32(step * SLOTS_PER_LOAD + rank / SLOT_WORDS < ring.slots) << load;
            // Loads that are left over look at the last lane beyond its share, and count for nothing.
            if (++step == depth && place + 1 < first + count) {
                step = 0;
                ++place;
            }
        }
        // Nothing of the loads is used before all are under way.
#pragma unroll
        for (u32 load = 0; load < LOADS; ++load) words[load] = load_system(from[load]);
        u32 fresh = 0;
#pragma unroll
        for (u32 load = 0; load < LOADS; ++load) fresh |= u32(tagged(words[load], laps >> load & 1)) << load;
        fresh &= within;
        if (ballot(fresh != 0) == 0) return;
        u32 blocked = NO_SLOT;
#pragma unroll
        for (u32 load = 0, place = first, step = 0; load < LOADS; ++load) {
            u32 arrived = ballot(fresh >> load & 1);
            for (u32 slot = 0; slot < SLOTS_PER_LOAD && place != blocked && step < depth; ++slot) {
                bool whole = (arrived >> (slot * SLOT_WORDS) & 0xff) == 0xff;
                if (!whole || !hand_over(place, words[load], slot)) blocked = place;
            }
            if (++step == depth && place + 1 < first + count) {
                step = 0;
                ++place;
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
            if (ballot(full) != 0) {
                // There is more: the block is not quiet yet.
                any = true;
                return false;
            }
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
        ++taken;
        any = true;
        sync_warp();
        return true;
    }

    // A grain's commands go to one executor, which executes them in order.
    GB_MEMBER u32 executor_of(u32 grain) const { return u32(u64(grain * 2654435769u) * executors >> 32); }
};

} // namespace gb
