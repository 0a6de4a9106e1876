// `inclusive_scan`, see `kernels/src/library/inclusive_scan.rs`.
const uint INCLUSIVE_SCAN = 10;

// The running sum of `count` elements from `first` on, with `before` as the sum of those before, by a workgroup.
void scan_f32(uint first, uint count, double before) {
    EACH(workgroup(), turn, count) {
        uvec4 at = places(workgroup(), turn);
        double total;
        dvec4 sum = before + scan(wide(load(call.input_words, first, 1, at, count)), total);
        store(call.output_words, first, at, count, uvec4(narrow(sum.x), narrow(sum.y), narrow(sum.z), narrow(sum.w)));
        before += total;
    }
}

// Of all integers: they wrap, signed or not.
void scan_u32(uint first, uint count, uint before) {
    EACH(workgroup(), turn, count) {
        uvec4 at = places(workgroup(), turn);
        uint total;
        uvec4 sum = before + scan(load(call.input_words, first, 1, at, count), total);
        store(call.output_words, first, at, count, sum);
        before += total;
    }
}

#ifdef WALK
void inclusive_scan_f32_run() { scan_f32(0, call.count, 0); }
void inclusive_scan_u32_run() { scan_u32(0, call.count, 0); }
#else
// Each workgroup has a stretch of the elements.
void inclusive_scan_f32_run_phase(uint phase) {
    Stretch part = stretch_of(call.count);
    if (phase == 0) {
        dvec4 sum = dvec4(0);
        EACH(workgroup(), turn, part.count) {
            sum += wide(load(call.input_words, part.first, 1, places(workgroup(), turn), part.count));
        }
        keep(0, reduce_plus(sum_of(sum)));
    } else {
        scan_f32(part.first, part.count, joined_f64(0, block_rank()));
    }
}

void inclusive_scan_u32_run_phase(uint phase) {
    Stretch part = stretch_of(call.count);
    if (phase == 0) {
        uvec4 sum = uvec4(0);
        EACH(workgroup(), turn, part.count) {
            sum += load(call.input_words, part.first, 1, places(workgroup(), turn), part.count);
        }
        keep(0, reduce_plus(sum_of(sum)));
    } else {
        scan_u32(part.first, part.count, joined_u32(0, block_rank()));
    }
}
#endif
