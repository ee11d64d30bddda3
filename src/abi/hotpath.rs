//! The socket ring.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::time::Duration;

use libc::{iovec, sockaddr};
use static_assertions::{const_assert, const_assert_eq};

use super::{Extensible, Refusal, fail, guard, read_sized, timeout, write_sized};
use crate::hotpath::{self, Completion, Error, Features, OpKind, Options, Ring, Segment, SharedRing};
use crate::status::Failure;

/// op_kind: a connection came. fd is the listener, result the new socket (close-on-exec) or -errno.
pub const HOTPATH_OP_ACCEPT: u8 = 1;
/// op_kind: result bytes are in buf_id; 0 is the end of the stream; or -errno. -ETIMEDOUT is an idle timeout.
pub const HOTPATH_OP_RECV: u8 = 2;
/// op_kind: a send is finished. result is all of its bytes, or -errno.
pub const HOTPATH_OP_SEND: u8 = 3;
/// op_kind: fd is closed, and its number may come back. result is 0, -ETIMEDOUT if something was not sent in time, or -errno.
pub const HOTPATH_OP_CLOSE: u8 = 4;
/// op_kind: result is 0 when connected, or -errno.
pub const HOTPATH_OP_CONNECT: u8 = 5;
/// op_kind: a timeout is over. fd is -1, result its id.
pub const HOTPATH_OP_TIMEOUT: u8 = 6;
/// op_kind: hotpath_wake was called. fd is -1.
pub const HOTPATH_OP_WAKE: u8 = 7;
/// op_kind: what was queued and the end of the stream are sent. result is 0 or -errno.
pub const HOTPATH_OP_SHUTDOWN: u8 = 8;
/// op_kind: draining is over. fd is -1, result the number of connections that are still open.
pub const HOTPATH_OP_DRAIN: u8 = 9;

/// Flag of a completion: buf_id names a buffer.
pub const HOTPATH_F_BUFFER: u32 = 1;
/// Flag of a completion: this accept or receive goes on by itself and must not be submitted again.
pub const HOTPATH_F_MORE: u32 = 2;
/// Flag of a completion: a send whose connection had ended (forgotten, or its number accepted anew). It only says
/// that the bytes are free; fd may belong to another connection by now.
pub const HOTPATH_F_ENDED: u32 = 0x8000_0000;

/// timeout_ms: no limit.
pub const HOTPATH_NO_TIMEOUT: u32 = 0xFFFF_FFFF;

/// Flag of a send: only a failure is worth a completion.
pub const HOTPATH_QUIET: u32 = 2;
/// Flag of a send in a turn: gives buf_id back as soon as this command needs its bytes no longer. For a copying send
/// that is at once, for a borrowing one when it is finished.
pub const HOTPATH_RELEASE: u32 = 1;

/// Option: any thread may use the ring, one at a time; a call beside another one is -EBUSY.
pub const HOTPATH_ANY_THREAD: u32 = 1;

/// A backend: io_uring.
pub const HOTPATH_BACKEND_IO_URING: i32 = 1;

/// Command: hotpath_submit_accept(fd).
pub const HOTPATH_CMD_ACCEPT: u8 = 1;
/// Command: hotpath_submit_recv(fd).
pub const HOTPATH_CMD_RECV: u8 = 2;
/// Command: hotpath_send(fd, data, len); flags HOTPATH_QUIET, HOTPATH_RELEASE.
pub const HOTPATH_CMD_SEND: u8 = 3;
/// Command: hotpath_submit_close_within(fd, len).
pub const HOTPATH_CMD_CLOSE: u8 = 4;
/// Command: hotpath_submit_connect(fd, data, len).
pub const HOTPATH_CMD_CONNECT: u8 = 5;
/// Command: hotpath_submit_timeout(data, len).
pub const HOTPATH_CMD_TIMEOUT: u8 = 6;
/// Command: hotpath_submit_shutdown(fd).
pub const HOTPATH_CMD_SHUTDOWN: u8 = 8;
/// Command: hotpath_submit_send(fd, data, len), of one piece; flags HOTPATH_QUIET, HOTPATH_RELEASE.
pub const HOTPATH_CMD_SEND_BORROWED: u8 = 10;
/// Command: hotpath_release_buf(buf_id).
pub const HOTPATH_CMD_RELEASE: u8 = 11;
/// Command: hotpath_cancel(fd, len).
pub const HOTPATH_CMD_CANCEL: u8 = 12;
/// Command: hotpath_cancel_timeout(data).
pub const HOTPATH_CMD_CANCEL_TIMEOUT: u8 = 13;
/// Command: hotpath_pause_recv(fd).
pub const HOTPATH_CMD_PAUSE: u8 = 14;
/// Command: hotpath_resume_recv(fd).
pub const HOTPATH_CMD_RESUME: u8 = 15;
/// Command: hotpath_set_idle_timeout(fd, len).
pub const HOTPATH_CMD_IDLE_TIMEOUT: u8 = 16;
/// Command: hotpath_forget(fd).
pub const HOTPATH_CMD_FORGET: u8 = 17;
/// Command: hotpath_drain(len).
pub const HOTPATH_CMD_DRAIN: u8 = 18;

