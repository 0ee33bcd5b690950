//! Whether pieces cover a tensor: every element once. Pure.
//!
//! The pieces count 1 and the whole tensor counts -1, so their sum is 0 wherever one piece covers. A sweep along the outermost
//! dimension holds what begins and ends at each coordinate. Up to the first coordinate whose changes do not cancel out, the
//! sum is 0; from there on it is what they add up to, in one dimension less. So the first element that is missing, or is
//! there twice, is found without comparing pieces with each other: at most two changes for each piece and dimension that is
//! cut, and equal ones cancel out before the next dimension.

use std::fmt;
use std::ops::Range;

/// The most dimensions along which one tensor is cut. Each can double the work.
const CUT_DIMENSIONS_MAX: usize = 8;

/// A piece: where it begins, and its extents. There is one of both for every dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'p> {
    pub(crate) start: &'p [u64],
    pub(crate) shape: &'p [u64],
}

/// Why pieces are not a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Untiled {
    /// A piece has other dimensions than the tensor, or leaves it.
    Outside {
        /// Its index.
        piece: usize,
    },
    /// No piece has these elements.
    Hole(Vec<Range<u64>>),
    /// Two pieces have these elements.
    Overlap {
        /// The indices of the pieces.
        pieces: [usize; 2],
        /// For each dimension.
        range: Vec<Range<u64>>,
    },
    /// The tensor is cut along more dimensions than [`CUT_DIMENSIONS_MAX`].
    Dimensions(usize),
}

impl fmt::Display for Untiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside { piece } => write!(f, "piece {piece} is not inside of the tensor"),
            Self::Hole(range) => write!(f, "no piece has the elements {range:?}"),
            Self::Overlap { pieces: [one, two], range } => write!(f, "pieces {one} and {two} both have the elements {range:?}"),
            Self::Dimensions(cut) => write!(f, "the tensor is cut along {cut} dimensions, and {CUT_DIMENSIONS_MAX} are allowed"),
        }
    }
}

/// Checks that the pieces cover a tensor of this shape, each element once.
pub(crate) fn check(shape: &[u64], pieces: &[Piece<'_>]) -> Result<(), Untiled> {
    if let Some(piece) = pieces.iter().position(|piece| !piece.is_inside(shape)) {
        return Err(Untiled::Outside { piece });
    }
    let cut = (0..shape.len()).filter(|&at| pieces.iter().any(|piece| piece.shape[at] < shape[at])).count();
    if cut > CUT_DIMENSIONS_MAX {
        return Err(Untiled::Dimensions(cut));
    }
    let start = vec![0; shape.len()];
    let whole = Piece { start: &start, shape };
    let counted = pieces.iter().map(|&piece| (piece, 1)).chain([(whole, -1)]);
    let boxes = counted.filter(|(piece, _)| !piece.shape.contains(&0)).collect();
    let Some(mut range) = first_wrong(boxes) else { return Ok(()) };
    range.reverse();
    let at: Vec<u64> = range.iter().map(|range| range.start).collect();
    let mut covering = pieces.iter().enumerate().filter(|(_, piece)| piece.covers(&at)).map(|(index, _)| index);
    match (covering.next(), covering.next()) {
        (Some(one), Some(two)) => {
            // Behind these, others can overlap, with no gap between.
            let common = range.iter().enumerate().map(|(dimension, range)| {
                let end = |piece: usize| pieces[piece].start[dimension] + pieces[piece].shape[dimension];
                range.start..range.end.min(end(one)).min(end(two))
            });
            Err(Untiled::Overlap { pieces: [one, two], range: common.collect() })
        }
        _ => Err(Untiled::Hole(range)),
    }
}

impl Piece<'_> {
    fn is_inside(self, shape: &[u64]) -> bool {
        let inside = |((&start, &extent), &whole): ((&u64, &u64), &u64)| start.checked_add(extent).is_some_and(|end| end <= whole);
        self.start.len() == shape.len() && self.shape.len() == shape.len() && self.start.iter().zip(self.shape).zip(shape).all(inside)
    }

    fn covers(self, at: &[u64]) -> bool {
        self.start.iter().zip(self.shape).zip(at).all(|((&start, &extent), &at)| start <= at && at < start + extent)
    }

    /// Its range in the outermost dimension.
    fn outermost(self) -> Range<u64> {
        self.start[0]..self.start[0] + self.shape[0]
    }

    /// Itself in the other dimensions.
    fn inner(self) -> Self {
        Self { start: &self.start[1..], shape: &self.shape[1..] }
    }
}

