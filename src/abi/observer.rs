//! Utilization metrics.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::Arc;

use static_assertions::{assert_impl_all, const_assert_eq};

use super::{
    Extensible, Refusal, call, free, give, guard, invalid, path_from, put, put_text, read_options, read_sized,
    write_sized,
};
use crate::observer::{
    Error, Field, Format, Kind, Layout, Observer, Options, Schema, Store, StoreOptions, Type, Value, WorkerState,
};
use crate::status::Failure;

/// Type: an unsigned byte, :U8. Names with a colon are those of Ruby's IO::Buffer.
pub const OBSERVER_U8: u8 = 1;
/// Type: a signed byte, :S8.
pub const OBSERVER_S8: u8 = 2;
/// Type: :u16. Lower case is little-endian.
pub const OBSERVER_U16_LE: u8 = 3;
/// Type: :U16. Upper case is big-endian.
pub const OBSERVER_U16_BE: u8 = 4;
/// Type: :s16.
pub const OBSERVER_S16_LE: u8 = 5;
/// Type: :S16.
pub const OBSERVER_S16_BE: u8 = 6;
/// Type: :u32.
pub const OBSERVER_U32_LE: u8 = 7;
/// Type: :U32.
pub const OBSERVER_U32_BE: u8 = 8;
/// Type: :s32.
pub const OBSERVER_S32_LE: u8 = 9;
/// Type: :S32.
pub const OBSERVER_S32_BE: u8 = 10;
/// Type: :u64.
pub const OBSERVER_U64_LE: u8 = 11;
/// Type: :U64.
pub const OBSERVER_U64_BE: u8 = 12;
/// Type: :s64.
pub const OBSERVER_S64_LE: u8 = 13;
/// Type: :S64.
pub const OBSERVER_S64_BE: u8 = 14;
/// Type: :f32.
pub const OBSERVER_F32_LE: u8 = 15;
/// Type: :F32.
pub const OBSERVER_F32_BE: u8 = 16;
/// Type: :f64.
pub const OBSERVER_F64_LE: u8 = 17;
/// Type: :F64.
pub const OBSERVER_F64_BE: u8 = 18;

/// Kind: nobody has said.
pub const OBSERVER_UNKNOWN: u8 = 0;
/// Kind: only grows, such as the requests that were answered.
pub const OBSERVER_COUNTER: u8 = 1;
/// Kind: grows and shrinks, such as the requests that are being answered.
pub const OBSERVER_GAUGE: u8 = 2;

/// Layout: each field begins where the one before ends, as async-utilization has it.
pub const OBSERVER_PACKED: u32 = 0;
/// Layout: each field begins at a multiple of its size, so that several processes may add to it, and it never tears.
pub const OBSERVER_ALIGNED: u32 = 1;

/// Flag of an observer: a value that its field cannot hold is -ERANGE. Without it, the nearest that it can is stored.
pub const OBSERVER_REFUSE: u32 = 1;
/// Flag of an observer: for reading only.
pub const OBSERVER_READ_ONLY: u32 = 2;

/// Flag of a store: reads by system calls instead of a mapping, so that a file which somebody cuts is an error and not a
/// SIGBUS.
pub const OBSERVER_CHECKED: u32 = 4;

/// State of a worker: its segment is taken, but nobody has said what its numbers are.
pub const OBSERVER_UNDESCRIBED: u32 = 0;
/// State of a worker: its process runs.
pub const OBSERVER_ALIVE: u32 = 1;
/// State of a worker: its process has ended.
pub const OBSERVER_DEAD: u32 = 2;

/// Exposition: Prometheus' text format, "text/plain; version=0.0.4".
pub const OBSERVER_PROMETHEUS: u32 = 0;
/// Exposition: OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8".
pub const OBSERVER_OPENMETRICS: u32 = 1;

/// Of a value: as_u64 is it.
pub const OBSERVER_UNSIGNED: u32 = 1;
/// Of a value: as_i64 is it.
pub const OBSERVER_SIGNED: u32 = 2;
/// Of a value: as_f64 is it.
pub const OBSERVER_FLOAT: u32 = 3;

/// Which fields a segment has, and where.
#[allow(non_camel_case_types)]
pub struct observer_schema_t {
    schema: Schema,
    /// Name, help and unit of each field, as C has them.
    texts: Vec<[CString; 3]>,
}

/// A segment that is open.
#[allow(non_camel_case_types)]
pub struct observer_t(Observer);

assert_impl_all!(observer_schema_t: Send, Sync);
assert_impl_all!(observer_t: Send, Sync);

