//! The one status space: 0 and above is success or a count, -1 to -4095 is `-errno`, and what errno has
//! no word for lies below.

/// A panic was caught at the ABI: a bug in this library.
pub const SHMHOT_EPANIC: i32 = -4096;
/// The handle belongs to another thread.
pub const SHMHOT_ETHREAD: i32 = -4097;
/// The handle was made before a fork, and this is the child.
pub const SHMHOT_EFORK: i32 = -4098;
/// The handle met a failure it cannot recover from, or was given up by its user.
pub const SHMHOT_EUNHEALTHY: i32 = -4099;

/// A failure that has a number for programs; its `Display` is the sentence for people.
pub trait Failure: std::fmt::Display {
    /// The status, always negative.
    fn status(&self) -> i32;
}
