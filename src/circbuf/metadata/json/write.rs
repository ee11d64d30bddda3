//! Metadata becomes JSON.

use std::fmt::{Display, Write};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value as Json;

use super::super::dtype::{Dtype, Field};
use super::super::item::Item;
use super::super::value::{Array, Value};
use super::super::{Axis, Metadata};

/// The text of metadata.
pub(in super::super) fn write(metadata: &Metadata) -> String {
    let Metadata { dims, axes, attrs, key, buffered_axis, stream_dim } = metadata;
    let mut out = Writer(String::new());
    out.open('{');
    out.name("dims");
    out.texts(dims);
    out.name("axes");
    out.open('{');
    for (name, axis) in axes {
        out.name(name);
        out.axis(axis);
    }
    out.close('}');
    out.name("attrs");
    out.dict(attrs);
    out.name("key");
    out.text(key);
    for (name, text) in [("buffered_axis", buffered_axis), ("stream_dim", stream_dim)] {
        out.name(name);
        match text {
            Some(text) => out.text(text),
            None => out.raw("null"),
        }
    }
    out.close('}');
    out.0
}

struct Writer(String);

impl Writer {
    // Text

    /// A value, and before it the comma that parts it from one before.
    fn raw(&mut self, value: impl Display) {
        if !self.0.is_empty() && !self.0.ends_with(['{', '[', ':']) {
            self.0.push(',');
        }
        let _ = write!(self.0, "{value}"); // to a String, which cannot fail
    }

    fn open(&mut self, bracket: char) {
        self.raw(bracket);
    }

    fn close(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    fn text(&mut self, text: &str) {
        self.raw(Json::from(text));
    }

    fn name(&mut self, name: &str) {
        self.text(name);
        self.0.push(':');
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, each: impl Fn(&mut Self, T)) {
        self.open('[');
        items.into_iter().for_each(|item| each(self, item));
        self.close(']');
    }

    fn texts(&mut self, texts: &[String]) {
        self.list(texts, |out, text| out.text(text));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.text(&BASE64_STANDARD.encode(bytes));
    }

    /// An object of one member, whose name says what its value is.
    fn tagged(&mut self, tag: &str, value: impl FnOnce(&mut Self)) {
        self.open('{');
        self.name(tag);
        value(self);
        self.close('}');
    }

    // Values

    fn axis(&mut self, axis: &Axis) {
        self.open('{');
        let (kind, unit) = match axis {
            Axis::Linear { unit, .. } => ("linear", unit),
            Axis::Coord { unit, .. } => ("coord", unit),
        };
        self.name("kind");
        self.text(kind);
        self.name("unit");
        self.text(unit);
        match axis {
            Axis::Linear { gain, offset, .. } => {
                self.name("gain");
                self.number(*gain);
                if let Some(offset) = offset {
                    self.name("offset");
                    self.number(*offset);
                }
            }
            Axis::Coord { dims, data, .. } => {
                self.name("dims");
                self.texts(dims);
                if let Some(data) = data {
                    self.array(data);
                }
            }
        }
        self.close('}');
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::None => self.raw("null"),
            Value::Bool(value) => self.raw(value),
            Value::Int(value) => self.raw(value),
            Value::BigInt(value) => self.raw(value),
            Value::Float(value) => self.number(*value),
            Value::Complex(re, im) => self.tagged("$complex", |out| out.list([*re, *im], Self::number)),
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.tagged("$bytes", |out| out.bytes(bytes)),
            Value::List(items) => self.list(items, Self::value),
            Value::Tuple(items) => self.tagged("$tuple", |out| out.list(items, Self::value)),
            Value::Dict(members) => self.dict(members),
            Value::Array(array) => self.tagged("$array", |out| {
                out.open('{');
                out.array(array);
                out.close('}');
            }),
        }
    }

    fn dict(&mut self, members: &[(String, Value)]) {
        self.open('{');
        for (name, value) in members {
            let escape = if name.starts_with('$') { "$" } else { "" };
            self.name(&format!("{escape}{name}"));
            self.value(value);
        }
        self.close('}');
    }

    fn number(&mut self, value: f64) {
        if value.is_finite() {
            self.raw(format_args!("{value:?}"))
        } else {
            self.tagged("$float", |out| out.special(value))
        }
    }

    /// What JSON has no number for.
    fn special(&mut self, value: f64) {
        self.text(if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        });
    }

    // Arrays

    /// The members that make an array.
    fn array(&mut self, array: &Array) {
        self.name("dtype");
        self.dtype(array.dtype());
        self.name("shape");
        self.list(array.shape(), Self::raw);
        self.name("data");
        self.list(0..array.len(), |out, index| {
            let size = array.dtype().size();
            out.item(array.dtype(), &array.data()[index * size..][..size]);
        });
    }

    fn dtype(&mut self, dtype: &Dtype) {
        match dtype {
            Dtype::Scalar(scalar) => self.text(&scalar.to_string()),
            Dtype::Record(fields) => self.list(fields, |out, Field { name, dtype, shape }| {
                out.open('[');
                out.text(name);
                out.dtype(dtype);
                if !shape.is_empty() {
                    out.list(shape, Self::raw);
                }
                out.close(']');
            }),
        }
    }

    fn item(&mut self, dtype: &Dtype, mut bytes: &[u8]) {
        let fields = match dtype {
            Dtype::Record(fields) => fields,
            Dtype::Scalar(scalar) => {
                return match scalar.item(bytes) {
                    Item::Bool(value) => self.raw(value),
                    Item::Int(value) => self.raw(value),
                    Item::Single(value) => self.single(value),
                    Item::Double(value) => self.double(value),
                    Item::Singles(re, im) => self.list([re, im], Self::single),
                    Item::Doubles(re, im) => self.list([re, im], Self::double),
                    Item::Text(text) => self.text(&text),
                    Item::Bytes(bytes) => self.bytes(bytes),
                };
            }
        };
        self.open('[');
        for field in fields {
            let mut part = || {
                let (part, rest) = bytes.split_at(field.dtype.size());
                bytes = rest;
                part
            };
            if field.shape.is_empty() {
                self.item(&field.dtype, part());
            } else {
                self.open('[');
                (0..field.len()).for_each(|_| self.item(&field.dtype, part()));
                self.close(']');
            }
        }
        self.close(']');
    }

    // The shortest digits that lead back depend on the width.

    fn single(&mut self, value: f32) {
        if value.is_finite() { self.raw(format_args!("{value:?}")) } else { self.special(value.into()) }
    }

    fn double(&mut self, value: f64) {
        if value.is_finite() { self.raw(format_args!("{value:?}")) } else { self.special(value) }
    }
}
