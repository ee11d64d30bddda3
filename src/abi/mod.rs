//! The C floor: the only code that is `extern "C"`. Each call converts, calls a core, and converts back.
//!
//! Conventions (docs/abi.md): a call returns a status, outputs are written only on success, NULL and what is out of
//! range are errors, a panic becomes a status.
#![allow(unsafe_code)]
#![cfg_attr(any(not(target_os = "linux"), shmhot_absent), allow(dead_code))]

#[cfg(any(not(target_os = "linux"), shmhot_absent))]
pub mod absent;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
pub mod circbuf;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
pub mod hotpath;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
pub mod observer;
pub mod status;
#[cfg(all(target_os = "linux", not(shmhot_absent)))]
pub mod vmclock;

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, OsStr, c_char};
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use crate::status::{Failure, SHMHOT_EPANIC};

/// Why a call was refused: by this floor, or by the core below.
pub(crate) enum Refusal<E> {
    /// A pointer is NULL.
    Null(&'static str),
    /// An argument cannot be what it is.
    Argument { status: i32, why: &'static str },
    /// The core says no.
    Core(E),
}

impl<E: Failure> From<E> for Refusal<E> {
    fn from(error: E) -> Self {
        Self::Core(error)
    }
}

impl<E: Failure> Failure for Refusal<E> {
    fn status(&self) -> i32 {
        match self {
            Self::Null(_) => -libc::EINVAL,
            Self::Argument { status, .. } => *status,
            Self::Core(error) => error.status(),
        }
    }
}

impl<E: Failure> fmt::Display for Refusal<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null(name) => write!(f, "{name} is NULL"),
            Self::Argument { why, .. } => f.write_str(why),
            Self::Core(error) => error.fmt(f),
        }
    }
}

/// An argument that is `EINVAL`.
pub(crate) const fn invalid<E>(why: &'static str) -> Refusal<E> {
    Refusal::Argument { status: -libc::EINVAL, why }
}

/// What a caller's timeout_ms means; the largest number, the NO_TIMEOUT of all systems, is no limit.
pub(crate) fn timeout(timeout_ms: u32) -> Option<Duration> {
    (timeout_ms != u32::MAX).then(|| Duration::from_millis(timeout_ms.into()))
}

/// Runs the body of a call: a failure becomes its status and this thread's last error, a panic too.
pub(crate) fn guard<F: Failure>(body: impl FnOnce() -> Result<i32, F>) -> i32 {
    quiet_panics();
    INSIDE.set(INSIDE.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(INSIDE.get() - 1);
    match result {
        Ok(Ok(value)) => value,
        Ok(Err(failure)) => fail(&failure),
        Err(panic) => {
            std::mem::forget(panic); // its destructor might panic again
            remember(
                SHMHOT_EPANIC,
                &"a bug in the library was caught (a panic); its handle may be unusable from now on",
            )
        }
    }
}

/// Makes a failure this thread's last one; gives its status.
pub(crate) fn fail(failure: &impl Failure) -> i32 {
    remember(failure.status(), failure)
}

thread_local! {
    /// Depth of calls into this floor, for the panic hook.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
    static LAST: RefCell<LastError> = const { RefCell::new(LastError { status: 0, len: 0, text: [0; 512] }) };
}

/// This thread's last failure; a fixed buffer, so that failing allocates nothing.
pub(crate) struct LastError {
    pub(crate) status: i32,
    len: usize,
    text: [u8; 512],
}

impl LastError {
    pub(crate) fn text(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl Write for LastError {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let mut room = (self.text.len() - self.len).min(part.len());
        while !part.is_char_boundary(room) {
            room -= 1;
        }
        self.text[self.len..self.len + room].copy_from_slice(&part.as_bytes()[..room]);
        self.len += room;
        Ok(())
    }
}

fn remember(status: i32, text: &dyn fmt::Display) -> i32 {
    LAST.with_borrow_mut(|last| {
        last.status = status;
        last.len = 0;
        let _ = write!(last, "{text}"); // cut at the end of the buffer, never refused
    });
    status
}

pub(crate) fn last_error<R>(read: impl FnOnce(&LastError) -> R) -> R {
    LAST.with_borrow(read)
}

/// A host's stderr is not ours: panics inside a call are told by status only. Others go to the hook that was there
/// (the shared library has a std, and so a hook, of its own).
fn quiet_panics() {
    static ONCE: Once = Once::new();
    if !ONCE.is_completed() {
        ONCE.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if INSIDE.get() == 0 {
                    previous(info);
                }
            }));
        });
    }
}

