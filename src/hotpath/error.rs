//! What can go wrong, for programs and for people.

use std::fmt;
use std::io;

use crate::status::{Errno, Failure, SHMHOT_EFORK, SHMHOT_ETHREAD, SHMHOT_EUNHEALTHY};

/// A refused call. Nothing of it was done.
#[derive(Debug)]
pub enum Error {
    /// An argument is out of its range.
    Argument {
        /// Its name.
        name: &'static str,
        /// What was passed.
        value: i64,
        /// What it must be.
        must: &'static str,
    },
    /// No descriptor has this number.
    BadDescriptor(i32),
    /// The descriptor is in a state in which this cannot be done.
    State {
        /// The status, `-errno`.
        status: i32,
        /// The descriptor.
        fd: i32,
        /// Its state, and what to do.
        why: &'static str,
    },
    /// The buffer is not the caller's at the moment.
    NotHeld(i32),
    /// The buffer is being sent.
    Lent(i32),
    /// No timeout of this id is pending.
    NoTimeout(i64),
    /// So many bytes are queued that no more are taken for now.
    Backlog {
        /// The descriptor.
        fd: i32,
        /// Bytes queued.
        queued: u64,
        /// The bound.
        bound: u64,
    },
    /// The ring takes no new connections any more.
    Draining,
    /// A system call failed.
    System {
        /// What was tried.
        doing: &'static str,
        /// `errno`.
        errno: i32,
    },
    /// io_uring cannot be had here.
    Unsupported {
        /// `errno`.
        errno: i32,
        /// Why, and what would help.
        why: String,
    },
    /// The ring belongs to another thread.
    WrongThread,
    /// Another thread is inside the ring right now.
    Busy,
    /// The ring was made before a fork, and this is the child.
    Forked,
    /// The ring was given up.
    Unhealthy,
}

/// Of every call of this system.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn state(errno: i32, fd: i32, why: &'static str) -> Self {
        Self::State { status: -errno, fd, why }
    }

    pub(super) fn system(doing: &'static str, error: io::Error) -> Self {
        Self::System { doing, errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }

    pub(super) fn out_of_memory(doing: &'static str) -> Self {
        Self::System { doing, errno: libc::ENOMEM }
    }
}

impl Failure for Error {
    fn status(&self) -> i32 {
        match self {
            Self::Argument { .. } => -libc::EINVAL,
            Self::BadDescriptor(_) => -libc::EBADF,
            Self::State { status, .. } => *status,
            Self::NotHeld(_) => -libc::EALREADY,
            Self::Lent(_) => -libc::EBUSY,
            Self::NoTimeout(_) => -libc::ENOENT,
            Self::Backlog { .. } => -libc::EAGAIN,
            Self::Draining => -libc::ESHUTDOWN,
            Self::System { errno, .. } | Self::Unsupported { errno, .. } => -errno,
            Self::WrongThread => SHMHOT_ETHREAD,
            Self::Busy => -libc::EBUSY,
            Self::Forked => SHMHOT_EFORK,
            Self::Unhealthy => SHMHOT_EUNHEALTHY,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument { name, value, must } => write!(f, "{name} is {value}, and must be {must}"),
            Self::BadDescriptor(fd) => write!(f, "{fd} is no descriptor"),
            Self::State { fd, why, .. } => write!(f, "descriptor {fd}: {why}"),
            Self::NotHeld(id) => write!(f, "buffer {id} is not held: it was released already, or never received"),
            Self::Lent(id) => write!(f, "buffer {id} is being sent: it is released when that is done"),
            Self::NoTimeout(id) => write!(f, "no timeout with id {id} is pending"),
            Self::Backlog { fd, queued, bound } => write!(
                f,
                "descriptor {fd}: {queued} bytes are queued already (at most {bound}): go on when sends have completed"
            ),
            Self::Draining => write!(f, "the ring is draining: it takes no new listeners"),
            Self::System { doing, errno } => write!(f, "{doing}: {}", Errno(*errno)),
            Self::Unsupported { why, .. } => f.write_str(why),
            Self::WrongThread => write!(
                f,
                "this ring belongs to the thread that used it first; only wake, is_healthy, force_unhealthy, backend and free may \
                 be called from others (the ANY_THREAD option lifts that)"
            ),
            Self::Busy => write!(f, "another thread is inside this ring at the moment"),
            Self::Forked => write!(f, "this ring was made before a fork: the child needs one of its own"),
            Self::Unhealthy => {
                write!(f, "this ring was given up after a failure or by force_unhealthy: make a new one")
            }
        }
    }
}

impl std::error::Error for Error {}
