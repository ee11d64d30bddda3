//! Single items of arrays: their bytes, and what these stand for.

use super::dtype::{Kind, Scalar};

/// What the bytes of a scalar stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item<'a> {
    Bool(bool),
    Int(i128),
    /// Of two or four bytes.
    Single(f32),
    Double(f64),
    Singles(f32, f32),
    Doubles(f64, f64),
    Text(String),
    Bytes(&'a [u8]),
}

impl Scalar {
    /// What an item is. What is no character is read as U+FFFD.
    pub(super) fn item<'a>(&self, bytes: &'a [u8]) -> Item<'a> {
        let words = || bytes.chunks(self.word().max(1)).map(|word| self.load(word));
        let first = words().next().unwrap_or(0);
        let second = words().nth(1).unwrap_or(0);
        let unused = 64 - 8 * self.word().clamp(1, 8);
        match (self.kind(), self.size()) {
            (Kind::Bool, _) => Item::Bool(first != 0),
            (Kind::Unsigned, _) => Item::Int(first.into()),
            (Kind::Signed | Kind::Date(_) | Kind::Span(_), _) => {
                Item::Int(i128::from((first << unused).cast_signed() >> unused))
            }
            (Kind::Float, 2) => Item::Single(half_to_single(first as u16)),
            (Kind::Float, 4) => Item::Single(f32::from_bits(first as u32)),
            (Kind::Float, _) => Item::Double(f64::from_bits(first)),
            (Kind::Complex, 8) => Item::Singles(f32::from_bits(first as u32), f32::from_bits(second as u32)),
            (Kind::Complex, _) => Item::Doubles(f64::from_bits(first), f64::from_bits(second)),
            (Kind::Text, _) => {
                let character = |word| char::from_u32(word as u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                let mut text: String = words().map(character).collect();
                text.truncate(text.trim_end_matches('\0').len());
                Item::Text(text)
            }
            (Kind::Bytes, _) => {
                Item::Bytes(&bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)])
            }
            (Kind::Void, _) => Item::Bytes(bytes),
        }
    }

    /// Appends a word of an item, in the order of its bytes.
    pub(super) fn store(&self, word: u64, out: &mut Vec<u8>) {
        let size = self.word().min(8);
        if self.is_big_endian() {
            out.extend_from_slice(&word.to_be_bytes()[8 - size..]);
        } else {
            out.extend_from_slice(&word.to_le_bytes()[..size]);
        }
    }

    fn load(&self, word: &[u8]) -> u64 {
        let fold = |value, byte: &u8| value << 8 | u64::from(*byte);
        if self.is_big_endian() { word.iter().fold(0, fold) } else { word.iter().rev().fold(0, fold) }
    }
}

/// The number of a float of 16 bits, exactly.
fn half_to_single(half: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(half >> 15), u32::from(half >> 10 & 0x1f), u32::from(half & 0x3ff));
    match exponent {
        0 => fraction as f32 * 2f32.powi(-24) * if sign == 0 { 1.0 } else { -1.0 },
        31 => f32::from_bits(sign << 31 | 0xff << 23 | fraction << 13),
        _ => f32::from_bits(sign << 31 | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

/// The nearest float of 16 bits; `None` when the number is too large.
pub(super) fn double_to_half(value: f64) -> Option<u16> {
    let sign = u16::from(value.is_sign_negative()) << 15;
    let size = value.abs();
    let bits = if value.is_nan() {
        0x7e00
    } else if size.is_infinite() {
        0x7c00
    } else if size >= 65520.0 {
        return None;
    } else if size < 2f64.powi(-14) {
        (size * 2f64.powi(24)).round_ties_even() as u16
    } else {
        let exponent = (size.to_bits() >> 52) as i32 - 1023;
        let steps = (size * 2f64.powi(10 - exponent)).round_ties_even() as u16; // 1024 to 2048
        ((exponent + 14) as u16) * 1024 + steps // which carries into the exponent as it should
    };
    Some(sign | bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circbuf::metadata::Dtype;

    fn scalar(name: &str) -> Scalar {
        match name.parse() {
            Ok(Dtype::Scalar(scalar)) => scalar,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn bytes_stand_for_items() {
        assert_eq!(scalar("i1").item(&[0x80]), Item::Int(-128));
        assert_eq!(scalar("<u2").item(&[1, 2]), Item::Int(0x0201));
        assert_eq!(scalar(">u2").item(&[1, 2]), Item::Int(0x0102));
        assert_eq!(scalar("<u8").item(&[0xff; 8]), Item::Int(u64::MAX.into()));
        assert_eq!(scalar(">i4").item(&[0xff, 0xff, 0xff, 0xfe]), Item::Int(-2));
        assert_eq!(scalar("<M8[s]").item(&i64::MIN.to_le_bytes()), Item::Int(i64::MIN.into()));
        assert_eq!(scalar(">f8").item(&1.5f64.to_be_bytes()), Item::Double(1.5));
        assert_eq!(scalar("<c8").item(&[[0, 0, 0x80, 0x3f], [0; 4]].concat()), Item::Singles(1.0, 0.0));
        assert_eq!(scalar(">U2").item(&[0, 0, 0, b'a', 0, 0, 0, 0]), Item::Text("a".into()));
        assert_eq!(scalar("<U1").item(&[0, 0xd8, 0, 0]), Item::Text("\u{fffd}".into()));
        assert_eq!(scalar("U0").item(&[]), Item::Text(String::new()));
        assert_eq!(scalar("S3").item(&[0, 1, 0]), Item::Bytes(&[0, 1]));
        assert_eq!(scalar("V3").item(&[0, 1, 0]), Item::Bytes(&[0, 1, 0]));
    }

    #[test]
    fn words_lead_back() {
        for name in ["<i2", ">i2", "<f8", ">f8", "u1", "<U1", ">U1"] {
            let mut bytes = Vec::new();
            scalar(name).store(0x41, &mut bytes);
            assert_eq!(scalar(name).load(&bytes), 0x41, "{name}");
            assert_eq!(bytes.len(), scalar(name).size(), "{name}");
        }
    }

    #[test]
    fn halves_lead_back_and_round_to_even() {
        for half in 0..=u16::MAX {
            let single = half_to_single(half);
            if single.is_nan() {
                assert!(double_to_half(f64::NAN).is_some_and(|nan| half_to_single(nan).is_nan()));
            } else {
                assert_eq!(double_to_half(single.into()), Some(half), "{single}");
            }
        }
        assert_eq!(half_to_single(0x3555), 0.333_251_95);
        assert_eq!(double_to_half(65519.9), Some(0x7bff));
        assert_eq!(double_to_half(65520.0), None);
        assert_eq!(double_to_half(1.0 + 1.0 / 2048.0), Some(0x3c00), "half a step, to the even one below");
        assert_eq!(double_to_half(1.0 + 3.0 / 2048.0), Some(0x3c02), "half a step, to the even one above");
        assert_eq!(double_to_half(2f64.powi(-25)), Some(0));
        assert_eq!(double_to_half(2f64.powi(-25) * 1.01), Some(1));
    }
}
