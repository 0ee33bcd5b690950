//! Bugs planted on purpose in a commit: the replay of its calls (`tests/replayed`) must find each. As `planted` of the crate
//! `deepring`. There is one for each flush, and one for each two steps that could change places: parts are awaited before the
//! manifest because it has their checksums, a file is written before it is flushed because its commit consumes it, and once
//! the generation has its name, nothing looks at its locks.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "sim"), allow(missing_docs, unreachable_pub, reason = "the names are used, the values never are"))]
pub enum PlantedBug {
    /// Data files are not flushed.
    ForgetsDataSync,
    /// Parts are not flushed.
    ForgetsPartSync,
    /// The manifest is not flushed.
    ForgetsManifestSync,
    /// The index is not flushed.
    ForgetsIndexSync,
    /// The directory of the generation is not flushed before it gets its name.
    ForgetsTemporarySync,
    /// A generation is acknowledged before the store was flushed.
    ForgetsStoreSync,
    /// Files of a retired generation are removed before its new name was flushed.
    ForgetsRetiredSync,
    /// The directory of the generation is flushed before the manifest is there.
    SyncsTemporaryFirst,
    /// A generation gets its name, for good, before its manifest is there.
    PublishesFirst,
    /// The store is flushed before the generation has its name.
    SyncsStoreFirst,
    /// A part is there before the data that it names is flushed.
    PartBeforeData,
    /// The locks go before the generation has its name.
    UnlocksFirst,
}

#[cfg(any(feature = "sim", test))]
mod selection {
    use super::PlantedBug;
    use std::cell::Cell;

    #[cfg(feature = "sim")]
    impl PlantedBug {
        /// All of them.
        pub const ALL: [Self; 12] = [
            Self::ForgetsDataSync,
            Self::ForgetsPartSync,
            Self::ForgetsManifestSync,
            Self::ForgetsIndexSync,
            Self::ForgetsTemporarySync,
            Self::ForgetsStoreSync,
            Self::ForgetsRetiredSync,
            Self::SyncsTemporaryFirst,
            Self::PublishesFirst,
            Self::SyncsStoreFirst,
            Self::PartBeforeData,
            Self::UnlocksFirst,
        ];
    }

    thread_local! {
        static PLANTED: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }

    /// Chooses the bug of the current thread: of writers that begin on it, and end on it.
    #[cfg_attr(not(feature = "sim"), allow(unreachable_pub, reason = "public with the feature alone"))]
    pub fn plant(bug: Option<PlantedBug>) {
        PLANTED.set(bug);
    }

    /// Whether this is the bug of the current thread.
    pub(in crate::checkpoint) fn planted(bug: PlantedBug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(all(test, not(feature = "sim")))]
pub(super) use selection::plant;
#[cfg(feature = "sim")]
pub use selection::plant;
#[cfg(any(feature = "sim", test))]
pub(super) use selection::planted;

/// No bug is ever planted outside simulations and unit tests.
#[cfg(not(any(feature = "sim", test)))]
pub(super) const fn planted(_: PlantedBug) -> bool {
    false
}
