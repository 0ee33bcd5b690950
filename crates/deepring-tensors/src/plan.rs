//! [`Plan`]: which bytes of which file go where in memory. Pure.
//!
//! Tensors that follow each other are read together, in groups that each become one buffer. Within a buffer, a run of bytes
//! begins at the same offset from a page as it does in the file (modulo 4096, **congruent**): then direct I/O reaches it
//! without a copy, wherever in the file the tensors begin. The pages that a long run begins and ends in are its own, so that
//! they are read whole: from a unit of the file to a unit of the file, in one operation. A tensor whose position in the file
//! breaks the alignment of its elements begins a run of its own, which is shifted until they are aligned, and which costs a
//! copy. Short runs are packed.

use crate::error::Result;
use crate::slice::{Runs, Slice};
use crate::table::{Selection, Table};
use deepring::Piece;
use std::collections::HashMap;
use std::ops::Range;

/// What memory and positions of a direct transfer are multiples of, on every file system that has direct I/O.
const PAGE_BYTES: u64 = 4096;

/// Shorter runs are packed: reading them costs a copy in any case, and a page of room would cost more.
const PACKED_BYTES_MAX: u64 = 16 << 10;

/// Where a packed run begins: a cache line, which suits every element type.
const PACKED_ALIGN: u64 = 64;

/// Runs shorter than this are read together over small gaps.
const SPARSE_BYTES_MAX: u64 = 16 << 10;

/// Bytes between them that are read and dropped: about what a drive reads in the time of one more operation.
const GAP_BYTES: u64 = 32 << 10;

/// Ranges of one call: less than the engine takes.
pub(crate) const PIECES_MAX: usize = 1 << 19;

/// How to plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// A group has no more bytes, unless one tensor has.
    pub(crate) group_bytes: u64,
    /// Each tensor is a range of its own, so that it gets its own checksum, and nothing is read beside it.
    pub(crate) separate: bool,
    /// There is nothing between the tensors: their memory is given.
    pub(crate) packed: bool,
}

/// Where a tensor is: the group, and the offset in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) offset: u64,
}

/// What is read into one buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) file: usize,
    /// The size of the buffer.
    pub(crate) bytes: u64,
    /// The runs, in the order of the file unless the tensors are in another. See [`Group::reads`].
    pub(crate) pieces: Vec<Piece>,
    /// Nothing is read beside them.
    exact: bool,
    /// The file is at least as long.
    file_end: u64,
    /// Bytes between runs that are read and dropped.
    pub(crate) gap: u64,
    /// Which tensors of the selection it has.
    pub(crate) tensors: Range<usize>,
}

impl Group {
    /// What it takes of a budget: the rooms in front of the first byte and behind the last are less than a page, and not
    /// counted, so that a budget of the largest tensor suffices.
    pub(crate) fn cost(&self) -> u64 {
        let (Some(first), Some(last)) = (self.pieces.first(), self.pieces.last()) else { return 0 };
        (last.offset + last.len - first.offset) as u64
    }

    /// What is read for the pieces at these places: long ones from the beginning of the page of their first byte to the end
    /// of that of their last, unless others have bytes there, in the buffer or in the file, or the file ends before.
    pub(crate) fn reads(&self, chosen: Range<usize>) -> impl Iterator<Item = Piece> + '_ {
        // In another order, neighbors in the file are not next to each other here.
        let widens = !self.exact && self.pieces.is_sorted_by_key(|piece| piece.position);
        chosen.map(move |at| {
            let piece = self.pieces[at];
            if !widens || !is_long(&piece) {
                return piece;
            }
            let before = at.checked_sub(1).map_or((0, 0), |before| ends(&self.pieces[before]));
            let behind = self.pieces.get(at + 1).map_or((self.file_end, self.bytes), |next| (next.position, next.offset as u64));
            let ((position, offset), (end, offset_end)) = ((piece.position, piece.offset as u64), ends(&piece));
            let mut head = position % PAGE_BYTES;
            let mut tail = end.next_multiple_of(PAGE_BYTES) - end;
            if before.0 > position - head || before.1 > offset - head {
                head = 0;
            }
            if behind.0 < end + tail || behind.1 < offset_end + tail {
                tail = 0;
            }
            Piece::new(position - head, piece.offset - head as usize, piece.len + (head + tail) as usize)
        })
    }

    /// The parts of the buffer that nothing is read into.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let reads = || self.reads(0..self.pieces.len());
        let starts = reads().map(|piece| piece.offset).chain([self.bytes as usize]);
        let ends = [0].into_iter().chain(reads().map(|piece| piece.offset + piece.len));
        ends.zip(starts).map(|(end, start)| end..start).filter(|gap| !gap.is_empty())
    }
}

