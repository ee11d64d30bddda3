//! The floor of system calls: each module is a safe face over one kernel facility.
#![allow(unsafe_code)]

mod clock;
pub(crate) mod counter;
mod eventfd;
mod file;
mod fork;
mod futex;
mod kernel_clock;
mod poll;
mod process;
mod region;
mod socket;
mod thread;

pub(crate) use clock::{Clock, coarse_realtime};
pub(crate) use eventfd::EventFd;
pub(crate) use file::{allocate, effective_user, link_open_file, lock};
pub(crate) use fork::ProcessEpoch;
pub(crate) use futex::{futex_wait, futex_wake_all, nap};
pub(crate) use kernel_clock::{Discipline, KernelClock, KernelLeap};
pub(crate) use poll::{Polled, poll};
pub(crate) use process::ProcessId;
pub(crate) use region::Region;
pub(crate) use socket::{close, is_open, shutdown_write};
pub(crate) use thread::thread_number;
