//! The parts of a server that must not wait.
//!
//! ```text
//! abi      the C floor: converts, calls, converts back (feature `capi`)
//! circbuf  signals in a ring of frames
//! hotpath  a socket ring on io_uring
//! observer utilization metrics
//! vmclock  the hypervisor's clock, and time with a bound
//! shm      what shared memory stands on: mappings, words, seqlock
//! sys      the few system calls that no crate gives us
//! ```
//!
//! Dependencies point down. The systems do not know each other, and know nothing of C.
//!
//! Other systems than Linux have the C calls, each of which answers `-ENOSYS`. `--cfg shmhot_absent` builds that on
//! Linux too.

#[cfg(feature = "capi")]
pub mod abi;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
pub mod circbuf;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
pub mod hotpath;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
pub mod observer;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
mod shm;
pub mod status;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
mod sys;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
pub mod vmclock;
