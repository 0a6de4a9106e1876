//! The ring: how a command reaches a device and how its answer comes back.
//!
//! A *lane* is a pair of slot arrays in memory that host and device share. The host writes command *i* into slot
//! *i mod n*; the device writes the answer at the same place of the other array. Rules that make it correct on any bus:
//!
//! - only plain loads and stores cross; each word has one writer;
//! - every 8-byte word tells by its top bit whether it belongs to the current lap, so a torn slot is never taken for a
//!   whole one; the payload bits displaced travel in the header;
//! - nothing is cleared: the next lap's bit makes the old lap stale;
//! - a slot's staging area belongs to the device from the command until its answer.
//!
//! [`layout`] is the one description of the memory, [`HostLane`] the host half, [`DeviceLane`] the device half for
//! devices that run Rust, [`HostMemory`] what lies between them where such a device is a thread of the host. Both halves
//! are generic over the atomic word, so that loom can take its place in the tests.

mod device;
mod host;
pub mod layout;
mod memory;
mod slot;
mod word;

#[cfg(test)]
mod loom_tests;
#[cfg(test)]
mod tests;

pub use device::{DeviceLane, Reply};
pub use host::{HostCompletions, HostLane, HostSubmitter, Wake};
pub use memory::HostMemory;
pub use word::{Word, Words};
