// Threads that work on one call together: a warp in the ring; a block or a whole grid beside it.
//
// A kernel is written once, for any team. Every thread of a team calls the same functions in the same order.
#pragma once

#include "platform.cuh"

namespace gb {

constexpr u32 WARP = 32;
// Words that each block of a grid keeps from phase to phase.
constexpr u32 PARTIALS = 16;

template <class T>
GB_DEVICE T shuffle_bits(T value, u32 from) {
    if constexpr (sizeof(T) == 8) {
        u64 bits = bit_cast<u64>(value);
        u64 low = shuffle(u32(bits), from), high = shuffle(u32(bits >> 32), from);
        return bit_cast<T>(high << 32 | low);
    } else {
        return bit_cast<T>(shuffle(bit_cast<u32>(value), from));
    }
}

template <class T>
GB_DEVICE u64 to_word(T value) {
    if constexpr (sizeof(T) == 8) return bit_cast<u64>(value);
    else return bit_cast<u32>(value);
}

template <class T>
GB_DEVICE T from_word(u64 word) {
    if constexpr (sizeof(T) == 8) return bit_cast<T>(word);
    else return bit_cast<T>(u32(word));
}

struct Plus {
    template <class T>
    GB_MEMBER T operator()(T a, T b) const { return a + b; }
};

struct Least {
    template <class T>
    GB_MEMBER T operator()(T a, T b) const { return b < a ? b : a; }
};

struct Greatest {
    template <class T>
    GB_MEMBER T operator()(T a, T b) const { return a < b ? b : a; }
};

// One thread by itself, for kernels that give each thread a piece of its own.
struct Thread {
    GB_MEMBER u32 rank() const { return 0; }
    GB_MEMBER u64 size() const { return 1; }

    template <class T, class Join>
    GB_MEMBER T reduce(T value, Join) const { return value; }
};

// One warp.
struct Warp {
    // Whether `sync`, `reduce` and `scan` work across the whole team.
    static constexpr bool SYNCS = true;

    GB_MEMBER u32 rank() const { return thread_index() % WARP; }
    GB_MEMBER u64 size() const { return WARP; }
    // The warp of this thread among those of the team, for kernels that give each warp a piece of its own.
    GB_MEMBER u64 warp() const { return 0; }
    GB_MEMBER u64 warps() const { return 1; }
    GB_MEMBER void sync() const { sync_warp(); }

    // `join` of all threads' values, in every thread; in the same order each time.
    template <class T, class Join>
    GB_MEMBER T reduce(T value, Join join) const {
        for (u32 mask = WARP / 2; mask > 0; mask /= 2) value = join(value, shuffle_bits(value, rank() ^ mask));
        return value;
    }

    // `join` of the values of this thread and of all before it; that of all threads goes to `total`.
    template <class T, class Join>
    GB_MEMBER T scan(T value, Join join, T &total) const {
        for (u32 by = 1; by < WARP; by *= 2) {
            T below = shuffle_bits(value, rank() < by ? rank() : rank() - by);
            if (rank() >= by) value = join(below, value);
        }
        total = shuffle_bits(value, WARP - 1);
        return value;
    }
};

// A block of whole warps, at most 32 of them.
struct Block {
    static constexpr bool SYNCS = true;
    // A value per warp, in shared memory.
    u64 *scratch;

    GB_MEMBER u32 rank() const { return thread_index(); }
    GB_MEMBER u64 size() const { return block_threads(); }
    GB_MEMBER u64 warp() const { return thread_index() / WARP; }
    GB_MEMBER u64 warps() const { return block_threads() / WARP; }
    GB_MEMBER void sync() const { sync_block(); }

    template <class T, class Join>
    GB_MEMBER T reduce(T value, Join join) const {
        value = Warp{}.reduce(value, join);
        share(value);
        T total = shared<T>(0);
        for (u32 i = 1; i < warps(); ++i) total = join(total, shared<T>(i));
        sync();
        return total;
    }

    template <class T, class Join>
    GB_MEMBER T scan(T value, Join join, T &total) const {
        T of_warp;
        value = Warp{}.scan(value, join, of_warp);
        share(of_warp);
        T below = shared<T>(0);
        total = below;
        for (u32 i = 1; i < warps(); ++i) {
            if (i == warp()) below = total;
            total = join(total, shared<T>(i));
        }
        if (warp() > 0) value = join(below, value);
        sync();
        return value;
    }

private:
    template <class T>
    GB_MEMBER void share(T of_warp) const {
        if (thread_index() % WARP == 0) scratch[warp()] = to_word(of_warp);
        sync();
    }

    template <class T>
    GB_MEMBER T shared(u32 of_warp) const {
        return from_word<T>(scratch[of_warp]);
    }
};

// Elements in a row.
struct Stretch {
    u64 first, count;
};

// All blocks of a launch. They cannot wait for each other: this is for kernels whose elements do not depend on each other, and
// for those in phases, each of which is a launch of its own, of equally many blocks.
struct Grid {
    static constexpr bool SYNCS = false;
    // The block's scratch, and PARTIALS words for each block in device memory. What they hold at first is left over.
    u64 *scratch;
    u64 *partials;

    GB_MEMBER u64 rank() const { return u64(block_index()) * block_threads() + thread_index(); }
    GB_MEMBER u64 size() const { return u64(grid_blocks()) * block_threads(); }
    GB_MEMBER u64 warp() const { return rank() / WARP; }
    GB_MEMBER u64 warps() const { return size() / WARP; }

    // The thread's block among `blocks`, and as a team of its own.
    GB_MEMBER u32 block_rank() const { return block_index(); }
    GB_MEMBER u32 blocks() const { return grid_blocks(); }
    GB_MEMBER Block block() const { return {scratch}; }

    // What falls to the thread's block of `count` elements when each block has a stretch of them, of whole cache lines.
    GB_MEMBER Stretch stretch(u64 count) const {
        u64 length = (count / blocks() + WARP) / WARP * WARP;
        u64 first = Least{}(block_rank() * length, count);
        return {first, Least{}(count - first, length)};
    }

    // `join` of the values of the block's threads is kept for later phases under a number, which counts modulo PARTIALS. By whole
    // blocks.
    template <class T, class Join>
    GB_MEMBER void keep(u32 which, T value, Join join) const {
        value = block().reduce(value, join);
        if (thread_index() == 0) partials[u64(block_index()) * PARTIALS + which % PARTIALS] = to_word(value);
    }

    // What the thread's own block has kept in an earlier phase.
    GB_MEMBER u64 kept(u32 which) const { return partials[u64(block_index()) * PARTIALS + which % PARTIALS]; }

    // `join` of what the first `blocks` blocks have kept in an earlier phase, or `none`: in every thread of the block, in the same
    // order each time. By whole blocks, in a phase that keeps nothing under this number.
    template <class T, class Join>
    GB_MEMBER T joined(u32 which, u32 blocks, T none, Join join) const {
        T value = none;
        for (u32 i = thread_index(); i < blocks; i += block_threads()) {
            value = join(value, from_word<T>(partials[u64(i) * PARTIALS + which % PARTIALS]));
        }
        return block().reduce(value, join);
    }
};

// Runs a phase of a kernel by a grid.
template <class Kernel, class Call, class Answer>
GB_DEVICE void run_phase(u32 phase, const Grid &grid, const Call &call, Answer &answer) {
    if constexpr (Kernel::PHASES > 1) {
        Kernel::run_phase(phase, grid, call, answer);
    } else if constexpr (Kernel::PHASES == 1) {
        Kernel::run(grid, call, answer);
    }
}

} // namespace gb
