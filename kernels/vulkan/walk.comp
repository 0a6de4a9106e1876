// Each workgroup runs a list of operations, one behind the other, and waits for no other workgroup.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require

layout(local_size_x = 128) in;

#define WALK
#define TEAM_RANK gl_LocalInvocationIndex
#define TEAM_SIZE 128
// No other workgroup counts into the same words.
#define COUNTING_SCOPE gl_ScopeWorkgroup

// Addresses.
layout(push_constant) uniform Given {
    // The first operation and how many, for each workgroup.
    uvec2 lists;
    uvec2 operations;
    uvec2 answers;
} given;

#include "sync.glsl"
#include "call.glsl"
#include "team.glsl"
#include "each.glsl"
#include "number.glsl"
#include "copies.glsl"
#include "library/library.glsl"

void main() {
    Words list = record(given.lists, gl_WorkGroupID.x, 2);
    uint first = list.words[0], count = list.words[1];
    FOR_TURNS(i, count) {
        Words operation = record(given.operations, first + i, OPERATION_WORDS);
        take(operation);
        answer_with(given.answers, operation, run() > 0 ? WRITTEN : UNKNOWN);
        // The next operation may read what this one has written.
        sync();
    }
}
