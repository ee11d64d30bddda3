//! Values become a pickle of protocol 5, which every peer reads. Nothing is shared, so there is no memo.

use super::super::dtype::{Dtype, Field};
use super::super::value::{Array, Value};

/// The pickle of a value.
pub(in super::super) fn write(value: &Value) -> Vec<u8> {
    let mut out = Writer(vec![b'\x80', 5]);
    out.value(value);
    out.0.push(b'.');
    out.0
}

struct Writer(Vec<u8>);

impl Writer {
    fn value(&mut self, value: &Value) {
        match value {
            Value::None => self.0.push(b'N'),
            Value::Bool(true) => self.0.push(b'\x88'),
            Value::Bool(false) => self.0.push(b'\x89'),
            Value::Int(value) => match i32::try_from(*value) {
                Ok(small) => self.with(b'J', &small.to_le_bytes()),
                Err(_) => self.counted(b"\x8a\x8b\x8b", &value.to_le_bytes()),
            },
            Value::BigInt(value) => self.counted(b"\x8a\x8b\x8b", value.to_le_bytes()),
            Value::Float(value) => self.with(b'G', &value.to_be_bytes()),
            Value::Complex(re, im) => {
                self.global("builtins", "complex");
                self.with(b'G', &re.to_be_bytes());
                self.with(b'G', &im.to_be_bytes());
                self.0.extend(b"\x86R");
            }
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.counted(b"CB\x8e", bytes),
            Value::List(items) => self.list(items, Self::value),
            Value::Tuple(items) => self.tuple(items, Self::value),
            Value::Dict(pairs) => {
                self.0.extend(b"}(");
                for (key, value) in pairs {
                    self.text(key);
                    self.value(value);
                }
                self.0.push(b'u');
            }
            Value::Array(array) => self.array(array),
        }
    }

    /// `numpy.ndarray(shape, numpy.dtype(...), bytearray(...))`: public names, which every numpy has, and an array that
    /// can be written to, as the peer's own are.
    fn array(&mut self, array: &Array) {
        self.global("numpy", "ndarray");
        self.shape(array.shape());
        self.global("numpy", "dtype");
        self.dtype(array.dtype());
        self.0.extend(b"\x85R");
        self.with(b'\x96', &(array.data().len() as u64).to_le_bytes());
        self.0.extend_from_slice(array.data());
        self.0.extend(b"\x87R");
    }

    /// What `numpy.dtype` takes: a name, or a list of fields.
    fn dtype(&mut self, dtype: &Dtype) {
        match dtype {
            Dtype::Scalar(scalar) => self.text(&scalar.to_string()),
            Dtype::Record(fields) => self.list(fields, |out, Field { name, dtype, shape }| {
                out.text(name);
                out.dtype(dtype);
                out.shape(shape);
                out.0.push(b'\x87');
            }),
        }
    }

    fn shape(&mut self, shape: &[usize]) {
        self.tuple(shape, |out, length| out.value(&Value::Int(*length as i64)));
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.0.extend(b"](");
        items.iter().for_each(|item| each(self, item));
        self.0.push(b'e');
    }

    fn tuple<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.0.push(b'(');
        items.iter().for_each(|item| each(self, item));
        self.0.push(b't');
    }

    fn text(&mut self, text: &str) {
        self.counted(b"\x8cX\x8d", text.as_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.text(module);
        self.text(name);
        self.0.push(b'\x93');
    }

    fn with(&mut self, opcode: u8, bytes: &[u8]) {
        self.0.push(opcode);
        self.0.extend_from_slice(bytes);
    }

    /// Bytes behind their length, by the opcode for lengths of 1, 4 or 8 bytes.
    fn counted(&mut self, opcodes: &[u8; 3], bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        match bytes.len() {
            0..=0xff => self.with(opcodes[0], &length[..1]),
            0x100..=0xffff_ffff => self.with(opcodes[1], &length[..4]),
            _ => self.with(opcodes[2], &length),
        }
        self.0.extend_from_slice(bytes);
    }
}
