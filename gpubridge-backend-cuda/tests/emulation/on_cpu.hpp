// What `platform.cuh` offers to kernels on a CPU, in terms of what `emulation` offers: of the emulated driver's own in
// `emulation.hpp`, of the driver that has loaded them to users' kernels in `user/emulation.hpp`.
#pragma once

#include <chrono>
#include <cstdint>

namespace gb {
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using f32 = float;
using f64 = double;
} // namespace gb

#define GB_LINKED extern "C" __attribute__((visibility("default")))
// The driver's linker defines it, see `linker.hpp`.
#define GB_LINKED_LATER(declaration, otherwise) extern "C" declaration;
#define GB_DEVICE static inline
#define GB_MEMBER inline
#define GB_KERNEL(threads) extern "C" void
#define GB_SHARED(type, name) type &name = ::emulation::shared<type>()

namespace gb {

GB_DEVICE u32 thread_index() { return emulation::thread_index(); }
GB_DEVICE u32 block_threads() { return emulation::block_threads(); }
GB_DEVICE u32 block_index() { return emulation::block_index(); }
GB_DEVICE u32 grid_blocks() { return emulation::grid_blocks(); }

GB_DEVICE void sync_block() { emulation::sync_block(); }
GB_DEVICE void sync_warp() { emulation::sync_warp(); }

GB_DEVICE u32 shuffle(u32 value, u32 from) { return emulation::shuffled(value, from % 32); }

// One bit per lane of the warp.
GB_DEVICE u32 ballot(bool holds) { return emulation::balloted(holds); }

GB_DEVICE u64 load_system(const u64 *at) {
    u64 value = __atomic_load_n(at, __ATOMIC_RELAXED);
    emulation::loaded(at);
    return value;
}

GB_DEVICE void store_system(u64 *at, u64 value) {
    emulation::stores(at);
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

GB_DEVICE void fence_system() { emulation::fences(); }
GB_DEVICE void fence_device() { emulation::fences(); }

// Adds in device memory, without order; returns what was there.
GB_DEVICE u32 atomic_add(u32 *at, u32 by) {
    emulation::stores(at);
    u32 before = __atomic_fetch_add(at, by, __ATOMIC_RELAXED);
    emulation::loaded(at);
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
