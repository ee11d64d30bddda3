//! Numbers on their way into fields and out: what a field cannot hold is clamped or refused, never wrapped.

use super::types::Number;

/// A number of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Of an unsigned field.
    Unsigned(u64),
    /// Of a signed field.
    Signed(i64),
    /// Of a float.
    Float(f64),
}

/// A number or a sum of two, before it is fitted into a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exact {
    Whole(i128),
    Float(f64),
}

/// What is not a number does not go into a field of integers.
#[derive(Debug)]
pub(super) struct Misfit;

impl Number {
    /// The integers that it holds; `None` of a float.
    fn range(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::U8 => (0, u8::MAX.into()),
            Self::U16 => (0, u16::MAX.into()),
            Self::U32 => (0, u32::MAX.into()),
            Self::U64 => (0, u64::MAX.into()),
            Self::S8 => (i8::MIN.into(), i8::MAX.into()),
            Self::S16 => (i16::MIN.into(), i16::MAX.into()),
            Self::S32 => (i32::MIN.into(), i32::MAX.into()),
            Self::S64 => (i64::MIN.into(), i64::MAX.into()),
            Self::F32 | Self::F64 => return None,
        })
    }

    /// The largest unsigned number whose bits are those of the field: 0 for a float.
    pub(super) fn largest(self) -> u64 {
        self.range().map_or(0, |(_, high)| high as u64)
    }
}

impl Value {
    /// The number that a field has; its bits are the lowest ones, and there are no others.
    #[inline(always)]
    pub(super) fn from_bits(number: Number, bits: u64) -> Self {
        match number {
            Number::U8 | Number::U16 | Number::U32 | Number::U64 => Self::Unsigned(bits),
            Number::S8 => Self::Signed(i64::from(bits as i8)),
            Number::S16 => Self::Signed(i64::from(bits as i16)),
            Number::S32 => Self::Signed(i64::from(bits as i32)),
            Number::S64 => Self::Signed(bits.cast_signed()),
            Number::F32 => Self::Float(f64::from(f32::from_bits(bits as u32))),
            Number::F64 => Self::Float(f64::from_bits(bits)),
        }
    }

    pub(super) fn exact(self) -> Exact {
        match self {
            Self::Unsigned(value) => Exact::Whole(value.into()),
            Self::Signed(value) => Exact::Whole(value.into()),
            Self::Float(value) => Exact::Float(value),
        }
    }

    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Unsigned(value) => value as f64,
            Self::Signed(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

impl Exact {
    /// The bits of a field that holds this, or the nearest that it can, and whether that is the same. A fraction is
    /// cut off, and infinity is larger than all integers.
    pub(super) fn to_bits(self, number: Number) -> Result<(u64, bool), Misfit> {
        let Some((low, high)) = number.range() else {
            let wide = self.to_f64();
            if number == Number::F64 {
                return Ok((wide.to_bits(), true));
            }
            let fits = (wide as f32).is_finite() || !wide.is_finite();
            let narrow = if fits { wide as f32 } else { f32::MAX.copysign(wide as f32) };
            return Ok((narrow.to_bits().into(), fits));
        };
        let whole = match self {
            Self::Whole(value) => value,
            Self::Float(value) if value.is_nan() => return Err(Misfit),
            Self::Float(value) => value as i128,
        };
        let near = whole.clamp(low, high);
        Ok((near as u64, near == whole))
    }

    pub(super) fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Self::Whole(a + b), // both of 65 bits
            // A number without a fraction adds exactly.
            (Self::Whole(a), Self::Float(b)) | (Self::Float(b), Self::Whole(a)) if b.trunc() == b && b.is_finite() => {
                Self::Whole(a.saturating_add(b as i128))
            }
            _ => Self::Float(self.to_f64() + other.to_f64()),
        }
    }

    /// The nearest number of a field of 64 bits.
    pub(super) fn to_value(self) -> Value {
        match self {
            Self::Whole(value) if value < 0 => Value::Signed(value.try_into().unwrap_or(i64::MIN)),
            Self::Whole(value) => Value::Unsigned(value.try_into().unwrap_or(u64::MAX)),
            Self::Float(value) => Value::Float(value),
        }
    }

    fn to_f64(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(value: Value, number: Number) -> Option<(u64, bool)> {
        value.exact().to_bits(number).ok()
    }

    #[test]
    fn clamped_and_told() {
        use Value::{Float, Signed, Unsigned};
        assert_eq!(bits(Unsigned(255), Number::U8), Some((255, true)));
        assert_eq!(bits(Unsigned(256), Number::U8), Some((255, false)));
        assert_eq!(bits(Signed(-1), Number::U32), Some((0, false)));
        assert_eq!(bits(Signed(-1), Number::S32).map(|(bits, fits)| (bits as u32, fits)), Some((u32::MAX, true)));
        assert_eq!(bits(Signed(-129), Number::S8).map(|(bits, fits)| (bits as i8, fits)), Some((-128, false)));
        assert_eq!(bits(Unsigned(u64::MAX), Number::S64), Some((i64::MAX as u64, false)));
        assert_eq!(bits(Float(-0.5), Number::U16), Some((0, true)));
        assert_eq!(bits(Float(3.99), Number::U16), Some((3, true)));
        assert_eq!(bits(Float(f64::INFINITY), Number::U64), Some((u64::MAX, false)));
        assert_eq!(bits(Float(f64::NEG_INFINITY), Number::S64), Some((i64::MIN as u64, false)));
        assert_eq!(bits(Float(f64::NAN), Number::S64), None);
        assert_eq!(bits(Float(1e300), Number::F32), Some((f32::MAX.to_bits().into(), false)));
        assert_eq!(bits(Float(-1e300), Number::F32), Some((f32::MIN.to_bits().into(), false)));
        assert_eq!(bits(Float(f64::INFINITY), Number::F32), Some((f32::INFINITY.to_bits().into(), true)));
        assert_eq!(bits(Unsigned(1), Number::F64), Some((1f64.to_bits(), true)));
    }

    #[test]
    fn sums_do_not_wrap() {
        let sum = |a: Value, b: Value, number| a.exact().plus(b.exact()).to_bits(number).ok();
        assert_eq!(sum(Value::Unsigned(u64::MAX), Value::Unsigned(1), Number::U64), Some((u64::MAX, false)));
        assert_eq!(sum(Value::Unsigned(0), Value::Signed(-1), Number::U32), Some((0, false)));
        assert_eq!(sum(Value::Signed(i64::MIN), Value::Signed(-1), Number::S64), Some((i64::MIN as u64, false)));
        assert_eq!(sum(Value::Unsigned(5), Value::Float(0.5), Number::F64), Some((5.5f64.to_bits(), true)));
        let large = 1_763_690_000_000_000_001;
        assert_eq!(sum(Value::Unsigned(large), Value::Float(1.0), Number::U64), Some((large + 1, true)));
        assert_eq!(sum(Value::Unsigned(7), Value::Float(f64::INFINITY), Number::U64), Some((u64::MAX, false)));
    }
}
