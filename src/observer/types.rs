//! The types of fields: the eighteen of Ruby's `IO::Buffer`.

use std::fmt;

use super::value::Value;
use crate::shm::Place;

/// A type of field. One byte has no order; others are little-endian, or big-endian, network order.
///
/// | `IO::Buffer` | also | |
/// |---|---|---|
/// | `U8` `S8` | `u8`; `i8` `s8` | one byte |
/// | `u16` `u32` `u64` | | unsigned, little-endian |
/// | `s16` `s32` `s64` | `i16` `i32` `i64` | signed, little-endian |
/// | `f32` `f64` | | IEEE 754, little-endian |
/// | `U16` `S16` ... `F64` | `I16` `I32` `I64` | the same, big-endian |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    number: Number,
    big_endian: bool,
}

/// What a field is, whatever its order of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// Unsigned, of 8 bits.
    U8,
    /// Signed, of 8 bits.
    S8,
    /// Unsigned, of 16 bits.
    U16,
    /// Signed, of 16 bits.
    S16,
    /// Unsigned, of 32 bits.
    U32,
    /// Signed, of 32 bits.
    S32,
    /// Unsigned, of 64 bits.
    U64,
    /// Signed, of 64 bits.
    S64,
    /// A float of 32 bits.
    F32,
    /// A float of 64 bits.
    F64,
}

/// By code, which is also what a sidecar holds: the first is 1.
const TYPES: [(&str, Type); 18] = {
    const fn little(number: Number) -> Type {
        Type { number, big_endian: false }
    }
    const fn big(number: Number) -> Type {
        Type { number, big_endian: true }
    }
    [
        ("U8", little(Number::U8)),
        ("S8", little(Number::S8)),
        ("u16", little(Number::U16)),
        ("U16", big(Number::U16)),
        ("s16", little(Number::S16)),
        ("S16", big(Number::S16)),
        ("u32", little(Number::U32)),
        ("U32", big(Number::U32)),
        ("s32", little(Number::S32)),
        ("S32", big(Number::S32)),
        ("u64", little(Number::U64)),
        ("U64", big(Number::U64)),
        ("s64", little(Number::S64)),
        ("S64", big(Number::S64)),
        ("f32", little(Number::F32)),
        ("F32", big(Number::F32)),
        ("f64", little(Number::F64)),
        ("F64", big(Number::F64)),
    ]
};

/// Names that other languages have for the same.
const ALIASES: [(&str, &str); 9] = [
    ("u8", "U8"),
    ("s8", "S8"),
    ("i8", "S8"),
    ("i16", "s16"),
    ("I16", "S16"),
    ("i32", "s32"),
    ("I32", "S32"),
    ("i64", "s64"),
    ("I64", "S64"),
];

impl Type {
    /// The type of a code, 1 to 18.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(TYPES.get(usize::from(code).checked_sub(1)?)?.1)
    }

    /// Its code.
    pub fn code(self) -> u8 {
        self.entry().0
    }

    /// The type of a name, `IO::Buffer`'s or an alias.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        TYPES.iter().find(|(known, _)| *known == name).map(|(_, found)| *found)
    }

    /// `IO::Buffer`'s name.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> (u8, &'static str) {
        let at = TYPES.iter().position(|(_, known)| *known == self).expect("all there are");
        (at as u8 + 1, TYPES[at].0)
    }

    /// What it is, whatever its order of bytes.
    pub fn number(self) -> Number {
        self.number
    }

    /// Whether its bytes are in network order.
    pub fn is_big_endian(self) -> bool {
        self.big_endian
    }

    /// A number of this type somewhere.
    #[inline]
    pub(super) fn place(self, at: usize) -> Place {
        Place { at, size: self.size(), big_endian: self.big_endian, limit: self.number.largest() }
    }

    /// The number that bytes begin with; there are enough of them.
    pub(super) fn decode(self, bytes: &[u8]) -> Value {
        let mut low = [0; 8];
        low[..self.size()].copy_from_slice(&bytes[..self.size()]);
        if self.big_endian {
            low[..self.size()].reverse();
        }
        Value::from_bits(self.number, u64::from_le_bytes(low))
    }

    /// Bytes.
    pub fn size(self) -> usize {
        match self.number {
            Number::U8 | Number::S8 => 1,
            Number::U16 | Number::S16 => 2,
            Number::U32 | Number::S32 | Number::F32 => 4,
            Number::U64 | Number::S64 | Number::F64 => 8,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_lead_back() {
        for code in 1..=18 {
            let found = Type::from_code(code).expect("a type");
            assert_eq!((found.code(), Type::from_name(found.name())), (code, Some(found)));
        }
        assert_eq!((Type::from_code(0), Type::from_code(19), Type::from_code(255)), (None, None, None));
        for (alias, name) in ALIASES {
            assert_eq!(Type::from_name(alias).map(Type::name), Some(name));
        }
        assert_eq!(Type::from_name("U128"), None);
    }

    #[test]
    fn case_is_the_order_of_bytes() {
        for (name, found) in TYPES {
            let has_order = found.size() > 1;
            assert_eq!(found.is_big_endian(), has_order && name.starts_with(|c: char| c.is_uppercase()), "{name}");
        }
    }
}
