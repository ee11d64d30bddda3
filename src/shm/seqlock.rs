//! A block of words that readers see as it was between two updates, and whose writer never waits.
//!
//! The upper half of the block's first word is the sequence number, odd during an update. Loads and stores are relaxed;
//! four fences order them, and none of the four can be left out (`model` shows it):
//!
//! ```text
//! writer                              reader
//! sequence := odd                     sequence?  even: go on
//! release  WriteBegin ----.    .----> acquire  ReadBegin
//! words                    \  /       words
//! release  WriteEnd -------------'
//! sequence := even           \
//!                             '-----> acquire  ReadEnd
//!                                     sequence?  the same: whole
//! ```
//!
//! - A reader that sees a sequence also sees all that was stored before it (`WriteEnd`, `ReadBegin`).
//! - A reader that sees a word of an update will see that its sequence was odd, or has moved on (`WriteBegin`,
//!   `ReadEnd`).
//!
//! A writer that died in an update leaves an odd sequence: readers give up after a bounded time, and the next writer
//! takes it over as its own.

use super::words::{Fence, ReadWords, WriteWords};

/// The sequence number in a block's first word.
pub(crate) const fn sequence(first: u64) -> u32 {
    (first >> 32) as u32
}

const fn with_sequence(first: u64, sequence: u32) -> u64 {
    (first & 0xffff_ffff) | (sequence as u64) << 32
}

/// One attempt to read the `N` words from `at`, and something else between them: `None` beside an update.
#[inline]
pub(crate) fn try_read<const N: usize, M: ReadWords, T>(
    memory: &M,
    at: usize,
    between: impl FnOnce() -> T,
) -> Result<Option<([u64; N], T)>, M::Error> {
    let [first] = memory.load(at)?;
    if sequence(first) & 1 == 1 {
        return Ok(None);
    }
    memory.acquire(Fence::ReadBegin); // pairs with WriteEnd: the words are at least as new as the sequence
    let words = memory.load(at)?;
    let value = between();
    memory.acquire(Fence::ReadEnd); // pairs with WriteBegin: the sequence is at least as new as the words
    let [again] = memory.load(at)?;
    Ok((again == first).then_some((words, value)))
}

/// Replaces the block from `at` by `words`, whose sequence number does not matter. There is one writer at a time.
///
/// Returns the new sequence number.
#[inline]
pub(crate) fn write<M: WriteWords>(memory: &M, at: usize, words: &[u64]) -> u32 {
    let Ok([first]) = memory.load(at);
    let odd = sequence(first) | 1; // it is odd already if the last writer has died in an update
    let even = odd.wrapping_add(1);
    memory.store(at, with_sequence(first, odd));
    memory.release(Fence::WriteBegin); // pairs with ReadEnd
    for (i, &word) in words.iter().enumerate().skip(1) {
        memory.store(at + i, word);
    }
    memory.release(Fence::WriteEnd); // pairs with ReadBegin
    memory.store(at, with_sequence(words[0], even));
    even
}
