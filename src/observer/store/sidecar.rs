//! The file beside a store that says what its segments are: a page for the store, and one for each segment.
//!
//! | page 0 | type | |
//! |---|---|---|
//! | 0x00 | u32 | magic, "SHOB" |
//! | 0x04 | u32 | version, 1 |
//! | 0x08 | u32 | bytes of a segment |
//! | 0x0c | u32 | CRC-32 of the words around it: 0x00, 0x08 without this, 0x10, 0x18 |
//! | 0x10 | u64 | device of the data file |
//! | 0x18 | u64 | inode of the data file |
//!
//! | page 1 + i | type | of segment i |
//! |---|---|---|
//! | 0x00 | u32 | 0 free, 1 taken |
//! | 0x04 | u32 | sequence number of the seqlock over the page, odd in a change |
//! | 0x08 | u32 | bytes of the description |
//! | 0x0c | u32 | CRC-32 of all that follows and of the first field |
//! | 0x10 | u64 | turn: free segments are taken in its order |
//! | 0x18 | i64 | when it was taken, nanoseconds since 1970 |
//! | 0x20 | u32 | process |
//! | 0x24 | u32 | zero |
//! | 0x28 | u64 | when the process was started, in clock ticks since the boot |
//! | 0x30 | u64 | the boot |
//! | 0x38 | | the description: service, layout and fields, as bytes |
//!
//! A page of zeros is a segment that nobody has taken yet. Everything is little-endian.

use crate::observer::schema::{Field, Kind, Layout, Schema};
use crate::observer::types::Type;
use crate::sys::ProcessId;

/// Bytes of a segment.
pub(super) const MAX_SEGMENT: usize = 1 << 20;
pub(super) const PAGE: usize = 4096;
pub(super) const WORDS: usize = PAGE / 8;
/// The state of a segment that is taken.
pub(super) const TAKEN: u32 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"SHOB");
const VERSION: u32 = 1;

/// What page 0 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) segment_size: u32,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Header {
    pub(super) fn to_words(self) -> [u64; 4] {
        let mut words =
            [u64::from(VERSION) << 32 | u64::from(MAGIC), u64::from(self.segment_size), self.device, self.inode];
        words[1] |= u64::from(checksum(&words)) << 32;
        words
    }

    pub(super) fn from_words(words: [u64; 4]) -> Result<Self, String> {
        let (magic, version) = (words[0] as u32, words[0] >> 32);
        if magic != MAGIC {
            return Err(format!("no sidecar: it begins with {magic:#010x}, and not with {MAGIC:#010x} (\"SHOB\")"));
        }
        if version != u64::from(VERSION) {
            return Err(format!("version {version}, this build knows {VERSION}"));
        }
        let header = Self { segment_size: words[1] as u32, device: words[2], inode: words[3] };
        if header.to_words() != words || !(1..=MAX_SEGMENT).contains(&(header.segment_size as usize)) {
            return Err("its first page is damaged".into());
        }
        Ok(header)
    }
}

/// What the page of a segment says.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) taken: bool,
    pub(super) turn: u64,
    pub(super) since_ns: i64,
    pub(super) process: ProcessId,
    pub(super) description: Option<Description>,
}

/// What a worker says of its numbers.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) service: String,
    pub(super) schema: Schema,
}

const FIXED: usize = 7;
/// Bytes of a description, at most.
const ROOM: usize = (WORDS - FIXED) * 8;

impl Record {
    /// Of a segment that nobody has taken yet.
    pub(super) fn free() -> Self {
        Self { taken: false, turn: 0, since_ns: 0, process: ProcessId::default(), description: None }
    }

