// Moving bytes between a block of device memory and words in the host's memory, by a warp; zeroing and copying, by any team.
#pragma once

#include "team.cuh"

namespace gb {

// Loads under way at once per lane.
constexpr u32 AHEAD = 8;

template <class Unit>
GB_DEVICE void copy_in_by(u8 *to, const u64 *words, u32 size_bytes) {
    constexpr u32 PER_WORD = 8 / sizeof(Unit);
    Unit *units = reinterpret_cast<Unit *>(to);
    u32 whole = size_bytes / sizeof(Unit);
    for (u32 first = Warp{}.rank(); first < whole; first += AHEAD * WARP) {
        Unit ahead[AHEAD];
#pragma unroll
        for (u32 i = 0; i < AHEAD; ++i) {
            u32 at = first + i * WARP;
            if (at < whole) ahead[i] = Unit(load_system(words + at / PER_WORD) >> (at % PER_WORD * sizeof(Unit) * 8));
        }
#pragma unroll
        for (u32 i = 0; i < AHEAD; ++i) {
            u32 at = first + i * WARP;
            if (at < whole) units[at] = ahead[i];
        }
    }
    u32 rest = whole * sizeof(Unit) + Warp{}.rank();
    if (rest < size_bytes) to[rest] = u8(load_system(words + rest / 8) >> (rest % 8 * 8));
}

// Copies `size_bytes` from words that the host wrote, in units as large as `to` is aligned for.
GB_DEVICE void copy_in(u8 *to, const u64 *words, u32 size_bytes) {
    u64 address = reinterpret_cast<u64>(to);
    if (address % 8 == 0) copy_in_by<u64>(to, words, size_bytes);
    else if (address % 4 == 0) copy_in_by<u32>(to, words, size_bytes);
    else copy_in_by<u8>(to, words, size_bytes);
}

// The word of index `word` of the `size_bytes` at `from`, filled up with zeros.
GB_DEVICE u64 bytes_at(const u8 *from, u32 word, u32 size_bytes) {
    u64 bytes = 0;
    for (u32 i = 0; i < 8 && word * 8 + i < size_bytes; ++i) bytes |= u64(from[word * 8 + i]) << (i * 8);
    return bytes;
}

// Copies `size_bytes` to words that the host will read; a last partial word is filled up with zeros.
GB_DEVICE void copy_out(u64 *words, const u8 *from, u32 size_bytes) {
    u64 address = reinterpret_cast<u64>(from);
    u32 count = (size_bytes + 7) / 8;
    for (u32 first = Warp{}.rank(); first < count; first += AHEAD * WARP) {
        u64 ahead[AHEAD];
#pragma unroll
        for (u32 i = 0; i < AHEAD; ++i) {
            u32 word = first + i * WARP;
            bool whole = word * 8 + 8 <= size_bytes;
            if (whole && address % 8 == 0) {
                ahead[i] = reinterpret_cast<const u64 *>(from)[word];
            } else if (whole && address % 4 == 0) {
                const u32 *halves = reinterpret_cast<const u32 *>(from) + u64(word) * 2;
                ahead[i] = halves[0] | u64(halves[1]) << 32;
            } else if (word < count) {
                ahead[i] = bytes_at(from, word, size_bytes);
            }
        }
#pragma unroll
        for (u32 i = 0; i < AHEAD; ++i) {
            if (first + i * WARP < count) store_system(words + first + i * WARP, ahead[i]);
        }
    }
}

// Zeroes exactly `size_bytes` from an address that is a multiple of 8 on.
template <class Team>
GB_DEVICE void zero(const Team &team, u32 *first, u64 size_bytes) {
    u64 *words = reinterpret_cast<u64 *>(first);
    u8 *bytes = reinterpret_cast<u8 *>(first);
    for (u64 i = team.rank(); i < size_bytes / 8; i += team.size()) words[i] = 0;
    for (u64 i = size_bytes / 8 * 8 + team.rank(); i < size_bytes; i += team.size()) bytes[i] = 0;
}

// Copies `size_bytes` between memory that does not overlap.
template <class Team>
GB_DEVICE void copy(const Team &team, u8 *to, const u8 *from, u64 size_bytes) {
    bool aligned = (reinterpret_cast<u64>(to) | reinterpret_cast<u64>(from)) % 8 == 0;
    u64 words = aligned ? size_bytes / 8 : 0;
    for (u64 i = team.rank(); i < words; i += team.size()) {
        reinterpret_cast<u64 *>(to)[i] = reinterpret_cast<const u64 *>(from)[i];
    }
    for (u64 i = words * 8 + team.rank(); i < size_bytes; i += team.size()) to[i] = from[i];
}

} // namespace gb