/// Where a piece ends in the file and in the buffer.
fn ends(piece: &Piece) -> (u64, u64) {
    (piece.position + piece.len as u64, (piece.offset + piece.len) as u64)
}

/// Whether direct I/O reaches it, and it is worth pages of its own.
fn is_long(piece: &Piece) -> bool {
    piece.len as u64 >= PACKED_BYTES_MAX && piece.position % PAGE_BYTES == piece.offset as u64 % PAGE_BYTES
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) groups: Vec<Group>,
    /// By the place of a tensor in the selection.
    pub(crate) places: Vec<Place>,
    /// The same of tensors that are sliced, by their index in the table.
    pub(crate) sliced: HashMap<u32, Runs>,
    /// Bytes of the tensors, and slices of tensors.
    pub(crate) bytes: u64,
    /// Tensors whose position in the file breaks the alignment of their elements.
    pub(crate) realigned: u64,
}

impl Plan {
    /// The plan for these tensors, in their order, of which some are sliced.
    pub(crate) fn new(table: &Table, selection: &Selection, slices: &HashMap<u32, Slice>, rules: Rules) -> Result<Self> {
        let mut runs_of = HashMap::new();
        for (&index, slice) in slices {
            runs_of.insert(index, table.runs(index as usize, slice)?);
        }
        let extent = |index: u32| {
            let (begin, len) = (table.columns.begins[index as usize], table.columns.lens[index as usize]);
            match runs_of.get(&index) {
                None => Some((begin, len)),
                Some(runs) if runs.count() <= 1 => Some((begin + runs.iter().next().unwrap_or(0), runs.len)),
                Some(_) => None,
            }
        };
        let rests = rests(selection, extent);
        let mut builder = Builder { table, rules, rests, groups: Vec::new(), places: Vec::new(), realigned: 0, end: 0, run: None };
        let mut bytes = 0;
        for (nth, &index) in selection.indices.iter().enumerate() {
            if let Some((position, len)) = extent(index) {
                bytes += len;
                builder.add(nth, index as usize, position, len);
            } else if let Some(runs) = runs_of.get(&index) {
                bytes += runs.bytes();
                builder.add_runs(nth, index as usize, runs);
            }
        }
        builder.close();
        let Builder { groups, places, realigned, .. } = builder;
        Ok(Self { groups, places, sliced: runs_of, bytes, realigned })
    }
}

/// A run that the next tensor can go on with.
#[derive(Clone, Copy)]
struct Run {
    /// Where it ends in the file and in the buffer.
    position: u64,
    offset: u64,
}

impl Run {
    /// Direct I/O reaches it.
    fn is_congruent(self) -> bool {
        self.position % PAGE_BYTES == self.offset % PAGE_BYTES
    }
}

struct Builder<'t> {
    table: &'t Table,
    rules: Rules,
    /// See [`rests`].
    rests: Vec<u64>,
    groups: Vec<Group>,
    places: Vec<Place>,
    realigned: u64,
    /// Where the open group ends in its buffer so far.
    end: u64,
    run: Option<Run>,
}

