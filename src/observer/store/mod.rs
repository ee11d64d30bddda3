//! A file of segments, one for each worker, and a sidecar that says what they are.

mod exposition;
mod sidecar;

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::error::{Error, Result};
use super::schema::Schema;
use super::types::Number;
use super::value::{Exact, Value};
use crate::shm::{Access, FileWords, Lock, Mapping, Numbers, Patience, ReadWords, Segment, Shape, seqlock};
use crate::sys::{ProcessEpoch, ProcessId};
pub use exposition::Format;
use sidecar::{Description, Header, MAX_SEGMENT, PAGE, Record, TAKEN, WORDS};

/// How a store is made or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Permissions of a new store.
    pub mode: u32,
    /// Bytes of a segment of a new store.
    pub segment_size: u32,
    /// Segments of a new store; it grows.
    pub segments: u32,
    /// Nothing is changed.
    pub read_only: bool,
    /// Reads by system calls, so that a file which somebody cuts is an error and not a SIGBUS.
    pub checked: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { mode: 0o600, segment_size: 512, segments: 64, read_only: false, checked: false }
    }
}

/// Who has a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The segment.
    pub segment: u32,
    /// Where it begins in the file.
    pub offset: u64,
    /// What is known of its process.
    pub state: WorkerState,
    /// Its process; 0 when nobody has said.
    pub pid: u32,
    /// When it took the segment, in nanoseconds since 1970.
    pub since_ns: i64,
    /// Its service; empty when nobody has said.
    pub service: String,
    /// How many fields it has.
    pub fields: u32,
}

/// What is known of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Nobody has said what its numbers are.
    Undescribed,
    /// Its process runs.
    Alive,
    /// Its process has ended, or another one has its number.
    Dead,
}

/// The segments of a file. Threads take turns.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    epoch: ProcessEpoch,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    sidecar_path: PathBuf,
    options: StoreOptions,
    data: Segment,
    sidecar: Segment,
    segment_size: usize,
    /// Of a store that is not checked, once something was read.
    numbers: Option<Numbers>,
    pages: Option<Mapping>,
    /// What the pages of the sidecar said.
    known: Vec<Option<Known>>,
    last_form: Option<Arc<Form>>,
    /// This call has the lock of the store: what is in the middle of a change will stay there.
    alone: bool,
    /// Memory for what is read of a segment.
    values: Vec<Value>,
}

/// What a page of the sidecar said.
#[derive(Debug)]
struct Known {
    /// The first word with which it said so: as long as it is the same, all is.
    first: u64,
    record: Arc<Record>,
    /// What its numbers look like, if somebody has said.
    form: Option<Arc<Form>>,
}

/// What the numbers of a segment look like. Workers of one kind share one.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    numbers: Box<[Number]>,
    shape: Shape,
}

