//! The lock of a lane's guard: parking_lot's; in this crate's own unit tests a double of it, whose order shuttle chooses.
//!
//! So `resident::model` runs the guard's real users in many orders. Nothing else in the crate's unit tests takes the
//! guard: outside of a model the double panics.

#[cfg(not(test))]
pub(crate) use parking_lot::{Mutex, MutexGuard};
#[cfg(test)]
pub(crate) use shuttle::sync::MutexGuard;

/// parking_lot's interface over shuttle's lock.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

#[cfg(test)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no panic under the guard")
    }
}
