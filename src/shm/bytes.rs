//! Bytes that another process may read or write at any moment, copied in and out as a whole.
//!
//! The copies are those of the C library, the fastest there are. That the other process writes meanwhile makes their
//! result worthless and nothing worse: any bytes are valid, and nobody looks at them before a protocol, such as
//! [`super::laps`], has said that they are whole.

use std::io;
use std::mem::MaybeUninit;

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

    #[inline(always)]
    fn writable(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at <= self.writable && len <= self.writable - at);
        self.raw.as_mut_ptr().wrapping_add(at)
    }

    /// Copies bytes to `at`.
    #[inline(always)]
    pub(crate) fn copy_in(&self, at: usize, from: &[u8]) {
        assert!(self.try_copy_in(at, from));
    }

    /// The same, unless they lead out of what may be written: says whether it was so.
    #[inline(always)]
    pub(crate) fn try_copy_in(&self, at: usize, from: &[u8]) -> bool {
        let is_inside = at <= self.writable && from.len() <= self.writable - at;
        if is_inside {
            let to = self.raw.as_mut_ptr().wrapping_add(at);
            // SAFETY: within the mapping, and writable; a caller's slice does not lie in it, or is only that of a mapping
            // of its own.
            unsafe { std::ptr::copy(from.as_ptr(), to, from.len()) };
        }
        is_inside
    }

    /// Copies `count` items of `N` bytes to `at` and behind it, from every `stride` bytes of a slice, the first from
    /// `begin`.
    ///
    /// Panics when one of them does not lie within the slice.
    pub(crate) fn gather<const N: usize>(&self, at: usize, from: &[u8], begin: usize, stride: isize, count: usize) {
        let to = self.writable(at, count * N).cast::<[u8; N]>();
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

    /// Copies floats to `at`; says whether that may be written.
    #[inline(always)]
    pub(crate) fn try_copy_floats_in(&self, at: usize, from: &[f64]) -> bool {
        // SAFETY: as long, less aligned, and all bytes of floats are initialized.
        self.try_copy_in(at, unsafe { std::slice::from_raw_parts(from.as_ptr().cast(), size_of_val(from)) })
    }

    /// Stores floats at `at`: `origin` and `first` times `step`, then a `step` more for each; says whether that may be
    /// written.
    #[inline(always)]
    pub(crate) fn store_ramp(&self, at: usize, count: usize, origin: f64, first: f64, step: f64) -> bool {
        let is_inside = at <= self.writable && count <= (self.writable - at) / 8;
        if is_inside {
            let to = self.raw.as_mut_ptr().wrapping_add(at).cast::<[f64; 4]>();
            // Four at once: one by one, each waits for the count before it, and integers become floats no faster.
            let mut counts = [first, first + 1.0, first + 2.0, first + 3.0];
            for i in 0..count / 4 {
                // SAFETY: within the mapping, and writable.
                unsafe { to.add(i).write_unaligned(counts.map(|count| origin + count * step)) };
                counts = counts.map(|count| count + 4.0);
            }
            let to = to.wrapping_add(count / 4).cast::<f64>();
            for (i, steps) in counts.iter().take(count % 4).enumerate() {
                // SAFETY: as above.
                unsafe { to.add(i).write_unaligned(origin + steps * step) };
            }
        }
        is_inside
    }

    /// The float at `at`.
    pub(crate) fn load_float(&self, at: usize) -> f64 {
        // SAFETY: within the mapping.
        unsafe { self.readable(at, 8).cast::<f64>().read_unaligned() }
    }
}
