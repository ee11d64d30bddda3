//! The header of a stream, byte for byte that of ezmsg-tools. Packed, so most of it is unaligned; in this machine's
//! byte order.
//!
//! | layout 1, 2 | layout 0 | type | |
//! |---|---|---|---|
//! | 0 | - | u32 | magic, 0x455A4D53 |
//! | 4 | - | u32 | layout |
//! | 8 | 0 | u8 | 1 when the rest is valid |
//! | 9 | 1 | u8 | numpy's type character |
//! | 10 | 2 | f64 | rate in Hz; 0 irregular, -1 not set yet |
//! | 18 | 10 | u32 | dimensions, that of the ring included |
//! | 22 | 14 | u32\[64\] | shape; the first is the ring's length |
//! | 278 | 270 | u32 | generation of the ring, 0xFFFFFFFF before the first |
//! | 282 | 274 | u64 | wraps: how often writing has gone past the end |
//! | 290 | 282 | u8\[1024\] | key |
//! | 1314 | 1306 | u32 | its length |
//! | 1318 | 1310 | u64 | index of the next frame, or the ring's length when it is exactly full |
//! | 1326 | - | u32 | generation of the metadata, 0 for none |
//! | 1330 | - | u32 | its bytes |
//!
//! None of its 64-bit numbers crosses a cache line, so on x86-64 plain loads and stores of them are whole.

use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use super::error::{Error, Result};
use super::extension::FILE_LEN;
use super::format::{Dtype, Format, MAX_DIMENSIONS, MAX_KEY, cut_key};
use crate::shm::{Access, Place, Segment, Slots};

const MAGIC: u32 = 0x455A_4D53;
/// Generation of the ring before there is one.
pub(super) const NO_GENERATION: u32 = u32::MAX;
const DIMENSIONS: usize = MAX_DIMENSIONS + 1;

/// Which of the three layouts in the field a stream has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// ezmsg-tools 0.1 to 0.3: no magic, no metadata, no timestamps.
    V0,
    /// ezmsg-tools 0.4 to 0.9: no timestamps.
    V1,
    /// ezmsg-tools 0.10: a timestamp for each frame.
    #[default]
    V2,
}

impl Layout {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Whether its ring has a timestamp for each frame.
    pub fn has_timestamps(self) -> bool {
        self == Self::V2
    }

    /// Whether its streams can have static metadata.
    pub fn has_metadata(self) -> bool {
        self != Self::V0
    }

    /// Bytes of its header.
    pub(super) fn header_size(self) -> usize {
        if self == Self::V0 { 1318 } else { 1334 }
    }
}

/// Numbers of the header, in the order of [`places`]. What layout 0 lacks comes last.
mod field {
    use super::{DIMENSIONS, MAX_KEY};

    pub(super) const VALID: usize = 0;
    pub(super) const DTYPE: usize = 1;
    pub(super) const RATE: usize = 2;
    pub(super) const NDIM: usize = 3;
    pub(super) const SHAPE: usize = 4;
    pub(super) const GENERATION: usize = SHAPE + DIMENSIONS;
    pub(super) const WRAPS: usize = GENERATION + 1;
    pub(super) const KEY: usize = WRAPS + 1;
    pub(super) const KEY_LEN: usize = KEY + MAX_KEY / 8;
    pub(super) const INDEX: usize = KEY_LEN + 1;
    pub(super) const METADATA_GENERATION: usize = INDEX + 1;
    pub(super) const METADATA_LEN: usize = METADATA_GENERATION + 1;
    pub(super) const MAGIC: usize = METADATA_LEN + 1;
    pub(super) const LAYOUT: usize = MAGIC + 1;
}

/// Where the numbers are.
fn places(layout: Layout) -> impl Iterator<Item = Place> {
    let shift = if layout == Layout::V0 { 0 } else { 8 };
    let unshifted = |at, size| Place { at, size, big_endian: cfg!(target_endian = "big"), limit: u64::MAX };
    let place = move |at: usize, size| unshifted(at + shift, size);
    let row = move |at: usize, size: usize, count: usize| (0..count).map(move |i| place(at + i * size, size));
    let all = [place(0, 1), place(1, 1), place(2, 8), place(10, 4)].into_iter();
    let all = all.chain(row(14, 4, DIMENSIONS)).chain([place(270, 4), place(274, 8)]);
    let all = all.chain(row(282, 8, MAX_KEY / 8)).chain([place(1306, 4), place(1310, 8)]);
    let later = [place(1318, 4), place(1322, 4), unshifted(0, 4), unshifted(4, 4)];
    all.chain(later.into_iter().take(if layout == Layout::V0 { 0 } else { 4 }))
}

/// The header of a stream in shared memory.
#[derive(Debug)]
pub(super) struct Header {
    numbers: Slots,
    layout: Layout,
}

