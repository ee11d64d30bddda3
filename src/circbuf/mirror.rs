//! The reading end of a stream.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::extension::{Block, Extension, MAX_COUNT, Stage};
use super::format::Format;
use super::header::{Epoch, Header, Layout, NO_GENERATION, Snapshot};
use super::info::{Info, State};
use super::metadata::{self, Metadata};
use super::names::Names;
use super::ring::{Part, Ring};
use super::turn;
use crate::shm::{Access, Patience, Segment, Turns};
use crate::sys::{self, ProcessId};

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
    state: Turns<Reader>,
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
    bell: Option<(Arc<Link>, u32)>,
    limit: Duration,
}

/// How long a header may look damaged: the peer's are seen while they are made.
const GRACE: Duration = Duration::from_millis(50);
/// How often to look whether the stream's name has come to mean something else, and its writer has died.
const LOOK: Duration = Duration::from_millis(100);
/// How often to look for what is not there yet.
const LOOK_FOR: Duration = Duration::from_millis(5);
/// How often to look at the indices of a writer that rings no bell, at first and at last.
const NAPS: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];
/// How long a change of the format may take to be seen whole.
const CHANGE: Duration = Duration::from_millis(1);
/// Copies that are overwritten before a read gives up.
const ATTEMPTS: usize = 16;

#[derive(Debug, Default)]
struct Reader {
    link: Option<Arc<Link>>,
    /// What the link said when it was read last.
    seen: Option<Seen>,
    attached: Option<Attached>,
    /// The ring before that, and the first frame of it that is whole for ever.
    previous: Option<(u64, u64)>,
    /// The ring that the caller may have pointers to: it stays until the caller has asked for the next one's format.
    viewed: Option<Arc<Ring>>,
    /// Rings that there have been.
    rings: u64,
    /// Number of the frame to be read next.
    position: u64,
    /// Frames that were lost, in all, and those not yet told.
    lost: u64,
    untold: u64,
    /// Whether reading has yet to begin, with the oldest frame: what is gone by then is not missed.
    is_fresh: bool,
    /// Whether the caller has yet to ask for the format.
    is_new: bool,
    /// Whether the name means this stream no more.
    is_gone: bool,
    /// Whether the writer had died when that was looked at.
    is_dead: bool,
    /// Whether the end of the writer was told.
    is_told: bool,
    looked: Option<Instant>,
    /// Since when what has the name is no stream, and why.
    damage: Option<(Instant, String)>,
    nap: Duration,
}

/// A header that is mapped.
#[derive(Debug)]
struct Link {
    path: PathBuf,
    segment: Segment,
    header: Header,
    layout: Layout,
    extension: Option<Extension>,
}

/// What has changed when it is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Ours(u32),
    Foreign(Epoch),
}

#[derive(Debug)]
struct Seen {
    mark: Mark,
    block: Option<Block>,
    header: Snapshot,
}

/// A ring that is mapped.
#[derive(Debug)]
struct Attached {
    id: u64,
    format: Format,
    ring: Arc<Ring>,
    generation: u32,
    /// Number of its first frame.
    first: u64,
    /// Of a ring that was replaced: frames that were committed and claimed when it was.
    end: Option<(u64, u64)>,
    /// How far a foreign writer had come.
    total: u64,
}

