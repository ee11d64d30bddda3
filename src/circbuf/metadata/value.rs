//! Values as Python has them, and arrays as numpy has them.

use super::dtype::Dtype;
use super::error::{MetadataError, Result};
use super::integer::{BigInt, Integer};

/// A plain value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `bool`.
    Bool(bool),
    /// `int`, when it fits.
    Int(i64),
    /// `int`, when it does not.
    BigInt(BigInt),
    /// `float`.
    Float(f64),
    /// `complex`: real, imaginary.
    Complex(f64, f64),
    /// `str`.
    Text(String),
    /// `bytes`.
    Bytes(Vec<u8>),
    /// `list`.
    List(Vec<Value>),
    /// `tuple`.
    Tuple(Vec<Value>),
    /// `dict` of strings to values, in its order.
    Dict(Vec<(String, Value)>),
    /// `numpy.ndarray`.
    Array(Array),
}

impl From<Integer> for Value {
    fn from(integer: Integer) -> Self {
        match integer {
            Integer::Small(small) => Self::Int(small),
            Integer::Big(big) => Self::BigInt(big),
        }
    }
}

/// An array: its items lie one after the other, the last index runs fastest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Array {
    /// Dimensions, at most: those of numpy 1.
    pub const MAX_DIMENSIONS: usize = 32;

    /// Of the items' bytes.
    ///
    /// # Errors
    /// `Content` when the bytes are not as many as shape and dtype say, or there are too many dimensions.
    pub fn new(dtype: Dtype, shape: Vec<usize>, data: Vec<u8>) -> Result<Self> {
        let size = count(&shape).and_then(|count| count.checked_mul(dtype.size()));
        if size != Some(data.len()) {
            let len = data.len();
            return Err(MetadataError::content(format!(
                "{len} bytes are not those of shape {shape:?} and dtype {dtype}"
            )));
        }
        Ok(Self { dtype, shape, data })
    }

    /// What its items are.
    pub fn dtype(&self) -> &Dtype {
        &self.dtype
    }

    /// Its length in each dimension; no dimension is a single item.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes of all items.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The items of a shape; `None` when that is no shape an array can have. The lengths beside a 0 count too, as for numpy.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    if shape.len() > Array::MAX_DIMENSIONS {
        return None;
    }
    let beside: usize = shape.iter().filter(|len| **len != 0).try_fold(1, |all: usize, len| all.checked_mul(*len))?;
    let fits = isize::try_from(beside).is_ok();
    fits.then_some(if shape.contains(&0) { 0 } else { beside })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_have_the_bytes_of_their_shape() {
        let dtype: Dtype = "<u2".parse().expect("a dtype");
        let array = |shape: &[usize], bytes| Array::new(dtype.clone(), shape.to_vec(), vec![0; bytes]);
        assert_eq!(array(&[], 2).map(|array| array.len()), Ok(1));
        assert_eq!(array(&[2, 3], 12).map(|array| array.len()), Ok(6));
        assert_eq!(array(&[0, 3], 0).map(|array| array.is_empty()), Ok(true));
        assert!(array(&[2], 3).is_err() && array(&[2], 6).is_err());
        assert!(array(&[usize::MAX, 2], 0).is_err() && array(&[usize::MAX, 2, 0], 0).is_err());
        assert!(array(&[1 << 63], 0).is_err(), "the size in bytes wraps to 0");
        assert!(array(&[1; 32], 2).is_ok() && array(&[1; 33], 2).is_err());
    }
}
