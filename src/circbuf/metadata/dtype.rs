//! What the items of an array are, by numpy's names.

use std::fmt;
use std::str::FromStr;

use super::error::{MetadataError, short};
use super::value::count;

/// What the items of an array are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Each is one value.
    Scalar(Scalar),
    /// Each is a row of these fields, one behind the other without gaps.
    Record(Vec<Field>),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it is, or each of its items.
    pub dtype: Dtype,
    /// Its shape, when it is an array itself.
    pub shape: Vec<usize>,
}

/// One value of a fixed size, such as `<f4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar {
    kind: Kind,
    size: usize,
    big_endian: bool,
}

/// What a scalar is, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `b`: true or false.
    Bool,
    /// `i`: an integer.
    Signed,
    /// `u`: an integer without a sign.
    Unsigned,
    /// `f`: a binary float.
    Float,
    /// `c`: two floats.
    Complex,
    /// `S`: bytes, filled up with zeros.
    Bytes,
    /// `U`: characters, four bytes each, filled up with zeros.
    Text,
    /// `V`: bytes.
    Void,
    /// `M`: a time since 1970.
    Date(TimeUnit),
    /// `m`: a difference of times.
    Span(TimeUnit),
}

/// The unit of times: 25 microseconds is `[25us]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeUnit {
    name: &'static str,
    count: u32,
}

impl Dtype {
    /// Bytes of an item.
    pub fn size(&self) -> usize {
        match self {
            Self::Scalar(scalar) => scalar.size,
            Self::Record(fields) => fields.iter().fold(0, |size, field| size.saturating_add(field.size())),
        }
    }

    /// Scalars and records of an item, which take time even when they have no bytes.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Scalar(_) => 1,
            Self::Record(fields) => fields
                .iter()
                .fold(1, |parts, field| field.len().saturating_mul(field.dtype.parts()).saturating_add(parts)),
        }
    }
}

impl Field {
    /// How many items it has.
    pub(super) fn len(&self) -> usize {
        count(&self.shape).unwrap_or(usize::MAX)
    }

    fn size(&self) -> usize {
        self.len().saturating_mul(self.dtype.size())
    }
}

impl Scalar {
    /// Of the item of a kind that has `size` bytes; `None` when there is none.
    pub fn new(kind: Kind, size: usize, big_endian: bool) -> Option<Self> {
        let fits = match kind {
            Kind::Bool => size == 1,
            Kind::Signed | Kind::Unsigned => matches!(size, 1 | 2 | 4 | 8),
            Kind::Float => matches!(size, 2 | 4 | 8),
            Kind::Complex => matches!(size, 8 | 16),
            Kind::Bytes | Kind::Void => true,
            Kind::Text => size.is_multiple_of(4),
            Kind::Date(_) | Kind::Span(_) => size == 8,
        };
        let mut scalar = Self { kind, size, big_endian };
        scalar.big_endian &= scalar.word() > 1;
        fits.then_some(scalar)
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether its high bytes come first.
    pub fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    /// The bytes that its order concerns together.
    pub(super) fn word(&self) -> usize {
        match self.kind {
            Kind::Bytes | Kind::Void | Kind::Bool => 1,
            Kind::Text => 4,
            Kind::Complex => self.size / 2,
            Kind::Signed | Kind::Unsigned | Kind::Float | Kind::Date(_) | Kind::Span(_) => self.size,
        }
    }

    /// Of its name; or what is wrong with that.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("no dtype is called \"{}\"; one is as <f4, |b1, <U16, |S8, <M8[ns] or int16", short(text));
        let (big_endian, name) = match text.as_bytes().first() {
            Some(b'>') => (true, &text[1..]),
            Some(b'<' | b'|' | b'=') => (cfg!(target_endian = "big") && text.starts_with('='), &text[1..]),
            _ => (cfg!(target_endian = "big"), text),
        };
        // "int16" is "i2", and so on.
        for (long, kind) in
            [("uint", Kind::Unsigned), ("int", Kind::Signed), ("float", Kind::Float), ("complex", Kind::Complex)]
        {
            if let Some(bits) = name.strip_prefix(long).and_then(|bits| bits.parse::<usize>().ok()) {
                return Self::new(kind, bits / 8, big_endian).filter(|_| bits.is_multiple_of(8)).ok_or_else(unknown);
            }
        }
        if matches!(name, "bool" | "?") {
            return Self::new(Kind::Bool, 1, big_endian).ok_or_else(unknown);
        }
        let (name, unit) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((name, unit)) => (name, Some(unit)),
            None => (name, None),
        };
        let mut letters = name.chars();
        let letter = letters.next().ok_or_else(unknown)?;
        let number: usize = match letters.as_str() {
            "" if matches!(letter, 'S' | 'U' | 'V' | 'O') => 0,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| unknown())?,
            _ => return Err(unknown()),
        };
        let time = || unit.map_or(Ok(TimeUnit::GENERIC), |unit| TimeUnit::parse(unit).ok_or_else(unknown));
        let kind = match letter {
            'b' => Kind::Bool,
            'i' => Kind::Signed,
            'u' => Kind::Unsigned,
            'f' => Kind::Float,
            'c' => Kind::Complex,
            'S' => Kind::Bytes,
            'U' => Kind::Text,
            'V' => Kind::Void,
            'M' => Kind::Date(time()?),
            'm' => Kind::Span(time()?),
            'O' => return Err("arrays of objects are not read, only those of plain values".into()),
            _ => return Err(unknown()),
        };
        if unit.is_some() && !matches!(kind, Kind::Date(_) | Kind::Span(_)) {
            return Err(unknown());
        }
        let size = if kind == Kind::Text { number.checked_mul(4).ok_or_else(unknown)? } else { number };
        Self::new(kind, size, big_endian).ok_or_else(unknown)
    }
}

