//! The index of a store: its tensors as of the last flush. Pure.
//!
//! ```text
//!   {"format":"deepring-swap","version":1,"capacity":BYTES,"tensors":[
//!   ["name","F32",[2,3],POSITION,CRC],…],"crc32c":"xxxxxxxx"}
//! ```
//!
//! A checksum is that of whole pages, and `null` if none is kept.

use super::directory::INDEX_BYTES_MAX;
use super::extents::{Extents, PAGE_BYTES};
use super::version::Version;
use crate::dtype::DType;
use crate::error::{Fault, Reason};
use crate::json::{Field, Value};
use crate::sealed;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// The most extents of a tensor.
const DIMENSIONS_MAX: usize = 1 << 16;

/// The name of the format.
const FORMAT: &str = "deepring-swap";

/// A tensor of an index.
type Entry = (Arc<str>, Version);

/// The text of an index.
pub(super) fn text<'e>(capacity: u64, entries: impl Iterator<Item = (&'e str, &'e Version)>) -> String {
    let mut fields = format!("\"capacity\":{capacity},\"tensors\":[");
    for (nth, (name, version)) in entries.enumerate() {
        let comma = if nth == 0 { "\n" } else { ",\n" };
        let dtype = version.dtype.map_or("U8", DType::name);
        let shape = version.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let crc = version.crc.map_or_else(|| "null".into(), |crc| crc.to_string());
        let name = serde_json::Value::from(name);
        let _ = write!(fields, "{comma}[{name},\"{dtype}\",[{shape}],{},{crc}]", version.position);
    }
    fields.push(']');
    sealed::seal_as(FORMAT, &fields)
}

/// Reads an index, and finds which bytes of a file of this size are free.
pub(super) fn parse(bytes: &[u8], file_bytes: u64) -> Result<(Vec<Entry>, Extents), Fault> {
    let root = Value::new(sealed::open_as(FORMAT, bytes, INDEX_BYTES_MAX, Reason::Index)?, Reason::Index);
    let (mut capacity, mut entries) = (Field::new("capacity"), Field::new("tensors"));
    root.object(|key, value| match &*key {
        "capacity" => capacity.set(value, value.number()?),
        "tensors" => {
            let mut found = Vec::new();
            value.array(|value| {
                found.push(entry(value)?);
                Ok(())
            })?;
            entries.set(value, found)
        }
        _ => Ok(()),
    })?;
    let (capacity, entries) = (capacity.take(root)?, entries.take(root)?);
    let mut extents = Extents::default();
    extents.grow(capacity);
    let mut names = HashSet::with_capacity(entries.len());
    for (name, version) in &entries {
        if !names.insert(name) {
            return Err(Fault::of(Reason::Index, name, "it is there twice"));
        }
        let range = version.range();
        if range.end > file_bytes && !range.is_empty() {
            let detail = format!("it ends at {}, and the file at {file_bytes}", range.end);
            return Err(Fault::of(Reason::Truncated, name, detail));
        }
        if range.start % PAGE_BYTES != 0 || !extents.take_at(range) {
            return Err(Fault::of(Reason::Index, name, "its place is outside of the file, or another tensor's"));
        }
    }
    Ok((entries, extents))
}

fn entry(value: Value<'_>) -> Result<Entry, Fault> {
    let (mut nth, mut name, mut dtype, mut shape, mut position, mut crc) = (0, None, None, Vec::new(), 0, None);
    value.array(|value| {
        match nth {
            0 => name = Some(Arc::<str>::from(&*value.string()?)),
            1 => dtype = Some(value.known("an element type", DType::of)?),
            2 => shape = value.numbers(DIMENSIONS_MAX)?,
            3 => position = value.number()?,
            4 => {
                let number = value.number_or_null()?;
                crc = number.map(|crc| u32::try_from(crc).map_err(|_| value.fault("a checksum has more than 32 bits"))).transpose()?;
            }
            _ => return Err(value.fault("a tensor has more than five fields")),
        }
        nth += 1;
        Ok(())
    })?;
    let (Some(name), Some(dtype), 5) = (name, dtype, nth) else {
        return Err(value.fault("a tensor has fewer than five fields"));
    };
    let elements = shape.iter().try_fold(1u64, |elements, &extent| elements.checked_mul(extent));
    let Some(len) = elements.and_then(|elements| dtype.bytes_of(elements)).filter(|len| *len < 1 << 53) else {
        return Err(Fault::of(Reason::Index, &name, "its bytes cannot be counted"));
    };
    Ok((name, Version { dtype: Some(dtype), shape, len, position, crc }))
}

