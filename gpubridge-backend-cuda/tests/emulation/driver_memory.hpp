// The driver's functions about memory, streams and events.
#pragma once

#include "device.hpp"

namespace emulated {

// Memory.

EMULATED_API CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
    return enter_context(__func__, [&](Device &device) {
        *free = device.memory.free_bytes();
        *total = device.memory.total_bytes();
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        uintptr_t at = 0;
        CUresult result = device.memory.allocate(Memory::Kind::Device, bytes, at);
        if (result == CUDA_SUCCESS) *address = at;
        return result;
    });
}

EMULATED_API CUresult cuMemFree_v2(CUdeviceptr address) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        CUresult result = device.wait();
        return result == CUDA_SUCCESS ? device.memory.free(Memory::Kind::Device, uintptr_t(address)) : result;
    });
}

EMULATED_API CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        uintptr_t at = 0;
        CUresult result = device.memory.allocate(Memory::Kind::Host, bytes, at);
        if (result == CUDA_SUCCESS) *address = reinterpret_cast<void *>(at);
        return result;
    });
}

EMULATED_API CUresult cuMemFreeHost(void *address) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        CUresult result = device.wait();
        return result == CUDA_SUCCESS ? device.memory.free(Memory::Kind::Host, reinterpret_cast<uintptr_t>(address)) : result;
    });
}

EMULATED_API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *host, unsigned flags) {
    return enter_context(__func__, [&](Device &device) {
        bool known = device.memory.holds(Memory::Kind::Host, reinterpret_cast<uintptr_t>(host), 1);
        if (!known || flags != 0) return CUDA_ERROR_INVALID_VALUE;
        *address = reinterpret_cast<uintptr_t>(host);
        return CUDA_SUCCESS;
    });
}

// The device's memory as a file that the host can map; only the kind of handle that is one.
EMULATED_API CUresult cuMemGetHandleForAddressRange(void *handle, CUdeviceptr address, size_t bytes, int kind,
                                                    unsigned long long flags) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        const Settings &settings = Driver::get().settings;
        if (kind != 1 || flags != 0 || !settings.maps_memory) return CUDA_ERROR_NOT_SUPPORTED;
        int file = device.memory.share(uintptr_t(address), bytes);
        if (file >= 0 && settings.maps_stale) {
            // Of other memory than the device's from now on.
            int other = memfd_create("no device memory", MFD_CLOEXEC);
            bool made = ftruncate(other, off_t(bytes)) == 0 && dup3(other, file, O_CLOEXEC) == file;
            close(other);
            if (!made) return CUDA_ERROR_UNKNOWN;
        }
        if (file < 0) return CUDA_ERROR_INVALID_VALUE;
        *static_cast<int *>(handle) = file;
        return CUDA_SUCCESS;
    });
}

// Copies and fills.

static void *pointer(CUdeviceptr address) { return reinterpret_cast<void *>(uintptr_t(address)); }

// Queues the work if all of `bytes` at each address is the device's; with `waits`, it is done on return.
static CUresult transfer(const char *call, std::initializer_list<CUdeviceptr> addresses, size_t bytes, void *stream, bool waits,
                         Work work) {
    return enter_context(call, [&](Device &device) {
        for (CUdeviceptr address : addresses)
            if (!device.memory.holds(uintptr_t(address), bytes)) return CUDA_ERROR_INVALID_VALUE;
        auto into = device.find_stream(stream);
        if (!into) return CUDA_ERROR_INVALID_HANDLE;
        device.submit_unless_lost(into, std::move(work));
        if (waits) into->wait();
        return device.state();
    });
}

// Whether the host's memory came from cuMemHostAlloc; the driver copies from and to other memory by way of its own.
static bool is_pinned(const void *host, size_t bytes) {
    return bound && bound->memory.holds(Memory::Kind::Host, reinterpret_cast<uintptr_t>(host), bytes);
}

// Between addresses of the device's or of page-locked memory. From and to other memory the driver copies by way of its own, for
// which it may wait; within the host's memory it returns when all is done.
EMULATED_API CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, void *stream) {
    if (bound && (!bound->memory.holds(uintptr_t(to), bytes) || !bound->memory.holds(uintptr_t(from), bytes))) {
        entered = __func__;
        bound->must_not_wait(" of pageable memory");
    }
    if (is_pinned(pointer(to), bytes) && is_pinned(pointer(from), bytes)) {
        entered = __func__;
        bound->must_not_wait(" within the host's memory");
    }
    return transfer(__func__, {to, from}, bytes, stream, false, [=] { std::memmove(pointer(to), pointer(from), bytes); });
}

EMULATED_API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
    return transfer(__func__, {to}, bytes, nullptr, true, [=] { std::memcpy(pointer(to), from, bytes); });
}

EMULATED_API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
    return transfer(__func__, {from}, bytes, nullptr, true, [=] { std::memcpy(to, pointer(from), bytes); });
}

EMULATED_API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return transfer(__func__, {to, from}, bytes, nullptr, true, [=] { std::memmove(pointer(to), pointer(from), bytes); });
}

EMULATED_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, void *stream) {
    if (is_pinned(from, bytes))
        return transfer(__func__, {to}, bytes, stream, false, [=] { std::memcpy(pointer(to), from, bytes); });
    const char *first = static_cast<const char *>(from);
    auto copy = std::make_shared<std::vector<char>>(first, first + bytes);
    return transfer(__func__, {to}, bytes, stream, false, [=] { std::memcpy(pointer(to), copy->data(), bytes); });
}

