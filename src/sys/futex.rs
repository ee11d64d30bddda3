//! Sleeping until a word of shared memory changes.

use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while the word has this value, until it is woken, the time is over, or a signal comes: whether that was it.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, limit: Duration) -> bool {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: the kernel reads a word that is borrowed here, which need not be writable, and the timespec.
    let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const limit) };
    result != 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
}

/// Sleeps, unless a signal comes: whether one has.
pub(crate) fn nap(limit: Duration) -> bool {
    static NEVER: AtomicU32 = AtomicU32::new(0);
    futex_wait(&NEVER, 0, limit)
}

/// Wakes all who sleep on the word, of whatever process.
#[cold]
pub(crate) fn futex_wake_all(word: &AtomicU32) {
    // SAFETY: the kernel uses the address alone.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
