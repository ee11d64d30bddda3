//! Utilization metrics.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Arc;

use static_assertions::{assert_impl_all, const_assert_eq};

use super::{Extensible, Refusal, call, free, give, guard, path_from, put, read_options, read_sized, write_sized};
use crate::observer::{Error, Field, Kind, Layout, Observer, Options, Schema, Type, Value};

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

/// A number of a field: exact in the member that type says, the nearest in the others.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct observer_value_t {
    /// OBSERVER_UNSIGNED, OBSERVER_SIGNED or OBSERVER_FLOAT.
    pub r#type: u32,
    /// Zero.
    pub reserved: u32,
    /// 0 for what is smaller.
    pub as_u64: u64,
    /// INT64_MAX for what is larger.
    pub as_i64: i64,
    /// Rounded beyond 2^53.
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

// SAFETY: integers and pointers that may be NULL, the first one a size_t.
unsafe impl Extensible for observer_field_t {}
// SAFETY: integers only, the first one a size_t.
unsafe impl Extensible for observer_options_t {}

const_assert_eq!(size_of::<observer_field_t>(), 4 * size_of::<usize>() + 8);
const_assert_eq!(size_of::<observer_options_t>(), size_of::<usize>() + 8);
const_assert_eq!(size_of::<observer_value_t>(), 32);
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
            Ok(observer_schema_t { schema: Schema::new(layout), texts: Vec::new() })
        })
    })
}

/// Adds a field behind those that are there. Observers that are open already do not notice.
///
/// Parameters: field is copied.
///
/// Returns: its index; -EINVAL for a name, type or kind that cannot be; -EEXIST for a name that is there; -E2BIG for more
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
        let texts = [&field.name, &field.help, &field.unit].map(|text| CString::new(text.as_str()).unwrap_or_default());
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
/// Returns: 0; -EINVAL when the schema is longer than the segment, or the segment does not lie in the file; -ENOENT,
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

/// Adds an unsigned number to a field: exactly, beside other threads of this process; and beside other processes in the
/// aligned layout. A sum that the field cannot hold is clamped, or -ERANGE with OBSERVER_REFUSE.
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

/// Where a field is in memory, for callers that store by themselves: as long as the observer is open.
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

impl From<Value> for observer_value_t {
    fn from(value: Value) -> Self {
        let (r#type, as_u64, as_i64) = match value {
            Value::Unsigned(value) => (OBSERVER_UNSIGNED, value, i64::try_from(value).unwrap_or(i64::MAX)),
            Value::Signed(value) => (OBSERVER_SIGNED, u64::try_from(value).unwrap_or(0), value),
            Value::Float(value) => (OBSERVER_FLOAT, value as u64, value as i64),
        };
        Self { r#type, reserved: 0, as_u64, as_i64, as_f64: value.to_f64() }
    }
}

const NO_TYPE: Refusal<Error> =
    invalid("no such type: they are those of Ruby's IO::Buffer, from OBSERVER_U8 to OBSERVER_F64_BE");

const fn invalid(why: &'static str) -> Refusal<Error> {
    Refusal::Argument { status: -libc::EINVAL, why }
}

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