/// A field. Zero means the default; set size, zero the rest, then set name and type, and what else is known.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct observer_field_t {
    /// sizeof(observer_field_t).
    pub size: usize,
    /// Its name, unique in its schema: 1 to 127 bytes of UTF-8.
    pub name: *const c_char,
    /// What it counts, in a sentence; or NULL.
    pub help: *const c_char,
    /// Its unit, such as "bytes" or "seconds"; or NULL.
    pub unit: *const c_char,
    /// OBSERVER_U8 to OBSERVER_F64_BE.
    pub r#type: u8,
    /// OBSERVER_UNKNOWN, OBSERVER_COUNTER or OBSERVER_GAUGE.
    pub kind: u8,
    /// Zero.
    pub reserved: u16,
    /// Bytes from the begin of the segment. Of a field that is added: zero.
    pub offset: u32,
}

/// How a segment is opened. Zero means the default; set size, zero the rest, then set what matters.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct observer_options_t {
    /// sizeof(observer_options_t).
    pub size: usize,
    /// OBSERVER_REFUSE, OBSERVER_READ_ONLY.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// A number of a field.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct observer_value_t {
    /// OBSERVER_UNSIGNED, OBSERVER_SIGNED or OBSERVER_FLOAT: which member of number it is.
    pub r#type: u32,
    /// Zero.
    pub reserved: u32,
    /// The number.
    pub number: observer_number_t,
}

/// The number of a value.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub union observer_number_t {
    /// Of OBSERVER_UNSIGNED.
    pub as_u64: u64,
    /// Of OBSERVER_SIGNED.
    pub as_i64: i64,
    /// Of OBSERVER_FLOAT.
    pub as_f64: f64,
}

/// Where a field is.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct observer_slot_t {
    /// In this process's memory, aligned or not.
    pub address: *mut c_void,
    /// Its bytes.
    pub length: u32,
    /// OBSERVER_U8 to OBSERVER_F64_BE.
    pub r#type: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// How a store is made or opened. Zero means the default; set size, zero the rest, then set what matters.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct observer_store_options_t {
    /// sizeof(observer_store_options_t).
    pub size: usize,
    /// OBSERVER_READ_ONLY, OBSERVER_CHECKED.
    pub flags: u32,
    /// Permissions of a new store; default 0600.
    pub mode: u32,
    /// Bytes of a segment of a new store, up to 1 MiB; default 512.
    pub segment_size: u32,
    /// Segments of a new store, up to 65536; default 64. It grows.
    pub segments: u32,
}

/// Who has a segment.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct observer_worker_t {
    /// sizeof(observer_worker_t), set by the caller.
    pub size: usize,
    /// When it took the segment: nanoseconds since 1970.
    pub since_ns: i64,
    /// Where the segment begins in the file.
    pub offset: u64,
    /// Its process.
    pub pid: u32,
    /// OBSERVER_UNDESCRIBED, OBSERVER_ALIVE or OBSERVER_DEAD.
    pub state: u32,
    /// How many fields it has.
    pub fields: u32,
    /// Zero.
    pub reserved: u32,
    /// Its service; cut to 127 bytes.
    pub service: [c_char; 128],
}

/// A file of segments, one for each worker.
#[allow(non_camel_case_types)]
pub struct observer_store_t(Store);

assert_impl_all!(observer_store_t: Send, Sync);

// SAFETY: integers only, the first one a size_t.
unsafe impl Extensible for observer_store_options_t {}
// SAFETY: integers only, the first one a size_t.
unsafe impl Extensible for observer_worker_t {}
// SAFETY: integers and pointers that may be NULL, the first one a size_t.
unsafe impl Extensible for observer_field_t {}
// SAFETY: integers only, the first one a size_t.
unsafe impl Extensible for observer_options_t {}

const_assert_eq!(size_of::<observer_field_t>(), 4 * size_of::<usize>() + 8);
const_assert_eq!(size_of::<observer_options_t>(), size_of::<usize>() + 8);
const_assert_eq!(size_of::<observer_value_t>(), 16);
const_assert_eq!(size_of::<observer_store_options_t>(), size_of::<usize>() + 16);
const_assert_eq!(size_of::<observer_worker_t>(), size_of::<usize>() + 160);
const_assert_eq!(size_of::<observer_slot_t>(), size_of::<usize>() + 8);

type Outcome = Result<i32, Refusal<Error>>;

/// The type of a name: Ruby's of IO::Buffer, such as "U8", "u16" or "F64", or one of u8, s8, and i8, i16 to i64 for the
/// signed ones.
///
/// Returns: the type; -EINVAL when name is NULL or names none.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// name is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_type(name: *const c_char) -> i32 {
    guard::<Refusal<Error>>(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { text(name, "name") }?.ok_or(Refusal::Null("name"))?;
        Type::from_name(name).map(|found| found.code().into()).ok_or(NO_TYPE)
    })
}

/// Ruby's name of a type. Static text; NULL when there is no such type.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn observer_type_name(r#type: i32) -> *const c_char {
    const NAMES: [&CStr; 18] = [
        c"U8", c"S8", c"u16", c"U16", c"s16", c"S16", c"u32", c"U32", c"s32", c"S32", c"u64", c"U64", c"s64", c"S64",
        c"f32", c"F32", c"f64", c"F64",
    ];
    let at = usize::try_from(r#type).ok().and_then(|code| code.checked_sub(1));
    at.and_then(|at| NAMES.get(at)).map_or(std::ptr::null(), |name| name.as_ptr())
}

