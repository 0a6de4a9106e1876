//! Kernels: every one of the library on the device under test against its CPU twin on the host, and kernels of a user's
//! own.
//!
//! Inputs are random with fixed seeds. Integers must be equal to the bit, floats within the tolerance that the kernel
//! declares; what it says of NaN, infinities, denormals and -0.0 is in the documentation of its id.

mod elementwise;
mod lab;
mod library;
mod matrices;
mod reductions;
mod tables;
mod users;
mod window;

use elementwise::{
    add_adds, add_of_special_values, add_works_in_place, copy_keeps_every_bit, copy_onto_itself_changes_nothing,
    fill_stores_its_bits, saxpy_multiplies_and_adds, saxpy_of_special_values, saxpy_works_in_place, scale_multiplies,
    scale_of_special_values, scale_works_in_place,
};
use library::{
    denormals_are_numbers_or_zeros, every_element_takes_part, integers_wrap, nan_and_infinities_spread,
    no_elements_are_a_size_too, nothing_else_is_written, shapes_that_do_not_fit_are_refused,
    sums_do_not_overflow_on_the_way, the_first_count_elements_are_worked_on,
    undeclared_types_and_constants_are_refused, wrong_buffers_are_refused,
};
use matrices::{
    matmul_multiplies_rows_with_columns, matmul_of_special_values, matvec_multiplies_each_row, matvec_of_special_values,
};
use reductions::{
    dot_adds_products, dot_of_a_vector_with_itself, mean_variance_keeps_its_tolerance, mean_variance_of_special_values,
    min_max_finds_both, min_max_passes_over_nan, sum_adds,
};
use tables::{
    histogram_counts_every_element, histogram_of_special_values, scan_is_the_running_sum, scan_works_in_place,
    top_k_finds_the_largest, top_k_of_special_values,
};
use users::{a_kernel_computes_the_same_in_the_ring_and_beside_it, work_beyond_the_placement_holds_up_no_other_grain};
use window::{
    window_constants_at_their_limits, window_refuses_what_is_not_finite, window_scores_agree, window_state_is_carried,
};

use crate::Case;

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("kernels",
    Compute {
        fill_stores_its_bits => "FILL/values",
        copy_keeps_every_bit => "COPY/values",
        copy_onto_itself_changes_nothing => "COPY/in-place",
        scale_multiplies => "SCALE/values",
        scale_works_in_place => "SCALE/in-place",
        scale_of_special_values => "SCALE/special-values",
        add_adds => "ADD/values",
        add_works_in_place => "ADD/in-place",
        add_of_special_values => "ADD/special-values",
        saxpy_multiplies_and_adds => "SAXPY/values",
        saxpy_works_in_place => "SAXPY/in-place",
        saxpy_of_special_values => "SAXPY/special-values",
        dot_adds_products => "DOT/values",
        dot_of_a_vector_with_itself => "DOT/in-place",
        sum_adds => "SUM/values",
        min_max_finds_both => "MIN_MAX/values",
        min_max_passes_over_nan => "MIN_MAX/special-values",
        mean_variance_keeps_its_tolerance => "MEAN_VARIANCE/values",
        mean_variance_of_special_values => "MEAN_VARIANCE/special-values",
        scan_is_the_running_sum => "INCLUSIVE_SCAN/values",
        scan_works_in_place => "INCLUSIVE_SCAN/in-place",
        histogram_counts_every_element => "HISTOGRAM/values",
        histogram_of_special_values => "HISTOGRAM/special-values",
        top_k_finds_the_largest => "TOP_K/values",
        top_k_of_special_values => "TOP_K/special-values",
        matvec_multiplies_each_row => "MATVEC/values",
        matvec_of_special_values => "MATVEC/special-values",
        matmul_multiplies_rows_with_columns => "MATMUL/values",
        matmul_of_special_values => "MATMUL/special-values",
        window_scores_agree => "WINDOW_ZSCORE/values",
        window_state_is_carried => "WINDOW_ZSCORE/state",
        window_constants_at_their_limits => "WINDOW_ZSCORE/constants",
        window_refuses_what_is_not_finite => "WINDOW_ZSCORE/special-values",
        the_first_count_elements_are_worked_on => "library/count",
        no_elements_are_a_size_too => "library/empty",
        nothing_else_is_written => "library/bystanders",
        integers_wrap => "library/integers",
        every_element_takes_part => "library/every-element",
        sums_do_not_overflow_on_the_way => "library/overflow",
        nan_and_infinities_spread => "library/special-values",
        denormals_are_numbers_or_zeros => "library/denormals",
        wrong_buffers_are_refused => "library/buffers",
        shapes_that_do_not_fit_are_refused => "library/shapes",
        undeclared_types_and_constants_are_refused => "library/specializations",
    }
    Twins {
        a_kernel_computes_the_same_in_the_ring_and_beside_it => "Placement/same-result",
        work_beyond_the_placement_holds_up_no_other_grain => "Placement::InRingUpTo/beyond",
    }
);
