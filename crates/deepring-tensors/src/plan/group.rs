//! [`Group`]: what is read into one buffer.

use super::{PACKED_BYTES_MAX, PAGE_BYTES, PIECES_MAX};
use crate::sums::Summed;
use deepring::Piece;
use std::ops::Range;

/// What is read into one buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The size of the buffer.
    pub(crate) bytes: u64,
    /// What comes from each file.
    pub(crate) files: Vec<FileReads>,
    /// Nothing is read beside the pieces.
    pub(super) exact: bool,
    /// Bytes between runs that are read and dropped.
    pub(crate) gap: u64,
    /// Which tensors of the selection it has.
    pub(crate) tensors: Range<usize>,
}

/// What a group has of one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileReads {
    pub(crate) file: usize,
    /// The runs, in the order of the file unless the tensors are in another. See [`Group::reads`].
    pub(crate) pieces: Vec<Piece>,
    /// Which of them are compared with a checksum.
    pub(crate) checks: Vec<Check>,
    /// The file is at least as long.
    pub(super) file_end: u64,
}

/// A piece that has a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Check {
    /// The place of the piece.
    pub(crate) piece: u32,
    /// The index of its tensor.
    pub(crate) tensor: u32,
    /// The number of the checksum.
    pub(crate) sum: u32,
}

impl FileReads {
    pub(super) fn new(file: usize, file_end: u64) -> Self {
        Self { file, pieces: Vec::new(), checks: Vec::new(), file_end }
    }
}

impl Group {
    /// Bytes that have a checksum, where direct I/O reaches them.
    pub(super) fn of_sum(summed: Summed, file_end: u64) -> Self {
        let offset = summed.position % PAGE_BYTES;
        let mut reads = FileReads::new(summed.file as usize, file_end);
        reads.check(summed, offset);
        Self { bytes: offset + summed.len, files: vec![reads], exact: true, gap: 0, tensors: 0..0 }
    }

    /// Adds bytes that follow those of the group, if there is room for them.
    pub(super) fn add_sum(&mut self, summed: Summed, group_bytes: u64) -> bool {
        let [reads] = &mut self.files[..] else { return false };
        let follows = reads.pieces.last().is_some_and(|last| ends(last).0 == summed.position);
        let fits = reads.file == summed.file as usize && self.bytes + summed.len <= group_bytes && reads.pieces.len() < PIECES_MAX;
        if follows && fits {
            reads.check(summed, self.bytes);
            self.bytes += summed.len;
        }
        follows && fits
    }

    /// What it takes of a budget: the rooms in front of the first byte and behind the last are less than a page, and not
    /// counted, so that a budget of the largest tensor suffices.
    pub(crate) fn cost(&self) -> u64 {
        let first = self.files.iter().filter_map(|reads| reads.pieces.first()).map(|piece| piece.offset).min();
        let last = self.files.iter().filter_map(|reads| reads.pieces.last()).map(|piece| piece.offset + piece.len).max();
        first.zip(last).map_or(0, |(first, last)| (last - first) as u64)
    }

    /// The largest number of pieces that it has of one file.
    pub(crate) fn pieces_max(&self) -> usize {
        self.files.iter().map(|reads| reads.pieces.len()).max().unwrap_or(0)
    }

    /// What is read of each file for the pieces at these places: long ones from the beginning of the page of their first byte to
    /// the end of that of their last, unless others have bytes there, in the buffer or in the file, or the file ends before.
    pub(crate) fn reads(&self, chosen: impl Fn(&FileReads) -> Range<usize>) -> Vec<Vec<Piece>> {
        let taken = self.taken();
        let of_file = |reads: &FileReads| {
            // In another order, neighbors in the file are not next to each other here.
            let widens = !self.exact && reads.pieces.is_sorted_by_key(|piece| piece.position);
            chosen(reads).map(|at| if widens { self.widened(reads, at, &taken) } else { reads.pieces[at] }).collect()
        };
        self.files.iter().map(of_file).collect()
    }

    /// Where the pieces begin and end in the buffer, in its order, if they are of several files.
    fn taken(&self) -> Vec<(u64, u64)> {
        if self.exact || self.files.len() == 1 {
            return Vec::new();
        }
        let mut taken: Vec<_> =
            self.files.iter().flat_map(|reads| &reads.pieces).map(|piece| (piece.offset as u64, ends(piece).1)).collect();
        taken.sort_unstable();
        taken
    }

    /// A piece with the rest of its pages.
    fn widened(&self, reads: &FileReads, at: usize, taken: &[(u64, u64)]) -> Piece {
        let FileReads { pieces, file_end, .. } = reads;
        let piece = pieces[at];
        if !is_long(&piece) {
            return piece;
        }
        let mut before = at.checked_sub(1).map_or((0, 0), |before| ends(&pieces[before]));
        let mut behind = pieces.get(at + 1).map_or((*file_end, self.bytes), |next| (next.position, next.offset as u64));
        if !taken.is_empty() {
            // Between two of one file, the buffer has bytes of others.
            let place = taken.partition_point(|&(begin, _)| begin < piece.offset as u64);
            before.1 = place.checked_sub(1).map_or(0, |before| taken[before].1);
            behind.1 = taken.get(place + 1).map_or(self.bytes, |&(begin, _)| begin);
        }
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
    }

    /// The parts of the buffer that nothing is read into.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut read: Vec<Range<usize>> = Vec::new();
        for piece in self.reads(|reads| 0..reads.pieces.len()).into_iter().flatten() {
            match read.last_mut().filter(|last| last.end == piece.offset) {
                Some(last) => last.end += piece.len,
                None => read.push(piece.offset..piece.offset + piece.len),
            }
        }
        // Each file brings its own in order.
        read.sort_by_key(|range| range.start);
        read.push(self.bytes as usize..self.bytes as usize);
        let mut end = 0;
        read.into_iter().map(move |range| std::mem::replace(&mut end, range.end)..range.start).filter(|gap| !gap.is_empty())
    }
}

impl FileReads {
    /// Adds a piece that has a checksum.
    fn check(&mut self, summed: Summed, offset: u64) {
        let Summed { position, len, tensor, sum, .. } = summed;
        self.checks.push(Check { piece: self.pieces.len() as u32, tensor, sum });
        self.pieces.push(Piece::new(position, offset as usize, len as usize));
    }
}

/// Where a piece ends in the file and in the buffer.
pub(super) fn ends(piece: &Piece) -> (u64, u64) {
    (piece.position + piece.len as u64, (piece.offset + piece.len) as u64)
}

/// Whether direct I/O reaches it, and it is worth pages of its own.
pub(super) fn is_long(piece: &Piece) -> bool {
    piece.len as u64 >= PACKED_BYTES_MAX && piece.position % PAGE_BYTES == piece.offset as u64 % PAGE_BYTES
}