/// Makes a schema without fields.
///
/// Parameters: layout: OBSERVER_PACKED or OBSERVER_ALIGNED. schema receives the handle.
///
/// Returns: 0; -EINVAL.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// schema is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_schema_new(layout: u32, schema: *mut *mut observer_schema_t) -> i32 {
    // SAFETY: the caller's promise.
    guard::<Refusal<Error>>(|| unsafe {
        give(schema, "schema", || {
            let layout = match layout {
                OBSERVER_PACKED => Layout::Packed,
                OBSERVER_ALIGNED => Layout::Aligned,
                _ => return Err(invalid("layout must be OBSERVER_PACKED or OBSERVER_ALIGNED")),
            };
            Ok(observer_schema_t::new(Schema::new(layout)))
        })
    })
}

/// Adds a field behind those that are there. Observers that are open already do not notice.
///
/// Parameters: field is copied.
///
/// Returns: its index; -EILSEQ for a text that is not UTF-8; -EINVAL for a name, type or kind that cannot be; -EEXIST for a name that is there; -E2BIG for more
/// than 4096 fields.
///
/// Threads: one, when no other uses the schema. Blocking: no.
///
/// # Safety
/// schema is NULL or a handle; field is NULL or valid for reads of its size, and its texts are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_schema_add(schema: *mut observer_schema_t, field: *const observer_field_t) -> i32 {
    guard::<Refusal<Error>>(|| {
        // SAFETY: the caller's promise.
        let schema = unsafe { schema.as_mut() }.ok_or(Refusal::Null("schema"))?;
        // SAFETY: the caller's promise.
        let field: observer_field_t = unsafe { read_sized(field, "field") }?;
        if (field.reserved, field.offset) != (0, 0) {
            return Err(invalid("reserved and offset of the field must be zero"));
        }
        let kind = match field.kind {
            OBSERVER_UNKNOWN => Kind::Unknown,
            OBSERVER_COUNTER => Kind::Counter,
            OBSERVER_GAUGE => Kind::Gauge,
            _ => return Err(invalid("kind must be OBSERVER_UNKNOWN, OBSERVER_COUNTER or OBSERVER_GAUGE")),
        };
        // SAFETY: the caller's promise.
        let (name, help, unit) =
            unsafe { (text(field.name, "name")?, text(field.help, "help")?, text(field.unit, "unit")?) };
        let field = Field {
            name: name.ok_or(Refusal::Null("the field's name"))?.into(),
            r#type: Type::from_code(field.r#type).ok_or(NO_TYPE)?,
            kind,
            help: help.unwrap_or_default().into(),
            unit: unit.unwrap_or_default().into(),
        };
        let texts = texts_of(&field);
        let index = schema.schema.add(field)?;
        schema.texts.push(texts);
        Ok(index as i32)
    })
}

/// How many fields there are.
///
/// Returns: their number; -EINVAL.
///
/// Threads: any number at once. Blocking: no.
///
/// # Safety
/// schema is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_schema_count(schema: *const observer_schema_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(schema, "schema", |schema| -> Outcome { Ok(schema.schema.fields().len() as i32) }) }
}

/// How many bytes the fields take.
///
/// Returns: bytes; -EINVAL.
///
/// Threads: any number at once. Blocking: no.
///
/// # Safety
/// schema is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_schema_size(schema: *const observer_schema_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(schema, "schema", |schema| -> Outcome { Ok(schema.schema.size() as i32) }) }
}

/// The index of a field.
///
/// Returns: the index; -ENOENT when none has this name.
///
/// Threads: any number at once. Blocking: no.
///
/// # Safety
/// schema is NULL or a handle; name is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_schema_index(schema: *const observer_schema_t, name: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(schema, "schema", |schema| index_of(&schema.schema, name)) }
}

/// Describes a field.
///
/// Parameters: out: set its size. Its texts, empty ones instead of NULL, live as long as the schema.
///
/// Returns: 0; -ENOENT when there is no such index.
///
/// Threads: any number at once. Blocking: no.
///
/// # Safety
/// schema is NULL or a handle; out is NULL or valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_schema_field(
    schema: *const observer_schema_t,
    index: u32,
    out: *mut observer_field_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(schema, "schema", |schema| -> Outcome {
            let no_index = || Error::NoIndex { index, len: schema.texts.len() };
            let (field, offset) = schema.schema.field(index as usize).ok_or_else(no_index)?;
            let [name, help, unit] = &schema.texts[index as usize];
            let described = observer_field_t {
                size: 0,
                name: name.as_ptr(),
                help: help.as_ptr(),
                unit: unit.as_ptr(),
                r#type: field.r#type.code(),
                kind: match field.kind {
                    Kind::Unknown => OBSERVER_UNKNOWN,
                    Kind::Counter => OBSERVER_COUNTER,
                    Kind::Gauge => OBSERVER_GAUGE,
                },
                reserved: 0,
                offset: offset as u32,
            };
            write_sized(out, &described, "out")?;
            Ok(0)
        })
    }
}

