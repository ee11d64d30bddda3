//! A ring behind a handle that may be called from anywhere, and answers an error where it must.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::{Error, Result};
use super::options::Options;
use super::ring::Ring;
use super::waker::Waker;
use crate::sys::{ProcessEpoch, thread_number};

/// A [`Ring`] with its owner, the process it was made in, and its health.
///
/// [`SharedRing::with`] is the only way in. It belongs to the first thread that calls it; with
/// [`Options::any_thread`] any thread may, but no two at once.
#[derive(Debug)]
pub struct SharedRing {
    ring: UnsafeCell<Ring>,
    /// Number of the thread that owns the ring, or is inside it; 0 for none.
    owner: AtomicU64,
    /// A call is going on. Only ever touched by the thread in `owner`.
    inside: AtomicBool,
    enabled: AtomicBool,
    healthy: AtomicBool,
    any_thread: bool,
    epoch: ProcessEpoch,
    waker: Arc<Waker>,
}

// SAFETY: `with` lets one call at a time reach the ring, on the thread whose number is in `owner`.
// Everything else in here is atomic or does not change.
unsafe impl Sync for SharedRing {}
// SAFETY: a ring may be driven by another thread than the one that made it.
unsafe impl Send for SharedRing {}

impl SharedRing {
    /// Makes a ring that has no owner yet.
    pub fn new(options: Options) -> Result<Self> {
        let ring = Ring::new(options)?;
        Ok(Self {
            owner: AtomicU64::new(0),
            inside: AtomicBool::new(false),
            enabled: AtomicBool::new(false),
            healthy: AtomicBool::new(true),
            any_thread: options.any_thread,
            epoch: ProcessEpoch::current(),
            waker: ring.waker(),
            ring: UnsafeCell::new(ring),
        })
    }

    /// Calls `f` with the ring, if this thread and process may.
    pub fn with<R, E: From<Error>>(
        &self,
        f: impl FnOnce(&mut Ring) -> std::result::Result<R, E>,
    ) -> std::result::Result<R, E> {
        if !self.epoch.is_current() {
            return Err(Error::Forked.into());
        }
        let _entry = self.enter()?;
        if !self.is_healthy() {
            return Err(Error::Unhealthy.into());
        }
        // SAFETY: `enter` has seen to it that nobody else is here, on this thread (in `f`, or in the call that a
        // signal has interrupted) or on another.
        let ring = unsafe { &mut *self.ring.get() };
        let mut unfinished = Unfinished(&self.healthy);
        if !self.enabled.load(Ordering::Relaxed) {
            ring.enable().inspect_err(|_| unfinished.disarm())?;
            self.enabled.store(true, Ordering::Relaxed);
        }
        let result = f(ring);
        ring.leave();
        if !ring.is_broken() {
            unfinished.disarm();
        }
        result
    }

    fn enter(&self) -> Result<Entry<'_>> {
        let me = thread_number();
        let owner = self.owner.load(Ordering::Relaxed);
        if owner != me {
            // Acquire, for the Release of the thread that was here before (in `Entry::drop`).
            let taken = owner == 0 && self.owner.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if !taken {
                return Err(if self.any_thread { Error::Busy } else { Error::WrongThread });
            }
        }
        if self.inside.load(Ordering::Relaxed) {
            return Err(Error::Busy);
        }
        self.inside.store(true, Ordering::Relaxed);
        Ok(Entry(self))
    }

    /// Ends a wait. From any thread; also in a signal handler.
    pub fn wake(&self) -> Result<()> {
        if !self.epoch.is_current() {
            return Err(Error::Forked); // the descriptor is the parent's too
        }
        self.waker.wake();
        Ok(())
    }

    /// Whether the ring can be used. From any thread.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Gives the ring up: calls are refused from now on. From any thread.
    pub fn force_unhealthy(&self) {
        self.healthy.store(false, Ordering::Relaxed);
        if self.epoch.is_current() {
            self.waker.wake();
        }
    }
}

/// A call that is going on. Lets the next one in when it goes.
struct Entry<'a>(&'a SharedRing);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.inside.store(false, Ordering::Relaxed);
        if self.0.any_thread {
            self.0.owner.store(0, Ordering::Release); // for the Acquire in `SharedRing::enter`
        }
    }
}

/// Declares the ring unhealthy unless disarmed: a panic may have left it in any state.
struct Unfinished<'a>(&'a AtomicBool);

impl Unfinished<'_> {
    fn disarm(&mut self) {
        static NOBODY: AtomicBool = AtomicBool::new(false);
        self.0 = &NOBODY;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