const_assert_eq!(HOTPATH_NO_TIMEOUT, u32::MAX); // as `timeout` has it
const_assert_eq!(HOTPATH_OP_ACCEPT, OpKind::Accept as u8);
const_assert_eq!(HOTPATH_OP_RECV, OpKind::Recv as u8);
const_assert_eq!(HOTPATH_OP_SEND, OpKind::Send as u8);
const_assert_eq!(HOTPATH_OP_CLOSE, OpKind::Close as u8);
const_assert_eq!(HOTPATH_OP_CONNECT, OpKind::Connect as u8);
const_assert_eq!(HOTPATH_OP_TIMEOUT, OpKind::Timeout as u8);
const_assert_eq!(HOTPATH_OP_WAKE, OpKind::Wake as u8);
const_assert_eq!(HOTPATH_OP_SHUTDOWN, OpKind::Shutdown as u8);
const_assert_eq!(HOTPATH_OP_DRAIN, OpKind::Drain as u8);
const_assert_eq!(HOTPATH_F_BUFFER, hotpath::F_BUFFER);
const_assert_eq!(HOTPATH_F_MORE, hotpath::F_MORE);
const_assert_eq!(HOTPATH_F_ENDED, hotpath::F_ENDED);

/// A ring. Belongs to the thread that first submits, waits or asks; see hotpath_ring_new.
#[allow(non_camel_case_types)]
pub struct hotpath_ring_t(SharedRing);

/// How a ring is made. Zero means the default; set size, zero the rest, then set what matters.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct hotpath_options_t {
    /// sizeof(hotpath_options_t).
    pub size: usize,
    /// Entries of the submission queue, up to 32768; default 1024. Memory only: a full queue flushes by itself.
    pub queue_depth: u32,
    /// Receive buffers, a power of two up to 32768; default 512.
    pub n_bufs: u32,
    /// Bytes of one receive buffer; default 8192.
    pub buf_size: u32,
    /// HOTPATH_ANY_THREAD.
    pub flags: u32,
    /// Bytes that may be queued for sending on one connection; default 8 MiB. Each send counts for 128 bytes more than
    /// it has. One that finds nothing queued on its connection is taken whatever its length.
    pub max_queued_bytes: u64,
    /// The same for all connections together; default 256 MiB.
    pub max_queued_total: u64,
}

/// What the kernel offers.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct hotpath_probe_t {
    /// sizeof(hotpath_probe_t), set by the caller.
    pub size: usize,
    /// 0 when rings can be made here, else why not, -errno.
    pub status: i32,
    /// Zero.
    pub reserved: u32,
    /// A bit for each feature; hotpath_feature_name names them.
    pub features: u64,
    /// When rings cannot be made: why, and what would help. A C string.
    pub detail: [c_char; 160],
}

/// The receive buffers of a ring: number i starts at base + i * buf_size.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct hotpath_buffers_t {
    /// Start of the pool. Only the bytes that a completion has told of, in a buffer not yet released, may be read.
    pub base: *const u8,
    /// Bytes of one buffer.
    pub buf_size: u32,
    /// Number of buffers.
    pub n_bufs: u32,
}

/// Counters since the ring was made; the last three are as of now.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct hotpath_stats_t {
    /// sizeof(hotpath_stats_t), set by the caller.
    pub size: usize,
    /// System calls.
    pub syscalls: u64,
    /// Operations given to the kernel.
    pub submissions: u64,
    /// Answers taken from the kernel.
    pub completions: u64,
    /// Accepts and receives armed anew after the kernel had ended them.
    pub rearms: u64,
    /// Times that a connection had to wait for a buffer to be released.
    pub starvations: u64,
    /// Accepted sockets and received pieces that came for an ended connection, and were dropped.
    pub stale_dropped: u64,
    /// Sends that the kernel took in part, and that were continued.
    pub short_sends: u64,
    /// Times that a full submission queue was flushed.
    pub queue_full_flushes: u64,
    /// Times that completions overflowed into the kernel's backlog; nothing is lost by it.
    pub cq_overflows: u64,
    /// Sends refused by the bounds on queued bytes.
    pub sends_refused: u64,
    /// Buffers that the caller holds.
    pub buffers_held: u64,
    /// Streams that the ring knows.
    pub connections: u64,
    /// Operations of connections that the kernel has at work.
    pub in_flight: u64,
}

/// One command of a turn: a call, as a struct.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct hotpath_command_t {
    /// HOTPATH_CMD_*.
    pub op: u8,
    /// HOTPATH_QUIET, HOTPATH_RELEASE.
    pub flags: u8,
    /// Zero.
    pub reserved: u16,
    /// The descriptor.
    pub fd: i32,
    /// The address of the bytes, or an id.
    pub data: u64,
    /// Their number, or milliseconds, or a mask.
    pub len: u32,
    /// The buffer to release.
    pub buf_id: i32,
    /// Written by the turn: 0, or why this command was refused.
    pub status: i32,
    /// Zero.
    pub reserved2: u32,
}

// SAFETY: repr(C) of integers, the first of them the size.
unsafe impl Extensible for hotpath_options_t {}
// SAFETY: as above.
unsafe impl Extensible for hotpath_probe_t {}
// SAFETY: as above.
unsafe impl Extensible for hotpath_stats_t {}

