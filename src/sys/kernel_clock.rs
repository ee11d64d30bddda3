//! The kernel's clock, and what the kernel thinks of it.

use std::io;

/// A clock of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelClock {
    /// CLOCK_TAI, since 1970: CLOCK_REALTIME and the offset that the kernel was told, if it was.
    Tai,
    /// CLOCK_MONOTONIC, since the boot: steered as the others are, but never set.
    Monotonic,
}

impl KernelClock {
    /// Nanoseconds.
    pub(crate) fn now(self) -> i64 {
        let id = match self {
            Self::Tai => libc::CLOCK_TAI,
            Self::Monotonic => libc::CLOCK_MONOTONIC,
        };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a timespec for the kernel to fill; both clocks are always there.
        unsafe { libc::clock_gettime(id, &mut time) };
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}

/// A leap second that the kernel was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelLeap {
    /// The day will have 23:59:60.
    Inserts,
    /// The day will not have 23:59:59.
    Deletes,
    /// It is 23:59:60.
    Inside,
}

/// What the kernel's discipline of its clock knows: adjtimex(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Discipline {
    /// The leap second that is near.
    pub(crate) leap: Option<KernelLeap>,
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
        // The state of a clock that nothing steers does not tell of leap seconds, but its status does.
        let leap = match state {
            libc::TIME_OOP => Some(KernelLeap::Inside),
            libc::TIME_WAIT => None,
            _ if timex.status & libc::STA_INS != 0 => Some(KernelLeap::Inserts),
            _ if timex.status & libc::STA_DEL != 0 => Some(KernelLeap::Deletes),
            _ => None,
        };
        Ok(Self {
            leap,
            synchronized: timex.status & libc::STA_UNSYNC == 0,
            maxerror_us: unsigned(timex.maxerror),
            esterror_us: unsigned(timex.esterror),
            tolerance: unsigned(timex.tolerance),
            tai_offset: timex.tai.into(),
        })
    }
}
