//! One error type for every failure of this crate.

use crate::convert::ConvertError;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// What is wrong with a file. [`Reason::as_str`] is its stable name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The file has fewer bytes than the length of a header.
    TooShort,
    /// The header is longer than the file.
    HeaderLength,
    /// The header is longer than [`OpenOptions::max_header_bytes`](crate::OpenOptions::max_header_bytes).
    HeaderTooLarge,
    /// The header is not JSON, or not an object.
    Json,
    /// `__metadata__` is not an object of strings.
    Metadata,
    /// A name or key is there twice.
    Duplicate,
    /// Bytes follow the last tensor.
    Trailing,
    /// The file ends before a tensor does.
    Truncated,
    /// Bytes between two tensors belong to none.
    Hole,
    /// Two tensors share bytes.
    Overlap,
    /// A tensor ends before it begins.
    Order,
    /// `data_offsets` are not two whole numbers below 2^53.
    Offsets,
    /// A field of a tensor is missing, is there twice, or has the wrong type.
    Field,
    /// A tensor has more or fewer bytes than its shape and type say.
    Size,
    /// A shape has more elements than can be counted.
    Overflow,
    /// Elements of fewer than 8 bits do not fill whole bytes.
    Bits,
    /// A directory has several files and no index.
    Ambiguous,
    /// An index names a file outside of its directory.
    Path,
    /// An index is wrong: its form, or the file that it names for a tensor.
    Index,
    /// An index has more than 256 MiB, or the manifest or a part of a checkpoint more than it can have.
    TooLarge,
    /// The manifest of a checkpoint is wrong: it was changed or cut, or its form is not right.
    Manifest,
    /// The part of a writer of a checkpoint is wrong, in the same ways.
    Part,
    /// A file of a checkpoint belongs to another generation or writer.
    Identity,
    /// A newer release wrote this form of a checkpoint.
    Version,
}

impl Reason {
    /// The name, such as `header-length`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::HeaderLength => "header-length",
            Self::HeaderTooLarge => "header-too-large",
            Self::Json => "json",
            Self::Metadata => "metadata",
            Self::Duplicate => "duplicate",
            Self::Trailing => "trailing",
            Self::Truncated => "truncated",
            Self::Hole => "hole",
            Self::Overlap => "overlap",
            Self::Order => "order",
            Self::Offsets => "offsets",
            Self::Field => "field",
            Self::Size => "size",
            Self::Overflow => "overflow",
            Self::Bits => "bits",
            Self::Ambiguous => "ambiguous",
            Self::Path => "path",
            Self::Index => "index",
            Self::TooLarge => "too-large",
            Self::Manifest => "manifest",
            Self::Part => "part",
            Self::Identity => "identity",
            Self::Version => "version",
        }
    }
}

