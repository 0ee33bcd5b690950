//! [`TierStats`]: what a tier has done.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a tier has done since it was opened, over all its stores. Cells are counted, not calls: [`Tier::stats`](crate::Tier::stats).
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// let engine = deepring::Engine::builder().build()?;
/// let stats = deepring_tier::Tier::builder(&engine).open(directory.path(), 16 << 20)?.stats();
/// let wanted = stats.hits + stats.misses + stats.coalesced;
/// let rate = stats.hits as f64 / wanted.max(1) as f64;
/// assert_eq!((rate, stats.slots_free), (0.0, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TierStats {
    /// Cells that came from the drive.
    pub hits: u64,
    /// Cells that were wanted and had to be fetched.
    pub misses: u64,
    /// Cells that another call was fetching already, or had in memory on their way to the drive.
    pub coalesced: u64,
    /// Bytes that came from the drive.
    pub bytes_from_drive: u64,
    /// Bytes that came from remotes through the tier. What bypasses it is not counted.
    pub bytes_from_remote: u64,
    /// Requests to remotes for bytes.
    pub fetches: u64,
    /// Requests to remotes for descriptions alone.
    pub heads: u64,
    /// Bytes that were written to the drive.
    pub bytes_filled: u64,
    /// Extents that made room for others.
    pub evicted: u64,
    /// Extents that were served but not cached, because no slot was free.
    pub refused: u64,
    /// Fetches that were served but not cached, because too many bytes waited for the drive: see
    /// [`TierBuilder::max_fill_bytes`](crate::TierBuilder::max_fill_bytes).
    pub fills_skipped: u64,
    /// Extents of which a write to the drive failed.
    pub fills_failed: u64,
    /// Cells whose checksum did not match, or that the drive could not read. They were fetched again.
    pub bad_cells: u64,
    /// Fetches for which the object had another version already (412).
    pub preconditions_lost: u64,
    /// Calls for objects without an `ETag`, with a weak one, with one that differed between the parts of a read, with names too
    /// long for the index, or with an attribute of a later `object_store`. They were served and not cached.
    pub uncacheable: u64,
    /// Calls that bypassed the tier, because of their path or because they named a version.
    pub bypassed: u64,
    /// Slots for extents, all in all.
    pub slots: u64,
    /// Slots that have no extent now.
    pub slots_free: u64,
    /// Fills that are on their way to the drive now.
    pub fills_in_progress: u64,
}

macro_rules! counters {
    ($($name:ident)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        impl Counters {
            /// Everything but what is counted now.
            pub(crate) fn snapshot(&self) -> TierStats {
                TierStats { $($name: self.$name.load(Ordering::Relaxed),)* ..TierStats::default() }
            }
        }
    };
}

counters!(hits misses coalesced bytes_from_drive bytes_from_remote fetches heads bytes_filled evicted refused fills_skipped fills_failed bad_cells
    preconditions_lost uncacheable bypassed);

pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}
