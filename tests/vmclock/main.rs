//! The clock page between processes: beside the original's reader and writer, broken in every way, and against the
//! kernel's clock.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod arithmetic;
mod calibrated;
mod corrupt;
mod files;
mod interop;
mod support;
