//! The one status space: 0 and above is success or a count, -1 to -4095 is `-errno`, and what errno has
//! no word for lies below.

use std::fmt;

/// A panic was caught at the ABI: a bug in this library.
pub const SHMHOT_EPANIC: i32 = -4096;
/// The handle belongs to another thread.
pub const SHMHOT_ETHREAD: i32 = -4097;
/// The handle was made before a fork, and this is the child.
pub const SHMHOT_EFORK: i32 = -4098;
/// The handle met a failure it cannot recover from, or was given up by its user.
pub const SHMHOT_EUNHEALTHY: i32 = -4099;

/// The words of the C library for an `errno`.
pub(crate) struct Errno(pub(crate) i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text)) // std adds the number
    }
}

/// A failure that has a number for programs; its `Display` is the sentence for people.
pub trait Failure: fmt::Display {
    /// The status, always negative.
    fn status(&self) -> i32;
}
