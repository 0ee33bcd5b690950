//! [`Frame`]: what is known of the pages of one huge page's worth of memory.

use crate::sys::memory::HUGE_PAGE_BYTES;
use std::ops::Range;

/// The grain of memory, whatever the kernel's page is.
pub(super) const PAGE_BYTES: usize = 4096;
pub(super) const FRAME_BYTES: usize = HUGE_PAGE_BYTES;

const WORD_PAGES: usize = u64::BITS as usize;
const WORDS: usize = FRAME_BYTES / PAGE_BYTES / WORD_PAGES;

/// A set of pages of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pages([u64; WORDS]);

impl Pages {
    /// The pages of a byte range that lies in a frame.
    pub(super) fn of(bytes: &Range<usize>) -> Self {
        let (first, end) = (bytes.start / PAGE_BYTES, bytes.end / PAGE_BYTES);
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            let from = first.clamp(index * WORD_PAGES, (index + 1) * WORD_PAGES) - index * WORD_PAGES;
            let to = end.clamp(index * WORD_PAGES, (index + 1) * WORD_PAGES) - index * WORD_PAGES;
            if from < to {
                *word = (u64::MAX >> (WORD_PAGES - (to - from))) << from;
            }
        }
        Self(words)
    }

    fn zip(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|index| combine(self.0[index], other.0[index])))
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.zip(other, |one, two| one & two)
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.zip(other, |one, two| one | two)
    }

    pub(super) fn without(self, other: Self) -> Self {
        self.zip(other, |one, two| one & !two)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == [0; WORDS]
    }

    pub(super) fn bytes(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum::<usize>() * PAGE_BYTES
    }

    /// Its pages in runs, as byte ranges of the frame.
    pub(super) fn runs(self) -> impl Iterator<Item = Range<usize>> {
        let holds = move |page: usize| self.0[page / WORD_PAGES] >> (page % WORD_PAGES) & 1 == 1;
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = (next..WORDS * WORD_PAGES).find(|&page| holds(page))?;
            next = (first..WORDS * WORD_PAGES).find(|&page| !holds(page)).unwrap_or(WORDS * WORD_PAGES);
            Some(first * PAGE_BYTES..next * PAGE_BYTES)
        })
    }
}

/// One huge page's worth of a mapping.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame {
    /// Pages that were handed out since they were mapped or discarded. All others are zero, and
    /// take no memory unless a page beside them does.
    pub(super) touched: Pages,
    /// Touched and free pages that the kernel may take whenever it likes.
    pub(super) lazy: Pages,
    /// Bytes that are not free.
    pub(super) used: usize,
    /// Its key in the list of frames that are free as a whole; 0 if it is in none.
    pub(super) stamp: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_runs_of_a_set_of_pages_are_its_ranges(first in 0usize..512, len in 1usize..512, second in 0usize..512) {
            let end = (first + len).min(512);
            let one = Pages::of(&(first * PAGE_BYTES..end * PAGE_BYTES));
            prop_assert_eq!(one.bytes(), (end - first) * PAGE_BYTES);
            prop_assert_eq!(one.runs().next(), Some(first * PAGE_BYTES..end * PAGE_BYTES));
            prop_assert_eq!(one.runs().count(), 1);
            let hole = Pages::of(&(second * PAGE_BYTES..(second + 1) * PAGE_BYTES));
            let expected = (first..end).filter(|&page| page != second).count() * PAGE_BYTES;
            prop_assert_eq!(one.without(hole).bytes(), expected);
            prop_assert_eq!(one.without(hole).runs().map(|run| run.len()).sum::<usize>(), expected);
            prop_assert_eq!(one.without(hole).or(one.and(hole)), one);
        }
    }
}
