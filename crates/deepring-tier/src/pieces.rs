//! [`Pieces`]: bytes of an object that a call has, and the ranges that are cut out of them.

use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::ops::Range;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pieces(BTreeMap<u64, Bytes>);

impl Pieces {
    /// Adds bytes that begin at a position.
    pub(crate) fn add(&mut self, start: u64, bytes: Bytes) {
        let has_more = self.0.get(&start).is_some_and(|own| own.len() >= bytes.len());
        if !bytes.is_empty() && !has_more {
            self.0.insert(start, bytes);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The parts of a range that are not here.
    pub(crate) fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let (mut gaps, mut at) = (Vec::new(), range.start);
        while at < range.end {
            if let Some((start, bytes)) = self.at(at) {
                at = start + bytes.len() as u64;
                continue;
            }
            let next = self.0.range(at..).next().map_or(range.end, |(&start, _)| start.min(range.end));
            gaps.push(at..next);
            at = next;
        }
        gaps
    }

    /// Whether every byte of a range is here.
    pub(crate) fn covers(&self, range: &Range<u64>) -> bool {
        self.gaps(range).is_empty()
    }

    /// The bytes of a range, in order and without a copy.
    pub(crate) fn cut(&self, range: &Range<u64>) -> Option<Vec<Bytes>> {
        let (mut parts, mut at) = (Vec::new(), range.start);
        while at < range.end {
            let (start, bytes) = self.at(at)?;
            let end = range.end.min(start + bytes.len() as u64);
            parts.push(bytes.slice((at - start) as usize..(end - start) as usize));
            at = end;
        }
        Some(parts)
    }

    /// A piece that has this byte. Pieces seldom overlap: then it is the last that begins at or before it.
    fn at(&self, at: u64) -> Option<(u64, &Bytes)> {
        let has_it = |(start, bytes): &(&u64, &Bytes)| *start + bytes.len() as u64 > at;
        self.0.range(..=at).rev().find(has_it).map(|(&start, bytes)| (start, bytes))
    }

    /// The bytes of a range in one: without a copy if they are in one piece.
    pub(crate) fn take(&self, range: &Range<u64>) -> Option<Bytes> {
        let mut parts = self.cut(range)?;
        if parts.len() <= 1 {
            return Some(parts.pop().unwrap_or_default());
        }
        let mut whole = BytesMut::with_capacity((range.end - range.start) as usize);
        for part in parts {
            whole.extend_from_slice(&part);
        }
        Some(whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_in_one_piece_is_not_copied() {
        let mut pieces = Pieces::default();
        let bytes = Bytes::from(vec![7; 1000]);
        pieces.add(100, bytes.clone());
        let cut = pieces.take(&(200..300)).expect("bytes");
        assert_eq!(cut.as_ptr(), bytes[100..].as_ptr());
    }

    proptest! {
        #[test]
        fn what_is_cut_is_what_was_added(
            added in prop::collection::vec((0u64..300, 0usize..80), 0..12),
            asked in prop::collection::vec((0u64..300, 0u64..80), 0..12),
        ) {
            let byte = |at: u64| (at % 251) as u8;
            let (mut pieces, mut has) = (Pieces::default(), [false; 400]);
            for (start, len) in added {
                let end = start + len as u64;
                has[start as usize..end as usize].fill(true);
                pieces.add(start, (start..end).map(byte).collect());
            }
            for (start, len) in asked {
                let range = start..start + len;
                let all = range.clone().all(|at| has[at as usize]);
                prop_assert_eq!(pieces.covers(&range), all);
                let gaps = pieces.gaps(&range);
                prop_assert!(range.clone().all(|at| has[at as usize] != gaps.iter().any(|gap| gap.contains(&at))));
                prop_assert_eq!(pieces.take(&range), all.then(|| range.map(byte).collect::<Bytes>()));
            }
        }
    }
}
