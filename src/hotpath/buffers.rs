//! The receive buffers: one region cut into slots of one size, each at any moment the kernel's or the caller's.

use super::error::{Error, Result};
use super::options::Options;
use crate::sys::Region;

/// Marks a slot that the caller does not hold.
const KERNELS: u32 = u32::MAX;
/// Marks one whose bytes are being sent; lengths are below it.
const LENT: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Buffers {
    region: Region,
    buf_size: u32,
    /// Bytes received into each slot that the caller holds, else [`KERNELS`].
    received: Box<[u32]>,
    held: u32,
}

impl Buffers {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let len = options.pool_len()?;
        let region =
            Region::new(len).map_err(|e| Error::system("mapping n_bufs receive buffers of buf_size bytes", e))?;
        let received = vec![KERNELS; options.n_bufs as usize].into_boxed_slice();
        Ok(Self { region, buf_size: options.buf_size, received, held: 0 })
    }

    pub(super) fn base(&self) -> *const u8 {
        self.region.base()
    }

    pub(super) fn buf_size(&self) -> u32 {
        self.buf_size
    }

    pub(super) fn count(&self) -> u32 {
        self.received.len() as u32
    }

    /// Slots that the caller holds.
    pub(super) fn held_count(&self) -> u32 {
        self.held
    }

    /// Address of a slot, for the kernel.
    pub(super) fn address(&self, id: u16) -> *mut u8 {
        debug_assert!(u32::from(id) < self.count());
        self.region.base().wrapping_add(id as usize * self.buf_size as usize)
    }

    /// The kernel has put `len` bytes into this slot: it is the caller's now.
    pub(super) fn take(&mut self, id: u16, len: u32) {
        debug_assert_eq!(self.received[id as usize], KERNELS, "the kernel filled a buffer that it did not have");
        self.received[id as usize] = len;
        self.held += 1;
    }

    /// Takes a slot back from the caller; it must be given to the kernel next.
    pub(super) fn release(&mut self, id: i32) -> Result<u16> {
        let slot = self.held(id)?;
        Ok(self.take_back(slot))
    }

    /// Gives the bytes of a held slot to a send: until that is finished, nobody else may release it.
    pub(super) fn lend(&mut self, id: i32) -> Result<()> {
        let slot = self.held(id)?;
        self.received[slot] |= LENT;
        Ok(())
    }

    /// Takes a lent slot back; it must be given to the kernel next.
    pub(super) fn end_loan(&mut self, id: u16) -> u16 {
        debug_assert!(self.received[id as usize] & LENT != 0);
        self.take_back(id as usize)
    }

    fn take_back(&mut self, slot: usize) -> u16 {
        self.received[slot] = KERNELS;
        self.held -= 1;
        slot as u16
    }

    /// Where the received bytes are, and how many.
    pub(super) fn received(&self, id: i32) -> Result<(*const u8, u32)> {
        let slot = self.full(id)?;
        Ok((self.address(slot as u16), self.received[slot] & !LENT))
    }

    /// A slot that is the caller's alone.
    pub(super) fn held(&self, id: i32) -> Result<usize> {
        let slot = self.full(id)?;
        if self.received[slot] & LENT != 0 { Err(Error::Lent(id)) } else { Ok(slot) }
    }

    /// A slot that holds received bytes.
    fn full(&self, id: i32) -> Result<usize> {
        match usize::try_from(id).ok().and_then(|slot| self.received.get(slot)) {
            None => Err(Error::Argument {
                name: "buf_id",
                value: id.into(),
                must: "the number of a buffer, 0 to n_bufs - 1",
            }),
            Some(&KERNELS) => Err(Error::NotHeld(id)),
            Some(_) => Ok(id as usize),
        }
    }
}
