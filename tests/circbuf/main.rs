//! Signals between processes: whole frames or none, beside ezmsg-tools, with writers that are killed and with memory that
//! was damaged.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod corrupt;
mod cut;
mod files;
mod interop;
mod model;
mod race;
mod stream;
mod strided;
mod support;
mod waiting;