#[cfg(target_pointer_width = "64")]
mod layout {
    use super::*;
    const_assert_eq!(size_of::<hotpath_options_t>(), 40);
    const_assert_eq!(size_of::<hotpath_probe_t>(), 184);
    const_assert_eq!(size_of::<hotpath_buffers_t>(), 16);
    const_assert_eq!(size_of::<hotpath_stats_t>(), 112);
}
const_assert_eq!(size_of::<hotpath_command_t>(), 32);
const_assert_eq!(std::mem::offset_of!(hotpath_command_t, data), 8);
const_assert_eq!(std::mem::offset_of!(hotpath_command_t, status), 24);
// An iovec array can be read as segments.
const_assert_eq!(size_of::<iovec>(), size_of::<Segment>());
const_assert!(align_of::<iovec>() == align_of::<Segment>());

type Outcome = Result<i32, Refusal<Error>>;

/// A call that any thread may make.
fn shared_call(ring: *const hotpath_ring_t, body: impl FnOnce(&SharedRing) -> Outcome) -> i32 {
    // SAFETY: NULL or a ring that the caller keeps alive during the call: the contract of every function below.
    guard(|| body(unsafe { &ring.as_ref().ok_or(Refusal::Null("ring"))?.0 }))
}

/// A call that only the ring's thread may make.
fn call(ring: *const hotpath_ring_t, body: impl FnOnce(&mut Ring) -> Outcome) -> i32 {
    shared_call(ring, |ring| ring.with(body))
}

/// A call that gives nothing but a status.
fn done(result: hotpath::Result<()>) -> Outcome {
    Ok(result.map(|()| 0)?)
}

fn argument<T>(why: &'static str) -> Result<T, Refusal<Error>> {
    Err(Refusal::Argument { status: -libc::EINVAL, why })
}

fn milliseconds(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

/// The caller's bytes.
///
/// # Safety
/// `data` is NULL or valid for reads of `len` bytes during `'a`.
unsafe fn bytes<'a>(data: *const c_void, len: usize, name: &'static str) -> Result<&'a [u8], Refusal<Error>> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Refusal::Null(name)),
        _ if isize::try_from(len).is_err() => argument("len is larger than the address space"),
        // SAFETY: the caller's promise.
        _ => Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) }),
    }
}

fn quiet(flags: u32, allowed: u32) -> Result<bool, Refusal<Error>> {
    if flags & !allowed != 0 {
        return argument("flags holds a flag that this call does not know");
    }
    Ok(flags & HOTPATH_QUIET != 0)
}

/// Whether a ring can be made on this host, as far as the kernel is concerned: 1 or 0. hotpath_probe says why.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn hotpath_supported() -> i32 {
    guard::<Error>(|| Ok(hotpath::supported().into()))
}

/// What the kernel offers, and why not when it does not: asked of the kernel by making small rings, never guessed.
///
/// Parameters: out, its size set.
///
/// Returns: 0; -EINVAL.
///
/// Threads: any.
///
/// # Safety
/// out is valid for writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_probe(out: *mut hotpath_probe_t) -> i32 {
    guard(|| -> Outcome {
        let mut probe = hotpath_probe_t::zeroed();
        let found = hotpath::probe();
        let (status, detail) = match &found {
            Ok(features) => match features.missing() {
                None => (0, String::new()),
                Some(name) => (-libc::ENOSYS, format!("this kernel's io_uring lacks {}", name.to_string_lossy())),
            },
            Err(error) => (error.status(), error.to_string()),
        };
        probe.features = found.map_or(0, |features| features.0);
        probe.status = status;
        let room = probe.detail.len() - 1;
        for (to, from) in probe.detail[..room].iter_mut().zip(detail.bytes()) {
            *to = from as c_char;
        }
        // SAFETY: the caller's promise.
        unsafe { write_sized::<_, Error>(out, &probe, "out") }?;
        Ok(0)
    })
}

/// The name of a feature's bit in hotpath_probe_t, such as "multishot receive". Static text, NULL for a bit that
/// means nothing: the names end there.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn hotpath_feature_name(bit: u32) -> *const c_char {
    Features::ALL.get(bit as usize).map_or(std::ptr::null(), |(_, name)| name.as_ptr())
}

/// Makes a ring, with the best set-up that the kernel has.
///
/// The ring belongs to the thread that first calls it, which need not be this one; calls of other threads are
/// SHMHOT_ETHREAD, but for those that say so. In a forked child calls are SHMHOT_EFORK, but for hotpath_is_healthy,
/// hotpath_force_unhealthy, hotpath_backend and hotpath_ring_free.
///
/// Parameters: queue_depth: entries of the submission queue, 1 to 32768. n_bufs: receive buffers, a power of two up
/// to 32768. buf_size: bytes of one.
///
/// Returns: the ring, to be freed by hotpath_ring_free; NULL on failure, then shmhot_last_status tells -EINVAL (a
/// size), -ENOMEM, or why the kernel refuses io_uring (-ENOSYS, -EPERM), and shmhot_last_error the same in a sentence.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn hotpath_ring_new(queue_depth: u32, n_bufs: u16, buf_size: u32) -> *mut hotpath_ring_t {
    new_ring(|| Ok(Options { queue_depth, n_bufs: n_bufs.into(), buf_size, ..Options::default() }))
}

