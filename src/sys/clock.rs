//! Clocks that the standard library does not have.

use std::time::Instant;

/// Monotonic time, counted from the making of the clock.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since [`Clock::start`]; 64 bits last for 584 years.
    pub(crate) fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Nanoseconds since 1970, as of the kernel's last tick: a few milliseconds old, and without a system call.
#[inline]
pub(crate) fn coarse_realtime() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes what it is given; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec)
}
