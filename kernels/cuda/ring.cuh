// What a ring consists of on the device, beside its lanes' words: `gpubridge-backend-cuda/src/parameters.rs` lays out the
// same structures, and a test compares sizes and offsets.
//
// A lane's words and the control words lie in the host's memory and are reached by system-scoped accesses alone. All else
// lies in device memory and outlives a launch: a ring may be parked, and launched again over the same memory.
#pragma once

#include "bound.cuh"
#include "call.cuh"
#include "layout.cuh"

namespace gb {

constexpr u32 EXECUTORS_MAX = 15;
constexpr u32 LANES_MAX = 64;
constexpr u32 ARENAS_MAX = 32;

constexpr u32 FAULTED = ~0u;

// A command that does not run in the ring at once: it is at work beside it, or waits behind another of its grain. There is
// one for each slot of a lane, so there are always enough.
struct alignas(64) Record {
    // The command as it lay in its slot.
    u64 command[SLOT_WORDS];
    // Of a command at work beside the ring: the call; how often a command of this slot was at work, and was done with it.
    Call call;
    u64 begun;
    u64 done;
    u64 started_ns;
    // How it went: the answer and its bytes, or FAULTED.
    u64 answer[PAYLOAD_WORDS];
    u32 answer_bytes;
    u32 device_time_ns;
    // The commands of its grain that wait behind it, by slot, and the one behind this one.
    u32 first_waiting;
    u32 last_waiting;
    u32 next_waiting;
    u32 padding;
};

struct Lane {
    // Where the command slots are: the first of the words, or memory of the device's own that the host posts them to.
    const u64 *commands;
    // Command slots, completion slots, control words, staging: see `layout.rs`.
    u64 *words;
    Bound *table;
    Record *records;
};

// What a block keeps from launch to launch.
struct BlockState {
    // Sequence number of the next command of each of its lanes.
    u64 next[LANES_MAX];
    // How many grains each executor holds, see `Parameters::held`.
    u32 held[EXECUTORS_MAX];
    // Words written to the outbox so far.
    u32 requests;
};

struct Range {
    u64 first, end;
};

struct Parameters {
    Lane lanes[LANES_MAX];
    BlockState *blocks;
    // Per block and executor, `requests_max` words: grains that wait for a command beside the ring.
    u64 *held;
    // Per block, CONTROL_LINES · SLOT_WORDS words in the host's memory.
    u64 *control;
    // Per block, `requests_max` words in the host's memory: commands that the host shall launch beside the ring.
    u64 *outbox;
    u32 lane_count;
    u32 slots;
    u32 staging_words;
    u32 allocations;
    // A power of two, at least the slots of all lanes of a block.
    u32 requests_max;
    u32 arena_count;
    // After how many commands a block ends by itself, to be launched again, as it does too when it has long had none; 0: never.
    u32 max_commands;
    u32 padding;
    // Bulk staging in the host's memory: chunks, and bytes of each. None of either: the ring has none.
    u32 bulk_chunks;
    u32 bulk_chunk_bytes;
    // The memory that blocks may lie in.
    Range arenas[ARENAS_MAX];
};

// Control words of a block: the host writes the first line, the device the others; of the last two a word per executor says
// what that is at, as of the poller's last beat.
constexpr u32 CONTROL_LINES = 4;
constexpr u32 WANTED = 0;
constexpr u32 REACHED = 8;
constexpr u32 HEARTBEAT = 9;
constexpr u32 RESTS = 10;
constexpr u32 AT_WORK = 16;

static_assert(AT_WORK + EXECUTORS_MAX <= CONTROL_LINES * SLOT_WORDS, "a control word per executor");

// What an executor is at: a count of its commands · lane · opcode · kernel · grain, the last three as in the command's header.
// 0: nothing; no command has an opcode of 0.
constexpr u32 AT_WORK_COUNT_SHIFT = 61;
constexpr u32 AT_WORK_LANE_SHIFT = 55;

// What the host wants of a block, in the low byte of a word whose other bits count. The block answers with the same word.
//
// Run: commands are executed. Hold: what was begun is ended, nothing else. Exit: as hold, then the kernel ends, to be launched
// again. Stop: what was begun is ended, all else is cancelled, and the kernel ends for good. Abandon: the kernel ends, whatever
// was begun; nobody waits for answers. Pause: as hold, but what is at work beside the ring stays there, also over an exit.
constexpr u32 RUN = 0, HOLD = 1, EXIT = 2, STOP = 3, ABANDON = 4, PAUSE = 5;
// How a block ends: as it was told, or by itself, with whatever waits or is at work beside the ring.
constexpr u32 ENDED = 1, ENDED_FOR_NOW = 2;
// What is wanted before anybody has looked.
constexpr u32 NOTHING_YET = ~0u;

// A request to launch a command beside the ring: lap bit · phases · work as a power of two · variant · lane · slot.
constexpr u32 REQUEST_PHASES_SHIFT = 47;
constexpr u32 REQUEST_WORK_SHIFT = 40;
constexpr u32 REQUEST_VARIANT_SHIFT = 24;
constexpr u32 REQUEST_LANE_SHIFT = 16;

// The variants by which a block of memory is zeroed beside the ring, and copied to or from a chunk; no kernel's.
constexpr u32 ZERO_BYTES = 1;
constexpr u32 COPY_IN = 2;
constexpr u32 COPY_OUT = 3;

// Words of a staging area that tell the host what to copy.
constexpr u32 COPY_ADDRESS = 0;
constexpr u32 COPY_BYTES = 1;
constexpr u32 COPY_CHUNK = 2;

// A device time as a completion carries it: 0 would mean that nobody looked.
GB_DEVICE u32 sampled_ns(u64 took) { return took == 0 ? 1 : took > ~0u ? ~0u : u32(took); }

GB_DEVICE bool tagged(u64 word, bool tag) { return (word >> 63 == 1) == tag; }

// A command as it was in its slot, with the bits that were displaced.
struct Command {
    u64 words[SLOT_WORDS];

