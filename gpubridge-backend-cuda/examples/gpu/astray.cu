// A kernel of a user's own that writes where no memory is: for the fault drill.
#include "gpubridge.cuh"

struct Astray : gb::UserKernel {
    template <class Team>
    GB_MEMBER static void run(const Team &team, const gb::Call &call, gb::Answer &) {
        // Wherever the caller says.
        if (team.rank() == 0) *reinterpret_cast<volatile gb::u32 *>(call.scalars.words[0]) = 1;
    }
};
GPUBRIDGE_KERNEL(Astray)
