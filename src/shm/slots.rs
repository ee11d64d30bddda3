//! Numbers in memory that another process may write at any moment, at any offset, aligned or not.
//!
//! An aligned number is atomic. One that is not is loaded and stored by a single instruction, which is whole unless it
//! crosses a cache line; a locked instruction across one would stop the machine for a thousand times as long.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use memmap2::MmapRaw;

use super::mapping::{Access, map};
use super::segment::Segment;

/// Numbers of a part of a file, by index.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    /// How many of them may be stored to: all or none.
    writable: usize,
    /// Keeps the memory.
    _raw: MmapRaw,
}

/// A file whose numbers are found in many places.
#[derive(Debug)]
pub(crate) struct Numbers(MmapRaw);

impl Numbers {
    pub(crate) fn new(segment: &Segment, len: usize) -> io::Result<Self> {
        map(segment, 0, len, Access::Read).map(Self)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bits of the numbers that a shape has at `begin`; `None` when it does not lie within.
    #[inline]
    pub(crate) fn load<'a>(&'a self, begin: usize, shape: &'a Shape) -> Option<impl Iterator<Item = u64> + 'a> {
        if begin > self.len() || shape.size > self.len() - begin {
            return None;
        }
        let first = self.0.as_mut_ptr().wrapping_add(begin);
        // SAFETY: the shape lies within the mapping, and its numbers within the shape.
        Some(shape.numbers.iter().map(move |(at, form)| unsafe { form.load_elsewhere(first.wrapping_add(*at)) }))
    }
}

/// Where numbers are in a part of a file, wherever that begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    numbers: Box<[(usize, Form)]>,
    /// Bytes up to the end of the last one.
    size: usize,
}

impl Shape {
    pub(crate) fn new(places: impl Iterator<Item = Place>) -> Self {
        let numbers: Box<[_]> = places.map(|place| (place.at, Form::of(place))).collect();
        let size = numbers.iter().map(|(at, form)| at + usize::from(form.size)).max().unwrap_or(0);
        Self { numbers, size }
    }
}

/// A number of 1, 2, 4 or 8 bytes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    address: *mut u8,
    /// Up to here an unsigned number is stored as it is.
    limit: u64,
    form: Form,
    /// Eight bytes in this machine's order.
    is_long: bool,
    /// That, and aligned.
    is_word: bool,
}

/// What a number looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// 1, 2, 4 or 8 bytes.
    size: u8,
    /// Its bytes are in the other order than this machine's.
    swapped: bool,
}

/// Where a number is, from the begin of the part, and what it looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) at: usize,
    pub(crate) size: usize,
    pub(crate) big_endian: bool,
    /// Up to here an unsigned number has the bits that are stored.
    pub(crate) limit: u64,
}

// SAFETY: the addresses are of a mapping that is owned here and belongs to no thread; aligned access is atomic, the rest
// a single instruction.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

/// An aligned number as an atomic, or the address of one that is not. Unsafe: the address is that of a number which is
/// mapped for as long as the slots are.
macro_rules! access {
    ($address:expr, $atomic:ident, $integer:ident, |$number:ident| $aligned:expr, |$unaligned:ident| $other:expr) => {{
        let $unaligned = $address.cast::<$integer>();
        if $unaligned.is_aligned() {
            let $number = $atomic::from_ptr($unaligned);
            $aligned
        } else {
            $other
        }
    }};
}