/// A struct that may grow: its first field is the size that the caller knows it by.
///
/// # Safety
/// All bit patterns are valid, it is `repr(C)`, and starts with a `size_t`.
pub(crate) unsafe trait Extensible: Copy {
    /// One that is all zeros.
    fn zeroed() -> Self {
        // SAFETY: every bit pattern is valid, as the trait's implementor promises.
        unsafe { std::mem::zeroed() }
    }
}

/// More than any struct of ours will ever have: a size beyond it was never set.
const MAX_SIZE: usize = 4096;

fn checked_size<E>(size: usize) -> Result<usize, Refusal<E>> {
    if !(size_of::<usize>()..=MAX_SIZE).contains(&size) {
        return Err(invalid("the struct's size field must be its sizeof"));
    }
    Ok(size)
}

/// Reads a struct of the caller's: what an older caller does not have is zero, what a newer one has must be.
///
/// # Safety
/// `from` is valid for reads of the size in its first field.
pub(crate) unsafe fn read_sized<T: Extensible, E>(from: *const T, name: &'static str) -> Result<T, Refusal<E>> {
    if from.is_null() {
        return Err(Refusal::Null(name));
    }
    // SAFETY: the caller's promise; the tail is only read up to `size`.
    unsafe {
        let size = checked_size(from.cast::<usize>().read_unaligned())?;
        if size == size_of::<T>() {
            return Ok(from.read_unaligned());
        }
        let known = size.min(size_of::<T>());
        let tail = std::slice::from_raw_parts(from.cast::<u8>().add(known), size - known);
        if tail.iter().any(|&byte| byte != 0) {
            let why = "the struct asks for something that this version of the library does not know";
            return Err(Refusal::Argument { status: -libc::E2BIG, why });
        }
        let mut value = T::zeroed();
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast::<u8>(), known);
        Ok(value)
    }
}

/// The same where NULL stands for the defaults, which are zeros.
///
/// # Safety
/// `from` is NULL or valid for reads of the size in its first field.
pub(crate) unsafe fn read_options<T: Extensible, E>(from: *const T) -> Result<T, Refusal<E>> {
    if from.is_null() {
        return Ok(T::zeroed());
    }
    // SAFETY: the caller's promise.
    unsafe { read_sized(from, "options") }
}

/// Whether [`write_sized`] could write: asked before anything happens of which the struct is to tell.
///
/// # Safety
/// `to` is NULL or valid for reads of the size in its first field.
pub(crate) unsafe fn check_output<T: Extensible, E>(to: *const T, name: &'static str) -> Result<(), Refusal<E>> {
    if to.is_null() {
        return Err(Refusal::Null(name));
    }
    // SAFETY: the caller's promise.
    checked_size(unsafe { to.cast::<usize>().read_unaligned() }).map(|_| ())
}

/// Writes a struct for the caller, as much of it as the caller knows; what we do not know is zeroed.
///
/// # Safety
/// `to` is valid for reads and writes of the size in its first field.
pub(crate) unsafe fn write_sized<T: Extensible, E>(
    to: *mut T,
    value: &T,
    name: &'static str,
) -> Result<(), Refusal<E>> {
    if to.is_null() {
        return Err(Refusal::Null(name));
    }
    // SAFETY: the caller's promise.
    unsafe {
        let size = checked_size(to.cast::<usize>().read_unaligned())?;
        let (from, to, skip) = ((&raw const *value).cast::<u8>(), to.cast::<u8>(), size_of::<usize>());
        // A length that the compiler knows, for callers of today.
        if size == size_of::<T>() {
            std::ptr::copy_nonoverlapping(from.add(skip), to.add(skip), size_of::<T>() - skip);
            return Ok(());
        }
        let known = size.min(size_of::<T>());
        std::ptr::copy_nonoverlapping(from.add(skip), to.add(skip), known - skip);
        to.add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// A path of the caller's, `None` for NULL.
///
/// # Safety
/// `path` is NULL or a C string that outlives the result.
pub(crate) unsafe fn path_from<'a>(path: *const c_char) -> Option<&'a Path> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { (!path.is_null()).then(|| CStr::from_ptr(path))? }.to_bytes();
    Some(Path::new(OsStr::from_bytes(bytes)))
}

/// Writes as much of a text as there is room for, and a NUL, if there is room for anything.
///
/// # Safety
/// `buf` is valid for writes of `cap` bytes.
pub(crate) unsafe fn put_text(text: &[u8], buf: *mut c_char, cap: usize) {
    if cap > 0 {
        let len = text.len().min(cap - 1);
        // SAFETY: `len + 1` is at most `cap`, for which the caller vouches.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), buf.cast(), len);
            buf.add(len).write(0);
        }
    }
}

