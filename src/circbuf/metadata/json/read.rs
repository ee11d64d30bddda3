//! JSON becomes metadata.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Number, Value as Json};

use super::super::dtype::{Dtype, Field, Kind, Scalar};
use super::super::error::{MetadataError, Result, short};
use super::super::integer::Integer;
use super::super::item::double_to_half;
use super::super::value::{Array, Value, count};
use super::super::{Axis, MAX_BYTES, MAX_DEPTH, Metadata};

/// How deep values may be nested: the pickle has two dicts around them.
const DEEPEST: usize = MAX_DEPTH - 2;

/// The metadata that a text describes.
pub(in super::super) fn read(text: &str) -> Result<Metadata> {
    let json: Json = serde_json::from_str(text).map_err(|error| MetadataError::json(format!("no JSON: {error}")))?;
    let members = object(&json)?;
    only(members, &["dims", "axes", "attrs", "key", "buffered_axis", "stream_dim"])?;
    let mut metadata = Metadata {
        dims: member(members, "dims", texts)?.unwrap_or_default(),
        axes: member(members, "axes", axes)?.unwrap_or_default(),
        attrs: member(members, "attrs", |attrs| dict(object(attrs)?, 0))?.unwrap_or_default(),
        key: member(members, "key", text_of)?.unwrap_or_default(),
        buffered_axis: member(members, "buffered_axis", text_or_null)?.flatten(),
        stream_dim: member(members, "stream_dim", text_or_null)?.flatten(),
    };
    metadata.settle(MetadataError::json)?;
    Ok(metadata)
}

fn wrong<T>(why: impl Into<String>) -> Result<T> {
    Err(MetadataError::json(why))
}

/// This is not what belongs here.
fn misfit<T>(json: &Json, wanted: &str) -> Result<T> {
    wrong(match json {
        Json::Null => format!("null is not {wanted}"),
        Json::Bool(value) => format!("{value} is not {wanted}"),
        Json::Number(number) => format!("{} is not {wanted}", short(number.as_str())),
        Json::String(text) => format!("\"{}\" is not {wanted}", short(text)),
        Json::Array(_) => format!("a list is not {wanted}"),
        Json::Object(_) => format!("an object is not {wanted}"),
    })
}

fn object(json: &Json) -> Result<&Map<String, Json>> {
    json.as_object().map_or_else(|| misfit(json, "an object"), Ok)
}

fn list(json: &Json) -> Result<&Vec<Json>> {
    json.as_array().map_or_else(|| misfit(json, "a list"), Ok)
}

fn string(json: &Json) -> Result<&str> {
    json.as_str().map_or_else(|| misfit(json, "a text"), Ok)
}

fn text_of(json: &Json) -> Result<String> {
    string(json).map(str::to_owned)
}

fn text_or_null(json: &Json) -> Result<Option<String>> {
    if json.is_null() { Ok(None) } else { text_of(json).map(Some) }
}

/// What `read` makes of a member, if there is one.
fn member<T>(members: &Map<String, Json>, name: &str, read: impl FnOnce(&Json) -> Result<T>) -> Result<Option<T>> {
    members.get(name).map(read).transpose().map_err(|error| error.within(name))
}

/// Nothing else is a member.
fn only(members: &Map<String, Json>, known: &[&str]) -> Result<()> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(other) => Err(MetadataError::json(format!("no such member: here are {}", known.join(", "))).within(other)),
        None => Ok(()),
    }
}

/// What `read` makes of each element.
fn each<T>(json: &Json, read: impl Fn(&Json) -> Result<T>) -> Result<Vec<T>> {
    let indexed = list(json)?.iter().enumerate();
    indexed.map(|(index, item)| read(item).map_err(|error| error.at(index))).collect()
}

fn texts(json: &Json) -> Result<Vec<String>> {
    each(json, text_of)
}

fn size(json: &Json) -> Result<usize> {
    let size = json.as_number().and_then(|number| number.as_str().parse().ok());
    size.map_or_else(|| misfit(json, "a length"), Ok)
}

fn double(number: &Number) -> Option<f64> {
    number.as_str().parse().ok().filter(|value: &f64| value.is_finite())
}

/// What stands for a float that JSON has no number for.
fn special(name: &str) -> Option<f64> {
    Some(match name {
        "nan" => f64::NAN,
        "inf" => f64::INFINITY,
        "-inf" => f64::NEG_INFINITY,
        _ => return None,
    })
}

/// A number, or {"$float": name}.
fn float(json: &Json) -> Result<f64> {
    let value = match json {
        Json::Number(number) => double(number),
        Json::Object(_) => match value(json, 0)? {
            Value::Float(value) => Some(value),
            _ => None,
        },
        _ => None,
    };
    value.map_or_else(|| misfit(json, "a number of 64 bits"), Ok)
}

