//! The hypervisor's clock.

use std::ffi::c_char;
use std::path::Path;
use std::time::Duration;

use static_assertions::{assert_impl_all, const_assert_eq};

use super::{Extensible, Refusal, call, free, give, guard, path_from, put, read_options, timeout};
use crate::vmclock::{Calibrator, Clock, Error, Options, Snapshot, Time, Writer};

/// Flag of a handle: reads the file by system calls instead of a mapping, so that a file which somebody cuts is an
/// error and not a SIGBUS. Costs three system calls a reading.
pub const VMCLOCK_CHECKED: u32 = 1;

/// timeout_ms: no limit.
pub const VMCLOCK_NO_TIMEOUT: u32 = 0xFFFF_FFFF;

/// A page that is open for reading.
#[allow(non_camel_case_types)]
pub struct vmclock_clock_t(Clock);

/// The writer of a page.
#[allow(non_camel_case_types)]
pub struct vmclock_writer_t(Writer);

/// Makes pages from this host's counter and its kernel's clock.
#[allow(non_camel_case_types)]
pub struct vmclock_calibrator_t(Calibrator);

assert_impl_all!(vmclock_clock_t: Send, Sync);
assert_impl_all!(vmclock_writer_t: Send, Sync);
assert_impl_all!(vmclock_calibrator_t: Send, Sync);

/// How a page is opened. Zero means the default; set size, zero the rest, then set what matters.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct vmclock_options_t {
    /// sizeof(vmclock_options_t).
    pub size: usize,
    /// VMCLOCK_CHECKED.
    pub flags: u32,
    /// How often vmclock_wait looks at a page whose device does not notify, in microseconds; default 1000.
    pub interval_us: u32,
}

// SAFETY: integers only, the first one a size_t.
unsafe impl Extensible for vmclock_options_t {}

const_assert_eq!(VMCLOCK_NO_TIMEOUT, u32::MAX); // as `timeout` has it
const_assert_eq!(size_of::<vmclock_options_t>(), size_of::<usize>() + 8);

/// Opens a page for reading: a device of the kernel, a file, or POSIX shared memory by its path below /dev/shm.
///
/// Parameters: path, NULL for "/dev/vmclock0". clock receives the handle.
///
/// Returns: 0; -ENOENT, -EACCES and whatever else opening a file can end with; -EPROTO when it holds no page, one that
/// is not initialized, of another version, or smaller than it says; -EINVAL for what cannot hold a page, a
/// directory or a FIFO.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// path is NULL or a C string; clock is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_open(path: *const c_char, clock: *mut *mut vmclock_clock_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { vmclock_open_with(path, std::ptr::null(), clock) }
}

/// As vmclock_open, with options.
///
/// Parameters: options, NULL for the defaults.
///
/// Returns: as vmclock_open; -EINVAL for an unknown flag, -E2BIG for an option that this version does not know.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// path is NULL or a C string; options is NULL or valid for reads of its size; clock is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_open_with(
    path: *const c_char,
    options: *const vmclock_options_t,
    clock: *mut *mut vmclock_clock_t,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let options = unsafe { read_options(options) }?;
        if options.flags & !VMCLOCK_CHECKED != 0 {
            return Err(Refusal::Argument { status: -libc::EINVAL, why: "an unknown flag is set in options" });
        }
        let mut core = Options { checked: options.flags & VMCLOCK_CHECKED != 0, ..Options::default() };
        if options.interval_us != 0 {
            core.interval = Duration::from_micros(options.interval_us.into());
        }
        // SAFETY: the caller's promise.
        let path = unsafe { path_from(path) }.unwrap_or(Path::new(Clock::DEFAULT_PATH));
        // SAFETY: the caller's promise.
        unsafe { give(clock, "clock", || Ok(vmclock_clock_t(Clock::open(path, core)?))) }
    })
}

/// Closes a handle. NULL is nothing.
///
/// Returns: 0.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// clock is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_close(clock: *mut vmclock_clock_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { free::<_, Error>(clock) })
}

