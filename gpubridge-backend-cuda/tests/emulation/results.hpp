// Result codes and types of the CUDA driver API, as far as the emulated driver uses them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulated {

// Code, name, and what the driver says of it.
#define EMULATED_RESULTS(RESULT)                                                                                               \
    RESULT(0, CUDA_SUCCESS, "no error")                                                                                        \
    RESULT(1, CUDA_ERROR_INVALID_VALUE, "invalid argument")                                                                    \
    RESULT(2, CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                                                       \
    RESULT(3, CUDA_ERROR_NOT_INITIALIZED, "initialization error")                                                              \
    RESULT(4, CUDA_ERROR_DEINITIALIZED, "driver shutting down")                                                                \
    RESULT(34, CUDA_ERROR_STUB_LIBRARY, "CUDA driver is a stub library")                                                       \
    RESULT(46, CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA-capable device(s) is/are busy or unavailable")                             \
    RESULT(100, CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                                                    \
    RESULT(101, CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                                           \
    RESULT(200, CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")                                                    \
    RESULT(201, CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                                          \
    RESULT(209, CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device")                      \
    RESULT(214, CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered")                                           \
    RESULT(218, CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed")                                                        \
    RESULT(220, CUDA_ERROR_NVLINK_UNCORRECTABLE, "uncorrectable NVLink error detected during the execution")                   \
    RESULT(221, CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "PTX JIT compiler library not found")                                       \
    RESULT(222, CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain")             \
    RESULT(304, CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS")                           \
    RESULT(400, CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                                                          \
    RESULT(401, CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state")                            \
    RESULT(500, CUDA_ERROR_NOT_FOUND, "named symbol not found")                                                                \
    RESULT(600, CUDA_ERROR_NOT_READY, "device not ready")                                                                      \
    RESULT(700, CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")                                        \
    RESULT(701, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")                                 \
    RESULT(702, CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated")                                          \
    RESULT(708, CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "cannot set while device is active in this process")                        \
    RESULT(709, CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed")                                                       \
    RESULT(710, CUDA_ERROR_ASSERT, "device-side assert triggered")                                                             \
    RESULT(714, CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error")                                                       \
    RESULT(715, CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered")                                      \
    RESULT(716, CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address")                                                           \
    RESULT(717, CUDA_ERROR_INVALID_ADDRESS_SPACE, "operation not supported on global/shared address space")                    \
    RESULT(718, CUDA_ERROR_INVALID_PC, "invalid program counter")                                                              \
    RESULT(719, CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure")                                                        \
    RESULT(720, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch")                              \
    RESULT(800, CUDA_ERROR_NOT_PERMITTED, "operation not permitted")                                                           \
    RESULT(801, CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                                           \
    RESULT(802, CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized")                                                     \
    RESULT(803, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "system has unsupported display driver / cuda driver combination")          \
    RESULT(804, CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, "forward compatibility was attempted on non supported HW")          \
    RESULT(999, CUDA_ERROR_UNKNOWN, "unknown error")

enum CUresult : int {
#define EMULATED_RESULT(code, name, text) name = code,
    EMULATED_RESULTS(EMULATED_RESULT)
#undef EMULATED_RESULT
};

// After these a context is of no more use: each later call on it returns the same.
inline bool loses_the_device(CUresult result) {
    return result == CUDA_ERROR_ECC_UNCORRECTABLE || result == CUDA_ERROR_NVLINK_UNCORRECTABLE ||
           result == CUDA_ERROR_ILLEGAL_ADDRESS || result == CUDA_ERROR_LAUNCH_TIMEOUT || result == CUDA_ERROR_ASSERT ||
           (result >= CUDA_ERROR_HARDWARE_STACK_ERROR && result <= CUDA_ERROR_LAUNCH_FAILED);
}

using CUdevice = int;
using CUdeviceptr = unsigned long long;

struct CUuuid {
    char bytes[16];
};

// The numbers of the API that callers pass in.
enum : unsigned { CU_STREAM_NON_BLOCKING = 1, CU_EVENT_DISABLE_TIMING = 2 };
enum : int { CU_MODULE_EAGER_LOADING = 1, CU_MODULE_LAZY_LOADING = 2 };
enum : int { CU_JIT_ERROR_LOG_BUFFER = 5, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6 };

} // namespace emulated
