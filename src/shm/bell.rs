//! A bell that one rings and any number sleep by. Nobody asleep, it costs a store, a fence and a load.
//!
//! ```text
//! who rings                           who sleeps
//! event                               sleepers := 1
//! count += 1                          order  Sleep
//! order  Ring                         event, or count?  nothing yet:
//! sleepers?  0: done                  futex: sleep while count is the same
//! sleepers := 0, futex: wake all
//! ```
//!
//! Either the one sees the sleeper or the other sees the event (`Ring`, `Sleep`). The count may be mapped read-only by
//! those who sleep; the sleepers' word is all that they write, and the worst that they can do with it is to be woken.

use std::convert::Infallible;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::mapping::Fixed;
use super::words::{Fence, ReadWords, WriteWords, lower_half};
use crate::sys;

/// Counts an event; says whether somebody is to be woken.
#[inline(always)]
pub(super) fn strike<M: WriteWords, S: WriteWords>(memory: &M, at: usize, sleepers: &S, count: u32) -> bool {
    memory.store(at, u64::from(count));
    memory.order(Fence::Ring); // pairs with Sleep
    let Ok([sleeping]) = sleepers.load(0);
    if sleeping != 0 {
        sleepers.store(0, 0);
    }
    sleeping != 0
}

/// Says that somebody is about to sleep; the count to be given to the futex, if nothing has happened by then.
#[inline]
pub(super) fn announce<M: ReadWords<Error = Infallible>, S: WriteWords>(memory: &M, at: usize, sleepers: &S) -> u32 {
    let Ok([count]) = memory.load(at);
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
        let Ok([count]) = words.load(AT);
        if strike(words, AT, &*self.0, (count as u32).wrapping_add(1)) {
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