/// Makes a ring as hotpath_ring_new does, with options.
///
/// Parameters: options, its size set; NULL for all defaults.
///
/// Returns: as hotpath_ring_new; -E2BIG too, when options asks for what this version does not know.
///
/// Threads: any.
///
/// # Safety
/// options is NULL or valid for reads of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_ring_new_with(options: *const hotpath_options_t) -> *mut hotpath_ring_t {
    new_ring(|| {
        if options.is_null() {
            return Ok(Options::default());
        }
        // SAFETY: the caller's promise.
        let given = unsafe { read_sized(options, "options") }?;
        if given.flags & !HOTPATH_ANY_THREAD != 0 {
            return argument("options.flags holds a flag that this version of the library does not know");
        }
        let default = Options::default();
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let or64 = |value: u64, default: u64| if value == 0 { default } else { value };
        Ok(Options {
            queue_depth: or(given.queue_depth, default.queue_depth),
            n_bufs: or(given.n_bufs, default.n_bufs),
            buf_size: or(given.buf_size, default.buf_size),
            any_thread: given.flags & HOTPATH_ANY_THREAD != 0,
            max_queued_bytes: or64(given.max_queued_bytes, default.max_queued_bytes),
            max_queued_total: or64(given.max_queued_total, default.max_queued_total),
        })
    })
}

fn new_ring(options: impl FnOnce() -> Result<Options, Refusal<Error>>) -> *mut hotpath_ring_t {
    let mut ring = std::ptr::null_mut();
    guard(|| -> Outcome {
        ring = Box::into_raw(Box::new(hotpath_ring_t(SharedRing::new(options()?)?)));
        Ok(0)
    });
    ring
}

/// Frees a ring. What it has at work is cancelled, accepted sockets that nobody was told of and descriptors that wait
/// to be closed are closed; other descriptors stay the caller's. On another thread than the ring's, nothing can be
/// cancelled: then memory that the kernel may still use is left to it, borrowed bytes may still be read, and a
/// descriptor whose close waits for a send stays open. A system call that the ring's thread makes shortly after may
/// end with EINTR.
///
/// Parameters: ring, which no other call may use any more; NULL does nothing.
///
/// Returns: 0.
///
/// Threads: any, also in a forked child. Blocking: until the kernel has let go, at most 2 seconds.
///
/// # Safety
/// ring is NULL or a ring that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_ring_free(ring: *mut hotpath_ring_t) -> i32 {
    guard::<Error>(|| {
        if !ring.is_null() {
            // SAFETY: it came from `new_ring`, and the caller gives it up.
            drop(unsafe { Box::from_raw(ring) });
        }
        Ok(0)
    })
}

/// Accepts connections until cancelled: each is told by an OP_ACCEPT. When the process runs out of descriptors, that
/// is told too (F_MORE is set), and accepting goes on when there are some again.
///
/// Parameters: listener_fd, a listening socket.
///
/// Returns: 0; -EBADF; -EALREADY when it accepts already; -EINVAL when it is in use as a stream; -ENOENT before the
/// OP_ACCEPT of its number is taken; -ESHUTDOWN when it is being closed or the ring drains.
///
/// Threads: the ring's. Blocking: no; it goes out with the next wait, turn or flush, like everything that is submitted.
///
/// # Safety
/// ring is NULL or a ring: so it is for every call below.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_submit_accept(ring: *mut hotpath_ring_t, listener_fd: i32) -> i32 {
    call(ring, |ring| done(ring.submit_accept(listener_fd)))
}

/// Receives until the end of the stream: each piece is told by an OP_RECV, and lies in buf_id until that is released.
/// When all buffers are held, the connection waits for one to be released.
///
/// Parameters: fd, a stream socket.
///
/// Returns: 0; -EBADF; -EALREADY when it receives already; -EINVAL when it is in use as a listener; -ENOENT before the
/// OP_ACCEPT of its number is taken; -ESHUTDOWN when it is being closed.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_submit_recv(ring: *mut hotpath_ring_t, fd: i32) -> i32 {
    call(ring, |ring| done(ring.submit_recv(fd)))
}

/// Sends bytes of the caller, after all that is queued on fd before, whole: one OP_SEND tells when they are free. A
/// closed peer is -EPIPE, never a signal.
///
/// Parameters: iov, iov_count: up to 1024 pieces. Their bytes must stay until the completion, the array need not.
///
/// Returns: 0; -EINVAL; -EBADF; -EAGAIN when too much is queued (see hotpath_options_t); -EPIPE after a failed send or
/// a shutdown; -EBUSY while sends are being cancelled; -ENOTCONN for a listener; -ESHUTDOWN when it is being closed,
/// -ENOENT when the ring has closed it.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring; iov is valid for reads of iov_count elements now, and what they name until the completion.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_submit_send(
    ring: *mut hotpath_ring_t,
    fd: i32,
    iov: *const iovec,
    iov_count: u32,
) -> i32 {
    call(ring, |ring| {
        if iov.is_null() && iov_count > 0 {
            return Err(Refusal::Null("iov"));
        }
        if iov_count > 1024 {
            return argument("iov_count is above 1024");
        }
        if !iov.is_aligned() {
            return argument("iov is not aligned");
        }
        let segments: &[Segment] = match iov_count {
            0 => &[],
            // SAFETY: the caller's promise; an iovec is laid out as a segment.
            count => unsafe { std::slice::from_raw_parts(iov.cast(), count as usize) },
        };
        if segments.iter().any(|segment| segment.base().is_null() && !segment.is_empty()) {
            return Err(Refusal::Null("iov_base"));
        }
        // SAFETY: the caller's promise.
        done(unsafe { ring.send_borrowed(fd, segments, false, None) })
    })
}

