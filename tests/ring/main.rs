//! The ring over real sockets.
#![allow(unsafe_code, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod corners;
mod errors;
mod flow;
mod freeing;
mod lifecycle;
mod support;
mod waiting;