impl Builder<'_> {
    /// Adds a tensor, or a slice of one, whose bytes lie side by side.
    fn add(&mut self, nth: usize, index: usize, position: u64, len: u64) {
        let (align, file) = (self.align_of(index), self.table.file_of(index));
        if len > 0 && !position.is_multiple_of(align) {
            self.realigned += 1;
        }
        // Empty tensors need no bytes, and interrupt no run.
        if len == 0 {
            self.enter(file, nth, 0, 0);
            self.place(0);
            return;
        }
        // A large tensor whose alignment is right does not go on with a run that is shifted for others.
        let suits = |run: &Run| run.is_congruent() || !position.is_multiple_of(align) || len < PACKED_BYTES_MAX;
        let goes_on = |run: &Run| run.position == position && run.offset.is_multiple_of(align) && suits(run);
        let follows = self.run.filter(goes_on).map(|run| run.offset);
        let offset = follows.unwrap_or_else(|| self.start(self.end(), position, align, self.rests[nth]));
        if self.enter(file, nth, offset + len, 1) {
            self.place(offset);
            self.extend(position, offset, len, follows.is_some());
        } else {
            // A new group.
            let offset = self.start(0, position, align, self.rests[nth]);
            self.place(offset);
            self.extend(position, offset, len, false);
        }
    }

    /// Adds a slice of several runs, one behind the other.
    fn add_runs(&mut self, nth: usize, index: usize, runs: &Runs) {
        let begin = self.table.columns.begins[index];
        let (align, file) = (self.align_of(index), self.table.file_of(index));
        let first = begin + runs.iter().next().unwrap_or(0);
        if !first.is_multiple_of(align) {
            self.realigned += 1;
        }
        let offset = self.start(self.end(), first, align, runs.len);
        let fits = self.enter(file, nth, offset + runs.bytes(), runs.count() as usize);
        let offset = if fits { offset } else { self.start(0, first, align, runs.len) };
        self.place(offset);
        let mut to = offset;
        for at in runs.iter() {
            self.extend(begin + at, to, runs.len, false);
            to += runs.len;
        }
        if runs.len < SPARSE_BYTES_MAX
            && let Some(group) = self.groups.last_mut()
        {
            group.gap = GAP_BYTES;
        }
        self.run = None;
    }

    /// Makes room in the open group for a tensor that ends at `end` of its buffer. False if it begins another group.
    fn enter(&mut self, file: usize, nth: usize, end: u64, pieces: usize) -> bool {
        let fits = self.groups.last().is_some_and(|group| {
            let full = end > self.rules.group_bytes && self.end > 0;
            group.file == file && !full && group.pieces.len() + pieces <= PIECES_MAX
        });
        if !fits {
            self.close();
            let (exact, file_end) = (self.rules.separate, self.table.known_end(file));
            self.groups.push(Group { file, bytes: 0, pieces: Vec::new(), exact, file_end, gap: 0, tensors: nth..nth });
        }
        if let Some(group) = self.groups.last_mut() {
            group.tensors.end = nth + 1;
        }
        fits
    }

    fn place(&mut self, offset: u64) {
        let group = self.groups.len() as u32 - 1;
        self.places.push(Place { group, offset });
    }

    /// Reads `len` bytes from `position` on to `offset`, in the open group.
    fn extend(&mut self, position: u64, offset: u64, len: u64, follows: bool) {
        let Some(group) = self.groups.last_mut() else { return };
        match group.pieces.last_mut() {
            Some(last) if follows && !self.rules.separate => last.len += len as usize,
            _ => group.pieces.push(Piece::new(position, offset as usize, len as usize)),
        }
        self.end = offset + len;
        self.run = Some(Run { position: position + len, offset: offset + len });
    }

    fn align_of(&self, index: usize) -> u64 {
        self.table.columns.dtype(index).map_or(1, |dtype| dtype.align() as u64)
    }

    /// Where the open group ends so far, with the whole of the last page of a long run.
    fn end(&self) -> u64 {
        let last = self.groups.last().and_then(|group| group.pieces.last());
        let is_wide = !self.rules.separate && last.is_some_and(is_long);
        if is_wide { self.end.next_multiple_of(PAGE_BYTES) } else { self.end }
    }

    /// Where a run that begins at `position` of the file goes in a buffer that is taken up to `end`, if `rest` bytes follow
    /// there.
    fn start(&self, end: u64, position: u64, align: u64, rest: u64) -> u64 {
        if self.rules.packed {
            return end;
        }
        if rest < PACKED_BYTES_MAX {
            return end.next_multiple_of(PACKED_ALIGN);
        }
        // What breaks the alignment is shifted to the next smaller place that does not.
        end.next_multiple_of(PAGE_BYTES) + (position - position % align) % PAGE_BYTES
    }

    /// Ends the open group.
    fn close(&mut self) {
        let end = self.end();
        if let Some(group) = self.groups.last_mut() {
            group.bytes = end;
        }
        (self.end, self.run) = (0, None);
    }
}

