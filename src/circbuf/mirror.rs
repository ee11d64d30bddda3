//! The reading end of a stream.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::format::Format;
use super::header::Layout;
use super::info::Info;
use super::link::Link;
use super::metadata::Metadata;
use super::names::Names;
use super::reader::{CHECK, Reader};
use super::ring::Ring;
use super::turn;
use crate::shm::Turns;
use crate::sys;

/// How a mirror begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorOptions {
    /// With the frames that are written after its making. Otherwise with the oldest that is there.
    pub from_now: bool,
}

/// A reader of a stream, which need not be there yet, and may be made anew at any time. Threads take turns.
#[derive(Debug)]
pub struct Mirror {
    names: Names,
    reader: Turns<Reader>,
}

/// Which frames were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Number of the first.
    pub first: u64,
    /// How many.
    pub count: usize,
    /// How many before the first were lost, unless they were told before.
    pub lost: u64,
    /// Which ring they are of: each that a mirror reads has another number.
    pub ring: u64,
    /// Generation of the metadata that the stream has now, 0 when it has none.
    pub metadata_generation: u32,
}

/// Frames in the ring, which may be overwritten at any moment: [`Mirror::is_intact`] tells, afterwards.
#[derive(Clone, Debug)]
pub struct View {
    /// Which they are.
    pub span: Span,
    /// Index of the first.
    pub index: usize,
    /// Frames from there to the end of the ring at most, then those from its begin.
    pub counts: [usize; 2],
    /// The memory.
    pub memory: Arc<Ring>,
}

/// What a wait has ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// So many frames can be read.
    Frames(u64),
    /// There is a format to be asked for.
    Format,
    /// Nothing: the writer lives, or is one that does not tell.
    Nothing,
    /// Nothing, and the writer has died. A next one may come.
    Dead,
    /// Nothing, and the writer has ended in order. A next one may come.
    Ended,
    /// There is no stream of this name yet.
    Absent,
}

/// What [`Mirror::poll`] finds.
#[derive(Debug)]
pub enum Wait {
    /// Something to do.
    Over(Awaited),
    /// Nothing yet: to be slept on, for a limited time.
    Sleep(Sleep),
}

/// What ends when something may have happened.
#[derive(Debug)]
pub struct Sleep {
    /// Whose bell to sleep by, and what it counts.
    pub(super) bell: Option<(Arc<Link>, u32)>,
    pub(super) limit: Duration,
}

