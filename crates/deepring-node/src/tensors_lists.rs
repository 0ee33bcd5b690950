//! Lists as they cross: names in one string with their lengths, numbers as typed arrays.

use crate::memory::View;
use deepring_tensors::{DType, Declared, Row};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Texts in one string.
#[napi(object, object_from_js = false)]
pub struct Texts {
    #[napi(ts_type = "string")]
    pub text: Text,
    /// Of each, in UTF-16 code units, as JavaScript counts.
    pub lengths: Uint32Array,
}

impl Texts {
    pub fn of<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let (mut text, mut lengths) = (String::new(), Vec::with_capacity(texts.size_hint().0));
        for each in texts {
            text.push_str(each);
            lengths.push(if each.is_ascii() { each.len() } else { each.encode_utf16().count() } as u32);
        }
        Self { text: Text(text), lengths: Uint32Array::new(lengths) }
    }
}

/// A text that is ASCII in nearly every case: then JavaScript copies it, and does not decode it.
pub struct Text(String);

impl TypeName for Text {
    fn type_name() -> &'static str {
        "string"
    }

    fn value_type() -> ValueType {
        ValueType::String
    }
}

impl ToNapiValue for Text {
    unsafe fn to_napi_value(env: sys::napi_env, Self(text): Self) -> Result<sys::napi_value> {
        if text.is_ascii() {
            return Ok(Env::from_raw(env).create_string_latin1(text)?.raw());
        }
        // SAFETY: the environment is the caller's.
        unsafe { String::to_napi_value(env, text) }
    }
}

/// Texts from JavaScript, whose lengths are in bytes.
pub fn texts(text: &str, lengths: &[u32]) -> Vec<String> {
    let mut at = 0;
    lengths
        .iter()
        .map(|&length| {
            let end = at + length as usize;
            let each = text.get(at..end).unwrap_or_default().to_owned();
            at = end;
            each
        })
        .collect()
}

/// Columns of tensors, as they cross.
#[napi(object, object_to_js = false)]
pub struct TensorColumns {
    pub names: String,
    pub name_bytes: Uint32Array,
    pub dtypes: Vec<String>,
    pub dtype_of: Uint32Array,
    pub ranks: Uint32Array,
    pub extents: Float64Array,
}

impl From<TensorColumns> for Columns {
    fn from(columns: TensorColumns) -> Self {
        Self {
            names: columns.names,
            name_bytes: columns.name_bytes.to_vec(),
            dtypes: columns.dtypes,
            dtype_of: columns.dtype_of.to_vec(),
            ranks: columns.ranks.to_vec(),
            extents: columns.extents.to_vec(),
        }
    }
}

/// Tensors as JavaScript declares them: columns, which become objects on another thread.
pub struct Columns {
    pub names: String,
    pub name_bytes: Vec<u32>,
    /// Names of element types, each once.
    pub dtypes: Vec<String>,
    pub dtype_of: Vec<u32>,
    pub ranks: Vec<u32>,
    pub extents: Vec<f64>,
}

struct Column {
    name: String,
    dtype: String,
    shape: Vec<u64>,
}

impl Columns {
    fn rows(self) -> impl Iterator<Item = Column> {
        let Self { names, name_bytes, dtypes, dtype_of, ranks, extents } = self;
        let mut at = 0;
        texts(&names, &name_bytes).into_iter().zip(dtype_of).zip(ranks).map(move |((name, dtype), rank)| {
            let end = at + rank as usize;
            let shape = extents.get(at..end).unwrap_or_default().iter().map(|&extent| extent as u64).collect();
            at = end;
            Column { name, dtype: dtypes.get(dtype as usize).cloned().unwrap_or_default(), shape }
        })
    }

    /// What is to be written. The facade has checked the names of the types.
    pub fn declared(self) -> Vec<Declared> {
        let declare = |Column { name, dtype, shape }| Declared { name, dtype: DType::of(&dtype).unwrap_or(DType::U8), shape };
        self.rows().map(declare).collect()
    }

    /// Where tensors are.
    pub fn placed(self, paths: &[PathBuf], path_of: &[u32], positions: &[f64], lengths: &[f64]) -> Vec<Row> {
        let places = path_of.iter().zip(positions).zip(lengths);
        let place = |(Column { name, dtype, shape }, ((&path, &position), &length))| Row {
            name,
            dtype,
            shape,
            path: paths.get(path as usize).cloned().unwrap_or_default(),
            position: position as u64,
            len: length as u64,
        };
        self.rows().zip(places).map(place).collect()
    }
}

/// Paths in one piece of memory, made absolute: what a relative one means must not change before it is used.
pub fn paths(bytes: View, lengths: &[u32]) -> Vec<PathBuf> {
    let bytes = bytes.to_vec();
    let mut at = 0;
    lengths
        .iter()
        .map(|&length| {
            let end = at + length as usize;
            let path = PathBuf::from(OsStr::from_bytes(bytes.get(at..end).unwrap_or_default()));
            at = end;
            absolute(path)
        })
        .collect()
}

/// The same of one path.
pub fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
