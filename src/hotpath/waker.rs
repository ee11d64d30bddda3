//! Ending a wait from any thread.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{Error, Result};
use crate::sys::EventFd;

/// Wakes a ring. May be used from any thread and in signal handlers.
#[derive(Debug)]
pub struct Waker {
    event: EventFd,
    /// A wake is under way: others need not be.
    pending: AtomicBool,
}

impl Waker {
    pub(super) fn new() -> Result<Self> {
        let event = EventFd::new().map_err(|e| Error::system("making an eventfd", e))?;
        Ok(Self { event, pending: AtomicBool::new(false) })
    }

    /// Ends the wait that is going on, or else the next one, by a completion. Wakes that come before it is handed
    /// out are one.
    pub fn wake(&self) {
        // Release, for `take`: what was written before the wake is seen after it.
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.event.signal();
        }
    }

    /// Whether a wake has come; the next one signals anew. First the descriptor, then the flag: the other way round,
    /// a wake in between would be swallowed with its signal.
    pub(super) fn take(&self) -> bool {
        self.event.clear();
        self.pending.swap(false, Ordering::AcqRel) // Acquire, for `wake`
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