/// Reads the page as it was between two updates.
///
/// Returns: 0; -ETIMEDOUT when an update has not ended within 100 ms, as when its writer has died in it; -EPROTO when
/// the page is not of version 1 any more, or, of a handle with VMCLOCK_CHECKED, when the file was cut.
///
/// Threads: any number at once, also after a fork. Blocking: 100 ms at most, and only beside an update.
///
/// # Safety
/// clock is NULL or a handle; out is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_snapshot(clock: *const vmclock_clock_t, out: *mut Snapshot) -> i32 {
    // SAFETY: the caller's promise; the core does not read what is in `out`.
    unsafe {
        // What is done at the first attempt cannot panic, so it goes without the guard.
        if let (Some(clock), Some(out)) = (clock.as_ref(), out.as_mut())
            && clock.0.try_snapshot_into(out)
        {
            return 0;
        }
        call(clock, "clock", |clock| put(out, |out| clock.0.snapshot_into(out)))
    }
}

/// The time, from the page and the counter of this processor.
///
/// Returns: 0; -ENODATA when the page gives no time, for its clock status, its counter (absent, or another
/// architecture's), its time type or its period; -EOVERFLOW when the time is beyond the year 2262; and as
/// vmclock_snapshot.
///
/// Threads: any number at once, also after a fork. Blocking: as vmclock_snapshot.
///
/// # Safety
/// clock is NULL or a handle; out is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_now(clock: *const vmclock_clock_t, out: *mut Time) -> i32 {
    // SAFETY: the caller's promise; the core does not read what is in `out`.
    unsafe {
        // As above.
        if let (Some(clock), Some(out)) = (clock.as_ref(), out.as_mut())
            && clock.0.try_now_into(out)
        {
            return 0;
        }
        call(clock, "clock", |clock| put(out, |out| clock.0.now_into(out)))
    }
}

/// The time at which the counter had a value: for counters that were read before, and for pages that were kept.
///
/// Parameters: snapshot, a page of any counter. counter_value: of the counter that the page names; values before
/// the reference time are fine.
///
/// Returns: 0; -ENODATA, -EOVERFLOW as vmclock_now; -EPROTO when snapshot is not of version 1.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// snapshot is valid for reads, out for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_time_at(snapshot: *const Snapshot, counter_value: u64, out: *mut Time) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(snapshot, "snapshot", |snapshot| put(out, |out| out.set(snapshot, counter_value))) }
}

/// Waits until the page is another one than that of last_seq.
///
/// Parameters: last_seq, the seq_count of the page that the caller knows. timeout_ms: 0 only looks,
/// VMCLOCK_NO_TIMEOUT has no limit.
///
/// Returns: 1 when it is; 0 when the time is over, also in an update that does not end, or a signal came; -EPROTO as
/// vmclock_snapshot.
///
/// Threads: any number at once, also after a fork. Blocking: as asked: in poll on devices that notify, else looking at
/// intervals.
///
/// # Safety
/// clock is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_wait(clock: *const vmclock_clock_t, last_seq: u32, timeout_ms: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(clock, "clock", |clock| Ok(clock.0.wait(last_seq, timeout(timeout_ms))?.into())) }
}

/// Waits until a time is certainly over: until the earliest that it can be is later than time_ns.
///
/// Parameters: time_ns, of the page's type, such as the latest_ns of a vmclock_time_t. timeout_ms:
/// VMCLOCK_NO_TIMEOUT for no limit.
///
/// Returns: 1 when it is over; 0 when timeout_ms is, or a signal came; -ENODATA as vmclock_now, and when the page bounds
/// no error; and as vmclock_now.
///
/// Threads: any number at once, also after a fork. Blocking: as asked.
///
/// # Safety
/// clock is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_wait_until_past(clock: *const vmclock_clock_t, time_ns: i64, timeout_ms: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(clock, "clock", |clock| Ok(clock.0.wait_until_past(time_ns, timeout(timeout_ms))?.into())) }
}

