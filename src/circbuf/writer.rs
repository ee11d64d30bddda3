//! The writing end of a stream.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::error::{Error, Result};
use super::extension::{Block, Extension, FILE_LEN, MAX_COUNT, Stage};
use super::format::{Format, cut_key};
use super::header::{Header, Layout, NO_GENERATION, Progress};
use super::info::{Info, State};
use super::metadata::{self, Metadata};
use super::names::Names;
use super::ring::{Ring, Source};
use super::turn;
use crate::shm::{Access, Lock, Pen, Room, Segment, Turn, Turns};
use crate::sys::{self, ProcessEpoch, ProcessId};

/// How a stream is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Its layout.
    pub layout: Layout,
    /// Permissions of its shared-memory objects.
    pub mode: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { layout: Layout::default(), mode: 0o600 }
    }
}

/// The one writer of a stream. Threads take turns.
///
/// Dropped, it removes the stream, as [`CircBuf::close`] does.
#[derive(Debug)]
pub struct CircBuf {
    writer: Turns<Writer>,
    epoch: ProcessEpoch,
}

#[derive(Debug)]
struct Writer {
    names: Names,
    options: Options,
    link: Link,
    /// The metadata that readers can find; empty when there is none.
    pickle: Vec<u8>,
    /// The last segment of metadata that was made.
    metadata: Option<Segment>,
    /// Frames that find room before the end of the ring; 0 while none can be written.
    room: usize,
    stream: Option<Stream>,
    /// Whether the stream stays when this is dropped.
    is_over: bool,
    epoch: ProcessEpoch,
    _lock: Lock,
}

/// The header of a stream, and what its writer knows of it: nothing that others could have changed is read back.
#[derive(Debug)]
struct Link {
    segment: Segment,
    header: Header,
    extension: Extension,
    block: Block,
    /// Frames that may have been touched, and frames that are there, since the stream was made.
    claimed: u64,
    committed: u64,
}

/// What is written to.
#[derive(Debug)]
struct Stream {
    format: Format,
    frame_size: usize,
    segment: Segment,
    ring: Arc<Ring>,
    progress: Progress,
    clock: Clock,
    /// Whether frames need timestamps, since there is no rate to derive them from.
    is_irregular: bool,
    /// Frames that are reserved.
    reserved: Option<u64>,
    /// Where the next frame goes, and its timestamp, whose bytes are 0 in layouts without.
    pens: [Pen; 2],
    timestamp_size: usize,
}

/// Derives timestamps from the rate: a frame's is `time + (its number - number) * period`.
#[derive(Debug)]
struct Clock {
    time: f64,
    number: u64,
    period: f64,
}

/// Room for frames in the ring, in one or two parts.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// Number of the first frame.
    pub first: u64,
    /// Index of the first frame in the ring, and how many lie there and behind.
    pub index: usize,
    /// Frames from there to the end of the ring at most, then those from its begin.
    pub counts: [usize; 2],
    /// The memory.
    pub ring: Arc<Ring>,
}