/// Sends a copy of bytes, after all that is queued on fd before, whole; one OP_SEND tells when that is done.
///
/// Parameters: data, len: what to send. flags: 0, or HOTPATH_QUIET.
///
/// Returns: as hotpath_submit_send; -ENOMEM too.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring; data is valid for reads of len bytes during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_send(
    ring: *mut hotpath_ring_t,
    fd: i32,
    data: *const c_void,
    len: usize,
    flags: u32,
) -> i32 {
    call(ring, |ring| {
        // SAFETY: the caller's promise.
        let data = unsafe { bytes(data, len, "data") }?;
        done(ring.send(fd, data, quiet(flags, HOTPATH_QUIET)?))
    })
}

/// Sends bytes out of a received buffer without a copy, and releases the buffer when that is finished.
///
/// Parameters: buf_id, offset, len: bytes that were received, in a buffer that is held. flags: 0, or HOTPATH_QUIET.
///
/// Returns: as hotpath_submit_send; -EINVAL when that is not inside what was received; -EALREADY when it is not held,
/// -EBUSY when it is being sent already.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_send_buffer(
    ring: *mut hotpath_ring_t,
    fd: i32,
    buf_id: i32,
    offset: u32,
    len: u32,
    flags: u32,
) -> i32 {
    call(ring, |ring| done(ring.send_buffer(fd, buf_id, offset, len, quiet(flags, HOTPATH_QUIET)?)))
}

/// Closes fd once everything queued is sent: hotpath_submit_close_within without a limit.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_submit_close(ring: *mut hotpath_ring_t, fd: i32) -> i32 {
    call(ring, |ring| done(ring.submit_close(fd, None)))
}

/// Closes fd once everything queued is sent, or when the time is over. From the call on nothing that it receives is
/// told; the last word is OP_CLOSE. Sends that did not get out end with -ECANCELED. Called again, it changes the time.
///
/// Parameters: timeout_ms: 0 drops what is queued, HOTPATH_NO_TIMEOUT waits for as long as it takes.
///
/// Returns: 0; -EBADF; -ENOENT when the ring has closed it already; -EALREADY when nothing is left but the close
/// itself.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_submit_close_within(ring: *mut hotpath_ring_t, fd: i32, timeout_ms: u32) -> i32 {
    call(ring, |ring| done(ring.submit_close(fd, timeout(timeout_ms))))
}

/// Ends the sending half of fd once everything queued is sent; OP_SHUTDOWN tells. Receiving goes on.
///
/// Returns: 0; -EBADF; -EPIPE when it is ended already or a send has failed; -EBUSY, -ENOTCONN, -ESHUTDOWN and -ENOENT
/// as hotpath_submit_send.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_submit_shutdown(ring: *mut hotpath_ring_t, fd: i32) -> i32 {
    call(ring, |ring| done(ring.submit_shutdown(fd)))
}

/// Connects a socket; OP_CONNECT tells. Receives and sends may be submitted at once, and wait for it. Whatever the
/// number fd meant before has ended.
///
/// Parameters: fd, a socket. addr, addr_len: where to, copied.
///
/// Returns: 0; -EINVAL; -EBADF; -EALREADY when it is being closed; -ENOENT before the OP_ACCEPT of its number is taken.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring; addr is valid for reads of addr_len bytes during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_submit_connect(
    ring: *mut hotpath_ring_t,
    fd: i32,
    addr: *const sockaddr,
    addr_len: u32,
) -> i32 {
    call(ring, |ring| {
        // SAFETY: the caller's promise.
        let addr = unsafe { bytes(addr.cast(), addr_len as usize, "addr") }?;
        done(ring.submit_connect(fd, addr))
    })
}

/// Has an OP_TIMEOUT come after timeout_ms, its result the id. A pending timeout of the same id is replaced.
///
/// Returns: 0.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_submit_timeout(ring: *mut hotpath_ring_t, id: i64, timeout_ms: u32) -> i32 {
    call(ring, |ring| {
        ring.submit_timeout(id, milliseconds(timeout_ms));
        Ok(0)
    })
}

/// Takes a timeout back; no completion comes of it.
///
/// Returns: 0; -ENOENT when none of this id is pending (its completion may be on its way).
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_cancel_timeout(ring: *mut hotpath_ring_t, id: i64) -> i32 {
    call(ring, |ring| done(ring.cancel_timeout(id)))
}

/// Ends what is at work on fd. Each operation ends with its completion: -ECANCELED, unless it was faster. A connection
/// on which half of a send went out takes no more sends.
///
/// Parameters: ops: a bit 1u << HOTPATH_OP_* for each of ACCEPT, RECV, SEND and CONNECT that is meant; 0 for all.
///
/// Returns: 0; -EBADF; -ENOENT when nothing of that is at work; -ESHUTDOWN when it is being closed.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_cancel(ring: *mut hotpath_ring_t, fd: i32, ops: u32) -> i32 {
    call(ring, |ring| done(ring.cancel(fd, ops)))
}