impl Mirror {
    /// Makes a mirror. The stream need not be there yet.
    ///
    /// [`Error::Name`].
    pub fn open(name: &str, options: MirrorOptions) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::Name);
        }
        let (names, mut reader) = (Names::new(name), Reader::default());
        if options.from_now {
            // What cannot be read now, later calls say.
            let _ = reader.seek(&names, u64::MAX);
        }
        Ok(Self { names, reader: Turns::new(reader) })
    }

    /// What the frames are. Frames of a format that the caller does not know are not read, so this begins it all.
    ///
    /// [`Error::Absent`], [`Error::NoFormat`]; [`Error::Malformed`], [`Error::File`].
    pub fn format(&self) -> Result<(Format, Layout)> {
        self.turn(Reader::format)
    }

    /// Copies the frames that come next, as many as there are and find room, and their timestamps if there is room for
    /// these: what is copied is whole, and no frame comes twice.
    ///
    /// Where the layout has no timestamps they are counted from the begin of the ring by the rate; NaN without one.
    ///
    /// [`Error::NewFormat`] until the caller has asked for the format; [`Error::NoRoom`] when there is none for a
    /// frame; [`Error::Malformed`], [`Error::File`].
    pub fn read(
        &self,
        frames: &mut [MaybeUninit<u8>],
        mut timestamps: Option<&mut [MaybeUninit<f64>]>,
        limit: usize,
    ) -> Result<Span> {
        self.turn(|reader, names| reader.read(names, None, frames, timestamps.as_deref_mut(), limit))
    }

    /// Copies frames by their time: those of `from` and later, before `to`. What is read next stays as it is.
    ///
    /// Timestamps must ascend for that. As [`Mirror::read`]; [`Error::Timeless`].
    pub fn read_time(
        &self,
        from: f64,
        to: f64,
        frames: &mut [MaybeUninit<u8>],
        mut timestamps: Option<&mut [MaybeUninit<f64>]>,
        limit: usize,
    ) -> Result<Span> {
        self.turn(|reader, names| reader.read(names, Some((from, to)), frames, timestamps.as_deref_mut(), limit))
    }

    /// The frames that come next, `limit` at most, where they are: without a copy, and without a promise. `None` when there
    /// is no stream, or none with a format.
    ///
    /// As [`Mirror::read`].
    pub fn view(&self, limit: usize) -> Result<Option<View>> {
        self.show(limit, |span, index, counts, memory| View { span, index, counts, memory: memory.clone() })
    }

    /// The same for who needs the memory no longer than the view, which takes a part in its count.
    #[inline(always)]
    pub(crate) fn show<T>(
        &self,
        limit: usize,
        mut show: impl FnMut(Span, usize, [usize; 2], &Arc<Ring>) -> T,
    ) -> Result<Option<T>> {
        self.turn(|reader, names| reader.view(names, limit, &mut show))
    }

    /// Whether the frames of a view are still what they were when it was made: asked after they were used.
    ///
    /// What a foreign writer is about to overwrite it does not say: then only what it has overwritten is known.
    pub fn is_intact(&self, span: &Span) -> Result<bool> {
        self.turn(|reader, names| reader.is_intact(names, span))
    }

    /// Goes to the frame of this number, or to the nearest that is there.
    ///
    /// As [`Mirror::read`].
    pub fn seek(&self, number: u64) -> Result<()> {
        self.turn(|reader, names| reader.seek(names, number))
    }

    /// Waits until there are at least so many frames, 1 or more, something else is to be said, or a signal comes.
    ///
    /// That its writer has ended or died is said at once by the first wait, and by later ones when their time is over:
    /// they wait for the next writer.
    ///
    /// As [`Mirror::read`].
    pub fn wait(&self, frames: u64, timeout: Option<Duration>) -> Result<Awaited> {
        let frames = frames.max(1);
        let at_last = || {
            self.turn(|reader, names| {
                reader.reopen(names, CHECK)?;
                Ok(reader.ready(names, frames)?.unwrap_or_else(|| reader.verdict()))
            })
        };
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return at_last();
        }
        let begin = Instant::now();
        loop {
            match self.poll(frames)? {
                Wait::Over(awaited) => return Ok(awaited),
                Wait::Sleep(sleep) => {
                    let left = timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(begin.elapsed()));
                    if left.is_zero() || sleep.sleep(left) {
                        return at_last();
                    }
                }
            }
        }
    }

    /// What a wait begins with, for loops of the caller's own. Between two of these, one sleeps.
    ///
    /// As [`Mirror::read`].
    pub fn poll(&self, frames: u64) -> Result<Wait> {
        self.turn(|reader, names| reader.poll(names, frames.max(1)))
    }

    /// The static metadata.
    ///
    /// [`Error::NoMetadata`]; [`Error::Metadata`] when it cannot be read; [`Error::File`].
    pub fn metadata(&self) -> Result<Metadata> {
        self.turn(Reader::metadata)
    }

    /// The memory of the ring that is read now, which stays mapped for as long as it is held.
    ///
    /// As [`Mirror::format`].
    pub fn ring(&self) -> Result<Arc<Ring>> {
        self.turn(Reader::ring)
    }

    /// What there is to know of the stream.
    ///
    /// As [`Mirror::read`].
    pub fn info(&self) -> Result<Info> {
        self.turn(Reader::info)
    }

    /// Takes a turn. What is damaged may have been replaced meanwhile: then once more.
    #[inline(always)]
    fn turn<T>(&self, mut attempt: impl FnMut(&mut Reader, &Names) -> Result<T>) -> Result<T> {
        let mut reader = turn(&self.reader)?;
        match attempt(&mut reader, &self.names) {
            Err(error @ Error::Malformed { .. }) => match reader.reopen(&self.names, CHECK)? {
                true => attempt(&mut reader, &self.names),
                false => Err(error),
            },
            result => result,
        }
    }
}

impl Sleep {
    /// Sleeps until something may have happened, no longer than `limit`, unless a signal comes: whether one has.
    pub fn sleep(&self, limit: Duration) -> bool {
        let limit = self.limit.min(limit);
        match &self.bell {
            Some((link, count)) => link.extension.as_ref().is_some_and(|extension| extension.sleep(*count, limit)),
            None => sys::nap(limit),
        }
    }
}