impl CircBuf {
    /// Makes a stream, whose frames [`CircBuf::configure`] describes. What a writer that has died has left of it is taken
    /// over, so that its readers find the new one; what a writer of another library has left, or still writes, is
    /// replaced.
    ///
    /// [`Error::Busy`] when a living process of this library writes it; [`Error::Name`], [`Error::Foreign`],
    /// [`Error::File`].
    pub fn create(name: &str, options: Options) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::Name);
        }
        let names = Names::new(name);
        let path = names.header();
        let lock = Lock::take(&path).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Error::Busy { name: name.to_owned(), pid: writer_of(&path) },
            _ => Error::file("lock", &path)(error),
        })?;
        let writer = ProcessId::of(std::process::id()).map_err(Error::file("find this process in /proc for", &path))?;
        let writer = writer.unwrap_or_default();
        let link = match Link::inherit(&names, options)? {
            Some(inherited) => inherited,
            None => Link::make(&names, options, writer)?,
        };
        let block = Block { stage: Stage::Unconfigured, writer, ..link.block };
        link.extension.write(block, || {
            link.header.invalidate();
            link.header.set_metadata(0, 0);
        });
        let epoch = ProcessEpoch::current();
        let link = Link { block, ..link };
        let writer = Writer {
            names,
            options,
            link,
            pickle: Vec::new(),
            metadata: None,
            room: 0,
            stream: None,
            is_over: false,
            epoch,
            _lock: lock,
        };
        Ok(Self { writer: Turns::new(writer), epoch })
    }

    /// Says what the frames are, and what time the first of them is of, where times are derived from the rate. Another
    /// format than before begins a new ring; the old one is removed, though readers that have it read it to its end.
    /// `false` when it is the same, and nothing was done.
    ///
    /// [`Error::Format`]; [`Error::File`], `ENOSPC` when there is no room for the ring; [`Error::Reserved`],
    /// [`Error::Taken`], [`Error::Forked`]. The stream is as it was then.
    pub fn configure(&self, format: &Format, start: f64) -> Result<bool> {
        self.turn()?.configure(format, start)
    }

    /// What the frames are, once that was said.
    pub fn format(&self) -> Result<Option<Format>> {
        Ok(self.turn()?.stream.as_ref().map(|stream| stream.format.clone()))
    }

    /// Writes frames, any number of them: of more than the ring holds, the last.
    ///
    /// `timestamps` has one for each. Without, they go on from the last one by the rate.
    ///
    /// [`Error::NoFormat`], [`Error::Length`], [`Error::Strides`], [`Error::NoTimestamps`], [`Error::Reserved`],
    /// [`Error::Forked`].
    #[inline(always)]
    pub fn write(&self, source: &Source<'_>, timestamps: Option<&[f64]>) -> Result<()> {
        self.turn()?.write(source, timestamps)
    }

    /// Writes `n` frames if there is nothing to think about: it is nobody else's turn, they have a time, and find room
    /// before the end of the ring. Says whether it was so; [`CircBuf::write_with`] does the rest. `what` gives their bytes, of
    /// which it is told the number, and their timestamps, if there are any.
    #[inline(always)]
    #[cfg_attr(not(feature = "capi"), allow(dead_code))] // the C floor is what it is for
    pub(crate) fn write_plain<'a>(&self, n: usize, what: impl FnOnce(usize) -> (&'a [u8], Option<&'a [f64]>)) -> bool {
        self.epoch.is_current() && self.writer.try_take().is_some_and(|mut writer| writer.write_plain(n, what))
    }

    /// The same where what there is to write depends on the format, and on the bytes of a frame.
    #[inline(always)]
    #[cfg_attr(not(feature = "capi"), allow(dead_code))] // as above
    pub(crate) fn write_with<'a, E: From<Error>>(
        &self,
        what: impl FnOnce(&Format, usize) -> std::result::Result<(Source<'a>, Option<&'a [f64]>), E>,
    ) -> std::result::Result<(), E> {
        let mut writer = self.turn()?;
        let Some(stream) = &writer.stream else { return Err(writer.no_format().into()) };
        let (source, timestamps) = what(&stream.format, stream.frame_size)?;
        writer.write(&source, timestamps)?;
        Ok(())
    }

    /// Gives room for frames in the ring, to be filled in place and then committed. The oldest frames lose theirs at
    /// once.
    ///
    /// Derived timestamps are there already; the caller may write others.
    ///
    /// [`Error::TooMany`] for more than the ring holds; [`Error::NoFormat`], [`Error::Reserved`], [`Error::Forked`].
    pub fn reserve(&self, frames: u64) -> Result<Reservation> {
        self.turn()?.reserve(frames)
    }

    /// Publishes the first `frames` of those that are reserved, and gives the others up.
    ///
    /// [`Error::TooMany`] when they are not so many; [`Error::NotReserved`] when none are; [`Error::Forked`].
    pub fn commit(&self, frames: u64) -> Result<()> {
        self.turn()?.commit(frames)
    }

    /// Publishes what does not change from frame to frame, or that there is no such thing. `false` when it is the same as
    /// before, and nothing was done.
    ///
    /// [`Error::NoRoomForMetadata`] in layout 0; [`Error::File`], [`Error::Taken`], [`Error::Forked`].
    pub fn set_metadata(&self, what: Option<&Metadata>) -> Result<bool> {
        self.turn()?.set_metadata(what)
    }

    /// The memory of the ring, which stays mapped for as long as it is held.
    ///
    /// [`Error::NoFormat`].
    pub fn ring(&self) -> Result<Arc<Ring>> {
        let writer = self.turn()?;
        writer.stream.as_ref().map(|stream| stream.ring.clone()).ok_or_else(|| writer.no_format())
    }

    /// What there is to know of the stream.
    ///
    /// [`Error::Forked`].
    pub fn info(&self) -> Result<Info> {
        Ok(self.turn()?.info())
    }

    /// Removes the stream. Its readers read what is left.
    ///
    /// [`Error::File`]; [`Error::Forked`] in a child, which removes nothing.
    pub fn close(self) -> Result<()> {
        self.turn()?.end(true)
    }

    /// Leaves the stream to its readers, and to the next writer.
    ///
    /// [`Error::Forked`].
    pub fn detach(self) -> Result<()> {
        self.turn()?.end(false)
    }

    #[inline(always)]
    fn turn(&self) -> Result<Turn<'_, Writer>> {
        // Before the turn, which a child could find taken for ever.
        if !self.epoch.is_current() {
            return Err(Error::Forked);
        }
        turn(&self.writer)
    }
}