impl Form {
    fn of(schema: &Schema) -> Self {
        let numbers = schema.fields().map(|(field, _)| field.r#type.number()).collect();
        Self { numbers, shape: Shape::new(schema.fields().map(|(field, at)| field.r#type.place(at))) }
    }
}

/// How long a change of a page may take.
const CHANGE: Duration = Duration::from_millis(100);
/// How long to wait for others who change the store.
const TURN: Duration = Duration::from_secs(1);
/// Bytes of a store when it is made.
const MAX_STORE: usize = 1 << 30;
/// Segments of a store when it is made.
const MAX_SEGMENTS: usize = 1 << 16;
/// Segments that are looked at.
const MAX_COUNT: u64 = 1 << 20;
/// Between two attempts at the lock.
const NAP: Duration = Duration::from_micros(100);

impl Store {
    /// Makes a store anew: what had its name is removed, and whoever has that open keeps it.
    ///
    /// [`Error::Busy`], [`Error::File`].
    pub fn create(path: &Path, options: StoreOptions) -> Result<Self> {
        let path = absolute(path);
        let (segment_size, segments) = (options.segment_size as usize, options.segments as usize);
        let most = MAX_SEGMENTS.min(MAX_STORE / segment_size.max(1));
        if !(1..=MAX_SEGMENT).contains(&segment_size) || !(1..=most).contains(&segments) {
            return Err(Error::Sizes { segment_size, segments });
        }
        let sidecar_path = sidecar_of(&path);
        let _lock = lock(&path)?;
        for old in [&sidecar_path, &path] {
            match std::fs::remove_file(old) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::file("remove", old)(error)),
                _ => {}
            }
        }
        let len = (segment_size * segments).next_multiple_of(PAGE);
        let data = Segment::create(&path, options.mode, &[], len as u64).map_err(Error::file("create", &path))?;
        let (device, inode) = data.identity().map_err(Error::file("stat", &path))?;
        let header = Header { segment_size: options.segment_size, device, inode };
        let header = header.to_words().map(u64::to_le_bytes);
        let pages = (1 + len / segment_size) * PAGE;
        // Last, since it is what says that all is there.
        if let Err(error) = Segment::create(&sidecar_path, options.mode, header.as_flattened(), pages as u64) {
            let _ = std::fs::remove_file(&path);
            return Err(Error::file("create", &sidecar_path)(error));
        }
        Self::open(&path, StoreOptions { read_only: false, ..options })
    }

    /// Opens a store; of the options those of a new one do not matter.
    ///
    /// [`Error::File`], [`Error::Malformed`].
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self> {
        let path = absolute(path);
        Ok(Self { state: Mutex::new(State::open_settled(path, options)?), epoch: ProcessEpoch::current() })
    }

    /// Opens what has the name now, after the store was made anew or mended. If that fails, all is as before.
    ///
    /// As [`Store::open`].
    pub fn reopen(&self) -> Result<()> {
        let mut state = self.state()?;
        *state = State::open_settled(state.path.clone(), state.options)?;
        Ok(())
    }

    /// Bytes of a segment.
    pub fn segment_size(&self) -> Result<usize> {
        Ok(self.state()?.segment_size)
    }

    /// How many segments there are, taken or not.
    pub fn count(&self) -> Result<u32> {
        self.state()?.count()
    }

    /// Takes a segment, the one that has been free for longest; its numbers are zero. When none is free, the store
    /// grows under everybody who has it open. `pid` 0 is this process.
    ///
    /// [`Error::TooLong`], [`Error::TooWordy`], [`Error::NoProcess`], [`Error::Busy`], [`Error::ReadOnly`],
    /// [`Error::Forked`], [`Error::File`], which is `ENOSPC` when the file system is full.
    pub fn allocate(&self, schema: Option<&Schema>, service: &str, pid: u32) -> Result<u32> {
        self.change(|state| {
            let words = state.words(schema, service, pid, 0, now_ns())?;
            let count = state.count()?;
            let mut free = None;
            for segment in 0..count {
                let turn = match state.record(segment) {
                    Ok(record) if !record.taken => record.turn,
                    // Who wrote this page was killed. What it was before decides.
                    Err(Error::Stuck(_) | Error::Damaged(_)) if !state.is_taken(segment)? => u64::MAX,
                    Ok(_) | Err(Error::Stuck(_) | Error::Damaged(_)) => continue,
                    Err(error) => return Err(error),
                };
                if free.is_none_or(|(first, _)| turn < first) {
                    free = Some((turn, segment));
                }
            }
            let segment = match free {
                Some((_, segment)) => segment,
                None => {
                    state.grow(2 * state.offset(count))?;
                    count
                }
            };
            state.zero(segment)?;
            state.write(segment, &words)?;
            Ok(segment)
        })
    }

    /// Makes the store so many segments large, if it is not yet; says how many there are then.
    ///
    /// As [`Store::free`], and [`Error::File`], which is `ENOSPC` when the file system is full.
    pub fn grow(&self, segments: u32) -> Result<u32> {
        self.change(|state| {
            state.grow(u64::from(segments) * state.segment_size as u64)?;
            state.count()
        })
    }

    /// Says what a taken segment holds, and for whom.
    ///
    /// [`Error::NoSegment`], and as [`Store::allocate`].
    pub fn describe(&self, segment: u32, schema: &Schema, service: &str, pid: u32) -> Result<()> {
        self.change(|state| {
            let since_ns = match state.taken(segment) {
                Ok(record) => record.since_ns,
                Err(Error::Stuck(_) | Error::Damaged(_)) if state.is_taken(segment)? => now_ns(), // this mends it
                Err(Error::Stuck(_) | Error::Damaged(_)) => {
                    return Err(Error::NoSegment { segment, count: state.count()? });
                }
                Err(error) => return Err(error),
            };
            let words = state.words(Some(schema), service, pid, 0, since_ns)?;
            state.write(segment, &words)
        })
    }

    /// Gives a segment back. Its numbers become zero.
    ///
    /// [`Error::NoSegment`], [`Error::Busy`], [`Error::ReadOnly`], [`Error::Forked`], [`Error::File`].
    pub fn free(&self, segment: u32) -> Result<()> {
        self.change(|state| match state.taken(segment) {
            Ok(_) | Err(Error::Stuck(_) | Error::Damaged(_)) => {
                let turn = state.next_turn()?;
                state.free(segment, turn)
            }
            Err(error) => Err(error),
        })
    }

    /// Frees the segments of workers whose processes have ended; says how many.
    ///
    /// As [`Store::free`].
    pub fn reap(&self) -> Result<u32> {
        self.change(|state| {
            let first_turn = state.next_turn()?;
            let mut reaped = 0;
            for segment in 0..state.count()? {
                let is_dead = match state.taken(segment) {
                    Ok(record) => record.process.is_dead(),
                    // Who was changing this page was killed, and its words may be mixed.
                    Err(Error::Stuck(_)) => state.is_taken(segment)? && state.pid(segment)?.is_none(),
                    Err(Error::NoSegment { .. } | Error::Damaged(_)) => false,
                    Err(error) => return Err(error),
                };
                if is_dead {
                    state.free(segment, first_turn.saturating_add(reaped.into()))?;
                    reaped += 1;
                }
            }
            Ok(reaped)
        })
    }

    /// The first taken segment from a number on.
    pub fn next(&self, from: u32) -> Result<Option<u32>> {
        let mut state = self.state()?;
        let mut segment = from;
        loop {
            match state.is_taken(segment) {
                Ok(true) => return Ok(Some(segment)),
                Ok(false) => segment += 1,
                Err(Error::NoSegment { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Who has a segment.
    ///
    /// [`Error::NoSegment`], [`Error::Damaged`], [`Error::Stuck`].
    pub fn worker(&self, segment: u32) -> Result<Worker> {
        let mut state = self.state()?;
        let record = state.taken(segment)?;
        Ok(record.worker(segment, state.offset(segment)))
    }

    /// What the numbers of a segment are.
    ///
    /// [`Error::Undescribed`], and as [`Store::worker`].
    pub fn schema(&self, segment: u32) -> Result<Schema> {
        let record = self.state()?.taken(segment)?;
        record.description.as_ref().map(|found| found.schema.clone()).ok_or(Error::Undescribed(segment))
    }

    /// The numbers of a segment, in the order of its schema; says how many.
    ///
    /// All are one worker's, and each is whole if it is aligned; no more. [`Error::Undescribed`], [`Error::Malformed`]
    /// when the file was cut, and as [`Store::worker`].
    pub fn read(&self, segment: u32, mut take: impl FnMut(usize, Value)) -> Result<u32> {
        let mut state = self.state()?;
        state.read(segment)?;
        for (index, value) in state.values.iter().enumerate() {
            take(index, *value);
        }
        Ok(state.values.len() as u32)
    }

    /// The numbers of many segments from `first` on: those of each go to the next `cap` of `values`, as many as there are
    /// or fit, and `told` gets the position of the segment and what [`Store::read`] would return. Says how many segments
    /// there were.
    pub fn read_many<T: From<Value>>(
        &self,
        first: u32,
        count: u32,
        cap: usize,
        values: &mut [MaybeUninit<T>],
        mut told: impl FnMut(usize, Result<u32>),
    ) -> Result<u32> {
        let mut state = self.state()?;
        let end = first.saturating_add(count).min(state.count()?);
        let mut rest = values;
        for segment in first..end {
            let (out, after) = rest.split_at_mut(cap.min(rest.len()));
            rest = after;
            let mut to = out.iter_mut();
            let attempt = state.try_read(segment, |value| {
                if let Some(to) = to.next() {
                    to.write(T::from(value));
                }
            });
            let read = match attempt {
                Some(fields) => Ok(fields as u32),
                None => state.read(segment).map(|()| {
                    out.iter_mut().zip(&state.values).for_each(|(to, value)| _ = to.write(T::from(*value)));
                    state.values.len() as u32
                }),
            };
            told((segment - first) as usize, read);
        }
        Ok(end.saturating_sub(first))
    }

    /// The sum of a field over all workers, or those of a service, and how many they are.
    pub fn sum(&self, service: Option<&str>, field: &str) -> Result<(Value, u32)> {
        let mut state = self.state()?;
        let (mut sum, mut workers) = (None::<Exact>, 0);
        for segment in 0..state.count()? {
            let Some(record) = state.read_if_intact(segment)? else { continue };
            let Some(found) = &record.description else { continue };
            let Some(index) = found.schema.index(field) else { continue };
            if service.is_some_and(|service| service != found.service) {
                continue;
            }
            let value = state.values[index].exact();
            sum = Some(sum.map_or(value, |sum| sum.plus(value)));
            workers += 1;
        }
        Ok((sum.map_or(Value::Unsigned(0), Exact::to_value), workers))
    }

    /// All numbers of all workers, as Prometheus reads them.
    ///
    /// What is being changed or damaged is left out.
    pub fn exposition(&self, format: Format) -> Result<String> {
        let mut state = self.state()?;
        let mut workers = Vec::new();
        for segment in 0..state.count()? {
            if let Some(record) = state.read_if_intact(segment)? {
                workers.push((segment, record, state.values.clone()));
            }
        }
        Ok(exposition::write(&workers, format))
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        if !self.epoch.is_current() {
            return Err(Error::Forked); // the lock may have been held by a thread that is not here
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.alone = false;
        Ok(state)
    }

    /// Changes the store while nobody else does.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state()?;
        if state.options.read_only {
            return Err(Error::ReadOnly);
        }
        let _lock = lock(&state.path)?;
        state.alone = true;
        change(&mut state)
    }
}

impl State {
    /// Opens a store that may be in the middle of being made anew.
    fn open_settled(path: PathBuf, options: StoreOptions) -> Result<Self> {
        match Self::open(path.clone(), options) {
            Err(Error::Malformed { .. } | Error::File { errno: libc::ENOENT, .. }) if lock(&path).is_ok() => {
                Self::open(path, options)
            }
            opened => opened,
        }
    }

    fn open(path: PathBuf, options: StoreOptions) -> Result<Self> {
        let sidecar_path = sidecar_of(&path);
        let open = |path: &Path| {
            let opened = if options.read_only { Segment::open(path) } else { Segment::open_writable(path) };
            opened.map_err(Error::file("open", path))
        };
        let (sidecar, data) = (open(&sidecar_path)?, open(&path)?);
        let malformed = |why: String| Error::Malformed { path: sidecar_path.clone(), why };
        let words = FileWords(&sidecar).load(0).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => malformed("it ends before its first page does".into()),
            _ => Error::file("read", &sidecar_path)(error),
        })?;
        let header = Header::from_words(words).map_err(malformed)?;
        if data.identity().map_err(Error::file("stat", &path))? != (header.device, header.inode) {
            return Err(malformed("it belongs to another file: the store was replaced".into()));
        }
        let len = data.len().map_err(Error::file("fstat", &path))?; // first: the sidecar grows before it does
        let described = sidecar.len().map_err(Error::file("fstat", &sidecar_path))?;
        let segments = len / u64::from(header.segment_size);
        if segments == 0 || described < (1 + segments) * PAGE as u64 {
            return Err(malformed(format!(
                "it has {described} bytes, which cannot tell of the {segments} segments of a file of {len} bytes"
            )));
        }
        Ok(Self {
            path,
            sidecar_path,
            options,
            data,
            sidecar,
            segment_size: header.segment_size as usize,
            numbers: None,
            pages: None,
            known: Vec::new(),
            last_form: None,
            alone: false,
            values: Vec::new(),
        })
    }

    /// Segments that the file has and the sidecar tells of.
    fn count(&self) -> Result<u32> {
        let len = self.data.len().map_err(Error::file("fstat", &self.path))?;
        let described = self.sidecar.len().map_err(Error::file("fstat", &self.sidecar_path))? / PAGE as u64;
        let count = (len / self.segment_size as u64).min(described.saturating_sub(1)).min(MAX_COUNT);
        Ok(count as u32)
    }

    fn offset(&self, segment: u32) -> u64 {
        u64::from(segment) * self.segment_size as u64
    }

    /// The pages, mapped as far as that of a segment; `None` of a checked store.
    fn page(&mut self, segment: u32) -> Result<Option<&Mapping>> {
        if self.options.checked {
            return Ok(None);
        }
        let is_there = self.pages.as_ref().is_some_and(|pages| page_of(segment) + WORDS <= pages.len());
        if !is_there {
            self.pages = Some(self.map_pages(segment)?);
        }
        Ok(self.pages.as_ref())
    }

    fn map_pages(&self, segment: u32) -> Result<Mapping> {
        let count = self.count()?;
        if segment >= count {
            return Err(Error::NoSegment { segment, count });
        }
        let access = if self.options.read_only { Access::Read } else { Access::Write };
        let pages = Mapping::new(&self.sidecar, 0, (1 + count as usize) * WORDS, access);
        pages.map_err(Error::file("mmap", &self.sidecar_path))
    }

    /// The first words of a page, in the middle of a change or not.
    fn first_words<const N: usize>(&mut self, segment: u32) -> Result<[u64; N]> {
        let at = page_of(segment);
        if let Some(pages) = self.page(segment)? {
            let Ok(words) = pages.load(at);
            return Ok(words);
        }
        match FileWords(&self.sidecar).load(at) {
            Ok(words) => Ok(words),
            Err(_) if self.data.len().is_ok_and(|len| self.offset(segment) < len) => Err(Error::Damaged(segment)),
            Err(_) => Err(Error::NoSegment { segment, count: self.count()? }),
        }
    }

    /// Whether a segment is taken, whatever else its page says.
    fn is_taken(&mut self, segment: u32) -> Result<bool> {
        let [first] = self.first_words(segment)?;
        Ok(first as u32 == TAKEN)
    }

    /// What the page of a segment says. It is decoded only after a change.
    fn record(&mut self, segment: u32) -> Result<Arc<Record>> {
        let [now] = self.first_words(segment)?;
        if let Some(Some(known)) = self.known.get(segment as usize)
            && known.first == now
        {
            return Ok(known.record.clone());
        }
        let at = page_of(segment);
        let mut patience = Patience::new(CHANGE);
        let words = loop {
            let attempt = match self.page(segment)? {
                Some(pages) => {
                    let Ok(attempt) = seqlock::try_read::<{ WORDS - 1 }, _, _>(&**pages, at, || ());
                    attempt
                }
                None => seqlock::try_read(&FileWords(&self.sidecar), at, || ()).map_err(|_| Error::Damaged(segment))?,
            };
            if let Some(whole) = attempt {
                let mut words = [whole.first; WORDS];
                words[1..].copy_from_slice(&whole.rest);
                break words;
            }
            if self.alone || patience.is_over() {
                return Err(Error::Stuck(segment));
            }
        };
        let fits =
            |record: &Record| record.description.as_ref().is_none_or(|found| found.schema.size() <= self.segment_size);
        let record = Record::from_words(words).filter(fits).ok_or(Error::Damaged(segment))?;
        let record = Arc::new(record);
        let form = record.description.as_ref().map(|found| self.form(&found.schema));
        self.known.resize_with(self.known.len().max(segment as usize + 1), || None);
        self.known[segment as usize] = Some(Known { first: words[0], record: record.clone(), form });
        Ok(record)
    }

    /// The form of a schema, that of another segment if it is the same.
    fn form(&mut self, schema: &Schema) -> Arc<Form> {
        let form = Form::of(schema);
        match &self.last_form {
            Some(last) if **last == form => last.clone(),
            _ => self.last_form.insert(Arc::new(form)).clone(),
        }
    }

    fn taken(&mut self, segment: u32) -> Result<Arc<Record>> {
        let record = self.record(segment)?;
        if record.taken {
            return Ok(record);
        }
        Err(Error::NoSegment { segment, count: self.count()? })
    }

    /// Reads the numbers of a segment into `values`.
    fn read(&mut self, segment: u32) -> Result<()> {
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        let attempt = self.try_read(segment, |value| values.push(value));
        self.values = values;
        if attempt.is_some() {
            return Ok(());
        }
        let mut patience = Patience::new(CHANGE);
        loop {
            let record = self.taken(segment)?;
            let known = self.known[segment as usize].as_ref().map(|known| (known.first, known.form.clone()));
            let (Some((first, Some(form))), Some(found)) = (known, &record.description) else {
                return Err(Error::Undescribed(segment));
            };
            self.load(segment, &found.schema, &form)?;
            // Pairs with the fences of seqlock::write: whoever frees a segment says so before its numbers change.
            fence(Ordering::Acquire);
            if self.first_words(segment)? == [first] {
                return Ok(());
            }
            if patience.is_over() {
                return Err(Error::Stuck(segment));
            }
        }
    }

    /// One attempt at the numbers of a segment, if nothing has changed since the last time and all is mapped; says how many
    /// there are. If it fails, what `take` got means nothing.
    #[inline(always)]
    fn try_read(&self, segment: u32, take: impl FnMut(Value)) -> Option<usize> {
        if self.options.checked {
            return None;
        }
        let known = self.known.get(segment as usize)?.as_ref()?;
        let (form, pages) = (known.form.as_ref()?, self.pages.as_ref()?);
        let at = page_of(segment); // mapped, since it is known
        if pages.load(at) != Ok([known.first]) {
            return None;
        }
        read_values(self.numbers.as_ref()?, segment as usize * self.segment_size, form, take)?;
        fence(Ordering::Acquire); // as in `read`
        (pages.load(at) == Ok([known.first])).then_some(form.numbers.len())
    }

    /// The same for who looks at all: whose numbers they are, `None` when there are none to be read.
    fn read_if_intact(&mut self, segment: u32) -> Result<Option<Arc<Record>>> {
        if !self.is_taken(segment)? {
            return Ok(None); // whatever else its page says
        }
        match self.read(segment) {
            Ok(()) => Ok(self.known[segment as usize].as_ref().map(|known| known.record.clone())),
            Err(Error::NoSegment { .. } | Error::Undescribed(_) | Error::Stuck(_) | Error::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn load(&mut self, segment: u32, schema: &Schema, form: &Form) -> Result<()> {
        let offset = self.offset(segment);
        self.values.clear();
        if self.options.checked {
            let mut bytes = vec![0; schema.size()];
            self.data.read(offset, &mut bytes).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => self.cut(),
                _ => Error::file("read", &self.path)(error),
            })?;
            self.values.extend(schema.fields().map(|(field, at)| field.r#type.decode(&bytes[at..])));
            return Ok(());
        }
        let (begin, end) = (offset as usize, offset as usize + schema.size());
        if self.numbers.as_ref().is_none_or(|numbers| numbers.len() < end) {
            let len = self.data.len().map_err(Error::file("fstat", &self.path))?;
            if len < end as u64 {
                return Err(self.cut());
            }
            let numbers = Numbers::new(&self.data, usize::try_from(len).unwrap_or(usize::MAX));
            self.numbers = Some(numbers.map_err(Error::file("mmap", &self.path))?);
        }
        let values = &mut self.values;
        let read =
            self.numbers.as_ref().and_then(|numbers| read_values(numbers, begin, form, |value| values.push(value)));
        read.ok_or_else(|| self.cut())
    }

    fn cut(&self) -> Error {
        Error::Malformed { path: self.path.clone(), why: "the file was cut: it ends within a segment".into() }
    }

    /// The page of a taken segment.
    fn words(
        &self,
        schema: Option<&Schema>,
        service: &str,
        pid: u32,
        turn: u64,
        since_ns: i64,
    ) -> Result<Box<[u64; WORDS]>> {
        if let Some(schema) = schema {
            if schema.size() > self.segment_size {
                return Err(Error::TooLong { schema: schema.size(), segment: self.segment_size });
            }
            schema.check_alignment(self.segment_size as u64)?;
        }
        let pid = if pid == 0 { std::process::id() } else { pid };
        let process = ProcessId::of(pid).map_err(Error::file("read", Path::new("/proc")))?;
        let process = process.ok_or(Error::NoProcess(pid))?;
        let description = schema.map(|schema| Description { service: service.into(), schema: schema.clone() });
        let record = Record { taken: true, turn, since_ns, process, description };
        record.to_words().map(Box::new).ok_or(Error::TooWordy)
    }

    fn write(&mut self, segment: u32, words: &[u64; WORDS]) -> Result<()> {
        let at = page_of(segment);
        match self.page(segment)? {
            Some(pages) => seqlock::write(&**pages, at, words),
            None => seqlock::write(&*self.map_pages(segment)?, at, words), // what is written has to be mapped
        };
        Ok(())
    }

    /// The turn of who is freed now.
    fn next_turn(&mut self) -> Result<u64> {
        let mut last = 0_u64;
        for segment in 0..self.count()? {
            if let Ok(record) = self.record(segment) {
                last = last.max(record.turn);
            }
        }
        Ok(last.saturating_add(1))
    }

    /// The number of a process that a page names, whatever else is wrong with it; `None` when there is no such process.
    fn pid(&mut self, segment: u32) -> Result<Option<u32>> {
        let pid = Record::pid_of(self.first_words(segment)?);
        // What cannot be found out is believed to be there.
        Ok(if matches!(ProcessId::of(pid), Ok(None)) { None } else { Some(pid) })
    }

    fn free(&mut self, segment: u32, turn: u64) -> Result<()> {
        let free = Record { turn, ..Record::free() };
        self.write(segment, &free.to_words().ok_or(Error::TooWordy)?)?; // first, for `read`
        self.zero(segment)
    }

    fn zero(&self, segment: u32) -> Result<()> {
        self.data.zero(self.offset(segment), self.segment_size).map_err(Error::file("write", &self.path))
    }

    /// Makes the file at least so long; first the sidecar, for it must not tell of less than there is.
    fn grow(&mut self, len: u64) -> Result<()> {
        let len = len.next_multiple_of(PAGE as u64);
        let pages = 1 + len / self.segment_size as u64;
        self.sidecar.grow(pages * PAGE as u64).map_err(Error::file("grow", &self.sidecar_path))?;
        self.data.grow(len).map_err(Error::file("grow", &self.path))
    }
}

impl Record {
    fn state(&self) -> WorkerState {
        match &self.description {
            _ if self.process.is_dead() => WorkerState::Dead,
            Some(_) => WorkerState::Alive,
            None => WorkerState::Undescribed,
        }
    }

    fn worker(&self, segment: u32, offset: u64) -> Worker {
        let found = self.description.as_ref();
        Worker {
            segment,
            offset,
            state: self.state(),
            pid: self.process.pid,
            since_ns: self.since_ns,
            service: found.map_or_else(String::new, |found| found.service.clone()),
            fields: found.map_or(0, |found| found.schema.fields().len() as u32),
        }
    }
}

/// Reads the numbers of a form; `None` when they are not all there.
#[inline(always)]
fn read_values(numbers: &Numbers, begin: usize, form: &Form, mut take: impl FnMut(Value)) -> Option<()> {
    let bits = numbers.load(begin, &form.shape)?;
    form.numbers.iter().zip(bits).for_each(|(number, bits)| take(Value::from_bits(*number, bits)));
    Some(())
}

/// Where the page of a segment begins in the sidecar, in words.
fn page_of(segment: u32) -> usize {
    (1 + segment as usize) * WORDS
}

/// The working directory may be another one at `reopen`.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn sidecar_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".sidecar");
    path.with_file_name(name)
}

fn lock(path: &Path) -> Result<Lock> {
    let begin = Instant::now();
    loop {
        match Lock::take(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            taken => return taken.map_err(Error::file("lock", path)),
        }
        if begin.elapsed() >= TURN {
            return Err(Error::Busy(path.to_owned()));
        }
        std::thread::sleep(NAP);
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