/// Has the compiler believe that memory is read and written elsewhere now, so that it neither drops nor delays what
/// stands before. There is no volatile access to what is not aligned.
#[inline(always)]
fn seen_by_others<T>(address: *mut T) -> *mut T {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    // SAFETY: no instruction at all; the compiler is told no more than that it may touch memory.
    unsafe {
        std::arch::asm!("/* {} */", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    std::hint::black_box(address);
    address
}

/// # Safety
/// `address` is valid for reads.
#[inline(always)]
unsafe fn load_unaligned<T: Copy>(address: *mut T) -> T {
    // SAFETY: the caller's promise.
    unsafe { seen_by_others(address).read_unaligned() }
}

/// # Safety
/// `address` is valid for writes.
#[inline(always)]
unsafe fn store_unaligned<T: Copy>(address: *mut T, value: T) {
    // SAFETY: the caller's promise.
    unsafe { address.write_unaligned(value) };
    seen_by_others(address);
}

impl Slots {
    /// Maps `size` bytes from `offset`, in which all `places` lie.
    pub(crate) fn new(
        segment: &Segment,
        offset: u64,
        size: usize,
        places: impl Iterator<Item = Place>,
        access: Access,
    ) -> io::Result<Self> {
        let raw = map(segment, offset, size, access)?;
        let slots: Option<Box<[Slot]>> = places.map(|place| Slot::new(&raw, place)).collect();
        let slots = slots.ok_or(io::Error::from_raw_os_error(libc::EINVAL))?;
        let writable = if access == Access::Write { slots.len() } else { 0 };
        Ok(Self { slots, writable, _raw: raw })
    }

    /// Stores a number if there is nothing to think about; says whether it was so.
    #[inline(always)]
    pub(crate) fn store_plain(&self, index: usize, value: u64) -> bool {
        if index >= self.writable {
            return false;
        }
        // SAFETY: `writable` is at most the number of slots.
        let slot = unsafe { self.slots.get_unchecked(index) };
        if value > slot.limit {
            return false;
        }
        if slot.is_word {
            // SAFETY: within the mapping, aligned, and writable.
            unsafe { AtomicU64::from_ptr(slot.address.cast()) }.store(value, Ordering::Relaxed);
        } else {
            // SAFETY: within the mapping, and writable.
            unsafe { slot.form.store(slot.address, value) };
        }
        true
    }

    /// Adds to an aligned unsigned number of 64 bits in this machine's order, if the sum is one; says whether it was so.
    #[inline(always)]
    pub(crate) fn add_plain(&self, index: usize, value: u64) -> bool {
        if index >= self.writable {
            return false;
        }
        // SAFETY: `writable` is at most the number of slots.
        let slot = unsafe { self.slots.get_unchecked(index) };
        if !slot.is_word || slot.limit != u64::MAX {
            return false;
        }
        // SAFETY: within the mapping, aligned, and writable.
        let number = unsafe { AtomicU64::from_ptr(slot.address.cast()) };
        let mut old = number.load(Ordering::Relaxed);
        while let Some(sum) = old.checked_add(value) {
            match number.compare_exchange_weak(old, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
        false
    }

    /// The bits of a number, in the lowest bytes and in this machine's order.
    #[inline]
    pub(crate) fn load(&self, index: usize) -> u64 {
        let slot = self.slots[index];
        // SAFETY: `Slot::new` has seen that it lies within the mapping.
        unsafe { slot.form.load(slot.address) }
    }

    /// Stores the lowest bytes of `bits`, if the part is mapped for that.
    pub(crate) fn store(&self, index: usize, bits: u64) {
        let slot = self.slots[..self.writable][index];
        // SAFETY: within the mapping, and writable.
        unsafe { slot.form.store(slot.address, bits) };
    }

    /// Stores a number of 64 bits in this machine's order; says whether it was one.
    #[inline(always)]
    pub(crate) fn store_long(&self, index: usize, value: u64) -> bool {
        if index >= self.writable {
            return false;
        }
        // SAFETY: `writable` is at most the number of slots.
        let slot = unsafe { self.slots.get_unchecked(index) };
        if slot.is_long {
            // SAFETY: within the mapping, and writable.
            unsafe { store_unaligned(slot.address.cast(), value) };
        }
        slot.is_long
    }

    /// Replaces a number by what `change` makes of it: at once if it is aligned; if not, others may come between.
    pub(crate) fn update<E>(&self, index: usize, mut change: impl FnMut(u64) -> Result<u64, E>) -> Result<(), E> {
        let slot = self.slots[..self.writable][index];
        let mut change = |bits| Ok(slot.form.ordered(change(slot.form.ordered(bits))?));
        macro_rules! update {
            ($atomic:ident, $integer:ident) => {
                // SAFETY: within the mapping, and writable.
                unsafe {
                    access!(
                        slot.address,
                        $atomic,
                        $integer,
                        |number| {
                            let mut old = number.load(Ordering::Relaxed);
                            loop {
                                let new = change(old.into())? as $integer;
                                match number.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                                    Ok(_) => return Ok(()),
                                    Err(now) => old = now,
                                }
                            }
                        },
                        |address| {
                            store_unaligned(address, change(load_unaligned(address).into())? as $integer);
                            Ok(())
                        }
                    )
                }
            };
        }
        match slot.form.size {
            8 => update!(AtomicU64, u64),
            4 => update!(AtomicU32, u32),
            2 => update!(AtomicU16, u16),
            _ => update!(AtomicU8, u8),
        }
    }

    /// Where a number is in this process's memory.
    pub(crate) fn address(&self, index: usize) -> *mut u8 {
        self.slots[index].address
    }
}

impl Slot {
    /// `None` when it does not lie within the mapping.
    fn new(raw: &MmapRaw, place: Place) -> Option<Self> {
        let form = Form::of(place);
        let is_inside = place.at <= raw.len() && usize::from(form.size) <= raw.len() - place.at;
        let address = raw.as_mut_ptr().wrapping_add(place.at);
        let is_long = form == Form { size: 8, swapped: false };
        let is_word = is_long && address.cast::<u64>().is_aligned();
        is_inside.then_some(Self { address, limit: place.limit, form, is_long, is_word })
    }
}

impl Form {
    fn of(place: Place) -> Self {
        assert!(matches!(place.size, 1 | 2 | 4 | 8));
        Self { size: place.size as u8, swapped: place.big_endian != cfg!(target_endian = "big") }
    }

    /// The bits of a number.
    ///
    /// # Safety
    /// `address` is that of such a number in memory that is mapped.
    #[inline]
    unsafe fn load(self, address: *mut u8) -> u64 {
        macro_rules! load {
            ($atomic:ident, $integer:ident) => {
                // SAFETY: the caller's promise.
                unsafe {
                    access!(address, $atomic, $integer, |number| number.load(Ordering::Relaxed), |address| {
                        load_unaligned(address)
                    })
                }
                .into()
            };
        }
        self.ordered(match self.size {
            8 => load!(AtomicU64, u64),
            4 => load!(AtomicU32, u32),
            2 => load!(AtomicU16, u16),
            _ => load!(AtomicU8, u8),
        })
    }

    /// The same of memory that this process does not write through this mapping: without a look at its alignment, since
    /// the instruction is the same.
    ///
    /// # Safety
    /// As [`Form::load`].
    #[inline(always)]
    unsafe fn load_elsewhere(self, address: *mut u8) -> u64 {
        // SAFETY: the caller's promise.
        let bits = unsafe {
            match self.size {
                8 => address.cast::<u64>().read_unaligned(),
                4 => address.cast::<u32>().read_unaligned().into(),
                2 => address.cast::<u16>().read_unaligned().into(),
                _ => address.read().into(),
            }
        };
        self.ordered(bits)
    }

    /// Stores the lowest bytes of `bits`.
    ///
    /// # Safety
    /// `address` is that of such a number in memory that is mapped for writing.
    #[inline(never)] // so that the caller, which has a shorter way for most, stays small
    unsafe fn store(self, address: *mut u8, bits: u64) {
        let bits = self.ordered(bits);
        macro_rules! store {
            ($atomic:ident, $integer:ident) => {
                // SAFETY: the caller's promise.
                unsafe {
                    access!(
                        address,
                        $atomic,
                        $integer,
                        |number| number.store(bits as $integer, Ordering::Relaxed),
                        |address| store_unaligned(address, bits as $integer)
                    )
                }
            };
        }
        match self.size {
            8 => store!(AtomicU64, u64),
            4 => store!(AtomicU32, u32),
            2 => store!(AtomicU16, u16),
            _ => store!(AtomicU8, u8),
        }
    }

    /// From this machine's order to the number's, or back.
    #[inline]
    fn ordered(self, bits: u64) -> u64 {
        if self.swapped { bits.swap_bytes() >> (64 - 8 * u32::from(self.size)) } else { bits }
    }
}
