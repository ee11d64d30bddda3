//! What can go wrong, for programs and for people.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::page::VERSION;
use crate::status::{Errno, Failure, SHMHOT_EFORK};

/// A call that failed.
#[derive(Debug)]
pub enum Error {
    /// Something could not be done with a file.
    File {
        /// What was tried.
        doing: &'static str,
        /// Its name.
        path: PathBuf,
        /// `errno`.
        errno: i32,
    },
    /// A file does not hold a page.
    Malformed {
        /// Its name.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The page is not of the version that this library knows.
    Version(u16),
    /// The file was cut while it was open.
    Cut,
    /// An update has not ended.
    Stuck,
    /// The page gives no time.
    NoTime(String),
    /// The time is before 1970 or after 2262.
    Range,
    /// The page does not say how wrong its time can be.
    NoBound,
    /// Another writer has the page.
    Busy(PathBuf),
    /// The page is another user's.
    Foreign(PathBuf),
    /// The page has no room for a generation counter.
    NoRoom,
    /// The writer or calibrator was made before a fork, and this is the child.
    Forked,
    /// The counter is of no use for telling time.
    Counter,
    /// The counter and the kernel's clock could not be read together.
    Disturbed,
    /// A system call failed.
    System {
        /// What was tried.
        doing: &'static str,
        /// `errno`.
        errno: i32,
    },
}

/// Of every call of this system.
pub type Result<T> = std::result::Result<T, Error>;

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl Error {
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { doing, path: path.to_owned(), errno: errno(&error) }
    }

    pub(super) fn malformed(path: &Path, why: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), why: why.into() }
    }

    pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { doing, errno: errno(&error) }
    }
}

impl Failure for Error {
    fn status(&self) -> i32 {
        match self {
            Self::File { errno, .. } | Self::System { errno, .. } => -errno,
            Self::Malformed { .. } | Self::Version(_) | Self::Cut => -libc::EPROTO,
            Self::Stuck => -libc::ETIMEDOUT,
            Self::NoTime(_) | Self::NoBound => -libc::ENODATA,
            Self::Range => -libc::EOVERFLOW,
            Self::Busy(_) => -libc::EBUSY,
            Self::Foreign(_) => -libc::EPERM,
            Self::NoRoom => -libc::EINVAL,
            Self::Forked => SHMHOT_EFORK,
            Self::Counter => -libc::EOPNOTSUPP,
            Self::Disturbed => -libc::EAGAIN,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { doing, path, errno } => {
                write!(f, "{}: {doing}: {}", path.display(), Errno(*errno))?;
                match *errno {
                    libc::ENOENT if path == Path::new(super::Clock::DEFAULT_PATH) => write!(
                        f,
                        ": no hypervisor or calibrator provides a clock page here (the kernel's driver is ptp_vmclock)"
                    ),
                    libc::EINVAL => write!(f, ": it must be a regular file or a device of memory"),
                    _ => Ok(()),
                }
            }
            Self::Malformed { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Version(0) => write!(f, "the page is not initialized (version 0)"),
            Self::Version(version) => write!(f, "the page is of version {version}, this build knows version {VERSION}"),
            Self::Cut => write!(f, "the file was cut while it was open: it does not hold a page any more"),
            Self::Stuck => write!(
                f,
                "the page has been in the middle of an update for too long: its writer has died in it, or is stopped"
            ),
            Self::NoTime(why) => write!(f, "the page gives no time: {why}"),
            Self::Range => write!(f, "the time lies before 1970 or after 2262"),
            Self::NoBound => write!(
                f,
                "the page bounds no error (TIME_MAXERROR_VALID, PERIOD_MAXERROR_VALID), so no time is certainly over"
            ),
            Self::Busy(path) => write!(f, "{}: another writer has this page", path.display()),
            Self::Foreign(path) => write!(
                f,
                "{}: this page belongs to another user, who could change it or cut it: remove it first",
                path.display()
            ),
            Self::NoRoom => write!(f, "the page ends before vm_generation_counter: clear VM_GEN_COUNTER_PRESENT"),
            Self::Forked => write!(f, "this was made before a fork: the child needs one of its own"),
            Self::Counter => write!(f, "this processor has no counter of a constant rate"),
            Self::Disturbed => {
                write!(f, "the counter and the kernel's clock could not be read together often enough: try again")
            }
            Self::System { doing: "adjtimex", errno: libc::EPERM } => {
                write!(f, "adjtimex: Operation not permitted: a sandbox refuses even to read how good the clock is")
            }
            Self::System { doing, errno } => write!(f, "{doing}: {}", Errno(*errno)),
        }
    }
}

impl std::error::Error for Error {}
