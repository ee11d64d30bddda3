//! A socket ring on io_uring: accepts, receives, sends, connects and closes are queued, go to the kernel together, and
//! come back as 24-byte completions.
//!
//! ```text
//! shared       the handle: one thread, one process
//! ring         the wait, and around it
//!   commands              what a caller wishes
//!   reconcile             from wishes to operations
//!   answers, deadlines    from what happens to completions
//!   connections, token    generations of descriptor numbers
//!   outbox                what waits to be sent, in order and whole
//!   buffers               what was received
//!   timers, waker, stats
//! uring        the backend: operations in, events out
//! probe        what the kernel offers
//! ```

mod buffers;
mod completion;
mod connections;
mod error;
mod options;
mod outbox;
mod probe;
mod ring;
mod shared;
mod stats;
mod timers;
mod token;
mod uring;
mod waker;

pub use completion::{Completion, F_BUFFER, F_ENDED, F_MORE, OpKind};
pub use error::{Error, Result};
pub use options::Options;
pub use outbox::Segment;
pub use probe::{Features, probe, supported};
pub use ring::Ring;
pub use shared::SharedRing;
pub use stats::Stats;
pub use waker::Waker;
