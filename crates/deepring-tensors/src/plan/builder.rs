//! [`Builder`]: gives tensors their places, group by group.

use super::group::{Check, FileReads, Group, ends, is_long};
use super::{GAP_BYTES, PACKED_ALIGN, PACKED_BYTES_MAX, PAGE_BYTES, PIECES_MAX, Place, Rules, Run, SPARSE_BYTES_MAX, Wanted};
use crate::slice::Runs;
use crate::split::Overlap;
use crate::table::Table;
use deepring::Piece;
use std::collections::HashMap;

/// A run that the next tensor can go on with.
#[derive(Clone, Copy)]
struct Open {
    /// Where it ends in the file and in the buffer.
    position: u64,
    offset: u64,
}

impl Open {
    /// Direct I/O reaches it.
    fn is_congruent(self) -> bool {
        self.position % PAGE_BYTES == self.offset % PAGE_BYTES
    }
}

/// A tensor in one piece, or a tile: a part of a file.
#[derive(Clone, Copy)]
struct Stored {
    tensor: u32,
    file: usize,
    position: u64,
    len: u64,
    /// The number of its first checksum.
    sum: Option<u32>,
}

pub(super) struct Builder<'t> {
    table: &'t Table,
    rules: Rules<'t>,
    /// See [`rests`](super::rests).
    rests: Vec<u64>,
    groups: Vec<Group>,
    places: Vec<Place>,
    realigned: u64,
    /// The file that the tensors of the open group begin in, and the places of all its files among its reads.
    file: usize,
    reads: HashMap<usize, usize>,
    /// Pieces of the open group.
    pieces: usize,
    /// The one that ends last in the buffer.
    last: Option<Piece>,
    /// Where the open group ends in its buffer so far.
    end: u64,
    run: Option<Open>,
}

impl<'t> Builder<'t> {
    pub(super) fn new(table: &'t Table, rules: Rules<'t>, rests: Vec<u64>) -> Self {
        let (groups, places, reads) = (Vec::new(), Vec::new(), HashMap::new());
        Self { table, rules, rests, groups, places, realigned: 0, file: 0, reads, pieces: 0, last: None, end: 0, run: None }
    }

    /// The groups, the place of each tensor, and how many tensors are not aligned in their file.
    pub(super) fn end(mut self) -> (Vec<Group>, Vec<Place>, u64) {
        self.close();
        (self.groups, self.places, self.realigned)
    }

    /// Adds a tensor, or a slice of one.
    pub(super) fn add(&mut self, nth: usize, index: u32, wanted: &Wanted<'_>) {
        match wanted {
            Wanted::Run(run) => self.add_run(nth, index, *run),
            Wanted::Runs(runs) => self.add_runs(nth, index, runs),
            Wanted::Tiles(overlaps) => self.add_tiles(nth, index, overlaps),
        }
    }

    /// Adds bytes that lie side by side.
    fn add_run(&mut self, nth: usize, index: u32, Run { position, len }: Run) {
        let (align, file) = (self.align_of(index), self.table.file_of(index as usize));
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
        let suits = |run: &Open| run.is_congruent() || !position.is_multiple_of(align) || len < PACKED_BYTES_MAX;
        let goes_on = |run: &Open| run.position == position && run.offset.is_multiple_of(align) && suits(run);
        let follows = self.run.filter(goes_on).map(|run| run.offset);
        let offset = follows.unwrap_or_else(|| self.start(self.taken(), position, align, self.rests[nth]));
        let fits = self.enter(file, nth, offset + len, 1);
        // Else it begins a new group.
        let offset = if fits { offset } else { self.start(0, position, align, self.rests[nth]) };
        self.place(offset);
        self.extend(self.stored(index), position, offset, len, fits && follows.is_some());
        self.run = Some(Open { position: position + len, offset: offset + len });
    }

    /// Adds a slice of several runs, one behind the other.
    fn add_runs(&mut self, nth: usize, index: u32, runs: &Runs) {
        let stored = self.stored(index);
        let first = stored.position + runs.iter().next().unwrap_or(0);
        let offset = self.make_room(nth, index, stored.file, first, runs.len, runs.bytes(), runs.count());
        for (nth, at) in runs.iter().enumerate() {
            self.extend(stored, stored.position + at, offset + nth as u64 * runs.len, runs.len, false);
        }
        self.thin(runs.len);
    }

    /// Adds what tiles have of a tensor or a slice.
    fn add_tiles(&mut self, nth: usize, index: u32, overlaps: &[Overlap]) {
        let file = self.table.file_of(index as usize);
        let bytes = overlaps.iter().map(|overlap| overlap.len * overlap.count()).sum();
        let count = overlaps.iter().map(Overlap::count).sum();
        // The first byte of a slice is that of the first run of a tile. A slice without bytes has no tile.
        let first = overlaps.iter().find(|overlap| overlap.first().1 == 0);
        let (position, len) = first.map_or((0, 0), |first| (self.table.split.tile(first.tile).position + first.first().0, first.len));
        let offset = self.make_room(nth, index, file, position, len, bytes, count);
        for overlap in overlaps {
            let tile = self.table.split.tile(overlap.tile);
            let sum = self.rules.sums.and_then(|sums| sums.of_tile(overlap.tile));
            let stored = Stored { tensor: index, file: tile.file as usize, position: tile.position, len: tile.len, sum };
            for (from, to) in overlap.runs() {
                self.extend(stored, tile.position + from, offset + to, overlap.len, false);
            }
            self.thin(overlap.len);
        }
        // Where a slice without bytes is.
        self.end = self.end.max(offset);
    }

