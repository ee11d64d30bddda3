//! A wait that has an end: first busy, then polite.

use std::time::{Duration, Instant};

/// Attempts, without a pause that would miss chances, before the clock is looked at: some 20 microseconds of a seqlock.
const BUSY: u32 = 1000;
/// How long to go on with attempts and yields before sleeping between rounds of them.
const POLITE: Duration = Duration::from_millis(20);
const NAP: Duration = Duration::from_micros(50);

/// Counts the attempts of a loop that waits for another process.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    attempts: u32,
    begin: Option<Instant>,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, attempts: 0, begin: None }
    }

    /// To be called after an attempt that failed: pauses now and then, or says that it was the last one.
    #[inline]
    pub(crate) fn is_over(&mut self) -> bool {
        self.attempts = self.attempts.wrapping_add(1);
        self.attempts.is_multiple_of(BUSY) && self.pause()
    }

    #[cold]
    fn pause(&mut self) -> bool {
        match self.begin.get_or_insert_with(Instant::now).elapsed() {
            waited if waited >= self.limit => return true,
            waited if waited < POLITE => std::thread::yield_now(), // the other may be waiting for this processor
            _ => std::thread::sleep(NAP),
        }
        false
    }
}
