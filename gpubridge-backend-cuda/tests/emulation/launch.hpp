// Kernels as functions of an array of addresses, and how the blocks of a launch are run.
#pragma once

#include "emulation.hpp"

#include <atomic>
#include <string>
#include <sys/prctl.h>
#include <thread>
#include <tuple>
#include <utility>

namespace emulated {

struct Kernel {
    const char *name;
    size_t parameters;
    // The kernel with its arguments: copied from where the addresses point to, as the driver does.
    std::function<void()> (*bind)(void **addresses);
};

template <auto *FUNCTION>
struct Bound;

template <class... Parameters, void (*FUNCTION)(Parameters...)>
struct Bound<FUNCTION> {
    static constexpr size_t COUNT = sizeof...(Parameters);

    static std::function<void()> bind(void **addresses) { return bind(addresses, std::index_sequence_for<Parameters...>{}); }

private:
    template <size_t... I>
    static std::function<void()> bind([[maybe_unused]] void **addresses, std::index_sequence<I...>) {
        return [arguments = std::tuple<Parameters...>(*static_cast<Parameters *>(addresses[I])...)] {
            std::apply(FUNCTION, arguments);
        };
    }
};

template <auto *FUNCTION>
Kernel kernel(const char *name) {
    return Kernel{name, Bound<FUNCTION>::COUNT, Bound<FUNCTION>::bind};
}

// A block that rests for some microseconds is not to rest for the fifty more that Linux may add.
inline void rest_precisely() { prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); }

// Every block at once, on an OS thread each: they may wait for each other.
inline void run_together(emulation::Launch &launch) {
    std::vector<std::thread> others;
    for (unsigned index = 1; index < launch.blocks; ++index) {
        others.emplace_back([&launch, index] {
            rest_precisely();
            emulation::BlockPool::take()->run(launch, index);
        });
    }
    rest_precisely();
    emulation::BlockPool::take()->run(launch, 0);
    for (std::thread &other : others) other.join();
    emulation::order_acquire(&launch.ended);
}

// One block after another, on two OS threads at the most: they cannot wait for each other, and not all are there at once on a
// GPU either.
inline void run_in_turn(emulation::Launch &launch) {
    std::atomic<unsigned> next{0};
    auto work = [&] {
        auto block = emulation::BlockPool::take();
        for (unsigned index; (index = next.fetch_add(1, std::memory_order_relaxed)) < launch.blocks;) {
#if EMULATION_TSAN
            block = emulation::BlockPool::take();
#endif
            if (!block->run(launch, index)) return;
        }
    };
    if (launch.blocks > 1) {
        std::thread other(work);
        work();
        other.join();
    } else {
        work();
    }
    emulation::order_acquire(&launch.ended);
}

} // namespace emulated