/// Stops receiving (of a listener: accepting) until hotpath_resume_recv. What is on its way is still told.
///
/// Returns: 0; -EBADF; -ENOENT when the ring does not know fd; -ESHUTDOWN when it is being closed.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_pause_recv(ring: *mut hotpath_ring_t, fd: i32) -> i32 {
    call(ring, |ring| done(ring.pause(fd)))
}

/// Goes on after hotpath_pause_recv.
///
/// Returns: as hotpath_pause_recv.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_resume_recv(ring: *mut hotpath_ring_t, fd: i32) -> i32 {
    call(ring, |ring| done(ring.resume(fd)))
}

/// Tells when nothing was received or sent on fd for timeout_ms: by an OP_RECV that is -ETIMEDOUT, once for each
/// silence. The connection stays as it is; most callers close it then.
///
/// Parameters: timeout_ms: 0 turns it off.
///
/// Returns: 0; -EBADF; -ESHUTDOWN when it is being closed, -ENOENT when the ring has closed it.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_set_idle_timeout(ring: *mut hotpath_ring_t, fd: i32, timeout_ms: u32) -> i32 {
    call(ring, |ring| done(ring.set_idle_timeout(fd, milliseconds(timeout_ms))))
}

/// Says that the number fd is the caller's own: that it is going to close it itself, next, or that it has opened it
/// after the ring had closed it (a receive, accept or connect says so, too). Nothing more is told of what it was, but
/// an OP_SEND with F_ENDED for each send whose bytes are borrowed.
///
/// Returns: 0; -EBADF; -ENOENT when the ring does not know fd; -EALREADY when the ring is closing it.
///
/// Threads: the ring's. Blocking: no; the peer sees the end of the stream after the next wait, turn or flush.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_forget(ring: *mut hotpath_ring_t, fd: i32) -> i32 {
    call(ring, |ring| done(ring.forget(fd)))
}

/// Stops accepting for good. OP_DRAIN tells when the last connection has been closed or forgotten, or when the time is
/// over; its result is the number of those that are left.
///
/// Parameters: timeout_ms: HOTPATH_NO_TIMEOUT for no limit.
///
/// Returns: 0.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_drain(ring: *mut hotpath_ring_t, timeout_ms: u32) -> i32 {
    call(ring, |ring| {
        ring.drain(timeout(timeout_ms));
        Ok(0)
    })
}

/// Submits everything queued, waits for completions, and hands them out: one system call for all of it, none when
/// there is nothing to submit and enough is there.
///
/// Parameters: min_complete: how many to wait for; above cap it means cap, 0 means not to wait. timeout_ms: 0 only
/// looks, HOTPATH_NO_TIMEOUT has no limit. out, cap: where completions go.
///
/// Returns: their number; fewer than min_complete when the time is over or a signal came, 0 included, and when a
/// descriptor's number has come back: the OP_ACCEPT of a number never shares a batch with what is told of its last
/// connection before. -EINVAL; -EAGAIN when the kernel has no memory at the moment; SHMHOT_EUNHEALTHY.
///
/// Threads: the ring's. Blocking: as asked.
///
/// # Safety
/// ring is NULL or a ring; out is valid for writes of cap elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_wait(
    ring: *mut hotpath_ring_t,
    min_complete: u32,
    timeout_ms: u32,
    out: *mut Completion,
    cap: u32,
) -> i32 {
    call(ring, |ring| {
        // SAFETY: the caller's promise.
        let out = unsafe { completions(out, cap) }?;
        Ok(ring.wait(min_complete as usize, timeout(timeout_ms), out)? as i32)
    })
}

/// The caller's array of completions, nothing of which is read.
///
/// # Safety
/// `out` is NULL or valid for writes of `cap` elements during `'a`.
unsafe fn completions<'a>(out: *mut Completion, cap: u32) -> Result<&'a mut [MaybeUninit<Completion>], Refusal<Error>> {
    if cap == 0 {
        return Ok(&mut []);
    }
    if out.is_null() {
        return Err(Refusal::Null("out"));
    }
    if !out.is_aligned() {
        return argument("out is not aligned to 8 bytes");
    }
    // SAFETY: the caller's promise. A count has to fit into an int32_t.
    Ok(unsafe { std::slice::from_raw_parts_mut(out.cast(), cap.min(i32::MAX as u32) as usize) })
}

/// Submits everything queued, without waiting.
///
/// Returns: 0; -EAGAIN when the kernel wants its completions taken first; SHMHOT_EUNHEALTHY.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_flush(ring: *mut hotpath_ring_t) -> i32 {
    call(ring, |ring| done(ring.flush()))
}

