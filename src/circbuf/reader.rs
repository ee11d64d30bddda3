//! What a mirror knows, and how it comes to know more.
//!
//! Nothing that a header says is used before a second look has shown that it still says so: the counters of one ring
//! mean nothing for another.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::extension::{Block, Extension, MAX_COUNT, Stage};
use super::format::Format;
use super::header::{Layout, NO_GENERATION};
use super::info::{Info, State};
use super::link::{Link, Mark, Seen};
use super::metadata::{self, Metadata};
use super::mirror::{Awaited, Sleep, Span, Wait};
use super::names::Names;
use super::ring::{Part, Ring};
use crate::shm::{Access, Segment};

/// How often to look whether the stream's name means another one, and whether its writer has died.
pub(super) const CHECK: Duration = Duration::from_millis(100);
/// The same while there is no stream.
const CHECK_ABSENT: Duration = Duration::from_millis(5);
/// How long a header may look damaged: the peer's are seen while they are made.
const GRACE: Duration = Duration::from_millis(50);
/// How often to look at the indices of a writer that rings no bell, at first and at last.
const NAPS: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];
/// Copies that are overwritten, or beside changes, before a call gives up.
const ATTEMPTS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Reader {
    stream: Option<Stream>,
    tally: Tally,
    /// The ring that the caller may have pointers to: it stays until the caller has asked for the next one's format.
    viewed: Option<Arc<Ring>>,
    /// When the stream's name was looked at.
    checked: Option<Instant>,
    /// Since when what has the name is no stream, and why.
    damage: Option<(Instant, String)>,
}

/// What is counted through all streams.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Rings that were read.
    rings: u64,
    /// Frames that were lost, in all, and those not yet told.
    lost: u64,
    untold: u64,
}

/// All that belongs to one header.
#[derive(Debug)]
struct Stream {
    link: Arc<Link>,
    seen: Option<Seen>,
    /// In a change that took too long, and may never end.
    given_up: Option<Mark>,
    attached: Option<Attached>,
    /// The ring before that, and its first frame that is whole for ever.
    previous: Option<(u64, u64)>,
    /// Number of the frame to be read next.
    position: u64,
    /// Frames before this one were counted, if they were lost.
    counted: u64,
    /// Whether reading has yet to begin, with the oldest frame: what is gone by then is not lost.
    is_fresh: bool,
    /// Whether the caller has yet to ask for the format.
    is_new: bool,
    /// Whether the name means this stream no more, and whether its writer has died: as of the last check.
    is_gone: bool,
    is_dead: bool,
    /// Whether the end of the writer was told.
    is_told: bool,
    nap: Duration,
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
    end: End,
    /// How far a foreign writer had come.
    total: u64,
}

/// Whether a ring is still written.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It is.
    Open,
    /// It was replaced when so many frames had been committed and claimed.
    At { committed: u64, claimed: u64 },
    /// It was replaced, and what it came to is not known.
    Unknown,
}

/// The frames of a ring that can be read: the first, and the one after the last.
#[derive(Clone, Copy, Debug)]
struct Window {
    oldest: u64,
    newest: u64,
}

impl Stream {
    fn new(link: Link) -> Self {
        Self {
            is_dead: link.is_dead(),
            link: Arc::new(link),
            seen: None,
            given_up: None,
            attached: None,
            previous: None,
            position: 0,
            counted: 0,
            is_fresh: false,
            is_new: false,
            is_gone: false,
            is_told: false,
            nap: NAPS[0],
        }
    }

    /// Whether the header still says what it said at a mark: what was loaded in between is of one moment.
    #[inline]
    fn is_same(&self, mark: Mark) -> bool {
        fence(Ordering::Acquire); // pairs with WriteBegin, which comes before the counters of another ring
        self.link.mark() == mark
    }

