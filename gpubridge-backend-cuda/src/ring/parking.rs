//! Windows, as a ring sees them: its kernel ends, is launched again over the same memory, and goes on where it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind};

use super::{Core, PAUSE, REACHED, Told, Wanted, state_of};

/// A window that is to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// What it is for, as errors name it.
    pub(crate) operation: &'static str,
    /// How long it may take until it is open.
    pub(crate) deadline: Duration,
    /// Whether it waits for what is at work beside the rings, and lets nothing else begin.
    pub(crate) drains: bool,
}

impl Core {
    /// Has these rings parked: their kernels end as soon as what was begun in them is ended, and with a window that drains what is
    /// beside them.
    ///
    /// In two steps: blocks that have left cannot be told to go on, so none leaves before all have nothing begun.
    ///
    /// # Errors
    /// `Timeout` when one does not. [`Core::go_on`] is to be called either way.
    pub(crate) fn park_all(rings: &[Arc<Self>], window: Window) -> Result<(), Error> {
        let until = Instant::now() + window.deadline;
        rings.iter().for_each(|ring| ring.tell_to_hold(window));
        wait_for_each(rings, until, window, Self::holds)?;
        rings.iter().for_each(|ring| ring.tell_to_exit());
        wait_for_each(rings, until, window, Self::is_at_rest)
    }

    fn tell_to_hold(&self, window: Window) {
        let mut life = self.life.lock();
        life.in_window = true;
        // A ring that is to stop ends by itself.
        if life.end.is_none() && life.told == Told::Desired && state_of(life.desired) != Wanted::Stop as u8 {
            let word = life.word(if window.drains { Wanted::Hold } else { Wanted::Pause });
            life.told = Told::Hold(word);
            self.tell(word);
        }
    }

    /// Whether nothing of the ring is begun, or is to hold no more.
    fn holds(&self, window: Window) -> Result<bool, Error> {
        let Told::Hold(word) = self.life.lock().told else { return Ok(true) };
        Ok(self.control_words(REACHED).all(|reached| reached == word) || self.is_at_rest(window)?)
    }

    fn tell_to_exit(&self) {
        let mut life = self.life.lock();
        if life.end.is_none() && matches!(life.told, Told::Hold(_)) {
            life.told = Told::Exit;
            let word = life.word(Wanted::Exit);
            self.tell(word);
        }
    }

    /// Whether nothing is on the device that the window waits for.
    fn is_at_rest(&self, window: Window) -> Result<bool, Error> {
        if self.life.lock().end.is_some() {
            return Ok(true);
        }
        Ok(self.stream.is_done()? && (!window.drains || self.gpu.is_drained()?))
    }

    /// Closes the window, and launches a kernel again that has ended in it.
    pub(crate) fn go_on(&self) {
        let mut life = self.life.lock();
        life.in_window = false;
        if life.end.is_none() && matches!(life.told, Told::Hold(_)) {
            life.told = Told::Desired;
            self.tell(life.desired);
        }
        drop(life);
        if let Err(error) = self.look_after(false) {
            self.lose(&error);
        }
    }
}

/// Waits until all of these rings have come to something.
fn wait_for_each(
    rings: &[Arc<Core>],
    until: Instant,
    window: Window,
    to: fn(&Core, Window) -> Result<bool, Error>,
) -> Result<(), Error> {
    for ring in rings {
        while !to(ring, window)? {
            if Instant::now() >= until {
                let what = if window.drains { "work beside it has not ended" } else { "a command has not ended" };
                let why = format!("a ring does not park: {what}; try again when it has");
                return Err(Error::new(ErrorKind::Timeout, window.operation, why));
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}
