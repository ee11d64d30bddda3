//! Telling a forked child from its parent for the price of a load.
//!
//! One page of the process is marked `MADV_WIPEONFORK`: a child finds zero where its parent wrote a number.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Last number that any process of this family took; a child inherits it and goes on from there.
static LAST: AtomicU32 = AtomicU32::new(0);

/// A number that differs between a process and the children it forks. Never 0.
pub(crate) fn process_epoch() -> u32 {
    static PAGE: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    match PAGE.get_or_init(wiped_page) {
        Some(word) => match word.load(Ordering::Relaxed) {
            0 => take(word),
            epoch => epoch,
        },
        None => std::process::id(), // no such page on this kernel: a system call does
    }
}

#[cold]
fn take(word: &AtomicU32) -> u32 {
    let fresh = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
    match word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(taken) => taken, // another thread of this process was faster
    }
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
        let parent = process_epoch();
        assert_eq!(parent, process_epoch());
        // SAFETY: the child only loads atomics and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let other = process_epoch() != parent && process_epoch() == process_epoch();
            // SAFETY: ends the child without running the test harness's destructors.
            unsafe { libc::_exit(if other { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
        assert_eq!(parent, process_epoch());
    }
}