    /// Whether what is attached is what the header says at a mark: also in the change that came right after it was read,
    /// which may never end, and does not touch the counters.
    #[inline]
    fn is_known(&self, mark: Mark) -> bool {
        match (self.seen.as_ref().map(|seen| seen.mark), mark) {
            (Some(Mark::Ours(seen)), Mark::Ours(now)) => now == seen || now == seen.wrapping_add(1),
            (seen, now) => seen == Some(now),
        }
    }

    /// Has what is attached be what the header says, unless that is in a change.
    #[inline]
    fn refresh(&mut self, names: &Names, tally: &mut Tally) -> Result<()> {
        let is_current = self.seen.as_ref().is_some_and(|seen| seen.mark == self.link.mark());
        let is_open = self.attached.as_ref().is_some_and(|attached| matches!(attached.end, End::Open));
        if is_current && is_open { Ok(()) } else { self.reload(names, tally) }
    }

    /// Reads the header anew, and attaches the ring that it names, when the one before is read to its end.
    #[cold]
    fn reload(&mut self, names: &Names, tally: &mut Tally) -> Result<()> {
        let mark = self.link.mark();
        if self.given_up == Some(mark) {
            return Ok(()); // what is attached can be read all the same
        }
        let Some(seen) = self.link.read()? else {
            // An odd sequence is that of the same change; the mark of a foreign header says nothing of it.
            self.given_up = matches!(mark, Mark::Ours(_)).then_some(mark);
            return Ok(());
        };
        let block = seen.block;
        let writer = |seen: &Seen| seen.block.map(|block| block.writer);
        if self.seen.as_ref().is_some_and(|before| writer(before) != writer(&seen)) {
            (self.is_told, self.is_dead) = (false, false);
        }
        let (generation, has_ring) = match block {
            Some(Block { stage, generation, .. }) => {
                (generation, generation != NO_GENERATION && stage != Stage::Unconfigured && seen.header.epoch.valid)
            }
            None => (seen.header.epoch.generation, seen.header.epoch.valid),
        };
        let (mark, header) = (seen.mark, seen.header.clone());
        self.seen = Some(seen);
        if let Some(attached) = &mut self.attached
            && matches!(attached.end, End::Open)
            && attached.generation != generation
            && (block.is_some() || has_ring)
        {
            attached.end = match block {
                Some(Block { first, previous_claimed, .. }) if generation == next_generation(attached.generation) => {
                    End::At { committed: first, claimed: previous_claimed.max(first) }
                }
                _ => End::Unknown, // more than one format was missed, or the writer does not tell
            };
        }
        let is_drained = match &self.attached {
            Some(Attached { end: End::Open, .. }) => return Ok(()),
            Some(Attached { end: End::At { committed, claimed }, ring, .. }) => {
                self.position.max(claimed.saturating_sub(ring.frames() as u64)) >= *committed
            }
            Some(Attached { end: End::Unknown, .. }) | None => true,
        };
        if is_drained && has_ring {
            return self.attach(names, tally, &header.format(&self.link.path)?, header.epoch.generation, block);
        }
        if is_drained
            && self.attached.is_some()
            && let Some(extension) = &self.link.extension
        {
            // A ring has come and gone meanwhile.
            let committed = extension.committed().min(MAX_COUNT);
            if self.is_same(mark) {
                self.skip_to(committed, tally);
            }
        }
        Ok(())
    }