/// Calls `body` with what a pointer names.
///
/// # Safety
/// `handle` is NULL or valid for reads.
pub(crate) unsafe fn call<T, E: Failure>(
    handle: *const T,
    name: &'static str,
    body: impl FnOnce(&T) -> Result<i32, Refusal<E>>,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        body(unsafe { handle.as_ref() }.ok_or(Refusal::Null(name))?)
    })
}

/// Has a core write its result for the caller, in place: a copy takes as long as all the rest.
///
/// # Safety
/// `out` is NULL or valid for writes, and a struct of integers, which need not be initialized.
#[inline(always)]
pub(crate) unsafe fn put<T, E: Failure>(
    out: *mut T,
    write: impl FnOnce(&mut T) -> Result<(), E>,
) -> Result<i32, Refusal<E>> {
    // SAFETY: the caller's promise; the cores do not read what is there.
    write(unsafe { out.as_mut() }.ok_or(Refusal::Null("out"))?)?;
    Ok(0)
}

/// Makes a handle and gives it to the caller.
///
/// # Safety
/// `out` is NULL or valid for writes.
pub(crate) unsafe fn give<T, E>(
    out: *mut *mut T,
    name: &'static str,
    make: impl FnOnce() -> Result<T, Refusal<E>>,
) -> Result<i32, Refusal<E>> {
    if out.is_null() {
        return Err(Refusal::Null(name));
    }
    let handle = Box::into_raw(Box::new(make()?));
    // SAFETY: the caller's promise.
    unsafe { out.write(handle) };
    Ok(0)
}

/// Frees what [`give`] has given.
///
/// # Safety
/// `handle` is NULL or from [`give`], and not used again.
pub(crate) unsafe fn free<T, E>(handle: *mut T) -> Result<i32, Refusal<E>> {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Never;

    impl Failure for Never {
        fn status(&self) -> i32 {
            unreachable!()
        }
    }

    impl fmt::Display for Never {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            unreachable!()
        }
    }

    #[test]
    fn a_panic_is_a_status_and_says_nothing_to_stderr() {
        let status = guard(|| -> Result<i32, Never> { panic!("on purpose") });
        assert_eq!(status, SHMHOT_EPANIC);
        last_error(|last| assert!(last.status == SHMHOT_EPANIC && last.text().starts_with(b"a bug in the library")));
    }

    #[test]
    fn long_sentences_are_cut_at_a_character() {
        remember(-1, &"ü".repeat(400));
        last_error(|last| assert_eq!(std::str::from_utf8(last.text()).unwrap().chars().count(), 256));
        remember(-1, &format!("x{}", "ü".repeat(400)));
        last_error(|last| assert_eq!(last.text().len(), 511));
    }

    /// The calls of Linux, as its file declares them.
    #[test]
    fn every_call_is_there_without_linux_too() {
        let names = |source: &'static str, before: &'static str| {
            let mut names: Vec<_> =
                source.split(before).skip(1).filter_map(|rest| rest.split([',', '(']).next()).collect();
            names.retain(|name| {
                ["circbuf_", "hotpath_", "observer_", "vmclock_"].iter().any(|prefix| name.starts_with(prefix))
                    && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            });
            names.sort_unstable();
            names
        };
        let here = include_str!("absent.rs");
        let mut answered = names(here, "\n    ");
        answered.push("hotpath_supported");
        answered.sort_unstable();
        let systems = concat!(
            include_str!("circbuf.rs"),
            include_str!("hotpath.rs"),
            include_str!("observer.rs"),
            include_str!("vmclock.rs")
        );
        assert_eq!(answered, names(systems, "extern \"C\" fn "));
    }
}