EMULATED_API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, void *stream) {
    bool waits = !is_pinned(to, bytes);
    return transfer(__func__, {from}, bytes, stream, waits, [=] { std::memcpy(to, pointer(from), bytes); });
}

EMULATED_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, void *stream) {
    return transfer(__func__, {to, from}, bytes, stream, false, [=] { std::memmove(pointer(to), pointer(from), bytes); });
}

static CUresult fill(const char *call, CUdeviceptr at, unsigned value, size_t count, void *stream, bool waits, size_t width) {
    if (at % width != 0 || count > SIZE_MAX / width) return CUDA_ERROR_INVALID_VALUE;
    return transfer(call, {at}, count * width, stream, waits, [=] {
        if (width == 1) std::memset(pointer(at), int(value), count);
        else std::fill_n(static_cast<unsigned *>(pointer(at)), count, value);
    });
}

EMULATED_API CUresult cuMemsetD8_v2(CUdeviceptr at, unsigned char value, size_t count) {
    return fill(__func__, at, value, count, nullptr, true, 1);
}

EMULATED_API CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t count, void *stream) {
    return fill(__func__, at, value, count, stream, false, 1);
}

EMULATED_API CUresult cuMemsetD32_v2(CUdeviceptr at, unsigned value, size_t count) {
    return fill(__func__, at, value, count, nullptr, true, 4);
}

EMULATED_API CUresult cuMemsetD32Async(CUdeviceptr at, unsigned value, size_t count, void *stream) {
    return fill(__func__, at, value, count, stream, false, 4);
}

// Streams.

static CUresult create_stream(const char *call, void **handle, unsigned flags) {
    return enter_context(call, [&](Device &device) {
        if (!handle || flags > CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
        *handle = device.streams.add(Stream::create(flags != CU_STREAM_NON_BLOCKING));
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuStreamCreate(void **stream, unsigned flags) { return create_stream(__func__, stream, flags); }

EMULATED_API CUresult cuStreamCreateWithPriority(void **stream, unsigned flags, int) {
    return create_stream(__func__, stream, flags);
}

EMULATED_API CUresult cuStreamDestroy_v2(void *handle) {
    return enter_context(__func__, [&](Device &device) {
        return device.destroy_stream(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    });
}

EMULATED_API CUresult cuStreamSynchronize(void *handle) {
    return enter_context(__func__, [&](Device &device) {
        auto stream = device.find_stream(handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        stream->wait();
        return device.state();
    });
}

EMULATED_API CUresult cuStreamQuery(void *handle) {
    return enter_context(__func__, [&](Device &device) {
        auto stream = device.find_stream(handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        return stream->is_idle() ? device.state() : CUDA_ERROR_NOT_READY;
    });
}

// Events.

EMULATED_API CUresult cuEventCreate(void **handle, unsigned flags) {
    return enter_context(__func__, [&](Device &device) {
        if (!handle) return CUDA_ERROR_INVALID_VALUE;
        *handle = device.events.add(std::make_shared<Event>((flags & CU_EVENT_DISABLE_TIMING) == 0));
        return CUDA_SUCCESS;
    });
}

template <class Does>
static CUresult enter_event(const char *call, void *handle, Does does) {
    return enter_context(call, [&](Device &device) {
        auto event = device.events.find(handle);
        return event ? does(device, event) : CUDA_ERROR_INVALID_HANDLE;
    });
}

EMULATED_API CUresult cuEventRecord(void *handle, void *stream_handle) {
    return enter_event(__func__, handle, [&](Device &device, std::shared_ptr<Event> event) {
        auto stream = device.find_stream(stream_handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        device.submit(stream, [event, mark = event->record()] { event->reach(mark); });
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuStreamWaitEvent(void *stream_handle, void *handle, unsigned) {
    return enter_event(__func__, handle, [&](Device &device, std::shared_ptr<Event> event) {
        auto stream = device.find_stream(stream_handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        device.submit(stream, [event, mark = event->last_mark()] { event->wait_for(mark); });
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuEventQuery(void *handle) {
    return enter_event(__func__, handle, [](Device &device, std::shared_ptr<Event> event) {
        return event->is_reached() ? device.state() : CUDA_ERROR_NOT_READY;
    });
}

EMULATED_API CUresult cuEventSynchronize(void *handle) {
    return enter_event(__func__, handle, [](Device &device, std::shared_ptr<Event> event) {
        event->wait_for(event->last_mark());
        return device.state();
    });
}

static CUresult tell_elapsed(const char *call, float *milliseconds, void *start, void *end) {
    return enter_event(call, start, [&](Device &device, std::shared_ptr<Event> first) {
        auto second = device.events.find(end);
        if (!second || !first->timed || !second->timed) return CUDA_ERROR_INVALID_HANDLE;
        if (first->last_mark() == 0 || second->last_mark() == 0) return CUDA_ERROR_INVALID_HANDLE;
        if (!first->is_reached() || !second->is_reached()) return CUDA_ERROR_NOT_READY;
        *milliseconds = std::chrono::duration<float, std::milli>(second->time() - first->time()).count();
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuEventElapsedTime(float *milliseconds, void *start, void *end) {
    return tell_elapsed(__func__, milliseconds, start, end);
}

EMULATED_API CUresult cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
    return tell_elapsed(__func__, milliseconds, start, end);
}

EMULATED_API CUresult cuEventDestroy_v2(void *handle) {
    return enter_context(__func__, [&](Device &device) {
        return device.events.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    });
}

} // namespace emulated
