//! A number for each thread that no later thread gets again (addresses and kernel ids come back).

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The calling thread's number; never 0.
pub(crate) fn thread_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local!(static MINE: Cell<u64> = const { Cell::new(0) });
    MINE.with(|mine| match mine.get() {
        0 => {
            let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            mine.set(number);
            number
        }
        number => number,
    })
}