impl TimeUnit {
    /// No unit: it goes with any.
    pub const GENERIC: Self = Self { name: "generic", count: 1 };
    const NAMES: [&str; 14] = ["generic", "Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"];

    /// Of numpy's name and the number of them; `None` when there is none.
    pub fn new(name: &str, count: u32) -> Option<Self> {
        let name = *Self::NAMES.iter().find(|known| **known == name)?;
        (1..=i32::MAX.cast_unsigned()).contains(&count).then_some(Self { name, count })
    }

    fn parse(text: &str) -> Option<Self> {
        let name = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &text[..text.len() - name.len()];
        Self::new(name, if digits.is_empty() { 1 } else { digits.parse().ok()? })
    }
}

/// Of a scalar, as `<f4`, `|S8`, `<M8[ns]` or `float32`; without an order of bytes it is this machine's.
impl FromStr for Dtype {
    type Err = MetadataError;

    fn from_str(text: &str) -> Result<Self, MetadataError> {
        Scalar::parse(text).map(Self::Scalar).map_err(MetadataError::json)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.word() {
            0 | 1 => '|',
            _ if self.big_endian => '>',
            _ => '<',
        };
        let (letter, unit) = match self.kind {
            Kind::Bool => ('b', None),
            Kind::Signed => ('i', None),
            Kind::Unsigned => ('u', None),
            Kind::Float => ('f', None),
            Kind::Complex => ('c', None),
            Kind::Bytes => ('S', None),
            Kind::Text => ('U', None),
            Kind::Void => ('V', None),
            Kind::Date(unit) => ('M', Some(unit)),
            Kind::Span(unit) => ('m', Some(unit)),
        };
        let number = if self.kind == Kind::Text { self.size / 4 } else { self.size };
        write!(f, "{order}{letter}{number}")?;
        match unit {
            None | Some(TimeUnit::GENERIC) => Ok(()),
            Some(TimeUnit { name, count: 1 }) => write!(f, "[{name}]"),
            Some(TimeUnit { name, count }) => write!(f, "[{count}{name}]"),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::Record(fields) => write!(f, "of {} fields", fields.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for name in [
            "|b1",
            "|i1",
            "|u1",
            "<i2",
            ">i2",
            "<i4",
            "<u8",
            ">u8",
            "<f2",
            "<f4",
            ">f8",
            "<c8",
            ">c16",
            "|S5",
            "|S0",
            "<U3",
            ">U3",
            "<U0",
            "|V4",
            "<M8",
            "<M8[ns]",
            ">m8[25us]",
            "<M8[D]",
        ] {
            assert_eq!(name.parse::<Dtype>().map(|dtype| dtype.to_string()), Ok(name.into()));
        }
        for (other, name) in [
            ("bool", "|b1"),
            ("?", "|b1"),
            ("int8", "|i1"),
            ("uint64", "<u8"),
            ("float32", "<f4"),
            ("complex128", "<c16"),
            ("f4", "<f4"),
            ("=f4", "<f4"),
            ("|f4", "<f4"),
            (">u1", "|u1"),
            ("U", "<U0"),
            ("<M8[generic]", "<M8"),
        ] {
            assert_eq!(other.parse::<Dtype>().map(|dtype| dtype.to_string()), Ok(name.into()), "{other}");
        }
    }

    #[test]
    fn what_is_no_dtype_is_named() {
        for name in [
            "",
            "<",
            "<f",
            "<f3",
            "<f16",
            "<c32",
            "|b2",
            "<i3",
            "<u16",
            "float",
            "int12",
            "<f4[s]",
            "<M4[s]",
            "<M8[]",
            "<M8[s",
            "<M8[0s]",
            "<M8[9999999999s]",
            "<M8[x]",
            "<x4",
            "é",
            "<é4",
            "S-1",
            "S+1",
            "<U4611686018427387904",
            "S99999999999999999999",
        ] {
            assert!(name.parse::<Dtype>().is_err(), "{name}");
        }
        let object = "|O".parse::<Dtype>().expect_err("objects");
        assert!(object.to_string().contains("objects"), "{object}");
    }

    #[test]
    fn sizes_do_not_wrap() {
        let byte: Dtype = "u1".parse().expect("a dtype");
        let field =
            |shape: &[usize], dtype: &Dtype| Field { name: "a".into(), dtype: dtype.clone(), shape: shape.to_vec() };
        let large = Dtype::Record(vec![field(&[1 << 62], &byte), field(&[1 << 62], &byte)]);
        assert_eq!(large.size(), 1 << 63);
        assert_eq!(Dtype::Record(vec![field(&[1 << 62], &large)]).size(), usize::MAX);
        assert_eq!(Dtype::Record(vec![field(&[3, 2], &byte), field(&[], &"<f4".parse().expect("one"))]).size(), 10);
    }
}
