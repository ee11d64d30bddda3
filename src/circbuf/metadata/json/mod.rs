//! Metadata as JSON, the form in which it crosses the C ABI. docs/circbuf.md describes it.

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;
