//! [`Presence`]: which pages of a mapping are known to be present, so that a device can be given them
//! without a page fault.
//!
//! A hint: the kernel takes pages under pressure, and the program touches pages that the engine takes
//! for fresh. The first costs a fault where one is not wanted, the second a question to the kernel.

use super::frame::PAGE_BYTES;
use crate::sys::memory;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const WORD_PAGES: u64 = u64::BITS as u64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Presence {
    mapping: Range<u64>,
    /// One bit per page.
    words: Box<[AtomicU64]>,
    /// The mapping is gone, and its addresses can be another's.
    gone: AtomicBool,
}

impl Presence {
    /// Of a new mapping, none of whose pages is present.
    pub(super) fn new(mapping: Range<u64>) -> Self {
        let words = (mapping.end - mapping.start).div_ceil(PAGE_BYTES as u64 * WORD_PAGES);
        Self { mapping, words: (0..words).map(|_| AtomicU64::new(0)).collect(), gone: AtomicBool::new(false) }
    }

    /// Whether it is about all of this range.
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        !self.gone.load(Ordering::Acquire) && self.mapping.start <= range.start && range.end <= self.mapping.end
    }

    pub(super) fn end(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// The words that a range of the mapping touches, with its bits of each.
    fn parts(&self, range: &Range<u64>) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let page = |address: u64| (address - self.mapping.start) / PAGE_BYTES as u64;
        let (first, end) = (page(range.start), page(range.end.max(range.start + 1) - 1) + 1);
        (first / WORD_PAGES..end.div_ceil(WORD_PAGES)).map(move |word| {
            let from = first.saturating_sub(word * WORD_PAGES);
            let to = (end - word * WORD_PAGES).min(WORD_PAGES);
            (&self.words[word as usize], (u64::MAX >> (WORD_PAGES - (to - from))) << from)
        })
    }

    /// Whether all pages of the range are known to be present.
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.parts(range).all(|(word, bits)| word.load(Ordering::Relaxed) & bits == bits)
    }

    /// The pages of this range are present.
    pub(super) fn add(&self, range: &Range<u64>) {
        for (word, bits) in self.parts(range) {
            word.fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// The kernel has the pages of this range, or may take them.
    pub(super) fn forget(&self, range: &Range<u64>) {
        for (word, bits) in self.parts(range) {
            word.fetch_and(!bits, Ordering::Relaxed);
        }
    }

    /// Asks the kernel which pages of this range are present.
    pub(super) fn learn(&self, range: &Range<u64>) {
        memory::residence(range, |run, present| {
            if present {
                self.add(&(run.start.max(range.start)..run.end.min(range.end)));
            }
            true
        });
    }

    /// The range with what shares its grains of `grain` bytes, as far as the mapping goes.
    pub(super) fn around(&self, range: &Range<u64>, grain: u64) -> Range<u64> {
        let start = range.start - range.start % grain;
        start.max(self.mapping.start)..range.end.next_multiple_of(grain).min(self.mapping.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 7 << 21;
    const PAGES: u64 = 300;

    proptest! {
        /// The bits say what was said of each page last.
        #[test]
        fn it_knows_of_each_page_what_was_said_last(steps in proptest::collection::vec((0..PAGES, 1..PAGES, 0u64..4096, any::<bool>()), 1..40)) {
            let page = PAGE_BYTES as u64;
            let presence = Presence::new(START..START + PAGES * page);
            let mut model = vec![false; PAGES as usize];
            for (first, count, inside, add) in steps {
                let end = (first + count).min(PAGES);
                // Any byte of a page stands for all of it.
                let range = START + first * page + inside..START + (end - 1) * page + inside + 1;
                if add { presence.add(&range) } else { presence.forget(&range) }
                model[first as usize..end as usize].fill(add);
                for (at, &known) in model.iter().enumerate() {
                    let at = START + at as u64 * page;
                    prop_assert_eq!(presence.has(&(at..at + page)), known);
                }
                let all = model[first as usize / 2..end as usize].iter().all(|&known| known);
                prop_assert_eq!(presence.has(&(START + first / 2 * page..START + end * page)), all);
            }
        }
    }

    #[test]
    fn a_grain_ends_where_the_mapping_does() {
        let presence = Presence::new(4096..20480);
        assert_eq!(presence.around(&(5000..5001), 65536), 4096..20480);
        assert_eq!(presence.around(&(9000..9001), 8192), 8192..16384);
        assert!(presence.covers(&(4096..20480)) && !presence.covers(&(4096..20481)));
        presence.end();
        assert!(!presence.covers(&(4096..8192)));
    }
}
