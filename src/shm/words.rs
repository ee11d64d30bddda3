//! Memory that another process may write at any moment: 64-bit words, loaded and stored one by one.
//!
//! Protocols are written against the two traits, so that the same code runs on mapped memory, on a file that is read by
//! system calls, in a model checker, and under a test that stops it between two stores.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Words that can be read. Loads are relaxed: what orders them is said by fences.
pub(crate) trait ReadWords {
    /// Why a load can fail.
    type Error;

    /// Words `at..at + N`, in no particular order.
    fn load<const N: usize>(&self, at: usize) -> Result<[u64; N], Self::Error>;

    /// What was loaded before is not newer than what is loaded after. The `name` is for the model.
    fn acquire(&self, name: Fence);
}

/// Words that can be written. Stores are relaxed.
pub(crate) trait WriteWords: ReadWords<Error = Infallible> {
    /// Writes one word.
    fn store(&self, at: usize, value: u64);

    /// What is stored after is not seen before what was stored before. The `name` is for the model.
    fn release(&self, name: Fence);

    /// Of two threads that each store, call this, and load what the other stores, one sees the other's. The `name` is
    /// for the model.
    fn order(&self, name: Fence);
}

/// The fences of the protocols, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// Seqlock: the writer, after it has made the sequence odd. Partner: `ReadEnd`.
    WriteBegin,
    /// Seqlock: the writer, before it makes the sequence even. Partner: `ReadBegin`.
    WriteEnd,
    /// Seqlock: the reader, after it has seen an even sequence. Partner: `WriteEnd`.
    ReadBegin,
    /// Seqlock: the reader, before it looks at the sequence again. Partner: `WriteBegin`.
    ReadEnd,
    /// Ring: the writer, between its claim and the frames. Partner: `Copied`.
    Claim,
    /// Ring: the writer, between the frames and their publication. Partner: `Committed`.
    Commit,
    /// Ring: the reader, after it has seen what is committed. Partner: `Commit`.
    Committed,
    /// Ring: the reader, between its copy and a look at what is claimed. Partner: `Claim`.
    Copied,
    /// Bell: who rings, between the event and a look for sleepers. Partner: `Sleep`.
    Ring,
    /// Bell: who rings, between clearing the sleepers' word and counting. Partner: `Counted`.
    Cleared,
    /// Bell: who is about to sleep, between the count and saying so. Partner: `Cleared`.
    Counted,
    /// Bell: who is about to sleep, between saying so and a look for events. Partner: `Ring`.
    Sleep,
}

/// Words of this process's address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    first: *const AtomicU64,
    len: usize,
}

// SAFETY: all access is atomic; who makes a `Words` promises that the memory stays.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// # Safety
    /// `first` is aligned to 8, and `len` words from there stay readable for as long as this is used. For
    /// [`WriteWords::store`] they stay writable.
    pub(crate) unsafe fn new(first: *const u64, len: usize) -> Self {
        debug_assert!(first.cast::<AtomicU64>().is_aligned());
        Self { first: first.cast(), len }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.len);
        // SAFETY: within the range that the maker has promised; atomics may be shared.
        unsafe { &*self.first.add(at) }
    }
}

impl ReadWords for Words {
    type Error = Infallible;

    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Result<[u64; N], Infallible> {
        assert!(at <= self.len && N <= self.len - at); // so that `word` need not look at each
        Ok(std::array::from_fn(|i| self.word(at + i).load(Ordering::Relaxed)))
    }

    #[inline]
    fn acquire(&self, _: Fence) {
        fence(Ordering::Acquire);
    }
}

impl WriteWords for Words {
    #[inline]
    fn store(&self, at: usize, value: u64) {
        self.word(at).store(value, Ordering::Relaxed);
    }

    #[inline]
    fn release(&self, _: Fence) {
        fence(Ordering::Release);
    }

    #[inline]
    fn order(&self, _: Fence) {
        fence(Ordering::SeqCst);
    }
}

/// As many words as the program knows: indices that it knows, too, cost no check.
impl<const LEN: usize> ReadWords for [AtomicU64; LEN] {
    type Error = Infallible;

    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Result<[u64; N], Infallible> {
        Ok(std::array::from_fn(|i| self[at + i].load(Ordering::Relaxed)))
    }

    #[inline(always)]
    fn acquire(&self, _: Fence) {
        fence(Ordering::Acquire);
    }
}

impl<const LEN: usize> WriteWords for [AtomicU64; LEN] {
    #[inline(always)]
    fn store(&self, at: usize, value: u64) {
        self[at].store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    fn release(&self, _: Fence) {
        fence(Ordering::Release);
    }

    #[inline(always)]
    fn order(&self, _: Fence) {
        fence(Ordering::SeqCst);
    }
}

/// The lower half of a word.
#[inline]
pub(super) fn lower_half(word: &AtomicU64) -> &AtomicU32 {
    let half = word.as_ptr().cast::<AtomicU32>();
    // SAFETY: within the word. Both halves are accessed together too, which the hardware does not mind.
    unsafe { &*half.add(if cfg!(target_endian = "big") { 1 } else { 0 }) }
}

/// A struct that is `N` words and nothing else.
///
/// # Safety
/// It is `repr(C)`, has no padding, and every bit pattern is valid.
pub(crate) unsafe trait Plain<const N: usize>: Copy {
    /// The struct, as the words that it is.
    #[inline]
    fn words_mut(&mut self) -> &mut [u64; N] {
        const { assert!(size_of::<Self>() == N * 8 && align_of::<Self>() == 8) };
        // SAFETY: as large and as aligned, and every bit pattern is valid, as the trait's implementor promises.
        unsafe { &mut *(&raw mut *self).cast() }
    }

    /// The words that this struct is.
    #[inline]
    fn to_words(&self) -> [u64; N] {
        const { assert!(size_of::<Self>() == N * 8 && align_of::<Self>() == 8) };
        // SAFETY: as large, and all of it is initialized, since it has no padding.
        unsafe { std::mem::transmute_copy(self) }
    }
}
