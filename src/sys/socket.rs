//! The socket calls that are made directly, since the ring has no good operation for them.

use std::io;
use std::os::fd::RawFd;

/// Ends the sending half of a socket.
pub(crate) fn shutdown_write(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers are passed; a wrong descriptor is an error.
    match unsafe { libc::shutdown(fd, libc::SHUT_WR) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes a descriptor that the caller owns.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: the caller owns the number; nothing in this process holds it as an `OwnedFd`.
    unsafe { libc::close(fd) };
}

/// Whether a descriptor of this number is open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: no pointers are passed.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}
