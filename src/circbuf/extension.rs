//! What our writers add behind the header, where the peer's readers do not look: on a page of its own, and one more
//! that readers write to.
//!
//! | at | type | |
//! |---|---|---|
//! | 4096 | u32 | magic, "SHCB" |
//! | 4100 | u32 | sequence number of the seqlock over this block and the header, odd in a change |
//! | 4104 | u32 | version, 1 |
//! | 4108 | u32 | state: 0 no format yet, 1 live, 2 ended in order |
//! | 4112 | u32 | writer's process |
//! | 4116 | u32 | generation of the ring |
//! | 4120 | u64 | when the process was started, in clock ticks since the boot |
//! | 4128 | u64 | the boot |
//! | 4136 | u64 | number of the first frame of this generation: frames committed when the one before it ended |
//! | 4144 | u64 | frames claimed when the generation before it ended |
//! | 4152 | u32 | generation of the metadata, the last that there was |
//! | 4160 | u64 | frames claimed since the stream was made |
//! | 4168 | u64 | frames committed |
//! | 4176 | i64 | time of the last write, nanoseconds since 1970 |
//! | 4184 | u32 | counts wake-ups: what sleepers sleep on |
//! | 8192 | u32 | set by those who sleep |
//!
//! Frames are numbered from the making of the stream, whatever becomes of rings and writers: so readers of a ring that
//! was replaced know where it ended.

use std::path::Path;
use std::time::Duration;

use super::error::{Error, Result};
use crate::shm::{Access, Bell, Fixed, ReadWords, Segment, WriteWords, laps, seqlock};
use crate::sys::{self, ProcessId};

/// Bytes of a header's file with the extension.
pub(super) const FILE_LEN: u64 = SLEEPERS + PAGE;
const PAGE: u64 = 4096;
const BEGIN: u64 = PAGE;
const SLEEPERS: u64 = 2 * PAGE;

const MAGIC: u32 = u32::from_le_bytes(*b"SHCB");
const VERSION: u32 = 1;

/// Words after the first of the block.
const REST: usize = 7;
const BLOCK: usize = 0;
const LAPS: usize = 8;
const LAST_WRITE: usize = 10;
const EVENTS: usize = 11;
const WORDS: usize = 12;

/// No writer counts that far: what says so was damaged, and sums stay within 64 bits.
pub(super) const MAX_COUNT: u64 = 1 << 62;

/// What a writer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not said what its frames are.
    Unconfigured,
    Live,
    /// It has ended, and not died.
    Ended,
}

/// What changes seldom, as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) stage: Stage,
    pub(super) generation: u32,
    pub(super) writer: ProcessId,
    /// Number of this generation's first frame, with which the one before it ended.
    pub(super) first: u64,
    /// Frames claimed of the generation before it, committed or not: what they have overwritten is gone.
    pub(super) previous_claimed: u64,
    /// Generation of the metadata, the last that there was: who has seen one looks for another.
    pub(super) metadata: u32,
}

impl Block {
    fn to_words(self) -> [u64; REST + 1] {
        let stage: u32 = match self.stage {
            Stage::Unconfigured => 0,
            Stage::Live => 1,
            Stage::Ended => 2,
        };
        let pair = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        [
            MAGIC.into(),
            pair(VERSION, stage),
            pair(self.writer.pid, self.generation),
            self.writer.started,
            self.writer.boot,
            self.first,
            self.previous_claimed,
            self.metadata.into(),
        ]
    }

    fn from_words(first: u64, rest: [u64; REST], path: &Path) -> Result<Self> {
        let bad = |why: String| Err(Error::malformed(path, why));
        if first as u32 != MAGIC {
            return bad("the extension of its header is gone".into());
        }
        if rest[0] as u32 != VERSION {
            return bad(format!("extension of version {}, this build knows {VERSION}", rest[0] as u32));
        }
        let stage = match rest[0] >> 32 {
            0 => Stage::Unconfigured,
            1 => Stage::Live,
            2 => Stage::Ended,
            other => return bad(format!("the extension of its header says state {other}")),
        };
        let [_, of, started, boot, first, previous_claimed, metadata] = rest;
        if first.max(previous_claimed) > MAX_COUNT {
            return bad(format!("a ring that begins with frame {first} after {previous_claimed}"));
        }
        let writer = ProcessId { pid: of as u32, started, boot };
        Ok(Self { stage, generation: (of >> 32) as u32, writer, first, previous_claimed, metadata: metadata as u32 })
    }
}

/// The extension in shared memory.
#[derive(Debug)]
pub(super) struct Extension {
    words: Fixed<WORDS>,
    /// Missing when the file may not be written by this process.
    bell: Option<Bell<EVENTS>>,
}

impl Extension {
    /// Bytes of a file that has a header, a block, and nothing else.
    pub(super) fn content(mut header: Vec<u8>, block: Block) -> Vec<u8> {
        header.resize(BEGIN as usize, 0);
        header.extend_from_slice(block.to_words().map(u64::to_ne_bytes).as_flattened());
        header
    }

