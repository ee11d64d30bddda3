//! What the shared-memory systems stand on.
//!
//! ```text
//! segment   files: made whole, opened without surprises, measured before they are mapped
//! mapping   a part of a file as atomic words
//! words     the ways to reach such words, and the fences between
//! seqlock   blocks of words that are read as one, beside a writer
//! patience  a wait that has an end
//! ```
#![allow(unsafe_code)]

mod mapping;
#[cfg(test)]
mod model;
mod patience;
mod segment;
pub(crate) mod seqlock;
mod words;

pub(crate) use mapping::{Access, Mapping};
pub(crate) use patience::Patience;
pub(crate) use segment::{FileWords, Segment};
#[cfg(test)]
pub(crate) use words::{Fence, WriteWords};
pub(crate) use words::{Plain, ReadWords};