    GB_MEMBER u64 payload(u32 index) const {
        u64 word = words[1 + index] & ~(1ull << 63);
        return word | (words[0] >> (DISPLACED_SHIFT + index) & 1) << 63;
    }
    GB_MEMBER bool answer_bit() const { return words[0] >> ANSWER_BIT_SHIFT & 1; }
    GB_MEMBER u32 opcode() const { return u32(words[0] >> OPCODE_SHIFT) & OPCODE_MASK; }
    GB_MEMBER u32 kernel() const { return u32(words[0] >> KERNEL_SHIFT) & 0xffff; }
    GB_MEMBER u32 grain() const { return u32(words[0]); }
};

// The name of a block: index and generation.
struct Name {
    u32 index, generation;

    GB_MEMBER static Name of(u64 word) { return {u32(word), u32(word >> 32)}; }
    GB_MEMBER bool is_none() const { return index == NO_SLOT; }
};

// Where things lie in a lane's words.
struct LaneWords {
    const u64 *commands;
    u64 *words;
    u32 slots;
    u32 staging_words;

    GB_MEMBER const u64 *command(u64 sequence) const { return commands + (sequence & (slots - 1)) * SLOT_WORDS; }
    GB_MEMBER bool lap(u64 sequence) const { return (sequence & slots) == 0; }
    GB_MEMBER u64 *completion(u32 slot) const { return words + u64(slots + slot) * SLOT_WORDS; }
    GB_MEMBER u64 *consumed() const { return words + u64(2) * slots * SLOT_WORDS + CONSUMED; }
    GB_MEMBER u64 *staging(u32 slot) const {
        return words + u64(2) * slots * SLOT_WORDS + CONTROL_WORDS + u64(slot) * staging_words;
    }
};

GB_DEVICE LaneWords words_of(const Parameters &ring, u32 lane) {
    return {ring.lanes[lane].commands, ring.lanes[lane].words, ring.slots, ring.staging_words};
}

// What the warps of a block share: the poller hands commands to the executors.
struct Hall {
    static constexpr u32 PLACES = 16;

    // Commands on their way, each with where its answer belongs: cancelled · lane · slot.
    u64 places[EXECUTORS_MAX][PLACES][SLOT_WORDS + 1];
    // What each executor is at. The poller tells the host, so that an executor has nothing to send across the bus.
    u64 at_work[EXECUTORS_MAX];
    // Commands handed over and commands done, per executor; they wrap.
    u32 handed[EXECUTORS_MAX];
    u32 done[EXECUTORS_MAX];
    // Commands at work beside the ring, per executor.
    u32 beside[EXECUTORS_MAX];
    // What is wanted, and what each executor has seen of it: the low half of the host's word.
    u32 wanted;
    u32 seen[EXECUTORS_MAX];
    // Whether the executors shall end: ENDED, or ENDED_FOR_NOW.
    u32 ended;
    // Room for one answer per executor, and for the buffers that a command names.
    u64 answer[EXECUTORS_MAX][PAYLOAD_WORDS];
    u64 address[EXECUTORS_MAX][3];
    u64 size_bytes[EXECUTORS_MAX][3];
    u32 found[EXECUTORS_MAX][3];
    // The poller's: next command of each lane, commands handed over but not told yet.
    u64 next[LANES_MAX];
    u32 handing[EXECUTORS_MAX];
};

static_assert(sizeof(Bound) == 32 && sizeof(Record) == 256 && sizeof(BlockState) == 576, "as the host reserves");
static_assert(sizeof(Parameters) == 2632, "as the host writes");

constexpr u32 PLACE_LANE_SHIFT = 16;
constexpr u64 PLACE_CANCELLED = 1ull << 63;

} // namespace gb
