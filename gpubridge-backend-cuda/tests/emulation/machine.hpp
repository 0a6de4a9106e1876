// What users' kernels, which are loaded into the process as libraries of their own, ask of the threads that run them.
#pragma once

#include "emulation.hpp"

#define EMULATED_MACHINE extern "C" __attribute__((visibility("default")))

EMULATED_MACHINE uint32_t emulated_thread_index() { return emulation::thread_index(); }
EMULATED_MACHINE uint32_t emulated_block_threads() { return emulation::block_threads(); }
EMULATED_MACHINE uint32_t emulated_block_index() { return emulation::block_index(); }
EMULATED_MACHINE uint32_t emulated_grid_blocks() { return emulation::grid_blocks(); }
EMULATED_MACHINE void emulated_sync_block() { emulation::sync_block(); }
EMULATED_MACHINE void emulated_sync_warp() { emulation::sync_warp(); }
EMULATED_MACHINE uint32_t emulated_shuffle(uint32_t value, uint32_t from) { return emulation::shuffled(value, from); }
EMULATED_MACHINE uint32_t emulated_ballot(uint32_t holds) { return emulation::balloted(holds != 0); }
EMULATED_MACHINE void emulated_look_again(uint32_t looks) { emulation::look_again(looks); }
