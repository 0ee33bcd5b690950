//! Cells and extents: where the bytes of an object are in the slab. Pure.
//!
//! ```text
//!   object   | extent 0: 4 MiB              | extent 1      |         an extent is what is allocated and evicted,
//!            | cell | cell | ... | cell     | cell | cell ' |         a cell is what is fetched and has a checksum
//!   slab     | slot 0 | slot 1 | slot 2 | ...                         any extent in any slot
//! ```
//!
//! The last cell of an object ends with it. In the slab, its bytes are followed by zeros up to a multiple of [`UNIT_BYTES`].

use std::ops::Range;

/// The unit of allocation and of eviction: large enough that an index of a terabyte fits into memory.
pub(crate) const EXTENT_BYTES: u64 = 4 << 20;

/// Positions and lengths of direct I/O are multiples of this on all drives.
pub(crate) const UNIT_BYTES: u64 = 4096;

/// What lies between two missing cells is fetched with them, up to this many bytes: a request costs more.
pub(crate) const GAP_BYTES: u64 = 1 << 20;

/// The sizes of cells that are possible: below, a record would have no room for the checksums.
pub(crate) const CELL_BYTES: Range<u64> = 16 << 10..EXTENT_BYTES + 1;

/// A part of one extent: whole cells, counted from the start of the extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) extent: u64,
    pub(crate) cells: Range<u64>,
}

/// How objects are cut. All cells of a tier have one size, a power of two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) cell: u64,
}

impl Geometry {
    /// The cells of an extent.
    pub(crate) fn per_extent(self) -> u64 {
        EXTENT_BYTES / self.cell
    }

    /// The cells that have bytes of these ranges: sorted runs that do not touch.
    pub(crate) fn runs(self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let cells = |range: &Range<u64>| range.start / self.cell..range.end.div_ceil(self.cell);
        let mut runs: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).map(cells).collect();
        runs.sort_unstable_by_key(|run| (run.start, run.end));
        runs.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        runs
    }

    /// The bytes of a run of cells, in an object of this size.
    pub(crate) fn bytes(self, cells: &Range<u64>, size: u64) -> Range<u64> {
        cells.start * self.cell..(cells.end * self.cell).min(size)
    }

    /// The cells that are whole in a range, in an object of this size: the last cell of an object ends with it.
    pub(crate) fn whole(self, range: &Range<u64>, size: u64) -> Range<u64> {
        let start = range.start.div_ceil(self.cell);
        let end = if range.end == size { size.div_ceil(self.cell) } else { range.end / self.cell };
        start..end.max(start)
    }

    /// A run of cells, by extent.
    pub(crate) fn parts(self, cells: Range<u64>) -> impl Iterator<Item = Part> {
        let per_extent = self.per_extent();
        let mut at = cells.start;
        std::iter::from_fn(move || {
            if at >= cells.end {
                return None;
            }
            let extent = at / per_extent;
            let base = extent * per_extent;
            let end = cells.end.min(base + per_extent);
            let part = Part { extent, cells: at - base..end - base };
            at = end;
            Some(part)
        })
    }
}

/// What bytes take in the slab.
pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GEOMETRY: Geometry = Geometry { cell: 64 << 10 };

    #[test]
    fn ranges_that_share_or_touch_cells_become_one_run() {
        let ranges = [700_000..700_001, 10..20, 65_536..65_537, 0..0, 131_072..131_073, 100..70_000];
        assert_eq!(GEOMETRY.runs(&ranges), [0..3, 10..11]);
    }

    #[test]
    fn only_whole_cells_count_and_the_last_one_ends_with_the_object() {
        assert_eq!(GEOMETRY.whole(&(0..65_536), 100_000), 0..1);
        assert_eq!(GEOMETRY.whole(&(0..100_000), 100_000), 0..2);
        assert_eq!(GEOMETRY.whole(&(1..65_536), 100_000), 1..1);
        assert_eq!(GEOMETRY.whole(&(1..100_000), 100_000), 1..2);
        assert_eq!(GEOMETRY.whole(&(0..0), 0), 0..0);
        assert_eq!(GEOMETRY.bytes(&(0..2), 100_000), 0..100_000);
    }

    proptest! {
        #[test]
        fn parts_are_the_run_without_a_gap(start in 0u64..1000, len in 0u64..1000, cell in prop::sample::select(vec![16u64 << 10, 64 << 10, 4 << 20])) {
            let geometry = Geometry { cell };
            let parts: Vec<_> = geometry.parts(start..start + len).collect();
            let absolute = |part: &Part| part.extent * geometry.per_extent() + part.cells.start..part.extent * geometry.per_extent() + part.cells.end;
            prop_assert!(parts.iter().all(|part| !part.cells.is_empty() && part.cells.end <= geometry.per_extent()));
            prop_assert!(parts.windows(2).all(|pair| absolute(&pair[0]).end == absolute(&pair[1]).start));
            prop_assert_eq!(parts.first().map_or(start, |part| absolute(part).start), start);
            prop_assert_eq!(parts.last().map_or(start + len, |part| absolute(part).end), start + len);
        }

        #[test]
        fn every_byte_is_in_the_run_of_its_cell(ranges in prop::collection::vec((0u64..1 << 24, 0u64..1 << 20), 0..30)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, len)| start..start + len).collect();
            let runs = GEOMETRY.runs(&ranges);
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
            for range in ranges.iter().filter(|range| !range.is_empty()) {
                prop_assert!(runs.iter().any(|run| run.start * GEOMETRY.cell <= range.start && range.end <= run.end * GEOMETRY.cell));
            }
        }
    }
}
