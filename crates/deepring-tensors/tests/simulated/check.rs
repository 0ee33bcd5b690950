//! What is left of a store: the tensors of a flush, and which flush that can be.

use crate::history::{History, Version};
use deepring_tensors::Error;
use deepring_tensors::swap::SwapStore;
use std::collections::{BTreeMap, BTreeSet};

/// The histories of all names.
pub(crate) type Histories = BTreeMap<String, History>;

/// What a flush can have of each name: what was the newest version at some time between its begin and its end.
pub(crate) type Flushed = BTreeMap<String, BTreeSet<Version>>;

/// The moment at which a flush began.
#[derive(Debug, Clone)]
pub(crate) struct Begun(BTreeMap<String, usize>);

impl Begun {
    pub(crate) fn now(histories: &Histories) -> Self {
        Self(histories.iter().map(|(name, history)| (name.clone(), history.now())).collect())
    }

    /// What it has if it ends now.
    pub(crate) fn flushed(&self, histories: &Histories) -> Flushed {
        histories.iter().map(|(name, history)| (name.clone(), history.since(self.0[name]))).collect()
    }
}

/// The bytes of each name. Reads every tensor.
pub(crate) async fn read(store: &SwapStore, names: Vec<String>) -> Result<BTreeMap<String, Option<Vec<u8>>>, Error> {
    let mut found = BTreeMap::new();
    for name in names {
        let bytes = match store.get(&name).await {
            Ok(lease) => Some(lease.bytes().to_vec()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        found.insert(name, bytes);
    }
    Ok(found)
}

/// The versions of what was found, if all of it can be of one flush.
pub(crate) fn versions(found: &BTreeMap<String, Option<Vec<u8>>>, flushed: &Flushed) -> Option<BTreeMap<String, Version>> {
    let version = |(name, bytes): (&String, &Option<Vec<u8>>)| {
        let version = flushed.get(name)?.iter().find(|version| version.is(bytes.as_deref()))?;
        Some((name.clone(), *version))
    };
    found.iter().map(version).collect()
}
