//! What the fields of a segment are, and where.

use super::error::{Error, Result};
use super::types::Type;

/// How fields are placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Each begins where the one before ends.
    #[default]
    Packed,
    /// Each begins at a multiple of its size: several processes may add to it, and it never tears.
    Aligned,
}

/// What a number means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nobody has said.
    #[default]
    Unknown,
    /// It only grows, until its process ends.
    Counter,
    /// It grows and shrinks.
    Gauge,
}

/// A number with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, unique in its schema.
    pub name: String,
    /// Its type.
    pub r#type: Type,
    /// What it means.
    pub kind: Kind,
    /// What it counts, in a sentence.
    pub help: String,
    /// Its unit, such as `bytes` or `seconds`.
    pub unit: String,
}

impl Field {
    /// A field of which nothing else is said.
    pub fn new(name: impl Into<String>, r#type: Type) -> Self {
        Self { name: name.into(), r#type, kind: Kind::Unknown, help: String::new(), unit: String::new() }
    }
}

/// Fields, each with its offset, in order of declaration.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    layout: Layout,
    fields: Vec<(Field, usize)>,
    /// Lengths of the names and indices, ordered by length and bytes: most names differ in length already.
    by_name: Vec<(u32, u32)>,
    size: usize,
}

/// Fields of a schema, at most.
const MAX_FIELDS: usize = 4096;
/// Bytes of a name, at most.
const MAX_NAME: usize = 127;

impl Schema {
    /// A schema without fields.
    pub fn new(layout: Layout) -> Self {
        Self { layout, ..Self::default() }
    }

    /// Adds a field behind those that are there; gives its index.
    pub fn add(&mut self, field: Field) -> Result<usize> {
        let offset = match self.layout {
            Layout::Packed => self.size,
            Layout::Aligned => self.size.next_multiple_of(field.r#type.size()),
        };
        let refuse = |status, why| Err(Error::Field { status, name: field.name.clone(), why });
        if field.name.is_empty() || field.name.len() > MAX_NAME || field.name.contains('\0') {
            return refuse(-libc::EINVAL, "a name has 1 to 127 bytes, and no NUL");
        }
        let Err(at) = self.find(field.name.as_bytes()) else {
            return refuse(-libc::EEXIST, "there is one of that name already");
        };
        if self.fields.len() == MAX_FIELDS {
            return refuse(-libc::E2BIG, "a schema has 4096 fields at most");
        }
        let index = self.fields.len();
        self.size = offset + field.r#type.size();
        self.by_name.insert(at, (field.name.len() as u32, index as u32));
        self.fields.push((field, offset));
        Ok(index)
    }

    /// How fields are placed.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Bytes from the first field's begin to the last one's end.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The fields and their offsets.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&Field, usize)> {
        self.fields.iter().map(|(field, offset)| (field, *offset))
    }

    /// The field of an index, and its offset.
    pub fn field(&self, index: usize) -> Option<(&Field, usize)> {
        self.fields.get(index).map(|(field, offset)| (field, *offset))
    }

    /// The index of a name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.index_of_bytes(name.as_bytes())
    }

    /// The same, of a name that may not even be UTF-8.
    #[inline]
    pub fn index_of_bytes(&self, name: &[u8]) -> Option<usize> {
        self.find(name).ok().map(|at| self.by_name[at].1 as usize)
    }

    /// Whether the aligned layout is aligned in a segment that begins at `offset`.
    ///
    /// [`Error::Misaligned`].
    pub(super) fn check_alignment(&self, offset: u64) -> Result<()> {
        let alignment = self.fields.iter().map(|(field, _)| field.r#type.size()).max().unwrap_or(1);
        if self.layout == Layout::Aligned && !offset.is_multiple_of(alignment as u64) {
            return Err(Error::Misaligned { offset, alignment });
        }
        Ok(())
    }

    /// Where a name is in `by_name`, or would be.
    #[inline]
    fn find(&self, name: &[u8]) -> std::result::Result<usize, usize> {
        self.by_name.binary_search_by(|&(len, index)| {
            (len as usize).cmp(&name.len()).then_with(|| self.fields[index as usize].0.name.as_bytes().cmp(name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(layout: Layout, types: &[&str]) -> Schema {
        let mut schema = Schema::new(layout);
        for (i, name) in types.iter().enumerate() {
            let r#type = Type::from_name(name).expect("a type");
            assert_eq!(schema.add(Field::new(format!("f{i}"), r#type)).expect("added"), i);
        }
        schema
    }

    fn offsets(schema: &Schema) -> Vec<usize> {
        schema.fields().map(|(_, offset)| offset).collect()
    }

    #[test]
    fn packed_as_the_original_does_it() {
        let packed = schema(Layout::Packed, &["u32", "u64", "f64", "U16", "u64"]);
        assert_eq!((offsets(&packed), packed.size()), (vec![0, 4, 12, 20, 22], 30));
        let default = schema(Layout::Packed, &["u32", "u64", "u32", "u64"]);
        assert_eq!((offsets(&default), default.size()), (vec![0, 4, 12, 16], 24));
    }

    #[test]
    fn aligned_to_their_sizes() {
        let aligned = schema(Layout::Aligned, &["U8", "u64", "u16", "S8", "f32"]);
        assert_eq!((offsets(&aligned), aligned.size()), (vec![0, 8, 16, 18, 20], 24));
    }

    #[test]
    fn names_are_unique_and_not_empty() {
        let mut schema = schema(Layout::Packed, &["u32"]);
        let (field, _) = schema.field(0).expect("one");
        for name in ["f0", "", "with\0nul", &"x".repeat(128)] {
            assert!(schema.clone().add(Field { name: name.into(), ..field.clone() }).is_err(), "{name:?}");
        }
        let field = Field { name: "x".repeat(127), ..field.clone() };
        assert_eq!(schema.add(field).expect("long enough"), 1);
        assert_eq!((schema.index("f0"), schema.index("f1")), (Some(0), None));
    }
}