impl Writer {
    fn configure(&mut self, format: &Format, start: f64) -> Result<bool> {
        format.check().map_err(Error::Format)?;
        if !start.is_finite() {
            return Err(Error::Format(format!("a start at {start}: seconds of any clock")));
        }
        let format = Format { key: cut_key(&format.key).to_owned(), ..format.clone() };
        if let Some(stream) = &self.stream {
            if stream.reserved.is_some() {
                return Err(Error::Reserved);
            }
            if stream.format == format {
                return Ok(false);
            }
        }
        self.check_name()?;
        // 0xFFFFFFFF means that there is none.
        let generation = match self.link.block.generation.wrapping_add(1) {
            NO_GENERATION => 0,
            next => next,
        };
        let path = self.names.ring(generation);
        let len = Ring::size(&format, self.options.layout) as u64;
        let segment = self.create_segment(&path, &[], len)?;
        let ring = Ring::map(&segment, &format, self.options.layout, Access::Write, &path).inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })?;
        let block = Block {
            stage: Stage::Live,
            generation,
            first: self.link.committed,
            previous_claimed: self.link.claimed,
            ..self.link.block
        };
        let old = std::mem::replace(&mut self.link.block, block);
        self.link.extension.write(block, || self.link.header.set_format(&format, generation));
        self.link.claimed = self.link.committed;
        self.link.extension.begin(self.link.committed);
        self.stream = Some(Stream {
            frame_size: format.frame_size(),
            timestamp_size: ring.timestamp_size(),
            pens: ring.pens(0),
            is_irregular: format.rate == 0.0 && self.options.layout.has_timestamps(),
            clock: Clock { time: start, number: block.first, period: format.rate.recip() },
            format,
            segment,
            ring: Arc::new(ring),
            progress: Progress::default(),
            reserved: None,
        });
        self.room = self.stream.as_ref().map_or(0, |stream| stream.ring.frames());
        if old.stage == Stage::Live {
            remove(&self.names.ring(old.generation))?;
        }
        Ok(true)
    }

    /// Does not panic. An exact fill leaves no room, so the next one, which goes past the end, is not for here.
    #[inline(always)]
    fn write_plain<'a>(&mut self, n: usize, what: impl FnOnce(usize) -> (&'a [u8], Option<&'a [f64]>)) -> bool {
        if n.wrapping_sub(1) >= self.room {
            return false;
        }
        let Self { link, room, stream: Some(stream), .. } = self else { return false };
        // What finds room in the ring is no more than there can be.
        let (frames_len, times_len) = (n.wrapping_mul(stream.frame_size), n.wrapping_mul(stream.timestamp_size));
        let [frames_pen, times_pen] = &mut stream.pens;
        let (Some(frames_room), Some(times_room)) = (frames_pen.room(frames_len), times_pen.room(times_len)) else {
            return false;
        };
        let (frames, timestamps) = what(frames_len);
        match timestamps {
            Some(times) => {
                link.claim(n);
                times_room.copy_floats_in(times);
                stream.clock.go_on_from(times.last(), link.committed + n as u64 - 1);
            }
            None if !stream.is_irregular => {
                link.claim(n);
                stream.clock.fill(times_room, link.committed);
            }
            None => return false,
        }
        frames_room.copy_in(frames);
        frames_pen.advance(frames_len);
        times_pen.advance(times_len);
        *room -= n;
        stream.progress.index += n as u64;
        link.publish(stream.progress, false, n);
        true
    }

    #[inline(always)]
    fn write(&mut self, source: &Source<'_>, timestamps: Option<&[f64]>) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Err(self.no_format()) };
        let frames = source.frames(&stream.format, stream.frame_size)?;
        if frames == 0 {
            return Ok(());
        }
        if let Some(times) = timestamps
            && times.len() != frames
        {
            let bytes = frames * stream.frame_size;
            return Err(Error::Length { bytes, frame_size: stream.frame_size, timestamps: Some(times.len()) });
        }
        if let Source::Contiguous(bytes) = *source
            && self.write_plain(frames, |_| (bytes, timestamps))
        {
            return Ok(());
        }
        let Some(stream) = &mut self.stream else { return Err(self.no_format()) };
        if stream.reserved.is_some() {
            return Err(Error::Reserved);
        }
        if timestamps.is_none() && stream.is_irregular {
            return Err(Error::NoTimestamps);
        }
        let limit = MAX_COUNT - self.link.committed.min(MAX_COUNT);
        if frames as u64 > limit {
            return Err(Error::TooMany { frames: frames as u64, limit });
        }
        self.link.claim(frames);
        let committed = self.link.committed;
        let skip = frames.saturating_sub(stream.ring.frames());
        let mut done = skip;
        for part in stream.ring.parts(stream.progress.advanced(skip, &stream.ring).next(&stream.ring), frames - skip) {
            if part.count > 0 {
                stream.ring.write(part, source, done, &stream.format);
                let room = stream.ring.timestamps_room(part);
                let number = committed + done as u64;
                done += part.count;
                match timestamps {
                    Some(times) => room.copy_floats_in(&times[done - part.count..]),
                    None => stream.clock.fill(room, number),
                }
            }
        }
        if let Some(times) = timestamps {
            stream.clock.go_on_from(times.last(), committed + frames as u64 - 1);
        }
        self.publish(frames);
        Ok(())
    }

    fn reserve(&mut self, frames: u64) -> Result<Reservation> {
        let Some(stream) = &mut self.stream else { return Err(self.no_format()) };
        if stream.reserved.is_some() {
            return Err(Error::Reserved);
        }
        let limit = stream.ring.frames();
        let count = usize::try_from(frames).ok().filter(|&count| count <= limit);
        let count = count.ok_or(Error::TooMany { frames, limit: limit as u64 })?;
        self.link.claim(count);
        stream.reserved = Some(frames);
        self.room = 0;
        let index = stream.progress.next(&stream.ring);
        let parts = stream.ring.parts(index, count);
        if !stream.is_irregular {
            let mut number = self.link.committed;
            for part in parts {
                stream.clock.fill(stream.ring.timestamps_room(part), number);
                number += part.count as u64;
            }
        }
        let counts = parts.map(|part| part.count);
        Ok(Reservation { first: self.link.committed, index, counts, ring: stream.ring.clone() })
    }

    fn commit(&mut self, frames: u64) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Err(Error::NotReserved) };
        let reserved = stream.reserved.ok_or(Error::NotReserved)?;
        if frames > reserved {
            return Err(Error::TooMany { frames, limit: reserved });
        }
        stream.reserved = None;
        if frames > 0 && stream.ring.has_timestamps() {
            // The caller may have written others than the derived ones.
            let last = stream.progress.advanced(frames as usize - 1, &stream.ring).next(&stream.ring);
            let time = stream.ring.timestamp(last);
            stream.clock.go_on_from(Some(&time), self.link.committed + frames - 1);
        }
        self.publish(frames as usize);
        Ok(())
    }

    fn set_metadata(&mut self, what: Option<&Metadata>) -> Result<bool> {
        if !self.options.layout.has_metadata() {
            return Err(Error::NoRoomForMetadata);
        }
        let pickle = what.map(Metadata::to_pickle).unwrap_or_default();
        if pickle == self.pickle {
            return Ok(false);
        }
        if pickle.len() > metadata::MAX_BYTES {
            let why = format!("metadata of {} bytes: at most {} are read", pickle.len(), metadata::MAX_BYTES);
            return Err(Error::Format(why));
        }
        let len = pickle.len() as u32;
        self.check_name()?;
        let old = self.link.block.metadata;
        let generation = if len > 0 { old.wrapping_add(1).max(1) } else { 0 }; // 0 means that there is none
        if len > 0 {
            self.metadata = Some(self.create_segment(&self.names.metadata(generation), &pickle, len.into())?);
            self.link.block.metadata = generation;
        }
        self.link.extension.write(self.link.block, || self.link.header.set_metadata(generation, len));
        if !std::mem::replace(&mut self.pickle, pickle).is_empty() {
            remove(&self.names.metadata(old))?;
        }
        Ok(true)
    }

    fn info(&self) -> Info {
        let ring = self.stream.as_ref().map_or(0, |stream| stream.ring.frames() as u64);
        let (begin, newest) = (self.link.block.first, self.link.committed);
        Info {
            state: if self.stream.is_some() { State::Alive } else { State::Unconfigured },
            layout: Some(self.options.layout),
            is_ours: true,
            pid: Some(self.link.block.writer.pid),
            generation: self.link.block.generation,
            metadata_generation: self.link.header.epoch().metadata,
            begin,
            oldest: self.link.claimed.saturating_sub(ring).clamp(begin, newest.max(begin)),
            written: newest,
            position: newest,
            lost: 0,
            last_write_ns: self.link.extension.last_write_ns(),
        }
    }

    /// Ends the stream, and removes it or leaves it.
    fn end(&mut self, remove_all: bool) -> Result<()> {
        self.is_over = true;
        self.link.block.stage = Stage::Ended;
        self.link.extension.write(self.link.block, || {
            if remove_all {
                self.link.header.invalidate();
            }
        });
        if !remove_all {
            return Ok(());
        }
        let path = self.names.header();
        // Somebody else may have taken the names over: the peer's writers do.
        if let Some(stream) = &self.stream {
            remove_own(&stream.segment, &self.names.ring(self.link.block.generation))?;
        }
        if let (Some(metadata), false) = (&self.metadata, self.pickle.is_empty()) {
            remove_own(metadata, &self.names.metadata(self.link.block.metadata))?;
        }
        remove_own(&self.link.segment, &path)
    }

    /// Whether the stream's name means another one by now. That it means none, as when a peer's reader has removed it, is
    /// nothing to those who have it.
    fn check_name(&self) -> Result<()> {
        let path = self.names.header();
        match self.link.segment.is_replaced_at(&path).map_err(Error::file("stat", &path))? {
            true => Err(Error::Taken(self.names.stream().to_owned())),
            false => Ok(()),
        }
    }

    /// Makes an object in place of what has its name: a generation's name is this writer's alone.
    fn create_segment(&self, path: &Path, content: &[u8], len: u64) -> Result<Segment> {
        remove(path)?;
        Segment::create(path, self.options.mode & 0o7777, content, len).map_err(Error::file("create", path))
    }

    /// Gives frames that are in the ring to readers, if there are any.
    fn publish(&mut self, frames: usize) {
        let Some(stream) = &mut self.stream else { return };
        if frames > 0 {
            let before = stream.progress;
            stream.progress = before.advanced(frames, &stream.ring);
            self.link.publish(stream.progress, stream.progress.wraps != before.wraps, frames);
        }
        stream.pens = stream.ring.pens(stream.progress.next(&stream.ring));
        self.room = stream.ring.frames().saturating_sub(stream.progress.index as usize);
    }

    #[cold]
    fn no_format(&self) -> Error {
        Error::NoFormat(self.names.stream().to_owned())
    }
}

