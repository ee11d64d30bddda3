//! What the frames of a stream are, and how many of them its ring holds.

use super::error::{Error, Result};

/// Dimensions of a frame, at most: the ring itself is the 64th.
pub const MAX_DIMENSIONS: usize = 63;
/// Bytes of a key, at most.
pub const MAX_KEY: usize = 1024;

/// The type of the numbers, by numpy's type character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dtype(u8);

impl Dtype {
    /// `e f d` floats of 2, 4, 8 bytes; `b h i l q` integers of 1, 2, 4, 8, 8, and `B H I L Q` without sign; `?` booleans;
    /// `F D` pairs of floats of 4 and 8. `None` for any other.
    pub fn new(character: u8) -> Option<Self> {
        Self::size_of(character).map(|_| Self(character))
    }

    const fn size_of(character: u8) -> Option<usize> {
        Some(match character {
            b'b' | b'B' | b'?' => 1,
            b'e' | b'h' | b'H' => 2,
            b'f' | b'i' | b'I' => 4,
            b'd' | b'l' | b'L' | b'q' | b'Q' | b'F' => 8,
            b'D' => 16,
            _ => return None,
        })
    }

    /// Numpy's character.
    pub fn character(self) -> u8 {
        self.0
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        Self::size_of(self.0).unwrap_or(1)
    }
}

/// What the frames of a stream are, and how many of them its ring holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// The type of their numbers.
    pub dtype: Dtype,
    /// The numbers of a frame: empty for a single one, else up to [`MAX_DIMENSIONS`] lengths, none of them 0. In C order.
    pub frame_shape: Vec<u32>,
    /// Frames that the ring holds.
    pub frames: u32,
    /// Frames per second; 0 when they are irregular.
    pub rate: f64,
    /// What the source calls itself; cut to [`MAX_KEY`] bytes.
    pub key: String,
}

impl Format {
    /// Frames that a ring of so many seconds holds: rounded up, and at least 1.
    ///
    /// [`Error::Format`] when they are not a number, or too many.
    pub fn frames_for(seconds: f64, rate: f64) -> Result<u32> {
        let frames = (seconds * rate).ceil();
        if !(seconds > 0.0 && rate > 0.0) || frames > f64::from(u32::MAX) {
            return Err(Error::Format(format!(
                "a ring of {seconds} seconds at {rate} frames per second: both must be above 0, and together at most 2^32 - 1 \
                 frames; rings of irregular frames are given by the number of frames"
            )));
        }
        Ok((frames as u32).max(1))
    }

    /// Bytes of a frame. No more than an address space has, in a format that was checked.
    pub fn frame_size(&self) -> usize {
        self.frame_shape.iter().fold(self.dtype.size(), |size, &length| size.saturating_mul(length as usize))
    }

    /// Bytes of the frames in the ring.
    pub(super) fn ring_size(&self) -> usize {
        self.frame_size().saturating_mul(self.frames as usize)
    }

    /// Whether such a ring can be, wherever the numbers come from.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.frame_shape.len() > MAX_DIMENSIONS {
            return Err(format!("frames of {} dimensions: at most {MAX_DIMENSIONS} can be", self.frame_shape.len()));
        }
        if let Some(axis) = self.frame_shape.iter().position(|&length| length == 0) {
            return Err(format!("dimension {axis} of the frames has length 0"));
        }
        if self.frames == 0 {
            return Err("a ring of 0 frames".into());
        }
        // As much again for timestamps is still an offset of a file.
        if self.ring_size() > (isize::MAX / 2) as usize {
            return Err(format!("{} frames of {} bytes are more than can be mapped", self.frames, self.frame_size()));
        }
        if !(self.rate == 0.0 || self.rate > 0.0 && self.rate.is_finite() && self.rate.recip().is_finite()) {
            return Err(format!("a rate of {}: frames per second, or 0 when they are irregular", self.rate));
        }
        Ok(())
    }
}

/// As much of a key as there is room for, and whole characters.
pub(super) fn cut_key(key: &str) -> &str {
    let mut end = key.len().min(MAX_KEY);
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    &key[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let good = Format { dtype: Dtype(b'f'), frame_shape: vec![4], frames: 10, rate: 0.0, key: String::new() };
        assert_eq!(good.check(), Ok(()));
        assert_eq!((good.frame_size(), good.ring_size()), (16, 160));
        for (bad, why) in [
            (Format { frame_shape: vec![1; 64], ..good.clone() }, "64 dimensions"),
            (Format { frame_shape: vec![3, 0], ..good.clone() }, "dimension 1"),
            (Format { frames: 0, ..good.clone() }, "0 frames"),
            (Format { frame_shape: vec![u32::MAX; 2], ..good.clone() }, "more than"),
            (Format { frame_shape: vec![u32::MAX; 63], ..good.clone() }, "more than"),
            (Format { rate: -1.0, ..good.clone() }, "rate of -1"),
            (Format { rate: f64::NAN, ..good.clone() }, "rate of NaN"),
            (Format { rate: 1e-310, ..good.clone() }, "rate of 0.00"),
        ] {
            let said = bad.check().unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn seconds_become_frames_as_with_the_peer() {
        assert_eq!(Format::frames_for(2.0, 500.0).unwrap(), 1000);
        assert_eq!(Format::frames_for(0.0101, 100.0).unwrap(), 2);
        assert_eq!(Format::frames_for(1e-9, 1.0).unwrap(), 1);
        for (seconds, rate) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1e9, 1e9), (-1.0, -1.0), (f64::INFINITY, 1.0)]
        {
            assert!(Format::frames_for(seconds, rate).is_err(), "{seconds} {rate}");
        }
    }

    #[test]
    fn keys_are_cut_between_characters() {
        assert_eq!(cut_key("key"), "key");
        assert_eq!(cut_key(&format!("x{}", "ü".repeat(600))).len(), 1023);
    }
}