/// Frees a schema. NULL is nothing. Observers have copies of their own.
///
/// Returns: 0.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// schema is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_schema_free(schema: *mut observer_schema_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { free::<_, Error>(schema) })
}

/// Opens a segment, a part of a file.
///
/// Its blocks are allocated, so that a full disk is an error here, and not SIGBUS later. That remains if somebody cuts
/// the file.
///
/// Parameters: schema is copied. path: of a file that is long enough; links are not followed, unless for reading only.
/// size: bytes of the segment. offset: where it begins, at any byte. options, NULL for the defaults. observer receives
/// the handle.
///
/// Returns: 0; -EINVAL when the schema is longer than the segment, the segment does not lie in the file, or the aligned
/// layout is not aligned there; -ENOENT,
/// -EACCES, -ELOOP, -ENOSPC and whatever else opening a file can end with.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// schema is NULL or a handle; path is NULL or a C string; options is NULL or valid for reads of its size; observer is
/// NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_open(
    schema: *const observer_schema_t,
    path: *const c_char,
    size: usize,
    offset: u64,
    options: *const observer_options_t,
    observer: *mut *mut observer_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(schema, "schema", |schema| {
            let options = read_options(options)?;
            if options.flags & !(OBSERVER_REFUSE | OBSERVER_READ_ONLY) != 0 || options.reserved != 0 {
                return Err(invalid("an unknown flag is set in options"));
            }
            let path = path_from(path).ok_or(Refusal::Null("path"))?;
            let core = Options {
                refuse: options.flags & OBSERVER_REFUSE != 0,
                read_only: options.flags & OBSERVER_READ_ONLY != 0,
            };
            let schema = Arc::new(schema.schema.clone());
            give(observer, "observer", || Ok(observer_t(Observer::open(schema, path, size, offset, core)?)))
        })
    }
}

/// Closes a segment, whose numbers stay. NULL is nothing.
///
/// Returns: 0.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// observer is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_close(observer: *mut observer_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { free::<_, Error>(observer) })
}

/// The index of a field, for the calls by index.
///
/// Returns: the index; -ENOENT when none has this name.
///
/// Threads: any number at once. Blocking: no.
///
/// # Safety
/// observer is NULL or a handle; name is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_index(observer: *const observer_t, name: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(observer, "observer", |observer| index_of(observer.0.schema(), name)) }
}

/// Stores a number in the field of a name.
///
/// Parameters: value: for a field of integers its fraction is cut off.
///
/// Returns: 0; -ENOENT when none has this name; and as observer_set_u64.
///
/// Threads: any number at once. Blocking: no.
///
/// # Safety
/// observer is NULL or a handle; name is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_set(observer: *const observer_t, name: *const c_char, value: f64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        // What needs no thought cannot panic, so it goes without the guard.
        if let (Some(observer), false) = (observer.as_ref(), name.is_null())
            && let Some(index) = observer.0.schema().index_of_bytes(CStr::from_ptr(name).to_bytes())
            && observer.0.set_plain_float(index as u32, value)
        {
            return 0;
        }
        call(observer, "observer", |observer| {
            let index = index_of(observer.0.schema(), name)?;
            done(observer.0.set(index as u32, Value::Float(value)))
        })
    }
}

/// Stores an unsigned number.
///
/// Returns: 0; -ENOENT when there is no such index; with OBSERVER_REFUSE -ERANGE when the field cannot hold it; -EACCES
/// when the observer is for reading only; SHMHOT_EFORK in a child of the process that opened it. Nothing is stored then.
///
/// Threads: any number at once. Blocking: no.
///
/// # Safety
/// observer is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_set_u64(observer: *const observer_t, index: u32, value: u64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        // What needs no thought cannot panic, so it goes without the guard.
        if let Some(observer) = observer.as_ref()
            && observer.0.set_plain(index, value)
        {
            return 0;
        }
        set_unsigned(observer, index, value)
    }
}

/// # Safety
/// `observer` is NULL or a handle.
#[cold]
#[inline(never)]
// "C", since nothing unwinds out of that: the caller needs no frame to catch it in.
unsafe extern "C" fn set_unsigned(observer: *const observer_t, index: u32, value: u64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { set(observer, index, Value::Unsigned(value)) }
}

/// Stores a signed number.
///
/// Returns, Threads, Blocking: as observer_set_u64.
///
/// # Safety
/// observer is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_set_i64(observer: *const observer_t, index: u32, value: i64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { set(observer, index, Value::Signed(value)) }
}

/// Stores a float; for a field of integers its fraction is cut off.
///
/// Returns: -EDOM when value is not a number and the field holds integers; and as observer_set_u64.
///
/// Threads, Blocking: as observer_set_u64.
///
/// # Safety
/// observer is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_set_f64(observer: *const observer_t, index: u32, value: f64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { set(observer, index, Value::Float(value)) }
}

