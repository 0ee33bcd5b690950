//! Bugs planted on purpose in a store. Those of crashes must be found by the replay of its calls (`tests/swapped`): there is one
//! for each flush, and one for each two steps that could change places. Those of its books must be found by the simulation
//! (`tests/simulated`). A store has the bug of the thread that opened it.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "sim"), allow(missing_docs, unreachable_pub, reason = "the names are used, the values never are"))]
pub enum PlantedBug {
    /// The tensors are not flushed.
    ForgetsDataSync,
    /// The index is not flushed.
    ForgetsIndexSync,
    /// A flush ends before the name of the index was flushed.
    ForgetsNameSync,
    /// The index gets its name before the tensors are flushed.
    IndexFirst,
    /// The place of a version that was flushed is given away before the next flush.
    ReusesEarly,
    /// What says that the store is torn is not flushed.
    ForgetsMarkSync,
    /// A version is written in place before the store says that it is torn.
    WritesFirst,
    /// A flush does not wait for a version that has taken the place of one which it waited for.
    ForgetsReplaced,
    /// What a lease has changed stays in memory when it is forgotten.
    KeepsForgotten,
    /// A lease gets the memory of the version that is the newest one when it comes, not of the one that it was granted.
    MixesVersions,
    /// The end of a write counts for the newest version, whichever it wrote.
    CountsOlderWrite,
    /// The memory of a new version does not count against the budget.
    ForgetsMemory,
    /// The end of a read or a write wakes no request.
    LosesWake,
}

/// What a store has done to its file of tensors. Its other calls are in the record of `deepring::sim`.
#[cfg(feature = "sim")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It has these bytes from a position on.
    Wrote(u64, Vec<u8>),
    /// It was flushed.
    Flushed,
}

/// The bug of a store, and who is told what it does.
#[cfg(feature = "sim")]
#[derive(Clone)]
pub(super) struct Planted(Option<PlantedBug>, Option<selection::Watch>);

#[cfg(feature = "sim")]
mod selection {
    use super::{Done, Planted, PlantedBug};
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;

    pub(super) type Watch = Arc<dyn Fn(Done) + Send + Sync>;

    impl PlantedBug {
        /// Those that a replay of crashes must find.
        pub const OF_CRASHES: [Self; 7] = [
            Self::ForgetsDataSync,
            Self::ForgetsIndexSync,
            Self::ForgetsNameSync,
            Self::IndexFirst,
            Self::ReusesEarly,
            Self::ForgetsMarkSync,
            Self::WritesFirst,
        ];

        /// Those that a simulation of runs must find.
        pub const OF_RUNS: [Self; 6] = [
            Self::ForgetsReplaced,
            Self::KeepsForgotten,
            Self::MixesVersions,
            Self::CountsOlderWrite,
            Self::ForgetsMemory,
            Self::LosesWake,
        ];
    }

    thread_local! {
        static PLANTED: Cell<Option<PlantedBug>> = const { Cell::new(None) };
        static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
    }

    /// Chooses the bug of the stores that are opened on this thread.
    pub fn plant(bug: Option<PlantedBug>) {
        PLANTED.set(bug);
    }

    /// Calls a function with what the stores do that are opened on this thread, after each.
    pub fn watch(function: impl Fn(Done) + Send + Sync + 'static) {
        WATCH.set(Some(Arc::new(function)));
    }

    impl Planted {
        /// That of this thread.
        pub(in crate::swap) fn here() -> Self {
            Self(PLANTED.get(), WATCH.with_borrow(Clone::clone))
        }

        pub(in crate::swap) fn is(&self, bug: PlantedBug) -> bool {
            self.0 == Some(bug)
        }

        pub(in crate::swap) fn wrote(&self, position: u64, bytes: &[u8]) {
            if let Some(watch) = &self.1 {
                watch(Done::Wrote(position, bytes.to_vec()));
            }
        }

        pub(in crate::swap) fn flushed(&self) {
            if let Some(watch) = &self.1 {
                watch(Done::Flushed);
            }
        }
    }
}

#[cfg(feature = "sim")]
pub use selection::{plant, watch};

/// No bug is ever planted outside simulations.
#[cfg(not(feature = "sim"))]
#[derive(Clone)]
pub(super) struct Planted;

#[cfg(not(feature = "sim"))]
#[expect(clippy::unused_self, reason = "as with the feature")]
impl Planted {
    pub(super) fn here() -> Self {
        Self
    }

    pub(super) fn is(&self, _: PlantedBug) -> bool {
        false
    }

    pub(super) fn wrote(&self, _: u64, _: &[u8]) {}

    pub(super) fn flushed(&self) {}
}