    /// That of a header's file, if it has one.
    pub(super) fn find(segment: &Segment, path: &Path) -> Result<Option<Self>> {
        if segment.len().map_err(Error::file("fstat", path))? < FILE_LEN {
            return Ok(None);
        }
        let mapped = |result| Error::file("mmap", path)(result);
        let words: Fixed<WORDS> = Fixed::new(segment, BEGIN, Access::Read).map_err(mapped)?;
        let Ok([first]) = words.load(BLOCK);
        if first as u32 != MAGIC {
            return Ok(None);
        }
        // The one page that readers write to; without it they look again and again.
        let bell = Segment::open_writable(path).ok().filter(|again| is_same(again, segment));
        let sleepers = bell.and_then(|again| Fixed::new(&again, SLEEPERS, Access::Write).ok());
        Ok(Some(Self { words, bell: sleepers.map(Bell::new) }))
    }

    /// That of a file which is as long as it must be, for its writer.
    pub(super) fn map(segment: &Segment, path: &Path) -> Result<Self> {
        let words = Fixed::new(segment, BEGIN, Access::Write).map_err(Error::file("mmap", path))?;
        let sleepers = Fixed::new(segment, SLEEPERS, Access::Write).map_err(Error::file("mmap", path))?;
        Ok(Self { words, bell: Some(Bell::new(sleepers)) })
    }

    /// Changes with every change of block or header.
    #[inline(always)]
    pub(super) fn sequence(&self) -> u32 {
        let Ok([first]) = self.words.load(BLOCK);
        seqlock::sequence(first)
    }

    /// The block, and what of the header is read between: both as they were at one moment. `None` in a change.
    pub(super) fn try_read<T>(&self, path: &Path, header: impl FnOnce() -> T) -> Result<Option<(Block, u32, T)>> {
        let Ok(whole) = seqlock::try_read::<REST, _, _>(&*self.words, BLOCK, header);
        let Some(whole) = whole else { return Ok(None) };
        let block = Block::from_words(whole.first, whole.rest, path)?;
        Ok(Some((block, seqlock::sequence(whole.first), whole.between)))
    }

    /// The block as it is, which a writer that has died in a change may have left half changed.
    pub(super) fn read_remains(&self, path: &Path) -> Result<Block> {
        let Ok([first]) = self.words.load(BLOCK);
        let Ok(rest) = self.words.load(BLOCK + 1);
        Block::from_words(first, rest, path)
    }

    /// Replaces the block, together with what of the header `change` replaces, and tells sleepers.
    pub(super) fn write(&self, block: Block, change: impl FnOnce()) {
        seqlock::write_with(&*self.words, BLOCK, &block.to_words(), change);
        self.ring();
    }

    /// Frames up to this number may be touched from now on.
    #[inline(always)]
    pub(super) fn claim(&self, claimed: u64) {
        laps::claim(&*self.words, LAPS, claimed);
    }

    /// Frames up to this number are there, after what `publish` stores. Wakes who sleeps.
    #[inline(always)]
    pub(super) fn commit(&self, committed: u64, publish: impl FnOnce()) {
        laps::commit(&*self.words, LAPS, committed, publish);
        self.words.store(LAST_WRITE, sys::coarse_realtime().cast_unsigned());
        self.ring();
    }

    /// Has a new ring begin with this frame.
    pub(super) fn begin(&self, first: u64) {
        laps::claim(&*self.words, LAPS, first);
        laps::commit(&*self.words, LAPS, first, || ());
    }

    #[inline(always)]
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring(&self.words);
        }
    }

    /// How many frames have been committed: these can be copied.
    #[inline(always)]
    pub(super) fn committed(&self) -> u64 {
        let Ok(committed) = laps::committed(&*self.words, LAPS);
        committed
    }

    /// How many frames have been claimed, after a copy.
    #[inline(always)]
    pub(super) fn claimed(&self) -> u64 {
        let Ok(claimed) = laps::claimed(&*self.words, LAPS);
        claimed
    }

    /// When the last frames were committed; 0 when none were.
    pub(super) fn last_write_ns(&self) -> i64 {
        let Ok([time]) = self.words.load(LAST_WRITE);
        time.cast_signed()
    }

    /// What a sleeper needs; [`Bell::announce`].
    pub(super) fn announce(&self) -> Option<u32> {
        self.bell.as_ref().map(|bell| bell.announce(&self.words))
    }

    /// Sleeps after an announcement; [`Bell::sleep`].
    pub(super) fn sleep(&self, count: u32, limit: Duration) -> bool {
        self.bell.as_ref().is_some_and(|bell| bell.sleep(&self.words, count, limit))
    }
}

fn is_same(one: &Segment, other: &Segment) -> bool {
    matches!((one.identity(), other.identity()), (Ok(one), Ok(other)) if one == other)
}
