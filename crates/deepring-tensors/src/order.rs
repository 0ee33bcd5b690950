//! Tensors that are to be written, and their order in a file: as many bytes as can be in tensors that begin on a block. Pure.
//!
//! Tensors follow each other without gaps. So behind one that does not fill its last block, nothing begins on a block until
//! other tensors have filled that up. Small tensors are used for it:
//!
//! ```text
//!   | whole blocks | whole blocks | large      |..| large        |....| large | small, small, small |
//!                                               ▲ a few small ones, which fill a block together
//! ```
//!
//! Which of them: the fewest, found for every remainder at once by a breadth-first search over the remainders of a block.

use crate::dtype::DType;
use crate::error::{Error, Result, quoted};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A block of every file system and drive.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The order of tensors in a file. Any is legal: readers go by the offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Order {
    /// Wide element types first; of the same width those that fill whole blocks first, then by size, the largest first, then
    /// by name. Small tensors go between large ones where they fill up the last block of one. So nearly all bytes lie in
    /// tensors that begin on a block, which direct I/O writes and reads without a copy, and which parallel writers do not share.
    #[default]
    Blocks,
    /// As the reference: by element type, then by name.
    Reference,
    /// As given.
    Given,
}

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name, which no other tensor of the model has.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its extents, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
}

impl Declared {
    /// How many bytes it has.
    ///
    /// # Errors
    /// [`Error::Argument`] if they cannot be counted, or packed elements do not fill whole bytes.
    pub fn bytes(&self) -> Result<u64> {
        let elements = self.shape.iter().try_fold(1u64, |elements, &extent| elements.checked_mul(extent));
        elements.and_then(|elements| self.dtype.bytes_of(elements)).ok_or_else(|| {
            let Self { name, dtype, shape } = self;
            Error::Argument(format!("{dtype} of shape {shape:?} does not have a whole number of bytes, tensor {}", quoted(name)))
        })
    }
}

/// A tensor of fewer bytes does not need to begin on a block: it is written together with its neighbors.
const LARGE_BYTES_MIN: u64 = 64 << 10;

/// Remainders of small tensors that are looked at.
const REMAINDERS_MAX: usize = 64;

/// Small tensors that fill one block.
const FILLERS_MAX: usize = 64;

/// Searches, of a fraction of a millisecond each: one when small tensors of a kind are used up.
const SEARCHES_MAX: usize = 256;

/// The indices of the tensors in the order of their bytes.
pub(crate) fn in_order(tensors: &[Declared], lens: &[u64], order: Order) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..tensors.len() as u32).collect();
    let tensor = |index: u32| (&tensors[index as usize], lens[index as usize]);
    match order {
        Order::Given => indices,
        Order::Reference => {
            indices.sort_by(|&a, &b| {
                let (a, b) = (tensor(a).0, tensor(b).0);
                b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name))
            });
            indices
        }
        Order::Blocks => {
            indices.sort_by(|&a, &b| {
                let key = |(tensor, len): (&Declared, u64)| (Reverse(tensor.dtype.bits()), !len.is_multiple_of(BLOCK_BYTES), Reverse(len));
                key(tensor(a)).cmp(&key(tensor(b))).then_with(|| tensor(a).0.name.cmp(&tensor(b).0.name))
            });
            let mut ordered = Vec::with_capacity(indices.len());
            let mut end = 0;
            for width in indices.chunk_by(|&a, &b| tensor(a).0.dtype.bits() == tensor(b).0.dtype.bits()) {
                fill_blocks(width, lens, &mut ordered, &mut end);
            }
            ordered
        }
    }
}

/// Appends tensors, the largest first: those that begin where a block is not full get small ones in front of them. `end` is
/// where they end.
fn fill_blocks(sorted: &[u32], lens: &[u64], ordered: &mut Vec<u32>, end: &mut u64) {
    let len = |index: u32| lens[index as usize];
    let (whole, rest) = sorted.split_at(sorted.partition_point(|&index| len(index).is_multiple_of(BLOCK_BYTES)));
    let (large, small) = rest.split_at(rest.partition_point(|&index| len(index) >= LARGE_BYTES_MIN));
    let mut fillers = Fillers::new(small, lens);
    for &index in whole.iter().chain(large) {
        if len(index) >= LARGE_BYTES_MIN {
            for filler in fillers.take((BLOCK_BYTES - *end % BLOCK_BYTES) % BLOCK_BYTES) {
                ordered.push(filler);
                *end += len(filler);
            }
        }
        ordered.push(index);
        *end += len(index);
    }
    for index in fillers.left(small) {
        ordered.push(index);
        *end += len(index);
    }
}

/// Small tensors, by what they are more than whole blocks.
struct Fillers {
    by_remainder: BTreeMap<u64, Vec<u32>>,
    /// Of each number of bytes up to a block: the remainder that is the last of the fewest which add up to it, and how many
    /// these are.
    last: Vec<Option<(u64, usize)>>,
    taken: Vec<u32>,
    searches: usize,
}

impl Fillers {
    fn new(small: &[u32], lens: &[u64]) -> Self {
        let mut by_remainder: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        // The last of a list is taken first.
        for &index in small.iter().rev() {
            by_remainder.entry(lens[index as usize] % BLOCK_BYTES).or_default().push(index);
        }
        let mut fillers = Self { by_remainder, last: Vec::new(), taken: Vec::new(), searches: 0 };
        fillers.search();
        fillers
    }

