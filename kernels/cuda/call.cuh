// One call of a kernel as the kernel sees it; `kernels/src/kernel.rs` says the same in Rust.
#pragma once

#include "layout.cuh"
#include "platform.cuh"

namespace gb {

// The elements of one buffer; none when the call does not name it.
struct Elements {
    u32 *words;
    u64 count;

    template <class T>
    GB_MEMBER T get(u64 index) const { return bit_cast<T>(words[index]); }
    template <class T>
    GB_MEMBER void set(u64 index, T value) const { words[index] = bit_cast<u32>(value); }
};

// Up to six values of four bytes.
struct Scalars {
    u64 words[3];

    GB_MEMBER u32 bits(u32 index) const { return u32(words[index / 2] >> (index % 2 * 32)); }
    template <class T>
    GB_MEMBER T get(u32 index) const { return bit_cast<T>(bits(index)); }
};

// What a kernel's check and its work depend on, and what it works on.
struct Call {
    Elements input, operand, output;
    // Elements to work on.
    u64 count;
    Scalars scalars;
    u32 constant;
};

// What a call answers with, beside what it writes to its output: `words` are zero at first.
struct Answer {
    u64 *words;
    u32 bytes;
    // Whether this thread is the one that writes them.
    bool writes;
    // Whether it failed, as the thread knows that writes.
    bool failed;

    // Appends four bytes. One that does not fit fails the call.
    template <class T>
    GB_MEMBER void push(T value) {
        if (bytes + 4 > PAYLOAD_BYTES) return fail();
        if (writes) words[bytes / 8] |= u64(bit_cast<u32>(value)) << (bytes % 8 * 8);
        bytes += 4;
    }

    // The call ends with a fault in place of an answer. What it has written stays.
    GB_MEMBER void fail() { failed = true; }
};

} // namespace gb
