//! Telling a forked child from its parent for the price of a load.
//!
//! One page of the process is marked `MADV_WIPEONFORK`: a child finds zero where its parent wrote a number.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Last number that any process of this family took; a child inherits it and goes on from there.
static LAST: AtomicU32 = AtomicU32::new(0);

/// The process that made something: its forked children are others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessEpoch {
    /// What a fork sets to zero in the child.
    word: &'static AtomicU32,
    epoch: u32,
}

impl ProcessEpoch {
    /// That of this process.
    pub(crate) fn current() -> Self {
        static WORD: OnceLock<&'static AtomicU32> = OnceLock::new();
        let word = *WORD.get_or_init(|| wiped_page().unwrap_or_else(handled_word));
        let epoch = match word.load(Ordering::Relaxed) {
            0 => take(word),
            epoch => epoch,
        };
        Self { word, epoch }
    }

    /// Whether this process is still the one; not in a child, which finds a zero there or a number of its own.
    #[inline(always)]
    pub(crate) fn is_current(self) -> bool {
        self.word.load(Ordering::Relaxed) == self.epoch
    }
}

/// A number for this process, never 0.
#[cold]
fn take(word: &AtomicU32) -> u32 {
    let fresh = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
    match word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(taken) => taken, // another thread of this process was faster
    }
}

/// For kernels before 4.14, which wipe no pages: a handler does it.
fn handled_word() -> &'static AtomicU32 {
    static WORD: AtomicU32 = AtomicU32::new(0);
    extern "C" fn in_child() {
        WORD.store(0, Ordering::Relaxed);
    }
    // SAFETY: the handler stores an atomic, and the C library forgets it with this library.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    &WORD
}

fn wiped_page() -> Option<&'static AtomicU32> {
    // SAFETY: a fresh anonymous mapping that is never unmapped, so the reference may live forever; it is
    // page-aligned, zeroed and only reached through the atomic.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(page, 4096, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(page, 4096);
            return None;
        }
        Some(&*page.cast::<AtomicU32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_another_epoch() {
        let parent = ProcessEpoch::current();
        assert!(parent.is_current() && ProcessEpoch::current().is_current());
        // SAFETY: the child only loads atomics and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let other = !parent.is_current() && ProcessEpoch::current().is_current() && !parent.is_current();
            // SAFETY: ends the child without running the test harness's destructors.
            unsafe { libc::_exit(if other { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
        assert!(parent.is_current());
    }
}
