//! What the peer's dict says: metadata as a value, and back.

use super::error::{MetadataError, Result, short};
use super::value::Value;
use super::{Axis, Metadata, VERSION};

fn wrong<T>(why: impl Into<String>) -> Result<T> {
    Err(MetadataError::content(why))
}

/// A dict whose members are taken out by name. Those that stay are a newer peer's additions.
struct Members(Vec<(String, Value)>);

impl Members {
    fn of(value: Value) -> Result<Self> {
        match value {
            Value::Dict(members) => Ok(Self(members)),
            _ => wrong("this is no dict"),
        }
    }

    /// What `read` makes of a member; the default when there is none.
    fn take<T: Default>(&mut self, name: &str, read: impl FnOnce(Value) -> Result<T>) -> Result<T> {
        let index = self.0.iter().position(|(member, _)| member == name);
        index.map_or(Ok(T::default()), |index| read(self.0.swap_remove(index).1)).map_err(|error| error.within(name))
    }
}

fn text(value: Value) -> Result<String> {
    match value {
        Value::Text(text) => Ok(text),
        _ => wrong("this is no text"),
    }
}

fn text_or_none(value: Value) -> Result<Option<String>> {
    if value == Value::None { Ok(None) } else { text(value).map(Some) }
}

fn texts(value: Value) -> Result<Vec<String>> {
    let (Value::List(items) | Value::Tuple(items)) = value else {
        return wrong("this is no list");
    };
    items.into_iter().enumerate().map(|(index, item)| text(item).map_err(|error| error.at(index))).collect()
}

fn float(value: Value) -> Result<Option<f64>> {
    match value {
        Value::Float(value) => Ok(Some(value)),
        Value::Int(value) => Ok(Some(value as f64)),
        _ => wrong("this is no number"),
    }
}

impl Metadata {
    pub(super) fn from_value(value: Value) -> Result<Self> {
        let mut members = Members::of(value)?;
        match members.take("version", |version| Ok(Some(version)))? {
            Some(Value::Int(VERSION)) => {}
            Some(Value::Int(other)) => return Err(MetadataError::Version(other.to_string())),
            Some(Value::Text(other)) => return Err(MetadataError::Version(format!("\"{}\"", short(&other)))),
            Some(_) => return Err(MetadataError::Version("that is no number".into())),
            None => return wrong("there is no version"),
        }
        let chunk_dim = members.take("chunk_dim", text_or_none)?; // which is what release 0.7 called it
        let mut metadata = Self {
            dims: members.take("dims", texts)?,
            axes: members.take("axes", |axes| {
                let Members(axes) = Members::of(axes)?;
                let read = |(name, axis): (String, _)| match Axis::from_value(axis) {
                    Ok(axis) => Ok((name, axis)),
                    Err(error) => Err(error.within(&name)),
                };
                axes.into_iter().map(read).collect()
            })?,
            attrs: members.take("attrs", |attrs| Members::of(attrs).map(|attrs| attrs.0))?,
            key: members.take("key", text)?,
            buffered_axis: members.take("buffered_axis", text_or_none)?,
            stream_dim: members.take("stream_dim", text_or_none)?.or(chunk_dim),
        };
        metadata.settle(MetadataError::content)?;
        Ok(metadata)
    }

    pub(super) fn to_value(&self) -> Value {
        let optional = |text: &Option<String>| text.clone().map_or(Value::None, Value::Text);
        dict([
            ("version", Value::Int(VERSION)),
            ("dims", list(&self.dims)),
            ("axes", Value::Dict(self.axes.iter().map(|(name, axis)| (name.clone(), axis.to_value())).collect())),
            ("attrs", Value::Dict(self.attrs.clone())),
            ("key", Value::Text(self.key.clone())),
            ("buffered_axis", optional(&self.buffered_axis)),
            ("stream_dim", optional(&self.stream_dim)),
        ])
    }
}

impl Axis {
    fn from_value(value: Value) -> Result<Self> {
        let mut members = Members::of(value)?;
        let kind = members.take("kind", text)?;
        let unit = members.take("unit", text)?;
        match kind.as_str() {
            "linear" => {
                let gain = members.take("gain", float)?.ok_or_else(|| MetadataError::content("there is no gain"))?;
                Ok(Self::Linear { unit, gain, offset: members.take("offset", float)? })
            }
            "coord" => {
                let dims = members.take("dims", texts)?;
                let data = members.take("data", |data| match data {
                    Value::Array(array) => Ok(Some(array)),
                    _ => wrong("this is no array"),
                })?;
                Ok(Self::Coord { unit, dims, data })
            }
            other => wrong(format!("no kind of axis is called \"{}\", only linear and coord", short(other))),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Linear { unit, gain, offset } => {
                let members =
                    [("kind", kind("linear")), ("unit", Value::Text(unit.clone())), ("gain", Value::Float(*gain))];
                dict(members.into_iter().chain(offset.map(|offset| ("offset", Value::Float(offset)))))
            }
            Self::Coord { unit, dims, data } => {
                let members = [("kind", kind("coord")), ("unit", Value::Text(unit.clone())), ("dims", list(dims))];
                dict(members.into_iter().chain(data.clone().map(|data| ("data", Value::Array(data)))))
            }
        }
    }
}

fn kind(name: &str) -> Value {
    Value::Text(name.into())
}

fn list(texts: &[String]) -> Value {
    Value::List(texts.iter().cloned().map(Value::Text).collect())
}

fn dict<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Dict(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