/// Makes a page, or goes on with one that a writer has left, also in the middle of an update.
///
/// A new page appears whole, and is of 4096 bytes; its clock status is unknown until the first write.
///
/// Beside the page lies a file of the same name with a dot before it and .lock behind it, which keeps writers apart; it
/// goes when the writer is closed.
///
/// Parameters: path: links are not followed. mode: permissions of a new file, 0 for 0644. writer receives the handle.
///
/// Returns: 0; -EPROTO when the file is something else, or a page of another version: it is left as it is; -EPERM when
/// it belongs to another user; -EBUSY when another writer of this library, or a child that its process has forked, has
/// it; -ENOSPC, -EACCES, -ELOOP and whatever else making a file can end with.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// path is a C string; writer is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_writer_create(
    path: *const c_char,
    mode: u32,
    writer: *mut *mut vmclock_writer_t,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { path_from(path) }.ok_or(Refusal::Null("path"))?;
        let mode = if mode == 0 { Writer::DEFAULT_MODE } else { mode };
        // SAFETY: the caller's promise.
        unsafe { give(writer, "writer", || Ok(vmclock_writer_t(Writer::create(path, mode)?))) }
    })
}

/// Replaces the content of the page.
///
/// Parameters: page: its version, seq_count and padding do not matter.
///
/// Returns: 0; -EINVAL when it has a generation counter and the file, made by another program, has no room for one;
/// SHMHOT_EFORK in a child of the process that made the writer.
///
/// Threads: any number; they take turns. Blocking: for another thread's write.
///
/// # Safety
/// writer is NULL or a handle; page is valid for reads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_writer_write(writer: *const vmclock_writer_t, page: *const Snapshot) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(writer, "writer", |writer| {
            let page = page.as_ref().ok_or(Refusal::Null("page"))?;
            writer.0.write(page)?;
            Ok(0)
        })
    }
}

/// Frees a writer and leaves its page for readers and for the next writer. NULL is nothing.
///
/// Returns: 0.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// writer is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_writer_close(writer: *mut vmclock_writer_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { free::<_, Error>(writer) })
}

/// Removes the page's file, if it is still the one that this writer writes, and frees the writer. NULL is nothing.
///
/// Readers that have it open keep the last page.
///
/// Returns: 0; what removing a file can end with; SHMHOT_EFORK in a child. The writer is gone in any case.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// writer is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_writer_remove(writer: *mut vmclock_writer_t) -> i32 {
    guard(|| {
        if !writer.is_null() {
            // SAFETY: the caller's promise.
            unsafe { Box::from_raw(writer) }.0.remove()?;
        }
        Ok::<_, Refusal<Error>>(0)
    })
}

/// Prepares to make pages from this host's counter and its kernel's clock.
///
/// Parameters: calibrator receives the handle.
///
/// Returns: 0; -EOPNOTSUPP when this processor's counter does not run at a constant rate.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// calibrator is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_calibrator_create(calibrator: *mut *mut vmclock_calibrator_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { give(calibrator, "calibrator", || Ok(vmclock_calibrator_t(Calibrator::new()?))) })
}

/// Measures, and makes a page of it: of TAI when the kernel knows its offset at the first time, else of UTC. To be
/// called about once a second, the result to be given to vmclock_writer_write.
///
/// The maximum error is the kernel's own (adjtimex) plus that of the measurement, and grows by the kernel's tolerance,
/// 500 ppm. A step of the kernel's clock, or of the counter, changes the disruption_marker, with which each calibrator
/// begins anew.
///
/// Parameters: page receives the page. bracket_ns, unless NULL: how long the best reading of the kernel's clock took, which
/// bounds the error of the measurement itself.
///
/// Returns: 0; -EAGAIN when the counter and the kernel's clock could not be read together: try again; -EPERM where a
/// sandbox refuses adjtimex; SHMHOT_EFORK in a child of the process that made the calibrator.
///
/// Threads: any number; they take turns. Blocking: 100 ms the first time and after a disruption, else some microseconds.
///
/// # Safety
/// calibrator is NULL or a handle; page is valid for writes, bracket_ns NULL or so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_calibrator_measure(
    calibrator: *const vmclock_calibrator_t,
    page: *mut Snapshot,
    bracket_ns: *mut u64,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(calibrator, "calibrator", |calibrator| {
            if page.is_null() {
                return Err(Refusal::Null("page"));
            }
            let measured = calibrator.0.measure()?;
            page.write(measured.page);
            if !bracket_ns.is_null() {
                bracket_ns.write(measured.bracket_ns);
            }
            Ok(0)
        })
    }
}

/// Frees a calibrator. NULL is nothing.
///
/// Returns: 0.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// calibrator is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmclock_calibrator_close(calibrator: *mut vmclock_calibrator_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { free::<_, Error>(calibrator) })
}
