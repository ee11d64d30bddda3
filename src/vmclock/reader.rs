//! A page that is open for reading.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::page::{
    BLOCK, BODY, FULL_SIZE, MAGIC, MIN_SIZE, MIN_WORDS, Snapshot, VERSION, VMCLOCK_COUNTER_ARM_VCNT,
    VMCLOCK_COUNTER_INVALID, VMCLOCK_COUNTER_X86_TSC, VMCLOCK_FLAG_NOTIFICATION_PRESENT,
    VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT, WORDS, counter_id,
};
use super::time::{Time, VMCLOCK_HAS_MAXERROR};
use crate::shm::{Access, FileWords, Mapping, Patience, Plain, ReadWords, Segment, seqlock};
use crate::sys::counter;
use crate::sys::{Polled, poll};

/// How a page is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Reads the file by system calls instead of a mapping, so that a file which somebody cuts is an error and not a
    /// SIGBUS.
    pub checked: bool,
    /// How often a wait looks at a page whose device does not notify.
    pub interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { checked: false, interval: Duration::from_millis(1) }
    }
}

/// A page that is open for reading. Any number of threads may use it at once, and the children of a fork, too.
#[derive(Debug)]
pub struct Clock {
    segment: Segment,
    /// `None` for a checked clock.
    mapping: Option<Mapping>,
    /// The page ends with a generation counter.
    is_full: bool,
    interval: Duration,
}

/// Calls a generic function with whichever memory it is.
macro_rules! with {
    ($clock:expr, $memory:ident => $call:expr) => {
        match &$clock.mapping {
            Some(mapping) => {
                let words = **mapping;
                let $memory = &words;
                $call
            }
            None => {
                let $memory = &FileWords(&$clock.segment);
                $call
            }
        }
    };
}

/// How long an update may take: as the kernel's driver has it.
const UPDATE: Duration = Duration::from_millis(100);
/// How long a wait trusts that a notification comes, or that a page does not get better.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Sleeps end late by up to this, so that the last part of a wait is spent looking.
const SPIN: Duration = Duration::from_micros(250);
/// Looks between two sleeps, of some tens of nanoseconds each.
const LOOKS: u32 = 10_000;
/// The sleep between, in which a signal is noticed.
const NAP: Duration = Duration::from_micros(50);

/// Words of the page.
const WORD: usize = 8;
const HEADER: usize = 0;
const FLAGS: usize = 0x18 / WORD;

impl Clock {
    /// The kernel's first clock device.
    pub const DEFAULT_PATH: &str = "/dev/vmclock0";

