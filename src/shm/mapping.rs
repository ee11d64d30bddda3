//! A part of a file in this process's address space.

use std::io;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};

use super::segment::Segment;
use super::words::Words;

/// Words of a file, shared with whoever else has it open.
///
/// Made only when the file is long enough. If somebody cuts the file afterwards, touching what is gone is SIGBUS, which no
/// library can prevent; [`super::FileWords`] is the way to read such files.
#[derive(Debug)]
pub(crate) struct Mapping {
    words: Words,
    /// Keeps the memory; dropped last.
    _raw: MmapRaw,
}

/// What the words are mapped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Mapping {
    /// Maps `len` words from `offset`, which need not be that of a page, but a multiple of 8.
    pub(crate) fn new(segment: &Segment, offset: u64, len: usize, access: Access) -> io::Result<Self> {
        if !offset.is_multiple_of(8) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let raw = map(segment, offset, len * 8, access)?;
        // SAFETY: `raw` is as long as asked, aligned as `offset` is within a page, and stays as long as `words`. Only
        // who has asked for `Access::Write` stores.
        let words = unsafe { Words::new(raw.as_ptr().cast(), len) };
        Ok(Self { words, _raw: raw })
    }
}

/// Maps bytes of a file, from any offset, if they are there.
pub(super) fn map(segment: &Segment, offset: u64, len: usize, access: Access) -> io::Result<MmapRaw> {
    if len as u64 > segment.len()?.saturating_sub(offset) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut options = MmapOptions::new();
    let options = options.offset(offset).len(len);
    match access {
        Access::Read => options.map_raw_read_only(segment.file()),
        Access::Write => options.map_raw(segment.file()),
    }
}

impl Deref for Mapping {
    type Target = Words;

    fn deref(&self) -> &Words {
        &self.words
    }
}

/// As many words of a file as the program knows.
#[derive(Debug)]
pub(crate) struct Fixed<const N: usize>(MmapRaw);

impl<const N: usize> Fixed<N> {
    /// Maps `N` words from `offset`, a multiple of 8.
    pub(crate) fn new(segment: &Segment, offset: u64, access: Access) -> io::Result<Self> {
        if !offset.is_multiple_of(8) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        map(segment, offset, N * 8, access).map(Self)
    }
}

impl<const N: usize> Deref for Fixed<N> {
    type Target = [AtomicU64; N];

    #[inline(always)]
    fn deref(&self) -> &[AtomicU64; N] {
        // SAFETY: as long and as aligned as was asked, and mapped for as long as this lives. Only who has asked for
        // `Access::Write` stores.
        unsafe { &*self.0.as_ptr().cast() }
    }
}