/// What a header says, as it was read: nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) epoch: Epoch,
    dtype: u8,
    /// Its bits, so that one that is no number is equal to itself.
    rate: u64,
    ndim: u32,
    shape: [u32; DIMENSIONS],
    key: [u8; MAX_KEY],
    key_len: u32,
    pub(super) metadata_len: u32,
}

/// What tells one format from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) valid: bool,
    pub(super) generation: u32,
    /// 0 when there is none.
    pub(super) metadata: u32,
}

/// How far writing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) index: u64,
    pub(super) wraps: u64,
}

impl Header {
    /// The layout of a header in a file, by its first bytes.
    ///
    /// [`Error::Malformed`] when it is none that is known, or the file is too short for it.
    pub(super) fn layout(segment: &Segment, path: &Path) -> Result<Layout> {
        let len = segment.len().map_err(Error::file("fstat", path))?;
        let mut first = [[0; 4]; 2];
        if len >= 8 {
            segment.read(0, first.as_flattened_mut()).map_err(Error::file("read", path))?;
        }
        let layout = match first.map(u32::from_ne_bytes) {
            [MAGIC, 1] => Layout::V1,
            [MAGIC, 2] => Layout::V2,
            [MAGIC, other] => {
                return Err(Error::malformed(path, format!("struct_version {other}, this build reads 0 to 2")));
            }
            // Layout 0 begins with a boolean and a character.
            _ if first[0][0] <= 1 && Dtype::new(first[0][1]).is_some() => Layout::V0,
            // Before there is a format that is NUL; but so begins a header of any layout that is being made.
            [0, _] if len == Layout::V0.header_size() as u64 || len >= FILE_LEN => Layout::V0,
            [0, _] => return Err(Error::malformed(path, "no header of a stream, or not yet: it begins with zeros")),
            [magic, _] => {
                let why = format!("no header of a stream: it begins with {magic:#010x}, and not with {MAGIC:#010x}");
                return Err(Error::malformed(path, why));
            }
        };
        let size = layout.header_size();
        if len < size as u64 {
            return Err(Error::malformed(path, format!("{len} bytes, where a header of its layout has {size}")));
        }
        Ok(layout)
    }

    pub(super) fn map(segment: &Segment, layout: Layout, access: Access, path: &Path) -> Result<Self> {
        let numbers = Slots::new(segment, 0, layout.header_size(), places(layout), access);
        Ok(Self { numbers: numbers.map_err(Error::file("mmap", path))?, layout })
    }

    /// Bytes of a header without a format.
    pub(super) fn blank(layout: Layout) -> Vec<u8> {
        let mut bytes = vec![0; layout.header_size()];
        let mut put = |field, number: &[u8]| {
            let at = places(layout).nth(field).expect("a field of every layout").at;
            bytes[at..at + number.len()].copy_from_slice(number);
        };
        put(field::RATE, &(-1.0f64).to_ne_bytes());
        put(field::GENERATION, &NO_GENERATION.to_ne_bytes());
        if layout.has_metadata() {
            put(field::MAGIC, &MAGIC.to_ne_bytes());
            put(field::LAYOUT, &layout.number().to_ne_bytes());
        }
        bytes
    }

    fn u32(&self, field: usize) -> u32 {
        self.numbers.load(field) as u32
    }

    #[inline]
    pub(super) fn epoch(&self) -> Epoch {
        let metadata = if self.layout.has_metadata() { self.u32(field::METADATA_GENERATION) } else { 0 };
        Epoch { valid: self.numbers.load(field::VALID) != 0, generation: self.u32(field::GENERATION), metadata }
    }

