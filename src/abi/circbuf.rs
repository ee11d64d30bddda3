//! Signals in shared memory.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use static_assertions::{assert_impl_all, const_assert_eq};

use super::{
    Extensible, Refusal, call, check_output, free, give, guard, invalid, put_text, read_options, read_sized, timeout,
    write_sized,
};
use crate::circbuf::{
    Awaited, CircBuf, Dtype, Error, Format, Info, Layout, MAX_DIMENSIONS, Metadata, Mirror, MirrorOptions, Options,
    Reservation, Ring, Source, Span, State, Strided, short_name,
};

/// timeout_ms: no limit.
pub const CIRCBUF_NO_TIMEOUT: u32 = u32::MAX;

/// Flag of a stream: layout 1, for readers of ezmsg-tools 0.4 to 0.9. It has no timestamps.
pub const CIRCBUF_LAYOUT_V1: u32 = 1;
/// Flag of a stream: layout 0, for readers of ezmsg-tools 0.1 to 0.3. It has no timestamps, and no static metadata.
pub const CIRCBUF_LAYOUT_V0: u32 = 2;

/// Flag of a mirror: begins with the frames that are written after its making, and not with the oldest that is there.
pub const CIRCBUF_FROM_NOW: u32 = 1;

/// State: nothing has the name.
pub const CIRCBUF_ABSENT: u32 = 0;
/// State: the stream is there, and has no format yet.
pub const CIRCBUF_UNCONFIGURED: u32 = 1;
/// State: its writer lives.
pub const CIRCBUF_ALIVE: u32 = 2;
/// State: its writer has died. What it has written can be read, and a next one may come.
pub const CIRCBUF_DEAD: u32 = 3;
/// State: its writer has ended in order. What it has written can be read.
pub const CIRCBUF_ENDED: u32 = 4;
/// State: it is another library's, whose header does not tell whether its writer lives.
pub const CIRCBUF_UNKNOWN: u32 = 5;

/// Dimensions of a frame, at most.
pub const CIRCBUF_MAX_DIMENSIONS: u32 = 63;
/// Bytes of a key, at most, without the NUL.
pub const CIRCBUF_MAX_KEY: u32 = 1024;

/// A stream that is written.
#[allow(non_camel_case_types)]
pub struct circbuf_t(CircBuf);

/// A stream that is read.
#[allow(non_camel_case_types)]
pub struct circbuf_mirror_t(Mirror);

/// The memory of a ring.
#[allow(non_camel_case_types)]
pub struct circbuf_ring_t(Arc<Ring>);

assert_impl_all!(circbuf_t: Send, Sync);
assert_impl_all!(circbuf_mirror_t: Send, Sync);
assert_impl_all!(circbuf_ring_t: Send, Sync);

/// What the frames of a stream are, and how many its ring holds. Zero means the default; set size, zero the rest, then
/// set what matters.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct circbuf_format_t {
    /// sizeof(circbuf_format_t).
    pub size: usize,
    /// Frames per second; 0 when they are irregular.
    pub rate: f64,
    /// The ring holds so many seconds, rounded up to a frame; or
    pub seconds: f64,
    /// so many frames, up to 2^32 - 1. One of the two is to be set; of a mirror both are.
    pub frames: u64,
    /// The time of the first frame, for timestamps that are derived from the rate. Of a mirror: 0.
    pub start: f64,
    /// Dimensions of a frame; 0 for a single number.
    pub ndim: u32,
    /// The length of each. Frames are in C order.
    pub shape: [u32; 63],
    /// What the source calls itself: UTF-8 and a NUL.
    pub key: [c_char; 1028],
    /// Type of the numbers, as numpy's type character: 'e' 'f' 'd' floats of 2, 4, 8 bytes; 'b' 'h' 'i' 'l' 'q' integers
    /// of 1, 2, 4, 8, 8; 'B' 'H' 'I' 'L' 'Q' without sign; '?' booleans; 'F' 'D' complex of 8, 16.
    pub dtype: u8,
    /// Zero.
    pub reserved: [u8; 11],
    /// Of a mirror: bytes of a frame. Of a format that is given: 0, or that.
    pub frame_size: u64,
}

/// How a stream is made. Zero means the default; set size, zero the rest, then set what matters.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct circbuf_options_t {
    /// sizeof(circbuf_options_t).
    pub size: usize,
    /// Name of the stream, of any length: UTF-8.
    pub name: *const c_char,
    /// What its frames are; NULL when circbuf_configure is to say it.
    pub format: *const circbuf_format_t,
    /// CIRCBUF_LAYOUT_V1, CIRCBUF_LAYOUT_V0; neither for layout 2, of ezmsg-tools 0.10.
    pub flags: u32,
    /// Permissions of the shared-memory objects; default 0600.
    pub mode: u32,
}

/// How a mirror is made. Zero means the default; set size, zero the rest, then set what matters.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct circbuf_mirror_options_t {
    /// sizeof(circbuf_mirror_options_t).
    pub size: usize,
    /// CIRCBUF_FROM_NOW.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// Which frames were read. Frames are numbered: those of this library's writers from the making of the stream, others
