//! What is wrong with metadata, and where.

use std::fmt;

/// Metadata that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataError {
    /// The text is not JSON, or does not say what metadata can be: the caller's mistake.
    Json {
        /// The member, as `axes.ch.data[2]`; empty for the text as a whole.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes are no pickle, are cut off, or have more of something than is read.
    Pickle {
        /// Where in the bytes.
        offset: usize,
        /// What is wrong there.
        why: String,
    },
    /// The pickle asks for more than plain values, such as a call. Nothing of it was done.
    Refused {
        /// Where in the bytes.
        offset: usize,
        /// What it asks for.
        what: String,
    },
    /// The pickle is whole, but holds something else than metadata.
    Content {
        /// The member, as `axes.ch.data`; empty for all of it.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The pickle is of a version that this build does not know; which one, as text.
    Version(String),
}

pub(super) type Result<T> = std::result::Result<T, MetadataError>;

impl MetadataError {
    pub(super) fn json(why: impl Into<String>) -> Self {
        Self::Json { path: String::new(), why: why.into() }
    }

    pub(super) fn content(why: impl Into<String>) -> Self {
        Self::Content { path: String::new(), why: why.into() }
    }

    /// The same of a member: paths grow on the way out, so that they cost nothing when all is well.
    pub(super) fn within(mut self, member: &str) -> Self {
        if let Self::Json { path, .. } | Self::Content { path, .. } = &mut self {
            let joint = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            *path = format!("{}{joint}{path}", short(member));
        }
        self
    }

    /// The same of an element of a list.
    pub(super) fn at(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }
}

/// The begin of a text, for sentences: names come from others, and may be of any length.
pub(super) fn short(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.to_owned(),
    }
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { path, why } | Self::Content { path, why } if path.is_empty() => write!(f, "metadata: {why}"),
            Self::Json { path, why } | Self::Content { path, why } => write!(f, "{path}: {why}"),
            Self::Pickle { offset, why } => write!(f, "pickled metadata, byte {offset}: {why}"),
            Self::Refused { offset, what } => {
                write!(f, "pickled metadata, byte {offset}: {what} is refused: only plain values and arrays are read")
            }
            Self::Version(version) => {
                write!(f, "metadata of version {version}, this build knows {}", super::VERSION)
            }
        }
    }
}

impl std::error::Error for MetadataError {}