// Axes

fn axes(json: &Json) -> Result<Vec<(String, Axis)>> {
    let read = |(name, json): (&String, &Json)| match axis(name, json) {
        Ok(axis) => Ok((name.clone(), axis)),
        Err(error) => Err(error.within(name)),
    };
    object(json)?.iter().map(read).collect()
}

fn axis(name: &str, json: &Json) -> Result<Axis> {
    let members = object(json)?;
    let is_linear = member(members, "kind", |json| match string(json)? {
        "linear" => Ok(true),
        "coord" => Ok(false),
        _ => misfit(json, "linear or coord"),
    })?;
    let unit = member(members, "unit", text_of)?.unwrap_or_default();
    match is_linear {
        Some(true) => {
            only(members, &["kind", "unit", "gain", "offset"])?;
            let gain = member(members, "gain", float)?.unwrap_or(1.0);
            Ok(Axis::Linear { unit, gain, offset: member(members, "offset", float)? })
        }
        Some(false) => {
            only(members, &["kind", "unit", "dims", "dtype", "shape", "data"])?;
            let dims = member(members, "dims", texts)?.unwrap_or_else(|| vec![name.to_owned()]);
            Ok(Axis::Coord { unit, dims, data: array(members, 2)? })
        }
        None => wrong("an axis is of kind linear or coord: say which"),
    }
}

// Values

/// `depth` counts as the pickle's reader does, where bytes and floats are no level, and an array is two.
fn value(json: &Json, depth: usize) -> Result<Value> {
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => {
            let digits = number.as_str();
            if digits.contains(['.', 'e', 'E']) {
                Value::Float(float(json)?)
            } else {
                let integer: std::result::Result<Integer, _> = digits.parse();
                integer.or_else(|_| wrong("an integer has too many digits"))?.into()
            }
        }
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(_) => Value::List(values(json, depth)?),
        Json::Object(members) => match members.iter().next() {
            Some((tag, inner)) if tag.starts_with('$') && !tag.starts_with("$$") && members.len() == 1 => {
                tagged(tag, inner, depth).map_err(|error| error.within(tag))?
            }
            _ => Value::Dict(dict(members, depth)?),
        },
    })
}

fn check(depth: usize) -> Result<()> {
    if depth > DEEPEST { wrong(format!("values are nested deeper than {DEEPEST} levels")) } else { Ok(()) }
}

fn values(json: &Json, depth: usize) -> Result<Vec<Value>> {
    check(depth)?;
    each(json, |item| value(item, depth + 1))
}

fn dict(members: &Map<String, Json>, depth: usize) -> Result<Vec<(String, Value)>> {
    check(depth)?;
    let read = |(name, json): (&String, &Json)| {
        let plain = match name.strip_prefix('$') {
            None => name,
            Some(rest) if rest.starts_with('$') => rest,
            Some(_) => return wrong("this has no meaning here; a name that begins with $ has one $ more"),
        };
        Ok((plain.to_owned(), value(json, depth + 1)?))
    };
    members.iter().map(|member| read(member).map_err(|error| error.within(member.0))).collect()
}

/// The value of an object whose one member has a name that says what it is.
fn tagged(tag: &str, json: &Json, depth: usize) -> Result<Value> {
    Ok(match tag {
        "$array" => {
            let members = object(json)?;
            only(members, &["dtype", "shape", "data"])?;
            Value::Array(array(members, depth)?.ok_or_else(|| MetadataError::json("there is no data"))?)
        }
        "$tuple" => Value::Tuple(values(json, depth)?),
        "$bytes" => Value::Bytes(base64(json)?),
        "$complex" => {
            check(depth)?;
            let parts = each(json, float)?;
            let [re, im] = parts[..] else { return misfit(json, "a pair of numbers") };
            Value::Complex(re, im)
        }
        "$float" => {
            let value = string(json).ok().and_then(special);
            Value::Float(value.map_or_else(|| misfit(json, "nan, inf or -inf"), Ok)?)
        }
        _ => {
            return wrong(
                "this is not $array, $tuple, $bytes, $complex or $float; a name that begins with $ has one $ more",
            );
        }
    })
}

fn base64(json: &Json) -> Result<Vec<u8>> {
    let bytes = BASE64_STANDARD.decode(string(json)?);
    bytes.or_else(|_| misfit(json, "base64"))
}

// Arrays

