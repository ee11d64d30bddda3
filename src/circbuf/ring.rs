//! The frames of a stream in shared memory, and their timestamps: layout 2 has one for each, as floats of 64 bits,
//! before the first frame.

use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Arc;

use super::error::{Error, Result};
use super::format::Format;
use super::header::Layout;
use crate::shm::{Access, Bytes, Pen, Room, Segment};

/// Bytes of a timestamp.
const TIME: usize = 8;

/// The memory of a ring. It stays mapped for as long as somebody holds this, whatever becomes of the stream.
#[derive(Debug)]
pub struct Ring {
    bytes: Arc<Bytes>,
    frames: usize,
    frame_size: usize,
    /// Where the frames begin: behind the timestamps, if there are any.
    begin: usize,
    id: u64,
}

/// Frames that follow each other in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Index of the first.
    pub(super) index: usize,
    pub(super) count: usize,
}

/// Frames to be written.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// One after the other, in C order.
    Contiguous(&'a [u8]),
    /// Of an array of any strides.
    Strided(Strided<'a>),
}

/// An array in memory, as numpy describes it: the frames are its first dimension.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    /// The memory in which all of it lies.
    pub bytes: &'a [u8],
    /// Where in that its first element is.
    pub origin: usize,
    /// Bytes from one frame to the next, then from one element to the next along each dimension of the frames.
    pub strides: &'a [isize],
    /// How many frames.
    pub frames: usize,
}

impl Ring {
    /// Bytes of the file of such a ring.
    pub(super) fn size(format: &Format, layout: Layout) -> usize {
        begin(format, layout).saturating_add(format.ring_size())
    }

    /// Maps the ring of a format that was checked.
    ///
    /// [`Error::Malformed`] when the file is too short.
    pub(super) fn map(segment: &Segment, format: &Format, layout: Layout, access: Access, path: &Path) -> Result<Self> {
        let (size, len) = (Self::size(format, layout), segment.len().map_err(Error::file("fstat", path))?);
        if size as u64 > len {
            return Err(Error::malformed(path, format!("a ring of {len} bytes, where its header says {size}")));
        }
        let bytes = Bytes::new(segment, size, access).map_err(Error::file("mmap", path))?;
        let bytes = Arc::new(bytes);
        Ok(Self {
            bytes,
            frames: format.frames as usize,
            frame_size: format.frame_size(),
            begin: begin(format, layout),
            id: 0,
        })
    }

    pub(super) fn set_id(&mut self, id: u64) {
        self.id = id;
    }

    /// Which ring of its mirror it is, from 1; that of a writer is 0.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Frames that it holds.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes of a frame.
    pub fn frame_size(&self) -> usize {
        self.frame_size
    }

    /// Where a frame is in this process's memory. Its bytes may change at any moment; those of a mirror may not be written.
    pub fn frame_address(&self, index: usize) -> *mut u8 {
        self.bytes.address(self.begin + index * self.frame_size)
    }

    /// Where a frame's timestamp is, if there are any.
    pub fn timestamp_address(&self, index: usize) -> Option<*mut f64> {
        self.has_timestamps().then(|| self.bytes.address(index * TIME).cast())
    }

    pub(super) fn has_timestamps(&self) -> bool {
        self.begin > 0
    }

    /// The one or two parts of frames that begin at an index.
    #[inline(always)]
    pub(super) fn parts(&self, index: usize, count: usize) -> [Part; 2] {
        let before_end = count.min(self.frames - index);
        [Part { index, count: before_end }, Part { index: 0, count: count - before_end }]
    }

    /// Writes frames of a source from `skip` on, and so many.
    #[inline(always)]
    pub(super) fn write(&self, part: Part, source: &Source<'_>, skip: usize, format: &Format) {
        let at = self.begin + part.index * self.frame_size;
        match source {
            Source::Contiguous(frames) => {
                let begin = skip * self.frame_size;
                self.bytes.copy_in(at, &frames[begin..begin + part.count * self.frame_size]);
            }
            Source::Strided(array) => self.gather(at, array, skip, part.count, format),
        }
    }

