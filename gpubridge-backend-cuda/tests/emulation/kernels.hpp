// The kernels that the emulated driver knows: the files that they stand in, and their names.
//
// Another set, for tests of the emulation itself: -DEMULATED_KERNELS='"their_kernels.hpp"', a file like this one.
#pragma once

#include "launch.hpp"

#ifdef EMULATED_KERNELS
#include EMULATED_KERNELS
#else

#if __has_include("ring.cu")
#include "ring.cu"
#define EMULATED_KERNEL_TABLE                                                                                                  \
    KERNEL(gpubridge_ring), KERNEL(gpubridge_beside_grid), KERNEL(gpubridge_beside_finish), KERNEL(gpubridge_user_grid),          \
        KERNEL(gpubridge_user_block)
#else
#define EMULATED_KERNEL_TABLE
#endif

#endif

namespace emulated {

inline const Kernel *find_kernel(const std::string &name) {
#define KERNEL(name) kernel<&name>(#name)
    static const std::vector<Kernel> KERNELS{EMULATED_KERNEL_TABLE};
#undef KERNEL
    for (const Kernel &kernel : KERNELS)
        if (name == kernel.name) return &kernel;
    return nullptr;
}

} // namespace emulated
