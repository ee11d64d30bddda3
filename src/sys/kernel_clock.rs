//! The kernel's clock, and what the kernel thinks of it.

use std::io;

/// Nanoseconds of CLOCK_TAI since 1970: CLOCK_REALTIME and the offset that the kernel was told, if it was.
pub(crate) fn tai_clock() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec for the kernel to fill; the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_TAI, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// What the kernel's discipline of its clock knows: adjtimex(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Discipline {
    /// `time_state`: one of `libc::TIME_*`.
    pub(crate) state: i32,
    /// Whether something steers the clock.
    pub(crate) synchronized: bool,
    /// Microseconds.
    pub(crate) maxerror_us: u64,
    /// Microseconds.
    pub(crate) esterror_us: u64,
    /// How far the rate can be off, in 2^-16 ppm.
    pub(crate) tolerance: u64,
    /// TAI - UTC in seconds; 0 when nobody has told the kernel.
    pub(crate) tai_offset: i64,
}

impl Discipline {
    pub(crate) fn read() -> io::Result<Self> {
        // SAFETY: zero is a valid timex, and asks for nothing to be changed.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        // SAFETY: a timex for the kernel to fill.
        let state = unsafe { libc::adjtimex(&mut timex) };
        if state < 0 {
            return Err(io::Error::last_os_error());
        }
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(Self {
            state,
            synchronized: timex.status & libc::STA_UNSYNC == 0,
            maxerror_us: unsigned(timex.maxerror),
            esterror_us: unsigned(timex.esterror),
            tolerance: unsigned(timex.tolerance),
            tai_offset: timex.tai.into(),
        })
    }
}
