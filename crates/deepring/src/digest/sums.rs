//! [`Sums`]: the checksum of a range whose parts are summed in any order.
//!
//! ```text
//!   added:   [4 MiB, 8 MiB)      [0, 4 MiB)            [12 MiB, 13 MiB)
//!   kept:    [4, 8)         ──►  [0, 8)           ──►  [0, 8)  [12, 13)
//! ```
//!
//! Neighbors are combined at once, so no more is kept than there are gaps: at most as many as blocks
//! are in flight. Most parts of a range have one length, and share its [`Shift`].

use super::Shift;
use crate::planted::{PlantedBug, planted};

/// A part that has no neighbor yet.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    end: u64,
    crc: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sums {
    /// In their order, with gaps between them.
    pieces: Vec<Piece>,
    /// The last length that was combined, and its shift.
    last: (u64, Shift),
}

impl Default for Sums {
    fn default() -> Self {
        Self { pieces: Vec::new(), last: (0, Shift::over(0)) }
    }
}

impl Sums {
    /// Adds the checksum of `start..start + len`. No byte may be added twice.
    pub(crate) fn add(&mut self, start: u64, len: u64, crc: u32) {
        if len == 0 {
            return;
        }
        let mut piece = Piece { start, end: start + len, crc };
        let mut at = self.pieces.partition_point(|other| other.start < start);
        debug_assert!(at == 0 || self.pieces[at - 1].end <= start, "{start} was added before");
        debug_assert!(self.pieces.get(at).is_none_or(|next| piece.end <= next.start), "what follows {start} was added before");
        if let Some(next) = self.pieces.get(at).copied().filter(|next| next.start == piece.end) {
            let crc = self.combine(piece, next);
            piece = Piece { end: next.end, crc, ..piece };
            self.pieces.remove(at);
        }
        if let Some(former) = at.checked_sub(1).map(|former| self.pieces[former]).filter(|former| former.end == piece.start) {
            at -= 1;
            let crc = self.combine(former, piece);
            self.pieces[at] = Piece { start: former.start, crc, ..piece };
        } else {
            self.pieces.insert(at, piece);
        }
    }

    fn combine(&mut self, first: Piece, second: Piece) -> u32 {
        let len = second.end - second.start;
        if self.last.0 != len {
            self.last = (len, Shift::over(len));
        }
        let (a, b) = (first.crc, second.crc);
        if planted(PlantedBug::CombinesBackwards) { self.last.1.combine(b, a) } else { self.last.1.combine(a, b) }
    }

    /// The checksum of `0..len`, if all of that was added, and nothing that touches its end.
    pub(crate) fn value(&self, len: u64) -> Option<u32> {
        if len == 0 {
            return Some(0);
        }
        self.pieces.first().filter(|first| (first.start, first.end) == (0, len)).map(|first| first.crc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::crc32c;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the cuts and the order, the checksum is that of one pass.
        #[test]
        fn the_order_of_the_parts_does_not_matter(
            bytes in proptest::collection::vec(any::<u8>(), 1..3000),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
            order in any::<prop::sample::Index>(),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.index(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut parts: Vec<_> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let mut sums = Sums::default();
            while !parts.is_empty() {
                prop_assert!(parts.iter().all(|(start, end)| start == end) || sums.value(bytes.len() as u64).is_none());
                let (start, end) = parts.swap_remove(order.index(1 + parts.len()) % parts.len());
                sums.add(start as u64, (end - start) as u64, crc32c(&bytes[start..end]));
            }
            prop_assert_eq!(sums.value(bytes.len() as u64), Some(crc32c(&bytes)));
            prop_assert_eq!(sums.pieces.len(), 1);
        }
    }

    #[test]
    fn a_range_with_a_gap_has_no_checksum() {
        let mut sums = Sums::default();
        assert_eq!((sums.value(0), sums.value(1)), (Some(0), None));
        sums.add(4, 4, 7);
        assert_eq!((sums.value(0), sums.value(8)), (Some(0), None));
        sums.add(0, 3, 7);
        assert_eq!([3, 4, 8].map(|len| sums.value(len)), [Some(7), None, None]);
        sums.add(3, 1, 7);
        assert!(sums.value(8).is_some());
        assert_eq!([3, 4, 7].map(|len| sums.value(len)), [None; 3]);
    }
}
