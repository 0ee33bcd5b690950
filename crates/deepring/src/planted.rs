//! Bugs planted on purpose, so that whoever looks for bugs can be shown to find them.
//!
//! Each is a mistake that some storage engine was shipped with, at the place where it would be made here. Without the feature `sim`,
//! [`planted`] is the constant `false` and the compiler removes every one of them. With it, a thread chooses one for the simulation that
//! runs on it, and the campaign of [`crate::sim`] must report a violation. Bugs that show only where threads meet are for the models in
//! `src/loom`, which loom must see fail.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "sim"), allow(missing_docs, unreachable_pub, reason = "the names are used, the values never are"))]
pub enum PlantedBug {
    /// A completion counts as success whatever it says (`DeepSpeed`'s AIO library).
    IgnoresResult,
    /// A short transfer counts as a whole one.
    ShortIsDone,
    /// A dropped operation ends, and its memory is freed, while the device still has it (foyer, kvikio).
    FreesOnDrop,
    /// Shutdown ends without waiting for the device (compio, monoio).
    ClosesEarly,
    /// An error number is taken for a number of bytes.
    ForgetsErrnoSign,
    /// The depth is counted per handle, not per device.
    DepthPerHandle,
    /// Edges are locked per handle, not per inode.
    LocksPerHandle,
    /// The driver falls asleep over a message that came while it worked.
    LosesWake,
    /// A request that failed is settled twice.
    SettlesTwice,
    /// An operation that is repeated has given its share of the budget back already.
    ReleasesBudgetEarly,
    /// A producer wakes the driver, and then leaves what it should find. For models.
    WakesFirst,
    /// What is left in an inbox after its end stays there. For models.
    KeepsAfterEnd,
    /// Whoever waits for an outcome looks, lets go of the lock, and waits then. For models.
    LooksThenWaits,
    /// A file is closed while a request that was accepted may still use it. For models.
    ClosesInUse,
}

#[cfg(any(feature = "sim", all(loom, test)))]
mod selection {
    use super::PlantedBug;
    use std::cell::Cell;

    #[cfg(feature = "sim")]
    impl PlantedBug {
        /// All that a simulation finds.
        pub const ALL: [Self; 10] = [
            Self::IgnoresResult,
            Self::ShortIsDone,
            Self::FreesOnDrop,
            Self::ClosesEarly,
            Self::ForgetsErrnoSign,
            Self::DepthPerHandle,
            Self::LocksPerHandle,
            Self::LosesWake,
            Self::SettlesTwice,
            Self::ReleasesBudgetEarly,
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

#[cfg(any(feature = "sim", all(loom, test)))]
pub(crate) use selection::{plant, planted};

/// No bug is ever planted outside simulations.
#[cfg(not(any(feature = "sim", all(loom, test))))]
pub(crate) const fn planted(_: PlantedBug) -> bool {
    false
}