/// The first place where weighted boxes do not add up to 0, as one range for each dimension, the innermost first.
fn first_wrong(mut boxes: Vec<(Piece<'_>, i64)>) -> Option<Vec<Range<u64>>> {
    boxes.sort_unstable_by_key(|(piece, _)| (piece.start, piece.shape));
    boxes.dedup_by(|next, kept| {
        let equal = next.0 == kept.0;
        kept.1 += if equal { next.1 } else { 0 };
        equal
    });
    boxes.retain(|&(_, weight)| weight != 0);
    let &(first, _) = boxes.first()?;
    if first.start.is_empty() {
        return Some(Vec::new());
    }
    let range = first.outermost();
    if boxes.iter().all(|(piece, _)| piece.outermost() == range) {
        let mut wrong = first_wrong(boxes.into_iter().map(|(piece, weight)| (piece.inner(), weight)).collect())?;
        wrong.push(range);
        return Some(wrong);
    }
    let mut changes: Vec<(u64, Piece<'_>, i64)> = Vec::with_capacity(2 * boxes.len());
    for (piece, weight) in boxes {
        let Range { start, end } = piece.outermost();
        changes.extend([(start, piece, weight), (end, piece, -weight)]);
    }
    changes.sort_unstable_by_key(|&(at, ..)| at);
    let mut groups = changes.chunk_by(|one, two| one.0 == two.0).peekable();
    while let Some(group) = groups.next() {
        if let Some(mut wrong) = first_wrong(group.iter().map(|&(_, piece, weight)| (piece.inner(), weight)).collect()) {
            // Every piece has ended at the last coordinate, so what is wrong begins before it.
            let end = groups.peek().map_or(group[0].0, |next| next[0].0);
            wrong.push(group[0].0..end);
            return Some(wrong);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Piece, Untiled, check};
    use crate::checkpoint::processor_time;
    use proptest::prelude::*;
    use std::ops::Range;
    use std::time::Duration;

    type Owned = (Vec<u64>, Vec<u64>);

    fn checked(shape: &[u64], pieces: &[Owned]) -> Result<(), Untiled> {
        let pieces: Vec<Piece<'_>> = pieces.iter().map(|(start, shape)| Piece { start, shape }).collect();
        check(shape, &pieces)
    }

    fn rows(ranges: &[Range<u64>]) -> Vec<Owned> {
        ranges.iter().map(|rows| (vec![rows.start, 0], vec![rows.end - rows.start, 3])).collect()
    }

    #[test]
    fn pieces_that_cover_a_tensor_once_are_one() {
        assert_eq!(checked(&[10, 3], &rows(&[4..10, 0..4])), Ok(()));
        assert_eq!(checked(&[10, 3], &rows(&[0..10, 5..5])), Ok(()));
        assert_eq!(checked(&[], &[(vec![], vec![])]), Ok(()));
        assert_eq!(checked(&[0, 3], &rows(&[0..0, 0..0])), Ok(()));
        // A wheel, which no cut goes through.
        let wheel = [([0, 0], [1, 2]), ([0, 2], [2, 1]), ([2, 1], [1, 2]), ([1, 0], [2, 1]), ([1, 1], [1, 1])];
        assert_eq!(checked(&[3, 3], &wheel.map(|(start, shape)| (start.to_vec(), shape.to_vec()))), Ok(()));
    }

    #[test]
    fn holes_and_overlaps_are_named() {
        assert_eq!(checked(&[10, 3], &rows(&[0..4, 6..10])), Err(Untiled::Hole(vec![4..6, 0..3])));
        assert_eq!(checked(&[10, 3], &rows(&[0..4, 4..9])), Err(Untiled::Hole(vec![9..10, 0..3])), "at the tail");
        assert_eq!(checked(&[10, 3], &rows(&[2..9, 9..10])), Err(Untiled::Hole(vec![0..2, 0..3])));
        assert_eq!(checked(&[10, 3], &[]), Err(Untiled::Hole(vec![0..10, 0..3])));
        assert_eq!(checked(&[], &[]), Err(Untiled::Hole(vec![])));
        let overlap = |pieces, range| Err(Untiled::Overlap { pieces, range });
        assert_eq!(checked(&[10, 3], &rows(&[0..4, 3..10])), overlap([0, 1], vec![3..4, 0..3]));
        assert_eq!(checked(&[10, 3], &rows(&[0..4, 4..10, 4..10])), overlap([1, 2], vec![4..10, 0..3]));
        assert_eq!(checked(&[], &[(vec![], vec![]), (vec![], vec![])]), overlap([0, 1], vec![]));
        // As many elements as the tensor has.
        assert_eq!(checked(&[10, 3], &rows(&[0..5, 4..9])), overlap([0, 1], vec![4..5, 0..3]));
        // One overlap after the other, each of other pieces.
        assert_eq!(checked(&[10, 3], &rows(&[0..10, 0..5, 5..10])), overlap([0, 1], vec![0..5, 0..3]));
    }

    #[test]
    fn a_piece_stays_inside() {
        for (start, shape) in [
            (vec![8, 0], vec![3, 3]),
            (vec![0], vec![10]),
            (vec![0, 0], vec![10]),
            (vec![u64::MAX, 0], vec![1, 3]),
            (vec![11, 0], vec![0, 3]),
        ] {
            assert_eq!(checked(&[10, 3], &[(start, shape)]), Err(Untiled::Outside { piece: 0 }));
        }
    }

    #[test]
    fn the_dimensions_that_are_cut_are_few() {
        let all = |cut: usize| checked(&[2; 64], &[(vec![0; 64], (0..64).map(|at| if at < cut { 1 } else { 2 }).collect())]);
        assert!(matches!(all(8), Err(Untiled::Hole(_))));
        assert_eq!(all(9), Err(Untiled::Dimensions(9)));
    }

    /// Half a tensor in columns and half in rows: whatever the dimension, half of the pieces reach along all of it.
    #[test]
    fn a_hundred_thousand_pieces_take_no_quadratic_time() {
        const HALF: u64 = 50_000;
        let began = processor_time();
        let columns = (0..HALF).map(|at| (vec![0, at], vec![HALF, 1]));
        let mut pieces: Vec<Owned> = columns.chain((0..HALF).map(|at| (vec![at, HALF], vec![1, HALF]))).collect();
        assert_eq!(checked(&[HALF, 2 * HALF], &pieces), Ok(()));
        pieces.pop();
        assert_eq!(checked(&[HALF, 2 * HALF], &pieces), Err(Untiled::Hole(vec![HALF - 1..HALF, HALF..2 * HALF])));
        // Pieces of eight dimensions that have nothing in common.
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            1 + (seed >> 33) % 1_000_000
        };
        let scattered: Vec<Owned> =
            (0..100_000).map(|_| ((0..8).map(|_| random()).collect(), (0..8).map(|_| random()).collect())).collect();
        assert!(checked(&[2_000_001; 8], &scattered).is_err());
        let took = processor_time().saturating_sub(began);
        assert!(took < Duration::from_secs(8), "{took:?}");
    }

    /// A tensor, cut at random; then perhaps a piece goes, comes twice, or changes.
    fn cut() -> impl Strategy<Value = (Vec<u64>, Vec<Owned>)> {
        let shape = prop::collection::vec(0..5u64, 0..4);
        let cuts = prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..8);
        let change = (0..6u8, any::<prop::sample::Index>(), any::<prop::sample::Index>());
        (shape, cuts, change).prop_map(|(shape, cuts, (change, piece, dimension))| {
            let mut pieces = vec![(vec![0; shape.len()], shape.clone())];
            for (piece, dimension, place) in cuts.into_iter().filter(|_| !shape.is_empty()) {
                let (piece, dimension) = (piece.index(pieces.len()), dimension.index(shape.len()));
                let (start, shape) = &mut pieces[piece];
                let first = place.index(shape[dimension] as usize + 1) as u64;
                let (mut rest_start, mut rest) = (start.clone(), shape.clone());
                rest_start[dimension] += first;
                rest[dimension] -= first;
                shape[dimension] = first;
                pieces.push((rest_start, rest));
            }
            let piece = piece.index(pieces.len());
            match change {
                0 => {
                    pieces.remove(piece);
                }
                1 => pieces.push(pieces[piece].clone()),
                2 if !shape.is_empty() => pieces[piece].1[dimension.index(shape.len())] += 1,
                3 if !shape.is_empty() => {
                    let start = &mut pieces[piece].0[dimension.index(shape.len())];
                    *start = start.saturating_sub(1);
                }
                _ => {}
            }
            (shape, pieces)
        })
    }

    fn elements(ranges: &[Range<u64>]) -> Vec<Vec<u64>> {
        ranges.iter().fold(vec![vec![]], |all, range| {
            all.iter().flat_map(|front| range.clone().map(|at| [front.as_slice(), &[at]].concat())).collect()
        })
    }

    proptest! {
        #[test]
        fn it_is_what_counting_each_element_finds((shape, pieces) in cut()) {
            let ranges = |(start, shape): &Owned| start.iter().zip(shape).map(|(start, extent)| *start..start + extent).collect::<Vec<_>>();
            let covers = |piece: &Owned, at: &[u64]| ranges(piece).iter().zip(at).all(|(range, at)| range.contains(at));
            let all = elements(&shape.iter().map(|&extent| 0..extent).collect::<Vec<_>>());
            let count = |at: &[u64]| pieces.iter().filter(|piece| covers(piece, at)).count();
            let inside = |piece: &Owned| ranges(piece).iter().zip(&shape).all(|(range, extent)| range.end <= *extent);
            match checked(&shape, &pieces) {
                Ok(()) => prop_assert!(pieces.iter().all(inside) && all.iter().all(|at| count(at) == 1)),
                Err(Untiled::Outside { piece }) => prop_assert!(!inside(&pieces[piece])),
                Err(Untiled::Hole(range)) => {
                    prop_assert!(!elements(&range).is_empty());
                    prop_assert!(elements(&range).iter().all(|at| all.contains(at) && count(at) == 0));
                }
                Err(Untiled::Overlap { pieces: [one, two], range }) => {
                    prop_assert!(one != two && !elements(&range).is_empty());
                    prop_assert!(elements(&range).iter().all(|at| covers(&pieces[one], at) && covers(&pieces[two], at)));
                }
                Err(Untiled::Dimensions(_)) => prop_assert!(false, "three dimensions are allowed"),
            }
        }
    }
}