    fn attach(
        &mut self,
        names: &Names,
        tally: &mut Tally,
        format: &Format,
        generation: u32,
        block: Option<Block>,
    ) -> Result<()> {
        let path = names.ring(generation);
        let segment = match Segment::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.seen = None; // it has been replaced, or removed, since its name was read
                return Ok(());
            }
            opened => opened.map_err(Error::file("open", &path))?,
        };
        if self.link.is_replaced()? {
            self.seen = None; // and the ring may be its successor's
            return Ok(());
        }
        let mut ring = Ring::map(&segment, format, self.link.layout, Access::Read, &path)?;
        tally.rings += 1;
        ring.set_id(tally.rings);
        let first = block.map_or(0, |block| block.first);
        let attached = Attached {
            id: tally.rings,
            format: format.clone(),
            ring: Arc::new(ring),
            generation,
            first,
            end: End::Open,
            total: 0,
        };
        let before = self.attached.replace(attached);
        self.previous = before.as_ref().and_then(|before| match before.end {
            End::At { claimed, .. } => Some((before.id, claimed.saturating_sub(before.ring.frames() as u64))),
            End::Open | End::Unknown => None,
        });
        match (before, block) {
            // Numbers go on: what lies between was missed.
            (Some(_), Some(_)) => self.skip_to(first, tally),
            _ => (self.position, self.counted, self.is_fresh) = (first, first, true),
        }
        (self.is_new, self.is_told) = (true, false);
        Ok(())
    }

    /// The frames that can be read now, if the header says what it said when it was read.
    #[inline(always)]
    fn window(&mut self) -> Result<Option<Window>> {
        let Some(attached) = &mut self.attached else { return Ok(None) };
        let frames = attached.ring.frames() as u64;
        let (committed, claimed) = match (attached.end, &self.link.extension) {
            (End::At { committed, claimed }, _) => (committed, claimed),
            (End::Open, Some(extension)) => {
                // In this order, so that the claim is the newer one.
                let committed = extension.committed();
                (committed, extension.claimed())
            }
            (End::Open, None) if self.link.header.epoch().valid => {
                attached.total = self.link.total(frames, attached.total)?;
                (attached.total, attached.total)
            }
            (End::Open | End::Unknown, _) => {
                return Ok(Some(Window { oldest: self.position, newest: self.position }));
            }
        };
        if claimed > MAX_COUNT || committed > claimed {
            let why = format!("{committed} frames committed of {claimed} that were claimed");
            return Err(Error::malformed(&self.link.path, why));
        }
        let newest = committed.max(attached.first);
        Ok(Some(Window { oldest: claimed.saturating_sub(frames).clamp(attached.first, newest), newest }))
    }

    /// The first frame that is whole, after a copy.
    fn oldest_after(&self) -> Result<u64> {
        let Some(attached) = &self.attached else { return Ok(u64::MAX) };
        let frames = attached.ring.frames() as u64;
        let claimed = match (attached.end, &self.link.extension) {
            (End::At { claimed, .. }, _) => claimed,
            (End::Open, Some(extension)) => extension.claimed(),
            (End::Open, None) if self.link.header.epoch().valid => self.link.total(frames, attached.total)?,
            (End::Open | End::Unknown, _) => return Ok(u64::MAX),
        };
        Ok(claimed.saturating_sub(frames))
    }

    /// Goes on to a frame; those before it are lost.
    fn skip_to(&mut self, number: u64, tally: &mut Tally) {
        if number > self.position {
            if !self.is_fresh {
                let lost = number.saturating_sub(self.position.max(self.counted));
                tally.lost += lost;
                tally.untold += lost;
            }
            self.position = number;
            self.counted = self.counted.max(number);
        }
    }

    /// Goes on to the oldest frame that there is.
    fn enter(&mut self, window: Window, tally: &mut Tally) {
        self.skip_to(window.oldest, tally);
        if self.position > window.newest && self.link.extension.is_none() {
            (self.position, self.counted) = (window.newest, 0); // its writer has begun anew
        }
    }

    fn passed(&mut self, span: &Span) {
        self.position = span.first + span.count as u64;
        self.is_fresh = false;
    }

    fn span(&self, first: u64, count: usize) -> Span {
        let ring = self.attached.as_ref().map_or(0, |attached| attached.id);
        let metadata_generation = self.seen.as_ref().map_or(0, |seen| seen.header.epoch.metadata);
        Span { first, count, lost: 0, ring, metadata_generation }
    }

    fn state(&self) -> State {
        let stage = self.seen.as_ref().and_then(|seen| seen.block).map(|block| block.stage);
        match stage {
            Some(Stage::Ended) => State::Ended,
            _ if self.is_dead => State::Dead,
            Some(Stage::Live) => State::Alive,
            None if self.link.extension.is_none() && self.is_gone => State::Ended,
            None if self.link.extension.is_none() && self.attached.is_some() => State::Unknown,
            Some(Stage::Unconfigured) | None => State::Unconfigured,
        }
    }
}

