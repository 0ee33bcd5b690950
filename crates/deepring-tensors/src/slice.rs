//! [`Slice`]: a part of a tensor, and the runs of bytes that it is made of.

use crate::dtype::DType;
use std::ops::Range;

/// Runs of one slice. Each takes 24 bytes while it is read.
const RUNS_MAX: u64 = 1 << 22;

/// A part of a tensor: for each dimension, outermost first, a range of its indices. `None` is the whole dimension, and so is
/// every dimension that is left out.
///
/// ```
/// use deepring_tensors::Slice;
/// let rows = Slice::new([Some(100..200)]); // rows 100 to 199, all columns
/// let column = Slice::new([None, Some(7..8)]);
/// # let _ = (rows, column);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice(Vec<Option<Range<u64>>>);

impl Slice {
    /// Of these ranges.
    pub fn new(ranges: impl IntoIterator<Item = Option<Range<u64>>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// The range of each dimension of a tensor of this shape. The error is a sentence.
    pub(crate) fn ranges(&self, shape: &[u64]) -> Result<Vec<Range<u64>>, String> {
        if self.0.len() > shape.len() {
            return Err(format!("the slice has {} dimensions, and the tensor has {}", self.0.len(), shape.len()));
        }
        let range = |dimension: usize| self.0.get(dimension).cloned().flatten().unwrap_or(0..shape[dimension]);
        let ranges: Vec<Range<u64>> = (0..shape.len()).map(range).collect();
        if let Some((dimension, range)) =
            ranges.iter().enumerate().find(|(dimension, range)| range.start > range.end || range.end > shape[*dimension])
        {
            let extent = shape[dimension];
            return Err(format!("{}..{} is not a range of dimension {dimension}, which has {extent}", range.start, range.end));
        }
        Ok(ranges)
    }
}

/// Checks that a slice has not too many runs. The error is a sentence.
pub(crate) fn check_count(runs: u64) -> Result<(), String> {
    if runs <= RUNS_MAX {
        return Ok(());
    }
    Err(format!("the slice has {runs} runs of bytes, more than {RUNS_MAX}; take whole rows, and of them what is wanted"))
}

/// A slice of a tensor of known shape, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runs {
    /// The extents of the slice.
    pub(crate) shape: Vec<u64>,
    /// Bytes of each run.
    pub(crate) len: u64,
    /// Where the first begins in the tensor.
    first: u64,
    /// How many there are in each outer dimension, and how far apart they begin.
    outer: Vec<(u64, u64)>,
}

impl Runs {
    /// The runs of a slice. The error is a sentence.
    pub(crate) fn of(slice: &Slice, shape: &[u64], dtype: Option<DType>) -> Result<Self, String> {
        let Some(dtype) = dtype else { return Err("its element type is unknown, so that it has no elements to slice".into()) };
        let ranges = slice.ranges(shape)?;
        let whole = |dimension: usize| 0..shape[dimension];
        let sliced: Vec<u64> = ranges.iter().map(|range| range.end - range.start).collect();
        // Before anything is multiplied: beside an extent of 0, others can be of any size.
        if sliced.contains(&0) {
            return Ok(Self { shape: sliced, len: 0, first: 0, outer: Vec::new() });
        }
        // From this dimension on, everything is whole: elements of it lie side by side.
        let inner = (0..shape.len()).rev().find(|&dimension| ranges[dimension] != whole(dimension)).unwrap_or(0);
        let strides: Vec<u64> = (0..shape.len()).map(|dimension| shape[dimension + 1..].iter().product()).collect();
        let bytes = |elements: u64| dtype.bytes_of(elements).ok_or_else(|| format!("the slice cuts elements of {dtype} inside of a byte"));
        let mut outer = Vec::new();
        for dimension in 0..inner.min(shape.len()) {
            if sliced[dimension] > 1 {
                outer.push((sliced[dimension], bytes(strides[dimension])?));
            }
        }
        let first = ranges.iter().zip(&strides).map(|(range, stride)| range.start * stride).sum();
        let len = if shape.is_empty() { 1 } else { sliced[inner] * strides[inner] };
        let runs = Self { shape: sliced, len: bytes(len)?, first: bytes(first)?, outer };
        check_count(runs.count())?;
        Ok(runs)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        if self.len == 0 { 0 } else { self.outer.iter().map(|(count, _)| count).product() }
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> u64 {
        self.len * self.count()
    }

    /// Where each begins in the tensor, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.count()).map(|mut number| {
            let mut at = self.first;
            for &(count, stride) in self.outer.iter().rev() {
                at += number % count * stride;
                number /= count;
            }
            at
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Runs, Slice};
    use crate::dtype::DType;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_sliced_is_refused() {
        let refused = |slice: Slice, shape: &[u64], dtype| Runs::of(&slice, shape, dtype).expect_err("refused");
        assert!(refused(Slice::new([Some(0..1)]), &[], Some(DType::F32)).contains("dimensions"));
        assert!(refused(Slice::new([Some(0..3)]), &[2, 2], Some(DType::F32)).contains("which has 2"));
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
        let reversed = Slice::new([Some(2..1)]);
        assert!(refused(reversed, &[2, 2], Some(DType::F32)).contains("2..1"));
        assert!(refused(Slice::new([Some(1..2)]), &[3], Some(DType::F4)).contains("inside of a byte"));
        assert!(refused(Slice::default(), &[3], None).contains("unknown"));
        // A column of ten million rows: a run each.
        assert!(refused(Slice::new([None, Some(0..1)]), &[10_000_000, 2], Some(DType::F32)).contains("10000000 runs"));
    }

    proptest! {
        /// Against the definition: element by element.
        #[test]
        fn the_runs_are_the_elements_of_the_slice_in_their_order(
            dimensions in prop::collection::vec((1..5u64, 0..5u64, 0..5u64), 0..4),
            left_out in 0..4usize,
        ) {
            let shape: Vec<u64> = dimensions.iter().map(|&(extent, ..)| extent).collect();
            let given = shape.len().saturating_sub(left_out);
            let ranges: Vec<_> = dimensions.iter().enumerate().map(|(dimension, &(extent, a, b))| {
                let (start, end) = (a.min(b).min(extent), a.max(b).min(extent));
                if dimension < given { start..end } else { 0..extent }
            }).collect();
            let slice = Slice::new(ranges[..given].iter().cloned().map(Some));
            let runs = Runs::of(&slice, &shape, Some(DType::F32)).expect("a slice");
            let elements: u64 = shape.iter().product();
            let expected: Vec<u64> = (0..elements).filter(|&element| {
                let mut rest = element;
                (0..shape.len()).rev().all(|dimension| {
                    let at = rest % shape[dimension];
                    rest /= shape[dimension];
                    ranges[dimension].contains(&at)
                })
            }).collect();
            let found: Vec<u64> = runs.iter().flat_map(|at| (at / 4..(at + runs.len) / 4).collect::<Vec<_>>()).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(runs.bytes(), 4 * runs.shape.iter().product::<u64>());
        }
    }
}