/// The array of the members `dtype`, `shape` and `data`; the data says what the others do not.
fn array(members: &Map<String, Json>, depth: usize) -> Result<Option<Array>> {
    check(depth + 1)?;
    let dtype = member(members, "dtype", |json| dtype(json, depth + 1))?;
    let shape = member(members, "shape", shape)?;
    member(members, "data", |data| filled(dtype, shape, data))
}

fn filled(dtype: Option<Dtype>, shape: Option<Vec<usize>>, data: &Json) -> Result<Array> {
    let (shape, items) = match (shape, &dtype) {
        (Some(shape), _) => (shape, list(data)?.iter().collect()),
        (None, Some(Dtype::Record(_))) => (vec![list(data)?.len()], list(data)?.iter().collect()),
        (None, Some(Dtype::Scalar(scalar))) if matches!(scalar.kind(), Kind::Complex) => flat(data, is_pair)?,
        (None, _) => flat(data, |json| !json.is_array())?,
    };
    if count(&shape) != Some(items.len()) {
        return wrong(format!("{} items are not those of shape {shape:?}", items.len()));
    }
    let dtype = dtype.map_or_else(|| inferred(&items), Ok)?;
    let bytes = items.len().saturating_mul(dtype.size());
    if bytes > MAX_BYTES {
        return wrong(format!("an array of more than {MAX_BYTES} bytes"));
    }
    let mut packed = Vec::with_capacity(bytes);
    for (index, item) in items.into_iter().enumerate() {
        put(&dtype, item, &mut packed).map_err(|error| error.at(index))?;
    }
    Array::new(dtype, shape, packed).or_else(|error| wrong(error.to_string()))
}

fn shape(json: &Json) -> Result<Vec<usize>> {
    let shape = each(json, size)?;
    match count(&shape) {
        Some(_) => Ok(shape),
        None => wrong(format!("no array has the shape {shape:?}")),
    }
}

/// Two numbers, which may be nan or inf, are a complex one.
fn is_pair(json: &Json) -> bool {
    json.as_array().is_none_or(|parts| !parts.is_empty() && !parts.iter().any(Json::is_array))
}

/// The items of nested lists, and the shape that these have.
fn flat(data: &Json, is_item: fn(&Json) -> bool) -> Result<(Vec<usize>, Vec<&Json>)> {
    let mut shape = Vec::new();
    let mut first = Some(data);
    while let Some(Json::Array(items)) = first.filter(|json| !is_item(json)) {
        shape.push(items.len());
        first = items.first();
    }
    let mut flat = Vec::new();
    gather(data, &shape, is_item, &mut flat)?;
    Ok((shape, flat))
}

fn gather<'j>(data: &'j Json, shape: &[usize], is_item: fn(&Json) -> bool, flat: &mut Vec<&'j Json>) -> Result<()> {
    match (shape, data) {
        ([], item) if is_item(item) => flat.push(item),
        ([length, inner @ ..], Json::Array(items)) if items.len() == *length && !is_item(data) => {
            for (index, item) in items.iter().enumerate() {
                gather(item, inner, is_item, flat).map_err(|error| error.at(index))?;
            }
        }
        _ => return wrong("the lists are not of equal lengths and depths"),
    }
    Ok(())
}

fn dtype(json: &Json, depth: usize) -> Result<Dtype> {
    match json {
        Json::String(name) => name.parse(),
        Json::Array(_) => {
            check(depth)?;
            each(json, |json| field(json, depth)).map(Dtype::Record)
        }
        _ => misfit(json, "a dtype, as \"<f4\", or [[\"label\", \"<U16\"], [\"position\", \"<f4\", [3]]]"),
    }
}

fn field(json: &Json, depth: usize) -> Result<Field> {
    let (name, inner, shape) = match &list(json)?[..] {
        [name, inner] => (string(name)?, inner, Vec::new()),
        [name, inner, lengths] => (string(name)?, inner, shape(lengths)?),
        _ => return misfit(json, "a field: name, dtype and perhaps shape"),
    };
    let dtype = dtype(inner, depth + 1).map_err(|error| error.within(name))?;
    Ok(Field { name: name.to_owned(), dtype, shape })
}

/// The dtype that `numpy.array` would give the items.
fn inferred(items: &[&Json]) -> Result<Dtype> {
    let all = |is: &dyn Fn(&Json) -> bool| items.iter().all(|item| is(item));
    let whole = |json: &Json| json.as_number().and_then(|number| number.as_str().parse::<i128>().ok());
    let name = if items.is_empty() {
        "<f8".to_owned()
    } else if all(&Json::is_boolean) {
        "|b1".to_owned()
    } else if all(&|json| whole(json).is_some_and(|value| i64::try_from(value).is_ok())) {
        "<i8".to_owned()
    } else if all(&|json| whole(json).is_some_and(|value| u64::try_from(value).is_ok())) {
        "<u8".to_owned()
    } else if all(&Json::is_number) {
        "<f8".to_owned()
    } else if all(&Json::is_string) {
        let longest = items.iter().filter_map(|item| item.as_str()).map(|text| text.chars().count()).max();
        format!("<U{}", longest.unwrap_or(0).max(1))
    } else {
        return wrong("the items are not all numbers, all texts, or all true or false: their dtype must be given");
    };
    name.parse()
}

