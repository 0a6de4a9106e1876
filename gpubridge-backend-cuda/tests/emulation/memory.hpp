// Memory of an emulated device, and host memory that it can reach.
//
// Device addresses are the host's own. Each allocation has pages of its own in a range of addresses much larger than the
// device's memory, with a page that cannot be touched behind it. Freed pages are given back and cannot be touched either, until
// the whole range was used once: a use after free ends the process where it happens.
#pragma once

#include "results.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <vector>
#include <sys/mman.h>
#include <unistd.h>

namespace emulated {

class Memory {
public:
    enum class Kind { Device, Host };

    explicit Memory(size_t device_bytes) : capacity_bytes(device_bytes) {}
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    CUresult allocate(Kind kind, size_t bytes, uintptr_t &at) {
        std::lock_guard<std::mutex> lock(mutex);
        if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
        if (bytes > reserved_bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
        size_t pages_bytes = round_up(bytes, page());
        if (kind == Kind::Device && pages_bytes > capacity_bytes - used_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
        if (!range && !reserve()) return CUDA_ERROR_OUT_OF_MEMORY;
        uintptr_t pages = find_place(pages_bytes);
        if (!pages || mprotect(reinterpret_cast<void *>(pages), pages_bytes, PROT_READ | PROT_WRITE) != 0)
            return CUDA_ERROR_OUT_OF_MEMORY;
        // At the end of its pages, as far as CUDA's alignment of 256 permits, so that an overrun is seen. Host memory begins
        // with its first page, as the driver's does.
        at = kind == Kind::Device ? pages + pages_bytes - round_up(bytes, 256) : pages;
        live[at] = Allocation{kind, bytes, pages, pages_bytes};
        if (kind == Kind::Device) used_bytes += pages_bytes;
        next_place = pages + pages_bytes + page();
        // What was there before, on a GPU; here something that is no zero, as far as it costs no time.
        std::memset(reinterpret_cast<void *>(at), 0xa5, std::min(bytes, size_t(64) << 10));
        return CUDA_SUCCESS;
    }

    CUresult free(Kind kind, uintptr_t at) {
        std::lock_guard<std::mutex> lock(mutex);
        auto found = live.find(at);
        if (found == live.end() || found->second.kind != kind) return CUDA_ERROR_INVALID_VALUE;
        close(found->second);
        live.erase(found);
        return CUDA_SUCCESS;
    }

    void free_all() {
        std::lock_guard<std::mutex> lock(mutex);
        for (auto &allocation : live) close(allocation.second);
        live.clear();
    }

    // Puts a range of whole pages of the device's into a file, of which the caller gets a descriptor; -1: it cannot.
    int share(uintptr_t at, size_t bytes) {
        if (bytes == 0 || at % page() != 0 || bytes % page() != 0 || !holds(Kind::Device, at, bytes)) return -1;
        std::lock_guard<std::mutex> lock(mutex);
        int file = memfd_create("emulated device memory", MFD_CLOEXEC);
        if (file < 0) return -1;
        void *pages = reinterpret_cast<void *>(at);
        bool moved = write(file, pages, bytes) == ssize_t(bytes) &&
                     mmap(pages, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == pages;
        if (moved) shared.emplace_back(pages, bytes);
        if (moved) return file;
        ::close(file);
        return -1;
    }

    // From now on, what was shared is the device's alone, as it is.
    void unshare() {
        std::lock_guard<std::mutex> lock(mutex);
        for (auto [pages, bytes] : shared) {
            std::vector<char> held(static_cast<char *>(pages), static_cast<char *>(pages) + bytes);
            mmap(pages, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            std::memcpy(pages, held.data(), bytes);
        }
        shared.clear();
    }

    // Whether the bytes lie in one allocation; of either kind.
    bool holds(uintptr_t at, size_t bytes) const { return kind_of(at, bytes).has_value(); }
    bool holds(Kind kind, uintptr_t at, size_t bytes) const { return kind_of(at, bytes) == kind; }

    size_t total_bytes() const { return capacity_bytes; }

    size_t free_bytes() const {
        std::lock_guard<std::mutex> lock(mutex);
        return capacity_bytes - used_bytes;
    }

private:
    struct Allocation {
        Kind kind;
        size_t bytes;
        uintptr_t pages;
        size_t pages_bytes;
    };

    static size_t page() {
        static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
        return bytes;
    }

    static size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

    size_t reserved_bytes() const { return std::max(round_up(capacity_bytes, page()) * 16, size_t(16) << 30); }

    bool reserve() {
        void *at = mmap(nullptr, reserved_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) return false;
        range = next_place = reinterpret_cast<uintptr_t>(at);
        return true;
    }

    // Unused pages with an unused one behind them, from where the last ones were taken on; 0: there are none.
    uintptr_t find_place(size_t pages_bytes) const {
        for (uintptr_t from : {next_place, range}) {
            uintptr_t place = from;
            auto next = live.upper_bound(place);
            if (next != live.begin()) --next;
            for (; next != live.end(); ++next) {
                const Allocation &there = next->second;
                if (there.pages + there.pages_bytes + page() <= place) continue;
                if (place + pages_bytes + page() <= there.pages) break;
                place = there.pages + there.pages_bytes + page();
            }
            if (place + pages_bytes + page() <= range + reserved_bytes()) return place;
        }
        return 0;
    }

    void close(const Allocation &allocation) {
        // A new mapping in place of the old one: what was written goes back to the machine.
        mmap(reinterpret_cast<void *>(allocation.pages), allocation.pages_bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        if (allocation.kind == Kind::Device) used_bytes -= allocation.pages_bytes;
    }

    std::optional<Kind> kind_of(uintptr_t at, size_t bytes) const {
        std::lock_guard<std::mutex> lock(mutex);
        auto after = live.upper_bound(at);
        if (after == live.begin()) return std::nullopt;
        const auto &[start, allocation] = *std::prev(after);
        bool inside = at - start <= allocation.bytes && bytes <= allocation.bytes - (at - start);
        return inside ? std::optional<Kind>(allocation.kind) : std::nullopt;
    }

    const size_t capacity_bytes;
    mutable std::mutex mutex;
    size_t used_bytes = 0;
    uintptr_t range = 0, next_place = 0;
    std::vector<std::pair<void *, size_t>> shared;
    // By the address that the caller has.
    std::map<uintptr_t, Allocation> live;
};

} // namespace emulated
