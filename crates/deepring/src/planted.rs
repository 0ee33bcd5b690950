//! Bugs planted on purpose: each check that looks for bugs must report the ones that are meant for
//! it.
//!
//! Each is a mistake that a storage engine has shipped with, at the place where deepring would make
//! it. Without the feature `sim`, [`planted`] is the constant `false` and the compiler removes
//! every one of them. With it, a thread chooses one for the simulation that runs on it, and the
//! campaign of `deepring::sim` must report a violation. Bugs that show only where threads meet are
//! for the loom models in `src/loom`, which must fail with them. Those that show only after a power
//! cut are for the replay in `src/replacement`, and for the trials that crash real file systems,
//! which plant them by `sim::plant`. Unit tests have the choice without the feature, too.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "sim"), allow(missing_docs, unreachable_pub, reason = "the names are used, the values never are"))]
pub enum PlantedBug {
    /// A completion counts as success whatever its result is (`DeepSpeed`'s AIO library).
    IgnoresResult,
    /// A short transfer counts as a whole one.
    ShortIsDone,
    /// A dropped operation settles, and its memory is freed, while the device still uses it (foyer,
    /// kvikio).
    FreesOnDrop,
    /// Shutdown ends without waiting for the device (compio, monoio).
    ClosesEarly,
    /// An error number is taken for a byte count.
    ForgetsErrnoSign,
    /// The queue depth is counted per handle, not per device.
    DepthPerHandle,
    /// Edges are locked per handle, not per inode.
    LocksPerHandle,
    /// Nothing is locked between copies of the engine.
    ForgetsProcessLock,
    /// The driver falls asleep although a message arrived during its turn.
    LosesWake,
    /// A request that failed is settled twice.
    SettlesTwice,
    /// A retried operation has already returned its share of the budget.
    ReleasesBudgetEarly,
    /// A write past the end of a file reserves space for holes inside the file, too.
    ReservesInside,
    /// A growing file that is not preallocated is written in any order.
    GrowsInAnyOrder,
    /// A direct read fills pages that its request shares with other memory, where nothing pins them.
    SharesPages,
    /// A driver that unwinds frees what the device uses.
    UnwindsDriver,
    /// A request by path settles before its file is closed.
    SettlesBeforeClose,
    /// Two files with the same device, inode number and birth time are taken for one.
    TrustsNumbers,
    /// A piece of the pool is handed out and stays in it.
    LendsTwice,
    /// What an engine gives back of a device's budget wakes no other engine.
    WakesNoEngine,
    /// One device takes every place of the backend.
    TakesEveryPlace,
    /// A write that joins another's settles with it, and its bytes are not put into the unit.
    ForgetsRider,
    /// A block is issued before its memory is there.
    IssuesUnpopulated,
    /// A class with requests waits while those of others come.
    StarvesClass,
    /// A read fails that is refused because it reaches past the end of the file.
    FailsPastEnd,
    /// A range that was read with its neighbors gets a byte of theirs.
    MixesRanges,
    /// An error names another range than the one that failed.
    MisnamesRange,
    /// The checksums of neighboring blocks are combined in the wrong order.
    CombinesBackwards,
    /// The checksum that a read expects is not compared.
    ForgetsExpected,
    /// A window never grows.
    NeverGrows,
    /// A window never shrinks.
    NeverShrinks,
    /// A producer wakes the driver before it leaves its message. For loom models.
    WakesFirst,
    /// Messages that arrive after the inbox has ended are kept. For loom models.
    KeepsAfterEnd,
    /// A waiter checks for the outcome, releases the lock, and only then waits. For loom models.
    LooksThenWaits,
    /// A file is closed while an accepted request can still use it. For loom models.
    ClosesInUse,
    /// A file is replaced by one that was never flushed. For replays of a commit, and crashes.
    ForgetsFileSync,
    /// A replaced file is acknowledged before its directory was flushed. For replays of a commit, and crashes.
    ForgetsDirectorySync,
    /// A file gets its name, for good, before it is flushed. For replays of a commit, and crashes.
    RenamesFirst,
    /// A group reads how many members are left and writes one less, in two steps. For models.
    CountsInTwoSteps,
}

#[cfg(any(feature = "sim", test))]
mod selection {
    use super::PlantedBug;
    use std::cell::Cell;

    #[cfg(feature = "sim")]
    impl PlantedBug {
        /// Those that a simulation must find.
        pub const ALL: [Self; 30] = [
            Self::IgnoresResult,
            Self::ShortIsDone,
            Self::FreesOnDrop,
            Self::ClosesEarly,
            Self::ForgetsErrnoSign,
            Self::DepthPerHandle,
            Self::LocksPerHandle,
            Self::ForgetsProcessLock,
            Self::LosesWake,
            Self::SettlesTwice,
            Self::ReleasesBudgetEarly,
            Self::ReservesInside,
            Self::GrowsInAnyOrder,
            Self::SharesPages,
            Self::UnwindsDriver,
            Self::SettlesBeforeClose,
            Self::TrustsNumbers,
            Self::LendsTwice,
            Self::TakesEveryPlace,
            Self::WakesNoEngine,
            Self::ForgetsRider,
            Self::IssuesUnpopulated,
            Self::StarvesClass,
            Self::FailsPastEnd,
            Self::MixesRanges,
            Self::MisnamesRange,
            Self::CombinesBackwards,
            Self::ForgetsExpected,
            Self::NeverGrows,
            Self::NeverShrinks,
        ];
    }

    thread_local! {
        static PLANTED: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }

    /// Chooses the bug of the current thread.
    pub(crate) fn plant(bug: Option<PlantedBug>) {
        PLANTED.set(bug);
    }

    /// Whether this is the bug of the current thread.
    pub(crate) fn planted(bug: PlantedBug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(any(feature = "sim", test))]
pub(crate) use selection::{plant, planted};

/// No bug is ever planted outside simulations and unit tests.
#[cfg(not(any(feature = "sim", test)))]
pub(crate) const fn planted(_: PlantedBug) -> bool {
    false
}
