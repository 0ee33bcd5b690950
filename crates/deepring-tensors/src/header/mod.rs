//! The header of a safetensors file: a walk over the tokens of `serde_json`, which believes nothing.
//!
//! ```text
//!   u64, little endian: N | N bytes of JSON | the tensors, without gaps, up to the end of the file
//!   {"__metadata__": {"key": "value"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//! ```
//!
//! The walk fills columns, so that a header costs about its own size in memory and nothing that it merely claims. What is
//! there twice is an error, also where the reference takes the last one. The checks that need all tensors come afterwards:
//! together, they cover the data without holes and overlaps, up to its last byte.
//!
//! The format: <https://github.com/huggingface/safetensors#format>.

mod tensor;
mod values;

use crate::columns::Columns;
use crate::error::{Fault, Reason, misplaced_text, quoted};
use crate::metadata::Metadata;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use std::fmt;
use tensor::Tensor;

/// Bytes of the length in front of a header.
pub(crate) const LENGTH_BYTES: u64 = 8;

/// The longest header that the reference reads.
pub(crate) const HEADER_BYTES_MAX: u64 = 100_000_000;

/// The key that is no tensor.
pub(crate) const METADATA: &str = "__metadata__";

/// A header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// In the order of their bytes. Positions count from the first byte of the data.
    pub(crate) columns: Columns,
    pub(crate) metadata: Metadata,
    /// Bytes behind the last tensor.
    pub(crate) trailing: u64,
}

/// Reads the JSON of a header whose data has `data_bytes`. Unless `strict`, bytes can follow the last tensor.
pub(crate) fn parse(json: &[u8], data_bytes: u64, strict: bool) -> Result<Header, Fault> {
    let mut walk = Walk { columns: Columns::default(), metadata: None, reason: Reason::Json, fault: None };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let walked = deserializer.deserialize_any(Top(&mut walk)).and_then(|()| deserializer.end());
    if let Err(error) = walked {
        return Err(walk.fault.take().unwrap_or_else(|| {
            let reason = if error.is_data() { walk.reason } else { Reason::Json };
            let name = (reason != Reason::Json && walk.columns.names.len() > walk.columns.len()).then(|| walk.last_name().to_owned());
            Fault { reason, tensor: name, detail: format!("the header is wrong: {error}") }
        }));
    }
    let Walk { mut columns, metadata, .. } = walk;
    if let Some(order) = columns.order() {
        columns = columns.reordered(&order);
    }
    let trailing = cover(&columns, data_bytes)?;
    if strict && trailing > 0 {
        let detail = format!("{trailing} bytes follow the last tensor");
        return Err(Fault::new(Reason::Trailing, detail));
    }
    columns.shrink();
    Ok(Header { columns, metadata: metadata.unwrap_or_default(), trailing })
}

/// Checks that the tensors cover the data from its first byte on. Returns how many bytes are left behind them.
fn cover(columns: &Columns, data_bytes: u64) -> Result<u64, Fault> {
    let mut end = 0;
    for index in 0..columns.len() {
        let (begin, len) = (columns.begins[index], columns.lens[index]);
        if begin < end && len > 0 {
            let detail = format!("it begins at {begin}, inside of the tensor before it, which ends at {end}");
            return Err(Fault::of(Reason::Overlap, columns.names.get(index), detail));
        }
        if begin != end {
            let detail = format!("it begins at {begin}, and the tensor before it ends at {end}");
            return Err(Fault::of(Reason::Hole, columns.names.get(index), detail));
        }
        end = columns.end(index);
        if end > data_bytes {
            let detail = format!("it ends at {end}, and the file has {data_bytes} bytes of data");
            return Err(Fault::of(Reason::Truncated, columns.names.get(index), detail));
        }
    }
    Ok(data_bytes - end)
}

/// What the walk has found so far.
struct Walk {
    columns: Columns,
    metadata: Option<Metadata>,
    /// What is wrong if the next value has the wrong type.
    reason: Reason,
    /// What is wrong, if it is not the type of a value.
    fault: Option<Fault>,
}

impl Walk {
    /// The name of the tensor that is being read.
    fn last_name(&self) -> &str {
        self.columns.names.get(self.columns.names.len() - 1)
    }

    fn fail<T, E: serde::de::Error>(&mut self, fault: Fault) -> Result<T, E> {
        self.fault = Some(fault);
        Err(E::custom("see the fault"))
    }

    fn fail_tensor<T, E: serde::de::Error>(&mut self, reason: Reason, detail: impl Into<String>) -> Result<T, E> {
        let fault = Fault::of(reason, self.last_name(), detail);
        self.fail(fault)
    }
}

/// The whole header.
struct Top<'w>(&'w mut Walk);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the tensors of the file")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(misplaced_text(&self))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let walk = self.0;
        while let Some(is_tensor) = map.next_key_seed(Key(&mut *walk))? {
            if is_tensor {
                walk.reason = Reason::Field;
                map.next_value_seed(Tensor(&mut *walk))?;
            } else {
                walk.reason = Reason::Metadata;
                map.next_value_seed(MetadataSeed(&mut *walk))?;
            }
            walk.reason = Reason::Json;
        }
        Ok(())
    }
}

/// A key of the header: the name of a tensor, which is added, or not.
struct Key<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a tensor")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        let walk = self.0;
        if name == METADATA {
            let twice = walk.metadata.is_some();
            return if twice { walk.fail(Fault::new(Reason::Duplicate, "__metadata__ is there twice")) } else { Ok(false) };
        }
        if walk.columns.names.add(name).is_err() {
            return walk.fail(Fault::of(Reason::Duplicate, name, "the name is there twice"));
        }
        Ok(true)
    }
}

/// `__metadata__`: an object of strings, or null.
struct MetadataSeed<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(misplaced_text(&self))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.metadata = Some(Metadata::default());
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut metadata = Metadata::default();
        while map.next_key_seed(Text(&mut metadata))?.is_some() {
            map.next_value_seed(Text(&mut metadata))?;
        }
        if let Err(key) = metadata.sort() {
            let detail = format!("__metadata__ has the key {} twice", quoted(key));
            return self.0.fail(Fault::new(Reason::Duplicate, detail));
        }
        self.0.metadata = Some(metadata);
        Ok(())
    }
}

/// A key or a value of the metadata, which is added.
struct Text<'m>(&'m mut Metadata);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.add(text);
        Ok(())
    }
}
