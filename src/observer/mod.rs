//! Utilization metrics: numbers that a worker stores in shared memory, and anybody reads there without asking it.
//!
//! ```text
//! observer  a segment that is open: set, add, get
//! store     a file of segments, who has them, and all their numbers
//!   sidecar     what the segments are
//!   exposition  for Prometheus
//! schema    which fields a segment has, and where
//! value     numbers on their way into fields and out
//! types     the types of fields
//! ```

mod error;
mod schema;
mod segment;
mod store;
mod types;
mod value;

pub use error::{Error, Result};
pub use schema::{Field, Kind, Layout, Schema};
pub use segment::{Observer, Options};
pub use store::{Format, Store, StoreOptions, Worker, WorkerState};
pub use types::{Number, Type};
pub use value::Value;
