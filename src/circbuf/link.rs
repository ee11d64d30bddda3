//! The header of a stream, as its readers have it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use super::error::{Error, Result};
use super::extension::{Block, Extension, MAX_COUNT};
use super::header::{Epoch, Header, Layout, Snapshot};
use crate::shm::{Access, Patience, Segment};

/// How long a change of the format may take to be seen whole.
const CHANGE: Duration = Duration::from_millis(1);

/// A header that is mapped.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) path: PathBuf,
    pub(super) layout: Layout,
    pub(super) header: Header,
    pub(super) extension: Option<Extension>,
    segment: Segment,
}

/// What has changed when it is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The sequence number of the extension.
    Ours(u32),
    /// The header of a foreign writer has nothing better.
    Foreign(Epoch),
}

/// What a header said, all as of one moment.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) mark: Mark,
    pub(super) block: Option<Block>,
    pub(super) header: Snapshot,
}

impl Link {
    /// The header that has the name, if one has. `Malformed` may be one that is being made.
    pub(super) fn open(path: PathBuf) -> Result<Option<Self>> {
        let segment = match Segment::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::file("open", &path))?,
        };
        let layout = Header::layout(&segment, &path)?;
        let header = Header::map(&segment, layout, Access::Read, &path)?;
        let extension = Extension::find(&segment, &path)?;
        Ok(Some(Self { path, layout, header, extension, segment }))
    }

    /// Whether its name still means this one.
    pub(super) fn has_name(&self) -> Result<bool> {
        self.segment.is_at(&self.path).map_err(Error::file("stat", &self.path))
    }

    /// Whether its name means another one by now: names of rings come again.
    pub(super) fn is_replaced(&self) -> Result<bool> {
        self.segment.is_replaced_at(&self.path).map_err(Error::file("stat", &self.path))
    }

    #[inline]
    pub(super) fn mark(&self) -> Mark {
        match &self.extension {
            Some(extension) => Mark::Ours(extension.sequence()),
            None => Mark::Foreign(self.header.epoch()),
        }
    }

    /// All that it says. `None` in a change that takes too long.
    pub(super) fn read(&self) -> Result<Option<Seen>> {
        let mut patience = Patience::new(CHANGE);
        loop {
            let seen = match &self.extension {
                Some(extension) => extension
                    .try_read(&self.path, || self.header.snapshot())?
                    .map(|(block, sequence, header)| Seen { mark: Mark::Ours(sequence), block: Some(block), header }),
                None => {
                    // The peer has nothing to tell a change by: twice the same is the best there is.
                    let (header, again) = (self.header.snapshot(), self.header.snapshot());
                    (header == again).then_some(Seen { mark: Mark::Foreign(header.epoch), block: None, header })
                }
            };
            if seen.is_some() || patience.is_over() {
                return Ok(seen);
            }
        }
    }

    /// Whether the process that writes has certainly died. In a change that does not end, too.
    pub(super) fn is_dead(&self) -> bool {
        let remains = self.extension.as_ref().and_then(|extension| extension.read_remains(&self.path).ok());
        remains.is_some_and(|block| block.writer.is_dead())
    }

    /// How many frames a foreign writer has written to a ring of so many, `before` of which were known. It has no
    /// counter: its index and its wraps are not stored at once.
    pub(super) fn total(&self, frames: u64, before: u64) -> Result<u64> {
        fence(Ordering::Acquire); // nothing of a copy is newer than this
        let progress = self.header.progress();
        let total = progress.wraps.checked_mul(frames).and_then(|laps| laps.checked_add(progress.index));
        match total.filter(|&total| total <= MAX_COUNT && progress.index <= frames) {
            // It has gone past the end, and not yet counted that.
            Some(total) if total < before && total + frames >= before => Ok(total + frames),
            Some(total) => Ok(total),
            None => {
                let why = format!("index {} and {} wraps of a ring of {frames}", progress.index, progress.wraps);
                Err(Error::malformed(&self.path, why))
            }
        }
    }
}
