//! A segment that is open.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Error, Result};
use super::schema::{Field, Layout, Schema};
use super::types::Type;
use super::value::{Exact, Misfit, Value};
use crate::shm::{Access, Segment, Slots};
use crate::sys::ProcessEpoch;

/// How a segment is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A value that its field cannot hold is refused. Otherwise the nearest that it can is taken.
    pub refuse: bool,
    /// Nothing is written.
    pub read_only: bool,
}

/// The numbers of a segment. Any number of threads may use it at once.
///
/// Stores are plain. [`Observer::add`] is exact beside other threads of this process, and, in the aligned layout, beside
/// other processes.
#[derive(Debug)]
pub struct Observer {
    schema: Arc<Schema>,
    slots: Slots,
    options: Options,
    /// For adding to what is not atomic.
    turn: Mutex<()>,
    epoch: ProcessEpoch,
}

impl Observer {
    /// Opens `size` bytes from `offset`, any offset, of a file.
    ///
    /// [`Error::TooLong`], [`Error::Outside`], [`Error::Misaligned`], [`Error::File`], which is `ENOSPC` when the file system is full.
    pub fn open(schema: Arc<Schema>, path: &Path, size: usize, offset: u64, options: Options) -> Result<Self> {
        if schema.size() > size {
            return Err(Error::TooLong { schema: schema.size(), segment: size });
        }
        schema.check_alignment(offset)?;
        let opened = if options.read_only { Segment::open(path) } else { Segment::open_writable(path) };
        let segment = opened.map_err(Error::file("open", path))?;
        let len = segment.len().map_err(Error::file("fstat", path))?;
        if size == 0 || size as u64 > len.saturating_sub(offset) {
            return Err(Error::Outside { path: path.to_owned(), offset, size, len });
        }
        let access = if options.read_only {
            Access::Read
        } else {
            segment.allocate(offset, size).map_err(Error::file("fallocate", path))?;
            Access::Write
        };
        let places = schema.fields().map(|(field, at)| field.r#type.place(at));
        let slots = Slots::new(&segment, offset, size, places, access).map_err(Error::file("mmap", path))?;
        Ok(Self { schema, slots, options, turn: Mutex::new(()), epoch: ProcessEpoch::current() })
    }

    /// What the fields are.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The number of a field.
    ///
    /// [`Error::NoField`].
    pub fn index(&self, name: &str) -> Result<u32> {
        self.schema.index(name).map(|index| index as u32).ok_or_else(|| Error::NoField(name.into()))
    }

    /// Stores a number: what the field cannot hold is clamped, or refused by option.
    ///
    /// [`Error::NoIndex`], [`Error::Range`], [`Error::NotANumber`], [`Error::ReadOnly`], [`Error::Forked`].
    pub fn set(&self, index: u32, value: Value) -> Result<()> {
        let field = self.writable(index)?;
        let bits = self.bits(field, value.exact())?;
        self.slots.store(index as usize, bits);
        Ok(())
    }

    /// Stores a number that the field holds as it is; says whether it was one. [`Observer::set`] does the rest.
    #[inline(always)]
    pub fn set_plain(&self, index: u32, value: u64) -> bool {
        self.epoch.is_current() && self.slots.store_plain(index as usize, value)
    }

    /// Adds to an aligned field of type `u64`, unless the sum is too large; says whether it was so. [`Observer::add`] does
    /// the rest.
    #[inline(always)]
    pub fn add_plain(&self, index: u32, value: u64) -> bool {
        self.epoch.is_current() && self.slots.add_plain(index as usize, value)
    }

    /// Stores a float that is a whole number, as [`Observer::set_plain`] does.
    #[inline(always)]
    pub fn set_plain_float(&self, index: u32, value: f64) -> bool {
        let whole = value as i64; // saturates, and i64::MAX as a float is larger
        let is_whole = (whole as f64).to_bits() == value.to_bits() && whole != i64::MAX; // -0.0 is not
        is_whole && whole >= 0 && self.set_plain(index, whole.cast_unsigned())
    }

    /// Adds to a number. Beyond what the field can hold it is clamped, or refused by option.
    ///
    /// As [`Observer::set`].
    pub fn add(&self, index: u32, value: Value) -> Result<()> {
        let field = self.writable(index)?;
        let number = field.r#type.number();
        let _turn = match self.schema.layout() {
            Layout::Aligned => None,
            Layout::Packed => Some(self.turn.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        self.slots
            .update(index as usize, |bits| self.bits(field, Value::from_bits(number, bits).exact().plus(value.exact())))
    }

    /// The number of a field.
    ///
    /// [`Error::NoIndex`].
    pub fn get(&self, index: u32) -> Result<Value> {
        let field = self.field(index)?;
        Ok(Value::from_bits(field.r#type.number(), self.slots.load(index as usize)))
    }

    /// Where a field is in this process's memory, and its type, for stores of the caller's own: as long as this observer lives.
    ///
    /// [`Error::NoIndex`].
    pub fn slot(&self, index: u32) -> Result<(*mut u8, Type)> {
        self.field(index).map(|field| (self.slots.address(index as usize), field.r#type))
    }

    fn field(&self, index: u32) -> Result<&Field> {
        let field = self.schema.field(index as usize);
        field.map(|(field, _)| field).ok_or_else(|| Error::NoIndex { index, len: self.schema.fields().len() })
    }

    fn writable(&self, index: u32) -> Result<&Field> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        if !self.epoch.is_current() {
            return Err(Error::Forked);
        }
        self.field(index)
    }

    fn bits(&self, field: &Field, value: Exact) -> Result<u64> {
        match value.to_bits(field.r#type.number()) {
            Ok((bits, fits)) if fits || !self.options.refuse => Ok(bits),
            Ok(_) => Err(Error::Range { name: field.name.clone(), r#type: field.r#type }),
            Err(Misfit) => Err(Error::NotANumber { name: field.name.clone(), r#type: field.r#type }),
        }
    }
}
