//! The hypervisor's clock page, read as it was between two updates, and turned into time with an error bound.
//!
//! ```text
//! reader      a page that is open: snapshots, time, waits
//! writer      a page that is written
//! calibrator  pages from this host's counter and its kernel's clock
//! time        from a page and a counter to time, exactly
//!   leap      from TAI to UTC and back
//! page        the layout
//! ```

mod calibrator;
mod error;
mod leap;
mod page;
mod reader;
mod time;
mod writer;

pub use calibrator::{Calibrator, Measurement};
pub use error::{Error, Result};
pub use page::*;
pub use reader::{Clock, Options};
pub use time::*;
pub use writer::Writer;

/// Nanoseconds.
const SECOND: i64 = 1_000_000_000;
