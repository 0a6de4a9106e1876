// The numbers of the ring's layout, as `kernels/src/ring/layout.rs` and the enums of commands have them: a test compares
// the two, line by line.
#pragma once

#include "platform.cuh"

namespace gb {

constexpr u32 SLOT_WORDS = 8;
constexpr u32 PAYLOAD_WORDS = 7;
constexpr u32 CONTROL_WORDS = 16;
constexpr u32 CONSUMED = 0;

constexpr u32 DISPLACED_SHIFT = 56;
constexpr u32 ANSWER_BIT_SHIFT = 55;
constexpr u32 OPCODE_SHIFT = 48;
constexpr u32 OPCODE_MASK = 127;
constexpr u32 KERNEL_SHIFT = 32;
constexpr u32 RESULT_SHIFT = 32;
constexpr u32 STATUS_SHIFT = 48;

constexpr u32 OPCODE_SKIP = 0;
constexpr u32 OPCODE_ECHO = 1;
constexpr u32 OPCODE_BIND = 2;
constexpr u32 OPCODE_WRITE = 3;
constexpr u32 OPCODE_WRITE_INLINE = 4;
constexpr u32 OPCODE_READ = 5;
constexpr u32 OPCODE_READ_INLINE = 6;
constexpr u32 OPCODE_COMPUTE = 7;
constexpr u32 OPCODE_WRITE_BULK = 8;
constexpr u32 OPCODE_READ_BULK = 9;

constexpr u32 STATUS_OK = 0;
constexpr u32 STATUS_UNKNOWN_OPCODE = 1;
constexpr u32 STATUS_UNKNOWN_ALLOCATION = 2;
constexpr u32 STATUS_OUT_OF_BOUNDS = 3;
constexpr u32 STATUS_NOT_OWNER = 4;
constexpr u32 STATUS_UNKNOWN_KERNEL = 5;
constexpr u32 STATUS_INVALID_ARGUMENT = 6;
constexpr u32 STATUS_KERNEL_FAULT = 7;
constexpr u32 STATUS_CANCELLED = 8;
constexpr u32 STATUS_DEVICE_LOST = 9;
constexpr u32 STATUS_UNSUPPORTED = 10;

constexpr u32 TRANSFER_HEADER_WORDS = 3;
constexpr u32 INLINE_WRITE_BYTES = 32;
constexpr u32 PAYLOAD_BYTES = 56;
constexpr u32 BLOCK_ALIGNMENT = 64;
constexpr u32 NO_SLOT = 4294967295;

} // namespace gb