/// from the begin of their ring.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct circbuf_span_t {
    /// sizeof(circbuf_span_t), set by the caller.
    pub size: usize,
    /// Number of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How many before the first were lost, since the last span of this mirror. Exact when the writer is this library's.
    pub lost: u64,
    /// Which ring of this mirror they are of: 1 for the first that it has read, then counting.
    pub ring: u64,
    /// Generation of the static metadata that the stream has now; 0 when it has none.
    pub metadata_generation: u32,
    /// Zero.
    pub reserved: u32,
}

/// Frames where they are in the ring.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct circbuf_view_t {
    /// sizeof(circbuf_view_t), set by the caller.
    pub size: usize,
    /// Number of the first.
    pub first: u64,
    /// How many, in both parts.
    pub count: u64,
    /// As of a span.
    pub lost: u64,
    /// As of a span.
    pub ring: u64,
    /// Index of the first frame in the ring.
    pub index: u64,
    /// How many frames each part has: those up to the end of the ring, and those from its begin.
    pub counts: [u64; 2],
    /// The frames of each part; NULL when it has none.
    pub frames: [*const c_void; 2],
    /// Their timestamps; NULL when the part has no frames, or the layout no timestamps.
    pub timestamps: [*const f64; 2],
    /// As of a span.
    pub metadata_generation: u32,
    /// Zero.
    pub reserved: u32,
}

/// Room for frames in the ring.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct circbuf_reservation_t {
    /// sizeof(circbuf_reservation_t), set by the caller.
    pub size: usize,
    /// Number of the first.
    pub first: u64,
    /// Index of the first frame in the ring.
    pub index: u64,
    /// How many frames each part has: those up to the end of the ring, and those from its begin.
    pub counts: [u64; 2],
    /// The frames of each part.
    pub frames: [*mut c_void; 2],
    /// Their timestamps, derived from the rate if there is one; NULL when the layout has none.
    pub timestamps: [*mut f64; 2],
}

/// Where a ring is in this process's memory.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct circbuf_memory_t {
    /// sizeof(circbuf_memory_t), set by the caller.
    pub size: usize,
    /// Its first frame. That of a mirror may not be written.
    pub frames: *mut c_void,
    /// The first timestamp; NULL when the layout has none.
    pub timestamps: *mut f64,
    /// How many frames there are.
    pub count: u64,
    /// Bytes of each.
    pub frame_size: u64,
    /// As of a span; 0 for that of a writer.
    pub ring: u64,
}

/// What there is to know of a stream.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct circbuf_info_t {
    /// sizeof(circbuf_info_t), set by the caller.
    pub size: usize,
    /// Number of the ring's first frame.
    pub begin: u64,
    /// Number of the oldest frame that is still there.
    pub oldest: u64,
    /// Number that the next frame will have.
    pub written: u64,
    /// Number of the frame that this mirror reads next.
    pub position: u64,
    /// Frames that this mirror has lost, in all.
    pub lost: u64,
    /// When frames were last written, nanoseconds since 1970, some milliseconds early; 0 when that is not known.
    pub last_write_ns: i64,
    /// CIRCBUF_ABSENT to CIRCBUF_UNKNOWN.
    pub state: u32,
    /// 0, 1 or 2; 0 when there is no stream.
    pub layout: u32,
    /// Process of the writer, when it is this library's; else 0.
    pub pid: u32,
    /// Generation of the ring; 0xFFFFFFFF when there is none.
    pub generation: u32,
    /// Generation of the static metadata; 0 when there is none.
    pub metadata_generation: u32,
    /// 1 when the writer is this library's, else 0.
    pub is_ours: u32,
}

// SAFETY: integers and floats only, the first one a size_t.
unsafe impl Extensible for circbuf_format_t {}
// SAFETY: integers and pointers that may be NULL, the first one a size_t.
unsafe impl Extensible for circbuf_options_t {}
// SAFETY: integers only, the first one a size_t.
unsafe impl Extensible for circbuf_mirror_options_t {}
// SAFETY: integers only, the first one a size_t.
unsafe impl Extensible for circbuf_span_t {}
// SAFETY: integers and pointers that may be NULL, the first one a size_t.
unsafe impl Extensible for circbuf_view_t {}
// SAFETY: integers and pointers that may be NULL, the first one a size_t.
unsafe impl Extensible for circbuf_reservation_t {}
// SAFETY: integers and pointers that may be NULL, the first one a size_t.
unsafe impl Extensible for circbuf_memory_t {}
// SAFETY: integers only, the first one a size_t.
unsafe impl Extensible for circbuf_info_t {}

const_assert_eq!(size_of::<circbuf_format_t>(), size_of::<usize>() + 1336);
const_assert_eq!(size_of::<circbuf_options_t>(), 3 * size_of::<usize>() + 8);
const_assert_eq!(size_of::<circbuf_mirror_options_t>(), size_of::<usize>() + 8);
const_assert_eq!(size_of::<circbuf_span_t>(), size_of::<usize>() + 40);
const_assert_eq!(size_of::<circbuf_view_t>(), 5 * size_of::<usize>() + 64);
const_assert_eq!(size_of::<circbuf_reservation_t>(), 5 * size_of::<usize>() + 32);
const_assert_eq!(size_of::<circbuf_memory_t>(), 3 * size_of::<usize>() + 24);
const_assert_eq!(size_of::<circbuf_info_t>(), size_of::<usize>() + 72);
const_assert_eq!(CIRCBUF_NO_TIMEOUT, u32::MAX); // as `timeout` has it
const_assert_eq!(MAX_DIMENSIONS, CIRCBUF_MAX_DIMENSIONS as usize);
const_assert_eq!(crate::circbuf::MAX_KEY, CIRCBUF_MAX_KEY as usize);