/// Executes commands in order, each as the call that it names, then waits like hotpath_wait: for callers to whom a
/// call is dear.
///
/// Parameters: commands, n_commands: each is told in its status field whether it was refused; the others go on
/// nevertheless. The rest as hotpath_wait.
///
/// Returns: as hotpath_wait. shmhot_last_error tells of the last command that was refused.
///
/// Threads: the ring's. Blocking: as asked.
///
/// # Safety
/// ring is NULL or a ring; commands is valid for reads and writes of n_commands elements, out for writes of cap
/// elements; what the commands name is valid as the calls demand.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_turn(
    ring: *mut hotpath_ring_t,
    commands: *mut hotpath_command_t,
    n_commands: u32,
    min_complete: u32,
    timeout_ms: u32,
    out: *mut Completion,
    cap: u32,
) -> i32 {
    call(ring, |ring| {
        if commands.is_null() && n_commands > 0 {
            return Err(Refusal::Null("commands"));
        }
        // SAFETY: the caller's promise.
        let out = unsafe { completions(out, cap) }?;
        for index in 0..n_commands as usize {
            // SAFETY: the caller's promise; the field is written where the element was read.
            unsafe {
                let command = commands.add(index);
                let status = execute(ring, &command.read_unaligned()).map_or_else(|refusal| fail(&refusal), |()| 0);
                (&raw mut (*command).status).write_unaligned(status);
            }
        }
        Ok(ring.wait(min_complete as usize, timeout(timeout_ms), out)? as i32)
    })
}

/// Executes one command of a turn.
///
/// # Safety
/// What the command names is valid as its call demands.
unsafe fn execute(ring: &mut Ring, command: &hotpath_command_t) -> Result<(), Refusal<Error>> {
    let hotpath_command_t { op, flags, fd, data, len, buf_id, .. } = *command;
    let flags = u32::from(flags);
    let address = data as usize as *const c_void;
    let is_send = matches!(op, HOTPATH_CMD_SEND | HOTPATH_CMD_SEND_BORROWED);
    if command.reserved != 0 || command.reserved2 != 0 || (flags != 0 && !is_send) {
        return argument("a command's reserved fields, and the flags of all but sends, must be 0");
    }
    let release = (flags & HOTPATH_RELEASE != 0).then_some(buf_id);
    match op {
        HOTPATH_CMD_ACCEPT => ring.submit_accept(fd)?,
        HOTPATH_CMD_RECV => ring.submit_recv(fd)?,
        HOTPATH_CMD_SEND => {
            let quiet = quiet(flags, HOTPATH_QUIET | HOTPATH_RELEASE)?;
            // SAFETY: the caller's promise.
            let data = unsafe { bytes(address, len as usize, "data") }?;
            if let Some(id) = release {
                ring.buffer(id)?; // refused as a whole, or not at all
            }
            ring.send(fd, data, quiet)?;
            if let Some(id) = release {
                ring.release(id)?;
            }
        }
        HOTPATH_CMD_SEND_BORROWED => {
            let quiet = quiet(flags, HOTPATH_QUIET | HOTPATH_RELEASE)?;
            if address.is_null() && len > 0 {
                return Err(Refusal::Null("data"));
            }
            // SAFETY: the caller's promise.
            unsafe { ring.send_borrowed(fd, &[Segment::new(address.cast(), len as usize)], quiet, release) }?;
        }
        HOTPATH_CMD_CLOSE => ring.submit_close(fd, timeout(len))?,
        HOTPATH_CMD_CONNECT => {
            // SAFETY: the caller's promise.
            ring.submit_connect(fd, unsafe { bytes(address, len as usize, "data") }?)?;
        }
        HOTPATH_CMD_TIMEOUT => ring.submit_timeout(data as i64, milliseconds(len)),
        HOTPATH_CMD_SHUTDOWN => ring.submit_shutdown(fd)?,
        HOTPATH_CMD_RELEASE => ring.release(buf_id)?,
        HOTPATH_CMD_CANCEL => ring.cancel(fd, len)?,
        HOTPATH_CMD_CANCEL_TIMEOUT => ring.cancel_timeout(data as i64)?,
        HOTPATH_CMD_PAUSE => ring.pause(fd)?,
        HOTPATH_CMD_RESUME => ring.resume(fd)?,
        HOTPATH_CMD_IDLE_TIMEOUT => ring.set_idle_timeout(fd, milliseconds(len))?,
        HOTPATH_CMD_FORGET => ring.forget(fd)?,
        HOTPATH_CMD_DRAIN => ring.drain(timeout(len)),
        _ => return argument("a command's op is no HOTPATH_CMD_*"),
    }
    Ok(())
}

/// Where received bytes are, without a copy.
///
/// Parameters: buf_id, of an OP_RECV, not yet released. data receives the address, valid until the release.
///
/// Returns: the number of bytes received; -EINVAL when there is no such buffer; -EALREADY when it is not held.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring; data is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_buffer(ring: *mut hotpath_ring_t, buf_id: i32, data: *mut *const u8) -> i32 {
    call(ring, |ring| {
        if data.is_null() {
            return Err(Refusal::Null("data"));
        }
        let (base, len) = ring.buffer(buf_id)?;
        // SAFETY: the caller's promise.
        unsafe { data.write_unaligned(base) };
        Ok(len as i32)
    })
}

/// Where all buffers are, for callers who compute the address of one by themselves.
///
/// Returns: 0; -EINVAL.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring; out is valid for a write. The memory lives as long as the ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_buffers(ring: *mut hotpath_ring_t, out: *mut hotpath_buffers_t) -> i32 {
    call(ring, |ring| {
        if out.is_null() {
            return Err(Refusal::Null("out"));
        }
        let (base, buf_size, n_bufs) = ring.pool();
        // SAFETY: the caller's promise.
        unsafe { out.write_unaligned(hotpath_buffers_t { base, buf_size, n_bufs }) };
        Ok(0)
    })
}