    /// Finds the fewest remainders for every number of bytes.
    fn search(&mut self) {
        self.searches += 1;
        let mut remainders: Vec<(u64, usize)> = self.by_remainder.iter().map(|(&remainder, list)| (remainder, list.len())).collect();
        remainders.sort_by_key(|&(remainder, count)| (Reverse(count), remainder));
        remainders.truncate(REMAINDERS_MAX);
        self.last = vec![None; BLOCK_BYTES as usize];
        let mut reached = vec![0u64];
        for count in 1..=FILLERS_MAX {
            let mut next = Vec::new();
            for from in reached {
                for &(remainder, _) in &remainders {
                    let to = (from + remainder) % BLOCK_BYTES;
                    if to != 0 && self.last[to as usize].is_none() {
                        self.last[to as usize] = Some((remainder, count));
                        next.push(to);
                    }
                }
            }
            reached = next;
        }
    }

    /// Tensors that end on a block if they begin this many bytes in front of its end; none if there are no such.
    fn take(&mut self, bytes: u64) -> Vec<u32> {
        loop {
            match self.try_take(bytes) {
                Ok(found) => {
                    self.taken.extend(&found);
                    return found;
                }
                // There are too few of these: without them, others may do.
                Err(Some(scarce)) if self.searches < SEARCHES_MAX => {
                    self.by_remainder.remove(&scarce);
                    self.search();
                }
                Err(_) => return Vec::new(),
            }
        }
    }

    /// The error is the remainder of which there are too few, if it is that.
    fn try_take(&mut self, mut bytes: u64) -> std::result::Result<Vec<u32>, Option<u64>> {
        let (mut remainders, mut found) = (Vec::new(), Vec::new());
        while bytes > 0 {
            let (remainder, _) = self.last[bytes as usize].ok_or(None)?;
            remainders.push(remainder);
            bytes = (bytes + BLOCK_BYTES - remainder) % BLOCK_BYTES;
        }
        for &remainder in &remainders {
            let wanted = remainders.iter().filter(|&&other| other == remainder).count();
            if self.by_remainder.get(&remainder).is_none_or(|list| list.len() < wanted) {
                return Err(Some(remainder));
            }
        }
        for remainder in remainders {
            found.extend(self.by_remainder.get_mut(&remainder).and_then(Vec::pop));
        }
        Ok(found)
    }

    /// Those of `small` that were not taken, in their order.
    fn left(mut self, small: &[u32]) -> impl Iterator<Item = u32> + '_ {
        self.taken.sort_unstable();
        small.iter().copied().filter(move |index| self.taken.binary_search(index).is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensors(sizes: &[(DType, u64)]) -> (Vec<Declared>, Vec<u64>) {
        let declared =
            |(nth, &(dtype, elements)): (usize, &(DType, u64))| Declared { name: format!("t{nth:05}"), dtype, shape: vec![elements] };
        let declared: Vec<Declared> = sizes.iter().enumerate().map(declared).collect();
        let lens = declared.iter().map(|tensor| tensor.bytes().expect("whole bytes")).collect();
        (declared, lens)
    }

    /// Where each begins, in the order of the bytes.
    fn positions(order: &[u32], lens: &[u64]) -> Vec<(u32, u64)> {
        let mut end = 0;
        let begin = |&index: &u32| {
            let begin = end;
            end += lens[index as usize];
            (index, begin)
        };
        order.iter().map(begin).collect()
    }

    /// What twelve of a model with an odd vocabulary look like.
    #[test]
    fn large_tensors_that_fill_no_block_begin_on_one_behind_small_ones() {
        let mut sizes = vec![(DType::F32, 30522 * 384); 12];
        sizes.extend([(DType::F32, 384); 100]);
        sizes.extend([(DType::F32, 384 * 384); 24]);
        let (declared, lens) = tensors(&sizes);
        let order = in_order(&declared, &lens, Order::Blocks);
        for (index, begin) in positions(&order, &lens) {
            assert!(lens[index as usize] < LARGE_BYTES_MIN || begin.is_multiple_of(BLOCK_BYTES), "tensor {index} at {begin}");
        }
    }

    #[test]
    fn without_small_tensors_that_fit_the_order_is_that_of_the_sizes() {
        let (declared, lens) = tensors(&[(DType::U8, 100_001), (DType::U8, 100_003), (DType::F32, 16), (DType::U8, 8192)]);
        assert_eq!(in_order(&declared, &lens, Order::Blocks), [2, 3, 1, 0]);
    }

    #[test]
    fn a_hundred_thousand_tensors_are_put_in_order_at_once() {
        let sizes: Vec<_> = (0..100_000u64).map(|nth| (DType::U8, if nth % 2 == 0 { 65_537 + nth } else { 1 + nth % 4095 })).collect();
        let (declared, lens) = tensors(&sizes);
        let order = in_order(&declared, &lens, Order::Blocks);
        let aligned = positions(&order, &lens)
            .iter()
            .filter(|(index, begin)| lens[*index as usize] > 65_536 && begin.is_multiple_of(BLOCK_BYTES))
            .count();
        assert!(aligned > 1000, "only {aligned}");
    }

    proptest! {
        #[test]
        fn every_tensor_is_there_once_and_wide_types_come_first(
            sizes in prop::collection::vec((prop::sample::select(vec![DType::F32, DType::BF16, DType::U8]), 0u64..200_000), 0..60),
        ) {
            let (declared, lens) = tensors(&sizes);
            let order = in_order(&declared, &lens, Order::Blocks);
            let mut all = order.clone();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len() as u32).collect::<Vec<_>>());
            let widths: Vec<_> = order.iter().map(|&index| declared[index as usize].dtype.bits()).collect();
            prop_assert!(widths.is_sorted_by(|a, b| a >= b));
            prop_assert_eq!(order, in_order(&declared, &lens, Order::Blocks));
        }
    }
}