type Outcome = Result<i32, Refusal<Error>>;

/// The name of the shared-memory object of a stream's header: what shm_open knows it by, after a slash.
///
/// Parameters: name: UTF-8 of any length. buf receives at most cap - 1 bytes and a NUL; it may be NULL when cap is 0.
///
/// Returns: the length of the whole name without the NUL, 23; -EINVAL; -EILSEQ when name is not UTF-8.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// name is NULL or a C string; buf is valid for writes of cap bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_short_name(name: *const c_char, buf: *mut c_char, cap: usize) -> i32 {
    // SAFETY: the caller's promise.
    guard::<Refusal<Error>>(|| unsafe { give_text(&short_name(text(name, "name")?), buf, cap) })
}

/// Makes a stream, for frames to be written.
///
/// What a writer of this library that has died has left is taken over: its readers go on with the new one. What another
/// library's has left is replaced, and so is what it still writes: it does not say that it lives.
///
/// In /dev/shm lies a file of the stream's short name with a dot before it and .lock behind it, which keeps writers
/// apart; it goes when the stream is closed.
///
/// Parameters: options: name must be set. stream receives the handle.
///
/// Returns: 0; -EBUSY when a living process of this library, or a child that it has forked, writes the stream: the last
/// error names it; -EINVAL for a format that cannot be; -EILSEQ when a text is not UTF-8; -EPERM when what is there belongs to another user; -ENOSPC when
/// /dev/shm has no room for the ring; -EACCES and whatever else making a file can end with.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// options is valid for reads of its size, its name a C string, its format NULL or valid for reads of its size; stream is
/// valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_create(options: *const circbuf_options_t, stream: *mut *mut circbuf_t) -> i32 {
    // SAFETY: the caller's promise.
    guard::<Refusal<Error>>(|| unsafe {
        give(stream, "stream", || {
            let options: circbuf_options_t = read_sized(options, "options")?;
            let name = text(options.name, "the options' name")?;
            let layout = match options.flags {
                0 => Layout::V2,
                CIRCBUF_LAYOUT_V1 => Layout::V1,
                CIRCBUF_LAYOUT_V0 => Layout::V0,
                _ => return Err(invalid("flags must be CIRCBUF_LAYOUT_V1, CIRCBUF_LAYOUT_V0 or 0")),
            };
            let mode = if options.mode == 0 { Options::default().mode } else { options.mode };
            // Before anything is made.
            let format = if options.format.is_null() { None } else { Some(format_from(options.format)?) };
            let made = CircBuf::create(name, Options { layout, mode })?;
            if let Some((format, start)) = format {
                made.configure(&format, start)?;
            }
            Ok(circbuf_t(made))
        })
    })
}

/// Says what the frames are from now on. Another format than before begins a new ring; the old one is removed, though
/// mirrors that have it read it to its end.
///
/// Returns: 1; 0 when the format is as it was, and nothing was done; -EINVAL for a format that cannot be; -EBUSY while
/// frames are reserved; -ESTALE when another library's writer has taken the name; -ENOSPC when there is no room for the new ring; SHMHOT_EFORK in a child. If it fails, the stream
/// is as it was.
///
/// Threads: any number; they take turns. Blocking: for another thread's turn, 5 s at most, then -EBUSY.
///
/// # Safety
/// stream is NULL or a handle; format is valid for reads of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_configure(stream: *const circbuf_t, format: *const circbuf_format_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(stream, "stream", |stream| -> Outcome {
            let (format, start) = format_from(format)?;
            Ok(stream.0.configure(&format, start)?.into())
        })
    }
}

/// Writes frames: all that fit into the ring, and of more the last.
///
/// Parameters: frames: one after the other, in C order. timestamps: one for each, ascending; NULL to go on from the last
/// one, or from the format's start, by the rate. Layouts 1 and 0 do not keep them. n: how many; 0 is nothing.
///
/// Returns: 0; -EAGAIN when the stream has no format; -EINVAL without timestamps when the frames are irregular; -EBUSY
/// while frames are reserved; -EMSGSIZE for more than can be counted, 2^62; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: for another thread's turn, 5 s at most, then -EBUSY. Never for a
/// reader.
///
/// # Safety
/// stream is NULL or a handle; frames is valid for reads of n frames, timestamps NULL or so for n numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_write(
    stream: *const circbuf_t,
    frames: *const c_void,
    timestamps: *const f64,
    n: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        // First as if all were well: that cannot panic, and needs no guard.
        if let Some(stream) = stream.as_ref()
            && !frames.is_null()
            && timestamps.is_aligned()
            && stream.0.write_plain(n, |bytes| {
                let timestamps = (!timestamps.is_null()).then(|| std::slice::from_raw_parts(timestamps, n));
                (std::slice::from_raw_parts(frames.cast(), bytes), timestamps)
            })
        {
            return 0;
        }
        write_frames(stream, frames, timestamps, n)
    }
}