/// A failed operation.
///
/// ```
/// use deepring_tensors::{Error, Reason, Safetensors};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("model.safetensors");
/// std::fs::write(&path, [0u8; 5]).unwrap();
/// let engine = deepring::Engine::builder().build()?;
/// let error = Safetensors::open(&engine, &path).wait().unwrap_err();
/// assert!(matches!(error, Error::Format { reason: Reason::TooShort, .. }));
/// assert_eq!(error.code(), "ERR_DEEPRING_FORMAT");
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written. The tensor is the one that needed it, if there is one.
    #[error("{}{}", .error, of_tensor(.tensor.as_deref()))]
    Io {
        /// What the engine reports.
        error: deepring::Error,
        /// The name of a tensor that needs these bytes.
        tensor: Option<String>,
    },
    /// A file is not what it claims to be.
    #[error("ERR_DEEPRING_FORMAT: {detail} ({}), '{}'{}", .reason.as_str(), .path.display(), of_tensor(.tensor.as_deref()))]
    Format {
        /// What is wrong.
        reason: Reason,
        /// The file.
        path: PathBuf,
        /// The tensor that it is about.
        tensor: Option<String>,
        /// What is wrong, as a sentence without its end.
        detail: String,
    },
    /// There is no tensor of this name.
    #[error("ERR_DEEPRING_NOT_FOUND: there is no tensor {}", quoted(.tensor))]
    NotFound {
        /// The name.
        tensor: String,
    },
    /// A slice leaves its tensor, or cannot be taken of it.
    #[error("ERR_DEEPRING_SLICE: {detail}, tensor {}", quoted(.tensor))]
    Slice {
        /// The name of the tensor.
        tensor: String,
        /// What is wrong, as a sentence without its end.
        detail: String,
    },
    /// More memory is needed at once than the budget has.
    #[error("ERR_DEEPRING_BUDGET: {needed} bytes are needed at once, and the budget is {budget}{}", of_tensor(.tensor.as_deref()))]
    Budget {
        /// Bytes.
        needed: u64,
        /// Bytes.
        budget: u64,
        /// The tensor that needs them.
        tensor: Option<String>,
    },
    /// The bytes of a tensor do not have the checksum that the file states.
    #[error("ERR_DEEPRING_CHECKSUM: the checksum is {actual:#010x}, not {expected:#010x}, '{}', tensor {}", .path.display(), quoted(.tensor))]
    Checksum {
        /// The name of the tensor.
        tensor: String,
        /// Its file.
        path: PathBuf,
        /// Where the bytes begin in the file: those of the tensor, or of a chunk of it.
        position: u64,
        /// What the file states.
        expected: u32,
        /// What the bytes have.
        actual: u32,
    },
    /// Writers of a checkpoint ended without their part.
    #[error("ERR_DEEPRING_INCOMPLETE: generation {generation} is not complete: {}", unfinished(.writers))]
    Incomplete {
        /// The number that it would have had.
        generation: u64,
        /// The writers without a part, in ascending order.
        writers: Vec<u32>,
    },
    /// Another program has taken the place in a store, or disagrees about what belongs there.
    #[error("ERR_DEEPRING_CONFLICT: {detail}, generation {generation}")]
    Conflict {
        /// The generation that it is about.
        generation: u64,
        /// What is in the way, as a sentence without its end.
        detail: String,
    },
    /// There is no generation of this number in the store.
    #[error("ERR_DEEPRING_NOT_FOUND: there is no generation {generation}")]
    NoGeneration {
        /// The number.
        generation: u64,
    },
    /// Another process, or another part of this one, has the store open.
    #[error("ERR_DEEPRING_BUSY: {detail}, '{}'", .path.display())]
    Busy {
        /// The store.
        path: PathBuf,
        /// What is in the way, as a sentence without its end.
        detail: String,
    },
    /// A swap store that writes in place was left between two flushes: its tensors are of different times.
    #[error("ERR_DEEPRING_TORN: the store was not flushed before its process ended; open it with `create` to begin anew, '{}'", .path.display())]
    Torn {
        /// The store.
        path: PathBuf,
    },
    /// Bytes of a tensor were given twice.
    #[error("ERR_DEEPRING_OVERLAP: bytes of {start}..{end} were given before, tensor {}", quoted(.tensor))]
    Overlap {
        /// The name of the tensor.
        tensor: String,
        /// Where the bytes begin in it.
        start: u64,
        /// Where they end.
        end: u64,
    },
    /// Bytes leave their tensor.
    #[error("ERR_DEEPRING_OUT_OF_RANGE: bytes {start}..{end} leave the {len} of tensor {}", quoted(.tensor))]
    OutOfRange {
        /// The name of the tensor.
        tensor: String,
        /// Where the bytes begin.
        start: u64,
        /// Where they end.
        end: u64,
        /// Bytes of the tensor.
        len: u64,
    },
    /// An argument is not valid. Nothing was touched.
    #[error("ERR_DEEPRING_INVALID: {0}")]
    Argument(String),
    /// There is no such conversion, or its sizes do not agree.
    #[error("ERR_DEEPRING_INVALID: {0}")]
    Convert(#[from] ConvertError),
}

