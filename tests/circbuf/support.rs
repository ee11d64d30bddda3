//! Streams with names of their own, frames that tell whether they are whole, and readers that look.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

pub use crate::common::*;
use shmhot::circbuf::*;
use shmhot::status::Failure;

/// A name that no other stream has, whose files go away with it.
pub struct Name {
    name: String,
    generations: u32,
}

impl Name {
    pub fn new(what: &str) -> Self {
        Self::with_generations(what, 32)
    }

    /// Of a test that gets to so many rings, or so many times to new metadata.
    pub fn with_generations(what: &str, generations: u32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("shmhot-test/{what}/{}-{count}", std::process::id()), generations }
    }

    pub fn header(&self) -> PathBuf {
        object(&self.name)
    }

    pub fn ring(&self, generation: u32) -> PathBuf {
        object(&format!("{}/buffer{generation}", self.name))
    }

    pub fn metadata(&self, generation: u32) -> PathBuf {
        object(&format!("{}/meta{generation}", self.name))
    }

    pub fn lock(&self) -> PathBuf {
        Path::new("/dev/shm").join(format!(".{}.lock", short_name(&self.name)))
    }

    /// What there is of the stream in shared memory.
    pub fn files(&self) -> Vec<PathBuf> {
        let numbered = (0..self.generations).flat_map(|generation| [self.ring(generation), self.metadata(generation)]);
        let mut all: Vec<_> = [self.header(), self.lock()].into_iter().chain(numbered).collect();
        all.retain(|path| path.symlink_metadata().is_ok());
        all
    }

    pub fn create(&self, options: Options) -> CircBuf {
        CircBuf::create(self, options).expect("a stream")
    }

    /// A stream of numbered frames, whose ring holds so many.
    pub fn numbered(&self, frames: u32) -> CircBuf {
        let stream = self.create(Options::default());
        assert!(stream.configure(&numbers(frames), 0.0).unwrap());
        stream
    }

    pub fn mirror(&self) -> Mirror {
        Mirror::open(self, MirrorOptions::default()).expect("a mirror")
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        for path in self.files() {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn object(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(short_name(name))
}

/// The name of the stream of a process that was started for it, and what was said behind that.
pub fn name_of_child() -> Option<(String, String)> {
    let subject = subject_of_child()?.into_string().expect("UTF-8");
    let (name, rest) = subject.split_once(' ').unwrap_or((&subject, ""));
    Some((name.into(), rest.into()))
}

/// Words of a numbered frame.
pub const WORDS: usize = 8;

/// The format of numbered frames.
pub fn numbers(frames: u32) -> Format {
    let dtype = Dtype::new(b'Q').unwrap();
    Format { dtype, frame_shape: vec![WORDS as u32], frames, rate: 1024.0, key: "numbers".into() }
}

/// Word `i` of frame `number`: the first is the number, and each other tells of number and place.
pub fn word(number: u64, i: usize) -> u64 {
    if i == 0 { number } else { (number + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

/// The bytes of numbered frames of so many words.
pub fn frames_of(words: usize, first: u64, count: usize) -> Vec<u8> {
    (first..first + count as u64)
        .flat_map(|number| (0..words).flat_map(move |i| word(number, i).to_ne_bytes()))
        .collect()
}

/// That frames are these, and whole.
#[track_caller]
pub fn check_frames(bytes: &[u8], words: usize, first: u64) {
    for (frame, number) in bytes.chunks_exact(words * 8).zip(first..) {
        for (i, found) in frame.chunks_exact(8).enumerate() {
            let found = u64::from_ne_bytes(found.try_into().unwrap());
            assert_eq!(found, word(number, i), "word {i} of frame {number}");
        }
    }
}

/// Writes the frames that come next.
#[track_caller]
pub fn write(stream: &CircBuf, count: usize) {
    write_from(stream, stream.info().unwrap().written, count);
}

/// Writes numbered frames from this number on, of whatever format.
#[track_caller]
pub fn write_from(stream: &CircBuf, first: u64, count: usize) {
    let words = stream.format().unwrap().expect("a format").frame_size() / 8;
    stream.write(&Source::Contiguous(&frames_of(words, first, count)), None).unwrap();
}

/// A reader of numbered frames, which looks at each.
pub struct Reader {
    pub mirror: Mirror,
    format: Option<Format>,
    bytes: Vec<u8>,
    times: Vec<f64>,
    /// Frames that were read and that were lost since this began.
    pub read: u64,
    pub lost: u64,
    /// New formats.
    pub formats: u64,
}

/// Frames that a [`Reader`] has read.
pub struct Frames<'a> {
    pub span: Span,
    pub bytes: &'a [u8],
    pub times: &'a [f64],
    /// Words of each.
    pub words: usize,
}

/// Memory as it is taken by calls that fill it.
pub fn room<T>(memory: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: the same memory, and nothing that is not initialized is written to it.
    unsafe { &mut *(std::ptr::from_mut(memory) as *mut [MaybeUninit<T>]) }
}

impl Reader {
    pub fn new(mirror: Mirror) -> Self {
        Self { mirror, format: None, bytes: Vec::new(), times: Vec::new(), read: 0, lost: 0, formats: 0 }
    }

    /// Reads what comes next, in whatever format, and checks that it is whole, and the frames that the span says.
    #[track_caller]
    pub fn next(&mut self, limit: usize) -> Result<Frames<'_>> {
        let read = self.read(limit)?;
        check_frames(read.bytes, read.words, read.span.first);
        Ok(read)
    }

    /// Reads what comes next, in whatever format.
    pub fn read(&mut self, limit: usize) -> Result<Frames<'_>> {
        let span = loop {
            match self.mirror.read(room(&mut self.bytes), Some(room(&mut self.times)), limit) {
                Err(Error::NewFormat) => self.take_format()?,
                read => break read?,
            }
        };
        self.read += span.count as u64;
        self.lost += span.lost;
        let frame_size = self.format.as_ref().map_or(0, Format::frame_size);
        let (bytes, times) = (&self.bytes[..span.count * frame_size], &self.times[..span.count]);
        Ok(Frames { span, bytes, times, words: (frame_size / 8).max(1) })
    }

    fn take_format(&mut self) -> Result<()> {
        let (format, _) = self.mirror.format()?;
        self.formats += 1;
        self.bytes.resize(format.frame_size() * (format.frames as usize).min(4096), 0);
        self.times.resize(4096, 0.0);
        self.format = Some(format);
        Ok(())
    }

    pub fn format(&self) -> Option<&Format> {
        self.format.as_ref()
    }

    /// Reads until there is nothing more at the moment.
    #[track_caller]
    pub fn drain(&mut self) {
        while self.next(usize::MAX).unwrap().span.count > 0 {}
    }

    /// The numbers of frames that can be read at the moment.
    #[track_caller]
    pub fn numbers(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            let span = self.next(usize::MAX).unwrap().span;
            if span.count == 0 {
                return numbers;
            }
            numbers.extend(span.first..span.first + span.count as u64);
        }
    }
}

/// Says that something is over when it is dropped, in a panic, too: other threads wait for that.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits for something that is to be there soon.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waiting in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// First, count and lost of a span.
pub fn told(span: Span) -> (u64, usize, u64) {
    (span.first, span.count, span.lost)
}

/// The errno of a failure.
pub fn errno<T>(result: &Result<T>) -> i32 {
    result.as_ref().err().map_or(0, |error| -error.status())
}
