// `mix` of `kernel.rs`, for CUDA.
#include "gpubridge.cuh"

struct Mix : gb::UserKernel {
    static constexpr gb::u64 STATE_ELEMENTS = 2;

    GB_MEMBER static bool check(const gb::Call &call) { return call.output.count >= STATE_ELEMENTS; }
    GB_MEMBER static gb::u64 work(const gb::Call &) { return STATE_ELEMENTS; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const gb::Call &call, gb::Answer &answer) {
        gb::u32 before = call.output.get<gb::u32>(0), count = call.output.get<gb::u32>(1) + 1;
        gb::u32 after = before << 5 | before >> 27;
        for (gb::u32 i = 0; i < 6; ++i) after += call.scalars.bits(i);
        // All threads have read before one writes.
        team.sync();
        if (team.rank() == 0) {
            call.output.set(0, after);
            call.output.set(1, count);
        }
        answer.push(before);
        answer.push(after);
        answer.push(count);
    }
};
GPUBRIDGE_KERNEL(Mix)
