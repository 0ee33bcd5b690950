//! [`Metadata`]: what a header says under `__metadata__`, in one string. A map of strings would take ten times what short keys
//! and values take in a header.

use std::fmt;

/// Texts by key, in the order of the keys.
///
/// ```
/// # use deepring_tensors::Safetensors;
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("model.safetensors");
/// # let json = br#"{"__metadata__":{"format":"pt"}}"#;
/// # std::fs::write(&path, [&(json.len() as u64).to_le_bytes()[..], json].concat()).unwrap();
/// # let engine = deepring::Engine::builder().build()?;
/// let model = Safetensors::open(&engine, &path).wait()?;
/// assert_eq!(model.metadata().get("format"), Some("pt"));
/// for (key, value) in model.metadata() {
///     println!("{key}: {value}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Keys and values in turn, in the order of the file.
    text: String,
    /// Where each key and each value ends in it.
    ends: Vec<u32>,
    /// The entries in the order of their keys.
    order: Vec<u32>,
}

impl Metadata {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.order.binary_search_by(|&entry| self.entry(entry).0.cmp(key)).ok()?;
        Some(self.entry(self.order[found]).1)
    }

    /// Keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order.iter().map(|&entry| self.entry(entry))
    }

    /// Adds a key or its value: they come in turn. What is added is not found before [`Metadata::sort`].
    ///
    /// The text must stay below 4 GiB; a header that is longer is refused before.
    pub(crate) fn add(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
    }

    /// Puts the entries in their order. The error is a key that is there twice.
    pub(crate) fn sort(&mut self) -> Result<(), &str> {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..self.len() as u32);
        order.sort_unstable_by_key(|&entry| self.entry(entry).0);
        self.order = order;
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        let twice = self.order.windows(2).find(|pair| self.entry(pair[0]).0 == self.entry(pair[1]).0);
        twice.map_or(Ok(()), |pair| Err(self.entry(pair[0]).0))
    }

    /// Adds the entries of another whose keys this one does not have.
    pub(crate) fn merge(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let new: Vec<(&str, &str)> = other.iter().filter(|(key, _)| self.get(key).is_none()).collect();
        if new.is_empty() {
            return;
        }
        for (key, value) in new {
            self.add(key);
            self.add(value);
        }
        let sorted = self.sort();
        debug_assert!(sorted.is_ok(), "only new keys were added");
    }

    fn entry(&self, entry: u32) -> (&str, &str) {
        let place = entry as usize * 2;
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        let (middle, end) = (self.ends[place] as usize, self.ends[place + 1] as usize);
        (&self.text[start..middle], &self.text[middle..end])
    }
}

impl<'a> IntoIterator for &'a Metadata {
    type Item = (&'a str, &'a str);
    type IntoIter = Box<dyn Iterator<Item = (&'a str, &'a str)> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Metadata;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn made(entries: &[(String, String)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (key, value) in entries {
            metadata.add(key);
            metadata.add(value);
        }
        metadata
    }

    proptest! {
        #[test]
        fn entries_come_back_in_the_order_of_their_keys(first in prop::collection::vec((".{0,2}", ".{0,3}"), 0..20), second in prop::collection::btree_map(".{0,2}", ".{0,3}", 0..20)) {
            let model: BTreeMap<_, _> = first.iter().cloned().rev().collect();
            let mut metadata = made(&first);
            let twice = model.len() < first.len();
            prop_assert_eq!(metadata.sort().is_err(), twice);
            if twice { return Ok(()); }
            let mut other = made(&second.clone().into_iter().collect::<Vec<_>>());
            prop_assert!(other.sort().is_ok());
            metadata.merge(other);
            // The first that has a key counts.
            let mut model = model;
            for (key, value) in second { model.entry(key).or_insert(value); }
            prop_assert_eq!(metadata.len(), model.len());
            prop_assert!(metadata.iter().eq(model.iter().map(|(key, value)| (key.as_str(), value.as_str()))));
            for (key, value) in &model { prop_assert_eq!(metadata.get(key), Some(value.as_str())); }
            prop_assert_eq!(metadata.get("never there"), None);
        }
    }
}
