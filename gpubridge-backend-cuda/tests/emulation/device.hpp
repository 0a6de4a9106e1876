// An emulated device with its one context, and what each call of the driver begins with.
#pragma once

#include "launch.hpp"
#include "memory.hpp"
#include "module.hpp"
#include "settings.hpp"
#include "stream.hpp"

#include <map>

namespace emulated {

// What callers hold addresses of. An address that is none of these, or no longer, is found out.
template <class T>
class Handles {
public:
    T *add(std::shared_ptr<T> object) {
        std::lock_guard<std::mutex> lock(mutex);
        T *handle = object.get();
        live.emplace(handle, std::move(object));
        return handle;
    }

    std::shared_ptr<T> find(const void *handle) {
        std::lock_guard<std::mutex> lock(mutex);
        auto found = live.find(handle);
        return found == live.end() ? nullptr : found->second;
    }

    std::shared_ptr<T> take(const void *handle) {
        std::lock_guard<std::mutex> lock(mutex);
        auto found = live.find(handle);
        if (found == live.end()) return nullptr;
        std::shared_ptr<T> object = std::move(found->second);
        live.erase(found);
        return object;
    }

    std::vector<std::shared_ptr<T>> all() {
        std::lock_guard<std::mutex> lock(mutex);
        std::vector<std::shared_ptr<T>> objects;
        for (auto &entry : live) objects.push_back(entry.second);
        return objects;
    }

private:
    std::mutex mutex;
    std::map<const void *, std::shared_ptr<T>> live;
};

// The driver's function that this thread has called last.
inline thread_local const char *entered = "";

class Device {
public:
    static constexpr unsigned THREADS_PER_MULTIPROCESSOR = 1024, BLOCKS_PER_MULTIPROCESSOR = 16;

    Device(int ordinal, const Settings &settings) : ordinal(ordinal), memory(settings.memory_bytes), settings(settings) {}

    const int ordinal;
    Memory memory;
    Handles<Stream> streams;
    Handles<Event> events;
    Handles<Module> modules;
    Handles<Linker> linkers;
    std::atomic<int> retained{0};
    std::atomic<unsigned> flags{0};

    // CUDA_SUCCESS, or what has ended the context.
    CUresult state() const { return CUresult(lost.load()); }

    void lose(CUresult with) {
        int alive = CUDA_SUCCESS;
        lost.compare_exchange_strong(alive, with);
    }

    // Reports a call that on a GPU waits for every kernel, or may. `how`: what makes it one, if others are none.
    void must_not_wait(const std::string &how = "") const {
        if (!has_resident_kernel()) return;
        std::string call = entered;
        if (call.size() > 3 && call.compare(call.size() - 3, 3, "_v2") == 0) call.resize(call.size() - 3);
        call += how;
        std::fprintf(stderr, "emulated driver: %s while a resident kernel runs: would stall or hang\n", call.c_str());
        if (settings.hazards_abort) std::abort();
    }

    // The stream of a handle, or the null stream; none if there is no such one.
    std::shared_ptr<Stream> find_stream(const void *handle) {
        // CU_STREAM_LEGACY is another name of the null stream.
        if (handle && handle != reinterpret_cast<const void *>(1)) return streams.find(handle);
        must_not_wait(" on the null stream");
        std::lock_guard<std::mutex> lock(submitting);
        if (!null_stream) null_stream = Stream::create(false);
        return null_stream;
    }

    // Queues work. The null stream waits for the blocking ones, and they for it.
    void submit(const std::shared_ptr<Stream> &stream, Work work) {
        std::lock_guard<std::mutex> lock(submitting);
        std::vector<std::pair<std::shared_ptr<Stream>, uint64_t>> before;
        if (stream == null_stream) {
            for (auto &other : streams.all())
                if (other->blocking) before.emplace_back(other, other->issued_so_far());
        } else if (stream->blocking && null_stream) {
            before.emplace_back(null_stream, null_stream->issued_so_far());
        }
        stream->push([before = std::move(before), work = std::move(work)] {
            for (auto &[other, count] : before) other->wait_for(count);
            work();
        });
    }

    // Work that a lost device no longer does.
    void submit_unless_lost(const std::shared_ptr<Stream> &stream, Work work) {
        submit(stream, [this, work = std::move(work)] {
            if (state() == CUDA_SUCCESS) work();
        });
    }

    // One launch after another, with nothing in between.
    void launch_in_turn(const std::shared_ptr<Stream> &stream, std::vector<std::shared_ptr<emulation::Launch>> launches) {
        for (auto &what : launches) {
            what->more_turns = [this](uint64_t turns) { return more_turns(turns, false); };
            what->faults = [this] { lose(CUDA_ERROR_ILLEGAL_ADDRESS); };
        }
        submit(stream, [this, launches = std::move(launches)] {
            for (auto &what : launches) {
                while (!settings.may_begin(what->name) && state() == CUDA_SUCCESS) rest();
                if (state() == CUDA_SUCCESS) run_in_turn(*what);
            }
        });
    }

    void launch_together(const std::shared_ptr<Stream> &stream, std::shared_ptr<emulation::Launch> what) {
        what->more_turns = [this](uint64_t turns) { return more_turns(turns, true); };
        what->faults = [this] { lose(CUDA_ERROR_ILLEGAL_ADDRESS); };
        ++resident;
        submit(stream, [this, what] {
            if (state() == CUDA_SUCCESS) run_together(*what);
            --resident;
        });
    }

    void wait_if_launches_block(const std::shared_ptr<Stream> &stream) const {
        if (settings.launches_block) stream->wait();
    }

