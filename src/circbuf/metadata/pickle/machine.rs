//! The machine that a pickle is a program for: a stack, a memo, and notes of what was made.
//!
//! Every note costs an opcode at least, and refers to others by number. So a pickle that mentions a value a million
//! times makes one note of it, and one that contains itself makes no loop here: both are `read`'s to bound.

use super::super::error::{MetadataError, Result, short};
use super::{MAX_BYTES, MAX_OPCODES};

/// The number of a note.
pub(super) type Id = usize;

/// What a pickle has made.
#[derive(Debug)]
pub(super) enum Note<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// Two's complement, little-endian.
    Long(&'a [u8]),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// A call that Python would do, of what, and with which tuple; then with which state it would fill the result.
    Call {
        global: Global,
        arguments: Id,
        state: Option<Id>,
    },
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `numpy.dtype(name or fields, ...)`
    Dtype,
    /// `numpy.ndarray(shape, dtype, buffer)`, as our own writer has it.
    Array,
    /// An array's class that the peer has made it of; never called.
    ArrayClass,
    /// The class of a record's rows; never called.
    RowClass,
    /// `_reconstruct(class, (0,), b"b")`, then the state (version, shape, dtype, whether Fortran's order, bytes).
    Reconstruct,
    /// `_frombuffer(bytes, dtype, shape, "C" or "F")`
    FromBuffer,
    /// `scalar(dtype, bytes)`
    Scalar,
    /// `complex(real, imaginary)`
    Complex,
    /// `_codecs.encode(text, "latin1")`: bytes, before protocol 3.
    Encode,
    /// `bytes()`: no bytes, before protocol 3.
    Bytes,
    /// `collections.OrderedDict()`, which then gets its items as any dict does.
    Dict,
}

impl Global {
    const ALLOWED: [(&str, &str, Self); 19] = [
        ("numpy", "dtype", Self::Dtype),
        ("numpy", "ndarray", Self::Array),
        ("numpy", "recarray", Self::ArrayClass),
        ("numpy.rec", "recarray", Self::ArrayClass),
        ("numpy", "record", Self::RowClass),
        ("numpy.rec", "record", Self::RowClass),
        ("numpy", "void", Self::RowClass),
        ("numpy.core.multiarray", "_reconstruct", Self::Reconstruct),
        ("numpy._core.multiarray", "_reconstruct", Self::Reconstruct),
        ("numpy.core.numeric", "_frombuffer", Self::FromBuffer),
        ("numpy._core.numeric", "_frombuffer", Self::FromBuffer),
        ("numpy.core.multiarray", "scalar", Self::Scalar),
        ("numpy._core.multiarray", "scalar", Self::Scalar),
        ("builtins", "complex", Self::Complex),
        ("__builtin__", "complex", Self::Complex),
        ("_codecs", "encode", Self::Encode),
        ("builtins", "bytes", Self::Bytes),
        ("__builtin__", "bytes", Self::Bytes),
        ("collections", "OrderedDict", Self::Dict),
    ];

    fn find(module: &str, name: &str) -> Option<Self> {
        Self::ALLOWED.iter().find(|(m, n, _)| (*m, *n) == (module, name)).map(|(_, _, global)| *global)
    }

    fn is_called(self) -> bool {
        !matches!(self, Self::ArrayClass | Self::RowClass | Self::Dict)
    }

    fn takes_state(self) -> bool {
        matches!(self, Self::Dtype | Self::Reconstruct)
    }
}

/// All notes of a pickle, and the last one, of which it consists.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    pub(super) notes: Vec<Note<'a>>,
    pub(super) root: Id,
}

struct Machine<'a> {
    bytes: &'a [u8],
    /// The next byte.
    next: usize,
    /// Where the opcode is that is being done.
    at: usize,
    notes: Vec<Note<'a>>,
    stack: Vec<Id>,
    /// How high the stack was at each open mark.
    marks: Vec<usize>,
    memo: Vec<Id>,
}

