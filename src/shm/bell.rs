//! A bell that one rings and any number sleep by. Nobody asleep, it costs a fence and a load.
//!
//! ```text
//! who rings                           who sleeps
//! event                               count?
//! order    Ring                       acquire  Counted
//! sleepers?  0: done                  sleepers := 1
//! sleepers := 0                       order    Sleep
//! release  Cleared                    event?  nothing yet:
//! count += 1                          futex: sleep while count is the same
//! futex: wake all
//! ```
//!
//! - Either the one sees the sleeper or the other sees the event (`Ring`, `Sleep`).
//! - Whose word is cleared has seen the count before that, and is woken or does not fall asleep; who sees the count after
//!   it keeps the word (`Cleared`, `Counted`).
//!
//! The count may be mapped read-only by those who sleep; the sleepers' word is all that they write, and the worst that
//! they can do with it is to be woken.

use std::convert::Infallible;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::mapping::Fixed;
use super::words::{Fence, ReadWords, WriteWords, lower_half};
use crate::sys;

/// To be called after an event; says whether somebody is to be woken.
#[inline(always)]
pub(super) fn strike<M: WriteWords, S: WriteWords>(memory: &M, at: usize, sleepers: &S) -> bool {
    memory.order(Fence::Ring); // pairs with Sleep
    let Ok([sleeping]) = sleepers.load(0);
    if sleeping != 0 {
        sleepers.store(0, 0);
        memory.release(Fence::Cleared); // pairs with Counted
        let Ok([count]) = memory.load(at);
        memory.store(at, u64::from((count as u32).wrapping_add(1)));
    }
    sleeping != 0
}

/// Says that somebody is about to sleep; the count to be given to the futex, if nothing has happened by then.
#[inline]
pub(super) fn announce<M: ReadWords<Error = Infallible>, S: WriteWords>(memory: &M, at: usize, sleepers: &S) -> u32 {
    let Ok([count]) = memory.load(at);
    memory.acquire(Fence::Counted); // pairs with Cleared
    sleepers.store(0, 1);
    sleepers.order(Fence::Sleep); // pairs with Ring
    count as u32
}

/// The word of the sleepers. Word `AT` of what the calls are given is the count.
#[derive(Debug)]
pub(crate) struct Bell<const AT: usize>(Fixed<1>);

impl<const AT: usize> Bell<AT> {
    /// `sleepers` is mapped for writing.
    pub(crate) fn new(sleepers: Fixed<1>) -> Self {
        Self(sleepers)
    }

    /// Tells of an event.
    #[inline(always)]
    pub(crate) fn ring<const N: usize>(&self, words: &[AtomicU64; N]) {
        if strike(words, AT, &*self.0) {
            sys::futex_wake_all(lower_half(&words[AT]));
        }
    }

    /// To be called before the last look for events: what happens after it ends [`Bell::sleep`].
    pub(crate) fn announce<const N: usize>(&self, words: &[AtomicU64; N]) -> u32 {
        announce(words, AT, &*self.0)
    }

    /// Sleeps until there is an event, for a limited time, unless a signal comes: whether one has.
    pub(crate) fn sleep<const N: usize>(&self, words: &[AtomicU64; N], count: u32, limit: Duration) -> bool {
        sys::futex_wait(lower_half(&words[AT]), count, limit)
    }
}
