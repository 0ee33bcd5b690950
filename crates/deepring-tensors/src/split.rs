//! Tensors in several pieces, called *tiles*: each is a tensor of its own in a file. Pure.
//!
//! ```text
//!   a tensor of 4 x 6     tiles of two writers      a slice of rows 1 and 2: of each tile the runs that are in it
//!   [ a a a | b b b ]     a: 4 x 3 at [0, 0]        [ a a a b b b ]   two runs of each, which alternate in memory
//!   [ a a a | b b b ]     b: 4 x 3 at [0, 3]        [ a a a b b b ]
//! ```
//!
//! Tiles of whole rows are one run each, side by side.

use crate::dtype::DType;
use std::collections::HashMap;
use std::ops::Range;

/// A part of a tensor, in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) file: u32,
    /// Where its bytes begin in the file, and how many there are: at least one.
    pub(crate) position: u64,
    pub(crate) len: u64,
    /// Where it is in the tensor.
    pub(crate) start: Box<[u64]>,
    pub(crate) shape: Box<[u64]>,
}

impl Tile {
    fn end(&self) -> u64 {
        self.position + self.len
    }

    /// Checks that it can be put into a tensor of this shape: elements that share a byte must not come from two tiles. The error
    /// is a sentence.
    pub(crate) fn fits(&self, shape: &[u64], dtype: DType) -> Result<(), String> {
        let whole: Vec<Range<u64>> = shape.iter().map(|&extent| 0..extent).collect();
        Overlap::of(0, self, &whole, dtype).map(drop)
    }
}

/// The tiles of a table, which cover their tensors.
#[derive(Debug, Default)]
pub(crate) struct Split {
    /// Those of a tensor side by side.
    tiles: Vec<Tile>,
    /// By the index of a tensor.
    of: HashMap<u32, Range<u32>>,
    /// The tiles and their tensors, in the order of the files and of the bytes in each.
    order: Vec<(u32, u32)>,
}

impl Split {
    /// The tiles of each tensor that has several, by its index.
    pub(crate) fn new(tensors: impl IntoIterator<Item = (u32, Vec<Tile>)>) -> Self {
        let mut split = Self::default();
        for (tensor, tiles) in tensors {
            let first = split.tiles.len() as u32;
            split.order.extend((first..).zip(&tiles).map(|(tile, _)| (tile, tensor)));
            split.tiles.extend(tiles);
            split.of.insert(tensor, first..split.tiles.len() as u32);
        }
        let tiles = &split.tiles;
        split.order.sort_unstable_by_key(|&(tile, _)| (tiles[tile as usize].file, tiles[tile as usize].position));
        split
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// The numbers of the tiles of a tensor. `None`: it is in one piece.
    pub(crate) fn of(&self, tensor: u32) -> Option<Range<u32>> {
        // Most tables have none.
        if self.is_empty() { None } else { self.of.get(&tensor).cloned() }
    }

    pub(crate) fn tile(&self, number: u32) -> &Tile {
        &self.tiles[number as usize]
    }

    /// The tiles of a file, in the order of their bytes: number and tensor of each.
    pub(crate) fn in_file(&self, file: usize) -> &[(u32, u32)] {
        let file_of = |&(tile, _): &(u32, u32)| self.tile(tile).file as usize;
        let start = self.order.partition_point(|tile| file_of(tile) < file);
        let len = self.order[start..].partition_point(|tile| file_of(tile) == file);
        &self.order[start..start + len]
    }

    /// Where the last tile of a file ends.
    pub(crate) fn end(&self, file: usize) -> u64 {
        self.in_file(file).last().map_or(0, |&(tile, _)| self.tile(tile).end())
    }

    /// The tensor of which a tile has the byte at `position` of a file.
    pub(crate) fn tensor_at(&self, file: usize, position: u64) -> Option<u32> {
        let tiles = self.in_file(file);
        let after = tiles.partition_point(|&(tile, _)| self.tile(tile).position <= position);
        let (tile, tensor) = *tiles[..after].last()?;
        (position < self.tile(tile).end()).then_some(tensor)
    }
}

/// What a tile has of a slice: runs of bytes, equally long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// The number of the tile.
    pub(crate) tile: u32,
    /// Bytes of each run.
    pub(crate) len: u64,
    /// Where the first begins in the tile, and in the slice.
    from: u64,
    to: u64,
    /// How many there are in each outer dimension, and how far apart they begin in the tile and in the slice.
    outer: Vec<(u64, u64, u64)>,
}

