//! Numbers in memory that another process may write at any moment, at any offset, aligned or not.
//!
//! An aligned number is atomic. One that is not is loaded and stored by a single instruction, which is whole unless it
//! crosses a cache line; a locked instruction across one would stop the machine for a thousand times as long.

use std::io;
use std::sync::Arc;
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
    _raw: Arc<MmapRaw>,
}

/// A file whose numbers are found in many places.
#[derive(Debug)]
pub(crate) struct Numbers(Arc<MmapRaw>);

impl Numbers {
    pub(crate) fn new(segment: &Segment, len: usize) -> io::Result<Self> {
        map(segment, 0, len, Access::Read).map(|raw| Self(Arc::new(raw)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Some of them, for reading; `None` when one does not lie within.
    pub(crate) fn slots(&self, places: impl Iterator<Item = Place>) -> Option<Slots> {
        let slots = places.map(|place| Slot::new(&self.0, place)).collect::<Option<_>>()?;
        Some(Slots { slots, writable: 0, _raw: self.0.clone() })
    }
}

/// A number of 1, 2, 4 or 8 bytes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    address: *mut u8,
    /// Up to here an unsigned number is stored as it is.
    limit: u64,
    size: u8,
    /// Its bytes are in the other order than this machine's.
    swapped: bool,
    /// Eight bytes, aligned, in this machine's order.
    is_word: bool,
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

/// An aligned number as an atomic, or the address of one that is not.
macro_rules! access {
    ($slot:expr, $atomic:ident, $integer:ident, |$number:ident| $aligned:expr, |$address:ident| $unaligned:expr) => {{
        let $address = $slot.address.cast::<$integer>();
        if $address.is_aligned() {
            // SAFETY: `Slots::new` has seen that it lies within the mapping, which lives as long as the slots.
            let $number = unsafe { $atomic::from_ptr($address) };
            $aligned
        } else {
            $unaligned
        }
    }};
}

/// Has the compiler believe that memory is read and written elsewhere now, so that it neither drops nor delays what
/// stands before. There is no volatile access to what is not aligned.
#[inline(always)]
fn seen_by_others<T>(address: *mut T) -> *mut T {
    std::hint::black_box(address)
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
        Ok(Self { slots, writable, _raw: Arc::new(raw) })
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
            slot.store(value);
        }
        true
    }

    /// The bits of a number, in the lowest bytes and in this machine's order.
    #[inline]
    pub(crate) fn load(&self, index: usize) -> u64 {
        self.slots[index].load()
    }

    /// The bits of all numbers.
    #[inline]
    pub(crate) fn loads(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|slot| {
            if slot.is_word {
                // SAFETY: within the mapping, and aligned.
                return unsafe { AtomicU64::from_ptr(slot.address.cast()) }.load(Ordering::Relaxed);
            }
            slot.load()
        })
    }

    /// Stores the lowest bytes of `bits`, if the part is mapped for that.
    pub(crate) fn store(&self, index: usize, bits: u64) {
        self.slots[..self.writable][index].store(bits);
    }

    /// Replaces a number by what `change` makes of it: at once if it is aligned; if not, others may come between.
    pub(crate) fn update<E>(&self, index: usize, mut change: impl FnMut(u64) -> Result<u64, E>) -> Result<(), E> {
        let slot = self.slots[..self.writable][index];
        let mut change = |bits| Ok(slot.ordered(change(slot.ordered(bits))?));
        macro_rules! update {
            ($atomic:ident, $integer:ident) => {
                access!(
                    slot,
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
                    // SAFETY: within the mapping, and writable.
                    |address| unsafe {
                        store_unaligned(address, change(load_unaligned(address).into())? as $integer);
                        Ok(())
                    }
                )
            };
        }
        match slot.size {
            1 => update!(AtomicU8, u8),
            2 => update!(AtomicU16, u16),
            4 => update!(AtomicU32, u32),
            _ => update!(AtomicU64, u64),
        }
    }

    /// Where a number is in this process's memory.
    pub(crate) fn address(&self, index: usize) -> *mut u8 {
        self.slots[index].address
    }
}

impl Slot {
    /// `None` when it does not lie within the mapping.
    #[inline]
    fn new(raw: &MmapRaw, Place { at, size, big_endian, limit }: Place) -> Option<Self> {
        let is_inside = matches!(size, 1 | 2 | 4 | 8) && at <= raw.len() && size <= raw.len() - at;
        let address = raw.as_mut_ptr().wrapping_add(at);
        let swapped = big_endian != cfg!(target_endian = "big");
        let is_word = size == 8 && !swapped && address.cast::<u64>().is_aligned();
        is_inside.then_some(Self { address, limit, size: size as u8, swapped, is_word })
    }

    fn load(&self) -> u64 {
        macro_rules! load {
            ($atomic:ident, $integer:ident) => {
                // SAFETY: within the mapping.
                access!(self, $atomic, $integer, |number| number.load(Ordering::Relaxed), |address| unsafe {
                    load_unaligned(address)
                })
                .into()
            };
        }
        self.ordered(match self.size {
            1 => load!(AtomicU8, u8),
            2 => load!(AtomicU16, u16),
            4 => load!(AtomicU32, u32),
            _ => load!(AtomicU64, u64),
        })
    }

    /// Of a slot that is writable.
    #[inline(never)]
    fn store(&self, bits: u64) {
        let bits = self.ordered(bits);
        macro_rules! store {
            ($atomic:ident, $integer:ident) => {
                access!(
                    self,
                    $atomic,
                    $integer,
                    |number| number.store(bits as $integer, Ordering::Relaxed),
                    |address| {
                        // SAFETY: within the mapping, and writable.
                        unsafe { store_unaligned(address, bits as $integer) }
                    }
                )
            };
        }
        match self.size {
            1 => store!(AtomicU8, u8),
            2 => store!(AtomicU16, u16),
            4 => store!(AtomicU32, u32),
            _ => store!(AtomicU64, u64),
        }
    }

    /// From this machine's order to the number's, or back.
    #[inline]
    fn ordered(&self, bits: u64) -> u64 {
        if self.swapped { bits.swap_bytes() >> (64 - 8 * u32::from(self.size)) } else { bits }
    }
}
