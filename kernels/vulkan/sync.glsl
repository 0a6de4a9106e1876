// What the two memory models differ in: how words in device memory are declared, how a workgroup comes together, and atomics.
//
// With MEMORY_MODEL it is Vulkan's own memory model; without, that of devices which do not have it.
#ifdef MEMORY_MODEL
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
#define SHARED_BY_THREADS nonprivate
#else
#define SHARED_BY_THREADS coherent
#endif

// Device memory by its address.
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words {
    // On the member: on the block the compiler drops it.
    SHARED_BY_THREADS uint words[];
};

// All threads of the workgroup come here, and see what each has written before.
void sync() {
#ifdef MEMORY_MODEL
    controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, gl_StorageSemanticsBuffer | gl_StorageSemanticsShared,
                   gl_SemanticsAcquireRelease | gl_SemanticsMakeAvailable | gl_SemanticsMakeVisible);
#else
    memoryBarrierBuffer();
    memoryBarrierShared();
    barrier();
    // Ahead of what is read next: the barrier by itself orders shared memory alone.
    memoryBarrierBuffer();
#endif
}

void count_one(Words into, uint at) {
#ifdef MEMORY_MODEL
    atomicAdd(into.words[at], 1, COUNTING_SCOPE, gl_StorageSemanticsBuffer, gl_SemanticsRelaxed);
#else
    atomicAdd(into.words[at], 1);
#endif
}
