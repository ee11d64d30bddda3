//! What can go wrong, for programs and for people.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::types::Type;
use crate::status::{Errno, Failure, SHMHOT_EFORK};

/// A call that failed. Nothing was written.
#[derive(Debug)]
pub enum Error {
    /// A schema cannot have this field.
    Field {
        /// The status, `-errno`.
        status: i32,
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No field has this name.
    NoField(String),
    /// No field has this number.
    NoIndex {
        /// The number.
        index: u32,
        /// How many fields there are.
        len: usize,
    },
    /// The field cannot hold the value.
    Range {
        /// The field.
        name: String,
        /// Its type.
        r#type: Type,
    },
    /// The value is not a number, and the field holds integers.
    NotANumber {
        /// The field.
        name: String,
        /// Its type.
        r#type: Type,
    },
    /// The schema has more bytes than the segment.
    TooLong {
        /// Bytes of the schema.
        schema: usize,
        /// Bytes of the segment.
        segment: usize,
    },
    /// The fields of the aligned layout would not be aligned.
    Misaligned {
        /// Where the segment begins.
        offset: u64,
        /// What that must be a multiple of.
        alignment: usize,
    },
    /// The segment does not lie in the file.
    Outside {
        /// The file.
        path: PathBuf,
        /// Where the segment begins.
        offset: u64,
        /// Its bytes.
        size: usize,
        /// Bytes of the file.
        len: u64,
    },
    /// Something could not be done with a file.
    File {
        /// What was tried.
        doing: &'static str,
        /// Its name.
        path: PathBuf,
        /// `errno`.
        errno: i32,
    },
    /// A file of a store does not hold what it should.
    Malformed {
        /// Its name.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The description of a segment is damaged.
    Damaged(u32),
    /// The description of a segment is being changed, for too long.
    Stuck(u32),
    /// A segment of a store is not taken, or is not there.
    NoSegment {
        /// Its number.
        segment: u32,
        /// How many there are.
        count: u32,
    },
    /// A segment is taken, and nobody has said what for.
    Undescribed(u32),
    /// The description has no room in the sidecar.
    TooWordy,
    /// Another process has been changing the store for too long.
    Busy(PathBuf),
    /// There is no process of this number.
    NoProcess(u32),
    /// A store cannot be of this size.
    Sizes {
        /// Bytes of a segment.
        segment_size: usize,
        /// Segments.
        segments: usize,
    },
    /// The observer or store is for reading only.
    ReadOnly,
    /// The observer or store was made before a fork, and this is the child.
    Forked,
}

/// Of every call of this system.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { doing, path: path.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

impl Failure for Error {
    fn status(&self) -> i32 {
        match self {
            Self::Field { status, .. } => *status,
            Self::NoField(_) | Self::NoIndex { .. } => -libc::ENOENT,
            Self::Range { .. } => -libc::ERANGE,
            Self::NotANumber { .. } => -libc::EDOM,
            Self::TooLong { .. } | Self::Misaligned { .. } | Self::Outside { .. } | Self::Sizes { .. } => -libc::EINVAL,
            Self::File { errno, .. } => -errno,
            Self::Malformed { .. } | Self::Damaged(_) => -libc::EPROTO,
            Self::Stuck(_) => -libc::ETIMEDOUT,
            Self::NoSegment { .. } => -libc::ENOENT,
            Self::Undescribed(_) => -libc::ENODATA,
            Self::TooWordy => -libc::EMSGSIZE,
            Self::Busy(_) => -libc::EBUSY,
            Self::NoProcess(_) => -libc::ESRCH,
            Self::ReadOnly => -libc::EACCES,
            Self::Forked => SHMHOT_EFORK,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { name, why, .. } => write!(f, "field \"{name}\": {why}"),
            Self::NoField(name) => write!(f, "the schema has no field \"{name}\""),
            Self::NoIndex { index, len } => write!(f, "there is no field {index}: the schema has {len}"),
            Self::Range { name, r#type } => {
                write!(f, "field \"{name}\" is of type {type}, which cannot hold the value")
            }
            Self::NotANumber { name, r#type } => {
                write!(f, "field \"{name}\" is of type {type}, which cannot hold what is not a number")
            }
            Self::TooLong { schema, segment } => {
                write!(f, "the schema has {schema} bytes, and the segment only {segment}")
            }
            Self::Misaligned { offset, alignment } => write!(
                f,
                "the aligned layout needs segments that begin at multiples of {alignment}, and not at {offset}"
            ),
            Self::Outside { path, offset, size, len } => {
                write!(f, "{}: {size} bytes from {offset} do not lie within the file, which has {len}", path.display())
            }
            Self::File { doing, path, errno } => {
                write!(f, "{}: {doing}: {}", path.display(), Errno(*errno))
            }
            Self::Malformed { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Damaged(segment) => write!(f, "segment {segment}: its page in the sidecar is damaged"),
            Self::Stuck(segment) => write!(
                f,
                "segment {segment}: its page in the sidecar is in the middle of a change for too long: who made it has died"
            ),
            Self::NoSegment { segment, count } => write!(f, "segment {segment} of {count} is not taken"),
            Self::Undescribed(segment) => {
                write!(f, "segment {segment} is taken, but nobody has said what its numbers are")
            }
            Self::TooWordy => write!(f, "service, names, helps and units together have more than 4040 bytes"),
            Self::Busy(path) => {
                write!(f, "{}: another process has been changing this store for too long", path.display())
            }
            Self::Sizes { segment_size, segments } => write!(
                f,
                "{segments} segments of {segment_size} bytes: a segment has 1 byte to 1 MiB, and a new store has at most \
                 65536 of them and 1 GiB"
            ),
            Self::NoProcess(pid) => write!(f, "there is no process {pid}"),
            Self::ReadOnly => write!(f, "this was opened for reading only"),
            Self::Forked => write!(f, "this was made before a fork: the child needs one of its own"),
        }
    }
}

impl std::error::Error for Error {}