    // What it was given to do is still done.
    bool destroy_stream(const void *handle) {
        auto stream = streams.take(handle);
        if (!stream) return false;
        stream->close();
        std::lock_guard<std::mutex> lock(submitting);
        closed.erase(std::remove_if(closed.begin(), closed.end(), [](auto &other) { return other->is_idle(); }), closed.end());
        closed.push_back(std::move(stream));
        return true;
    }

    // Until no stream has any work. With a resident kernel there is nothing to wait for: that was reported.
    CUresult wait() {
        if (has_resident_kernel() && state() == CUDA_SUCCESS) return CUDA_SUCCESS;
        std::vector<std::shared_ptr<Stream>> busy = streams.all();
        {
            std::lock_guard<std::mutex> lock(submitting);
            busy.insert(busy.end(), closed.begin(), closed.end());
            if (null_stream) busy.push_back(null_stream);
        }
        for (auto &stream : busy) stream->wait();
        return state();
    }

    unsigned blocks_per_multiprocessor(unsigned threads) const {
        unsigned whole_warps = (threads + emulation::WARP_LANES - 1) / emulation::WARP_LANES * emulation::WARP_LANES;
        if (whole_warps == 0) return 0;
        return std::min(BLOCKS_PER_MULTIPROCESSOR, THREADS_PER_MULTIPROCESSOR / whole_warps);
    }

    // The context goes with all that is in it; a device that was lost is as new.
    void destroy_context() {
        wait();
        for (auto &stream : streams.all()) destroy_stream(stream.get());
        for (auto &event : events.all()) events.take(event.get());
        for (auto &module : modules.all()) modules.take(module.get());
        memory.free_all();
        lost = CUDA_SUCCESS;
    }

    bool has_resident_kernel() const { return resident.load() > 0; }

    static void rest() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

private:
    // How many turns a block may take until it asks again; 0: it is given up.
    uint64_t more_turns(uint64_t turns, bool together) {
        constexpr uint64_t AT_A_TIME = 4096;
        if (!together || !settings.is_armed()) {
            if (together) unarmed_turns.store(turns);
            return state() == CUDA_SUCCESS ? AT_A_TIME : 0;
        }
        turns -= std::min(turns, unarmed_turns.load());
        if (turns >= settings.lose_after) lose(settings.lose_with);
        while (turns >= settings.freeze_after && state() == CUDA_SUCCESS) rest();
        if (state() != CUDA_SUCCESS) return 0;
        return std::min({AT_A_TIME, settings.freeze_after - turns, settings.lose_after - turns});
    }

    const Settings &settings;
    std::atomic<int> lost{CUDA_SUCCESS};
    // Of the block that asked last before the faults were armed: they count from there.
    std::atomic<uint64_t> unarmed_turns{0};
    // Cooperative launches that have not ended.
    std::atomic<int> resident{0};
    std::mutex submitting;
    std::shared_ptr<Stream> null_stream;
    // Destroyed by the caller; the last ones may still have work.
    std::vector<std::shared_ptr<Stream>> closed;
};

struct Driver {
    Settings settings;
    std::atomic<bool> initialized{false};
    // A queue, because its elements stay where they are.
    std::deque<Device> devices;

    Driver() {
        for (int ordinal = 0; ordinal < settings.devices; ++ordinal) devices.emplace_back(ordinal, settings);
        emulation::Block::watch_for_faults();
        emulation::is_stuck = [](double number) { return get().settings.is_stuck(number); };
        // A GPU's driver would wait for good, or end the kernel by force.
        std::atexit([] {
            for (Device &device : get().devices) {
                bool waits = get().settings.exit_waits;
                for (int looks = 0; device.has_resident_kernel() && (waits || looks < 1000); ++looks) Device::rest();
                if (device.has_resident_kernel()) std::fprintf(stderr, "emulated driver: the process ends under a resident kernel\n");
            }
            if (get().settings.exit_ends) _exit(0);
        });
    }

    Device *find(CUdevice ordinal) {
        return ordinal >= 0 && size_t(ordinal) < devices.size() ? &devices[size_t(ordinal)] : nullptr;
    }

    // Threads of streams may still run when the process ends: it is never destroyed.
    static Driver &get() {
        static Driver &driver = *new Driver;
        return driver;
    }
};

// The device whose context is current in this thread.
inline thread_local Device *bound = nullptr;

// A call of `name`: what the settings want of it, or what it does.
template <class Does>
CUresult enter(const char *name, Does does) {
    entered = name;
    Settings &settings = Driver::get().settings;
    settings.delay(name);
    CUresult result = settings.fails(name);
    if (result == CUDA_SUCCESS) result = does();
    else if (bound && loses_the_device(result)) bound->lose(result);
    settings.note(name, result);
    return result;
}

// One that needs cuInit before it.
template <class Does>
CUresult enter_initialized(const char *name, Does does) {
    return enter(name, [&] { return Driver::get().initialized ? does(Driver::get()) : CUDA_ERROR_NOT_INITIALIZED; });
}

// One that is about a device, by its number.
template <class Does>
CUresult enter_device(const char *name, CUdevice ordinal, Does does) {
    return enter_initialized(name, [&](Driver &driver) {
        Device *device = driver.find(ordinal);
        return device ? does(*device) : CUDA_ERROR_INVALID_DEVICE;
    });
}

// One that works on the context that is current.
template <class Does>
CUresult enter_context(const char *name, Does does) {
    return enter_initialized(name, [&](Driver &) {
        if (!bound) return CUDA_ERROR_INVALID_CONTEXT;
        if (bound->retained.load() == 0) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        return bound->state() == CUDA_SUCCESS ? does(*bound) : bound->state();
    });
}

} // namespace emulated
