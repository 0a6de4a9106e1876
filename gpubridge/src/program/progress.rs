//! A progress bar, where somebody is there to see it.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::source::Opened;

/// Shows on a terminal how far a run is; elsewhere nothing.
pub struct Progress {
    bar: Option<ProgressBar>,
    consumed_bytes: Arc<AtomicU64>,
}

impl Progress {
    /// A bar for this input, if standard error is a terminal.
    pub fn for_input(source: &Opened) -> Self {
        let bar = stderr().is_terminal().then(|| match source.stored_bytes {
            Some(bytes) => {
                let style = ProgressStyle::with_template("{wide_bar} {percent}% · {msg} · {eta}");
                ProgressBar::new(bytes).with_style(style.expect("a constant template that is valid"))
            }
            None => ProgressBar::new_spinner(),
        });
        Progress { bar, consumed_bytes: Arc::clone(&source.consumed_bytes) }
    }

    /// A bar for a run of so many operations, if standard error is a terminal.
    pub fn of_operations(name: &'static str, operations: u64) -> Self {
        let style = || ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of {human_len} · {eta}");
        let bar = || ProgressBar::new(operations).with_style(style().expect("a constant template that is valid"));
        let bar = stderr().is_terminal().then(|| bar().with_message(name));
        Progress { bar, consumed_bytes: Arc::default() }
    }

    /// So many operations were done.
    pub fn set_operations(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// No bar.
    pub fn hidden() -> Self {
        Progress { bar: None, consumed_bytes: Arc::default() }
    }

    /// This many rows have been read.
    pub fn update(&self, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.consumed_bytes.load(Ordering::Relaxed));
            bar.set_message(format!("{rows} rows"));
        }
    }
}

impl Drop for Progress {
    /// The bar goes away however the run ends; the next line belongs to the report or the error.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
