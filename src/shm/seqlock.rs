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

const ODD: u64 = 1 << 32;
const fn with_sequence(first: u64, sequence: u32) -> u64 {
    (first & 0xffff_ffff) | (sequence as u64) << 32
}

/// A block as it was between two updates.
#[derive(Debug)]
pub(crate) struct Whole<const N: usize, T> {
    /// Its first word, with the sequence number.
    pub(crate) first: u64,
    /// The words after it.
    pub(crate) rest: [u64; N],
    /// What was done between.
    pub(crate) between: T,
}

/// One attempt to read the block from `at`, its first word and `N` more, and something else between: `None` beside an
/// update.
///
/// Nothing is decided before the last load. Beside a writer that hardly pauses, the cache line is whole for a few cycles
/// after it has arrived here, and a branch on the first sequence, mispredicted, takes longer than that.
#[inline(always)]
pub(crate) fn try_read<const N: usize, M: ReadWords, T>(
    memory: &M,
    at: usize,
    between: impl FnOnce() -> T,
) -> Result<Option<Whole<N, T>>, M::Error> {
    let [first] = memory.load(at)?;
    memory.acquire(Fence::ReadBegin); // pairs with WriteEnd: the words are at least as new as the sequence
    let rest = memory.load(at + 1)?;
    let between = between();
    memory.acquire(Fence::ReadEnd); // pairs with WriteBegin: the sequence is at least as new as the words
    let [again] = memory.load(at)?;
    let is_whole = ((first ^ again) | (first & ODD)) == 0;
    Ok(is_whole.then_some(Whole { first, rest, between }))
}

/// Replaces the block from `at` by `words`, whose sequence number does not matter. There is one writer at a time.
///
/// Returns the new sequence number.
#[inline]
pub(crate) fn write<M: WriteWords>(memory: &M, at: usize, words: &[u64]) -> u32 {
    write_with(memory, at, words, || ())
}

/// The same, together with what else readers are to see as one: they look at that in between, too.
#[inline]
pub(crate) fn write_with<M: WriteWords>(memory: &M, at: usize, words: &[u64], between: impl FnOnce()) -> u32 {
    let Ok([first]) = memory.load(at);
    let odd = sequence(first) | 1; // it is odd already if the last writer has died in an update
    let even = odd.wrapping_add(1);
    memory.store(at, with_sequence(first, odd));
    memory.release(Fence::WriteBegin); // pairs with ReadEnd
    for (i, &word) in words.iter().enumerate().skip(1) {
        memory.store(at + i, word);
    }
    between();
    memory.release(Fence::WriteEnd); // pairs with ReadBegin
    memory.store(at, with_sequence(words[0], even));
    even
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::words::Words;

    const LEN: usize = 14;

    /// Memory of this process, as a mapping would give it. The Miri interpreter runs these tests, too.
    fn words(memory: &mut [u64; LEN]) -> Words {
        // SAFETY: aligned, and borrowed by the tests for as long as they use the words.
        unsafe { Words::new(memory.as_mut_ptr(), LEN) }
    }

    #[test]
    fn updates_are_numbered_and_an_odd_one_is_taken_over() {
        let mut memory = [0; LEN];
        let words = words(&mut memory);
        assert_eq!(write(&words, 1, &[7, 1, 2]), 2);
        let Ok(Some(whole)) = try_read::<2, _, _>(&words, 1, || "between") else { panic!("nobody writes") };
        assert_eq!((sequence(whole.first), whole.first as u32, whole.rest, whole.between), (2, 7, [1, 2], "between"));

        words.store(1, with_sequence(7, 3)); // a writer has died
        assert!(matches!(try_read::<2, _, _>(&words, 1, || ()), Ok(None)));
        assert_eq!(write(&words, 1, &[7, 3, 4]), 4);
        words.store(1, with_sequence(7, u32::MAX));
        assert_eq!(write(&words, 1, &[8, 5, 6]), 0, "the number goes round");
        let Ok(Some(whole)) = try_read::<2, _, _>(&words, 1, || ()) else { panic!("nobody writes") };
        assert_eq!((whole.first, whole.rest), (8, [5, 6]));
    }

    #[test]
    fn a_reader_on_another_thread_sees_whole_updates() {
        let updates = if cfg!(miri) { 200 } else { 1_000_000 };
        let mut memory = [0; LEN];
        let words = words(&mut memory);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for update in 1..=updates {
                    write(&words, 0, &[update; LEN]);
                }
            });
            scope.spawn(|| {
                let mut last = 0;
                while last < updates {
                    let Ok(whole) = try_read::<{ LEN - 1 }, _, _>(&words, 0, || ());
                    let Some(whole) = whole else { continue };
                    assert_eq!(whole.rest, [whole.rest[0]; LEN - 1]);
                    assert_eq!(u64::from(sequence(whole.first)), whole.rest[0] * 2);
                    assert!(whole.rest[0] >= last);
                    last = whole.rest[0];
                }
            });
        });
    }

    #[test]
    #[should_panic = "at <= self.len"]
    fn what_lies_outside_is_not_touched() {
        let mut memory = [0; LEN];
        let _ = words(&mut memory).load::<2>(LEN - 1);
    }
}
