//! Ending a wait from any thread.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{Error, Result};
use crate::sys::EventFd;

/// Wakes a ring. May be used from any thread and in signal handlers.
#[derive(Debug)]
pub struct Waker {
    /// What the ring watches.
    event: EventFd,
    /// What a host watches in place of the ring. The kernel signals it for completions, but not reliably for one that
    /// another eventfd has caused, so wakes signal both.
    outside: OnceLock<EventFd>,
    /// A wake is under way: others need not be.
    pending: AtomicBool,
}

impl Waker {
    pub(super) fn new() -> Result<Self> {
        let event = EventFd::new().map_err(|e| Error::system("making an eventfd", e))?;
        Ok(Self { event, outside: OnceLock::new(), pending: AtomicBool::new(false) })
    }

    /// Ends the wait that is going on, or else the next one, by a completion. Wakes that come before it is handed
    /// out are one.
    pub fn wake(&self) {
        // Release, for `take`: what was written before the wake is seen after it.
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.event.signal();
            if let Some(outside) = self.outside.get() {
                outside.signal();
            }
        }
    }

    pub(super) fn outside(&self) -> Option<&EventFd> {
        self.outside.get()
    }

    /// From now on wakes signal this one, too.
    pub(super) fn watch_outside(&self, event: EventFd) -> &EventFd {
        self.outside.get_or_init(|| event)
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