impl Link {
    /// Takes over what a writer of this library has left, in place: readers that have it mapped, of whatever library, go
    /// on with the new writer. `None` when there is nothing, or nothing that can be used, which is removed.
    fn inherit(names: &Names, options: Options) -> Result<Option<Self>> {
        let path = names.header();
        let segment = match Segment::open_writable(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // Its last writer wanted nobody to write it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let there = std::fs::symlink_metadata(&path).map_err(Error::file("stat", &path))?;
                if there.uid() != sys::effective_user() {
                    return Err(Error::Foreign(path));
                }
                std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(Error::file("chmod", &path))?;
                Segment::open_writable(&path).map_err(Error::file("open", &path))?
            }
            // A link, a folder: nothing that could be a stream, and nothing to be removed unasked.
            opened => opened.map_err(Error::file("open", &path))?,
        };
        if !segment.is_own().map_err(Error::file("fstat", &path))? {
            return Err(Error::Foreign(path));
        }
        match Self::remains(segment, names, options) {
            Ok(None) | Err(Error::Malformed { .. }) => {}
            other => return other,
        }
        remove(&path)?;
        Ok(None)
    }

    /// What is left of a stream, if it can be gone on with. Its ring and its metadata are removed.
    fn remains(segment: Segment, names: &Names, options: Options) -> Result<Option<Self>> {
        let path = names.header();
        let layout = Header::layout(&segment, &path)?;
        let header = Header::map(&segment, layout, Access::Write, &path)?;
        let is_ours = Extension::find(&segment, &path)?.is_some();
        let extension = is_ours.then(|| Extension::map(&segment, &path)).transpose()?;
        let block = extension.as_ref().and_then(|extension| extension.read_remains(&path).ok());
        let epoch = header.epoch();
        // The writer may have died between making the next and removing the last.
        let named = [Some((epoch.generation, epoch.metadata)), block.map(|block| (block.generation, block.metadata))];
        for (ring, metadata) in named.into_iter().flatten() {
            for near in [0, 1, u32::MAX] {
                remove(&names.ring(ring.wrapping_add(near)))?;
                remove(&names.metadata(metadata.wrapping_add(near)))?;
            }
        }
        let (Some(extension), Some(mut block)) = (extension, block) else { return Ok(None) };
        // It died in the change to another ring: the counters are still those of the one before, and so is the header,
        // whose generation is stored last.
        block.generation = epoch.generation;
        if layout != options.layout {
            return Ok(None);
        }
        segment.set_mode(options.mode & 0o7777).map_err(Error::file("chmod", &path))?;
        let (claimed, committed) = (extension.claimed(), extension.committed());
        // Far from the end of counting, which nobody reaches in a life.
        let is_sound = committed <= claimed && claimed.max(block.first) <= MAX_COUNT / 2;
        Ok(is_sound.then_some(Self { segment, header, extension, block, claimed, committed }))
    }

    fn make(names: &Names, options: Options, writer: ProcessId) -> Result<Self> {
        let path = names.header();
        let block = Block {
            stage: Stage::Unconfigured,
            generation: NO_GENERATION,
            writer,
            first: 0,
            previous_claimed: 0,
            metadata: 0,
        };
        let content = Extension::content(Header::blank(options.layout), block);
        let mode = options.mode & 0o7777;
        let segment = Segment::create(&path, mode, &content, FILE_LEN).map_err(Error::file("create", &path))?;
        let header = Header::map(&segment, options.layout, Access::Write, &path)?;
        let extension = Extension::map(&segment, &path)?;
        Ok(Self { segment, header, extension, block, claimed: 0, committed: 0 })
    }

    /// Has frames up to this number count as touched.
    #[inline(always)]
    fn claim(&mut self, frames: usize) {
        self.claimed = self.claimed.max(self.committed + frames as u64);
        self.extension.claim(self.claimed);
    }

    /// Gives frames that are in the ring to readers of either kind.
    #[inline(always)]
    fn publish(&mut self, progress: Progress, wrapped: bool, frames: usize) {
        self.committed += frames as u64;
        self.extension.commit(self.committed, || self.header.set_progress(progress, wrapped));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_over && self.epoch.is_current() {
            let _ = self.end(true); // nobody is left to be told
        }
    }
}