impl Overlap {
    /// What a tile has of these ranges of its tensor. `None`: nothing. The error is a sentence.
    pub(crate) fn of(number: u32, tile: &Tile, ranges: &[Range<u64>], dtype: DType) -> Result<Option<Self>, String> {
        let common: Vec<Range<u64>> = ranges
            .iter()
            .zip(tile.start.iter().zip(&tile.shape))
            .map(|(range, (&start, &extent))| range.start.max(start)..range.end.min(start + extent))
            .collect();
        if common.iter().any(|range| range.start >= range.end) {
            return Ok(None);
        }
        let extent = |dimension: usize| common[dimension].end - common[dimension].start;
        let slice: Vec<u64> = ranges.iter().map(|range| range.end - range.start).collect();
        // From this dimension on, elements lie side by side in both.
        let is_whole = |&dimension: &usize| extent(dimension) == tile.shape[dimension] && extent(dimension) == slice[dimension];
        let inner = (0..slice.len()).rev().find(|dimension| !is_whole(dimension)).unwrap_or(0);
        let stride = |shape: &[u64], dimension: usize| shape[dimension + 1..].iter().product::<u64>();
        let bytes = |elements: u64| dtype.bytes_of(elements).ok_or_else(|| format!("its pieces cut elements of {dtype} inside of a byte"));
        let mut outer = Vec::new();
        for dimension in (0..inner).filter(|&dimension| extent(dimension) > 1) {
            let (from, to) = (bytes(stride(&tile.shape, dimension))?, bytes(stride(&slice, dimension))?);
            outer.push((extent(dimension), from, to));
        }
        let at = |shape: &[u64], begin: &dyn Fn(usize) -> u64| -> u64 {
            (0..shape.len()).map(|dimension| (common[dimension].start - begin(dimension)) * stride(shape, dimension)).sum()
        };
        let len = (inner..slice.len()).map(extent).product();
        let (from, to) = (at(&tile.shape, &|dimension| tile.start[dimension]), at(&slice, &|dimension| ranges[dimension].start));
        Ok(Some(Self { tile: number, len: bytes(len)?, from: bytes(from)?, to: bytes(to)?, outer }))
    }

    /// How many runs there are.
    pub(crate) fn count(&self) -> u64 {
        self.outer.iter().map(|(count, ..)| count).product()
    }

    /// Where the first run begins in the tile, and in the slice.
    pub(crate) fn first(&self) -> (u64, u64) {
        (self.from, self.to)
    }

