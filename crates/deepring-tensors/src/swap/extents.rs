//! [`Extents`]: which bytes of the file are free. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What extents are multiples of: what direct I/O takes on every file system that has it.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Bytes in whole pages.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// The free bytes of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extents {
    capacity: u64,
    free_bytes: u64,
    /// Ends by begins. Two never touch.
    free: BTreeMap<u64, u64>,
    /// The same by length, then begin: the smallest that fits is found, of these the first.
    sizes: BTreeSet<(u64, u64)>,
}

impl Extents {
    /// Bytes of the file.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> u64 {
        self.capacity - self.free_bytes
    }

    /// The file has become longer.
    pub(crate) fn grow(&mut self, capacity: u64) {
        let before = self.capacity;
        self.capacity = capacity.max(before);
        self.give(before..self.capacity);
    }

    /// By how much the file must grow at least before so many bytes can be taken.
    pub(crate) fn missing(&self, bytes: u64) -> u64 {
        let last = self.free.last_key_value().filter(|&(_, &end)| end == self.capacity).map_or(0, |(&begin, &end)| end - begin);
        bytes.saturating_sub(last)
    }

    /// Takes so many bytes, whole pages, of the smallest extent that has them.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<u64> {
        if bytes == 0 {
            return Some(0);
        }
        let &(len, begin) = self.sizes.range((bytes, 0)..).next()?;
        self.remove(begin, begin + len);
        self.insert(begin + bytes, begin + len);
        Some(begin)
    }

    /// Takes these bytes. False if not all of them are free.
    #[must_use]
    pub(crate) fn take_at(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return true;
        }
        let Some((&begin, &end)) = self.free.range(..=range.start).next_back() else { return false };
        if end < range.end {
            return false;
        }
        self.remove(begin, end);
        self.insert(begin, range.start);
        self.insert(range.end, end);
        true
    }

    /// Gives bytes back that were taken.
    pub(crate) fn give(&mut self, range: Range<u64>) {
        let Range { start: mut begin, mut end } = range;
        if begin == end {
            return;
        }
        if let Some((&before, &touches)) = self.free.range(..begin).next_back()
            && touches == begin
        {
            self.remove(before, touches);
            begin = before;
        }
        if let Some(&after) = self.free.get(&end) {
            self.remove(end, after);
            end = after;
        }
        self.insert(begin, end);
    }

    fn insert(&mut self, begin: u64, end: u64) {
        if begin < end {
            self.free.insert(begin, end);
            self.sizes.insert((end - begin, begin));
            self.free_bytes += end - begin;
        }
    }

    fn remove(&mut self, begin: u64, end: u64) {
        self.free.remove(&begin);
        self.sizes.remove(&(end - begin, begin));
        self.free_bytes -= end - begin;
    }
}

#[cfg(test)]
mod tests {
    use super::Extents;
    use proptest::prelude::*;

    #[test]
    fn the_smallest_extent_that_fits_is_taken() {
        let mut extents = Extents::default();
        extents.grow(100);
        assert!(extents.take_at(10..20) && extents.take_at(24..90) && !extents.take_at(5..12) && !extents.take_at(95..101));
        assert_eq!((extents.take(3), extents.take(4), extents.take(10), extents.take(7)), (Some(20), Some(0), Some(90), None));
        assert_eq!((extents.missing(7), extents.taken()), (7, 93));
        extents.give(95..100);
        assert_eq!(extents.missing(7), 2);
        extents.grow(102);
        assert_eq!((extents.take(7), extents.take(0)), (Some(95), Some(0)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(u64),
        TakeAt(u64, u64),
        Give(prop::sample::Index),
        Grow(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..9u64).prop_map(Step::Take),
            (0..60u64, 0..9u64).prop_map(|(at, len)| Step::TakeAt(at, len)),
            any::<prop::sample::Index>().prop_map(Step::Give),
            (0..12u64).prop_map(Step::Grow),
        ]
    }

    proptest! {
        /// Against one flag for each byte.
        #[test]
        fn nothing_is_given_out_twice_and_what_is_free_is_one_piece(steps in prop::collection::vec(step(), 0..80)) {
            let (mut extents, mut taken, mut held) = (Extents::default(), Vec::<bool>::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Take(bytes) => {
                        let longest = taken.split(|&taken| taken).map(<[bool]>::len).max().unwrap_or(0) as u64;
                        let found = extents.take(bytes);
                        prop_assert_eq!(found.is_some(), longest >= bytes);
                        if let Some(begin) = found.filter(|_| bytes > 0) {
                            held.push(begin..begin + bytes);
                            taken[begin as usize..(begin + bytes) as usize].iter_mut().for_each(take_once);
                        }
                    }
                    Step::TakeAt(begin, bytes) => {
                        let is_free = bytes == 0
                            || taken.get(begin as usize..(begin + bytes) as usize).is_some_and(|bytes| bytes.iter().all(|taken| !taken));
                        prop_assert_eq!(extents.take_at(begin..begin + bytes), is_free);
                        if is_free && bytes > 0 {
                            held.push(begin..begin + bytes);
                            taken[begin as usize..(begin + bytes) as usize].fill(true);
                        }
                    }
                    Step::Give(which) => {
                        if !held.is_empty() {
                            let range = held.swap_remove(which.index(held.len()));
                            taken[range.start as usize..range.end as usize].fill(false);
                            extents.give(range);
                        }
                    }
                    Step::Grow(bytes) => {
                        taken.resize(taken.len() + bytes as usize, false);
                        extents.grow(taken.len() as u64);
                    }
                }
                prop_assert_eq!(extents.capacity(), taken.len() as u64);
                prop_assert_eq!(extents.taken(), taken.iter().filter(|taken| **taken).count() as u64);
                let end = taken.iter().rev().take_while(|taken| !**taken).count() as u64;
                prop_assert_eq!(extents.missing(9), 9u64.saturating_sub(end));
                let pieces = taken.split(|&taken| taken).filter(|piece| !piece.is_empty()).count();
                prop_assert_eq!((extents.free.len(), extents.sizes.len()), (pieces, pieces));
            }
        }
    }

    fn take_once(byte: &mut bool) {
        assert!(!std::mem::replace(byte, true), "a byte is given out twice");
    }
}
