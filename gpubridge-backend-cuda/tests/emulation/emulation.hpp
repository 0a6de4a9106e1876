// What `platform.cuh` offers to kernels, for a host compiler: the kernels run on a CPU, each block on an OS thread of its own.
//
// Not modelled: how far an access reaches (each reaches everywhere), stale caches, the order in which a bus delivers, and
// lanes that share an instruction. What is: memory order as far as the CPU and ThreadSanitizer have one, barriers that not all
// threads reach, and shared memory that holds nothing at first.
//
// Shuffles and ballots order memory here, as they seem to on a GPU; CUDA promises no such thing, and with
// EMULATION_STRICT_SHUFFLES they do not, so that ThreadSanitizer finds a kernel that counts on it.
#pragma once

#include "block.hpp"

namespace emulation {

#ifdef EMULATION_STRICT_SHUFFLES
constexpr bool SHUFFLES_ORDER = false;
#else
constexpr bool SHUFFLES_ORDER = true;
#endif

EMULATION_UNSEEN inline void *declare_shared(size_t bytes, size_t alignment) {
    return current->block->declare_shared(bytes, alignment);
}

template <class T>
inline T &shared() {
    static_assert(std::is_trivially_default_constructible<T>::value, "shared memory holds nothing at first");
    return *static_cast<T *>(declare_shared(sizeof(T), alignof(T)));
}

// Shows `value` to the lanes of the warp, and returns what all of them have shown.
EMULATION_UNSEEN inline const uint32_t *exchange(Meet kind, uint32_t value) {
    Thread &self = *current;
    uint32_t *values = self.warp->values[self.warp->meeting.turn & 1];
    values[self.lane] = value;
    self.block->meet(self.warp->meeting, kind, SHUFFLES_ORDER);
    return values;
}

EMULATION_UNSEEN inline uint32_t shuffled(uint32_t value, uint32_t from) {
    const Warp &warp = *current->warp;
    const uint32_t *values = exchange(Meet::Shuffle, value);
    return from < warp.meeting.expected ? values[from] : value;
}

EMULATION_UNSEEN inline uint32_t balloted(bool holds) {
    const Warp &warp = *current->warp;
    const uint32_t *values = exchange(Meet::Ballot, holds);
    uint32_t bits = 0;
    for (uint32_t lane = 0; lane < warp.meeting.expected; ++lane) bits |= values[lane] << lane;
    return bits;
}

EMULATION_UNSEEN inline uint32_t thread_index() { return current->index; }
EMULATION_UNSEEN inline uint32_t block_threads() { return current->block->of().threads; }
// What the users' kernels of the launch's module are found by; none: there are no such.
EMULATION_UNSEEN inline const void *linked() { return current->block->of().linked; }
EMULATION_UNSEEN inline uint32_t block_index() { return current->block->index(); }
EMULATION_UNSEEN inline uint32_t grid_blocks() { return current->block->of().blocks; }
EMULATION_UNSEEN inline void sync_block() { current->block->sync(); }
EMULATION_UNSEEN inline void sync_warp() { current->block->meet(current->warp->meeting, Meet::SyncWarp, true); }
EMULATION_UNSEEN inline void look_again(uint32_t looks) { current->block->look_again(looks); }
inline void loaded(const void *at) { current->seen.loaded(at); }
inline void stores(void *at) { current->seen.stores(at); }
inline void fences() { current->seen.fences(); }

// Whether a thread that asks for this number's square root is to look again: a command that does not end, on request.
inline bool (*is_stuck)(double number) = [](double) { return false; };

} // namespace emulation

#include "on_cpu.hpp"