/// # Safety
/// As of [`circbuf_write`].
#[cold]
#[inline(never)]
// "C", since nothing unwinds out of that: the caller needs no frame to catch it in.
unsafe extern "C" fn write_frames(
    stream: *const circbuf_t,
    frames: *const c_void,
    timestamps: *const f64,
    n: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(stream, "stream", |stream| -> Outcome {
            stream.0.write_with::<Refusal<Error>>(|_, frame_size| {
                let bytes = n.checked_mul(frame_size).filter(|&bytes| bytes <= isize::MAX as usize);
                let bytes = bytes.ok_or(invalid("n frames have more bytes than there can be"))?;
                Ok((Source::Contiguous(array(frames.cast(), bytes, "frames")?), times(timestamps, n)?))
            })?;
            Ok(0)
        })
    }
}

/// Writes frames of an array of any strides, such as a transposed one: what numpy calls strides, of n frames.
///
/// Parameters: frames: the first element. strides: bytes from one frame to the next, then from one element to the next
/// along each dimension of the frames; any number, negative ones and 0 too. The rest as of circbuf_write.
///
/// Returns, Threads, Blocking: as circbuf_write.
///
/// # Safety
/// stream is NULL or a handle; frames is valid for reads of all the elements, strides of as many numbers as the ring has
/// dimensions, timestamps NULL or of n.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_write_strided(
    stream: *const circbuf_t,
    frames: *const c_void,
    strides: *const isize,
    timestamps: *const f64,
    n: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(stream, "stream", |stream| -> Outcome {
            stream.0.write_with::<Refusal<Error>>(|format, _| {
                let strides = array(strides, format.frame_shape.len() + 1, "strides")?;
                let shape: Vec<usize> =
                    [n].into_iter().chain(format.frame_shape.iter().map(|&length| length as usize)).collect();
                let (origin, len) = match Strided::reach(strides, shape.into_iter(), format.dtype.size()) {
                    _ if n == 0 => (0, 0),
                    Some((before, behind)) => (before, before + behind),
                    None => return Err(invalid("strides lead further than there can be memory")),
                };
                let begin = frames.cast::<u8>().wrapping_sub(origin);
                let bytes =
                    if frames.is_null() { array(frames.cast(), len, "frames")? } else { array(begin, len, "frames")? };
                Ok((Source::Strided(Strided { bytes, origin, strides, frames: n }), times(timestamps, n)?))
            })?;
            Ok(0)
        })
    }
}

/// Gives room for frames in the ring, to be filled in place and published by circbuf_commit. The oldest frames are gone
/// at once.
///
/// Parameters: n: up to what the ring holds. out: set its size; the pointers are valid until circbuf_commit.
///
/// Returns: 0; -EMSGSIZE for more than the ring holds; -EAGAIN when the stream has no format; -EBUSY when frames are
/// reserved already; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: as circbuf_write.
///
/// # Safety
/// stream is NULL or a handle; out is valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_reserve(stream: *const circbuf_t, n: usize, out: *mut circbuf_reservation_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(stream, "stream", |stream| -> Outcome {
            check_output(out, "out")?;
            let Reservation { first, index, counts, ring } = stream.0.reserve(n as u64)?;
            let parts = Parts::of(&ring, index, counts);
            let reservation = circbuf_reservation_t {
                size: 0,
                first,
                index: index as u64,
                counts: parts.counts,
                frames: parts.frames,
                timestamps: parts.timestamps,
            };
            write_sized(out, &reservation, "out")?;
            Ok(0)
        })
    }
}

/// Publishes frames that were reserved.
///
/// Parameters: n: the first n of them; the others are given up.
///
/// Returns: 0; -EBUSY when none are reserved; -EMSGSIZE when there are fewer; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: as circbuf_write.
///
/// # Safety
/// stream is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_commit(stream: *const circbuf_t, n: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(stream, "stream", |stream| -> Outcome {
            stream.0.commit(n as u64)?;
            Ok(0)
        })
    }
}

/// Publishes what does not change from frame to frame: dimensions, axes, units, attributes. docs/circbuf.md says how.
///
/// Parameters: json: an object, as UTF-8; NULL removes what was published.
///
/// Returns: 1; 0 when it is as it was; -EINVAL for what is not such an object, the last error says where; -EILSEQ;
/// -EOPNOTSUPP in layout 0; -ENOSPC; -ESTALE as circbuf_configure; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: as circbuf_write.
///
/// # Safety
/// stream is NULL or a handle; json is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_set_metadata(stream: *const circbuf_t, json: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(stream, "stream", |stream| -> Outcome {
            let metadata = if json.is_null() {
                None
            } else {
                Some(Metadata::from_json(text(json, "json")?).map_err(Error::from)?)
            };
            Ok(stream.0.set_metadata(metadata.as_ref())?.into())
        })
    }
}

/// What there is to know of a stream that is written.
///
/// Parameters: out: set its size.
///
/// Returns: 0; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: as circbuf_write.
///
/// # Safety
/// stream is NULL or a handle; out is valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_info(stream: *const circbuf_t, out: *mut circbuf_info_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(stream, "stream", |stream| -> Outcome {
            write_sized(out, &stream.0.info()?.into(), "out")?;
            Ok(0)
        })
    }
}

/// Keeps the memory of the ring that is written now, for callers whose pointers into it live long: it stays mapped until
/// circbuf_ring_free, whatever becomes of the stream.
///
/// Parameters: ring receives the handle.
///
/// Returns: 0; -EAGAIN when the stream has no format; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: as circbuf_write.
///
/// # Safety
/// stream is NULL or a handle; ring is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_ring(stream: *const circbuf_t, ring: *mut *mut circbuf_ring_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(stream, "stream", |stream| -> Outcome { give(ring, "ring", || Ok(circbuf_ring_t(stream.0.ring()?))) })
    }
}

