// `histogram`, see `kernels/src/library/histogram.rs`.
const uint HISTOGRAM = 11;

void empty_bins(Team by) {
    uint bins = call.scalars[2];
    EACH(by, turn, bins) store(call.output_words, places(by, turn), bins, uvec4(0));
}

// offset · bins / width, exactly, for an offset below the width: f64 comes within one of the quotient, and the products tell.
uint bin_of_offset(uint offset, uint width, uint bins) {
    double about = double(offset) * double(bins) / double(width);
    uint bin = uint(min(about, double(bins - 1)));
    uint high, low, of_bin_high, of_bin_low, borrow;
    umulExtended(offset, bins, high, low);
    umulExtended(bin, width, of_bin_high, of_bin_low);
    uint rest = usubBorrow(low, of_bin_low, borrow), rest_high = high - of_bin_high - borrow;
    // Negative: one too many.
    if (rest_high >> 31 != 0 && (high < of_bin_high || (high == of_bin_high && low < of_bin_low))) return bin - 1;
    return rest_high != 0 || rest >= width ? bin + 1 : bin;
}

uint bin_of_number(double x, double lo, double hi, uint bins) {
    return uint(min((x - lo) * double(bins) / (hi - lo), double(bins - 1)));
}

void count_bins(Team by) {
    uint element = call.what & 3, lo = call.scalars[0], hi = call.scalars[1], bins = call.scalars[2];
    bool is_number = element == F32;
    bool has_width = !is_number || (is_finite(lo) && is_finite(hi));
    double wide_lo = wide(lo), wide_hi = wide(hi);
    // Signed integers are in order once the sign is turned.
    uint turned = element == I32 ? 0x80000000 : 0;
    uint width = hi - lo;
    EACH(by, turn, call.count) {
        uvec4 at = places(by, turn), x = load(call.input_words, at, call.count);
#define COUNT(c)                                                                                              \
        if (at.c < call.count && has_width) {                                                                 \
            if (is_number) {                                                                                  \
                double number = wide(x.c);                                                                    \
                if (!is_nan(x.c) && wide_lo <= number && number < wide_hi) {                                  \
                    count_one(call.output_words, bin_of_number(number, wide_lo, wide_hi, bins));              \
                }                                                                                             \
            } else if ((lo ^ turned) <= (x.c ^ turned) && (x.c ^ turned) < (hi ^ turned)) {                   \
                count_one(call.output_words, bin_of_offset(x.c - lo, width, bins));                           \
            }                                                                                                 \
        }
        FOUR(COUNT)
    }
}

#ifdef WALK
void histogram_run() {
    empty_bins(team());
    sync();
    count_bins(team());
}
#else
void histogram_run_phase(uint phase) {
    if (phase == 0) empty_bins(team());
    else count_bins(team());
}
#endif
