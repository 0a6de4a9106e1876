// What the kernels ask of an element type, and what their declarations have in common: `kernels/src/library/number.rs`.
#pragma once

#include "../platform.cuh"

namespace gb {

// The buffers that a kernel uses, as bits.
constexpr u32 INPUT = 1, OPERAND = 2, OUTPUT = 4;
// In the ring up to this much work, beside it beyond.
constexpr u64 UP_TO_64_KI = 65536;
constexpr u64 ALWAYS = ~0ull;

// What carries a sum of many: f64 for f32. Integers wrap, and so are added up unsigned.
template <class T>
struct SumType { using Type = u32; };
template <>
struct SumType<f32> { using Type = f64; };
template <class T>
using SumOf = typename SumType<T>::Type;

} // namespace gb