/// Adds an unsigned number to a field: exactly, beside other threads with this observer; in the aligned layout beside
/// everybody. A sum that the field cannot hold is clamped, or -ERANGE with OBSERVER_REFUSE.
///
/// Returns: as observer_set_u64.
///
/// Threads: any number at once; in the packed layout they take turns. Blocking: no.
///
/// # Safety
/// observer is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_add_u64(observer: *const observer_t, index: u32, value: u64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        // As in observer_set_u64.
        if let Some(observer) = observer.as_ref()
            && observer.0.add_plain(index, value)
        {
            return 0;
        }
        add_unsigned(observer, index, value)
    }
}

/// # Safety
/// `observer` is NULL or a handle.
#[cold]
#[inline(never)]
// As set_unsigned.
unsafe extern "C" fn add_unsigned(observer: *const observer_t, index: u32, value: u64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { add(observer, index, Value::Unsigned(value)) }
}

/// Adds a signed number to a field.
///
/// Returns, Threads, Blocking: as observer_add_u64.
///
/// # Safety
/// observer is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_add_i64(observer: *const observer_t, index: u32, value: i64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { add(observer, index, Value::Signed(value)) }
}

/// Adds a float to a field; in a field of integers the fraction of the sum is cut off.
///
/// Returns: -EDOM when the sum is not a number and the field holds integers; and as observer_add_u64.
///
/// Threads, Blocking: as observer_add_u64.
///
/// # Safety
/// observer is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_add_f64(observer: *const observer_t, index: u32, value: f64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { add(observer, index, Value::Float(value)) }
}

/// The number of a field.
///
/// Returns: 0; -ENOENT when there is no such index.
///
/// Threads: any number at once, also after a fork. Blocking: no.
///
/// # Safety
/// observer is NULL or a handle; out is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_get(observer: *const observer_t, index: u32, out: *mut observer_value_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(observer, "observer", |observer| {
            put(out, |out| -> crate::observer::Result<()> {
                *out = observer.0.get(index)?.into();
                Ok(())
            })
        })
    }
}

/// Where a field is in memory, for callers that store by themselves: as long as the observer is open, and if it is not
/// for reading only.
///
/// Returns: 0; -ENOENT when there is no such index.
///
/// Threads: any number at once. Blocking: no.
///
/// # Safety
/// observer is NULL or a handle; out is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_slot(observer: *const observer_t, index: u32, out: *mut observer_slot_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(observer, "observer", |observer| {
            put(out, |out| -> crate::observer::Result<()> {
                let (address, found) = observer.0.slot(index)?;
                *out = observer_slot_t {
                    address: address.cast(),
                    length: found.size() as u32,
                    r#type: found.code(),
                    reserved: [0; 3],
                };
                Ok(())
            })
        })
    }
}

/// Makes a store anew, a file of segments, and beside it PATH.sidecar, which says what they are. What had these names is
/// removed; whoever has that open keeps it.
///
/// Parameters: path. options, NULL for the defaults. store receives the handle.
///
/// Returns: 0; -EINVAL for a size or mode that cannot be; -EBUSY when another process is changing it for too long; -ENOSPC,
/// -EACCES and whatever else making a file can end with: what was there before is gone then.
///
/// Threads: any. Blocking: one second at most.
///
/// # Safety
/// path is NULL or a C string; options is NULL or valid for reads of its size; store is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_create(
    path: *const c_char,
    options: *const observer_store_options_t,
    store: *mut *mut observer_store_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { make_store(path, options, store, Store::create) }
}

/// Opens a store.
///
/// Parameters: options, NULL for the defaults; what concerns a new store does not matter.
///
/// Returns: 0; -ENOENT, -EACCES and whatever else opening a file can end with; -EPROTO when the sidecar is damaged, of
/// another version, or does not go with the file.
///
/// Threads: any. Blocking: no.
///
/// # Safety
/// path is NULL or a C string; options is NULL or valid for reads of its size; store is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_open(
    path: *const c_char,
    options: *const observer_store_options_t,
    store: *mut *mut observer_store_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { make_store(path, options, store, Store::open) }
}

/// Closes a store; its files stay. NULL is nothing.
///
/// Returns: 0.
///
/// Threads: any, when no other call uses the handle. Blocking: no.
///
/// # Safety
/// store is NULL or a handle, which is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_close(store: *mut observer_store_t) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe { free::<_, Error>(store) })
}

/// Opens what has the store's name now, after it was made anew or mended. If that fails, all is as before.
///
/// Returns: as observer_store_open; SHMHOT_EFORK in a child of the process that opened it.
///
/// Threads: any number; they take turns. Blocking: one second at most.
///
/// # Safety
/// store is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_reopen(store: *const observer_store_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(store, "store", |store| done(store.0.reopen())) }
}

