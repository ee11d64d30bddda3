//! A file beside another one, which keeps apart those who write that.
//!
//! The file itself cannot serve: whoever can read it can lock it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::segment::is_at;
use crate::sys::{self, ProcessEpoch};

/// Held until dropped, or until this process, and all that it has forked, have ended.
#[derive(Debug)]
pub(crate) struct Lock {
    file: std::fs::File,
    path: PathBuf,
    epoch: ProcessEpoch,
}

impl Lock {
    /// Takes the lock of a file, which need not be there yet: `WouldBlock` when somebody else has it.
    pub(crate) fn take(of: &Path) -> io::Result<Self> {
        let name = of.file_name().ok_or(io::Error::from_raw_os_error(libc::ENOENT))?;
        let path = of.with_file_name(hidden(name, ".lock"));
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)?;
            sys::lock(&file)?;
            // Its last holder may have removed it before we had the lock; each turn, somebody else has had it.
            if is_at(&file, &path)? {
                return Ok(Self { file, path, epoch: ProcessEpoch::current() });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held, so that nobody else can hold what has this name. Not by a child: it is its parent's.
        if self.epoch.is_current() && is_at(&self.file, &self.path).unwrap_or(false) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A name with a dot before it and something behind it.
pub(super) fn hidden(name: &std::ffi::OsStr, end: &str) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(end);
    hidden
}