/// Copies received bytes out of a buffer, which stays held.
///
/// Parameters: len: how many, at most as many as were received. out, out_cap: where to.
///
/// Returns: len; -EINVAL when the buffer does not exist or did not receive so many; -ENOSPC when out_cap is below len;
/// -EALREADY when it is not held.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring; out is valid for writes of out_cap bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_copy_buffer(
    ring: *mut hotpath_ring_t,
    buf_id: i32,
    len: u32,
    out: *mut c_void,
    out_cap: u32,
) -> i32 {
    call(ring, |ring| {
        let (base, received) = ring.buffer(buf_id)?;
        if len > received {
            return argument("len is more than was received into this buffer");
        }
        if len > out_cap {
            return Err(Refusal::Argument { status: -libc::ENOSPC, why: "out_cap is below len" });
        }
        if out.is_null() && len > 0 {
            return Err(Refusal::Null("out"));
        }
        // SAFETY: the buffer is held, so the kernel does not write to it; the rest is the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(base, out.cast(), len as usize) };
        Ok(len as i32)
    })
}

/// Gives a buffer back to the kernel.
///
/// Returns: 0; -EINVAL when there is no such buffer; -EALREADY when it is not held, -EBUSY when it is being sent. A
/// refused call harms nothing.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_release_buf(ring: *mut hotpath_ring_t, buf_id: i32) -> i32 {
    call(ring, |ring| done(ring.release(buf_id)))
}

/// Gives buffers back to the kernel: all that can be, also when one is refused.
///
/// Returns: 0; else why the last of the refused ones was, as hotpath_release_buf.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring; buf_ids is valid for reads of count elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_release_bufs(ring: *mut hotpath_ring_t, buf_ids: *const i32, count: u32) -> i32 {
    call(ring, |ring| {
        if buf_ids.is_null() && count > 0 {
            return Err(Refusal::Null("buf_ids"));
        }
        let mut result = Ok(());
        for index in 0..count as usize {
            // SAFETY: the caller's promise.
            let released = ring.release(unsafe { buf_ids.add(index).read_unaligned() });
            result = released.and(result);
        }
        done(result)
    })
}

/// Ends the ring's wait, or else the next one, by an OP_WAKE. Wakes that come before it is handed out are one.
///
/// Returns: 0; SHMHOT_EFORK.
///
/// Threads: any; also in a signal handler. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring that is not being freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_wake(ring: *const hotpath_ring_t) -> i32 {
    shared_call(ring, |ring| done(ring.wake()))
}

/// A descriptor that is readable while there is something to do for the ring, completions to take or commands to
/// submit: for poll, epoll, libuv or a fiber scheduler. When it is, call hotpath_wait with a timeout_ms of 0.
///
/// Returns: the descriptor; it belongs to the ring, do not read, write or close it. -EMFILE and its like.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_event_fd(ring: *mut hotpath_ring_t) -> i32 {
    call(ring, |ring| Ok(ring.event_fd()?))
}

/// Counters since the ring was made.
///
/// Parameters: out, its size set.
///
/// Returns: 0; -EINVAL.
///
/// Threads: the ring's. Blocking: no.
///
/// # Safety
/// ring is NULL or a ring; out is valid for writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_stats(ring: *mut hotpath_ring_t, out: *mut hotpath_stats_t) -> i32 {
    call(ring, |ring| {
        let stats = ring.stats();
        let stats = hotpath_stats_t {
            size: 0,
            syscalls: stats.syscalls,
            submissions: stats.submissions,
            completions: stats.completions,
            rearms: stats.rearms,
            starvations: stats.starvations,
            stale_dropped: stats.stale_dropped,
            short_sends: stats.short_sends,
            queue_full_flushes: stats.queue_full_flushes,
            cq_overflows: stats.cq_overflows,
            sends_refused: stats.sends_refused,
            buffers_held: stats.buffers_held,
            connections: stats.connections,
            in_flight: stats.in_flight,
        };
        // SAFETY: the caller's promise.
        unsafe { write_sized(out, &stats, "out") }?;
        Ok(0)
    })
}

/// Whether the ring can be used: 1, or 0 after a failure that it cannot recover from or hotpath_force_unhealthy.
///
/// Threads: any.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_is_healthy(ring: *const hotpath_ring_t) -> i32 {
    shared_call(ring, |ring| Ok(ring.is_healthy().into()))
}

/// Gives the ring up: its wait ends, calls are SHMHOT_EUNHEALTHY from now on. It is still to be freed.
///
/// Returns: 0.
///
/// Threads: any.
///
/// # Safety
/// ring is NULL or a ring that is not being freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_force_unhealthy(ring: *const hotpath_ring_t) -> i32 {
    shared_call(ring, |ring| {
        ring.force_unhealthy();
        Ok(0)
    })
}

/// What the ring stands on: HOTPATH_BACKEND_IO_URING.
///
/// Threads: any.
///
/// # Safety
/// ring is NULL or a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpath_backend(ring: *const hotpath_ring_t) -> i32 {
    shared_call(ring, |_| Ok(HOTPATH_BACKEND_IO_URING))
}
