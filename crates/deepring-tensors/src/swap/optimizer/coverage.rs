//! [`Coverage`]: which bytes of a range have come.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of bytes, none of which touches another one: by their beginnings, their ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Coverage(BTreeMap<u64, u64>);

impl Coverage {
    /// All bytes below `len`.
    pub(super) fn full(len: u64) -> Self {
        Self(if len > 0 { BTreeMap::from([(0, len)]) } else { BTreeMap::new() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A range that is there and has bytes of this one.
    pub(super) fn overlap(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let (&start, &end) = self.0.range(..range.end).next_back()?;
        (end > range.start && !range.is_empty()).then_some(start..end)
    }

    /// Adds a range that overlaps none.
    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let before = self.0.range(..=range.start).next_back().filter(|(_, end)| **end == range.start);
        let start = before.map_or(range.start, |(start, _)| *start);
        let end = self.0.remove(&range.end).unwrap_or(range.end);
        self.0.insert(start, end);
    }

    /// Whether all bytes of a range are there.
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..=range.start).next_back();
        range.is_empty() || before.is_some_and(|(_, end)| *end >= range.end)
    }

    /// The ranges that are there.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(&start, &end)| start..end)
    }

    /// The ranges below `len` that are not.
    pub(super) fn holes(&self, len: u64) -> Vec<Range<u64>> {
        let mut holes = Vec::new();
        let mut end = 0;
        for run in self.runs().chain(std::iter::once(len..len)) {
            if run.start > end {
                holes.push(end..run.start);
            }
            end = run.end;
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::Coverage;
    use proptest::prelude::*;

    proptest! {
        /// Against one flag for each byte.
        #[test]
        fn what_has_come_is_known_to_the_byte(ranges in prop::collection::vec((0..60u64, 0..12u64), 0..40)) {
            let (mut coverage, mut model) = (Coverage::default(), [false; 80]);
            for (start, len) in ranges {
                let (range, bytes) = (start..start + len, start as usize..(start + len) as usize);
                let taken = model[bytes.clone()].iter().any(|there| *there);
                prop_assert_eq!(coverage.overlap(&range).is_some(), taken);
                prop_assert_eq!(coverage.has(&range), model[bytes.clone()].iter().all(|there| *there));
                if !taken {
                    coverage.add(range);
                    model[bytes].fill(true);
                }
            }
            let mut found = [false; 80];
            for run in coverage.runs() {
                found[run.start as usize..run.end as usize].fill(true);
            }
            prop_assert_eq!(found, model);
            for hole in coverage.holes(80) {
                found[hole.start as usize..hole.end as usize].fill(true);
            }
            prop_assert_eq!(found, [true; 80]);
            let runs: Vec<_> = coverage.runs().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }

    #[test]
    fn all_of_nothing_is_nothing() {
        assert!(Coverage::full(0).is_empty() && Coverage::full(3).has(&(0..3)) && Coverage::full(3).holes(3).is_empty());
        assert_eq!(Coverage::default().holes(3), vec![0..3; 1]);
    }
}
