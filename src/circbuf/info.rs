//! What there is to know of a stream beside its frames.

use super::header::Layout;

/// What has become of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing has its name.
    #[default]
    Absent,
    /// It is there, and has no format yet.
    Unconfigured,
    /// Its writer lives.
    Alive,
    /// Its writer has died. What it has written can be read, and a next one may come.
    Dead,
    /// Its writer has ended in order. What it has written can be read.
    Ended,
    /// It is the peer's, whose header does not tell whether its writer lives.
    Unknown,
}

/// What there is to know of a stream. Frames are numbered; the peer's from the begin of their ring, ours from the making
/// of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// What has become of it.
    pub state: State,
    /// Its layout, when it is there.
    pub layout: Option<Layout>,
    /// Whether its writer is this library's.
    pub is_ours: bool,
    /// Its writer, if it is this library's.
    pub pid: Option<u32>,
    /// Generation of its ring.
    pub generation: u32,
    /// Generation of its metadata, 0 when it has none.
    pub metadata_generation: u32,
    /// Number of the ring's first frame.
    pub begin: u64,
    /// Number of the oldest frame that is still there.
    pub oldest: u64,
    /// Number that the next frame will have.
    pub written: u64,
    /// Number of the frame that is read next.
    pub position: u64,
    /// Frames that were lost by this reader, since it was made.
    pub lost: u64,
    /// When frames were last written, nanoseconds since 1970, to the tick; 0 if that is not known.
    pub last_write_ns: i64,
}
