//! The floor of system calls: each module is a safe face over one kernel facility.
#![allow(unsafe_code)]

mod clock;
mod eventfd;
mod fork;
mod region;
mod socket;
mod thread;

pub(crate) use clock::Clock;
pub(crate) use eventfd::EventFd;
pub(crate) use fork::process_epoch;
pub(crate) use region::Region;
pub(crate) use socket::{close, is_open, shutdown_write};
pub(crate) use thread::thread_number;