/// Appends an item.
fn put(dtype: &Dtype, json: &Json, out: &mut Vec<u8>) -> Result<()> {
    let fields = match dtype {
        Dtype::Scalar(scalar) => return put_scalar(scalar, json, out),
        Dtype::Record(fields) => fields,
    };
    let values = list(json)?;
    if values.len() != fields.len() {
        return wrong(format!("a row of {} values, where {} fields are", values.len(), fields.len()));
    }
    for (Field { name, dtype, shape }, value) in fields.iter().zip(values) {
        let put = match shape[..] {
            [] => put(dtype, value, out),
            _ => put_all(dtype, shape, value, out),
        };
        put.map_err(|error| error.within(name))?;
    }
    Ok(())
}

/// Appends the items of a field that is an array.
fn put_all(dtype: &Dtype, shape: &[usize], json: &Json, out: &mut Vec<u8>) -> Result<()> {
    let items = list(json)?;
    if count(shape) != Some(items.len()) {
        return wrong(format!("{} items are not those of shape {shape:?}", items.len()));
    }
    items.iter().enumerate().try_for_each(|(index, item)| put(dtype, item, out).map_err(|error| error.at(index)))
}

fn put_scalar(scalar: &Scalar, json: &Json, out: &mut Vec<u8>) -> Result<()> {
    let bits = 8 * scalar.word() as u32;
    let does_not_fit = || misfit(json, &format!("what dtype {scalar} holds"));
    match scalar.kind() {
        Kind::Bool => match json {
            Json::Bool(value) => scalar.store((*value).into(), out),
            _ => return does_not_fit(),
        },
        Kind::Signed | Kind::Unsigned | Kind::Date(_) | Kind::Span(_) => {
            let whole = json.as_number().and_then(|number| number.as_str().parse::<i128>().ok());
            let range = if scalar.kind() == Kind::Unsigned { 0..1 << bits } else { -1 << (bits - 1)..1 << (bits - 1) };
            let Some(whole) = whole.filter(|whole| range.contains(whole)) else { return does_not_fit() };
            scalar.store(whole as u64, out);
        }
        Kind::Float => match float_bits(json, bits) {
            Some(word) => scalar.store(word, out),
            None => return does_not_fit(),
        },
        Kind::Complex => {
            let Some([re, im]) = json.as_array().map(Vec::as_slice) else { return does_not_fit() };
            let (Some(re), Some(im)) = (float_bits(re, bits), float_bits(im, bits)) else { return does_not_fit() };
            scalar.store(re, out);
            scalar.store(im, out);
        }
        Kind::Text => {
            let text = string(json)?;
            let room = scalar.size() / 4;
            let length = text.chars().count();
            if length > room {
                return does_not_fit();
            }
            text.chars().map(u64::from).chain(std::iter::repeat_n(0, room - length)).for_each(|c| scalar.store(c, out));
        }
        Kind::Bytes | Kind::Void => {
            let bytes = base64(json)?;
            let fits =
                if scalar.kind() == Kind::Void { bytes.len() == scalar.size() } else { bytes.len() <= scalar.size() };
            if !fits {
                return wrong(format!("{} bytes are not what dtype {scalar} holds", bytes.len()));
            }
            out.extend_from_slice(&bytes);
            out.extend(std::iter::repeat_n(0, scalar.size() - bytes.len()));
        }
    }
    Ok(())
}

/// The bits of a float; the digits are rounded once, to its width.
fn float_bits(json: &Json, width: u32) -> Option<u64> {
    let digits = match json {
        Json::Number(number) => number.as_str(),
        Json::String(name) => {
            let value = special(name)?;
            return Some(match width {
                16 => double_to_half(value)?.into(),
                32 => (value as f32).to_bits().into(),
                _ => value.to_bits(),
            });
        }
        _ => return None,
    };
    match width {
        16 => double_to_half(digits.parse().ok()?).map(u64::from).filter(|bits| bits & 0x7fff != 0x7c00),
        32 => digits.parse().ok().filter(|value: &f32| value.is_finite()).map(|value| value.to_bits().into()),
        _ => digits.parse().ok().filter(|value: &f64| value.is_finite()).map(f64::to_bits),
    }
}
