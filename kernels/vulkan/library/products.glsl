// Sums of products of f32, carried in f64, where the products are exact: of `matvec` and `matmul`.

// What falls to this thread of the team of Σ input[first + p] · operand[column + p · stride].
double partial_products(Team by, uint first, uint column, uint stride, uint count) {
    dvec4 sum = dvec4(0);
    EACH(by, turn, count) {
        uvec4 at = places(by, turn);
        sum += wide(load(call.input_words, first, 1, at, count)) * wide(load(call.operand, column, stride, at, count));
    }
    return sum_of(sum);
}

// All m · n elements of the product of `input`, with rows of k, and `operand`, with rows of n; both are row-major.
void multiply(Team by, uint m, uint k, uint n) {
    uint all = m * n;
    // Threads side by side read what lies side by side: a row together, or each a column. Several threads for each sum also where
    // there are too few sums for all threads.
    if (k >= 32 && (n == 1 || all < by.size)) {
        uint together = k < 512 ? 32 : THREADS, at_once = by.size / together;
        Team few = Team(by.rank % together, together);
        // The whole workgroup takes as many turns: it adds up together.
        FOR_TURNS(turn, turns_of(all, at_once)) {
            uint i = turn * at_once + by.rank / together;
            double sum = i < all ? partial_products(few, i / n * k, i % n, n, k) : 0;
            sum = reduce_plus_of(together, sum);
            if (i < all && few.rank == 0) call.output_words.words[i] = narrow(sum);
        }
    } else {
        FOR_TURNS(turn, turns_of(all, by.size)) {
            uint i = turn * by.size + by.rank;
            if (i < all) call.output_words.words[i] = narrow(partial_products(Team(0, 1), i / n * k, i % n, n, k));
        }
    }
}
