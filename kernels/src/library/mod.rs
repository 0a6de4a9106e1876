//! The kernel library: one module for each kernel, with its id, declaration, checks and CPU twin.
//!
//! A kernel's module opens with its formula and what its buffers and scalars are; what a caller may rely on stands at
//! its id, and what holds for all of them at [`library`](library()). For a device: a call whose shape passes a kernel's
//! `check` cannot panic its twin, whatever its buffers hold. Whether the right buffers were named is the caller's to
//! check, from the declaration.

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
/// # Behavior
/// - **count**: A kernel works on the first `count` elements of each buffer; a count of 0 means all of input, or of
///   output when there is no input. Where a module says that the scalars or the constants tell the shape, `count` is
///   not looked at.
/// - **empty**: No elements are a size too: nothing is written, and a sum of nothing is 0. Kernels that need an element
///   refuse.
/// - **every-element**: No element is left out, however many there are and wherever a device's blocks and loops end.
/// - **bystanders**: Nothing is written but the elements that the kernel's module names: not behind them in output, not
///   in the other buffers.
/// - **integers**: Integers wrap, and every device gives the same bits.
/// - **overflow**: Sums of many floats do not overflow on the way; what exceeds f32 in the end is an infinity.
/// - **special-values**: NaN and the infinities spread by the rules of IEEE 754. Of a NaN that was computed neither
///   sign nor payload is told.
/// - **denormals**: Denormals are ordinary numbers, or zeros on a device that flushes them: what such a one enters as a
///   factor or a term may be missing then, and a result below 2⁻¹²⁶ may be 0. Where values are only copied or compared
///   they keep their bits.
/// - **buffers**: A call that names too few buffers, too many, or one twice where the kernel does not work in place is
///   answered `success: false` with the reason, and changes nothing.
/// - **shapes**: So is a call whose buffers are too small for its count, scalars and constants, or whose scalars are
///   outside their limits.
/// - **specializations**: An element type that the kernel does not declare is `Unsupported` and names those it does; a
///   constant that it does not declare is `KernelBuild`.
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
const TARGETS: &[&str] = &["cpu", "cuda", "vulkan"];

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
