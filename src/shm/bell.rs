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
use std::time::Duration;

use super::mapping::Mapping;
use super::words::{Fence, ReadWords, WriteWords};
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

/// The word of the count, and that of the sleepers.
#[derive(Debug)]
pub(crate) struct Bell {
    sleepers: Mapping,
    at: usize,
}

impl Bell {
    /// The count is word `at` of what the calls are given. `sleepers` is mapped for writing.
    pub(crate) fn new(at: usize, sleepers: Mapping) -> Self {
        Self { sleepers, at }
    }

    /// Tells of an event. `count` is another one than the last.
    #[inline(always)]
    pub(crate) fn ring(&self, words: &Mapping, count: u32) {
        if strike(&**words, self.at, &*self.sleepers, count) {
            sys::futex_wake_all(words.lower_half(self.at));
        }
    }

    /// To be called before the last look for events: what happens after it ends [`Bell::sleep`].
    pub(crate) fn announce(&self, words: &Mapping) -> u32 {
        announce(&**words, self.at, &*self.sleepers)
    }

    /// Sleeps until there is an event, for a limited time.
    pub(crate) fn sleep(&self, words: &Mapping, count: u32, limit: Duration) {
        sys::futex_wait(words.lower_half(self.at), count, limit);
    }
}