/// Bytes of a segment: segment i begins at i times as many.
///
/// Returns: bytes; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: one second at most.
///
/// # Safety
/// store is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_segment_size(store: *const observer_store_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(store, "store", |store| -> Outcome { Ok(store.0.segment_size()? as i32) }) }
}

/// How many segments there are, taken or not.
///
/// Returns: their number; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: one second at most.
///
/// # Safety
/// store is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_count(store: *const observer_store_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(store, "store", |store| count(store.0.count())) }
}

/// Takes a segment for a worker, the one that has been free for longest; its numbers are zero. When none is free, the
/// store grows under everybody who has it open.
///
/// Parameters: schema, NULL when the worker has yet to say what its numbers are. service, NULL for none. pid: the
/// worker's process, 0 for the caller.
///
/// Returns: the segment; -EINVAL when the schema is longer than a segment, or aligned and segments are not; -EMSGSIZE when the sidecar has no room for its
/// texts; -ESRCH when there is no such process; -EBUSY when another process is changing the store for too long; -EACCES
/// when it is for reading only; -ENOSPC; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: one second at most.
///
/// # Safety
/// store and schema are NULL or handles; service is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_allocate(
    store: *const observer_store_t,
    schema: *const observer_schema_t,
    service: *const c_char,
    pid: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| {
            let schema = schema.as_ref().map(|schema| &schema.schema);
            let service = text(service, "service")?.unwrap_or_default();
            count(store.0.allocate(schema, service, pid))
        })
    }
}

/// Says what a taken segment holds, and for whom: for supervisors that learn it later.
///
/// Returns: 0; -ENOENT when the segment is not taken; -EINVAL when schema is NULL; and as observer_store_allocate.
///
/// Threads, Blocking: as observer_store_allocate.
///
/// # Safety
/// store and schema are NULL or handles; service is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_describe(
    store: *const observer_store_t,
    segment: u32,
    schema: *const observer_schema_t,
    service: *const c_char,
    pid: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| {
            let schema = schema.as_ref().ok_or(Refusal::Null("schema"))?;
            let service = text(service, "service")?.unwrap_or_default();
            done(store.0.describe(segment, &schema.schema, service, pid))
        })
    }
}

/// Makes the store n segments large, if it is not yet, under everybody who has it open. It grows by itself, too.
///
/// Returns: how many segments there are then; -ENOSPC; and -EBUSY, -EACCES and SHMHOT_EFORK as observer_store_allocate.
///
/// Threads, Blocking: as observer_store_allocate.
///
/// # Safety
/// store is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_grow(store: *const observer_store_t, n: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(store, "store", |store| count(store.0.grow(n))) }
}

/// Gives a segment back. Its numbers become zero.
///
/// Returns: 0; -ENOENT when it is not taken; -EBUSY, -EACCES and SHMHOT_EFORK as observer_store_allocate.
///
/// Threads, Blocking: as observer_store_allocate.
///
/// # Safety
/// store is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_free(store: *const observer_store_t, segment: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(store, "store", |store| done(store.0.free(segment))) }
}

/// Gives back the segments of workers whose processes have ended. Until then their last numbers can be read.
///
/// Returns: how many; and as observer_store_free.
///
/// Threads, Blocking: as observer_store_allocate.
///
/// # Safety
/// store is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_reap(store: *const observer_store_t) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(store, "store", |store| count(store.0.reap())) }
}

/// The next taken segment.
///
/// Parameters: after: the last one, -1 to begin.
///
/// Returns: the segment; -ENOENT after the last one; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: one second at most.
///
/// # Safety
/// store is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_next(store: *const observer_store_t, after: i32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| -> Outcome {
            let from = u32::try_from(after.saturating_add(1)).unwrap_or(0);
            match store.0.next(from)? {
                Some(segment) => Ok(segment as i32),
                None => Err(Refusal::Argument { status: -libc::ENOENT, why: "no segment is taken after this one" }),
            }
        })
    }
}

/// Who has a segment.
///
/// Parameters: out: set its size.
///
/// Returns: 0; -ENOENT when it is not taken; -EPROTO when its page in the sidecar is damaged; -ETIMEDOUT when somebody
/// has died while writing that; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: 100 ms at most.
///
/// # Safety
/// store is NULL or a handle; out is NULL or valid for reads and writes of its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_worker(
    store: *const observer_store_t,
    segment: u32,
    out: *mut observer_worker_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| -> Outcome {
            let worker = store.0.worker(segment)?;
            let mut told = observer_worker_t {
                since_ns: worker.since_ns,
                offset: worker.offset,
                pid: worker.pid,
                state: match worker.state {
                    WorkerState::Undescribed => OBSERVER_UNDESCRIBED,
                    WorkerState::Alive => OBSERVER_ALIVE,
                    WorkerState::Dead => OBSERVER_DEAD,
                },
                fields: worker.fields,
                ..observer_worker_t::zeroed()
            };
            let room = told.service.len() - 1;
            let end = (0..=room.min(worker.service.len())).rev().find(|&end| worker.service.is_char_boundary(end));
            for (to, from) in told.service.iter_mut().zip(&worker.service.as_bytes()[..end.unwrap_or(0)]) {
                *to = *from as c_char;
            }
            write_sized(out, &told, "out")?;
            Ok(0)
        })
    }
}

