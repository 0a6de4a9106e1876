//! The ring (layout and both halves) and the kernel library of gpubridge, each kernel with its CPU twin.
//!
//! The ring crosses a bus by plain loads and stores of eight bytes; half-written slots are never read, and answers may
//! come in any order. A call whose shape passes a kernel's check cannot panic its twin, whatever the buffers hold, and
//! writes only what the kernel's module names; every other variant is compared with the twin. Users register kernels by
//! the path that the library's own take.
//!
//! ```
//! use std::cell::Cell;
//!
//! use gpubridge_abstractions::{CallShape, KernelSpec, PAYLOAD_WORDS, Scalars};
//! use gpubridge_kernels::{Answer, Elements, Invocation, id::SUM, library};
//!
//! // What a device does with a call: find, compile, check, run.
//! let kernels = library();
//! let kernel = kernels.find(SUM).expect("it comes with the library");
//! let twin = kernel.cpu.as_ref().expect("each has a twin")(&KernelSpec::from(SUM))?;
//! let input = [1.0_f32, 2.0, 3.5].map(|value| Cell::new(value.to_bits()));
//! let scalars = Scalars::default();
//! (kernel.declaration.check)(&CallShape { elements: [3, 0, 0], count: 3, scalars, constants: [0; 2] })?;
//!
//! let mut words = [0; PAYLOAD_WORDS];
//! let [operand, output] = [Elements::new(&[]); 2];
//! let call = Invocation { input: Elements::new(&input), operand, output, count: 3, scalars };
//! twin(&call, &mut Answer::new(&mut words));
//! assert_eq!(f32::from_bits(words[0] as u32), 6.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod cuda;
pub mod device;
mod element;
mod kernel;
pub mod library;
pub mod ring;
pub mod vulkan;

pub use element::{Element, Elements};
pub use kernel::{Answer, CompileCpu, CpuKernel, Invocation, Kernel, KernelLibrary, Twin};
pub use library::{id, library};
