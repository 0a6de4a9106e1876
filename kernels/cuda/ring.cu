// The kernels of the module: the ring, which never ends, and what runs beside it.
#include "executor.cuh"
#include "poller.cuh"

namespace gb {

constexpr u32 RING_THREADS_MAX = (EXECUTORS_MAX + 1) * WARP;
// Of a grid's block. Told the 256 that there are, ptxas spills for the sake of occupancy.
constexpr u32 BESIDE_THREADS_MAX = 1024;

// A kernel of the library, run beside the ring by a grid in this phase.
struct ByGrid {
    u32 phase;
    const Grid &team;
    const Call &call;
    Answer &answer;

    template <class Kernel>
    GB_MEMBER void operator()(Kernel) {
        run_phase<Kernel>(phase, team, call, answer);
    }
};

GB_DEVICE void note_start(Record *record) {
    if (block_index() == 0 && thread_index() == 0) record->started_ns = nanoseconds();
}

} // namespace gb

// One block per multiprocessor that the ring may use; its first warp polls, the others execute. The host launches it with all
// blocks resident.
GB_KERNEL(gb::RING_THREADS_MAX) gpubridge_ring(const gb::Parameters parameters) {
    using namespace gb;
    GB_SHARED(Hall, hall);
    // Each thread would keep a copy of its own.
    GB_SHARED(Parameters, ring);
    constexpr u32 PARAMETER_WORDS = sizeof(Parameters) / sizeof(u64);
    for (u32 i = thread_index(); i < PARAMETER_WORDS; i += block_threads()) {
        reinterpret_cast<u64 *>(&ring)[i] = reinterpret_cast<const u64 *>(&parameters)[i];
    }
    sync_block();
    u32 block = block_index();
    u32 executors = block_threads() / WARP - 1;
    u32 lanes = (ring.lane_count - block + grid_blocks() - 1) / grid_blocks();
    u64 *control = ring.control + u64(block) * CONTROL_LINES * SLOT_WORDS;
    for (u32 i = thread_index(); i < EXECUTORS_MAX; i += block_threads()) {
        hall.handed[i] = 0;
        hall.handing[i] = 0;
        hall.done[i] = 0;
        hall.beside[i] = 0;
        hall.at_work[i] = 0;
        hall.seen[i] = NOTHING_YET;
    }
    for (u32 i = thread_index(); i < lanes; i += block_threads()) hall.next[i] = ring.blocks[block].next[i];
    if (thread_index() == 0) {
        hall.ended = 0;
        hall.wanted = NOTHING_YET;
    }
    sync_block();
    u32 warp = thread_index() / WARP;
    if (warp == 0) {
        // No state has this number: the first look finds a change.
        Poller{ring, hall, executors, control, lanes, ~0ull, false, false, 0}.run();
    } else {
        u64 *held = ring.held + (u64(block) * EXECUTORS_MAX + warp - 1) * ring.requests_max;
        Executor{{ring, hall, warp - 1, 0, 0, 0}, {held, 0, 0}, NOTHING_YET, 0, false, NO_SLOT, NO_SLOT, 0}.run();
    }
}

// A phase of a kernel for a grid, by all blocks of the launch. Of a copy, `partials` is the chunk.
GB_KERNEL(gb::BESIDE_THREADS_MAX) gpubridge_beside_grid(gb::Record *record, gb::u32 variant, gb::u32 phase, gb::u64 *partials) {
    using namespace gb;
    using Scratch = u64[WARP];
    GB_SHARED(Scratch, scratch);
    if (phase == 0) note_start(record);
    Grid team{scratch, partials};
    Answer answer{record->answer, 0, team.rank() == 0, false};
    // By value: what a kernel stores might be the call, as far as a compiler knows.
    Call call = record->call;
    u8 *bytes = reinterpret_cast<u8 *>(call.output.words), *chunk = reinterpret_cast<u8 *>(partials);
    if (variant == ZERO_BYTES) return zero(team, call.output.words, call.output.count);
    if (variant == COPY_IN) return copy(team, bytes, chunk, call.output.count);
    if (variant == COPY_OUT) return copy(team, chunk, bytes, call.output.count);
    ByGrid by_grid{phase, team, call, answer};
    with_kernel(variant, by_grid);
    if (team.rank() == 0) record->answer_bytes = answer.bytes;
}

// The same for kernels of users' own, which get the registers that they have in the ring.
GB_KERNEL(gb::RING_THREADS_MAX) gpubridge_user_grid(gb::Record *record, gb::u32 variant, gb::u32 phase, gb::u64 *partials) {
    using namespace gb;
    using Scratch = u64[WARP + 1];
    GB_SHARED(Scratch, scratch);
    if (phase == 0) note_start(record);
    if (thread_index() == 0) scratch[WARP] = reinterpret_cast<u64>(partials);
    sync_block();
    bool writes = block_index() == 0 && thread_index() == 0;
    run_user_beside(record, variant, STEP_BY_GRID + phase, scratch, writes);
}

GB_KERNEL(gb::RING_THREADS_MAX) gpubridge_user_block(gb::Record *record, gb::u32 variant) {
    using namespace gb;
    using Scratch = u64[WARP];
    GB_SHARED(Scratch, scratch);
    note_start(record);
    run_user_beside(record, variant, STEP_BY_BLOCK, scratch, thread_index() == 0);
}

// The last step of a command beside the ring, behind its kernel on the same stream: its executor may go on.
GB_KERNEL(32) gpubridge_beside_finish(gb::Record *record) {
    using namespace gb;
    if (thread_index() != 0) return;
    record->device_time_ns = sampled_ns(nanoseconds() - record->started_ns);
    store_release_device(&record->done, record->begun);
}
