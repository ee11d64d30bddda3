//! The ring through which free receive buffers reach the kernel.

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::GROUP;
use crate::hotpath::buffers::Buffers;
use crate::hotpath::error::{Error, Result};
use crate::sys::Region;

pub(super) struct BufferRing {
    region: Region,
    tail: u16,
    mask: u16,
}

impl BufferRing {
    /// Registers the ring and gives the kernel all buffers.
    pub(super) fn new(ring: &IoUring, buffers: &Buffers) -> Result<Self> {
        let count = buffers.count();
        let len = count as usize * size_of::<BufRingEntry>();
        let region = Region::new(len).map_err(|e| Error::system("mapping the buffer ring", e))?;
        // SAFETY: the region holds `count` entries, is page-aligned, and is unmapped after the io_uring is closed
        // (see the order of fields in `Uring`).
        unsafe { ring.submitter().register_buf_ring_with_flags(region.base() as u64, count as u16, GROUP, 0) }
            .map_err(|e| Error::system("registering the buffer ring", e))?;
        let mut this = Self { region, tail: 0, mask: (count - 1) as u16 };
        for id in 0..count {
            this.give(buffers, id as u16);
        }
        Ok(this)
    }

    pub(super) fn give(&mut self, buffers: &Buffers, id: u16) {
        let entries = self.region.base().cast::<BufRingEntry>();
        // SAFETY: the masked index is inside the region. The kernel does not read an entry before the tail has
        // passed it, and this value is the only writer.
        unsafe {
            let entry = &mut *entries.add((self.tail & self.mask) as usize);
            entry.set_addr(buffers.address(id) as u64);
            entry.set_len(buffers.buf_size());
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies inside the first entry, aligned; the kernel only loads it.
        let tail = unsafe { &*BufRingEntry::tail(entries).cast::<AtomicU16>() };
        // Pairs with the kernel's acquire load of the tail: the entry is complete before it can be seen.
        tail.store(self.tail, Ordering::Release);
    }
}
