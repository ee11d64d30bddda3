//! The counters of a ring that one writes and any number read, none of whom waits.
//!
//! Two words: how many frames were ever claimed, and how many committed. Frame `f` of a ring of `n` lies where frame
//! `f - n` has been; what is claimed may be touched at any moment.
//!
//! ```text
//! writer                              reader
//! claimed := more                     committed?  frames a .. b are there if b <= committed
//! release  Claim -------.    .------> acquire  Committed
//! frames                 \  /         copy of a .. b
//! release  Commit ------------'
//! committed := claimed     \
//!                           '-------> acquire  Copied
//!                                     claimed?  the copy is whole if a >= claimed - n
//! ```
//!
//! - A reader that sees a number of committed frames sees these frames (`Commit`, `Committed`).
//! - A reader that has copied a byte of a newer frame will see that it was claimed (`Claim`, `Copied`).
//!
//! One counter could not do: while frames are being overwritten it still says that the old ones are there.

use super::words::{Fence, ReadWords, WriteWords};

/// Where the words are, from that of the ring.
const CLAIMED: usize = 0;
const COMMITTED: usize = 1;

/// Says that frames up to this number, less one, may be touched from now on.
#[inline(always)]
pub(crate) fn claim<M: WriteWords>(memory: &M, at: usize, claimed: u64) {
    memory.store(at + CLAIMED, claimed);
    memory.release(Fence::Claim); // pairs with Copied
}

/// Says that frames up to this number, less one, are there, after what `publish` stores.
#[inline(always)]
pub(crate) fn commit<M: WriteWords>(memory: &M, at: usize, committed: u64, publish: impl FnOnce()) {
    memory.release(Fence::Commit); // pairs with Committed
    publish();
    memory.store(at + COMMITTED, committed);
}

/// How many frames have been committed: these can be copied.
#[inline(always)]
pub(crate) fn committed<M: ReadWords>(memory: &M, at: usize) -> Result<u64, M::Error> {
    let [committed] = memory.load(at + COMMITTED)?;
    memory.acquire(Fence::Committed); // pairs with Commit
    Ok(committed)
}

/// How many frames have been claimed, after a copy: what it has of frames older than this by the ring's length is lost.
#[inline(always)]
pub(crate) fn claimed<M: ReadWords>(memory: &M, at: usize) -> Result<u64, M::Error> {
    memory.acquire(Fence::Copied); // pairs with Claim
    let [claimed] = memory.load(at + CLAIMED)?;
    Ok(claimed)
}
