//! The index of a model in several files: `model.safetensors.index.json`, which names the file of each tensor.
//!
//! An index is a list of what is wanted: a tensor that a file has beside those that the index gives to it stays unseen. The
//! names of files stay below the directory of the index. That is decided by the name alone, not by where it leads: a cache
//! of downloads is made of symbolic links that lead out.

use crate::error::{Fault, Reason, misplaced_text, quoted};
use crate::names::Names;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};

/// The largest index: five times that of a model with 1.3 million tensors.
pub(crate) const INDEX_BYTES_MAX: u64 = 256 << 20;

/// The most files that an index can name: a hundred times those of the largest models. Each costs more memory than its name.
pub(crate) const FILES_MAX: usize = 1 << 16;

/// What an index says.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) names: Names,
    /// The number of the file of each tensor.
    pub(crate) files: Vec<u32>,
    /// The names of the files, in their order, each with its number.
    pub(crate) numbers: BTreeMap<String, u32>,
}

/// Reads the JSON of an index.
pub(crate) fn parse(json: &[u8]) -> Result<Index, Fault> {
    let mut walk = Walk { index: Index::default(), seen: false, fault: None };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let walked = deserializer.deserialize_any(Top(&mut walk)).and_then(|()| deserializer.end());
    if let Err(error) = walked {
        return Err(walk.fault.unwrap_or_else(|| {
            let reason = if error.is_data() { Reason::Index } else { Reason::Json };
            Fault::new(reason, format!("the index is wrong: {error}"))
        }));
    }
    if !walk.seen {
        return Err(Fault::new(Reason::Index, "the index has no weight_map"));
    }
    // The order of the names, not that in which they came.
    let mut renumbered = vec![0; walk.index.numbers.len()];
    for (place, number) in walk.index.numbers.values_mut().enumerate() {
        renumbered[*number as usize] = place as u32;
        *number = place as u32;
    }
    for file in &mut walk.index.files {
        *file = renumbered[*file as usize];
    }
    Ok(walk.index)
}

/// Whether a name in an index stays below its directory.
fn is_contained(name: &str) -> bool {
    let path = Path::new(name);
    !name.contains('\0') && path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

struct Walk {
    index: Index,
    /// There was a `weight_map`.
    seen: bool,
    fault: Option<Fault>,
}

impl Walk {
    fn fail<T, E: serde::de::Error>(&mut self, fault: Fault) -> Result<T, E> {
        self.fault = Some(fault);
        Err(E::custom("see the fault"))
    }
}

struct Top<'w>(&'w mut Walk);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(misplaced_text(&self))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let walk = self.0;
        while let Some(key) = map.next_key::<String>()? {
            if key != "weight_map" {
                map.next_value::<IgnoredAny>()?;
            } else if std::mem::replace(&mut walk.seen, true) {
                return walk.fail(Fault::new(Reason::Duplicate, "weight_map is there twice"));
            } else {
                map.next_value_seed(WeightMap(&mut *walk))?;
            }
        }
        Ok(())
    }
}

struct WeightMap<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for WeightMap<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the file of each tensor")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(misplaced_text(&self))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let walk = self.0;
        while let Some(name) = map.next_key::<String>()? {
            let file = map.next_value::<String>()?;
            if !is_contained(&file) {
                let detail = format!("{} is not the name of a file below the directory of the index", quoted(&file));
                return walk.fail(Fault::of(Reason::Path, &name, detail));
            }
            if walk.index.names.add(&name).is_err() {
                return walk.fail(Fault::of(Reason::Duplicate, &name, "the index has the name twice"));
            }
            let next = walk.index.numbers.len();
            walk.index.files.push(*walk.index.numbers.entry(file).or_insert(next as u32));
            if walk.index.numbers.len() > FILES_MAX {
                return walk.fail(Fault::of(Reason::Index, &name, format!("the index names more than {FILES_MAX} files")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{is_contained, parse};
    use crate::error::Reason;

    #[test]
    fn a_file_of_an_index_stays_below_its_directory() {
        for name in ["../x", "/abs", "a/../../b", "", ".", "..", "x\0", "a/./../b"] {
            assert!(!is_contained(name), "{name:?}");
        }
        for name in ["x", "sub/x", "model-00001-of-00002.safetensors", "..x"] {
            assert!(is_contained(name), "{name:?}");
        }
    }

    #[test]
    fn only_the_weight_map_counts() {
        let index = parse(br#"{"metadata": {"total_size": "many"}, "weight_map": {"b": "2", "a": "1", "c": "2"}}"#).expect("an index");
        let file = |name: &str| index.files[index.names.find(name).expect("there")];
        assert_eq!((file("a"), file("b"), file("c"), index.numbers["1"], index.numbers["2"]), (0, 1, 1, 0, 1));
    }

    #[test]
    fn a_wrong_index_says_what_is_wrong() {
        let reason = |json: &[u8]| parse(json).expect_err("wrong").reason;
        assert_eq!(reason(b"{}"), Reason::Index);
        assert_eq!(reason(b"{\"weight_map\": []}"), Reason::Index);
        assert_eq!(reason(b"{\"weight_map\": {\"a\": 1}}"), Reason::Index);
        assert_eq!(reason(b"{\"weight_map\": {\"a\": \"1\", \"a\": \"1\"}}"), Reason::Duplicate);
        assert_eq!(reason(b"{\"weight_map\": {}, \"weight_map\": {}}"), Reason::Duplicate);
        assert_eq!(reason(b"{\"weight_map\": {\"a\": \"../1\"}}"), Reason::Path);
        assert_eq!(reason(b"{\"weight_map\": {}} {}"), Reason::Json);
        assert_eq!(reason(b"{"), Reason::Json);
    }
}
