// What a slot of a lane's allocation table is bound to: read and changed by any executor of the lane's block.
#pragma once

#include "platform.cuh"

namespace gb {

constexpr u32 NOBODY = ~0u;

// `version` is odd while it changes; `claims` counts who would change it. Each function is called by one lane of a warp.
struct alignas(32) Bound {
    u64 address;
    u64 size_bytes;
    u32 generation;
    u32 owner;
    u32 version;
    u32 claims;

    // Reads it into `into`; false when another executor changes it meanwhile.
    GB_MEMBER bool read(Bound &into) const {
        u32 before = load_acquire_block(&version);
        into.size_bytes = load(&size_bytes);
        into.address = load(&address);
        into.generation = load_acquire_block(&generation);
        into.owner = load_acquire_block(&owner);
        return before % 2 == 0 && load_acquire_block(&version) == before;
    }

    GB_MEMBER void change(u64 to_address, u64 to_size_bytes, u32 to_generation, u32 to_owner) {
        // Two executors may change it at once.
        while (atomic_add(&claims, 1) != 0) {
            atomic_add(&claims, u32(-1));
            spin();
        }
        u32 before = load_acquire_block(&version);
        store_release_block(&version, before + 1);
        store(&address, to_address);
        store(&size_bytes, to_size_bytes);
        store_release_block(&generation, to_generation);
        store_release_block(&owner, to_owner);
        store_release_block(&version, before + 2);
        fence_device();
        atomic_add(&claims, u32(-1));
    }

private:
    GB_MEMBER static u64 load(const u64 *word) {
        const u32 *halves = reinterpret_cast<const u32 *>(word);
        return load_acquire_block(halves) | u64(load_acquire_block(halves + 1)) << 32;
    }

    GB_MEMBER static void store(u64 *word, u64 value) {
        u32 *halves = reinterpret_cast<u32 *>(word);
        store_release_block(halves, u32(value));
        store_release_block(halves + 1, u32(value >> 32));
    }
};

} // namespace gb
