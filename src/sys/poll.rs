//! A wait for one descriptor, or for time alone.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// The descriptor can be read.
    Readable,
    /// The descriptor will never tell anything.
    HungUp,
    /// The time is over.
    Elapsed,
    /// A signal came.
    Interrupted,
}

/// Waits until `fd`, if given, can be read.
pub(crate) fn poll(fd: Option<RawFd>, timeout: Duration) -> Polled {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let mut watched = libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd and a timespec that live during the call; no signal mask.
    let ready = unsafe { libc::ppoll(&mut watched, 1, &timeout, std::ptr::null()) };
    match ready {
        0 => Polled::Elapsed,
        1.. if watched.revents & libc::POLLIN != 0 => Polled::Readable,
        1.. => Polled::HungUp,
        _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Polled::Interrupted,
        _ => Polled::HungUp, // no memory: whoever waits goes on by the clock
    }
}