#[cfg(test)]
mod tests {
    use super::{parse, text};
    use crate::dtype::DType;
    use crate::error::Reason;
    use crate::swap::version::Version;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn version(shape: &[u64], position: u64, crc: Option<u32>) -> Version {
        let len = 2 * shape.iter().product::<u64>();
        Version { dtype: Some(DType::BF16), shape: shape.to_vec(), len, position, crc }
    }

    fn text_of(capacity: u64, entries: &[(&str, Version)]) -> String {
        text(capacity, entries.iter().map(|(name, version)| (*name, version)))
    }

    fn reason(text: &str, file_bytes: u64) -> (Reason, Option<String>) {
        let fault = parse(text.as_bytes(), file_bytes).expect_err("wrong");
        (fault.reason, fault.tensor)
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let x = |position| ("x", version(&[3000], position, Some(7)));
        let good = text_of(16384, &[x(8192), ("y", version(&[], 0, None)), ("empty", version(&[0, 9], 4096, None))]);
        let (entries, extents) = parse(good.as_bytes(), 16384).expect("an index");
        assert_eq!((entries.len(), extents.capacity(), extents.taken()), (3, 16384, 12288));
        assert_eq!(reason(&good, 12288), (Reason::Truncated, Some("x".into())));
        let wrong = |entries: &[(&str, Version)]| reason(&text_of(16384, entries), 1 << 20);
        let index = |name: &str| (Reason::Index, Some(name.to_owned()));
        assert_eq!(wrong(&[x(12288)]), index("x"), "behind the end");
        assert_eq!(wrong(&[x(1)]), index("x"), "not whole pages");
        assert_eq!(wrong(&[x(0), ("y", version(&[], 4096, None))]), index("y"), "twice");
        assert_eq!(wrong(&[x(0), x(8192)]), index("x"), "two of one name");
        assert_eq!(wrong(&[("x", version(&[1 << 31, 1 << 21], 0, None))]), index("x"));
        for (from, to) in [("BF16", "BF17"), ("3000", "-1"), (",7]", "]"), (",7]", ",7,7]"), (",7]", ",4294967296]"), ("tensors", "t")] {
            let fields = good[..good.len() - 23].replacen(from, to, 1);
            let fields = fields.strip_prefix(r#"{"format":"deepring-swap","version":1,"#).expect("the form");
            let bad = crate::sealed::seal_as("deepring-swap", fields);
            assert_eq!(reason(&bad, 1 << 20).0, Reason::Index, "{to}");
        }
    }

    #[test]
    fn the_index_of_a_million_small_tensors_has_less_than_100_megabytes() {
        let names: Vec<String> = (0..1_000_000).map(|nth| format!("model.layers.{nth}.mlp.experts.weight")).collect();
        let shapes = [16, 4];
        let entries = names.iter().zip(0..).map(|(name, nth)| (name, version(&shapes, nth * 4096, Some(u32::MAX)))).collect::<Vec<_>>();
        let text = text(4096 * names.len() as u64, entries.iter().map(|(name, version)| (name.as_str(), version)));
        assert!(text.len() < 100_000_000, "{}", text.len());
        assert_eq!(parse(text.as_bytes(), u64::MAX).expect("an index").0.len(), names.len());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_change_of_it(
            tensors in prop::collection::btree_map(any::<String>(), (prop::collection::vec(0..9u64, 0..4), any::<Option<u32>>()), 0..6),
            at in any::<prop::sample::Index>(), change in 1..=255u8,
        ) {
            let places = tensors.iter().zip(0..).map(|((name, (shape, crc)), nth)| (name.as_str(), version(shape, nth * 16384, *crc)));
            let entries: Vec<_> = places.collect();
            let text = text_of(1 << 20, &entries);
            let found = parse(text.as_bytes(), 1 << 20).expect("an index").0;
            let expected: Vec<(Arc<str>, Version)> = entries.into_iter().map(|(name, version)| (Arc::from(name), version)).collect();
            prop_assert_eq!(found, expected);
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(parse(&bytes, 1 << 20).is_err());
        }
    }
}
