//! A page that is written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::error::{Error, Result};
use super::page::{BODY, FULL_SIZE, MAGIC, MIN_WORDS, Snapshot, VERSION, VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT, WORDS};
use super::reader::{check_header, check_length};
use crate::shm::{Access, Mapping, Plain, ReadWords, Segment, seqlock};
use crate::sys::process_epoch;

/// The one writer of a page; its threads take turns.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    /// Holds the lock that tells other writers.
    segment: Segment,
    mapping: Mapping,
    /// Words of the block.
    len: usize,
    turn: Mutex<()>,
    epoch: u32,
}

/// Bytes of a page that is made here: a page of memory, as hypervisors have it.
const SIZE: usize = 4096;
/// Another program may remove a page or put one there while we look; it does not do so forever.
const ATTEMPTS: usize = 100;

impl Writer {
    /// Permissions of a new page: everybody may read the time.
    pub const DEFAULT_MODE: u32 = 0o644;

    /// Makes a page, or goes on with one that a writer has left, also in the middle of an update.
    ///
    /// A link is not followed. [`Error::Malformed`] for a file that is no page of this version, which is left as it is;
    /// [`Error::Busy`] beside another writer; [`Error::File`].
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        let path = std::path::absolute(path).map_err(Error::file("open", path))?; // the folder may change until `remove`
        for _ in 0..ATTEMPTS {
            match Segment::open_writable(&path) {
                Ok(segment) => {
                    segment.lock().map_err(|error| match error.kind() {
                        ErrorKind::WouldBlock => Error::Busy(path.clone()),
                        _ => Error::file("flock", &path)(error),
                    })?;
                    // Its writer may have removed it before we had the lock.
                    if segment.is_at(&path).map_err(Error::file("stat", &path))? {
                        return Self::adopt(path, segment);
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    match Segment::create(&path, mode & 0o7777, &empty_page()) {
                        Ok(segment) => return Self::adopt(path, segment),
                        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(Error::file("create", &path)(error)),
                    }
                }
                Err(error) => return Err(Error::file("open", &path)(error)),
            }
        }
        Err(Error::Busy(path))
    }

    fn adopt(path: PathBuf, segment: Segment) -> Result<Self> {
        let len = segment.len().map_err(Error::file("fstat", &path))?;
        check_length(&path, len)?;
        let words = usize::try_from(len / 8).unwrap_or(usize::MAX).min(FULL_SIZE / 8);
        let mapping = Mapping::new(&segment, 0, words, Access::Write).map_err(Error::file("mmap", &path))?;
        let Ok([header, first]) = mapping.load(0);
        let size = check_header(&path, header, len)?;
        // A page of version 0 is one that nobody has finished.
        if !matches!(first as u16, 0 | VERSION) {
            let why = Error::Version(first as u16);
            return Err(Error::malformed(&path, format!("{why}; remove the file if no one needs it")));
        }
        let len = if size >= FULL_SIZE as u64 { WORDS } else { MIN_WORDS };
        Ok(Self { path, segment, mapping, len, turn: Mutex::new(()), epoch: process_epoch() })
    }

    /// Replaces the content of the page; version, sequence number and padding of `page` do not matter.
    ///
    /// [`Error::NoRoom`], or [`Error::Forked`].
    pub fn write(&self, page: &Snapshot) -> Result<()> {
        self.check_process()?;
        let words = block(page, self.len)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        seqlock::write(&*self.mapping, BODY / 8, &words[..self.len]);
        Ok(())
    }

    /// Removes the page's file, if it is still this one. Who has it open keeps the last page.
    ///
    /// [`Error::File`], or [`Error::Forked`].
    pub fn remove(self) -> Result<()> {
        self.check_process()?;
        if self.segment.is_at(&self.path).map_err(Error::file("stat", &self.path))? {
            std::fs::remove_file(&self.path).map_err(Error::file("remove", &self.path))?;
        }
        Ok(())
    }

    fn check_process(&self) -> Result<()> {
        if self.epoch == process_epoch() { Ok(()) } else { Err(Error::Forked) }
    }
}

/// A page of which nothing is known, and that gives no time.
fn empty_page() -> [u8; SIZE] {
    let page = Snapshot { version: VERSION, counter_id: super::VMCLOCK_COUNTER_INVALID, ..Snapshot::default() };
    let mut bytes = [0; SIZE];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..8].copy_from_slice(&(SIZE as u32).to_le_bytes());
    bytes[BODY..FULL_SIZE].copy_from_slice(page.to_words().map(u64::to_le_bytes).as_flattened());
    bytes
}

/// The words that are written for a page.
fn block(page: &Snapshot, len: usize) -> Result<[u64; WORDS]> {
    let has_generation = page.flags & VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT != 0;
    if has_generation && len < WORDS {
        return Err(Error::NoRoom);
    }
    Ok(Snapshot { version: VERSION, padding: [0; 2], ..*page }.to_words())
}
