//! Counters of a ring, since it was made.

/// What a ring has done so far. Counts, but for the three last, which are as of now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Calls of io_uring_enter, and the few reads, writes and shutdowns beside it.
    pub syscalls: u64,
    /// Operations given to the kernel.
    pub submissions: u64,
    /// Completions taken from the kernel.
    pub completions: u64,
    /// Accepts and receives armed anew after the kernel had ended them.
    pub rearms: u64,
    /// Times that a connection had to wait for a buffer to be released.
    pub starvations: u64,
    /// Completions of ended connections that were dropped.
    pub stale_dropped: u64,
    /// Sends that the kernel took only in part, and that were continued.
    pub short_sends: u64,
    /// Times that a full submission queue was flushed.
    pub queue_full_flushes: u64,
    /// Times that completions overflowed into the kernel's backlog; nothing is lost by it.
    pub cq_overflows: u64,
    /// Sends refused by the bounds on queued bytes.
    pub sends_refused: u64,
    /// Buffers that the caller holds.
    pub buffers_held: u64,
    /// Streams that the ring knows.
    pub connections: u64,
    /// Operations that the kernel has at work.
    pub in_flight: u64,
}
