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

#include <chrono>

namespace gb {
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using f32 = float;
using f64 = double;
} // namespace gb

#define GB_DEVICE static inline
#define GB_MEMBER inline
#define GB_KERNEL(threads) extern "C" void
#define GB_SHARED(type, name) type &name = ::emulation::shared<type>()

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
EMULATION_UNSEEN inline uint32_t block_index() { return current->block->index(); }
EMULATION_UNSEEN inline uint32_t grid_blocks() { return current->block->of().blocks; }
EMULATION_UNSEEN inline void sync_block() { current->block->sync(); }
EMULATION_UNSEEN inline void sync_warp() { current->block->meet(current->warp->meeting, Meet::SyncWarp, true); }
EMULATION_UNSEEN inline void look_again(uint32_t looks) { current->block->look_again(looks); }

// Whether a thread that asks for this number's square root is to look again: a command that does not end, on request.
inline bool (*is_stuck)(double number) = [](double) { return false; };

} // namespace emulation

namespace gb {

GB_DEVICE u32 thread_index() { return emulation::thread_index(); }
GB_DEVICE u32 block_threads() { return emulation::block_threads(); }
GB_DEVICE u32 block_index() { return emulation::block_index(); }
GB_DEVICE u32 grid_blocks() { return emulation::grid_blocks(); }

GB_DEVICE void sync_block() { emulation::sync_block(); }
GB_DEVICE void sync_warp() { emulation::sync_warp(); }

GB_DEVICE u32 shuffle(u32 value, u32 from) { return emulation::shuffled(value, from % emulation::WARP_LANES); }

// One bit per lane of the warp.
GB_DEVICE u32 ballot(bool holds) { return emulation::balloted(holds); }

GB_DEVICE u64 load_system(const u64 *at) {
    u64 value = __atomic_load_n(at, __ATOMIC_RELAXED);
    emulation::current->seen.loaded(at);
    return value;
}

GB_DEVICE void store_system(u64 *at, u64 value) {
    emulation::current->seen.stores(at);
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

GB_DEVICE u64 load_acquire_device(const u64 *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }

GB_DEVICE void store_release_device(u64 *at, u64 value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }

// `at` lies in the block's shared memory.
GB_DEVICE u32 load_acquire_block(const u32 *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }

// `at` lies in the block's shared memory.
GB_DEVICE void store_release_block(u32 *at, u32 value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }

// Without order. `at` lies in the block's shared memory.
GB_DEVICE u64 load_block(const u64 *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }

// Without order. `at` lies in the block's shared memory.
GB_DEVICE void store_block(u64 *at, u64 value) { __atomic_store_n(at, value, __ATOMIC_RELAXED); }

GB_DEVICE void fence_system() { emulation::current->seen.fences(); }
GB_DEVICE void fence_device() { emulation::current->seen.fences(); }

// Adds in device memory, without order; returns what was there.
GB_DEVICE u32 atomic_add(u32 *at, u32 by) {
    emulation::current->seen.stores(at);
    u32 before = __atomic_fetch_add(at, by, __ATOMIC_RELAXED);
    emulation::current->seen.loaded(at);
    return before;
}

GB_DEVICE u64 nanoseconds() {
    return u64(std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

// Between two looks at shared memory that another warp of the block will change.
GB_DEVICE void spin() { emulation::look_again(~0u); }

// Between two looks at memory that the host will change, after `looks` in vain.
GB_DEVICE void idle(u32 looks) { emulation::look_again(looks); }

GB_DEVICE f64 square_root(f64 x) {
    while (emulation::is_stuck(x)) emulation::look_again(~0u);
    return __builtin_sqrt(x);
}

template <class To, class From>
GB_DEVICE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "the bits of one type as another of the same size");
    return __builtin_bit_cast(To, from);
}

} // namespace gb
