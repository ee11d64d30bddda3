//! Something that the threads of this process use one after the other, none of whom waits for ever.
//!
//! What a mutex of the standard library does beside that, it does for the price of a short write: poisoning, and an
//! unlocking that asks whether somebody sleeps.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::patience::Patience;

#[derive(Debug)]
pub(crate) struct Turns<T> {
    is_taken: AtomicBool,
    what: UnsafeCell<T>,
}

/// Whose turn it is has it.
#[derive(Debug)]
pub(crate) struct Turn<'a, T>(&'a Turns<T>);

// SAFETY: one turn at a time gives access, whatever thread it belongs to.
unsafe impl<T: Send> Sync for Turns<T> {}

impl<T> Turns<T> {
    pub(crate) fn new(what: T) -> Self {
        Self { is_taken: AtomicBool::new(false), what: UnsafeCell::new(what) }
    }

    /// A turn, if it is nobody else's.
    #[inline(always)]
    pub(crate) fn try_take(&self) -> Option<Turn<'_, T>> {
        // Acquire pairs with the Release of the turn before.
        let is_free = !self.is_taken.swap(true, Ordering::Acquire);
        // Lazily: a turn that was never taken must not end.
        is_free.then(|| Turn(self))
    }

    /// A turn, unless that takes too long.
    #[inline(always)]
    pub(crate) fn take(&self, limit: Duration) -> Option<Turn<'_, T>> {
        self.try_take().or_else(|| self.wait(limit))
    }

    #[cold]
    fn wait(&self, limit: Duration) -> Option<Turn<'_, T>> {
        let mut patience = Patience::new(limit);
        loop {
            // A look that does not write, so that whose turn it is has the cache line to itself.
            if !self.is_taken.load(Ordering::Relaxed)
                && let Some(turn) = self.try_take()
            {
                return Some(turn);
            }
            if patience.is_over() {
                return None;
            }
        }
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this is the only turn.
        unsafe { &*self.0.what.get() }
    }
}

impl<T> DerefMut for Turn<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this is the only turn, and borrowed exclusively.
        unsafe { &mut *self.0.what.get() }
    }
}

impl<T> Drop for Turn<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns() {
        let rounds = if cfg!(miri) { 100 } else { 100_000 };
        let turns = Turns::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        *turns.take(Duration::from_secs(60)).expect("a turn") += 1;
                    }
                });
            }
        });
        assert_eq!(*turns.try_take().expect("nobody's turn"), 3 * rounds);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let turns = Turns::new(());
        let turn = turns.try_take();
        assert!(turn.is_some() && turns.take(Duration::from_millis(1)).is_none());
        drop(turn);
        assert!(turns.try_take().is_some());
    }
}