/// Ends the stream and removes it, and frees the handle. NULL is nothing. Mirrors that have it read what is left.
///
/// Returns: 0; what removing a file can end with; SHMHOT_EFORK in a child, where nothing is removed. The handle is gone in
/// any case.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// stream is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_close(stream: *mut circbuf_t) -> i32 {
    guard::<Refusal<Error>>(|| {
        if !stream.is_null() {
            // SAFETY: the caller's promise.
            unsafe { Box::from_raw(stream) }.0.close()?;
        }
        Ok(0)
    })
}

/// Ends the stream and leaves it to its readers and to the next writer, and frees the handle. NULL is nothing.
///
/// Returns: 0; SHMHOT_EFORK in a child. The handle is gone in any case.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// stream is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_detach(stream: *mut circbuf_t) -> i32 {
    guard::<Refusal<Error>>(|| {
        if !stream.is_null() {
            // SAFETY: the caller's promise.
            unsafe { Box::from_raw(stream) }.0.detach()?;
        }
        Ok(0)
    })
}

/// Makes a mirror of a stream: of this library's or of ezmsg-tools, of any layout. It need not be there yet; the mirror
/// looks for it, and follows it through new formats and new writers.
///
/// Parameters: options: NULL for the defaults. mirror receives the handle.
///
/// Returns: 0; -EINVAL; -EILSEQ when name is not UTF-8.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// name is NULL or a C string; options is NULL or valid for reads of its size; mirror is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_open(
    name: *const c_char,
    options: *const circbuf_mirror_options_t,
    mirror: *mut *mut circbuf_mirror_t,
) -> i32 {
    // SAFETY: the caller's promise.
    guard::<Refusal<Error>>(|| unsafe {
        give(mirror, "mirror", || {
            let options: circbuf_mirror_options_t = read_options(options)?;
            if options.flags & !CIRCBUF_FROM_NOW != 0 || options.reserved != 0 {
                return Err(invalid("flags must be CIRCBUF_FROM_NOW or 0, and reserved 0"));
            }
            let options = MirrorOptions { from_now: options.flags & CIRCBUF_FROM_NOW != 0 };
            Ok(circbuf_mirror_t(Mirror::open(text(name, "name")?, options)?))
        })
    })
}

/// Frees a mirror. NULL is nothing. Its pointers are gone, except into rings that are kept by circbuf_mirror_ring.
///
/// Returns: 0.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// mirror is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_close(mirror: *mut circbuf_mirror_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { free::<_, Error>(mirror) })
}

/// What the frames are. To be asked first, and again when another call says -ESTALE: then the frames to come are others,
/// and need other room.
///
/// Parameters: out: set its size.
///
/// Returns: 0; -ENOENT when there is no such stream yet; -EAGAIN when it has no format yet; -EPROTO when what is there is
/// not a stream, or damaged: the last error says where; -EACCES when it may not be read. So do the other calls of a
/// mirror.
///
/// Threads: any number; they take turns; also after a fork. Blocking: for another thread's turn, 5 s at most, then -EBUSY.
///
/// # Safety
/// mirror is NULL or a handle; out is valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_format(mirror: *const circbuf_mirror_t, out: *mut circbuf_format_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome {
            check_output(out, "out")?;
            let (format, _) = mirror.0.format()?;
            write_sized(out, &format_to(&format), "out")?;
            Ok(0)
        })
    }
}

/// Copies the frames that come next, as many as there are and as find room. What is copied is whole, and no frame comes
/// twice. Of a foreign writer see docs/circbuf.md.
///
/// Parameters: frames receives them, in frames_size bytes. timestamps receives as many, or is NULL: of layouts 1 and 0
/// they are counted from the begin of the ring by the rate, and NaN without a rate. n: at most so many. span: set its
/// size, or NULL.
///
/// Returns: how many; 0 when there are none, or no stream: circbuf_mirror_wait tells which; -ESTALE when
/// circbuf_mirror_format is to be asked first; -EINVAL when there is no room for a frame; -EPROTO when the stream is
/// damaged.
///
/// Threads: any number; they take turns; also after a fork. Blocking: for another thread's turn, 5 s at most, then -EBUSY.
///
/// # Safety
/// mirror is NULL or a handle; frames is valid for writes of frames_size bytes, timestamps NULL or so for n numbers, span
/// NULL or valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_read(
    mirror: *const circbuf_mirror_t,
    frames: *mut c_void,
    frames_size: usize,
    timestamps: *mut f64,
    n: u32,
    span: *mut circbuf_span_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome {
            let n = n.min(i32::MAX as u32) as usize;
            let room = room(frames.cast(), frames_size, "frames")?;
            let times = (!timestamps.is_null()).then(|| room_for_times(timestamps, n)).transpose()?;
            give_span(span, || mirror.0.read(room, times, n))
        })
    }
}

