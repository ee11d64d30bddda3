//! What can go wrong, for programs and for people.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::metadata::MetadataError;
use crate::status::{Errno, Failure, SHMHOT_EFORK};

/// A call that failed.
#[derive(Debug)]
pub enum Error {
    /// A stream cannot have this name.
    Name,
    /// Frames cannot be like that.
    Format(String),
    /// The stream has no format yet.
    NoFormat(String),
    /// Bytes that are not a whole number of frames, or not as many frames as timestamps.
    Length {
        /// Bytes that were given.
        bytes: usize,
        /// Bytes of a frame.
        frame_size: usize,
        /// Timestamps that were given.
        timestamps: Option<usize>,
    },
    /// Room for less than a frame.
    NoRoom {
        /// Bytes that there is room for.
        bytes: usize,
        /// Bytes of a frame.
        frame_size: usize,
    },
    /// Strides that lead out of the memory that was given, or are not as many as there are dimensions.
    Strides,
    /// The frames are irregular, and came without timestamps.
    NoTimestamps,
    /// More frames than the ring holds, or than are reserved.
    TooMany {
        /// That were asked for.
        frames: u64,
        /// That can be had.
        limit: u64,
    },
    /// Frames are reserved.
    Reserved,
    /// No frames are reserved.
    NotReserved,
    /// A living process writes the stream.
    Busy {
        /// Its name.
        name: String,
        /// The process, if it is known.
        pid: Option<u32>,
    },
    /// Another library's writer has taken the name: this one's readers have nothing to find a new format by.
    Taken(String),
    /// What is there under the name belongs to another user.
    Foreign(PathBuf),
    /// Something could not be done with a shared-memory object.
    File {
        /// What was tried.
        doing: &'static str,
        /// Its file.
        path: PathBuf,
        /// `errno`.
        errno: i32,
    },
    /// A shared-memory object does not hold what it should.
    Malformed {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The stream has a format that the reader has not seen yet.
    NewFormat,
    /// There is no such stream yet.
    Absent(String),
    /// The stream has no static metadata.
    NoMetadata,
    /// The layout has no place for static metadata.
    NoRoomForMetadata,
    /// The metadata cannot be read or written.
    Metadata(MetadataError),
    /// The frames have no timestamps.
    Timeless,
    /// Another thread has been using this for too long.
    InUse,
    /// The writer was made before a fork, and this is the child.
    Forked,
}

/// Of every call of this system.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { doing, path: path.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }

    pub(super) fn malformed(path: &Path, why: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), why: why.into() }
    }
}

impl From<MetadataError> for Error {
    fn from(error: MetadataError) -> Self {
        Self::Metadata(error)
    }
}

impl Failure for Error {
    fn status(&self) -> i32 {
        match self {
            Self::Name
            | Self::Format(_)
            | Self::Length { .. }
            | Self::NoRoom { .. }
            | Self::Strides
            | Self::NoTimestamps => -libc::EINVAL,
            Self::TooMany { .. } => -libc::EMSGSIZE,
            Self::NoFormat(_) => -libc::EAGAIN,
            Self::Reserved | Self::NotReserved | Self::Busy { .. } | Self::InUse => -libc::EBUSY,
            Self::Taken(_) => -libc::ESTALE,
            Self::Foreign(_) => -libc::EPERM,
            Self::File { errno, .. } => -errno,
            Self::Malformed { .. } => -libc::EPROTO,
            Self::NewFormat => -libc::ESTALE,
            Self::Absent(_) => -libc::ENOENT,
            Self::NoMetadata | Self::Timeless => -libc::ENODATA,
            Self::NoRoomForMetadata => -libc::EOPNOTSUPP,
            Self::Metadata(MetadataError::Json { .. }) => -libc::EINVAL,
            Self::Metadata(_) => -libc::EPROTO,
            Self::Forked => SHMHOT_EFORK,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(f, "a stream needs a name"),
            Self::Format(why) => f.write_str(why),
            Self::NoFormat(name) => write!(f, "\"{name}\" has no format yet: nobody has said what its frames are"),
            Self::Length { bytes, frame_size, timestamps: None } => {
                write!(f, "{bytes} bytes are not a whole number of frames, each of which has {frame_size}")
            }
            Self::Length { bytes, frame_size, timestamps: Some(timestamps) } => {
                write!(f, "{bytes} bytes are {} frames, and came with {timestamps} timestamps", bytes / frame_size)
            }
            Self::NoRoom { bytes, frame_size } => write!(f, "room for {bytes} bytes, where a frame has {frame_size}"),
            Self::Strides => {
                write!(f, "there must be a stride for the frames and for each of their dimensions, within the memory")
            }
            Self::NoTimestamps => write!(f, "the frames are irregular (rate 0), and need a timestamp each"),
            Self::TooMany { frames, limit } => write!(f, "{frames} frames at once, where {limit} is the limit"),
            Self::Reserved => write!(f, "frames are reserved: commit them first"),
            Self::NotReserved => write!(f, "no frames are reserved"),
            Self::Busy { name, pid: Some(pid) } => write!(f, "\"{name}\" is being written by process {pid}"),
            Self::Busy { name, pid: None } => write!(f, "\"{name}\" is being written by another process"),
            Self::Taken(name) => write!(f, "another library's writer has taken the name \"{name}\""),
            Self::Foreign(path) => write!(f, "{}: belongs to another user", path.display()),
            Self::File { doing, path, errno } => write!(f, "{}: {doing}: {}", path.display(), Errno(*errno)),
            Self::Malformed { path, why } => write!(f, "{}: {why}", path.display()),
            Self::NewFormat => write!(f, "the stream has a new format: ask for it, then read on"),
            Self::Absent(name) => write!(f, "there is no stream \"{name}\" yet"),
            Self::NoMetadata => write!(f, "the stream has no static metadata"),
            Self::NoRoomForMetadata => write!(f, "streams of layout 0 have no static metadata"),
            Self::Metadata(error) => error.fmt(f),
            Self::Timeless => write!(f, "the frames have no timestamps: they are irregular, in a layout without"),
            Self::InUse => write!(f, "another thread has been using this for too long"),
            Self::Forked => write!(f, "this was made before a fork: the child needs one of its own"),
        }
    }
}

impl std::error::Error for Error {}