/// What the numbers of a segment are.
///
/// Parameters: schema receives a handle of the caller's own, to be freed with observer_schema_free.
///
/// Returns: 0; -ENODATA when nobody has said; and as observer_store_worker.
///
/// Threads, Blocking: as observer_store_worker.
///
/// # Safety
/// store is NULL or a handle; schema is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_schema(
    store: *const observer_store_t,
    segment: u32,
    schema: *mut *mut observer_schema_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| give(schema, "schema", || Ok(observer_schema_t::new(store.0.schema(segment)?))))
    }
}

/// The numbers of a segment, in the order of its schema. All are one worker's, and each is whole if it is aligned.
///
/// Parameters: values receives at most cap of them; it may be NULL when cap is 0.
///
/// Returns: how many fields there are; -ENODATA when nobody has said; -EPROTO when the file was cut; and as
/// observer_store_worker.
///
/// Threads, Blocking: as observer_store_worker.
///
/// # Safety
/// store is NULL or a handle; values is valid for writes of cap elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_read(
    store: *const observer_store_t,
    segment: u32,
    values: *mut observer_value_t,
    cap: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| {
            if values.is_null() && cap > 0 {
                return Err(Refusal::Null("values"));
            }
            count(store.0.read(segment, |index, value| {
                if index < cap as usize {
                    values.add(index).write(value.into());
                }
            }))
        })
    }
}

/// The numbers of many segments at once.
///
/// Parameters: first, n: the segments. values, cap: those of segment first + i go to values + i * cap, as observer_store_read
/// has it. counts[i] receives what that would return for the segment; when it is negative, the values mean nothing.
///
/// Returns: how many segments there were, at most n; -EINVAL; SHMHOT_EFORK in a child.
///
/// Threads, Blocking: as observer_store_sum.
///
/// # Safety
/// store is NULL or a handle; values is valid for writes of n * cap elements, counts of n.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_read_many(
    store: *const observer_store_t,
    first: u32,
    n: u32,
    values: *mut observer_value_t,
    cap: u32,
    counts: *mut i32,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| {
            if (values.is_null() && cap > 0) || counts.is_null() {
                return Err(Refusal::Null("values or counts"));
            }
            let values = match cap {
                0 => &mut [],
                _ => std::slice::from_raw_parts_mut(values.cast(), n as usize * cap as usize),
            };
            count(store.0.read_many::<observer_value_t>(first, n, cap as usize, values, |i, read| {
                counts.add(i).write(read.map_or_else(|error| error.status(), |fields| fields as i32));
            }))
        })
    }
}

/// The sum of a field over all workers, or over those of a service; dead ones count until they are reaped.
///
/// Parameters: service, NULL for all. field, its name. out receives the sum.
///
/// Returns: how many workers have the field; SHMHOT_EFORK in a child.
///
/// Threads: any number; they take turns. Blocking: 100 ms at most for each worker that died while changing the store.
///
/// # Safety
/// store is NULL or a handle; service is NULL or a C string, field too; out is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_sum(
    store: *const observer_store_t,
    service: *const c_char,
    field: *const c_char,
    out: *mut observer_value_t,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| {
            let field = text(field, "field")?.ok_or(Refusal::Null("field"))?;
            let (sum, workers) = store.0.sum(text(service, "service")?, field)?;
            put(out, |out| -> crate::observer::Result<()> {
                *out = sum.into();
                Ok(())
            })?;
            Ok(workers as i32)
        })
    }
}

/// All numbers of all workers as text that Prometheus reads, with labels service, pid and segment, and shmhot_worker_up,
/// which is 0 for the dead.
///
/// Parameters: format: OBSERVER_PROMETHEUS or OBSERVER_OPENMETRICS. buf receives at most cap - 1 bytes of it and a NUL; it
/// may be NULL when cap is 0.
///
/// Returns: the length of the whole text without the NUL, which may be another one at the next call; -EINVAL;
/// SHMHOT_EFORK in a child.
///
/// Threads, Blocking: as observer_store_sum.
///
/// # Safety
/// store is NULL or a handle; buf is valid for writes of cap bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn observer_store_exposition(
    store: *const observer_store_t,
    format: u32,
    buf: *mut c_char,
    cap: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(store, "store", |store| -> Outcome {
            let format = match format {
                OBSERVER_PROMETHEUS => Format::Prometheus,
                OBSERVER_OPENMETRICS => Format::OpenMetrics,
                _ => return Err(invalid("format must be OBSERVER_PROMETHEUS or OBSERVER_OPENMETRICS")),
            };
            if buf.is_null() && cap > 0 {
                return Err(Refusal::Null("buf"));
            }
            let text = store.0.exposition(format)?;
            put_text(text.as_bytes(), buf, cap);
            i32::try_from(text.len()).map_err(|_| Refusal::Argument { status: -libc::EFBIG, why: "more than 2 GiB" })
        })
    }
}

