// A phase of one operation, by all workgroups of the dispatch.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require

layout(local_size_x = 128) in;

#define TEAM_RANK gl_GlobalInvocationID.x
#define TEAM_SIZE (128 * gl_NumWorkGroups.x)
#define COUNTING_SCOPE gl_ScopeQueueFamily

// Addresses, and which phase.
layout(push_constant) uniform Given {
    uvec2 operation;
    uvec2 answers;
    // What the workgroups keep from phase to phase.
    uvec2 partials;
    uint phase;
} given;

#include "sync.glsl"
#include "call.glsl"
#include "team.glsl"
#include "each.glsl"
#include "number.glsl"
#include "grid.glsl"
#include "copies.glsl"
#include "library/library.glsl"

void main() {
    Words operation = Words(given.operation);
    take(operation);
    uint phases = run();
    if (gl_WorkGroupID.x == 0 && given.phase + 1 >= phases) {
        answer_with(given.answers, operation, phases > 0 ? WRITTEN : UNKNOWN);
    }
}
