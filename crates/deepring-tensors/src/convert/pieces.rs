//! [`pieces`]: a large conversion as many small ones.

use super::unit;
use crate::DType;
use std::ops::Range;

/// Cuts the conversion of `elements` elements into pieces that can run at the same time: for each, its bytes in the source
/// and its bytes in the target. They follow each other without gaps.
///
/// The larger side of a piece has at most `piece_bytes` bytes, and at least as many elements as fill whole bytes on both
/// sides. Elements that no memory could hold are left out.
///
/// ```
/// use deepring_tensors::DType;
/// use deepring_tensors::convert::{convert_into, pieces};
/// let source = vec![0x3f; 6 << 20]; // 3 Mi elements
/// let mut target = vec![0; 12 << 20];
/// assert_eq!(pieces(DType::BF16, DType::F32, 3 << 20, 4 << 20).len(), 3);
/// for (from, to) in pieces(DType::BF16, DType::F32, 3 << 20, 4 << 20) {
///     convert_into(DType::BF16, &source[from], DType::F32, &mut target[to])?;
/// }
/// assert_eq!(target[(12 << 20) - 4..], [0, 0, 0x3f, 0x3f]);
/// # Ok::<(), deepring_tensors::ConvertError>(())
/// ```
pub fn pieces(
    from: DType,
    to: DType,
    elements: usize,
    piece_bytes: usize,
) -> impl ExactSizeIterator<Item = (Range<usize>, Range<usize>)> + DoubleEndedIterator + use<> {
    let (from, to) = (unit(from), unit(to));
    // Units of 1, 2 or 4 elements: the larger is a multiple of the smaller.
    let step = from.elements.max(to.elements);
    let bytes = [from, to].map(|unit| unit.bytes * (step / unit.elements));
    let larger = bytes[0].max(bytes[1]);

    let steps = elements.div_ceil(step).min(usize::MAX / larger);
    let steps_in_piece = (piece_bytes / larger).max(1);
    let range = move |piece: usize, bytes: usize| {
        let start = piece * steps_in_piece;
        start * bytes..(start + steps_in_piece.min(steps - start)) * bytes
    };
    (0..steps.div_ceil(steps_in_piece)).map(move |piece| (range(piece, bytes[0]), range(piece, bytes[1])))
}

#[cfg(test)]
mod tests {
    use super::pieces;
    use crate::DType;
    use proptest::prelude::*;

    const TYPES: [DType; 6] = [DType::F4, DType::F6E2M3, DType::F8E4M3, DType::BF16, DType::F32, DType::F64];

    proptest! {
        #[test]
        fn pieces_cover_both_sides_in_order_and_are_no_larger_than_asked(
            from in prop::sample::select(&TYPES[..]),
            to in prop::sample::select(&TYPES[..]),
            quadruples in 0usize..3000,
            piece_bytes in 0usize..5000,
        ) {
            let elements = quadruples * 4;
            let mut ends = (0, 0);
            for (source, target) in pieces(from, to, elements, piece_bytes) {
                prop_assert_eq!((source.start, target.start), ends);
                prop_assert_eq!(source.len() * 8 / from.bits() as usize, target.len() * 8 / to.bits() as usize, "elements");
                prop_assert!(!source.is_empty() && source.len().max(target.len()) <= piece_bytes.max(32));
                ends = (source.end, target.end);
            }
            prop_assert_eq!(ends, (elements * from.bits() as usize / 8, elements * to.bits() as usize / 8));
        }

        #[test]
        fn no_size_is_too_large(
            from in prop::sample::select(&TYPES[..]),
            to in prop::sample::select(&TYPES[..]),
            elements in any::<usize>(),
            piece_bytes in any::<usize>(),
        ) {
            let mut pieces = pieces(from, to, elements, piece_bytes);
            let count = pieces.len();
            let first = pieces.next();
            prop_assert_eq!(first.is_some(), count > 0);
            prop_assert_eq!(pieces.next_back().is_some(), count > 1);
        }
    }

    #[test]
    fn a_piece_is_as_large_as_allowed() {
        let all: Vec<_> = pieces(DType::F8E4M3, DType::F32, 10, 16).collect();
        assert_eq!(all, [(0..4, 0..16), (4..8, 16..32), (8..10, 32..40)]);
        assert_eq!(pieces(DType::BF16, DType::F32, 0, 4 << 20).count(), 0);
        assert_eq!(pieces(DType::F64, DType::F64, 2, 1).collect::<Vec<_>>(), [(0..8, 0..8), (8..16, 8..16)]);
    }
}
