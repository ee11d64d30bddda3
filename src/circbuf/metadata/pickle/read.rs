//! Notes become values. They may mention each other as often as they like, and contain themselves: what is made of them
//! is paid from a budget, and nesting has a limit.

use std::borrow::Cow;
use std::collections::HashSet;

use super::super::MAX_DEPTH;
use super::super::dtype::{Dtype, Field, Kind, Scalar, TimeUnit};
use super::super::error::{MetadataError, Result, short};
use super::super::integer::Integer;
use super::super::item::Item;
use super::super::value::{Array, Value, count};
use super::machine::{self, Global, Id, Note};

/// Bytes that values may take beside those of the pickle, at most.
const BUDGET: usize = 64 << 20;

/// The value that a pickle holds.
pub(in super::super) fn read(bytes: &[u8]) -> Result<Value> {
    let machine::Notes { notes, root } = machine::run(bytes)?;
    let budget = ((1 << 20) + 64 * bytes.len()).min(BUDGET + bytes.len());
    Reader { notes: &notes, budget, depth: 0 }.value(root)
}

struct Reader<'n, 'a> {
    notes: &'n [Note<'a>],
    /// Bytes that may still be made.
    budget: usize,
    /// How deep the note lies.
    depth: usize,
}

/// Where in an item of the peer the parts lie that ours has.
struct Layout {
    /// Its bytes.
    size: usize,
    /// The fields of a record.
    fields: Option<Vec<Place>>,
}

/// A field: `count` items from `offset` on.
struct Place {
    offset: usize,
    count: usize,
    layout: Layout,
}

/// What an item is here, and how it lies there.
type Part = (Dtype, Layout);

/// A record that gets its fields one by one.
struct Record {
    size: usize,
    fields: Vec<Field>,
    places: Vec<Place>,
}

fn wrong<T>(why: impl Into<String>) -> Result<T> {
    Err(MetadataError::content(why))
}

impl<'n, 'a> Reader<'n, 'a> {
    fn pay(&mut self, bytes: usize) -> Result<()> {
        match self.budget.checked_sub(bytes) {
            Some(left) => self.budget = left,
            None => return wrong("the values are too many for the size of the pickle"),
        }
        Ok(())
    }