/// The result of every fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A stable name: that of [`deepring::Error::code`], or `ERR_DEEPRING_*`.
    pub fn code(&self) -> String {
        match self {
            Self::Io { error, .. } => error.code(),
            Self::Format { .. } => "ERR_DEEPRING_FORMAT".into(),
            Self::NotFound { .. } | Self::NoGeneration { .. } => "ERR_DEEPRING_NOT_FOUND".into(),
            Self::Slice { .. } => "ERR_DEEPRING_SLICE".into(),
            Self::Budget { .. } => "ERR_DEEPRING_BUDGET".into(),
            Self::Checksum { .. } => "ERR_DEEPRING_CHECKSUM".into(),
            Self::Incomplete { .. } => "ERR_DEEPRING_INCOMPLETE".into(),
            Self::Conflict { .. } => "ERR_DEEPRING_CONFLICT".into(),
            Self::Busy { .. } => "ERR_DEEPRING_BUSY".into(),
            Self::Torn { .. } => "ERR_DEEPRING_TORN".into(),
            Self::Overlap { .. } => "ERR_DEEPRING_OVERLAP".into(),
            Self::OutOfRange { .. } => "ERR_DEEPRING_OUT_OF_RANGE".into(),
            Self::Argument(_) | Self::Convert(_) => "ERR_DEEPRING_INVALID".into(),
        }
    }

    /// The tensor that it is about.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Io { tensor, .. } | Self::Format { tensor, .. } | Self::Budget { tensor, .. } => tensor.as_deref(),
            Self::NotFound { tensor }
            | Self::Slice { tensor, .. }
            | Self::Checksum { tensor, .. }
            | Self::Overlap { tensor, .. }
            | Self::OutOfRange { tensor, .. } => Some(tensor),
            Self::Incomplete { .. }
            | Self::Conflict { .. }
            | Self::NoGeneration { .. }
            | Self::Busy { .. }
            | Self::Torn { .. }
            | Self::Argument(_)
            | Self::Convert(_) => None,
        }
    }

    /// An error of the engine for the bytes of a tensor.
    pub(crate) fn io(error: deepring::Error, tensor: Option<&str>) -> Self {
        Self::Io { error, tensor: tensor.map(str::to_owned) }
    }
}

impl From<deepring::Error> for Error {
    fn from(error: deepring::Error) -> Self {
        Self::io(error, None)
    }
}

/// A finding in a file, by code that does not know which file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) tensor: Option<String>,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, tensor: None, detail: detail.into() }
    }

    pub(crate) fn of(reason: Reason, tensor: &str, detail: impl Into<String>) -> Self {
        Self { reason, tensor: Some(tensor.to_owned()), detail: detail.into() }
    }

    /// The error, in this file.
    pub(crate) fn at(self, path: &Path) -> Error {
        Error::Format { reason: self.reason, path: path.to_owned(), tensor: self.tensor, detail: self.detail }
    }
}

/// Characters of a name in a message; a name can have a megabyte.
const NAME_CHARS_MAX: usize = 120;

/// A name in a message: in quotes, with control characters escaped.
pub(crate) fn quoted(name: &str) -> String {
    let mut text = String::from("\"");
    let mut chars = name.chars();
    for char in chars.by_ref().take(NAME_CHARS_MAX) {
        let _ = write!(text, "{}", char.escape_debug());
    }
    if chars.next().is_some() {
        text.push('…');
    }
    text.push('"');
    text
}

/// A string where something else belongs. The message of `serde` would have all of it, and escaped: up to 18 times its size.
pub(crate) fn misplaced_text<E: serde::de::Error>(expected: &dyn serde::de::Expected) -> E {
    E::invalid_type(serde::de::Unexpected::Other("string"), expected)
}

fn of_tensor(name: Option<&str>) -> impl fmt::Display {
    name.map_or_else(String::new, |name| format!(", tensor {}", quoted(name)))
}

/// The most writers that a message names.
const WRITERS_NAMED_MAX: usize = 8;

fn unfinished(writers: &[u32]) -> impl fmt::Display {
    let named: Vec<String> = writers.iter().take(WRITERS_NAMED_MAX).map(u32::to_string).collect();
    let more = writers.len() - named.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("no part came from writer {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Error, quoted};

    #[test]
    fn an_incomplete_checkpoint_names_its_first_writers() {
        let message = |writers| Error::Incomplete { generation: 7, writers }.to_string();
        assert_eq!(message(vec![3]), "ERR_DEEPRING_INCOMPLETE: generation 7 is not complete: no part came from writer 3");
        assert!(message((0..20).collect()).ends_with("writer 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"));
    }

    #[test]
    fn a_name_in_a_message_is_short_and_has_no_control_characters() {
        assert_eq!(quoted("a\0b\u{1b}[31m\n"), r#""a\0b\u{1b}[31m\n""#);
        assert_eq!(quoted("\u{202e}x"), r#""\u{202e}x""#);
        assert!(quoted(&"x".repeat(1 << 20)).len() < 200);
    }
}