    /// Where each run begins in the tile, and in the slice, in the order of both.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        (0..self.count()).map(|mut number| {
            let (mut from, mut to) = (self.from, self.to);
            for &(count, from_stride, to_stride) in self.outer.iter().rev() {
                from += number % count * from_stride;
                to += number % count * to_stride;
                number /= count;
            }
            (from, to)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Overlap, Split, Tile};
    use crate::dtype::DType;
    use proptest::prelude::*;
    use std::ops::Range;

    /// Cuts a box in two, and these again, as the numbers say: dimension and place of each cut.
    pub(crate) fn tiling(shape: &[u64], cuts: &[(usize, u64)], unit: u64) -> Vec<(Vec<u64>, Vec<u64>)> {
        let mut boxes = vec![(vec![0; shape.len()], shape.to_vec())];
        for &(dimension, place) in cuts.iter().filter(|_| !shape.is_empty()) {
            let which = place as usize % boxes.len();
            let (start, extents) = boxes[which].clone();
            let dimension = dimension % shape.len();
            // Elements that share a byte stay together.
            let unit = if dimension + 1 == shape.len() { unit } else { 1 };
            let at = place % (extents[dimension] / unit + 1) * unit;
            let (mut second_start, mut second) = (start, extents.clone());
            second_start[dimension] += at;
            second[dimension] -= at;
            boxes[which].1[dimension] = at;
            boxes.push((second_start, second));
        }
        boxes.retain(|(_, extents)| !extents.contains(&0));
        boxes
    }

    /// The bytes of a part of a tensor, element by element: by the definition. Two elements of 4 bits have one.
    pub(crate) fn part(bytes: &[u8], shape: &[u64], ranges: &[Range<u64>], bits: u64) -> Vec<u8> {
        // A byte for each element of fewer bits, and then the other way.
        let count = shape.iter().product::<u64>();
        let mut part = Vec::new();
        let mut halves = Vec::new();
        for element in 0..count {
            let mut rest = element;
            let is_in = (0..shape.len()).rev().all(|dimension| {
                let at = rest % shape[dimension];
                rest /= shape[dimension];
                ranges[dimension].contains(&at)
            });
            if !is_in {
                continue;
            }
            if bits == 4 {
                halves.push(bytes[element as usize / 2] >> (element % 2 * 4) & 15);
            } else {
                let at = (element * bits / 8) as usize;
                part.extend_from_slice(&bytes[at..at + bits as usize / 8]);
            }
        }
        part.extend(halves.chunks(2).map(|pair| pair[0] | pair[1] << 4));
        part
    }

    #[test]
    fn tiles_are_found_by_their_bytes() {
        let tile = |file, position, len| Tile { file, position, len, start: [0].into(), shape: [len].into() };
        let split = Split::new([(7, vec![tile(2, 100, 10), tile(0, 50, 10)]), (3, vec![tile(0, 60, 5), tile(2, 90, 10)])]);
        let at = |file, position| split.tensor_at(file, position);
        assert_eq!((at(0, 49), at(0, 50), at(0, 59), at(0, 60), at(0, 65)), (None, Some(7), Some(7), Some(3), None));
        assert_eq!((at(1, 50), at(2, 99), at(2, 100), at(3, 0)), (None, Some(3), Some(7), None));
        assert_eq!((split.end(0), split.end(1), split.end(2)), (65, 0, 110));
        assert_eq!((split.of(7), split.of(5)), (Some(0..2), None));
    }

    proptest! {
        #[test]
        fn the_runs_of_all_tiles_are_the_slice(
            dimensions in prop::collection::vec((1..5u64, 0..5u64, 0..5u64), 0..4),
            cuts in prop::collection::vec((0..4usize, any::<u64>()), 0..7),
            dtype in prop_oneof![Just(DType::U8), Just(DType::F32), Just(DType::F4)],
        ) {
            let unit = if dtype == DType::F4 { 2 } else { 1 };
            let last = dimensions.len().saturating_sub(1);
            let units = |dimension: usize| if dimension == last { unit } else { 1 };
            let mut shape: Vec<u64> = dimensions.iter().enumerate().map(|(at, &(extent, ..))| extent * units(at)).collect();
            if shape.is_empty() && unit == 2 { shape.push(2); }
            let ranges: Vec<Range<u64>> = shape.iter().enumerate().map(|(at, &extent)| {
                let (a, b) = dimensions.get(at).map_or((0, extent), |&(_, a, b)| (a * units(at), b * units(at)));
                a.min(b).min(extent)..a.max(b).min(extent)
            }).collect();
            let bits = u64::from(dtype.bits());
            let bytes: Vec<u8> = (0..shape.iter().product::<u64>() * bits / 8).map(|at| at as u8).collect();
            let wanted = part(&bytes, &shape, &ranges, bits);
            let mut found = vec![None; wanted.len()];
            for (number, (start, extents)) in tiling(&shape, &cuts, unit).into_iter().enumerate() {
                let within: Vec<Range<u64>> = start.iter().zip(&extents).map(|(&start, &extent)| start..start + extent).collect();
                let own = part(&bytes, &shape, &within, bits);
                let tile = Tile { file: 0, position: 0, len: own.len() as u64, start: start.into(), shape: extents.into() };
                let Some(overlap) = Overlap::of(number as u32, &tile, &ranges, dtype).expect("whole bytes") else { continue };
                prop_assert_eq!(overlap.runs().next(), Some(overlap.first()));
                prop_assert_eq!(overlap.runs().count() as u64, overlap.count());
                prop_assert!(overlap.runs().zip(overlap.runs().skip(1)).all(|(one, two)| one.0 < two.0 && one.1 < two.1));
                for (from, to) in overlap.runs() {
                    for at in 0..overlap.len {
                        let place = &mut found[(to + at) as usize];
                        prop_assert_eq!(place.replace(own[(from + at) as usize]), None, "twice");
                    }
                }
            }
            prop_assert_eq!(found, wanted.into_iter().map(Some).collect::<Vec<_>>());
        }
    }

    #[test]
    fn pieces_that_cut_a_byte_are_refused() {
        let tile = Tile { file: 0, position: 0, len: 6, start: [0, 0].into(), shape: [4, 3].into() };
        assert!(tile.fits(&[4, 6], DType::F4).expect_err("3 elements").contains("inside of a byte"));
    }
}