/// Copies frames by their time: from from_time on, and before to_time. What circbuf_mirror_read reads next stays as it is.
///
/// Timestamps must ascend for that. Where there is no room for all, they are the first.
///
/// Parameters: frames, frames_size, timestamps, n, span: as of circbuf_mirror_read.
///
/// Returns: how many; -ENODATA when the frames have no times; and as circbuf_mirror_read.
///
/// Threads, Blocking: as circbuf_mirror_read.
///
/// # Safety
/// As of circbuf_mirror_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_read_time(
    mirror: *const circbuf_mirror_t,
    from_time: f64,
    to_time: f64,
    frames: *mut c_void,
    frames_size: usize,
    timestamps: *mut f64,
    n: u32,
    span: *mut circbuf_span_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome {
            let n = n.min(i32::MAX as u32) as usize;
            let room = room(frames.cast(), frames_size, "frames")?;
            let times = (!timestamps.is_null()).then(|| room_for_times(timestamps, n)).transpose()?;
            give_span(span, || mirror.0.read_time(from_time, to_time, room, times, n))
        })
    }
}

/// The frames that come next, where they are: without a copy, and overwritten as the writer goes on. Whoever has used them
/// asks circbuf_mirror_view_is_intact.
///
/// Parameters: n: at most so many. view: set its size. Its pointers are valid until circbuf_mirror_format gives another
/// format, which this mirror's other calls announce by -ESTALE; or as long as circbuf_mirror_ring keeps the memory.
///
/// Returns: how many frames there are in both parts; 0 when there are none, or no stream; -ESTALE, -EPROTO as circbuf_mirror_read.
///
/// Threads, Blocking: as circbuf_mirror_read.
///
/// # Safety
/// mirror is NULL or a handle; view is valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_view(
    mirror: *const circbuf_mirror_t,
    n: u32,
    view: *mut circbuf_view_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome {
            check_output(view, "view")?;
            let found =
                mirror.0.show(n.min(i32::MAX as u32) as usize, |span, index, counts, memory| {
                    let Parts { counts, frames, timestamps } = Parts::of(memory, index, counts);
                    let is_there = counts.map(|count| count > 0);
                    circbuf_view_t {
                        size: 0,
                        first: span.first,
                        count: span.count as u64,
                        lost: span.lost,
                        ring: span.ring,
                        index: index as u64,
                        counts,
                        frames: std::array::from_fn(|i| if is_there[i] { frames[i].cast_const() } else { ptr::null() }),
                        timestamps: std::array::from_fn(|i| {
                            if is_there[i] { timestamps[i].cast_const() } else { ptr::null() }
                        }),
                        metadata_generation: span.metadata_generation,
                        reserved: 0,
                    }
                })?;
            let found = found.unwrap_or_else(circbuf_view_t::zeroed);
            write_sized(view, &found, "view")?;
            Ok(found.count as i32)
        })
    }
}

/// Whether the frames of a view are still what they were: asked after they were used.
///
/// Returns: 1; 0 when some of them may have been overwritten meanwhile.
///
/// Threads, Blocking: as circbuf_mirror_read.
///
/// # Safety
/// mirror is NULL or a handle; view is valid for reads of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_view_is_intact(
    mirror: *const circbuf_mirror_t,
    view: *const circbuf_view_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome {
            let view: circbuf_view_t = read_sized(view, "view")?;
            let span = Span { first: view.first, count: view.count as usize, ring: view.ring, ..Span::default() };
            Ok(mirror.0.is_intact(&span)?.into())
        })
    }
}

/// Goes to a frame, or to the nearest that is there.
///
/// Parameters: number: as of a span. UINT64_MAX for the next that will be written, 0 for the oldest.
///
/// Returns: 0; -EPROTO when the stream is damaged.
///
/// Threads, Blocking: as circbuf_mirror_read.
///
/// # Safety
/// mirror is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_seek(mirror: *const circbuf_mirror_t, number: u64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome {
            mirror.0.seek(number)?;
            Ok(0)
        })
    }
}

/// Waits until frames can be read.
///
/// That the writer has died or ended is said at once by the first wait, and by later ones when their time is over: they
/// wait for the next writer.
///
/// Parameters: n: at least so many, though no more than the ring holds; 0 means 1. timeout_ms: 0 only looks,
/// CIRCBUF_NO_TIMEOUT has no limit.
///
/// Returns: how many there are; 0 when the time is over or a signal came, and the writer lives, or is another library's;
/// -EOWNERDEAD when it has died, -ENODATA when it has ended in order, -ENOENT when there is no stream: and no frames are
/// left; -ESTALE when circbuf_mirror_format is to be asked; -EPROTO when the stream is damaged.
///
/// Threads: any number; also after a fork. Blocking: as asked: in a futex that the writer wakes. Another library's writer
/// wakes nobody: then it looks at intervals of 2 ms at most.
///
/// # Safety
/// mirror is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_wait(mirror: *const circbuf_mirror_t, n: u32, timeout_ms: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome {
            let nothing = |status, why| Err(Refusal::Argument { status, why });
            match mirror.0.wait(n.into(), timeout(timeout_ms))? {
                Awaited::Frames(frames) => Ok(frames.min(i32::MAX as u64) as i32),
                Awaited::Nothing => Ok(0),
                Awaited::Format => Err(Error::NewFormat.into()),
                Awaited::Dead => nothing(-libc::EOWNERDEAD, "the stream's writer has died, and no frames are left"),
                Awaited::Ended => nothing(-libc::ENODATA, "the stream's writer has ended it, and no frames are left"),
                Awaited::Absent => nothing(-libc::ENOENT, "there is no stream of this name yet"),
            }
        })
    }
}