    /// Copies frames of any strides: the longest dimensions that lie in one piece at once, or one row after the other.
    fn gather(&self, at: usize, array: &Strided<'_>, skip: usize, count: usize, format: &Format) {
        let shape: Vec<usize> = [count].into_iter().chain(format.frame_shape.iter().map(|&n| n as usize)).collect();
        // How many of the last dimensions are as in C order, and the bytes of these.
        let (mut outer, mut run) = (shape.len(), format.dtype.size());
        while outer > 0 && (array.strides[outer - 1] == run as isize || shape[outer - 1] == 1) {
            outer -= 1;
            run *= shape[outer];
        }
        let first = array.origin.wrapping_add_signed(array.strides[0].wrapping_mul(skip as isize));
        if outer == 0 {
            return self.bytes.copy_in(at, &array.bytes[first..first + run]);
        }
        // The row is the last dimension that is not: its items are runs.
        let (row, row_stride) = (shape[outer - 1], array.strides[outer - 1]);
        let outer = &shape[..outer - 1];
        let mut position = vec![0; outer.len()];
        let mut to = at;
        loop {
            let offset =
                position.iter().zip(array.strides).fold(0isize, |sum, (&i, &stride)| sum + i as isize * stride);
            let begin = first.wrapping_add_signed(offset);
            match run {
                1 => self.bytes.gather::<1>(to, array.bytes, begin, row_stride, row),
                2 => self.bytes.gather::<2>(to, array.bytes, begin, row_stride, row),
                4 => self.bytes.gather::<4>(to, array.bytes, begin, row_stride, row),
                8 => self.bytes.gather::<8>(to, array.bytes, begin, row_stride, row),
                16 => self.bytes.gather::<16>(to, array.bytes, begin, row_stride, row),
                _ => {
                    for i in 0..row {
                        let begin = begin.wrapping_add_signed(i as isize * row_stride);
                        self.bytes.copy_in(to + i * run, &array.bytes[begin..begin + run]);
                    }
                }
            }
            to += row * run;
            // The next row, as an odometer counts.
            let Some(axis) = (0..outer.len()).rev().find(|&axis| position[axis] + 1 < outer[axis]) else { return };
            position[axis] += 1;
            position[axis + 1..].fill(0);
        }
    }

    /// Room for the timestamps of frames: none, when the layout has none.
    #[inline(always)]
    pub(super) fn timestamps_room(&self, part: Part) -> Room<'_> {
        let len = part.count * self.timestamp_size();
        self.bytes.room(part.index * self.timestamp_size(), len).expect("a part of the ring")
    }

    /// Bytes of a timestamp; 0, when the layout has none.
    pub(super) fn timestamp_size(&self) -> usize {
        if self.has_timestamps() { TIME } else { 0 }
    }

    /// For frames from an index on, up to the end, and for their timestamps.
    pub(super) fn pens(&self, index: usize) -> [Pen; 2] {
        let pen = |begin, size| Pen::new(self.bytes.clone(), begin + index * size, (self.frames - index) * size);
        [pen(self.begin, self.frame_size), pen(0, self.timestamp_size())]
    }

    #[inline(always)]
    pub(super) fn read(&self, part: Part, to: &mut [MaybeUninit<u8>]) {
        self.bytes.copy_out(self.begin + part.index * self.frame_size, &mut to[..part.count * self.frame_size]);
    }

    pub(super) fn read_timestamps(&self, part: Part, to: &mut [MaybeUninit<f64>]) {
        for (i, time) in to[..part.count].iter_mut().enumerate() {
            time.write(self.timestamp(part.index + i));
        }
    }

    pub(super) fn timestamp(&self, index: usize) -> f64 {
        self.bytes.load_float(index * TIME)
    }
}

/// Where the frames begin.
fn begin(format: &Format, layout: Layout) -> usize {
    if layout.has_timestamps() { format.frames as usize * TIME } else { 0 }
}

impl<'a> Source<'a> {
    /// How many frames of a format it has, if it has a whole number of them.
    #[inline(always)]
    pub(super) fn frames(&self, format: &Format, frame_size: usize) -> Result<usize> {
        match self {
            Self::Contiguous(bytes) if bytes.len().is_multiple_of(frame_size) => Ok(bytes.len() / frame_size),
            Self::Contiguous(bytes) => Err(Error::Length { bytes: bytes.len(), frame_size, timestamps: None }),
            Self::Strided(array) => array.check(format),
        }
    }
}

impl Strided<'_> {
    /// How many bytes an array reaches before and behind its first element; `None` when that is no number, or the
    /// strides are not as many as its dimensions.
    pub fn reach(
        strides: &[isize],
        shape: impl ExactSizeIterator<Item = usize>,
        item: usize,
    ) -> Option<(usize, usize)> {
        if strides.len() != shape.len() {
            return None;
        }
        let (mut before, mut behind) = (0usize, item);
        for (&stride, length) in strides.iter().zip(shape) {
            let reach = stride.unsigned_abs().checked_mul(length.checked_sub(1)?)?;
            let side = if stride < 0 { &mut before } else { &mut behind };
            *side = side.checked_add(reach)?;
        }
        (before.checked_add(behind)? <= isize::MAX as usize).then_some((before, behind))
    }

    fn check(&self, format: &Format) -> Result<usize> {
        if self.frames == 0 && self.strides.len() == format.frame_shape.len() + 1 {
            return Ok(0);
        }
        let rest: Vec<usize> = format.frame_shape.iter().map(|&length| length as usize).collect();
        let shape: Vec<usize> = [self.frames].into_iter().chain(rest).collect();
        match Self::reach(self.strides, shape.into_iter(), format.dtype.size()) {
            Some((before, behind))
                if before <= self.origin
                    && self.origin <= self.bytes.len()
                    && behind <= self.bytes.len() - self.origin =>
            {
                Ok(self.frames)
            }
            _ => Err(Error::Strides),
        }
    }
}
