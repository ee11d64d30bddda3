//! Pickles as data. Python runs a pickle as a program, whose calls may do anything; here a call is a note that names
//! what is called, from a short list, and never runs.
//!
//! ```text
//! machine  the bytes become notes: opcodes, stack and memo, and the list of what may be named
//! read     the notes become values
//! write    values become bytes
//! ```

mod machine;
mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;

/// Bytes of a pickle, at most.
const MAX_BYTES: usize = super::MAX_BYTES;
/// Opcodes of a pickle, at most: they bound the notes.
const MAX_OPCODES: usize = 1 << 20;