/// The static metadata, as JSON: docs/circbuf.md says how.
///
/// What other processes have written is decoded as data: nothing of it is executed.
///
/// Parameters: buf receives at most cap - 1 bytes of UTF-8 and a NUL; it may be NULL when cap is 0.
///
/// Returns: the length of the whole text without the NUL; -ENODATA when the stream has none; -EPROTO when it is more than
/// metadata can be, or damaged.
///
/// Threads, Blocking: as circbuf_mirror_read.
///
/// # Safety
/// mirror is NULL or a handle; buf is valid for writes of cap bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_metadata(mirror: *const circbuf_mirror_t, buf: *mut c_char, cap: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(mirror, "mirror", |mirror| give_text(&mirror.0.metadata()?.to_json(), buf, cap)) }
}

/// What there is to know of the stream, and of this mirror.
///
/// Parameters: out: set its size.
///
/// Returns: 0; -EPROTO when the stream is damaged.
///
/// Threads, Blocking: as circbuf_mirror_read.
///
/// # Safety
/// mirror is NULL or a handle; out is valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_info(mirror: *const circbuf_mirror_t, out: *mut circbuf_info_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome {
            write_sized(out, &mirror.0.info()?.into(), "out")?;
            Ok(0)
        })
    }
}

/// Keeps the memory of the ring that is read now, for callers whose views live long: it stays mapped until
/// circbuf_ring_free, whatever becomes of mirror and stream.
///
/// Parameters: ring receives the handle.
///
/// Returns: 0; -ENOENT, -EAGAIN as circbuf_mirror_format.
///
/// Threads, Blocking: as circbuf_mirror_read.
///
/// # Safety
/// mirror is NULL or a handle; ring is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_mirror_ring(mirror: *const circbuf_mirror_t, ring: *mut *mut circbuf_ring_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(mirror, "mirror", |mirror| -> Outcome { give(ring, "ring", || Ok(circbuf_ring_t(mirror.0.ring()?))) })
    }
}

/// Where the memory of a ring is.
///
/// Parameters: out: set its size.
///
/// Returns: 0; -EINVAL.
///
/// Threads: any number at once, also after a fork. Blocking: no.
///
/// # Safety
/// ring is NULL or a handle; out is valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_ring_memory(ring: *const circbuf_ring_t, out: *mut circbuf_memory_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(ring, "ring", |circbuf_ring_t(ring)| -> Outcome {
            let memory = circbuf_memory_t {
                size: 0,
                frames: ring.frame_address(0).cast(),
                timestamps: ring.timestamp_address(0).unwrap_or(ptr::null_mut()),
                count: ring.frames() as u64,
                frame_size: ring.frame_size() as u64,
                ring: ring.id(),
            };
            write_sized(out, &memory, "out")?;
            Ok(0)
        })
    }
}

/// Lets go of the memory of a ring. NULL is nothing.
///
/// Returns: 0.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// ring is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn circbuf_ring_free(ring: *mut circbuf_ring_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { free::<_, Error>(ring) })
}

/// The pointers of one or two parts of a ring.
struct Parts {
    counts: [u64; 2],
    frames: [*mut c_void; 2],
    timestamps: [*mut f64; 2],
}

impl Parts {
    fn of(ring: &Ring, index: usize, counts: [usize; 2]) -> Self {
        let at = [index, 0];
        Self {
            counts: counts.map(|count| count as u64),
            frames: at.map(|index| ring.frame_address(index).cast()),
            timestamps: at.map(|index| ring.timestamp_address(index).unwrap_or(ptr::null_mut())),
        }
    }
}

impl From<Info> for circbuf_info_t {
    fn from(info: Info) -> Self {
        Self {
            size: 0,
            begin: info.begin,
            oldest: info.oldest,
            written: info.written,
            position: info.position,
            lost: info.lost,
            last_write_ns: info.last_write_ns,
            state: match info.state {
                State::Absent => CIRCBUF_ABSENT,
                State::Unconfigured => CIRCBUF_UNCONFIGURED,
                State::Alive => CIRCBUF_ALIVE,
                State::Dead => CIRCBUF_DEAD,
                State::Ended => CIRCBUF_ENDED,
                State::Unknown => CIRCBUF_UNKNOWN,
            },
            layout: info.layout.map_or(0, Layout::number),
            pid: info.pid.unwrap_or(0),
            generation: info.generation,
            metadata_generation: info.metadata_generation,
            is_ours: info.is_ours.into(),
        }
    }
}

/// # Safety
/// `text` is NULL or a C string that outlives the result.
unsafe fn text<'a>(text: *const c_char, name: &'static str) -> Result<&'a str, Refusal<Error>> {
    if text.is_null() {
        return Err(Refusal::Null(name));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Refusal::Argument { status: -libc::EILSEQ, why: "a text is not UTF-8" })
}

/// # Safety
/// `buf` is NULL or valid for writes of `cap` bytes.
unsafe fn give_text(text: &str, buf: *mut c_char, cap: usize) -> Outcome {
    if buf.is_null() && cap > 0 {
        return Err(Refusal::Null("buf"));
    }
    // SAFETY: the caller's promise.
    unsafe { put_text(text.as_bytes(), buf, cap) };
    i32::try_from(text.len()).map_err(|_| Refusal::Argument { status: -libc::EFBIG, why: "a text of more than 2 GiB" })
}

