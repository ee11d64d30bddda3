//! Bytes that another process may read or write at any moment, copied in and out as a whole.
//!
//! The copies are those of the C library, the fastest there are. That the other process writes meanwhile makes their
//! result worthless and nothing worse: any bytes are valid, and nobody looks at them before a protocol, such as
//! [`super::laps`], has said that they are whole.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Arc;

use memmap2::MmapRaw;

use super::mapping::{Access, map};
use super::segment::Segment;

/// The bytes of a file, from its begin.
#[derive(Debug)]
pub(crate) struct Bytes {
    raw: MmapRaw,
    /// How many of them may be written: all or none.
    writable: usize,
}

impl Bytes {
    /// Maps `len` bytes, if they are there.
    pub(crate) fn new(segment: &Segment, len: usize, access: Access) -> io::Result<Self> {
        let raw = map(segment, 0, len, access)?;
        Ok(Self { raw, writable: if access == Access::Write { len } else { 0 } })
    }

    /// Where a byte is in this process's memory.
    pub(crate) fn address(&self, at: usize) -> *mut u8 {
        assert!(at <= self.raw.len());
        self.raw.as_mut_ptr().wrapping_add(at)
    }

    #[inline(always)]
    fn readable(&self, at: usize, len: usize) -> *const u8 {
        assert!(at <= self.raw.len() && len <= self.raw.len() - at);
        self.raw.as_ptr().wrapping_add(at)
    }

    /// Bytes from `at`, if they may be written.
    #[inline(always)]
    pub(crate) fn room(&self, at: usize, len: usize) -> Option<Room<'_>> {
        let is_inside = at <= self.writable && len <= self.writable - at;
        is_inside.then(|| Room { first: self.raw.as_mut_ptr().wrapping_add(at), len, _bytes: PhantomData })
    }

    /// Copies bytes to `at`.
    #[inline(always)]
    pub(crate) fn copy_in(&self, at: usize, from: &[u8]) {
        self.room(at, from.len()).expect("a part of the ring").copy_in(from);
    }

    /// Copies `count` items of `N` bytes to `at` and behind it, from every `stride` bytes of a slice, the first from
    /// `begin`.
    ///
    /// Panics when one of them does not lie within the slice.
    pub(crate) fn gather<const N: usize>(&self, at: usize, from: &[u8], begin: usize, stride: isize, count: usize) {
        let to = self.room(at, count * N).expect("a part of the ring").first.cast::<[u8; N]>();
        let mut begin = begin;
        for i in 0..count {
            let item: [u8; N] = from[begin..begin + N].try_into().expect("a slice of N bytes");
            // SAFETY: item `i` of `count` lies within what was checked above; an array of bytes has no alignment.
            unsafe { to.add(i).write(item) };
            begin = begin.wrapping_add_signed(stride);
        }
    }

    /// Copies bytes from `at`.
    #[inline(always)]
    pub(crate) fn copy_out(&self, at: usize, to: &mut [MaybeUninit<u8>]) {
        let from = self.readable(at, to.len());
        // SAFETY: within the mapping; the caller's memory is borrowed.
        unsafe { std::ptr::copy(from, to.as_mut_ptr().cast(), to.len()) };
    }

    /// The float at `at`.
    pub(crate) fn load_float(&self, at: usize) -> f64 {
        // SAFETY: within the mapping.
        unsafe { self.readable(at, 8).cast::<f64>().read_unaligned() }
    }
}

/// Where a writer goes on, and how far it may: what lies there is looked at when it is put there, and not at each write.
#[derive(Debug)]
pub(crate) struct Pen {
    at: *mut u8,
    left: usize,
    /// Keeps the memory.
    _bytes: Arc<Bytes>,
}

// SAFETY: the address is of a mapping that is kept here and belongs to no thread.
unsafe impl Send for Pen {}

impl Pen {
    /// Puts it at the begin of what may be written: `len` bytes from `at`.
    pub(crate) fn new(bytes: Arc<Bytes>, at: usize, len: usize) -> Self {
        let room = bytes.room(at, len).expect("a part of the ring");
        Self { at: room.first, left: room.len, _bytes: bytes }
    }

    /// The bytes that come next, if there are so many.
    #[inline(always)]
    pub(crate) fn room(&self, len: usize) -> Option<Room<'_>> {
        (len <= self.left).then_some(Room { first: self.at, len, _bytes: PhantomData })
    }

    /// Goes over bytes that there are.
    #[inline(always)]
    pub(crate) fn advance(&mut self, len: usize) {
        let len = len.min(self.left);
        self.left -= len;
        self.at = self.at.wrapping_add(len);
    }
}

/// Bytes that may be written: that was looked at once, so that nothing can fail later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room<'a> {
    first: *mut u8,
    len: usize,
    _bytes: PhantomData<&'a Bytes>,
}

impl Room<'_> {
    /// Copies bytes, as many as there is room for.
    #[inline(always)]
    pub(crate) fn copy_in(self, from: &[u8]) {
        // SAFETY: within the mapping, and writable; a caller's slice does not lie in it, or is only that of a mapping of
        // its own.
        unsafe { std::ptr::copy(from.as_ptr(), self.first, from.len().min(self.len)) };
    }

    /// Copies floats, as many as there is room for.
    #[inline(always)]
    pub(crate) fn copy_floats_in(self, from: &[f64]) {
        // SAFETY: as long, less aligned, and all bytes of floats are initialized.
        self.copy_in(unsafe { std::slice::from_raw_parts(from.as_ptr().cast(), size_of_val(from)) });
    }

    /// Fills it with floats: `origin` and `first` times `step`, then a `step` more for each.
    #[inline(always)]
    pub(crate) fn fill_ramp(self, origin: f64, first: f64, step: f64) {
        let count = self.len / 8;
        let mut to = self.first.cast::<f64>();
        let mut counted = first;
        if count >= 4 {
            // Four at once: one by one, each waits for the count before it, and integers become floats no faster.
            let mut counts = [first, first + 1.0, first + 2.0, first + 3.0];
            for _ in 0..count / 4 {
                // SAFETY: within the mapping, and writable.
                unsafe { to.cast::<[f64; 4]>().write_unaligned(counts.map(|count| origin + count * step)) };
                counts = counts.map(|count| count + 4.0);
                to = to.wrapping_add(4);
            }
            counted = counts[0];
        }
        for _ in 0..count % 4 {
            // SAFETY: as above.
            unsafe { to.write_unaligned(origin + counted * step) };
            counted += 1.0;
            to = to.wrapping_add(1);
        }
    }
}