    /// How far writing has come. Writers store the index, then a wrap: so the index is at most one wrap ahead, and never
    /// behind.
    #[inline]
    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress { index: 0, wraps: self.numbers.load(field::WRAPS) };
        for _ in 0..4 {
            fence(Ordering::Acquire);
            progress.index = self.numbers.load(field::INDEX);
            fence(Ordering::Acquire);
            let wraps = self.numbers.load(field::WRAPS);
            if wraps == progress.wraps {
                break;
            }
            progress.wraps = wraps; // it has gone past the end meanwhile
        }
        progress
    }

    /// All of it but the progress.
    pub(super) fn snapshot(&self) -> Snapshot {
        let words: [u64; MAX_KEY / 8] = std::array::from_fn(|i| self.numbers.load(field::KEY + i));
        let mut key = [0; MAX_KEY];
        key.copy_from_slice(words.map(u64::to_ne_bytes).as_flattened());
        Snapshot {
            epoch: self.epoch(),
            dtype: self.numbers.load(field::DTYPE) as u8,
            rate: self.numbers.load(field::RATE),
            ndim: self.u32(field::NDIM),
            shape: std::array::from_fn(|i| self.u32(field::SHAPE + i)),
            key,
            key_len: self.u32(field::KEY_LEN),
            metadata_len: if self.layout.has_metadata() { self.u32(field::METADATA_LEN) } else { 0 },
        }
    }

    pub(super) fn invalidate(&self) {
        self.numbers.store(field::VALID, 0);
    }

    /// Replaces the format, whose ring is there already and empty.
    pub(super) fn set_format(&self, format: &Format, generation: u32) {
        self.invalidate();
        self.numbers.store(field::DTYPE, format.dtype.character().into());
        self.numbers.store(field::RATE, format.rate.to_bits());
        self.numbers.store(field::NDIM, format.frame_shape.len() as u64 + 1);
        let shape = [format.frames].into_iter().chain(format.frame_shape.iter().copied());
        for (i, length) in shape.enumerate() {
            self.numbers.store(field::SHAPE + i, length.into());
        }
        let key = cut_key(&format.key).as_bytes();
        for (i, part) in key.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.numbers.store(field::KEY + i, u64::from_ne_bytes(word));
        }
        self.numbers.store(field::KEY_LEN, key.len() as u64);
        self.numbers.store(field::INDEX, 0);
        self.numbers.store(field::WRAPS, 0);
        self.numbers.store(field::GENERATION, generation.into());
        self.numbers.store(field::VALID, 1);
    }

    /// Names a segment of metadata that is there already, or none by 0.
    pub(super) fn set_metadata(&self, generation: u32, len: u32) {
        if self.layout.has_metadata() {
            self.numbers.store(field::METADATA_LEN, len.into());
            self.numbers.store(field::METADATA_GENERATION, generation.into());
        }
    }

    /// Publishes frames to the peer's readers: first the index, then a wrap, if there was one, as the peer does.
    #[inline(always)]
    pub(super) fn set_progress(&self, progress: Progress, wrapped: bool) {
        self.numbers.store_long(field::INDEX, progress.index);
        if wrapped {
            self.numbers.store_long(field::WRAPS, progress.wraps);
        }
    }
}

impl Snapshot {
    /// The format, as far as it can be one.
    pub(super) fn format(&self, path: &Path) -> Result<Format> {
        let bad = |why: String| Error::malformed(path, why);
        let no_dtype = || bad(format!("dtype {:?}, which is none of efdbBhHiIlLqQ?FD", char::from(self.dtype)));
        let dtype = Dtype::new(self.dtype).ok_or_else(no_dtype)?;
        let shape = usize::try_from(self.ndim).ok().and_then(|ndim| self.shape.get(..ndim));
        let Some((&frames, frame_shape)) = shape.and_then(<[u32]>::split_first) else {
            return Err(bad(format!("{} dimensions: 1 to {DIMENSIONS} can be", self.ndim)));
        };
        let key = self.key.get(..self.key_len as usize);
        let key =
            key.ok_or_else(|| bad(format!("a key of {} bytes, where there is room for {MAX_KEY}", self.key_len)))?;
        let format = Format {
            dtype,
            frame_shape: frame_shape.to_vec(),
            frames,
            rate: f64::from_bits(self.rate),
            key: whole_characters(key),
        };
        format.check().map_err(bad)?;
        Ok(format)
    }
}

/// A text that may have been cut inside its last character.
fn whole_characters(bytes: &[u8]) -> String {
    let end = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_peer_has_them() {
        let at = |layout, field| places(layout).nth(field).map(|place| (place.at, place.size));
        for (field, v1, v0, size) in [
            (field::VALID, 8, 0, 1),
            (field::DTYPE, 9, 1, 1),
            (field::RATE, 10, 2, 8),
            (field::NDIM, 18, 10, 4),
            (field::SHAPE, 22, 14, 4),
            (field::GENERATION, 278, 270, 4),
            (field::WRAPS, 282, 274, 8),
            (field::KEY, 290, 282, 8),
            (field::KEY_LEN, 1314, 1306, 4),
            (field::INDEX, 1318, 1310, 8),
        ] {
            assert_eq!(at(Layout::V2, field), Some((v1, size)));
            assert_eq!(at(Layout::V0, field), Some((v0, size)));
        }
        for (field, place) in
            [(field::MAGIC, 0), (field::LAYOUT, 4), (field::METADATA_GENERATION, 1326), (field::METADATA_LEN, 1330)]
        {
            assert_eq!((at(Layout::V1, field), at(Layout::V0, field)), (Some((place, 4)), None));
        }
        for layout in [Layout::V0, Layout::V1, Layout::V2] {
            let end = places(layout).map(|place| place.at + place.size).max();
            assert_eq!(end, Some(layout.header_size()));
        }
    }

    #[test]
    fn what_is_published_alone_crosses_no_cache_line() {
        for layout in [Layout::V0, Layout::V2] {
            for field in [field::INDEX, field::WRAPS] {
                let place = places(layout).nth(field).unwrap();
                assert!(place.at % 64 + place.size <= 64, "{place:?}");
            }
        }
    }

    #[test]
    fn keys_end_with_a_whole_character() {
        assert_eq!(whole_characters("kü".as_bytes()), "kü");
        assert_eq!(whole_characters(&"kü".as_bytes()[..2]), "k");
        assert_eq!(whole_characters(b"\xffk"), "\u{fffd}k");
    }
}