/// Of each tensor of a selection, how many bytes from its first on follow each other in the file, as far as it matters. From
/// the last one on, because a header can make each look at all that follow.
fn rests(selection: &Selection, extent: impl Fn(u32) -> Option<(u64, u64)>) -> Vec<u64> {
    let mut rests = vec![0; selection.len()];
    let (mut next, mut rest) = (None, 0);
    for (nth, &index) in selection.indices.iter().enumerate().rev() {
        let Some((position, len)) = extent(index) else {
            next = None;
            continue;
        };
        let behind = if next == Some(position + len) { rest } else { 0 };
        rest = (len + behind).min(PACKED_BYTES_MAX);
        rests[nth] = rest;
        next = Some(position);
    }
    rests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::{Columns, Kind};
    use crate::dtype::DType;
    use crate::table::TableFile;
    use proptest::prelude::*;

    const TYPES: [DType; 5] = [DType::U8, DType::BF16, DType::F32, DType::F64, DType::F4];

    /// A file of tensors one behind the other, from `start` on.
    fn table(start: u64, tensors: &[(usize, u64)]) -> Table {
        let mut columns = Columns::default();
        let mut position = start;
        for (index, &(dtype, elements)) in tensors.iter().enumerate() {
            let dtype = TYPES[dtype];
            let elements = if dtype == DType::F4 { elements * 2 } else { elements };
            columns.names.add(&index.to_string()).expect("a new name");
            columns.kinds.push(Kind::Known(dtype));
            columns.shapes.push([elements]);
            columns.begins.push(position);
            columns.lens.push(dtype.bytes_of(elements).expect("whole bytes"));
            position += columns.lens[index];
        }
        let files = vec![TableFile { path: "model".into(), tensors: 0..tensors.len() }];
        Table::new(columns, files)
    }

    /// What is read has all of the pieces, and neither overlaps in the buffer nor leaves it nor the file. With what is not
    /// read, it is the buffer. Of long runs it is whole units.
    fn check_reads(group: &Group, file_end: u64, separate: bool, backwards: bool) -> std::result::Result<(), TestCaseError> {
        let reads: Vec<Piece> = group.reads(0..group.pieces.len()).collect();
        prop_assert_eq!(reads.len(), group.pieces.len());
        let (mut end, mut file_end_before) = (0, 0);
        for (nth, (read, piece)) in reads.iter().zip(&group.pieces).enumerate() {
            prop_assert!(read.offset >= end && piece.len > 0);
            let head = piece.offset - read.offset;
            prop_assert_eq!(piece.position - read.position, head as u64);
            prop_assert!(read.len >= head + piece.len && read.position + read.len as u64 <= file_end);
            prop_assert!(backwards || read.position >= file_end_before, "the same bytes twice");
            (end, file_end_before) = (read.offset + read.len, read.position + read.len as u64);
            if separate || backwards || !is_long(piece) {
                prop_assert!(read == piece || backwards);
                continue;
            }
            // Both ends are those of units, unless a neighbor has bytes in the unit, or the file ends there.
            let first = piece.position - piece.position % PAGE_BYTES;
            let last = (piece.position + piece.len as u64).next_multiple_of(PAGE_BYTES);
            let shared = nth > 0 && ends(&group.pieces[nth - 1]).0 > first;
            prop_assert!(read.position == first || shared, "{:?} of {:?}", read, piece);
            let shared = group.pieces.get(nth + 1).is_some_and(|next| next.position < last);
            prop_assert!(file_end_before == last || shared || last > file_end, "{:?} of {:?}", read, piece);
        }
        prop_assert!(end as u64 <= group.bytes);
        let gaps: usize = group.gaps().map(|gap| gap.len()).sum();
        prop_assert_eq!(gaps + reads.iter().map(|read| read.len).sum::<usize>(), group.bytes as usize);
        Ok(())
    }

    fn sizes() -> impl Strategy<Value = (usize, u64)> {
        (0..TYPES.len(), prop_oneof![0..9u64, 1000..2000u64, 5000..40_000u64])
    }

    proptest! {
        #[test]
        fn every_byte_comes_to_its_place_and_every_tensor_is_aligned(
            start in 0..5000u64,
            tensors in prop::collection::vec(sizes(), 1..40),
            chosen in prop::collection::vec((any::<bool>(), prop::option::of((0..4u64, 0..5u64))), 40),
            (separate, packed, backwards) in prop_oneof![
                4 => any::<bool>().prop_map(|separate| (separate, false, false)),
                1 => Just((true, true, false)),
                1 => Just((false, false, true)),
            ],
            group_bytes in 1..300_000u64,
        ) {
            let table = table(start, &tensors);
            let mut indices: Vec<usize> = (0..tensors.len()).filter(|&index| chosen[index].0).collect();
            if backwards {
                indices.reverse();
            }
            let selection = table.selection(indices);
            // Of some, some quarters.
            let sliced = |index: u32| {
                let elements = table.info(index as usize).shape[0];
                let (first, last) = chosen[index as usize].1?;
                let at = |quarter: u64| elements * quarter / 8 * 2;
                Some(at(first.min(last))..if last == 4 { elements } else { at(first.max(last)) })
            };
            let extent = |index: u32| {
                let info = table.info(index as usize);
                let bytes = |elements| info.dtype.expect("known").bytes_of(elements).expect("whole bytes");
                sliced(index).map_or((info.position, info.len), |range| (info.position + bytes(range.start), bytes(range.end - range.start)))
            };
            let slices = selection.indices.iter().filter_map(|&index| Some((index, Slice::new([Some(sliced(index)?)])))).collect();
            let plan = Plan::new(&table, &selection, &slices, Rules { group_bytes, separate, packed }).expect("a plan");
            prop_assert_eq!(plan.bytes, selection.indices.iter().map(|&index| extent(index).1).sum::<u64>());
            let mut nth = 0;
            for group in &plan.groups {
                check_reads(group, table.known_end(0), separate, backwards)?;
                let several = group.tensors.len() > 1 && group.pieces.len() > 1;
                prop_assert!(!several || group.bytes <= group_bytes.next_multiple_of(PAGE_BYTES) || group.tensors.len() == 1
                    || group.tensors.clone().filter(|&nth| extent(selection.indices[nth]).1 > 0).count() == 1);
                prop_assert_eq!(group.tensors.start, nth);
                nth = group.tensors.end;
            }
            prop_assert_eq!(nth, selection.len());
            for (&index, place) in selection.indices.iter().zip(&plan.places) {
                let (position, len) = extent(index);
                let align = table.columns.dtype(index as usize).expect("known").align() as u64;
                prop_assert!(packed || place.offset % align == 0);
                if len == 0 { continue; }
                let group = &plan.groups[place.group as usize];
                // One piece has the whole tensor, and brings it where the place says.
                let piece = group.pieces.iter().find(|piece| {
                    (piece.offset as u64) <= place.offset && place.offset + len <= (piece.offset + piece.len) as u64
                }).expect("a piece");
                prop_assert_eq!(piece.position + (place.offset - piece.offset as u64), position);
                // A large tensor is reached directly, unless the file forbids it.
                if len >= PACKED_BYTES_MAX && position % align == 0 && !packed {
                    prop_assert_eq!(place.offset % PAGE_BYTES, position % PAGE_BYTES);
                }
            }
        }
    }

    #[test]
    fn a_whole_file_is_one_run_a_group() {
        let table = table(3224, &[(2, 1000); 100]);
        let plan = Plan::new(&table, &table.all(), &HashMap::new(), Rules { group_bytes: 100_000, separate: false, packed: false })
            .expect("a plan");
        assert!(plan.groups.iter().all(|group| group.pieces.len() == 1), "{:?}", plan.groups);
        assert_eq!((plan.groups.len(), plan.groups[0].pieces[0].offset), (5, 3224));
    }

    #[test]
    fn planning_takes_no_longer_than_a_table_is() {
        // Each of the first breaks the run before it, and all are followed by half a million.
        let mut sizes = [(0, 1), (2, 1)].repeat(5_000);
        sizes.resize(500_000, (0, 0));
        let table = table(8, &sizes);
        let begun = std::time::Instant::now();
        let plan = Plan::new(&table, &table.all(), &HashMap::new(), Rules { group_bytes: 64 << 20, separate: false, packed: false })
            .expect("a plan");
        assert_eq!((plan.groups.len(), plan.places.len()), (1, 500_000));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn the_budget_of_the_largest_tensor_suffices() {
        let table = table(3224, &[(2, 25_000); 3]);
        let plan =
            Plan::new(&table, &table.all(), &HashMap::new(), Rules { group_bytes: 1, separate: false, packed: false }).expect("a plan");
        assert_eq!(plan.groups.iter().map(Group::cost).collect::<Vec<_>>(), [100_000; 3]);
    }

    #[test]
    fn slices_are_packed_and_sparse_ones_read_over_gaps() {
        let table = table(8, &[(2, 1 << 20), (2, 10)]);
        let mut columns = table.columns;
        columns.shapes = crate::shapes::Shapes::default();
        columns.shapes.push([1024, 1024]);
        columns.shapes.push([10]);
        let table = Table::new(columns, table.files);
        let rules = Rules { group_bytes: 64 << 20, separate: false, packed: false };
        let rows = HashMap::from([(0, Slice::new([Some(100..228)]))]);
        let plan = Plan::new(&table, &table.all(), &rows, rules).expect("a plan");
        let group = &plan.groups[0];
        assert_eq!((group.pieces[0].len, group.gap, group.pieces.len(), plan.bytes), (128 * 4096, 0, 2, 128 * 4096 + 40));
        let column = HashMap::from([(0, Slice::new([None, Some(3..5)]))]);
        let plan = Plan::new(&table, &table.all(), &column, rules).expect("a plan");
        let group = &plan.groups[0];
        assert_eq!((group.pieces.len(), group.gap, group.pieces[1]), (1025, GAP_BYTES, Piece::new(8 + 4096 + 12, 8, 8)));
    }
}
