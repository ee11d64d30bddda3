//! Integers of more than 64 bits, which Python has: kept exactly, in the form that pickles have.

use std::fmt;
use std::str::FromStr;

/// An integer that an `i64` cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigInt {
    /// Two's complement, little-endian, as short as it can be.
    bytes: Vec<u8>,
}

/// An integer of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    Small(i64),
    Big(BigInt),
}

/// Such an integer has too many digits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl BigInt {
    /// Bytes, at most: 4300 digits, where Python stops converting them as well. (That takes quadratic time.)
    pub const MAX_BYTES: usize = 1785;

    /// Two's complement, little-endian, as short as it can be.
    pub fn to_le_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Integer {
    /// Of two's complement, little-endian. No bytes are 0.
    pub(super) fn from_le_bytes(mut bytes: &[u8]) -> Result<Self, TooLong> {
        let negative = bytes.last().is_some_and(|byte| byte >> 7 != 0);
        let sign = if negative { 0xff } else { 0 };
        while let [rest @ .., before, last] = bytes {
            if *last != sign || (before >> 7 != 0) != negative {
                break;
            }
            bytes = &bytes[..=rest.len()];
        }
        if bytes.len() > BigInt::MAX_BYTES {
            return Err(TooLong);
        }
        if bytes.len() > 8 {
            return Ok(Self::Big(BigInt { bytes: bytes.to_owned() }));
        }
        let mut word = [sign; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        Ok(Self::Small(i64::from_le_bytes(word)))
    }
}

/// Of an optional `-` and decimal digits, as JSON has them.
impl FromStr for Integer {
    type Err = TooLong;

    fn from_str(text: &str) -> Result<Self, TooLong> {
        if let Ok(small) = text.parse() {
            return Ok(Self::Small(small));
        }
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        if digits.len() > BigInt::MAX_BYTES * 5 / 2 {
            return Err(TooLong);
        }
        let mut limbs: Vec<u32> = Vec::new();
        for digit in digits.bytes() {
            let mut carry = u64::from(digit - b'0');
            for limb in &mut limbs {
                carry += u64::from(*limb) * 10;
                *limb = carry as u32;
                carry >>= 32;
            }
            if carry != 0 {
                limbs.push(carry as u32);
            }
        }
        limbs.push(0); // room for the sign
        if negative {
            negate(&mut limbs);
        }
        let bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        Self::from_le_bytes(&bytes)
    }
}

fn negate(limbs: &mut [u32]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = (!*limb).overflowing_add(carry.into());
    }
}

impl fmt::Display for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let negative = self.bytes.last().is_some_and(|byte| byte >> 7 != 0);
        let mut padded = self.bytes.clone();
        padded.resize(self.bytes.len().next_multiple_of(4) + 4, if negative { 0xff } else { 0 });
        let mut limbs: Vec<u32> = padded.as_chunks().0.iter().map(|limb| u32::from_le_bytes(*limb)).collect();
        if negative {
            negate(&mut limbs);
        }
        let mut groups = Vec::new(); // of nine digits, the last ones first
        while limbs.last().is_some() {
            let mut rest = 0;
            for limb in limbs.iter_mut().rev() {
                rest = rest << 32 | u64::from(*limb);
                *limb = (rest / 1_000_000_000) as u32;
                rest %= 1_000_000_000;
            }
            groups.push(rest);
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
        }
        let mut digits = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            digits += &format!("{group:09}");
        }
        f.pad_integral(!negative, "", &digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(integer: &Integer) -> String {
        match integer {
            Integer::Small(small) => small.to_string(),
            Integer::Big(big) => big.to_string(),
        }
    }

    #[test]
    fn digits_and_bytes_are_those_of_another_library() {
        let mut number = num_bigint::BigInt::from(1);
        for round in 0..300 {
            for near in [-1, 0, 1] {
                for sign in [-1, 1] {
                    let exact: num_bigint::BigInt = (&number + near) * sign;
                    let ours: Integer = exact.to_string().parse().expect("an integer");
                    assert_eq!(text(&ours), exact.to_string());
                    assert_eq!(Integer::from_le_bytes(&exact.to_signed_bytes_le()), Ok(ours.clone()));
                    if let Integer::Big(big) = &ours {
                        assert_eq!(big.to_le_bytes(), exact.to_signed_bytes_le());
                        assert!(i64::try_from(&exact).is_err());
                    }
                }
            }
            number *= if round % 3 == 0 { 10 } else { 2 };
        }
    }

    #[test]
    fn padding_is_cut_and_length_is_bounded() {
        assert_eq!(Integer::from_le_bytes(&[]), Ok(Integer::Small(0)));
        assert_eq!(Integer::from_le_bytes(&[0xff; 5000]), Ok(Integer::Small(-1)));
        assert_eq!(Integer::from_le_bytes(&[&[0x80][..], &[0; 5000]].concat()), Ok(Integer::Small(128)));
        assert_eq!(Integer::from_le_bytes(&[1; 5000]), Err(TooLong));
        assert_eq!("9".repeat(4300).parse::<Integer>(), Err(TooLong));
        let largest: Integer = "9".repeat(4298).parse().expect("an integer");
        assert_eq!(text(&largest), "9".repeat(4298));
        assert_eq!("9".repeat(100_000).parse::<Integer>(), Err(TooLong));
    }
}
