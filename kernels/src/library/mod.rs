//! The kernel library: one module for each kernel, with its id, declaration, checks and CPU twin.
//!
//! A kernel's module opens with its formula and what its buffers and scalars are. What holds for all of them:
//!
//! - **Checks.** A call whose shape passes a kernel's `check` cannot panic its twin, whatever its buffers hold, and
//!   writes nothing but the elements that the module names. Whether the right buffers were named is the caller's to
//!   check, from the declaration.
//! - **Count.** Kernels work on `count` elements: the first ones of each buffer. Where a module says that the scalars or
//!   the constants tell the shape, `count` is not looked at.
//! - **Integers** wrap, and every device gives the same bits.
//! - **Floats.** Sums of many terms are carried in f64 and rounded once: they do not overflow on the way, and what exceeds
//!   f32 in the end is an infinity. NaN and the infinities spread by the rules of IEEE 754, and of a NaN that was
//!   computed neither sign nor payload is told. Denormals are ordinary numbers; a device that flushes them differs by
//!   up to 2⁻¹²⁶ for each term.

pub mod add;
pub mod copy;
pub mod dot;
pub mod fill;
pub mod histogram;
pub mod inclusive_scan;
pub mod matmul;
pub mod matvec;
pub mod mean_variance;
pub mod min_max;
pub mod saxpy;
pub mod scale;
pub mod sum;
pub mod top_k;
pub mod window_zscore;

mod number;
mod sums;

use gpubridge_abstractions::{CallShape, Placement, Tolerance};

use crate::KernelLibrary;

/// The ids of the library's kernels. They never change meaning.
pub mod id {
    pub use super::add::ADD;
    pub use super::copy::COPY;
    pub use super::dot::DOT;
    pub use super::fill::FILL;
    pub use super::histogram::HISTOGRAM;
    pub use super::inclusive_scan::INCLUSIVE_SCAN;
    pub use super::matmul::MATMUL;
    pub use super::matvec::MATVEC;
    pub use super::mean_variance::MEAN_VARIANCE;
    pub use super::min_max::MIN_MAX;
    pub use super::saxpy::SAXPY;
    pub use super::scale::SCALE;
    pub use super::sum::SUM;
    pub use super::top_k::TOP_K;
    pub use super::window_zscore::WINDOW_ZSCORE;
}

/// The kernels that come with the crate, in the order of their ids; a user's own are registered beside them.
///
/// ```
/// use gpubridge_abstractions::{
///     BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Placement, Tolerance,
/// };
/// use gpubridge_kernels::{Answer, Invocation, Kernel, library};
///
/// /// `output[i] = |input[i]|`
/// fn absolute(call: &Invocation<'_>, _: &mut Answer) {
///     for index in 0..call.count {
///         call.output.set(index, call.input.get::<f32>(index).abs());
///     }
/// }
///
/// fn check(shape: &CallShape) -> Result<(), &'static str> {
///     let [input, _, output] = shape.elements;
///     if shape.count <= input.min(output) { Ok(()) } else { Err("a buffer holds fewer elements than count") }
/// }
///
/// let mut kernels = library();
/// kernels.register(Kernel::from_twins(
///     KernelDeclaration {
///         id: KernelId::FIRST_USER,
///         name: "absolute",
///         summary: "output = |input|",
///         elements: &[ElementType::F32],
///         buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
///         scalars: &[],
///         constants: &[],
///         in_place: true,
///         stateful: false,
///         placement: Placement::InRingUpTo(65_536),
///         check,
///         work: |shape| shape.count,
///         tolerance: Tolerance::Exact,
///         targets: &["cpu"],
///     },
///     &[(ElementType::F32, absolute)],
/// ))?;
/// assert!(kernels.find(KernelId::FIRST_USER).is_some());
/// # Ok::<(), gpubridge_abstractions::Error>(())
/// ```
pub fn library() -> KernelLibrary {
    let mut library = KernelLibrary::empty();
    for kernel in [
        fill::kernel(),
        copy::kernel(),
        scale::kernel(),
        add::kernel(),
        saxpy::kernel(),
        dot::kernel(),
        sum::kernel(),
        min_max::kernel(),
        mean_variance::kernel(),
        inclusive_scan::kernel(),
        histogram::kernel(),
        top_k::kernel(),
        matvec::kernel(),
        matmul::kernel(),
        window_zscore::kernel(),
    ] {
        library.register(kernel).expect("the library's ids and names differ");
    }
    library
}

/// The targets that the library's kernels have variants for.
const TARGETS: &[&str] = &["cpu"];

/// In the ring up to 64 Ki element operations, a fraction of a millisecond on one core: longer ones would hold up the
/// other grains of their lane.
const UP_TO_64_KI: Placement = Placement::InRingUpTo(65_536);

/// For a result of one rounding, in whichever direction a device rounds; for several, that many times as much.
const ONE_ROUNDING: f32 = f32::EPSILON;

/// For sums of many terms. A device that cannot add in f64 keeps it in f32 when no partial sum is a chain of more than
/// 128 additions: (128 + log₂ of the number of partial sums) · 2⁻²⁴ < 1e-5 (Higham, *Accuracy and Stability of
/// Numerical Algorithms*, section 4.2).
const LONG_SUM: Tolerance = Tolerance::Relative(1e-5);

const INPUT_SHORT: &str = "input holds fewer elements than the call works on";
const OPERAND_SHORT: &str = "operand holds fewer elements than the call works on";
const OUTPUT_SHORT: &str = "output holds fewer elements than the call writes";

/// A step of a check: an error that says `why` unless it `holds`.
fn require(holds: bool, why: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(why) }
}

/// The work of a kernel that does one thing with each element.
fn one_each(shape: &CallShape) -> u64 {
    shape.count
}