    /// Does what goes one level deeper.
    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return wrong(format!("values are nested deeper than {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn value(&mut self, id: Id) -> Result<Value> {
        self.pay(size_of::<Value>())?;
        Ok(match &self.notes[id] {
            Note::None => Value::None,
            Note::Bool(value) => Value::Bool(*value),
            Note::Int(value) => Value::Int(*value),
            Note::Long(bytes) => match Integer::from_le_bytes(bytes) {
                Ok(integer) => {
                    self.pay(bytes.len())?;
                    integer.into()
                }
                Err(_) => return wrong("an integer has too many digits"),
            },
            Note::Float(value) => Value::Float(*value),
            Note::Text(text) => {
                self.pay(text.len())?;
                Value::Text((*text).to_owned())
            }
            Note::Bytes(bytes) => {
                self.pay(bytes.len())?;
                Value::Bytes(bytes.to_vec())
            }
            Note::List(items) => Value::List(self.deeper(|reader| reader.values(items))?),
            Note::Tuple(items) => Value::Tuple(self.deeper(|reader| reader.values(items))?),
            Note::Dict(pairs) => Value::Dict(self.deeper(|reader| reader.pairs(pairs))?),
            Note::Global(_) => return wrong("a class or function is no value"),
            Note::Call { global, arguments, state } => {
                let (global, state) = (*global, *state);
                let arguments = self.items(*arguments)?;
                self.deeper(|reader| reader.called(global, arguments, state))?
            }
        })
    }

    fn values(&mut self, items: &[Id]) -> Result<Vec<Value>> {
        items.iter().enumerate().map(|(index, item)| self.value(*item).map_err(|error| error.at(index))).collect()
    }

    fn pairs(&mut self, pairs: &[(Id, Id)]) -> Result<Vec<(String, Value)>> {
        let mut names = HashSet::new();
        let mut dict = Vec::new();
        for (key, value) in pairs {
            let Value::Text(name) = self.value(*key)? else {
                return wrong("a key is no text");
            };
            self.pay(2 * (size_of::<String>() + name.len()))?; // once more for the set
            if !names.insert(name.clone()) {
                return wrong(format!("two keys are called \"{}\"", short(&name)));
            }
            let value = self.value(*value).map_err(|error| error.within(&name))?;
            dict.push((name, value));
        }
        Ok(dict)
    }

    fn called(&mut self, global: Global, arguments: &'n [Id], state: Option<Id>) -> Result<Value> {
        match (global, arguments) {
            (Global::Complex, [re, im]) => match (&self.notes[*re], &self.notes[*im]) {
                (Note::Float(re), Note::Float(im)) => Ok(Value::Complex(*re, *im)),
                _ => wrong("a complex number is not of two floats"),
            },
            (Global::Encode, [..]) | (Global::Bytes, []) => {
                let bytes = self.encoded(global, arguments)?;
                Ok(Value::Bytes(bytes.into_owned()))
            }
            (Global::FromBuffer, [data, dtype, shape, order]) => {
                let fortran = match &self.notes[*order] {
                    Note::Text("C") => false,
                    Note::Text("F") => true,
                    _ => return wrong("the order of an array is neither \"C\" nor \"F\""),
                };
                self.array(*shape, *dtype, fortran, *data).map(Value::Array)
            }
            (Global::Array, [shape, dtype, data]) => self.array(*shape, *dtype, false, *data).map(Value::Array),
            (Global::Reconstruct, [class, _, _]) => {
                if !matches!(&self.notes[*class], Note::Global(Global::Array | Global::ArrayClass)) {
                    return wrong("an array is of an unknown class");
                }
                let Some([_version, shape, dtype, fortran, data]) = state.map(|state| self.items(state)).transpose()?
                else {
                    return wrong("an array has no contents");
                };
                let Note::Bool(fortran) = &self.notes[*fortran] else {
                    return wrong("the order of an array is neither true nor false");
                };
                self.array(*shape, *dtype, *fortran, *data).map(Value::Array)
            }
            (Global::Scalar, [dtype, data]) => {
                let array = self.filled(Vec::new(), *dtype, false, *data)?;
                Ok(plain(&array).unwrap_or(Value::Array(array)))
            }
            (Global::Dtype, _) => wrong("a dtype is no value"),
            _ => wrong("a call has the wrong arguments"),
        }
    }

    // Arrays

    fn array(&mut self, shape: Id, dtype: Id, fortran: bool, data: Id) -> Result<Array> {
        let shape = self.shape(shape)?;
        self.filled(shape, dtype, fortran, data)
    }

    fn filled(&mut self, shape: Vec<usize>, dtype: Id, fortran: bool, data: Id) -> Result<Array> {
        let (dtype, layout) = self.deeper(|reader| reader.part(dtype))?;
        let data = self.bytes(data)?;
        let count = count(&shape).ok_or_else(|| MetadataError::content(format!("no array has the shape {shape:?}")))?;
        if count.checked_mul(layout.size) != Some(data.len()) {
            return wrong(format!(
                "{} bytes are not those of shape {shape:?} and {} bytes for each item",
                data.len(),
                layout.size
            ));
        }
        // Fields may overlap, or have no bytes.
        let size = dtype.size();
        self.pay(count.saturating_mul(size.max(dtype.parts())))?;
        let mut packed = Vec::with_capacity(count * size);
        for index in 0..count {
            let place = if fortran { fortran_place(index, &shape) } else { index };
            layout.pack(&data[place * layout.size..][..layout.size], &mut packed);
        }
        Array::new(dtype, shape, packed)
    }

    /// The parts of a dtype: `numpy.dtype(name, ...)`, and a state that has its order of bytes, and the fields if any;
    /// or `numpy.dtype(fields)`, as our own writer has it.
    fn part(&mut self, id: Id) -> Result<Part> {
        self.pay(size_of::<Field>() + size_of::<Place>())?;
        let Note::Call { global: Global::Dtype, arguments, state } = &self.notes[id] else {
            return wrong("a dtype is something else");
        };
        let (state, arguments) = (*state, self.items(*arguments)?);
        let Some(first) = arguments.first() else {
            return wrong("a dtype without a name");
        };
        let name = match &self.notes[*first] {
            Note::Text(name) => *name,
            Note::Global(Global::RowClass) => "V",
            Note::List(fields) => return self.described(fields),
            _ => return wrong("the name of a dtype is no text"),
        };
        let scalar = Scalar::parse(name).map_err(MetadataError::content)?;
        match state {
            Some(state) => self.stated(scalar, state),
            None => Ok(scalar_part(scalar)),
        }
    }

    /// A dtype with its state: version, order of bytes, subarray, names, fields, bytes, alignment, flags, and what is not
    /// in all: the unit of times, or remarks.
    fn stated(&mut self, scalar: Scalar, state: Id) -> Result<Part> {
        let [_version, order, subarray, names, fields, size, _alignment, _flags, rest @ ..] = self.items(state)? else {
            return wrong("the state of a dtype is too short");
        };
        let big_endian = match &self.notes[*order] {
            Note::Text("<" | "|") => false,
            Note::Text(">") => true,
            Note::Text("=") => cfg!(target_endian = "big"),
            _ => return wrong("the order of a dtype's bytes is none of <, >, | and ="),
        };
        let stated_size = match &self.notes[*size] {
            Note::Int(size) => usize::try_from(*size).ok(), // -1: what the name says
            _ => return wrong("the size of a dtype is no number"),
        };
        if !matches!(&self.notes[*subarray], Note::None) {
            return wrong("an array whose items are arrays is none that numpy makes");
        }
        if let Note::Dict(pairs) = &self.notes[*fields] {
            return self.fields(*names, pairs, stated_size.unwrap_or(scalar.size()));
        }
        if stated_size.is_some_and(|size| size != scalar.size()) {
            return wrong("the size of a dtype is not that of its name");
        }
        let kind = match (scalar.kind(), rest) {
            (Kind::Date(_), [remark]) => Kind::Date(self.unit(*remark)?),
            (Kind::Span(_), [remark]) => Kind::Span(self.unit(*remark)?),
            (kind, _) => kind,
        };
        let scalar = Scalar::new(kind, scalar.size(), big_endian);
        scalar.map(scalar_part).ok_or_else(|| MetadataError::content("there is no such dtype"))
    }

    /// The unit of times: (remarks, (name, count, denominator, event)).
    fn unit(&self, remark: Id) -> Result<TimeUnit> {
        if let [_, unit] = self.items(remark)?
            && let [name, number, denominator, _] = self.items(*unit)?
            && let (Some(name), Note::Int(number), Note::Int(1)) =
                (self.name_of_unit(*name), &self.notes[*number], &self.notes[*denominator])
            && let Some(unit) = u32::try_from(*number).ok().and_then(|number| TimeUnit::new(&name, number))
        {
            return Ok(unit);
        }
        wrong("the unit of a time is none that numpy has")
    }

    fn name_of_unit(&self, id: Id) -> Option<String> {
        let bytes = self.bytes(id).ok()?;
        String::from_utf8(bytes.into_owned()).ok()
    }

    /// The fields of a record: a tuple of names, and for each (dtype, offset) and perhaps a title.
    fn fields(&mut self, names: Id, pairs: &[(Id, Id)], size: usize) -> Result<Part> {
        let mut record = Record { size, fields: Vec::new(), places: Vec::new() };
        for name in self.items(names)? {
            let Note::Text(name) = &self.notes[*name] else {
                return wrong("the name of a field is no text");
            };
            self.pay(name.len() + pairs.len())?; // time is paid as well
            let found = pairs.iter().find(|(key, _)| matches!(&self.notes[*key], Note::Text(key) if key == name));
            let Some([dtype, offset, ..]) = found.map(|(_, value)| self.items(*value)).transpose()? else {
                return wrong(format!("field \"{}\" is not described", short(name)));
            };
            let Note::Int(offset) = &self.notes[*offset] else {
                return wrong(format!("field \"{}\" has no offset", short(name)));
            };
            let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
            let (shape, part) = self.deeper(|reader| reader.field(*dtype)).map_err(|error| error.within(name))?;
            record.add(name, offset, shape, part)?;
        }
        Ok(record.part())
    }

    /// What a field is: the dtype, or that of a subarray and its shape.
    fn field(&mut self, dtype: Id) -> Result<(Vec<usize>, Part)> {
        if let Note::Call { global: Global::Dtype, state: Some(state), .. } = &self.notes[dtype]
            && let [_, _, subarray, ..] = self.items(*state)?
            && let Note::Tuple(parts) = &self.notes[*subarray]
        {
            let [base, shape] = parts[..] else {
                return wrong("a subarray is not of a dtype and a shape");
            };
            let shape = self.shape(shape)?;
            return Ok((shape, self.part(base)?));
        }
        Ok((Vec::new(), self.part(dtype)?))
    }

    /// The fields of a record as a list of (name, name of the dtype or such a list, shape if any).
    fn described(&mut self, fields: &[Id]) -> Result<Part> {
        let mut record = Record { size: 0, fields: Vec::new(), places: Vec::new() };
        for field in fields {
            let [name, dtype, shape @ ..] = self.items(*field)? else {
                return wrong("a field is not of a name and a dtype");
            };
            let Note::Text(name) = &self.notes[*name] else {
                return wrong("the name of a field is no text");
            };
            self.pay(size_of::<Field>() + size_of::<Place>() + name.len())?;
            let shape = shape.first().map_or(Ok(Vec::new()), |shape| self.shape(*shape))?;
            let part = match &self.notes[*dtype] {
                Note::List(fields) => self.deeper(|reader| reader.described(fields))?,
                Note::Text(name) => scalar_part(Scalar::parse(name).map_err(MetadataError::content)?),
                _ => return wrong("the dtype of a field is something else"),
            };
            let offset = record.size;
            let size = count(&shape).and_then(|count| count.checked_mul(part.1.size)?.checked_add(offset));
            record.size = size.ok_or_else(|| MetadataError::content("a record is too large"))?;
            record.add(name, offset, shape, part)?;
        }
        Ok(record.part())
    }

    // Small things

    /// The items of a tuple.
    fn items(&self, id: Id) -> Result<&'n [Id]> {
        match &self.notes[id] {
            Note::Tuple(items) => Ok(items),
            _ => wrong("something is no tuple"),
        }
    }

