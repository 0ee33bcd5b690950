//! [`Names`]: the names of many tensors in one string, and the index of each.

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Names by index, and indices by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    text: String,
    /// Where each ends in the text.
    ends: Vec<u32>,
    index: HashTable<u32>,
    /// Seeded at random, because names come from strangers.
    hasher: RandomState,
}

impl Names {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The name at this index. It must exist.
    pub(crate) fn get(&self, index: usize) -> &str {
        name_at(&self.text, &self.ends, index)
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        let found = self.index.find(self.hasher.hash_one(name), |&index| self.get(index as usize) == name);
        found.map(|&index| index as usize)
    }

    /// Adds a name. `Err` has the index of the same name, if there is one.
    ///
    /// The text of all names must stay below 4 GiB; a header that is longer is refused before.
    pub(crate) fn add(&mut self, name: &str) -> Result<usize, usize> {
        let hash = self.hasher.hash_one(name);
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        if let Some(&index) = self.index.find(hash, |&index| name_at(text, ends, index as usize) == name) {
            return Err(index as usize);
        }
        let index = ends.len();
        self.index.insert_unique(hash, index as u32, |&index| hasher.hash_one(name_at(text, ends, index as usize)));
        self.text.push_str(name);
        self.ends.push(self.text.len() as u32);
        Ok(index)
    }

    /// Gives back what growing has left over.
    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        self.index.shrink_to_fit(|&index| hasher.hash_one(name_at(text, ends, index as usize)));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }
}

fn name_at<'a>(text: &'a str, ends: &[u32], index: usize) -> &'a str {
    let start = if index == 0 { 0 } else { ends[index - 1] as usize };
    &text[start..ends[index] as usize]
}

#[cfg(test)]
mod tests {
    use super::Names;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn names_are_found_and_added_once(list in prop::collection::vec(".{0,6}", 0..60)) {
            let mut names = Names::default();
            let mut model = HashMap::new();
            for name in &list {
                let expected = match model.get(name) {
                    Some(&index) => Err(index),
                    None => Ok(model.len()),
                };
                prop_assert_eq!(names.add(name), expected);
                let next = model.len();
                model.entry(name.clone()).or_insert(next);
            }
            names.shrink();
            prop_assert_eq!(names.iter().count(), model.len());
            for (name, &index) in &model {
                prop_assert_eq!((names.find(name), names.get(index)), (Some(index), name.as_str()));
            }
            prop_assert_eq!(names.find("never there"), None);
        }
    }
}
