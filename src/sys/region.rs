//! Zeroed, page-aligned memory that a forked child does not get.

use std::io;
use std::ptr::NonNull;

use super::ProcessEpoch;

/// Memory that the kernel may write at any time, so it is reached by pointers only.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    epoch: ProcessEpoch,
}

// SAFETY: a mapping belongs to the process, not to a thread, and this type gives out no references.
unsafe impl Send for Region {}
// SAFETY: as above: `&Region` allows reading the address and nothing else.
unsafe impl Sync for Region {}

impl Region {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let region = Self {
            base: NonNull::new(base.cast()).expect("mmap does not give page 0"),
            len,
            epoch: ProcessEpoch::current(),
        };
        // SAFETY: the range mapped above.
        if unsafe { libc::madvise(base, len, libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(region)
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // In a child the range was never mapped, and may be somebody else's by now.
        if self.epoch.is_current() {
            // SAFETY: the range mapped in `new`, which nothing points into any more.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        }
    }
}
