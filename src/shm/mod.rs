//! What the shared-memory systems stand on.
//!
//! ```text
//! segment   files: made whole, opened without surprises, measured before they are mapped
//! lock      keeps their writers apart
//! mapping   a part of a file as atomic words
//! words     the ways to reach such words, and the fences between
//! slots     a part of a file as numbers of any size, at any offset
//! seqlock   blocks of words that are read as one, beside a writer
//! bytes     a file as bytes to be copied
//! laps      the counters of a ring of such bytes
//! bell      sleeping until another process has done something
//! patience  a wait that has an end
//! turn      what threads use one after the other
//! ```
#![allow(unsafe_code)]

mod bell;
mod bytes;
pub(crate) mod laps;
mod lock;
mod mapping;
#[cfg(test)]
mod model;
mod patience;
mod segment;
pub(crate) mod seqlock;
mod slots;
mod turn;
mod words;

pub(crate) use bell::Bell;
pub(crate) use bytes::{Bytes, Pen, Room};
pub(crate) use lock::Lock;
pub(crate) use mapping::{Access, Fixed, Mapping};
pub(crate) use patience::Patience;
pub(crate) use segment::{FileWords, Segment};
pub(crate) use slots::{Numbers, Place, Shape, Slots};
pub(crate) use turn::{Turn, Turns};
#[cfg(test)]
pub(crate) use words::Fence;
pub(crate) use words::{Plain, ReadWords, WriteWords};