    fn shape(&self, id: Id) -> Result<Vec<usize>> {
        let lengths = match &self.notes[id] {
            Note::Int(_) => &[id],
            _ => self.items(id)?,
        };
        if lengths.len() > Array::MAX_DIMENSIONS {
            return wrong(format!("{} dimensions are more than {}", lengths.len(), Array::MAX_DIMENSIONS));
        }
        let length = |id: &Id| match &self.notes[*id] {
            Note::Int(length) => usize::try_from(*length).ok(),
            _ => None,
        };
        let shape: Option<_> = lengths.iter().map(length).collect();
        shape.ok_or_else(|| MetadataError::content("a shape is not of lengths"))
    }

    fn bytes(&self, id: Id) -> Result<Cow<'a, [u8]>> {
        match &self.notes[id] {
            Note::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Note::Call { global: global @ (Global::Encode | Global::Bytes), arguments, .. } => {
                self.encoded(*global, self.items(*arguments)?)
            }
            _ => wrong("something is not of bytes"),
        }
    }

    /// Bytes before protocol 3, as text whose characters they are.
    fn encoded(&self, global: Global, arguments: &[Id]) -> Result<Cow<'a, [u8]>> {
        if global == Global::Bytes && arguments.is_empty() {
            return Ok(Cow::Borrowed(&[]));
        }
        let [text, encoding] = arguments else {
            return wrong("bytes are not of a text and its encoding");
        };
        let (Note::Text(text), Note::Text("latin1")) = (&self.notes[*text], &self.notes[*encoding]) else {
            return wrong("bytes are not a text in latin1");
        };
        let bytes: std::result::Result<_, _> = text.chars().map(u8::try_from).collect();
        bytes.map(Cow::Owned).or_else(|_| wrong("a text has characters that latin1 has not"))
    }
}

