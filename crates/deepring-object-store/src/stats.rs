//! [`StoreStats`]: what a store has done.

use deepring::Receipt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a store and its clones have done since it was built. Transfers count when they have ended.
///
/// `bytes_read / bytes_wanted` is what widening and merging cost. What the engine does for it is in
/// [`Engine::stats`](deepring::Engine::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Ranges that were asked for: one for each `get`, each chunk of a stream, and each range of `get_ranges`.
    pub ranges_asked: u64,
    /// Reads that these became.
    pub ranges_fetched: u64,
    /// Bytes that were asked for.
    pub bytes_wanted: u64,
    /// Bytes that were read for them, from the drive or from the page cache.
    pub bytes_read: u64,
    /// Requests of which every block came from the drive; the others were read from the page cache, or some of them.
    pub direct: u64,
    /// Requests of which some block came through the page cache.
    pub buffered: u64,
    /// Objects that were published by a put.
    pub puts: u64,
    /// Objects that were published by a multipart upload.
    pub uploads: u64,
    /// Bytes of both.
    pub bytes_put: u64,
    /// Puts of `PutMode::Update` that came too late: the object had another version, or was gone.
    pub updates_lost: u64,
    /// Puts, copies and renames of mode `Create` that found an object.
    pub creates_lost: u64,
    /// Objects that were copied or renamed.
    pub copies: u64,
    /// Objects that were deleted.
    pub deletes: u64,
    /// Locks that could not be taken because the file system has none: puts went on without.
    pub unlocked: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) ranges_asked: AtomicU64,
    pub(crate) ranges_fetched: AtomicU64,
    pub(crate) bytes_wanted: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) direct: AtomicU64,
    pub(crate) buffered: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) uploads: AtomicU64,
    pub(crate) bytes_put: AtomicU64,
    pub(crate) updates_lost: AtomicU64,
    pub(crate) creates_lost: AtomicU64,
    pub(crate) copies: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) unlocked: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

impl Counters {
    /// Counts a read.
    pub(crate) fn read(&self, asked: usize, fetched: usize, wanted: u64, receipt: &Receipt) {
        add(&self.ranges_asked, asked as u64);
        add(&self.ranges_fetched, fetched as u64);
        add(&self.bytes_wanted, wanted);
        add(&self.bytes_read, receipt.bytes);
        add(if receipt.direct { &self.direct } else { &self.buffered }, 1);
    }

    pub(crate) fn snapshot(&self) -> StoreStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            ranges_asked: get(&self.ranges_asked),
            ranges_fetched: get(&self.ranges_fetched),
            bytes_wanted: get(&self.bytes_wanted),
            bytes_read: get(&self.bytes_read),
            direct: get(&self.direct),
            buffered: get(&self.buffered),
            puts: get(&self.puts),
            uploads: get(&self.uploads),
            bytes_put: get(&self.bytes_put),
            updates_lost: get(&self.updates_lost),
            creates_lost: get(&self.creates_lost),
            copies: get(&self.copies),
            deletes: get(&self.deletes),
            unlocked: get(&self.unlocked),
        }
    }
}

/// The length of a range.
pub(crate) fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}