impl Clock {
    /// Fills room with timestamps, the first that of frame `number`.
    #[inline(always)]
    fn fill(&self, room: Room<'_>, number: u64) {
        let periods = number.wrapping_sub(self.number).cast_signed() as f64;
        room.fill_ramp(self.time, periods, self.period);
    }

    /// Goes on from the timestamp of a frame, if it is a time.
    #[inline(always)]
    fn go_on_from(&mut self, time: Option<&f64>, number: u64) {
        if let Some(&time) = time
            && time.is_finite()
        {
            (self.time, self.number) = (time, number);
        }
    }
}

impl Progress {
    /// After so many frames more. An exact fill leaves the index at the end of the ring.
    #[inline(always)]
    fn advanced(self, frames: usize, ring: &Ring) -> Self {
        let (index, len) = (self.index + frames as u64, ring.frames() as u64);
        if index <= len {
            return Self { index, ..self };
        }
        Self { index: (index - 1) % len + 1, wraps: self.wraps + (index - 1) / len }
    }

    /// Where the next frame goes.
    #[inline(always)]
    fn next(self, ring: &Ring) -> usize {
        if self.index as usize >= ring.frames() { 0 } else { self.index as usize }
    }
}

/// The process that a header names as its writer.
fn writer_of(path: &Path) -> Option<u32> {
    let segment = Segment::open(path).ok()?;
    let block = Extension::find(&segment, path).ok()??.read_remains(path).ok()?;
    Some(block.writer.pid)
}

/// Removes a file, unless the path means another one by now.
fn remove_own(segment: &Segment, path: &Path) -> Result<()> {
    if segment.is_at(path).map_err(Error::file("stat", path))? { remove(path) } else { Ok(()) }
}

/// Removes a file that need not be there.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}