    /// The words of a page; `None` when the description does not fit.
    pub(super) fn to_words(&self) -> Option<[u64; WORDS]> {
        let text = self.description.as_ref().map_or_else(Vec::new, Description::to_bytes);
        if text.len() > ROOM {
            return None;
        }
        let mut words = [0; WORDS];
        words[0] = u64::from(self.taken);
        words[1] = text.len() as u64;
        words[2] = self.turn;
        words[3] = self.since_ns.cast_unsigned();
        words[4] = u64::from(self.process.pid);
        words[5] = self.process.started;
        words[6] = self.process.boot;
        for (word, bytes) in words[FIXED..].iter_mut().zip(text.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        words[1] |= u64::from(checksum(&words)) << 32;
        Some(words)
    }

    /// The process that the first words of a page name, even if nothing else of them is right.
    pub(super) fn pid_of(words: [u64; FIXED]) -> u32 {
        words[4] as u32
    }

    /// What the words of a page say, whatever the sequence number; `None` when they were damaged.
    pub(super) fn from_words(mut words: [u64; WORDS]) -> Option<Self> {
        words[0] &= 0xffff_ffff;
        if words == [0; WORDS] {
            return Some(Self::free());
        }
        let (len, sum) = (words[1] as u32 as usize, words[1] >> 32);
        words[1] = len as u64;
        if u64::from(checksum(&words)) != sum || words[0] > 1 || words[4] > u64::from(u32::MAX) || len > ROOM {
            return None;
        }
        let text: Vec<u8> = words[FIXED..].iter().flat_map(|word| word.to_le_bytes()).take(len).collect();
        Some(Self {
            taken: words[0] == u64::from(TAKEN),
            turn: words[2],
            since_ns: words[3].cast_signed(),
            process: ProcessId { pid: words[4] as u32, started: words[5], boot: words[6] },
            description: if text.is_empty() { None } else { Some(Description::from_bytes(&text)?) },
        })
    }
}

fn checksum(words: &[u64]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for word in words {
        hasher.update(&word.to_le_bytes());
    }
    hasher.finalize()
}

impl Description {
    /// Layout, number of fields, service; then for each field type, kind, offset, name, help, unit. Texts have their
    /// length before them, in two bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![match self.schema.layout() {
            Layout::Packed => 0,
            Layout::Aligned => 1,
        }];
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        bytes.extend((self.schema.fields().len() as u16).to_le_bytes());
        text(&mut bytes, &self.service);
        for (field, offset) in self.schema.fields() {
            let kind = match field.kind {
                Kind::Unknown => 0,
                Kind::Counter => 1,
                Kind::Gauge => 2,
            };
            bytes.extend([field.r#type.code(), kind]);
            bytes.extend((offset as u32).to_le_bytes());
            for words in [&field.name, &field.help, &field.unit] {
                text(&mut bytes, words);
            }
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let layout = match take::<1>(&mut rest)? {
            [0] => Layout::Packed,
            [1] => Layout::Aligned,
            _ => return None,
        };
        let fields = u16::from_le_bytes(take(&mut rest)?);
        let service = take_text(&mut rest)?;
        let mut schema = Schema::new(layout);
        for _ in 0..fields {
            let [code, kind] = take(&mut rest)?;
            let offset = u32::from_le_bytes(take(&mut rest)?) as usize;
            let kind = match kind {
                0 => Kind::Unknown,
                1 => Kind::Counter,
                2 => Kind::Gauge,
                _ => return None,
            };
            let (name, help, unit) = (take_text(&mut rest)?, take_text(&mut rest)?, take_text(&mut rest)?);
            let index = schema.add(Field { name, r#type: Type::from_code(code)?, kind, help, unit }).ok()?;
            if schema.field(index)?.1 != offset {
                return None;
            }
        }
        rest.is_empty().then_some(Self { service, schema })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let len = u16::from_le_bytes(take(rest)?).into();
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut schema = Schema::new(Layout::Packed);
        let total = Field {
            kind: Kind::Counter,
            help: "So far.".into(),
            ..Field::new("requests_total", Type::from_name("u64").unwrap())
        };
        let active = Field { unit: "ratio".into(), ..Field::new("active", Type::from_name("F32").unwrap()) };
        for field in [total, active] {
            schema.add(field).unwrap();
        }
        let description = Some(Description { service: "wörk".into(), schema });
        let process = ProcessId { pid: 42, started: 99, boot: u64::MAX };
        Record { taken: true, turn: 7, since_ns: -1, process, description }
    }

    #[test]
    fn a_record_comes_back() {
        let words = record().to_words().unwrap();
        let back = Record::from_words(words).unwrap();
        assert_eq!(format!("{back:?}"), format!("{:?}", record()));
        assert!(Record::from_words([0; WORDS]).is_some_and(|free| !free.taken));
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let words = record().to_words().unwrap();
        for at in 0..WORDS {
            for bit in 0..64 {
                if (at, bit) >= (0, 32) && at == 0 {
                    continue; // the sequence number
                }
                let mut damaged = words;
                damaged[at] ^= 1 << bit;
                assert!(Record::from_words(damaged).is_none(), "bit {bit} of word {at}");
            }
        }
        let header = Header { segment_size: 512, device: 1, inode: 2 };
        assert_eq!(Header::from_words(header.to_words()), Ok(header));
        for at in 0..4 {
            for bit in 0..64 {
                let mut damaged = header.to_words();
                damaged[at] ^= 1 << bit;
                assert!(Header::from_words(damaged).is_err(), "bit {bit} of word {at}");
            }
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let bytes = record().description.unwrap().to_bytes();
        for end in 0..bytes.len() {
            assert!(Description::from_bytes(&bytes[..end]).is_none(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = Description::from_bytes(&changed);
            }
        }
    }
}
