// What the kernels ask of an element type, and what their declarations have in common: `kernels/src/library/number.rs`.
#pragma once

#include "platform.cuh"

namespace gb {

// The element types on the wire.
constexpr u32 F32 = 0, I32 = 1, U32 = 2;
// The buffers that a kernel uses, as bits.
constexpr u32 INPUT = 1, OPERAND = 2, OUTPUT = 4;
// In the ring up to this much work, beside it beyond.
constexpr u64 UP_TO_64_KI = 65536;
constexpr u64 ALWAYS = ~0ull;

GB_DEVICE u64 saturating_add(u64 a, u64 b) { return a + b < a ? ~0ull : a + b; }

GB_DEVICE u64 saturating_mul(u64 a, u32 b) {
    // The product without its lowest 32 bits.
    u64 high = (a >> 32) * b + (u64(u32(a)) * b >> 32);
    return high >> 32 != 0 ? ~0ull : a * b;
}

// No f32 has these orders.
constexpr i32 LOWEST_ORDER = -0x7fffffff - 1, HIGHEST_ORDER = 0x7fffffff;

template <class T>
struct Number;

template <>
struct Number<f32> {
    // What carries a sum of many.
    using Sum = f64;

    GB_MEMBER static bool is_finite(f32 x) { return (bit_cast<u32>(x) & 0x7f800000) != 0x7f800000; }

    // An integer that is ordered as the numbers are, with -0.0 below +0.0; `of_nan` for NaN.
    GB_MEMBER static i32 order(f32 x, i32 of_nan) { return x != x ? of_nan : turn(bit_cast<i32>(x)); }

    // The number with this order; NaN if none has it.
    GB_MEMBER static f32 from_order(i32 order) {
        f32 x = bit_cast<f32>(turn(order));
        return x != x ? bit_cast<f32>(0x7fc00000) : x;
    }

private:
    GB_MEMBER static i32 turn(i32 bits) { return bits < 0 ? bits ^ 0x7fffffff : bits; }
};

template <>
struct Number<i32> {
    // Integers wrap, which only unsigned ones may.
    using Sum = u32;

    GB_MEMBER static bool is_finite(i32) { return true; }
    GB_MEMBER static i32 order(i32 x, i32) { return x; }
    GB_MEMBER static i32 from_order(i32 order) { return order; }
};

template <>
struct Number<u32> {
    using Sum = u32;

    GB_MEMBER static bool is_finite(u32) { return true; }
    GB_MEMBER static i32 order(u32 x, i32) { return i32(x ^ 1u << 31); }
    GB_MEMBER static u32 from_order(i32 order) { return u32(order) ^ 1u << 31; }
};

} // namespace gb
