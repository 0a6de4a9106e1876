// The CUDA driver without a GPU: a `libcuda.so.1` whose kernels run on the CPU. See `settings.hpp` for what EMULATED_CUDA asks.
//
// Build, in this folder (`mod.rs` does it for the tests):
//   c++ -O2 -std=c++17 -ffp-contract=off -fPIC -fvisibility=hidden -shared -pthread -Wl,-soname,libcuda.so.1
//       -DEMULATED_CXX='"c++"' -DEMULATED_FOLDER='"'$PWD'"' -I . -I ../../../kernels/cuda driver.cpp -o libcuda.so.1
// and run a program with LD_LIBRARY_PATH set to the folder of the result. With clang++ and -fsanitize=thread it belongs to a
// program that is built with ThreadSanitizer too.
//
// The functions have the names, parameters and results of the driver API; what they do is in `device.hpp` and below. This file
// has those about devices, contexts, modules and launches; `driver_memory.hpp` those about memory, streams and events,
// `driver_graph.hpp` those about graphs.

#include "device.hpp"

#define EMULATED_API extern "C" __attribute__((visibility("default")))

#include "driver_memory.hpp"

namespace emulated {

// The driver itself.

EMULATED_API CUresult cuInit(unsigned flags) {
    Driver::get().settings.take_orders();
    return enter(__func__, [&] {
        Driver &driver = Driver::get();
        if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
        if (driver.settings.init != CUDA_SUCCESS) return driver.settings.init;
        if (driver.devices.empty()) return CUDA_ERROR_NO_DEVICE;
        driver.initialized = true;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuDriverGetVersion(int *version) {
    return enter(__func__, [&] {
        *version = Driver::get().settings.version;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuGetErrorName(CUresult error, const char **text) {
    switch (int(error)) {
#define EMULATED_RESULT(code, name, says)                                                                                      \
    case code: *text = #name; return CUDA_SUCCESS;
        EMULATED_RESULTS(EMULATED_RESULT)
#undef EMULATED_RESULT
    }
    *text = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

EMULATED_API CUresult cuGetErrorString(CUresult error, const char **text) {
    switch (int(error)) {
#define EMULATED_RESULT(code, name, says)                                                                                      \
    case code: *text = says; return CUDA_SUCCESS;
        EMULATED_RESULTS(EMULATED_RESULT)
#undef EMULATED_RESULT
    }
    *text = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

// Devices.

EMULATED_API CUresult cuDeviceGetCount(int *count) {
    return enter_initialized(__func__, [&](Driver &driver) {
        *count = int(driver.devices.size());
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    return enter_device(__func__, ordinal, [&](Device &) {
        *device = ordinal;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuDeviceGetName(char *name, int bytes, CUdevice ordinal) {
    return enter_device(__func__, ordinal, [&](Device &) {
        if (bytes <= 0) return CUDA_ERROR_INVALID_VALUE;
        std::snprintf(name, size_t(bytes), "emulated CUDA device (no GPU)");
        return CUDA_SUCCESS;
    });
}

static CUresult tell_uuid(const char *call, CUuuid *uuid, CUdevice ordinal) {
    return enter_device(call, ordinal, [&](Device &) {
        CUuuid told{{'e', 'm', 'u', 'l', 'a', 't', 'e', 'd', ' ', 'C', 'U', 'D', 'A', ' ', 0, char('0' + ordinal)}};
        *uuid = told;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) { return tell_uuid(__func__, uuid, device); }
EMULATED_API CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) { return tell_uuid(__func__, uuid, device); }

static int attribute(const Device &device, int which, const Settings &settings) {
    switch (which) {
    case 1: return emulation::BLOCK_THREADS_MAX; // MAX_THREADS_PER_BLOCK
    case 2: return emulation::BLOCK_THREADS_MAX; // MAX_BLOCK_DIM_X
    case 3: return 1;                            // MAX_BLOCK_DIM_Y
    case 4: return 1;                            // MAX_BLOCK_DIM_Z
    case 5: return 0x7fffffff;                   // MAX_GRID_DIM_X
    case 6: return 1;                            // MAX_GRID_DIM_Y
    case 7: return 1;                            // MAX_GRID_DIM_Z
    case 8: return emulation::BlockMemory::SHARED_BYTES; // MAX_SHARED_MEMORY_PER_BLOCK
    case 10: return emulation::WARP_LANES;       // WARP_SIZE
    case 12: return 65536;                       // MAX_REGISTERS_PER_BLOCK
    case 13: return 1'000'000;                   // CLOCK_RATE, in kHz
    case 16: return settings.multiprocessors;    // MULTIPROCESSOR_COUNT
    case 17: return settings.exec_timeout;       // KERNEL_EXEC_TIMEOUT
    case 19: return 1;                           // CAN_MAP_HOST_MEMORY
    case 31: return 1;                           // CONCURRENT_KERNELS
    case 33: return device.ordinal + 1;          // PCI_BUS_ID
    case 39: return Device::THREADS_PER_MULTIPROCESSOR; // MAX_THREADS_PER_MULTIPROCESSOR
    case 40: return 1;                           // ASYNC_ENGINE_COUNT
    case 41: return 1;                           // UNIFIED_ADDRESSING
    case 75: return 7;                           // COMPUTE_CAPABILITY_MAJOR
    case 76: return 5;                           // COMPUTE_CAPABILITY_MINOR
    case 81: return 65536;                       // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 82: return 65536;                       // MAX_REGISTERS_PER_MULTIPROCESSOR
    case 95: return 1;                           // COOPERATIVE_LAUNCH
    case 97: return emulation::BlockMemory::SHARED_BYTES; // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    case 106: return Device::BLOCKS_PER_MULTIPROCESSOR;   // MAX_BLOCKS_PER_MULTIPROCESSOR
    case 152: return settings.maps_memory; // DMA_BUF_MMAP_SUPPORTED
    // Among them HOST_NATIVE_ATOMIC_SUPPORTED (86), MANAGED_MEMORY (83), CAN_USE_STREAM_MEM_OPS (92, 93),
    // MEMORY_POOLS_SUPPORTED (115), GPU_DIRECT_RDMA_SUPPORTED (116), DMA_BUF_SUPPORTED (124): what is not there is not offered.
    default: return 0;
    }
}

EMULATED_API CUresult cuDeviceGetAttribute(int *value, int which, CUdevice ordinal) {
    return enter_device(__func__, ordinal, [&](Device &device) {
        if (which <= 0) return CUDA_ERROR_INVALID_VALUE;
        *value = attribute(device, which, Driver::get().settings);
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice ordinal) {
    return enter_device(__func__, ordinal, [&](Device &device) {
        *bytes = device.memory.total_bytes();
        return CUDA_SUCCESS;
    });
}

// Contexts: each device has its primary one, and no other.

EMULATED_API CUresult cuDevicePrimaryCtxRetain(Device **context, CUdevice ordinal) {
    return enter_device(__func__, ordinal, [&](Device &device) {
        ++device.retained;
        *context = &device;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice ordinal) {
    return enter_device(__func__, ordinal, [&](Device &device) {
        int count = device.retained.load();
        if (count == 0) return CUDA_ERROR_INVALID_CONTEXT;
        if (count == 1) {
            if (device.state() == CUDA_SUCCESS) device.must_not_wait();
            device.destroy_context();
        }
        --device.retained;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice ordinal, unsigned flags) {
    return enter_device(__func__, ordinal, [&](Device &device) {
        device.flags = flags;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned *flags, int *active) {
    return enter_device(__func__, ordinal, [&](Device &device) {
        *flags = device.flags;
        *active = device.retained.load() > 0;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuCtxSetCurrent(Device *context) {
    return enter_initialized(__func__, [&](Driver &driver) {
        bool known = !context;
        for (Device &device : driver.devices) known = known || &device == context;
        if (!known) return CUDA_ERROR_INVALID_CONTEXT;
        bound = context;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuCtxGetCurrent(Device **context) {
    return enter_initialized(__func__, [&](Driver &) {
        *context = bound;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuCtxGetDevice(CUdevice *ordinal) {
    return enter_context(__func__, [&](Device &device) {
        *ordinal = device.ordinal;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    return enter_context(__func__, [&](Device &) {
        if (least) *least = 0;
        if (greatest) *greatest = -1;
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuCtxSynchronize() {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        return device.wait();
    });
}

EMULATED_API CUresult cuCtxDestroy_v2(Device *) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        // The primary context is released, not destroyed.
        return CUDA_ERROR_INVALID_CONTEXT;
    });
}

// Modules and their functions.

EMULATED_API CUresult cuModuleGetLoadingMode(int *mode) {
    return enter_initialized(__func__, [&](Driver &driver) {
        *mode = driver.settings.loads_lazily ? CU_MODULE_LAZY_LOADING : CU_MODULE_EAGER_LOADING;
        return CUDA_SUCCESS;
    });
}

static CUresult load_module(const char *call, Module **handle, const void *image, std::string &why) {
    return enter_context(call, [&](Device &device) {
        device.must_not_wait();
        if (!handle || !image) return CUDA_ERROR_INVALID_VALUE;
        const Settings &settings = Driver::get().settings;
        auto module = std::make_shared<Module>();
        CUresult result = module->load(static_cast<const char *>(image), settings.version, settings.loads_lazily, why);
        if (result == CUDA_SUCCESS) *handle = device.modules.add(std::move(module));
        return result;
    });
}

EMULATED_API CUresult cuModuleLoadData(Module **module, const void *image) {
    std::string why;
    return load_module(__func__, module, image, why);
}

EMULATED_API CUresult cuModuleLoadDataEx(Module **module, const void *image, unsigned count, const int *options,
                                         void **values) {
    std::string why;
    CUresult result = load_module(__func__, module, image, why);
    char *log = nullptr;
    void **log_bytes = nullptr;
    for (unsigned i = 0; i < count; ++i) {
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER) log = static_cast<char *>(values[i]);
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) log_bytes = &values[i];
    }
    // The size is passed by value in the place of an address, and what was written comes back in it.
    if (log && log_bytes && *log_bytes) {
        size_t capacity = reinterpret_cast<uintptr_t>(*log_bytes);
        std::snprintf(log, capacity, "%s", why.c_str());
        *log_bytes = reinterpret_cast<void *>(uintptr_t(std::min(why.size(), capacity - 1)));
    }
    return result;
}

EMULATED_API CUresult cuModuleUnload(Module *handle) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        if (!device.modules.find(handle)) return CUDA_ERROR_INVALID_HANDLE;
        CUresult result = device.wait();
        device.modules.take(handle);
        return result;
    });
}

EMULATED_API CUresult cuModuleGetFunction(Function **handle, Module *module_handle, const char *name) {
    return enter_context(__func__, [&](Device &device) {
        auto module = device.modules.find(module_handle);
        if (!module) return CUDA_ERROR_INVALID_HANDLE;
        if (!handle || !name) return CUDA_ERROR_INVALID_VALUE;
        // Some drivers load the function here when they load lazily, some later.
        if (Driver::get().settings.loads_lazily) device.must_not_wait();
        Function *function = module->find(name);
        if (!function) return CUDA_ERROR_NOT_FOUND;
        if (!function->kernel || function->kernel->parameters != function->parameters) {
            std::fprintf(stderr, "emulated driver: the module's entry %s is not the kernel that the driver has of that name\n",
                         name);
            return CUDA_ERROR_NOT_FOUND;
        }
        *handle = function;
        return CUDA_SUCCESS;
    });
}

// The linker, which asks nothing of the device: a ring may run.

static CUresult enter_linker(const char *call, Linker *linker, std::function<CUresult(Linker &)> does) {
    return enter_context(call, [&](Device &device) {
        auto there = device.linkers.find(linker);
        return there ? does(*there) : CUDA_ERROR_INVALID_HANDLE;
    });
}

EMULATED_API CUresult cuLinkCreate_v2(unsigned count, const int *options, void **values, Linker **linker) {
    return enter_context(__func__, [&](Device &device) {
        auto made = std::make_shared<Linker>();
        for (unsigned i = 0; i < count; ++i) {
            if (options[i] == CU_JIT_ERROR_LOG_BUFFER) made->log = static_cast<char *>(values[i]);
            if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) made->log_bytes = reinterpret_cast<uintptr_t>(values[i]);
        }
        *linker = device.linkers.add(std::move(made));
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuLinkAddData_v2(Linker *linker, int kind, void *data, size_t bytes, const char *name, unsigned, const int *,
                                       void **) {
    constexpr int CU_JIT_INPUT_CUBIN = 0, CU_JIT_INPUT_PTX = 1;
    return enter_linker(__func__, linker, [&](Linker &there) {
        if (kind != CU_JIT_INPUT_CUBIN && kind != CU_JIT_INPUT_PTX) return CUDA_ERROR_INVALID_VALUE;
        return there.add(kind == CU_JIT_INPUT_PTX, static_cast<const char *>(data), bytes, name);
    });
}

EMULATED_API CUresult cuLinkComplete(Linker *linker, void **image, size_t *bytes) {
    return enter_linker(__func__, linker, [&](Linker &there) { return there.complete(image, bytes); });
}

EMULATED_API CUresult cuLinkDestroy(Linker *linker) {
    return enter_context(__func__, [&](Device &device) {
        return device.linkers.take(linker) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    });
}

// A call that uses a function: if it is not loaded yet, the call does that first, which may wait for all kernels.
template <class Does>
static CUresult enter_function(const char *call, Function *handle, Does does) {
    return enter_context(call, [&](Device &device) {
        for (auto &module : device.modules.all()) {
            if (!module->holds(handle)) continue;
            bool loads = !handle->loaded.exchange(true);
            if (loads) device.must_not_wait(std::string(" (it loads ") + handle->kernel->name + ")");
            return does(device, *handle, *module);
        }
        return CUDA_ERROR_INVALID_HANDLE;
    });
}

static unsigned threads_max(const Function &function) {
    return function.threads_max ? std::min(function.threads_max, emulation::BLOCK_THREADS_MAX) : emulation::BLOCK_THREADS_MAX;
}

EMULATED_API CUresult cuFuncLoad(Function *handle) {
    return enter_function(__func__, handle, [](Device &, Function &, Module &) { return CUDA_SUCCESS; });
}

EMULATED_API CUresult cuFuncGetAttribute(int *value, int which, Function *handle) {
    return enter_function(__func__, handle, [&](Device &, Function &function, Module &module) {
        switch (which) {
        case 0: *value = int(threads_max(function)); break; // MAX_THREADS_PER_BLOCK
        case 4: *value = 32; break;                         // NUM_REGS
        case 5: *value = module.ptx_version; break;         // PTX_VERSION
        case 6: *value = 75; break;                         // BINARY_VERSION
        default: *value = 0;
        }
        return which < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Function *handle, int threads,
                                                                  size_t shared_bytes) {
    return enter_function(__func__, handle, [&](Device &device, Function &function, Module &) {
        if (threads <= 0) return CUDA_ERROR_INVALID_VALUE;
        bool fits = unsigned(threads) <= threads_max(function) && shared_bytes == 0;
        *blocks = fits ? int(device.blocks_per_multiprocessor(unsigned(threads))) : 0;
        return CUDA_SUCCESS;
    });
}

struct Size {
    unsigned x, y, z;

    bool is_line() const { return x > 0 && y == 1 && z == 1; }
};

// A launch with its arguments as they are now.
static CUresult prepare(const Function &function, const Module &module, Size grid, Size block, unsigned shared_bytes,
                        void **parameters, std::shared_ptr<emulation::Launch> &launch) {
    // Kernels see one dimension, and no shared memory but what they declare.
    if (!grid.is_line() || !block.is_line() || shared_bytes != 0) return CUDA_ERROR_INVALID_VALUE;
    if (block.x > emulation::BLOCK_THREADS_MAX) return CUDA_ERROR_INVALID_VALUE;
    if (block.x > threads_max(function)) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    if (!parameters && function.parameters > 0) return CUDA_ERROR_INVALID_VALUE;
    launch = std::make_shared<emulation::Launch>();
    launch->name = function.kernel->name;
    launch->blocks = grid.x;
    launch->threads = block.x;
    launch->linked = module.linked;
    launch->run = function.kernel->bind(parameters);
    return CUDA_SUCCESS;
}

static CUresult launch(const char *call, Function *handle, Size grid, Size block, unsigned shared_bytes, void *stream_handle,
                       void **parameters, bool together) {
    return enter_function(call, handle, [&](Device &device, Function &function, Module &module) {
        std::shared_ptr<emulation::Launch> what;
        CUresult result = prepare(function, module, grid, block, shared_bytes, parameters, what);
        if (result != CUDA_SUCCESS) return result;
        unsigned at_once = device.blocks_per_multiprocessor(block.x) * unsigned(Driver::get().settings.multiprocessors);
        if (together && grid.x > at_once) return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
        auto stream = device.find_stream(stream_handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (together) device.launch_together(stream, std::move(what));
        else device.launch_in_turn(stream, {std::move(what)});
        device.wait_if_launches_block(stream);
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuLaunchKernel(Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                     unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **parameters,
                                     void **extra) {
    if (extra) return CUDA_ERROR_NOT_SUPPORTED;
    Size grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
    return launch(__func__, function, grid, block, shared_bytes, stream, parameters, false);
}

EMULATED_API CUresult cuLaunchCooperativeKernel(Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                                unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                                                void *stream, void **parameters) {
    if (bound && Driver::get().settings.maps_until_launch) bound->memory.unshare();
    Size grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
    return launch(__func__, function, grid, block, shared_bytes, stream, parameters, true);
}

} // namespace emulated

#include "driver_graph.hpp"