    /// Opens a device, a file, or POSIX shared memory by its path.
    ///
    /// [`Error::File`] with what opening ends with, or `EINVAL` for what holds no memory; [`Error::Malformed`] and
    /// [`Error::Version`] for what holds no page.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let segment = Segment::open(path).map_err(Error::file("open", path))?;
        let len = segment.len().map_err(Error::file("fstat", path))?;
        check_length(path, len)?;
        let words = if len >= FULL_SIZE as u64 { FULL_SIZE } else { MIN_SIZE } / WORD;
        let mapping = match options.checked {
            true => None,
            false => Some(Mapping::new(&segment, 0, words, Access::Read).map_err(Error::file("mmap", path))?),
        };
        let interval = options.interval.max(Duration::from_micros(1));
        let mut clock = Self { segment, mapping, is_full: false, interval };
        let [header, first] =
            with!(clock, memory => memory.load(HEADER).map_err(Stop::from)).map_err(|stop| match stop.into() {
                Error::Cut => Error::malformed(path, "no clock page: it ends too early"),
                Error::System { errno, .. } => Error::file("read", path)(io::Error::from_raw_os_error(errno)),
                error => error,
            })?;
        // A device has more than the page of it that can be mapped.
        let limit = if clock.segment.is_device() { u64::MAX } else { len };
        clock.is_full = check_header(path, header, limit)? >= FULL_SIZE as u64;
        check_version(first).map_err(|error| Error::malformed(path, error.to_string()))?;
        Ok(clock)
    }

    /// The page as it was between two updates.
    ///
    /// [`Error::Stuck`] when an update has not ended within 100 ms; [`Error::Version`]; [`Error::Cut`] of a checked
    /// clock.
    #[inline]
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut page = Snapshot::default();
        self.snapshot_into(&mut page)?;
        Ok(page)
    }

    /// The same, into memory of the caller's, which is left alone on failure.
    #[inline]
    pub fn snapshot_into(&self, page: &mut Snapshot) -> Result<()> {
        self.read(page, || ())
    }

    /// One attempt at that: `false` beside an update, and wherever else [`Clock::snapshot_into`] has to do or to tell more.
    #[inline(always)]
    pub fn try_snapshot_into(&self, page: &mut Snapshot) -> bool {
        self.try_read(page, || ()).is_some()
    }

    /// The time, from the page and the counter of this processor.
    ///
    /// [`Error::NoTime`], [`Error::Range`], and as [`Clock::snapshot`].
    #[inline]
    pub fn now(&self) -> Result<Time> {
        let mut time = Time::default();
        self.now_into(&mut time)?;
        Ok(time)
    }

    /// The same, into memory of the caller's, which is left alone on failure.
    #[inline]
    pub fn now_into(&self, time: &mut Time) -> Result<()> {
        let mut page = Snapshot::default();
        let counter_value = self.read(&mut page, counter::read)?;
        check_counter(&page)?;
        time.set(&page, counter_value)
    }

    /// One attempt at that: `false` beside an update, and wherever else [`Clock::now_into`] has to do or to tell more.
    #[inline(always)]
    pub fn try_now_into(&self, time: &mut Time) -> bool {
        let mut page = Snapshot::default();
        let counter_value = self.try_read(&mut page, counter::read);
        counter_value.is_some_and(|value| check_counter(&page).and_then(|()| time.set(&page, value)).is_ok())
    }

    /// Waits until the page is another one than that of `last_seq`: `false` when the time is over or a signal came.
    pub fn wait(&self, last_seq: u32, timeout: Option<Duration>) -> Result<bool> {
        let deadline = Deadline::new(timeout);
        loop {
            // All of it, to see whether all of it is there.
            let [first, ..] = with!(self, memory => memory.load::<MIN_WORDS>(BLOCK).map_err(Stop::from))?;
            check_version(first)?;
            let sequence = seqlock::sequence(first);
            if sequence != last_seq && sequence.is_multiple_of(2) {
                return Ok(true);
            }
            let left = deadline.left();
            if left.is_zero() || !self.pause(sequence, left)? {
                return Ok(false);
            }
        }
    }

    /// Waits until a time of the page's type is certainly over: `false` when `timeout` is, or a signal came.
    ///
    /// [`Error::NoBound`], and as [`Clock::now`].
    pub fn wait_until_past(&self, time_ns: i64, timeout: Option<Duration>) -> Result<bool> {
        let deadline = Deadline::new(timeout);
        let mut time_type = None;
        let mut looks = 0;
        loop {
            let now = self.now()?;
            if *time_type.get_or_insert(now.time_type) != now.time_type {
                return Err(Error::NoTime(
                    "its time type has changed, and what was waited for is of the old one".into(),
                ));
            }
            if now.valid & VMCLOCK_HAS_MAXERROR == 0 {
                return Err(Error::NoBound);
            }
            if now.earliest_ns > time_ns {
                return Ok(true);
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(false);
            }
            // A page may get better meanwhile, so a long sleep is taken in parts.
            let ahead = Duration::from_nanos(time_ns.abs_diff(now.earliest_ns));
            let mut nap = ahead.saturating_sub(SPIN).min(left).min(LOOK_AGAIN);
            if nap.is_zero() {
                looks += 1;
                if looks < LOOKS {
                    continue;
                }
                nap = NAP; // the bound grows about as fast as the time
            }
            looks = 0;
            if poll(None, nap) == Polled::Interrupted {
                return Ok(false);
            }
        }
    }

    #[inline(always)]
    fn read<T>(&self, page: &mut Snapshot, mut between: impl FnMut() -> T) -> Result<T> {
        match self.try_read(page, &mut between) {
            Some(value) => Ok(value),
            None => self.read_again(page, between),
        }
    }

    /// One attempt at a mapped page of full size, which is nearly always all there is to do, and small enough to become a
    /// part of the caller: `page` is written from registers, for a copy by way of memory would take longer than the rest.
    #[inline(always)]
    fn try_read<T>(&self, page: &mut Snapshot, between: impl FnOnce() -> T) -> Option<T> {
        let words = **self.mapping.as_ref().filter(|_| self.is_full)?;
        let Ok(attempt) = seqlock::try_read::<{ WORDS - 1 }, _, _>(&words, BLOCK, between);
        let whole = attempt.filter(|whole| whole.first as u16 == VERSION)?;
        fill(page, whole.first, whole.rest);
        Some(whole.between)
    }

    /// Everything else.
    #[cold]
    #[inline(never)]
    fn read_again<T>(&self, page: &mut Snapshot, between: impl FnMut() -> T) -> Result<T> {
        if self.is_full {
            with!(self, memory => read::<{ WORDS - 1 }, _, _>(memory, page, between))
        } else {
            with!(self, memory => read::<{ MIN_WORDS - 1 }, _, _>(memory, page, between))
        }
    }

    /// Waits for news of a page that was of this sequence, or a while; `false` when a signal came.
    fn pause(&self, sequence: u32, left: Duration) -> Result<bool> {
        let [flags] = with!(self, memory => memory.load(FLAGS).map_err(Stop::from))?;
        let notifies = self.segment.is_device() && flags & VMCLOCK_FLAG_NOTIFICATION_PRESENT != 0;
        // An update notifies at its end; and the driver would wait for that end to be read.
        if notifies && sequence.is_multiple_of(2) {
            match poll(Some(self.segment.as_raw_fd()), left.min(LOOK_AGAIN)) {
                // Only reading makes the device quiet. A driver that cannot poll says so at once, and has no news.
                Polled::Readable => {
                    let mut first = [0; WORD];
                    let read = self.segment.file().read_exact_at(&mut first, BODY as u64);
                    if read.is_ok() && seqlock::sequence(u64::from_le_bytes(first)) != sequence {
                        return Ok(true);
                    }
                }
                Polled::Elapsed => return Ok(true),
                Polled::Interrupted => return Ok(false),
                Polled::HungUp => {}
            }
        }
        Ok(poll(None, left.min(self.interval)) != Polled::Interrupted)
    }
}