/// Runs a pickle.
pub(super) fn run(bytes: &[u8]) -> Result<Notes<'_>> {
    let mut machine =
        Machine { bytes, next: 0, at: 0, notes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new() };
    if bytes.len() > MAX_BYTES {
        return Err(machine.malformed(format!("{} bytes are more than the {MAX_BYTES} that are read", bytes.len())));
    }
    match (bytes.first(), bytes.get(1)) {
        (Some(0x80), Some(2..=5)) => {}
        (Some(0x80), Some(version)) => {
            return Err(machine.malformed(format!("protocol {version}, this build knows 2 to 5")));
        }
        _ => return Err(machine.malformed("this is no pickle: it does not begin with 0x80 and a protocol")),
    }
    for _ in 0..MAX_OPCODES {
        if let Some(root) = machine.step()? {
            return Ok(Notes { notes: machine.notes, root });
        }
    }
    Err(machine.malformed(format!("more than {MAX_OPCODES} opcodes")))
}

impl<'a> Machine<'a> {
    /// Does one opcode; answers with the result after the last one.
    fn step(&mut self) -> Result<Option<Id>> {
        self.at = self.next;
        let opcode = self.take(1)?[0];
        match opcode {
            b'\x80' if self.at == 0 => drop(self.take(1)?), // PROTO
            b'\x95' => {
                // FRAME: how much follows, for readers that read ahead.
                let length = self.length(8)?;
                if length > self.bytes.len() - self.next {
                    return Err(self.malformed("a frame is longer than what is there"));
                }
            }
            b'N' => self.push(Note::None),
            b'\x88' => self.push(Note::Bool(true)),
            b'\x89' => self.push(Note::Bool(false)),
            b'K' => {
                let value = self.number(1)?;
                self.push(Note::Int(value.cast_signed()));
            }
            b'M' => {
                let value = self.number(2)?;
                self.push(Note::Int(value.cast_signed()));
            }
            b'J' => {
                let value = self.number(4)? as i32;
                self.push(Note::Int(value.into()));
            }
            b'\x8a' => self.counted(1, Note::Long)?,
            b'\x8b' => self.counted(4, Note::Long)?,
            b'G' => {
                let value = self.number(8)?.swap_bytes(); // the only number with its high bytes first
                self.push(Note::Float(f64::from_bits(value)));
            }
            b'\x8c' => self.text(1)?,
            b'X' => self.text(4)?,
            b'\x8d' => self.text(8)?,
            b'C' => self.counted(1, Note::Bytes)?,
            b'B' => self.counted(4, Note::Bytes)?,
            b'\x8e' | b'\x96' => self.counted(8, Note::Bytes)?, // bytes, bytearray
            b')' => self.push(Note::Tuple(Vec::new())),
            b'\x85' => self.tuple(1)?,
            b'\x86' => self.tuple(2)?,
            b'\x87' => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Note::Tuple(items));
            }
            b']' => self.push(Note::List(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            b'}' => self.push(Note::Dict(Vec::new())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'\x94' => {
                let top = self.top()?;
                self.memo.push(top);
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            b'\x93' => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Note::Text(module), Note::Text(name)) = (&self.notes[module], &self.notes[name]) else {
                    return Err(self.malformed("a global is named by something else than texts"));
                };
                let (module, name) = (*module, *name);
                self.global(module, name)?;
            }
            b'R' => self.call()?,
            b'b' => self.fill()?,
            b'.' => {
                let root = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err(self.malformed("the pickle ends, and its stack is not empty"));
                }
                if self.next < self.bytes.len() {
                    return Err(self.malformed(format!("{} bytes follow the end", self.bytes.len() - self.next)));
                }
                return Ok(Some(root));
            }
            other => return Err(self.refused(format!("opcode {other:#04x}{}", name(other)))),
        }
        Ok(None)
    }

    fn malformed(&self, why: impl Into<String>) -> MetadataError {
        MetadataError::Pickle { offset: self.at, why: why.into() }
    }

    fn refused(&self, what: String) -> MetadataError {
        MetadataError::Refused { offset: self.at, what }
    }

    // Bytes

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.next..];
        let Some(taken) = rest.get(..count) else {
            return Err(self.malformed("the pickle is cut off"));
        };
        self.next += count;
        Ok(taken)
    }

    fn number(&mut self, size: usize) -> Result<u64> {
        let bytes = self.take(size)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn length(&mut self, size: usize) -> Result<usize> {
        let value = self.number(size)?;
        usize::try_from(value).map_err(|_| self.malformed(format!("a length of {value}")))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.next..];
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            return Err(self.malformed("the pickle is cut off"));
        };
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| self.malformed("the line is not UTF-8"))
    }

    // Notes

    fn push(&mut self, note: Note<'a>) {
        self.stack.push(self.notes.len());
        self.notes.push(note);
    }

    /// What follows a length of `size` bytes.
    fn counted(&mut self, size: usize, note: fn(&'a [u8]) -> Note<'a>) -> Result<()> {
        let length = self.length(size)?;
        let bytes = self.take(length)?;
        self.push(note(bytes));
        Ok(())
    }

    fn text(&mut self, size: usize) -> Result<()> {
        let length = self.length(size)?;
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.malformed("the text is not UTF-8"))?;
        self.push(Note::Text(text));
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        let from = self.height(count)?;
        let items = self.stack.split_off(from);
        self.push(Note::Tuple(items));
        Ok(())
    }

    // The stack, which ends at the last mark

    /// Where the last `count` of the stack begin.
    fn height(&self, count: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= floor);
        from.ok_or_else(|| self.malformed("the stack holds too little"))
    }

    fn top(&self) -> Result<Id> {
        Ok(self.stack[self.height(1)?])
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: &[Id]) -> Result<()> {
        let list = self.top()?;
        let Note::List(list) = &mut self.notes[list] else {
            return Err(self.malformed("what is appended to is no list"));
        };
        list.extend_from_slice(items);
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<()> {
        let dict = self.top()?;
        let (pairs, []) = items.as_chunks() else {
            return Err(self.malformed("a key without a value"));
        };
        let Note::Dict(dict) = &mut self.notes[dict] else {
            return Err(self.malformed("what is to have keys is no dict"));
        };
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    // The memo, which Python fills in sequence

    fn put(&mut self, size: usize) -> Result<()> {
        let (index, top) = (self.length(size)?, self.top()?);
        let next = self.memo.len();
        match self.memo.get_mut(index) {
            Some(memo) => *memo = top,
            None if index == next => self.memo.push(top),
            None => return Err(self.malformed(format!("memo {index} comes before {next}"))),
        }
        Ok(())
    }

    fn get(&mut self, size: usize) -> Result<()> {
        let index = self.length(size)?;
        let Some(id) = self.memo.get(index) else {
            return Err(self.malformed(format!("the memo has no {index}")));
        };
        self.stack.push(*id);
        Ok(())
    }

    // What Python would call

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        match Global::find(module, name) {
            Some(global) => self.push(Note::Global(global)),
            None => return Err(self.refused(format!("the global {:?}", short(&format!("{module}.{name}"))))),
        }
        Ok(())
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        match (&self.notes[callee], &self.notes[arguments]) {
            (Note::Global(Global::Dict), Note::Tuple(none)) if none.is_empty() => {
                self.push(Note::Dict(Vec::new()));
                Ok(())
            }
            (Note::Global(global), Note::Tuple(_)) if global.is_called() => {
                let global = *global;
                self.push(Note::Call { global, arguments, state: None });
                Ok(())
            }
            _ => Err(self.refused("a call (REDUCE) of something else than numpy's constructors".into())),
        }
    }

    fn fill(&mut self) -> Result<()> {
        let (new, target) = (self.pop()?, self.top()?);
        match &mut self.notes[target] {
            Note::Call { global, state, .. } if global.takes_state() && state.is_none() => {
                *state = Some(new);
                Ok(())
            }
            _ => Err(self.refused("the state (BUILD) of what has none".into())),
        }
    }
}

/// The name of an opcode that is refused, for sentences.
fn name(opcode: u8) -> &'static str {
    match opcode {
        b'P' => " (PERSID)",
        b'Q' => " (BINPERSID)",
        b'i' => " (INST)",
        b'o' => " (OBJ)",
        b'\x81' => " (NEWOBJ)",
        b'\x92' => " (NEWOBJ_EX)",
        b'\x82'..=b'\x84' => " (EXT)",
        b'\x97' => " (NEXT_BUFFER)",
        b'\x98' => " (READONLY_BUFFER)",
        b'\x8f'..=b'\x91' => " (a set)",
        b'0' | b'1' | b'2' => " (POP or DUP)",
        b'I' | b'L' | b'F' | b'S' | b'T' | b'U' | b'V' | b'g' | b'p' | b'd' | b'l' => " (of protocol 0 or 1)",
        _ => "",
    }
}
