// What `platform.cuh` includes when a user's kernel is compiled for the emulated driver: the driver that loads the kernel has
// the threads, and exports what they do, see `../machine.hpp`.
#pragma once

#include <cstdint>

extern "C" {
uint32_t emulated_thread_index();
uint32_t emulated_block_threads();
uint32_t emulated_block_index();
uint32_t emulated_grid_blocks();
void emulated_sync_block();
void emulated_sync_warp();
uint32_t emulated_shuffle(uint32_t value, uint32_t from);
uint32_t emulated_ballot(uint32_t holds);
void emulated_look_again(uint32_t looks);
}

namespace emulation {

inline uint32_t thread_index() { return emulated_thread_index(); }
inline uint32_t block_threads() { return emulated_block_threads(); }
inline uint32_t block_index() { return emulated_block_index(); }
inline uint32_t grid_blocks() { return emulated_grid_blocks(); }
inline void sync_block() { emulated_sync_block(); }
inline void sync_warp() { emulated_sync_warp(); }
inline uint32_t shuffled(uint32_t value, uint32_t from) { return emulated_shuffle(value, from); }
inline uint32_t balloted(bool holds) { return emulated_ballot(holds); }
inline void look_again(uint32_t looks) { emulated_look_again(looks); }
// Nothing in a user's kernel is stuck on request.
inline bool is_stuck(double) { return false; }
// What ThreadSanitizer is told of an access: users' kernels are compiled without it.
inline void loaded(const void *) {}
inline void stores(void *) {}
inline void fences() {}

} // namespace emulation

#include "on_cpu.hpp"