fn read<const N: usize, M: ReadWords, T>(memory: &M, page: &mut Snapshot, mut between: impl FnMut() -> T) -> Result<T>
where
    Stop: From<M::Error>,
{
    let mut patience = Patience::new(UPDATE);
    loop {
        if let Some(whole) = seqlock::try_read::<N, _, _>(memory, BLOCK, &mut between).map_err(Stop::from)? {
            check_version(whole.first)?;
            fill(page, whole.first, whole.rest);
            return Ok(whole.between);
        }
        if patience.is_over() {
            return Err(Error::Stuck);
        }
    }
}

/// The generation counter of a page that has none is zero.
#[inline(always)]
fn fill<const N: usize>(page: &mut Snapshot, first: u64, rest: [u64; N]) {
    let mut words = [0; WORDS];
    words[0] = first;
    for (to, from) in words[1..].iter_mut().zip(rest) {
        *to = from;
    }
    if words[FLAGS - BLOCK] & VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT == 0 {
        words[WORDS - 1] = 0;
    }
    for (to, from) in page.words_mut().iter_mut().zip(words) {
        *to = from;
    }
}

/// A load that failed.
struct Stop(io::Error);

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<std::convert::Infallible> for Stop {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<Stop> for Error {
    fn from(Stop(error): Stop) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::system("pread")(error),
        }
    }
}

/// A moment, or never.
struct Deadline(Option<Instant>);

impl Deadline {
    fn new(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    fn left(&self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }
}

/// Whether a file is long enough for a page.
pub(super) fn check_length(path: &Path, len: u64) -> Result<()> {
    if len < MIN_SIZE as u64 {
        return Err(Error::malformed(path, format!("{len} bytes cannot hold a clock page, which has {MIN_SIZE}")));
    }
    Ok(())
}

/// The size of the region, as the first word of the page tells it.
pub(super) fn check_header(path: &Path, header: u64, limit: u64) -> Result<u64> {
    let (magic, size) = (header as u32, header >> 32);
    if magic != MAGIC {
        let why = format!("no clock page: it begins with {magic:#010x}, and not with {MAGIC:#010x} (\"VCLK\")");
        return Err(Error::malformed(path, why));
    }
    if size < MIN_SIZE as u64 {
        return Err(Error::malformed(path, format!("it says that it has {size} bytes, and a page has {MIN_SIZE}")));
    }
    if size > limit {
        return Err(Error::malformed(path, format!("it says that it has {size} bytes, and has {limit}")));
    }
    Ok(size)
}

/// The version in the first word of the block.
#[inline]
pub(super) fn check_version(first: u64) -> Result<()> {
    match first as u16 {
        VERSION => Ok(()),
        version => Err(Error::Version(version)),
    }
}

#[inline]
fn check_counter(page: &Snapshot) -> Result<()> {
    if Some(page.counter_id) == counter_id() || page.counter_id == VMCLOCK_COUNTER_INVALID {
        return Ok(()); // of the latter, `Time::at` tells
    }
    Err(Error::NoTime(match page.counter_id {
        VMCLOCK_COUNTER_ARM_VCNT => "it counts by CNTVCT_EL0, which this processor does not have".into(),
        VMCLOCK_COUNTER_X86_TSC => "it counts by the TSC, which this processor does not have".into(),
        other => format!("its counter, {other}, has no meaning"),
    }))
}
