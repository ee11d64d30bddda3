//! What a signal is: its dimensions, units and channels, and whatever its source says of it.
//!
//! Peers publish this as a Python pickle, which Python reads by running it. Here it is read as data: an opcode or a name
//! that is not on a short list is an error, nothing is ever called, and depth, number and size of what comes out are
//! bounded. The same as JSON is how it crosses the C ABI.
//!
//! ```text
//! content  what the peer's dict says
//! json     the text, both ways
//! pickle   the bytes, both ways
//! value    values as Python has them, and arrays
//! dtype    what the items of arrays are
//! item     single items
//! integer  of more than 64 bits
//! ```

mod content;
mod dtype;
mod error;
mod integer;
mod item;
mod json;
mod pickle;
#[cfg(test)]
mod tests;
mod value;

pub use dtype::{Dtype, Field, Kind, Scalar, TimeUnit};
pub use error::MetadataError;
pub use integer::BigInt;
pub use value::{Array, Value};

/// Of the dict that is pickled.
const VERSION: i64 = 1;
/// Bytes of a pickle and of an array, at most.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// How deep values may be nested.
const MAX_DEPTH: usize = 32;

/// What stays the same of a signal, frame after frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The names of the frames' dimensions, the buffered one first.
    pub dims: Vec<String>,
    /// What runs along the dimensions, by name.
    pub axes: Vec<(String, Axis)>,
    /// Whatever else the source says.
    pub attrs: Vec<(String, Value)>,
    /// The name of the signal.
    pub key: String,
    /// The axis along which frames are written.
    pub buffered_axis: Option<String>,
    /// The dimension along which the source says that it grows.
    pub stream_dim: Option<String>,
}

/// What runs along a dimension.
#[derive(Clone, Debug, PartialEq)]
pub enum Axis {
    /// Evenly spaced values.
    Linear {
        /// Of the values.
        unit: String,
        /// From one value to the next.
        gain: f64,
        /// The first value; none of the buffered axis, whose frames have times of their own.
        offset: Option<f64>,
    },
    /// A value for each place, such as the names of channels.
    Coord {
        /// Of the values.
        unit: String,
        /// The dimensions of the values.
        dims: Vec<String>,
        /// The values; none of the buffered axis.
        data: Option<Array>,
    },
}

impl Metadata {
    /// Of JSON. Every member may be missing; dtype and shape of arrays are then those that `numpy.array` gives the data.
    ///
    /// # Errors
    /// `Json`.
    pub fn from_json(text: &str) -> Result<Self, MetadataError> {
        json::read(text)
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        json::write(self)
    }

    /// Of a peer's pickle, of protocol 2 to 5. Members that this build does not know are skipped.
    ///
    /// # Errors
    /// `Pickle`, `Refused`, `Content` and `Version`.
    pub fn from_pickle(bytes: &[u8]) -> Result<Self, MetadataError> {
        Self::from_value(pickle::read(bytes)?)
    }

    /// As a pickle that every peer reads.
    pub fn to_pickle(&self) -> Vec<u8> {
        pickle::write(&self.to_value())
    }

    /// The buffered axis moves with the stream: only what stays is kept of it. Other axes are complete.
    fn settle(&mut self, wrong: fn(&'static str) -> MetadataError) -> Result<(), MetadataError> {
        for (name, axis) in &mut self.axes {
            let is_buffered = self.buffered_axis.as_ref() == Some(name);
            match axis {
                Axis::Linear { offset, .. } if is_buffered => *offset = None,
                Axis::Linear { offset, .. } => *offset = Some(offset.unwrap_or(0.0)),
                Axis::Coord { data, .. } if is_buffered => *data = None,
                Axis::Coord { data: Some(_), .. } => {}
                Axis::Coord { data: None, .. } => {
                    let error = wrong("there is no data, which only the buffered axis can do without");
                    return Err(error.within(name).within("axes"));
                }
            }
        }
        Ok(())
    }
}
