//! Metrics between processes: beside Ruby's own buffers, with workers that are killed, and with files that were
//! damaged.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod corrupt;
mod exposition;
mod fields;
mod race;
mod store;
mod support;