impl Link {
    /// The header that has the name, if one has. `Malformed` may be one that is being made.
    fn open(path: PathBuf) -> Result<Option<Self>> {
        let segment = match Segment::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::file("open", &path))?,
        };
        let layout = Header::layout(&segment, &path)?;
        let header = Header::map(&segment, layout, Access::Read, &path)?;
        let extension = Extension::find(&segment, &path)?;
        Ok(Some(Self { path, segment, header, layout, extension }))
    }

    #[inline]
    fn mark(&self) -> Mark {
        match &self.extension {
            Some(extension) => Mark::Ours(extension.sequence()),
            None => Mark::Foreign(self.header.epoch()),
        }
    }

    /// All that it says, as of one moment. `None` in a change that takes too long.
    fn read(&self) -> Result<Option<Seen>> {
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

    /// The process that writes, if it says so. In a change that does not end, too.
    fn writer(&self) -> Option<ProcessId> {
        Some(self.extension.as_ref()?.read_remains(&self.path).ok()?.writer)
    }

    /// How many frames a foreign writer has written, which has no counter: its index and its wraps are not stored at once.
    fn total(&self, frames: u64, before: u64) -> Result<u64> {
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

impl Mirror {
    /// Makes a mirror. The stream need not be there yet.
    ///
    /// [`Error::Name`].
    pub fn open(name: &str, options: MirrorOptions) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::Name);
        }
        let (names, mut reader) = (Names::new(name), Reader::default());
        if options.from_now
            && reader.refresh(&names).is_ok()
            && let Ok(Some((_, newest))) = reader.window()
        {
            (reader.position, reader.is_fresh) = (newest, false);
        }
        Ok(Self { names, state: Turns::new(reader) })
    }

    /// What the frames are. Frames of a format that the caller does not know are not read, so this begins it all.
    ///
    /// [`Error::Absent`], [`Error::NoFormat`]; [`Error::Malformed`], [`Error::File`].
    pub fn format(&self) -> Result<(Format, Layout)> {
        self.turn(|reader, names| {
            reader.renew(names)?;
            let (attached, layout) = reader.current(names)?;
            let format = attached.format.clone();
            if std::mem::take(&mut reader.is_new) {
                reader.viewed = None;
            }
            Ok((format, layout))
        })
    }

    /// Copies the frames that come next, as many as there are and find room, and their timestamps if there is room for
    /// these: what is copied is whole, and no frame comes twice.
    ///
    /// Where the layout has no timestamps they are counted from the begin of the ring by the rate; NaN without one.
    ///
    /// [`Error::NewFormat`] until the caller has asked for the format; [`Error::Length`] when there is no room for a
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
        self.turn(|reader, names| reader.view(names, limit))
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
        self.turn(|reader, names| {
            reader.renew(names)?;
            if let Some((oldest, newest)) = reader.window()? {
                reader.position = number.clamp(oldest, newest);
                reader.is_fresh = false;
            }
            Ok(())
        })
    }

    /// Waits until there are at least so many frames, 1 or more, something else is to be said, or a signal comes.
    ///
    /// That its writer has ended or died is said at once by the first wait, and by later ones when their time is over:
    /// they wait for the next writer.
    ///
    /// As [`Mirror::read`].
    pub fn wait(&self, frames: u64, timeout: Option<Duration>) -> Result<Awaited> {
        let frames = frames.max(1);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return self.turn(|reader, names| Ok(reader.glance(names, frames)?.unwrap_or_else(|| reader.verdict())));
        }
        let begin = Instant::now();
        loop {
            match self.poll(frames)? {
                Wait::Over(awaited) => return Ok(awaited),
                Wait::Sleep(sleep) => {
                    let left = timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(begin.elapsed()));
                    if left.is_zero() || sleep.sleep(left) {
                        return self
                            .turn(|reader, names| Ok(reader.find(names, frames)?.unwrap_or_else(|| reader.verdict())));
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
        self.turn(|reader, names| {
            reader.renew(names)?;
            Ok(reader.current(names)?.0.ring.clone())
        })
    }

    /// What there is to know of the stream.
    ///
    /// As [`Mirror::read`].
    pub fn info(&self) -> Result<Info> {
        self.turn(Reader::info)
    }

    /// Takes a turn. What is damaged may have been replaced meanwhile: then once more.
    fn turn<T>(&self, mut attempt: impl FnMut(&mut Reader, &Names) -> Result<T>) -> Result<T> {
        let mut reader = turn(&self.state)?;
        match attempt(&mut reader, &self.names) {
            Err(error @ Error::Malformed { .. }) => match reader.look(&self.names, LOOK)? {
                true => attempt(&mut reader, &self.names),
                false => Err(error),
            },
            result => result,
        }
    }
}

impl Reader {
    /// Has what is attached be what the header says.
    #[inline]
    fn refresh(&mut self, names: &Names) -> Result<()> {
        if self.link.is_none() {
            self.look(names, LOOK_FOR)?;
        }
        let Some(link) = &self.link else { return Ok(()) };
        let is_current = self.seen.as_ref().is_some_and(|seen| seen.mark == link.mark());
        let is_last = self.attached.as_ref().is_some_and(|attached| attached.end.is_none());
        if is_current && is_last { Ok(()) } else { self.follow(names) }
    }

    /// The same, and notices at once what has come in place of the stream.
    fn renew(&mut self, names: &Names) -> Result<()> {
        self.look(names, if self.link.is_some() { LOOK } else { Duration::ZERO })?;
        self.refresh(names)
    }

    /// The ring that is read now.
    fn current(&self, names: &Names) -> Result<(&Attached, Layout)> {
        let name = || names.stream().to_owned();
        let link = self.link.as_ref().ok_or_else(|| Error::Absent(name()))?;
        let attached = self.attached.as_ref().ok_or_else(|| Error::NoFormat(name()))?;
        Ok((attached, link.layout))
    }

    /// Reads the header anew, and attaches the ring that it names: when the one before is read to its end.
    #[cold]
    fn follow(&mut self, names: &Names) -> Result<()> {
        let Some(link) = self.link.clone() else { return Ok(()) };
        // In a change that does not end, what is attached can still be read.
        let Some(seen) = link.read()? else { return Ok(()) };
        let block = seen.block;
        let writer = |seen: &Seen| seen.block.map(|block| block.writer);
        if self.seen.as_ref().and_then(writer) != writer(&seen) {
            (self.is_told, self.is_dead) = (false, false);
        }
        let generation = block.map_or(seen.header.epoch.generation, |block| block.generation);
        let has_ring = match block {
            Some(block) => block.generation != NO_GENERATION && block.stage != Stage::Unconfigured,
            None => true,
        } && seen.header.epoch.valid;
        if let Some(attached) = &mut self.attached
            && attached.end.is_none()
            && (block.is_some() || has_ring)
            && (attached.generation, Some(attached.first))
                != (generation, block.map_or(Some(0), |block| Some(block.first)))
        {
            attached.end = Some(match block {
                Some(block) if generation == next_generation(attached.generation) => {
                    (block.first.max(self.position), block.previous_claimed.max(block.first))
                }
                // More than one format was missed, or the writer does not tell: what is left is not known.
                _ => (self.position, u64::MAX),
            });
        }
        let is_due = match &self.attached {
            Some(Attached { end: Some((committed, _)), .. }) => self.position >= *committed,
            Some(_) => false,
            None => true,
        };
        let attach = (is_due && has_ring).then(|| (seen.header.clone(), block));
        if let (true, false, Some(extension), Some(_)) = (is_due, has_ring, &link.extension, &self.attached) {
            // A ring came and went meanwhile.
            let committed = extension.committed();
            self.skip_to(committed.min(MAX_COUNT));
        }
        self.seen = Some(seen);
        match attach {
            Some((header, block)) => self.attach(names, &link, &header, block),
            None => Ok(()),
        }
    }

    fn attach(&mut self, names: &Names, link: &Link, header: &Snapshot, block: Option<Block>) -> Result<()> {
        let format = header.format(&link.path)?;
        let path = names.ring(header.epoch.generation);
        let segment = match Segment::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.seen = None; // it has been replaced, or removed, since its name was read
                return Ok(());
            }
            opened => opened.map_err(Error::file("open", &path))?,
        };
        let mut ring = Ring::map(&segment, &format, link.layout, Access::Read, &path)?;
        let first = block.map_or(0, |block| block.first);
        let is_next = match self.attached.take() {
            Some(Attached { id, end: Some((_, claimed)), ring, .. }) if block.is_some() => {
                self.previous = (claimed < u64::MAX).then(|| (id, claimed.saturating_sub(ring.frames() as u64)));
                true
            }
            _ => {
                self.previous = None;
                false
            }
        };
        self.rings += 1;
        ring.set_id(self.rings);
        self.attached = Some(Attached {
            id: self.rings,
            format,
            ring: Arc::new(ring),
            generation: header.epoch.generation,
            first,
            end: None,
            total: 0,
        });
        self.is_new = true;
        self.is_told = false;
        let (oldest, _) = self.window()?.unwrap_or_default();
        if is_next {
            self.skip_to(oldest);
        } else {
            (self.position, self.is_fresh) = (oldest, true);
        }
        Ok(())
    }

    /// Numbers of the oldest frame that is whole and of the one after the newest.
    fn window(&mut self) -> Result<Option<(u64, u64)>> {
        let (Some(link), Some(attached)) = (&self.link, &mut self.attached) else { return Ok(None) };
        let frames = attached.ring.frames() as u64;
        let (committed, claimed) = match (&link.extension, attached.end) {
            (_, Some((committed, claimed))) if claimed < u64::MAX => (committed, claimed),
            (Some(extension), None) => {
                // In this order, so that the claim is the newer one.
                let committed = extension.committed();
                (committed, extension.claimed())
            }
            (None, None) if !link.header.epoch().valid => return Ok(Some((self.position, self.position))),
            (None, None) => {
                attached.total = link.total(frames, attached.total)?;
                (attached.total, attached.total)
            }
            _ => return Ok(Some((self.position, self.position))),
        };
        if claimed > MAX_COUNT || committed > claimed {
            let why = format!("{committed} frames committed of {claimed} that were claimed");
            return Err(Error::malformed(&link.path, why));
        }
        let newest = committed.max(attached.first);
        Ok(Some((claimed.saturating_sub(frames).clamp(attached.first, newest), newest)))
    }

    /// The first frame that is whole, after a copy.
    fn oldest_after(&self) -> Result<u64> {
        let (Some(link), Some(attached)) = (&self.link, &self.attached) else { return Ok(u64::MAX) };
        let claimed = match (attached.end, &link.extension) {
            (Some((_, claimed)), _) => claimed,
            (None, Some(extension)) => extension.claimed(),
            (None, None) if !link.header.epoch().valid => u64::MAX,
            (None, None) => link.total(attached.ring.frames() as u64, attached.total)?,
        };
        Ok(claimed.saturating_sub(attached.ring.frames() as u64))
    }

    /// Goes on to a frame; those before it are lost.
    fn skip_to(&mut self, number: u64) {
        let skipped = number.saturating_sub(self.position);
        self.position += skipped;
        if !self.is_fresh {
            self.lost += skipped;
            self.untold += skipped;
        }
    }

    /// Goes on to the oldest frame that is whole; the range of what can be read from there.
    fn next(&mut self) -> Result<Option<(u64, u64)>> {
        let Some((oldest, newest)) = self.window()? else { return Ok(None) };
        self.skip_to(oldest);
        if self.position > newest && self.link.as_ref().is_some_and(|link| link.extension.is_none()) {
            self.position = newest; // it has begun anew
        }
        Ok(Some((self.position, newest.max(self.position))))
    }

    /// Copies what comes next, or what lies between two times.
    fn read(
        &mut self,
        names: &Names,
        times: Option<(f64, f64)>,
        frames: &mut [MaybeUninit<u8>],
        mut timestamps: Option<&mut [MaybeUninit<f64>]>,
        limit: usize,
    ) -> Result<Span> {
        for _ in 0..ATTEMPTS {
            let mark = self.mark();
            self.refresh(names)?;
            let range = match times {
                None => self.next()?,
                Some((from, to)) => self.range(from, to)?,
            };
            let (Some((first, end)), Some(attached)) = (range, &self.attached) else { return Ok(Span::default()) };
            if self.is_new {
                return Err(Error::NewFormat);
            }
            let (ring, frame_size) = (attached.ring.clone(), attached.ring.frame_size());
            if frames.len() < frame_size {
                return Err(Error::Length { bytes: frames.len(), frame_size, timestamps: None });
            }
            let room = (frames.len() / frame_size).min(timestamps.as_ref().map_or(usize::MAX, |times| times.len()));
            let count = room.min(limit).min(usize::try_from(end - first).unwrap_or(usize::MAX));
            if count == 0 {
                self.look(names, LOOK)?;
                return Ok(self.told(self.span(first, count)));
            }
            let mut done = 0;
            for part in ring.parts(attached.index(first), count) {
                ring.read(part, &mut frames[done * frame_size..]);
                if let Some(times) = timestamps.as_deref_mut() {
                    attached.timestamps(part, first + done as u64, &mut times[done..]);
                }
                done += part.count;
            }
            let oldest = self.oldest_after()?;
            if self.mark() != mark {
                continue; // the counters may be those of another ring
            }
            let torn = oldest.saturating_sub(first).min(count as u64) as usize;
            if torn > 0 {
                frames.copy_within(torn * frame_size..count * frame_size, 0);
                if let Some(times) = timestamps.as_deref_mut() {
                    times.copy_within(torn..count, 0);
                }
            }
            let (first, count) = (first + torn as u64, count - torn);
            if times.is_none() {
                self.skip_to(first);
            }
            if count > 0 {
                let span = self.span(first, count);
                if times.is_some() {
                    return Ok(span);
                }
                self.position = first + count as u64;
                self.is_fresh = false;
                return Ok(self.told(span));
            }
        }
        // The writer laps every copy.
        Ok(self.told(self.span(self.position, 0)))
    }

    fn view(&mut self, names: &Names, limit: usize) -> Result<Option<View>> {
        for _ in 0..ATTEMPTS {
            let mark = self.mark();
            self.refresh(names)?;
            let (Some((first, end)), Some(attached)) = (self.next()?, &self.attached) else { break };
            if self.is_new {
                return Err(Error::NewFormat);
            }
            if self.mark() != mark {
                continue;
            }
            let count = limit.min(usize::try_from(end - first).unwrap_or(usize::MAX));
            let (memory, index) = (attached.ring.clone(), attached.index(first));
            if !self.viewed.as_ref().is_some_and(|viewed| Arc::ptr_eq(viewed, &memory)) {
                self.viewed = Some(memory.clone());
            }
            let counts = memory.parts(index, count).map(|part| part.count);
            let span = self.span(first, count);
            if count == 0 {
                self.look(names, LOOK)?;
            } else {
                self.position = first + count as u64;
                self.is_fresh = false;
            }
            return Ok(Some(View { span: self.told(span), index, counts, memory }));
        }
        Ok(None)
    }

    fn is_intact(&mut self, names: &Names, span: &Span) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let mark = self.mark();
            self.refresh(names)?;
            let oldest = match (&self.attached, self.previous) {
                (Some(attached), _) if attached.id == span.ring => self.oldest_after()?,
                (_, Some((id, oldest))) if id == span.ring => oldest,
                _ => return Ok(false),
            };
            if self.mark() == mark {
                return Ok(span.first >= oldest);
            }
        }
        Ok(false)
    }

    #[inline]
    fn mark(&self) -> Option<Mark> {
        self.link.as_ref().map(|link| link.mark())
    }

    /// Adds what was lost and not told.
    fn told(&mut self, span: Span) -> Span {
        Span { lost: std::mem::take(&mut self.untold), ..span }
    }

    fn span(&self, first: u64, count: usize) -> Span {
        let ring = self.attached.as_ref().map_or(0, |attached| attached.id);
        let metadata_generation = self.seen.as_ref().map_or(0, |seen| seen.header.epoch.metadata);
        Span { first, count, lost: 0, ring, metadata_generation }
    }

    /// The frames of a range of time.
    fn range(&mut self, from: f64, to: f64) -> Result<Option<(u64, u64)>> {
        let Some((oldest, newest)) = self.window()? else { return Ok(None) };
        let Some(attached) = &self.attached else { return Ok(None) };
        if !attached.ring.has_timestamps() && attached.format.rate == 0.0 {
            return Err(Error::Timeless);
        }
        // The first frame of which the time is not before `time`.
        let find = |time: f64| {
            let (mut low, mut high) = (oldest, newest);
            while low < high {
                let middle = low + (high - low) / 2;
                if attached.timestamp(middle) < time { low = middle + 1 } else { high = middle }
            }
            low
        };
        let begin = find(from);
        Ok(Some((begin, find(to).max(begin))))
    }

    fn poll(&mut self, names: &Names, frames: u64) -> Result<Wait> {
        if let Some(awaited) = self.find(names, frames)? {
            self.nap = NAPS[0];
            return Ok(Wait::Over(awaited));
        }
        let bell = self.link.as_ref().and_then(|link| link.extension.as_ref()).and_then(Extension::announce);
        // What happened before the announcement is seen now, what happens after it ends the sleep.
        if bell.is_some()
            && let Some(awaited) = self.find(names, frames)?
        {
            return Ok(Wait::Over(awaited));
        }
        if let Some(awaited) = self.glance(names, frames)? {
            return Ok(Wait::Over(awaited));
        }
        let ended = match self.state() {
            State::Dead => Some(Awaited::Dead),
            State::Ended => Some(Awaited::Ended),
            _ => None,
        };
        if let Some(ended) = ended
            && !std::mem::replace(&mut self.is_told, true)
        {
            return Ok(Wait::Over(ended));
        }
        let limit = match bell {
            Some(_) if ended.is_none() => LOOK,
            _ if self.link.is_none() || ended.is_some() => LOOK_FOR,
            _ => {
                let nap = self.nap.max(NAPS[0]);
                self.nap = (nap * 2).min(NAPS[1]);
                nap
            }
        };
        Ok(Wait::Sleep(Sleep { bell: self.link.clone().zip(bell), limit }))
    }

    /// What there is to be said of what is there, and of what has come in its place.
    fn glance(&mut self, names: &Names, frames: u64) -> Result<Option<Awaited>> {
        if let Some(awaited) = self.find(names, frames)? {
            return Ok(Some(awaited));
        }
        self.look(names, LOOK)?;
        self.find(names, frames)
    }

    fn find(&mut self, names: &Names, frames: u64) -> Result<Option<Awaited>> {
        self.refresh(names)?;
        if self.is_new && self.attached.is_some() {
            return Ok(Some(Awaited::Format));
        }
        let Some((oldest, newest)) = self.window()? else { return Ok(None) };
        let there = newest.saturating_sub(self.position.max(oldest));
        // What is left of a ring or a writer is all that comes of it, and more than a ring holds never come.
        let wanted = match &self.attached {
            Some(Attached { end: Some(_), .. }) => 1,
            _ if matches!(self.state(), State::Ended | State::Dead) => 1,
            Some(attached) => frames.min(attached.ring.frames() as u64),
            None => frames,
        };
        Ok((there >= wanted).then_some(Awaited::Frames(there)))
    }

    /// Looks whether the name means another stream now, unless that was done just before: whether it does.
    #[cold]
    fn look(&mut self, names: &Names, interval: Duration) -> Result<bool> {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < interval) {
            return self.damaged(now, names).map(|()| false);
        }
        self.looked = Some(now);
        let path = names.header();
        if let Some(link) = &self.link {
            match link.segment.is_at(&path) {
                Ok(is_there) => self.is_gone = !is_there,
                Err(error) => return Err(Error::file("stat", &path)(error)),
            }
            self.is_dead = link.writer().is_some_and(|writer| writer.is_dead());
            // What is left of the old one comes first.
            if !self.is_gone
                || self.window().is_ok_and(|window| window.is_some_and(|(_, newest)| self.position < newest))
            {
                return Ok(false);
            }
        }
        match Link::open(path) {
            Ok(None) => {
                self.damage = None;
                Ok(false)
            }
            Ok(Some(link)) => {
                let Reader { rings, lost, untold, looked, .. } = *self;
                let viewed = self.viewed.take();
                let is_dead = link.writer().is_some_and(|writer| writer.is_dead());
                let link = Some(Arc::new(link));
                *self = Self { viewed, rings, lost, untold, looked, link, ..Self::default() };
                self.follow(names)?;
                self.is_dead = is_dead;
                Ok(true)
            }
            Err(Error::Malformed { why, .. }) => {
                let since = self.damage.as_ref().map_or(now, |(since, _)| *since);
                self.damage = Some((since, why));
                self.damaged(now, names).map(|()| false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether what has the name is no stream, and has been none for long enough.
    fn damaged(&self, now: Instant, names: &Names) -> Result<()> {
        match &self.damage {
            Some((since, why)) if now - *since >= GRACE => Err(Error::malformed(&names.header(), why.as_str())),
            _ => Ok(()),
        }
    }

    fn metadata(&mut self, names: &Names) -> Result<Metadata> {
        self.look(names, LOOK)?;
        // Another generation may replace the one that is named while it is being opened.
        for _ in 0..ATTEMPTS {
            self.refresh(names)?;
            let Some(header) = self.seen.as_ref().map(|seen| &seen.header) else { break };
            let (generation, len) = (header.epoch.metadata, header.metadata_len as usize);
            if generation == 0 {
                break;
            }
            let path = names.metadata(generation);
            if len > metadata::MAX_BYTES {
                let why = format!("metadata of {len} bytes: at most {} are read", metadata::MAX_BYTES);
                return Err(Error::malformed(&path, why));
            }
            let mut pickle = vec![0; len];
            let segment = match Segment::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.seen = None;
                    continue;
                }
                opened => opened.map_err(Error::file("open", &path))?,
            };
            segment.read(0, &mut pickle).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => Error::malformed(&path, format!("shorter than {len} bytes")),
                _ => Error::file("read", &path)(error),
            })?;
            return Ok(Metadata::from_pickle(&pickle)?);
        }
        Err(Error::NoMetadata)
    }

    fn info(&mut self, names: &Names) -> Result<Info> {
        self.refresh(names)?;
        self.look(names, Duration::ZERO)?;
        let (state, position, lost) = (self.state(), self.position, self.lost);
        let mut info = Info { state, generation: NO_GENERATION, position, lost, ..Info::default() };
        let Some(link) = &self.link else { return Ok(info) };
        info.layout = Some(link.layout);
        if let Some(seen) = &self.seen {
            info.metadata_generation = seen.header.epoch.metadata;
            info.generation = seen.header.epoch.generation;
            info.pid = seen.block.map(|block| block.writer.pid);
        }
        if let Some(extension) = &link.extension {
            info.is_ours = true;
            info.last_write_ns = extension.last_write_ns();
        }
        if let Some((oldest, newest)) = self.window()? {
            (info.oldest, info.written) = (oldest, newest);
            info.begin = self.attached.as_ref().map_or(0, |attached| attached.first);
        }
        Ok(info)
    }

    /// What there is to say when there is nothing to be read.
    fn verdict(&self) -> Awaited {
        match self.state() {
            State::Absent => Awaited::Absent,
            State::Dead => Awaited::Dead,
            State::Ended => Awaited::Ended,
            State::Unconfigured | State::Alive | State::Unknown => Awaited::Nothing,
        }
    }

    fn state(&self) -> State {
        let Some(link) = &self.link else { return State::Absent };
        let stage = self.seen.as_ref().and_then(|seen| seen.block).map(|block| block.stage);
        match stage {
            Some(Stage::Ended) => State::Ended,
            _ if self.is_dead => State::Dead,
            Some(Stage::Live) => State::Alive,
            None if link.extension.is_none() && self.is_gone => State::Ended,
            None if link.extension.is_none() && self.attached.is_some() => State::Unknown,
            Some(Stage::Unconfigured) | None => State::Unconfigured,
        }
    }
}

impl Attached {
    #[inline]
    fn index(&self, number: u64) -> usize {
        ((number - self.first) % self.ring.frames() as u64) as usize
    }

    fn timestamp(&self, number: u64) -> f64 {
        if self.ring.has_timestamps() {
            self.ring.timestamp(self.index(number))
        } else if self.format.rate > 0.0 {
            (number - self.first) as f64 / self.format.rate
        } else {
            f64::NAN
        }
    }

    fn timestamps(&self, part: Part, number: u64, to: &mut [MaybeUninit<f64>]) {
        if self.ring.has_timestamps() {
            self.ring.read_timestamps(part, to);
        } else {
            for (i, time) in to[..part.count].iter_mut().enumerate() {
                time.write(self.timestamp(number + i as u64));
            }
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

fn next_generation(generation: u32) -> u32 {
    match generation.wrapping_add(1) {
        NO_GENERATION => 0,
        next => next,
    }
}
