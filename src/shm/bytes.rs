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
        let to = self.writable(at, from.len());
        // SAFETY: within the mapping, and writable; a caller's slice does not lie in it, or is only that of a mapping of
        // its own.
        unsafe { std::ptr::copy(from.as_ptr(), to, from.len()) };
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

    /// Stores `count` floats at `at`, the first of them `value(0)`.
    #[inline(always)]
    pub(crate) fn store_floats(&self, at: usize, count: usize, value: impl Fn(usize) -> f64) {
        let to = self.writable(at, count * 8).cast::<f64>();
        for i in 0..count {
            // SAFETY: float `i` of `count` lies within what was checked above.
            unsafe { to.add(i).write_unaligned(value(i)) };
        }
    }

    /// The float at `at`.
    pub(crate) fn load_float(&self, at: usize) -> f64 {
        // SAFETY: within the mapping.
        unsafe { self.readable(at, 8).cast::<f64>().read_unaligned() }
    }
}
