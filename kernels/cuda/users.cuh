// Kernels of users' own, as the ring calls them: their functions are linked to the module when they are added.
#pragma once

#include "gpubridge.cuh"
#include "library/library.cuh"
#include "ring.cuh"

// Takes a step of the user's kernel of this index, as `take_step` does.
GB_LINKED_LATER(gb::u64 gpubridge_user(gb::u32, gb::u32, const gb::Call *, gb::u64 *, gb::u64 *), gb::REFUSED)

namespace gb {

// Kernels from this variant on are users'.
constexpr u32 FIRST_USER = 4096;

// A user's kernel as a command names it: what its declaration says travels in place of a constant.
//
// Buffers · in place · phases · work up to which it runs in the ring, as a mantissa and an exponent.
constexpr u32 USER_IN_PLACE = 1 << 3, USER_PHASES_SHIFT = 4, PHASES_MASK = 15;
constexpr u32 USER_EXPONENT_SHIFT = 8, USER_EXPONENT_MASK = 63, USER_MANTISSA_SHIFT = 14;

GB_DEVICE Traits traits_of_user(u32 word) {
    u64 in_ring_up_to = u64(word >> USER_MANTISSA_SHIFT) << (word >> USER_EXPONENT_SHIFT & USER_EXPONENT_MASK);
    return {word & (INPUT | OPERAND | OUTPUT), (word & USER_IN_PLACE) != 0, word >> USER_PHASES_SHIFT & PHASES_MASK, in_ring_up_to};
}

struct User {
    u32 index;
    u32 phases;
    u64 *answer;
    u64 asked;

    GB_MEMBER bool check(const Call &call) {
        // One for all lanes: memory that it looks at may change meanwhile.
        asked = shuffle_bits(gpubridge_user(index, STEP_CHECK | phases << STEP_PHASES_SHIFT, &call, answer, nullptr), 0);
        return asked != REFUSED;
    }
    GB_MEMBER u64 work(const Call &) const { return asked; }
    GB_MEMBER void run(const Warp &, const Call &call, Answer &told) {
        // The lane that writes the answer knows how it went.
        u64 bytes = shuffle_bits(gpubridge_user(index, STEP_BY_WARP, &call, answer, nullptr), 0);
        told.failed = bytes == REFUSED;
        told.bytes = told.failed ? 0 : u32(bytes);
    }
};

static_assert(u32(REFUSED) == FAULTED, "how a step failed is what the record says of it");

// Runs a user's kernel beside the ring by the team of this step. The thread that `writes` notes how it went, if that is not over.
GB_DEVICE void run_user_beside(Record *record, u32 variant, u32 step, u64 *scratch, bool writes) {
    Call call = record->call;
    u64 bytes = gpubridge_user(variant - FIRST_USER, step, &call, record->answer, scratch);
    if (writes && record->answer_bytes != FAULTED) record->answer_bytes = u32(bytes);
}

} // namespace gb