impl Reader {
    /// Opens what has the name now, unless that is the stream that is open, or was looked at just before, or what is left of
    /// that has yet to be read. Says whether it did.
    #[cold]
    pub(super) fn reopen(&mut self, names: &Names, interval: Duration) -> Result<bool> {
        let now = Instant::now();
        if self.checked.is_some_and(|checked| now - checked < interval) {
            return self.damaged(now, names);
        }
        self.checked = Some(now);
        if let Some(stream) = &mut self.stream {
            stream.is_gone = !stream.link.has_name()?;
            stream.is_dead = stream.link.is_dead();
            let window = stream.window().ok().flatten();
            let is_left = window.is_some_and(|window| stream.position.max(window.oldest) < window.newest);
            if !stream.is_gone || is_left {
                return Ok(false);
            }
        }
        match Link::open(names.header()) {
            Ok(None) => {
                self.damage = None;
                Ok(false)
            }
            Ok(Some(link)) => {
                self.damage = None;
                self.stream.insert(Stream::new(link)).reload(names, &mut self.tally).map(|()| true)
            }
            Err(Error::Malformed { why, .. }) => {
                let since = self.damage.as_ref().map_or(now, |(since, _)| *since);
                self.damage = Some((since, why));
                self.damaged(now, names)
            }
            Err(error) => Err(error),
        }
    }

    /// An error when what has the name is no stream, and has been none for long enough.
    fn damaged(&self, now: Instant, names: &Names) -> Result<bool> {
        match &self.damage {
            Some((since, why)) if now - *since >= GRACE => Err(Error::malformed(&names.header(), why.as_str())),
            _ => Ok(false),
        }
    }

