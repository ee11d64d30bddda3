//! The parts of a server that must not wait.
//!
//! ```text
//! abi      the C floor: converts, calls, converts back (feature `capi`)
//! hotpath  a socket ring on io_uring
//! sys      the few system calls that no crate gives us
//! ```
//!
//! Dependencies point down. The systems do not know each other, and know nothing of C.

#[cfg(feature = "capi")]
pub mod abi;
pub mod hotpath;
pub mod status;
mod sys;
