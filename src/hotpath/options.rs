//! How large a ring is made.

use super::error::{Error, Result};

/// The sizes and bounds of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Entries of the submission queue, 1 to 32768; the kernel rounds up to a power of two.
    pub queue_depth: u32,
    /// Receive buffers, a power of two up to 32768.
    pub n_bufs: u32,
    /// Bytes of one receive buffer.
    pub buf_size: u32,
    /// May be used from any one thread at a time, at the cost of the kernel's single-issuer optimisations.
    pub any_thread: bool,
    /// Bytes that may wait to be sent on one connection. A send that finds nothing queued is always taken.
    pub max_queued_bytes: u64,
    /// Bytes that may wait to be sent on all connections together.
    pub max_queued_total: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_depth: 1024,
            n_bufs: 512,
            buf_size: 8192,
            any_thread: false,
            max_queued_bytes: 8 << 20,
            max_queued_total: 256 << 20,
        }
    }
}

/// The kernel's limit for both queues of entries and of buffers.
const MAX_ENTRIES: u32 = 32768;
/// What one receive may bring: results are 32-bit in the kernel.
const MAX_BUF_SIZE: u32 = 1 << 30;

impl Options {
    /// Bytes of all receive buffers, if the sizes are good.
    pub(super) fn pool_len(&self) -> Result<usize> {
        let argument = |name, value: u32, must| Err(Error::Argument { name, value: value.into(), must });
        if !(1..=MAX_ENTRIES).contains(&self.queue_depth) {
            return argument("queue_depth", self.queue_depth, "1 to 32768");
        }
        if !self.n_bufs.is_power_of_two() || self.n_bufs > MAX_ENTRIES {
            return argument("n_bufs", self.n_bufs, "a power of two, 1 to 32768");
        }
        if !(1..=MAX_BUF_SIZE).contains(&self.buf_size) {
            return argument("buf_size", self.buf_size, "1 to 1073741824 bytes");
        }
        let len = (self.n_bufs as usize).checked_mul(self.buf_size as usize);
        len.filter(|&len| isize::try_from(len).is_ok()).ok_or(Error::Argument {
            name: "buf_size",
            value: self.buf_size.into(),
            must: "small enough that n_bufs of them fit into the address space",
        })
    }
}
