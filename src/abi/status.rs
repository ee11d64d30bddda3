//! The status space that all systems share.

use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

use super::{last_error, put_text};
use crate::status::{Errno, SHMHOT_EFORK, SHMHOT_EPANIC, SHMHOT_ETHREAD, SHMHOT_EUNHEALTHY};

/// Version of the ABI that this header describes. A library of another version must not be used.
pub const SHMHOT_ABI_VERSION: u32 = 0;

/// The ABI version of the library, to be compared with SHMHOT_ABI_VERSION.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn shmhot_abi_version() -> u32 {
    SHMHOT_ABI_VERSION
}

/// The release of the library, such as "0.1.0". Static text.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn shmhot_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the version holds a NUL"),
    };
    VERSION.as_ptr()
}

/// What a status means, in a few words.
///
/// Parameters: any status that a call of this library has returned.
///
/// Returns: static text, never NULL, also for numbers that no call returns.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn shmhot_strerror(status: i32) -> *const c_char {
    text_of(status).as_ptr()
}

/// Numbers of errno, with room to spare: Linux ends at 133.
const ERRNOS: usize = 256;

fn text_of(status: i32) -> &'static CStr {
    static TEXTS: [OnceLock<CString>; ERRNOS] = [const { OnceLock::new() }; ERRNOS];
    match status {
        0.. => c"success",
        SHMHOT_EPANIC => c"a bug in the library was caught",
        SHMHOT_ETHREAD => c"the handle belongs to another thread",
        SHMHOT_EFORK => c"the handle was made before a fork",
        SHMHOT_EUNHEALTHY => c"the handle was given up",
        _ => match TEXTS.get(status.unsigned_abs() as usize) {
            Some(text) => text.get_or_init(|| CString::new(Errno(-status).to_string()).unwrap_or_default()),
            None => c"unknown status",
        },
    }
}

/// The sentence that belongs to the calling thread's last failed call: what was wrong, and what to do about it.
///
/// Parameters: buf receives at most cap - 1 bytes of UTF-8 and a NUL; it may be NULL when cap is 0.
///
/// Returns: the length of the whole sentence without the NUL, 0 when no call of this thread has failed, -EINVAL when
/// buf is NULL and cap is not 0.
///
/// Threads: any; each has its own. A call that succeeds leaves it alone.
///
/// # Safety
/// buf is valid for writes of cap bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmhot_last_error(buf: *mut c_char, cap: usize) -> i32 {
    if buf.is_null() && cap > 0 {
        return -libc::EINVAL;
    }
    last_error(|last| {
        let text = last.text();
        // SAFETY: the caller's promise.
        unsafe { put_text(text, buf, cap) };
        text.len() as i32
    })
}

/// The status of the calling thread's last failed call, 0 when none has failed. For calls that return a pointer.
///
/// Threads: any; each has its own. A call that succeeds leaves it alone.
#[unsafe(no_mangle)]
pub extern "C" fn shmhot_last_status() -> i32 {
    last_error(|last| last.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_text() {
        for status in -5000..=2 {
            assert!(!text_of(status).is_empty(), "{status}");
        }
        assert_eq!(text_of(-libc::EPIPE), c"Broken pipe");
        assert_eq!(text_of(i32::MIN), c"unknown status");
    }
}
