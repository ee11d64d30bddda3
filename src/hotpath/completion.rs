//! What a wait gives: the 24-byte record, its kinds and its flags.
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | u8 | `op_kind` |
//! | 1 | | zero |
//! | 4 | i32 | `fd` |
//! | 8 | i64 | `result` |
//! | 16 | i32 | `buf_id` |
//! | 20 | u32 | `flags` |

use static_assertions::const_assert_eq;

/// One thing that happened.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What it is: a `HOTPATH_OP_*`.
    pub op_kind: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// The descriptor it concerns (of an accept: the listener), or -1.
    pub fd: i32,
    /// What came of it, as the operation says, or -errno.
    pub result: i64,
    /// The buffer that holds the received bytes until it is released, or -1.
    pub buf_id: i32,
    /// `HOTPATH_F_*`.
    pub flags: u32,
}

const_assert_eq!(size_of::<Completion>(), 24);
const_assert_eq!(std::mem::offset_of!(Completion, fd), 4);
const_assert_eq!(std::mem::offset_of!(Completion, result), 8);
const_assert_eq!(std::mem::offset_of!(Completion, buf_id), 16);
const_assert_eq!(std::mem::offset_of!(Completion, flags), 20);

impl Completion {
    pub(super) fn new(op_kind: OpKind, fd: i32, result: i64) -> Self {
        Self { op_kind: op_kind as u8, reserved: [0; 3], fd, result, buf_id: -1, flags: 0 }
    }

    pub(super) fn with_flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    pub(super) fn with_buffer(self, buf_id: u16) -> Self {
        Self { buf_id: i32::from(buf_id), ..self }
    }
}

/// Kinds of completions, and what their `result` is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// The accepted socket.
    Accept = 1,
    /// Bytes received, 0 at the end of the stream.
    Recv = 2,
    /// Bytes sent: all of the submission.
    Send = 3,
    /// 0 when the descriptor is closed.
    Close = 4,
    /// 0 when connected.
    Connect = 5,
    /// The caller's id.
    Timeout = 6,
    /// 0.
    Wake = 7,
    /// 0 when everything queued and the end of the stream were sent.
    Shutdown = 8,
    /// The number of connections that are still open.
    Drain = 9,
}

/// `buf_id` names a buffer.
pub const F_BUFFER: u32 = 1 << 0;
/// The submission goes on by itself.
pub const F_MORE: u32 = 1 << 1;
/// The connection of this send had ended before; its descriptor number may be somebody else's by now. The kernel
/// keeps the buffer's number, below 2^15, in the flags' upper half, so this bit is free.
pub const F_ENDED: u32 = 1 << 31;
