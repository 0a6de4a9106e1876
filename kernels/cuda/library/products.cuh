// Sums of products of f32, carried in f64, where the products are exact: of `dot`, `matvec` and `matmul`.
#pragma once

#include "call.cuh"
#include "team.cuh"
#include "each.cuh"

namespace gb {

// Σ row[p] · column[p · stride] over those p below `count` that fall to this thread of the team.
template <class Team>
GB_DEVICE f64 partial_sum_of_products(const Team &team, const u32 *row, const u32 *column, u64 stride, u64 count) {
    f64 sum = 0;
    auto product = [&](u64 p) { return f64(bit_cast<f32>(row[p])) * f64(bit_cast<f32>(column[p * stride])); };
    each(team, count, product, [&](u64, f64 x) { sum += x; });
    return sum;
}

// The same over all p, in every thread of the team.
template <class Team>
GB_DEVICE f64 sum_of_products(const Team &team, const u32 *row, const u32 *column, u64 stride, u64 count) {
    return team.reduce(partial_sum_of_products(team, row, column, stride, count), Plus{});
}

// Element i of the matrix `input`, with rows of k, times the matrix `operand`, with rows of n; both are row-major.
template <class Team>
GB_DEVICE f32 element_of_product(const Team &team, const Call &call, u64 k, u64 n, u64 i) {
    return f32(sum_of_products(team, call.input.words + i / n * k, call.operand.words + i % n, n, k));
}

// All m · n elements of the product.
template <class Team>
GB_DEVICE void multiply(const Team &team, const Call &call, u64 m, u64 k, u64 n) {
    // The threads of a warp read what lies side by side: a row together, or each a column. A warp for each sum also
    // where there are too few of them for all threads.
    if (k >= WARP && (n == 1 || m * n < team.size())) {
        for (u64 i = team.warp(); i < m * n; i += team.warps()) {
            f32 sum = element_of_product(Warp{}, call, k, n, i);
            if (Warp{}.rank() == 0) call.output.set(i, sum);
        }
    } else {
        for (u64 i = team.rank(); i < m * n; i += team.size()) {
            call.output.set(i, element_of_product(Thread{}, call, k, n, i));
        }
    }
}

} // namespace gb
