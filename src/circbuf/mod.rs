//! Signals in shared memory: frames of numbers in a ring, whole or not at all.
//!
//! A [`CircBuf`] writes a stream, any number of [`Mirror`]s read it, of this process or of others. Either end may be
//! ezmsg-tools instead, of any release.
//!
//! ```text
//! names      what the shared-memory objects are called
//! format     what the frames are
//! header     the peer's header, byte for byte
//! extension  what our writers add behind it, so that nothing is torn, lost or dead without readers knowing
//! ring       the frames
//! metadata   what does not change from frame to frame: the peer's pickles, read without executing anything
//! writer     CircBuf
//! link       a header, as readers have it
//! reader     what readers know of a stream
//! mirror     Mirror
//! ```

mod error;
mod extension;
mod format;
mod header;
mod info;
mod link;
pub mod metadata;
mod mirror;
mod names;
mod reader;
mod ring;
mod writer;

pub use error::{Error, Result};
pub use format::{Dtype, Format, MAX_DIMENSIONS, MAX_KEY};
pub use header::Layout;
pub use info::{Info, State};
pub use metadata::Metadata;
pub use mirror::{Awaited, Mirror, MirrorOptions, Sleep, Span, View, Wait};
pub use names::short_name;
pub use ring::{Ring, Source, Strided};
pub use writer::{CircBuf, Options, Reservation};

use std::time::Duration;

use crate::shm::{Turn, Turns};

/// A thread's turn with an end of a stream.
#[inline(always)]
fn turn<T>(turns: &Turns<T>) -> Result<Turn<'_, T>> {
    /// Copies take milliseconds, and a child that was forked in one would wait in vain.
    const LIMIT: Duration = Duration::from_secs(5);
    turns.take(LIMIT).ok_or(Error::InUse)
}