    /// Makes room for a tensor of several runs. Returns where its bytes begin.
    #[expect(clippy::too_many_arguments, reason = "each says one thing about the tensor")]
    fn make_room(&mut self, nth: usize, index: u32, file: usize, first: u64, len: u64, bytes: u64, count: u64) -> u64 {
        let align = self.align_of(index);
        if bytes > 0 && !first.is_multiple_of(align) {
            self.realigned += 1;
        }
        let offset = self.start(self.taken(), first, align, len);
        let fits = self.enter(file, nth, offset + bytes, count as usize);
        let offset = if fits { offset } else { self.start(0, first, align, len) };
        self.place(offset);
        self.run = None;
        offset
    }

    /// Short runs are read together over small gaps.
    fn thin(&mut self, len: u64) {
        if len < SPARSE_BYTES_MAX
            && let Some(group) = self.groups.last_mut()
        {
            group.gap = GAP_BYTES;
        }
    }

    /// Makes room in the open group for a tensor that ends at `end` of its buffer. False if it begins another group.
    fn enter(&mut self, file: usize, nth: usize, end: u64, pieces: usize) -> bool {
        let fits = !self.groups.is_empty() && {
            let full = end > self.rules.group_bytes && self.end > 0;
            self.file == file && !full && self.pieces + pieces <= PIECES_MAX
        };
        if !fits {
            self.close();
            self.file = file;
            self.groups.push(Group { bytes: 0, files: Vec::new(), exact: self.rules.separate, gap: 0, tensors: nth..nth });
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

    /// A tensor in one piece.
    fn stored(&self, index: u32) -> Stored {
        let columns = &self.table.columns;
        let (file, position, len) = (self.table.file_of(index as usize), columns.begins[index as usize], columns.lens[index as usize]);
        Stored { tensor: index, file, position, len, sum: self.rules.sums.and_then(|sums| sums.of_tensor(index as usize)) }
    }

    /// Reads `len` bytes of a tensor or tile, from `position` of its file on, to `offset` in the open group. What has a checksum
    /// and is read as a whole is a piece of its own.
    fn extend(&mut self, stored: Stored, position: u64, offset: u64, len: u64, follows: bool) {
        let Some((sums, first)) = self.rules.sums.zip(stored.sum) else {
            return self.push(stored.file, Piece::new(position, offset as usize, len as usize), follows, None);
        };
        let (from, end) = (position - stored.position, position - stored.position + len);
        for chunk in sums.chunks_of(first, stored.file, stored.len, from, len) {
            let (begin, chunk_end) = (chunk.at.max(from), (chunk.at + chunk.len).min(end));
            let is_whole = chunk_end - begin == chunk.len;
            let piece = Piece::new(stored.position + begin, (offset + begin - from) as usize, (chunk_end - begin) as usize);
            self.push(stored.file, piece, false, is_whole.then_some((stored.tensor, chunk.sum)));
        }
    }

    fn push(&mut self, file: usize, piece: Piece, follows: bool, check: Option<(u32, u32)>) {
        let Some(group) = self.groups.last_mut() else { return };
        let place = *self.reads.entry(file).or_insert_with(|| {
            group.files.push(FileReads::new(file, self.table.known_end(file)));
            group.files.len() - 1
        });
        let reads = &mut group.files[place];
        match reads.pieces.last_mut() {
            Some(last) if follows && !self.rules.separate => {
                last.len += piece.len;
                (self.end, self.last) = (ends(last).1, Some(*last));
            }
            _ => {
                if let Some((tensor, sum)) = check {
                    reads.checks.push(Check { piece: reads.pieces.len() as u32, tensor, sum });
                }
                reads.pieces.push(piece);
                self.pieces += 1;
                // The last bytes of a tensor are not always those of its last tile.
                if ends(&piece).1 > self.end {
                    (self.end, self.last) = (ends(&piece).1, Some(piece));
                }
            }
        }
    }

    fn align_of(&self, index: u32) -> u64 {
        self.table.columns.dtype(index as usize).map_or(1, |dtype| dtype.align() as u64)
    }

    /// Where the open group ends so far, with the whole of the last page of a long run.
    fn taken(&self) -> u64 {
        let is_wide = !self.rules.separate && self.last.as_ref().is_some_and(is_long);
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
        let end = self.taken();
        if let Some(group) = self.groups.last_mut() {
            group.bytes = end;
        }
        self.reads.clear();
        (self.end, self.pieces, self.last, self.run) = (0, 0, None, None);
    }
}