    /// The stream, if there is one, and the frames of it that can be read, both as of a mark.
    #[inline(always)]
    fn current(&mut self, names: &Names) -> Result<Option<(&mut Stream, &mut Tally, Window, Mark)>> {
        if self.stream.is_none() {
            self.reopen(names, CHECK_ABSENT)?;
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        for _ in 0..ATTEMPTS {
            let mark = stream.link.mark();
            // What goes wrong beside a change is looked at again.
            match stream.refresh(names, &mut self.tally) {
                Err(error) if stream.is_same(mark) => return Err(error),
                Ok(()) if stream.is_known(mark) => {}
                Ok(()) if stream.seen.is_none() => return Ok(None), // what it names has gone
                _ => continue,
            }
            let window = stream.window();
            if stream.is_same(mark) {
                return Ok(window?.map(|window| (stream, &mut self.tally, window, mark)));
            }
        }
        Ok(None)
    }

    /// Looks at once whether there is another stream, and what it says.
    fn renew(&mut self, names: &Names) -> Result<&mut Stream> {
        self.reopen(names, if self.stream.is_some() { CHECK } else { Duration::ZERO })?;
        let stream = self.stream.as_mut().ok_or_else(|| Error::Absent(names.stream().to_owned()))?;
        stream.refresh(names, &mut self.tally)?;
        Ok(stream)
    }

    pub(super) fn format(&mut self, names: &Names) -> Result<(Format, Layout)> {
        let stream = self.renew(names)?;
        let attached = stream.attached.as_ref().ok_or_else(|| Error::NoFormat(names.stream().to_owned()))?;
        let format = (attached.format.clone(), stream.link.layout);
        if std::mem::take(&mut stream.is_new) {
            self.viewed = None;
        }
        Ok(format)
    }

    pub(super) fn ring(&mut self, names: &Names) -> Result<Arc<Ring>> {
        let viewed = self.viewed.clone();
        let stream = self.renew(names)?;
        if let (true, Some(viewed)) = (stream.is_new, viewed) {
            return Ok(viewed); // the caller has not asked for the next one
        }
        let attached = &stream.attached;
        Ok(attached.as_ref().ok_or_else(|| Error::NoFormat(names.stream().to_owned()))?.ring.clone())
    }

    /// Copies what comes next, or what lies between two times.
    pub(super) fn read(
        &mut self,
        names: &Names,
        times: Option<(f64, f64)>,
        frames: &mut [MaybeUninit<u8>],
        mut timestamps: Option<&mut [MaybeUninit<f64>]>,
        limit: usize,
    ) -> Result<Span> {
        let mut lapped = Span::default();
        for _ in 0..ATTEMPTS {
            let Some((stream, tally, window, mark)) = self.current(names)? else { return Ok(Span::default()) };
            if stream.is_new {
                return Err(Error::NewFormat);
            }
            let Some(attached) = &stream.attached else { return Ok(Span::default()) };
            let (ring, frame_size) = (attached.ring.clone(), attached.ring.frame_size());
            let (first, end) = match times {
                Some((from, to)) => attached.range(window, from, to)?,
                None => {
                    stream.enter(window, tally);
                    (stream.position, window.newest.max(stream.position))
                }
            };
            if frames.len() < frame_size {
                return Err(Error::NoRoom { bytes: frames.len(), frame_size });
            }
            let room = (frames.len() / frame_size).min(timestamps.as_ref().map_or(usize::MAX, |times| times.len()));
            let count = room.min(limit).min(usize::try_from(end - first).unwrap_or(usize::MAX));
            if count == 0 {
                let span = stream.span(first, 0);
                if times.is_some() {
                    let oldest = stream.oldest_after();
                    // What was overwritten meanwhile has misled the search.
                    if !stream.is_same(mark) || oldest? > window.oldest {
                        lapped = span;
                        continue;
                    }
                    return Ok(span);
                }
                let span = tally.tell(span);
                self.reopen(names, CHECK)?;
                return Ok(span);
            }
            let Some(attached) = &stream.attached else { return Ok(Span::default()) };
            let mut done = 0;
            for part in ring.parts(attached.index(first), count) {
                ring.read(part, &mut frames[done * frame_size..]);
                if let Some(times) = timestamps.as_deref_mut() {
                    attached.timestamps(part, first + done as u64, &mut times[done..]);
                }
                done += part.count;
            }
            let oldest = stream.oldest_after();
            if !stream.is_same(mark) {
                continue;
            }
            let torn = oldest?.saturating_sub(first).min(count as u64) as usize;
            if torn > 0 && times.is_some() {
                lapped = stream.span(first, 0); // as above
                continue;
            }
            if torn > 0 {
                frames.copy_within(torn * frame_size..count * frame_size, 0);
                if let Some(times) = timestamps.as_deref_mut() {
                    times.copy_within(torn..count, 0);
                }
            }
            let span = stream.span(first + torn as u64, count - torn);
            if times.is_some() {
                return Ok(span);
            }
            stream.skip_to(span.first, tally);
            if span.count > 0 {
                stream.passed(&span);
                return Ok(tally.tell(span));
            }
            lapped = span;
        }
        Ok(if times.is_some() { lapped } else { self.tally.tell(lapped) })
    }

    #[inline(always)]
    pub(super) fn view<T>(
        &mut self,
        names: &Names,
        limit: usize,
        show: impl FnOnce(Span, usize, [usize; 2], &Arc<Ring>) -> T,
    ) -> Result<Option<T>> {
        let viewed = self.viewed.as_ref().map(|ring| ring.id());
        let Some((stream, tally, window, _)) = self.current(names)? else { return Ok(None) };
        if stream.is_new {
            return Err(Error::NewFormat);
        }
        stream.enter(window, tally);
        let Some(attached) = &stream.attached else { return Ok(None) };
        let first = stream.position;
        let count = limit.min(usize::try_from(window.newest.saturating_sub(first)).unwrap_or(usize::MAX));
        let index = attached.index(first);
        let counts = attached.ring.parts(index, count).map(|part| part.count);
        let span = tally.tell(stream.span(first, count));
        let shown = show(span, index, counts, &attached.ring);
        if count > 0 {
            let another = (viewed != Some(span.ring)).then(|| attached.ring.clone());
            stream.passed(&span);
            if another.is_some() {
                self.viewed = another;
            }
        } else {
            self.reopen(names, CHECK)?;
        }
        Ok(Some(shown))
    }

    #[inline]
    pub(super) fn is_intact(&mut self, names: &Names, span: &Span) -> Result<bool> {
        // As a rule, nothing has changed since.
        if let Some(stream) = &self.stream
            && let Some(Attached { id, end: End::Open, .. }) = stream.attached
            && id == span.ring
            && let Some(Seen { mark, .. }) = stream.seen
        {
            let oldest = stream.oldest_after();
            if stream.is_same(mark) {
                return Ok(span.first >= oldest?);
            }
        }
        self.was_intact(names, span)
    }

    #[cold]
    fn was_intact(&mut self, names: &Names, span: &Span) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let Some((stream, _, _, mark)) = self.current(names)? else { break };
            let oldest = match (&stream.attached, stream.previous) {
                (Some(attached), _) if attached.id == span.ring => stream.oldest_after(),
                (_, Some((id, oldest))) if id == span.ring => Ok(oldest),
                _ => break,
            };
            if stream.is_same(mark) {
                return Ok(span.first >= oldest?);
            }
        }
        Ok(false)
    }

    pub(super) fn seek(&mut self, names: &Names, number: u64) -> Result<()> {
        self.reopen(names, CHECK)?;
        if let Some((stream, _, window, _)) = self.current(names)? {
            stream.position = number.clamp(window.oldest, window.newest);
            stream.is_fresh = false;
        }
        Ok(())
    }

    /// What a wait for so many frames has to say now.
    pub(super) fn ready(&mut self, names: &Names, frames: u64) -> Result<Option<Awaited>> {
        let Some((stream, _, window, _)) = self.current(names)? else { return Ok(None) };
        if stream.is_new {
            return Ok(Some(Awaited::Format));
        }
        let there = window.newest.saturating_sub(stream.position.max(window.oldest));
        // What is left of a ring or a writer is all that comes of it, and more than a ring holds never come.
        let wanted = match &stream.attached {
            Some(Attached { end: End::At { .. } | End::Unknown, .. }) => 1,
            _ if matches!(stream.state(), State::Ended | State::Dead) => 1,
            Some(attached) => frames.min(attached.ring.frames() as u64),
            None => frames,
        };
        Ok((there >= wanted).then_some(Awaited::Frames(there)))
    }

    pub(super) fn poll(&mut self, names: &Names, frames: u64) -> Result<Wait> {
        if let Some(awaited) = self.ready(names, frames)? {
            if let Some(stream) = &mut self.stream {
                stream.nap = NAPS[0];
            }
            return Ok(Wait::Over(awaited));
        }
        let extension =
            |reader: &Self| reader.stream.as_ref().and_then(|stream| stream.link.extension.as_ref()?.announce());
        let bell = extension(self);
        // What happened before the announcement is seen now, what happens after it ends the sleep.
        if bell.is_some()
            && let Some(awaited) = self.ready(names, frames)?
        {
            return Ok(Wait::Over(awaited));
        }
        if self.reopen(names, CHECK)? {
            return self.poll(names, frames);
        }
        if let Some(awaited) = self.ready(names, frames)? {
            return Ok(Wait::Over(awaited)); // more than before, since the writer was seen to have ended
        }
        let verdict = self.verdict();
        let Some(stream) = &mut self.stream else { return Ok(Wait::Sleep(Sleep { bell: None, limit: CHECK_ABSENT })) };
        if matches!(verdict, Awaited::Dead | Awaited::Ended) && !std::mem::replace(&mut stream.is_told, true) {
            return Ok(Wait::Over(verdict));
        }
        let limit = if bell.is_some() || stream.is_gone {
            CHECK
        } else {
            let nap = stream.nap;
            stream.nap = (nap * 2).min(NAPS[1]);
            nap
        };
        Ok(Wait::Sleep(Sleep { bell: Some(stream.link.clone()).zip(bell), limit }))
    }

    /// What there is to say when there is nothing to be read.
    pub(super) fn verdict(&self) -> Awaited {
        match self.state() {
            State::Absent => Awaited::Absent,
            State::Dead => Awaited::Dead,
            State::Ended => Awaited::Ended,
            State::Unconfigured | State::Alive | State::Unknown => Awaited::Nothing,
        }
    }

    fn state(&self) -> State {
        self.stream.as_ref().map_or(State::Absent, Stream::state)
    }

    pub(super) fn metadata(&mut self, names: &Names) -> Result<Metadata> {
        // Another generation may replace the one that is named while it is being opened.
        for _ in 0..ATTEMPTS {
            let stream = match self.renew(names) {
                Err(Error::Absent(_)) => break,
                renewed => renewed?,
            };
            let Some(header) = stream.seen.as_ref().map(|seen| &seen.header) else { break };
            let (generation, len) = (header.epoch.metadata, header.metadata_len as usize);
            if generation == 0 {
                break;
            }
            let path = names.metadata(generation);
            if len > metadata::MAX_BYTES {
                let why = format!("metadata of {len} bytes: at most {} are read", metadata::MAX_BYTES);
                return Err(Error::malformed(&path, why));
            }
            let segment = match Segment::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    stream.seen = None;
                    continue;
                }
                opened => opened.map_err(Error::file("open", &path))?,
            };
            let mut pickle = vec![0; len];
            segment.read(0, &mut pickle).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => Error::malformed(&path, format!("shorter than {len} bytes")),
                _ => Error::file("read", &path)(error),
            })?;
            return Ok(Metadata::from_pickle(&pickle)?);
        }
        Err(Error::NoMetadata)
    }

    pub(super) fn info(&mut self, names: &Names) -> Result<Info> {
        self.reopen(names, Duration::ZERO)?;
        let mut info = Info { generation: NO_GENERATION, ..Info::default() };
        if let Some((stream, tally, window, _)) = self.current(names)? {
            stream.enter(window, tally);
            (info.oldest, info.written) = (window.oldest, window.newest);
            info.begin = stream.attached.as_ref().map_or(0, |attached| attached.first);
        }
        (info.state, info.lost) = (self.state(), self.tally.lost);
        let Some(stream) = &self.stream else { return Ok(info) };
        info.position = stream.position;
        info.layout = Some(stream.link.layout);
        if let Some(seen) = &stream.seen {
            info.metadata_generation = seen.header.epoch.metadata;
            info.generation = seen.header.epoch.generation;
            info.pid = seen.block.map(|block| block.writer.pid);
        }
        info.is_ours = stream.link.extension.is_some();
        info.last_write_ns = stream.link.extension.as_ref().map_or(0, Extension::last_write_ns);
        Ok(info)
    }
}

impl Tally {
    /// Adds to a span what was lost and not told.
    fn tell(&mut self, span: Span) -> Span {
        Span { lost: std::mem::take(&mut self.untold), ..span }
    }
}

impl Attached {
    #[inline]
    fn index(&self, number: u64) -> usize {
        (number.saturating_sub(self.first) % self.ring.frames() as u64) as usize
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

    /// The frames of a range of time.
    fn range(&self, window: Window, from: f64, to: f64) -> Result<(u64, u64)> {
        if !self.ring.has_timestamps() && self.format.rate == 0.0 {
            return Err(Error::Timeless);
        }
        // The first frame whose time is not before `time`.
        let find = |time: f64| {
            let (mut low, mut high) = (window.oldest, window.newest);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.timestamp(middle) < time { low = middle + 1 } else { high = middle }
            }
            low
        };
        let begin = find(from);
        Ok((begin, find(to).max(begin)))
    }
}

fn next_generation(generation: u32) -> u32 {
    match generation.wrapping_add(1) {
        NO_GENERATION => 0,
        next => next,
    }
}
