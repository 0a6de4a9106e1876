// The command at hand of an executing warp: what it names, where that lies, and its answer.
//
// All lanes of the warp walk through here together. One of them looks up what a command names, since what is looked up may
// change meanwhile and all must come to the same answer.
#pragma once

#include "ring.cuh"
#include "team.cuh"

namespace gb {

struct AtHand {
    const Parameters &ring;
    Hall &hall;
    // Which of the block's executors this is.
    u32 index;
    u32 lane;
    u32 slot;
    u32 answer_bytes;

    GB_MEMBER u32 rank() const { return Warp{}.rank(); }
    GB_MEMBER u64 *answer() const { return hall.answer[index]; }
    GB_MEMBER static u32 *pointer(u64 address) { return reinterpret_cast<u32 *>(address); }

    // Answers the command at hand with the executor's answer.
    GB_MEMBER void finish(u64 header, u32 status, u32 device_time_ns) {
        sync_warp();
        u64 bytes = status == STATUS_OK ? answer_bytes : 0;
        u64 word = rank() >= 1 && rank() < SLOT_WORDS && bytes > 0 ? answer()[rank() - 1] : 0;
        u64 displaced = ballot(word >> 63) >> 1 & 0x7f;
        if (rank() == 0) {
            word = displaced << DISPLACED_SHIFT | u64(status) << STATUS_SHIFT | bytes << RESULT_SHIFT |
                   device_time_ns;
        }
        u64 tag = (header >> ANSWER_BIT_SHIFT & 1) << 63;
        // Each word proves by its tag that it is new, so no order is needed between them.
        if (rank() < SLOT_WORDS) {
            store_system(words_of(ring, lane).completion(slot) + rank(), (word & ~(1ull << 63)) | tag);
        }
    }

    // Each lane that `looks` looks up the block of its name; all see what the first `count` found.
    GB_MEMBER u32 find(Name name, bool looks, u32 count, u32 grain) {
        if (looks) hall.found[index][rank()] = look_up(name, grain, rank());
        sync_warp();
        for (u32 i = 0; i < count; ++i) {
            if (hall.found[index][i] != STATUS_OK) return hall.found[index][i];
        }
        return STATUS_OK;
    }

    // By one lane. Another executor may bind the slot meanwhile: what was read of it counts if it stayed as it was.
    GB_MEMBER u32 look_up(Name name, u32 grain, u32 at) {
        if (name.index >= ring.allocations) return STATUS_UNKNOWN_ALLOCATION;
        Bound bound;
        bool whole = ring.lanes[lane].table[name.index].read(bound);
        if (!whole || bound.size_bytes == 0 || bound.generation != name.generation) return STATUS_UNKNOWN_ALLOCATION;
        if (bound.owner != grain) return STATUS_NOT_OWNER;
        // The block's memory may have gone back to the driver while the name stayed bound.
        if (!is_memory(bound.address, bound.size_bytes)) return STATUS_UNKNOWN_ALLOCATION;
        hall.address[index][at] = bound.address;
        hall.size_bytes[index][at] = bound.size_bytes;
        return STATUS_OK;
    }

    // The first byte of a transfer of at most `limit_bytes`, or why there is none.
    GB_MEMBER u32 transfer(const Command &command, u32 limit_bytes, u8 *&first, u32 &size_bytes) {
        u32 status = find(Name::of(command.payload(0)), rank() == 0, 1, command.grain());
        if (status != STATUS_OK) return status;
        u64 offset_bytes = command.payload(1);
        size_bytes = u32(command.payload(2));
        if (size_bytes > limit_bytes) return STATUS_INVALID_ARGUMENT;
        u64 block_bytes = hall.size_bytes[index][0];
        if (offset_bytes > block_bytes || size_bytes > block_bytes - offset_bytes) return STATUS_OUT_OF_BOUNDS;
        first = reinterpret_cast<u8 *>(hall.address[index][0]) + offset_bytes;
        return STATUS_OK;
    }

    GB_MEMBER Elements buffer(u32 which) const {
        u64 size_bytes = hall.size_bytes[index][which];
        return {size_bytes == 0 ? nullptr : pointer(hall.address[index][which]), size_bytes / 4};
    }

    GB_MEMBER bool is_memory(u64 address, u64 size_bytes) const {
        for (u32 i = 0; i < ring.arena_count; ++i) {
            const Range &arena = ring.arenas[i];
            if (address >= arena.first && address < arena.end && size_bytes <= arena.end - address) return true;
        }
        return false;
    }
};

} // namespace gb