/// Has a span be filled, unless it is NULL.
///
/// # Safety
/// `to` is NULL or valid for reads and writes of the size in its first field.
unsafe fn give_span(to: *mut circbuf_span_t, read: impl FnOnce() -> crate::circbuf::Result<Span>) -> Outcome {
    if !to.is_null() {
        // SAFETY: the caller's promise.
        unsafe { check_output(to, "span") }?;
    }
    let Span { first, count, lost, ring, metadata_generation } = read()?;
    if !to.is_null() {
        let count = count as u64;
        let span = circbuf_span_t { size: 0, first, count, lost, ring, metadata_generation, reserved: 0 };
        // SAFETY: the caller's promise.
        unsafe { write_sized(to, &span, "span") }?;
    }
    Ok(count as i32)
}

/// # Safety
/// `from` is NULL or valid for reads of `len` of it.
unsafe fn array<'a, T>(from: *const T, len: usize, name: &'static str) -> Result<&'a [T], Refusal<Error>> {
    match len {
        0 => Ok(&[]),
        _ if from.is_null() => Err(Refusal::Null(name)),
        _ if !from.is_aligned() => Err(invalid("a pointer is not aligned to what it points to")),
        // SAFETY: the caller's promise; aligned.
        _ => Ok(unsafe { std::slice::from_raw_parts(from, len) }),
    }
}

/// # Safety
/// `from` is NULL or valid for reads of `n` numbers.
unsafe fn times<'a>(from: *const f64, n: usize) -> Result<Option<&'a [f64]>, Refusal<Error>> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { array(from, n, "timestamps") }.map(Some)
}

/// # Safety
/// `to` is NULL or valid for writes of `len` bytes.
unsafe fn room<'a>(to: *mut u8, len: usize, name: &'static str) -> Result<&'a mut [MaybeUninit<u8>], Refusal<Error>> {
    if len > isize::MAX as usize {
        return Err(invalid("a size that is none"));
    }
    match len {
        0 => Ok(&mut []),
        _ if to.is_null() => Err(Refusal::Null(name)),
        // SAFETY: the caller's promise; it may not be initialized.
        _ => Ok(unsafe { std::slice::from_raw_parts_mut(to.cast(), len) }),
    }
}

/// # Safety
/// `to` is valid for writes of `n` numbers.
unsafe fn room_for_times<'a>(to: *mut f64, n: usize) -> Result<&'a mut [MaybeUninit<f64>], Refusal<Error>> {
    if !to.is_aligned() {
        return Err(invalid("timestamps is not aligned to its numbers"));
    }
    // SAFETY: the caller's promise; aligned; it may not be initialized.
    Ok(unsafe { std::slice::from_raw_parts_mut(to.cast(), n) })
}

/// The format of a caller's, and the time of its first frame.
///
/// # Safety
/// `from` is NULL or valid for reads of the size in its first field.
unsafe fn format_from(from: *const circbuf_format_t) -> Result<(Format, f64), Refusal<Error>> {
    // SAFETY: the caller's promise.
    let format: circbuf_format_t = unsafe { read_sized(from, "format") }?;
    if format.reserved != [0; 11] {
        return Err(invalid("reserved of the format must be zero"));
    }
    let dtype = Dtype::new(format.dtype).ok_or(invalid("dtype must be one of numpy's characters efdbBhHiIlLqQ?FD"))?;
    let shape = format.shape.get(..format.ndim as usize).ok_or(invalid("ndim must be 63 at most"))?;
    let key = format.key.map(|character| character as u8);
    let key = key.split(|&byte| byte == 0).next().unwrap_or_default();
    if key.len() > crate::circbuf::MAX_KEY {
        return Err(invalid("a key has 1024 bytes at most, and a NUL"));
    }
    let key = str::from_utf8(key).map_err(|_| Refusal::Argument { status: -libc::EILSEQ, why: "key is not UTF-8" })?;
    let frames = match (format.frames, format.seconds) {
        (0, seconds) => Format::frames_for(seconds, format.rate)?,
        (frames, 0.0) => u32::try_from(frames).map_err(|_| invalid("a ring holds 2^32 - 1 frames at most"))?,
        // As a mirror gives them, rounded.
        (frames, seconds) if (seconds * format.rate - frames as f64).abs() < 1.0 && frames <= u32::MAX.into() => {
            frames as u32
        }
        _ => return Err(invalid("frames and seconds of the format are both set, and differ")),
    };
    let (rate, start, frame_size) = (format.rate, format.start, format.frame_size);
    let format = Format { dtype, frame_shape: shape.to_vec(), frames, rate, key: key.to_owned() };
    if frame_size != 0 && frame_size != format.frame_size() as u64 {
        return Err(invalid("frame_size of the format must be 0, or what type and shape say"));
    }
    Ok((format, start))
}

fn format_to(format: &Format) -> circbuf_format_t {
    let mut to = circbuf_format_t::zeroed();
    to.rate = format.rate;
    to.frames = format.frames.into();
    to.seconds = if format.rate > 0.0 { f64::from(format.frames) / format.rate } else { 0.0 };
    to.ndim = format.frame_shape.len() as u32;
    to.shape[..format.frame_shape.len()].copy_from_slice(&format.frame_shape);
    for (to, &byte) in to.key.iter_mut().zip(format.key.as_bytes()) {
        *to = byte as c_char;
    }
    to.dtype = format.dtype.character();
    to.frame_size = format.frame_size() as u64;
    to
}
