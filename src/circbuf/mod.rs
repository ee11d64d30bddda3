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
//! mirror     Mirror
//! ```

mod error;
mod extension;
mod format;
mod header;
mod info;
pub mod metadata;
mod mirror;
mod names;
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

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use crate::shm::Patience;

/// How long threads wait for each other: copies take milliseconds, and a child that was forked in one waits in vain.
const TURN: Duration = Duration::from_secs(5);

/// A thread's turn.
#[inline(always)]
fn turn<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(turn) => Ok(turn),
        Err(_) => wait_for_turn(mutex),
    }
}

#[cold]
fn wait_for_turn<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    let mut patience = Patience::new(TURN);
    loop {
        match mutex.try_lock() {
            Ok(turn) => return Ok(turn),
            Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) if patience.is_over() => return Err(Error::InUse),
            Err(TryLockError::WouldBlock) => {}
        }
    }
}
