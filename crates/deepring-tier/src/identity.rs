//! Names: where an object is, which version of it, and which extent of that version.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// An object of a store.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The name of the store, as it was given with the remote.
    pub(crate) store: Arc<str>,
    pub(crate) path: Box<str>,
}

impl Place {
    /// A number by which places are spread.
    pub(crate) fn spread(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// A version of an object: bytes that never change.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) place: Arc<Place>,
    pub(crate) e_tag: Box<str>,
    pub(crate) size: u64,
    hash: u64,
}

impl Identity {
    pub(crate) fn new(place: Arc<Place>, e_tag: &str, size: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (&*place, e_tag, size).hash(&mut hasher);
        Self { place, e_tag: e_tag.into(), size, hash: hasher.finish() }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (self.hash, self.size) == (other.hash, other.size) && self.e_tag == other.e_tag && self.place == other.place
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// An extent of a version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) identity: Arc<Identity>,
    pub(crate) extent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_differ_in_each_of_their_parts() {
        let place = |store: &str, path: &str| Arc::new(Place { store: store.into(), path: path.into() });
        let identity = |store, path, e_tag, size| Identity::new(place(store, path), e_tag, size);
        let one = identity("s3://a", "b/c", "\"1\"", 10);
        assert_eq!(one, identity("s3://a", "b/c", "\"1\"", 10));
        for other in [
            identity("s3://b", "b/c", "\"1\"", 10),
            identity("s3://a", "b/d", "\"1\"", 10),
            identity("s3://a", "b/c", "\"2\"", 10),
            identity("s3://a", "b/c", "\"1\"", 11),
            identity("s3://a/b", "c", "\"1\"", 10),
        ] {
            assert_ne!(one, other);
        }
    }
}