fn scalar_part(scalar: Scalar) -> Part {
    (Dtype::Scalar(scalar), Layout { size: scalar.size(), fields: None })
}

impl Record {
    fn add(&mut self, name: &str, offset: usize, shape: Vec<usize>, (dtype, layout): Part) -> Result<()> {
        let items = count(&shape);
        let end = items.and_then(|items| items.checked_mul(layout.size)?.checked_add(offset));
        let (Some(count), Some(_)) = (items, end.filter(|end| *end <= self.size)) else {
            return wrong(format!("field \"{}\" does not lie within its record", short(name)));
        };
        self.fields.push(Field { name: name.to_owned(), dtype, shape });
        self.places.push(Place { offset, count, layout });
        Ok(())
    }

    fn part(self) -> Part {
        (Dtype::Record(self.fields), Layout { size: self.size, fields: Some(self.places) })
    }
}

impl Layout {
    /// Appends an item of the peer, without its gaps.
    fn pack(&self, item: &[u8], packed: &mut Vec<u8>) {
        let Some(fields) = &self.fields else {
            return packed.extend_from_slice(item);
        };
        for Place { offset, count, layout } in fields {
            for index in 0..*count {
                layout.pack(&item[offset + index * layout.size..][..layout.size], packed);
            }
        }
    }
}

/// Where in Fortran's order, whose first index runs fastest, the item is that has this place in ours.
fn fortran_place(mut index: usize, shape: &[usize]) -> usize {
    let mut stride: usize = shape.iter().product();
    let mut place = 0;
    for length in shape.iter().rev() {
        stride /= length;
        place += index % length * stride;
        index /= length;
    }
    place
}

/// The plain value of a numpy scalar; `None` of those that Python has no type for: times and records.
fn plain(array: &Array) -> Option<Value> {
    let Dtype::Scalar(scalar) = array.dtype() else { return None };
    if matches!(scalar.kind(), Kind::Date(_) | Kind::Span(_)) {
        return None;
    }
    Some(match scalar.item(array.data()) {
        Item::Bool(value) => Value::Bool(value),
        Item::Int(value) => match i64::try_from(value) {
            Ok(small) => Value::Int(small),
            Err(_) => Integer::from_le_bytes(&value.to_le_bytes()).ok()?.into(),
        },
        Item::Single(value) => Value::Float(value.into()),
        Item::Double(value) => Value::Float(value),
        Item::Singles(re, im) => Value::Complex(re.into(), im.into()),
        Item::Doubles(re, im) => Value::Complex(re, im),
        Item::Text(text) => Value::Text(text),
        Item::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
    })
}