/// Makes or opens a store.
///
/// # Safety
/// As observer_store_open.
unsafe fn make_store(
    path: *const c_char,
    options: *const observer_store_options_t,
    store: *mut *mut observer_store_t,
    make: impl FnOnce(&Path, StoreOptions) -> crate::observer::Result<Store>,
) -> i32 {
    guard::<Refusal<Error>>(|| {
        // SAFETY: the caller's promise.
        let options = unsafe { read_options(options) }?;
        if options.flags & !(OBSERVER_READ_ONLY | OBSERVER_CHECKED) != 0 || options.mode > 0o7777 {
            return Err(invalid("an unknown flag is set in options, or one of mode"));
        }
        let standard = StoreOptions::default();
        let or = |value, standard| if value == 0 { standard } else { value };
        let core = StoreOptions {
            mode: or(options.mode, standard.mode),
            segment_size: or(options.segment_size, standard.segment_size),
            segments: or(options.segments, standard.segments),
            read_only: options.flags & OBSERVER_READ_ONLY != 0,
            checked: options.flags & OBSERVER_CHECKED != 0,
        };
        // SAFETY: the caller's promise.
        let path = unsafe { path_from(path) }.ok_or(Refusal::Null("path"))?;
        // SAFETY: the caller's promise.
        unsafe { give(store, "store", || Ok(observer_store_t(make(path, core)?))) }
    })
}

fn count(result: crate::observer::Result<u32>) -> Outcome {
    Ok(i32::try_from(result?).unwrap_or(i32::MAX))
}

impl observer_schema_t {
    fn new(schema: Schema) -> Self {
        let texts = schema.fields().map(|(field, _)| texts_of(field)).collect();
        Self { schema, texts }
    }
}

/// Name, help and unit as C has them. A NUL in one that came from a sidecar ends it.
fn texts_of(field: &Field) -> [CString; 3] {
    [&field.name, &field.help, &field.unit].map(|text| {
        let text = text.split('\0').next().unwrap_or_default();
        CString::new(text).unwrap_or_default()
    })
}

impl From<Value> for observer_value_t {
    fn from(value: Value) -> Self {
        let (r#type, number) = match value {
            Value::Unsigned(as_u64) => (OBSERVER_UNSIGNED, observer_number_t { as_u64 }),
            Value::Signed(as_i64) => (OBSERVER_SIGNED, observer_number_t { as_i64 }),
            Value::Float(as_f64) => (OBSERVER_FLOAT, observer_number_t { as_f64 }),
        };
        Self { r#type, reserved: 0, number }
    }
}

const NO_TYPE: Refusal<Error> =
    invalid("no such type: they are those of Ruby's IO::Buffer, from OBSERVER_U8 to OBSERVER_F64_BE");

fn done(result: crate::observer::Result<()>) -> Outcome {
    Ok(result.map(|()| 0)?)
}

/// # Safety
/// `observer` is NULL or a handle.
unsafe fn set(observer: *const observer_t, index: u32, value: Value) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(observer, "observer", |observer| done(observer.0.set(index, value))) }
}

/// # Safety
/// `observer` is NULL or a handle.
unsafe fn add(observer: *const observer_t, index: u32, value: Value) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(observer, "observer", |observer| done(observer.0.add(index, value))) }
}

/// # Safety
/// `name` is NULL or a C string.
unsafe fn index_of(schema: &Schema, name: *const c_char) -> Outcome {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name, "name") }?.ok_or(Refusal::Null("name"))?;
    Ok(schema.index(name).ok_or_else(|| Error::NoField(name.into()))? as i32)
}

/// A text of the caller's, `None` for NULL.
///
/// # Safety
/// `text` is NULL or a C string that outlives the result.
unsafe fn text<'a>(text: *const c_char, name: &'static str) -> Result<Option<&'a str>, Refusal<Error>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    match unsafe { CStr::from_ptr(text) }.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Refusal::Argument {
            status: -libc::EILSEQ,
            why: match name {
                "help" => "help is not UTF-8",
                "unit" => "unit is not UTF-8",
                "service" => "service is not UTF-8",
                _ => "name is not UTF-8",
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_core() {
        for code in -1..=20 {
            let name = observer_type_name(code);
            let known = u8::try_from(code).ok().and_then(Type::from_code);
            assert_eq!(name.is_null(), known.is_none());
            if let Some(known) = known {
                // SAFETY: static text.
                assert_eq!(unsafe { CStr::from_ptr(name) }.to_str(), Ok(known.name()));
            }
        }
        assert_eq!(Type::from_name("F64").map(Type::code), Some(OBSERVER_F64_BE));
    }
}
