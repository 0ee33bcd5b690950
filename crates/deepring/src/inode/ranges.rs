//! Which ranges of a file are being written, and how: the locks of blocks in flight.
//!
//! Direct writes work in whole units, so two writers of neighboring bytes touch the same unit. An edge reads, modifies
//! and writes its unit, and holds it alone. A write of whole units shares its range with other writes of its kind:
//! their overlap is unordered anyway. Buffered and direct writes never share a range.
//!
//! A request takes its locks in ascending order, so no two requests can wait for each other.

/// A locked range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeLock {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// An edge: reads the range, modifies it, and writes it back.
    exclusive: bool,
    /// Goes through the page cache.
    buffered: bool,
}

/// The page cache works in folios of up to this size. The kernel cannot drop a dirty folio beside a direct write, and
/// then reports an error to the next sync.
const FOLIO_BYTES_MAX: u64 = 2 << 20;

impl RangeLock {
    /// The lock of one block of a write.
    pub(crate) fn of(start: u64, end: u64, exclusive: bool, buffered: bool) -> Self {
        if buffered {
            let (start, end) = (start - start % FOLIO_BYTES_MAX, end.next_multiple_of(FOLIO_BYTES_MAX));
            return Self { start, end, exclusive, buffered };
        }
        Self { start, end, exclusive, buffered }
    }

    fn conflicts(&self, other: &Self) -> bool {
        let excludes = self.exclusive || other.exclusive || self.buffered != other.buffered;
        excludes && self.start < other.end && other.start < self.end
    }
}

/// The locks that are held.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    held: Vec<RangeLock>,
}

impl Ranges {
    /// Takes the lock if no other conflicts with it. Returns whether it did.
    pub(super) fn take(&mut self, lock: RangeLock) -> bool {
        let free = !self.held.iter().any(|other| other.conflicts(&lock));
        if free {
            self.held.push(lock);
        }
        free
    }

    pub(super) fn release(&mut self, lock: RangeLock) {
        let index = self.held.iter().position(|other| *other == lock);
        debug_assert!(index.is_some(), "{lock:?} is not held");
        if let Some(index) = index {
            self.held.swap_remove(index);
        }
    }

    #[cfg(feature = "sim")]
    pub(super) fn held(&self) -> &[RangeLock] {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_holds_its_unit_alone() {
        let mut ranges = Ranges::default();
        let edge = RangeLock::of(4096, 8192, true, false);
        assert!(ranges.take(edge));
        assert!(!ranges.take(RangeLock::of(0, 8192, false, false)));
        assert!(!ranges.take(edge));
        assert!(ranges.take(RangeLock::of(8192, 12288, true, false)));
        ranges.release(edge);
        assert!(ranges.take(RangeLock::of(0, 8192, false, false)));
    }

    #[test]
    fn writes_of_whole_units_share_their_range() {
        let mut ranges = Ranges::default();
        assert!(ranges.take(RangeLock::of(0, 8192, false, false)));
        assert!(ranges.take(RangeLock::of(4096, 12288, false, false)));
    }

    #[test]
    fn buffered_and_direct_writes_keep_a_folio_apart() {
        let mut ranges = Ranges::default();
        assert!(ranges.take(RangeLock::of(FOLIO_BYTES_MAX + 1, FOLIO_BYTES_MAX + 2, false, true)));
        assert!(!ranges.take(RangeLock::of(2 * FOLIO_BYTES_MAX - 4096, 2 * FOLIO_BYTES_MAX, false, false)));
        assert!(ranges.take(RangeLock::of(2 * FOLIO_BYTES_MAX, 3 * FOLIO_BYTES_MAX, false, false)));
    }
}
