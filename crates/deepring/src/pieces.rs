//! Many ranges of one file, read in one request. Pure, but for what the driver notes of failures and the end of the file.
//!
//! The ranges, called *pieces*, are sorted by their position. Neighbors that touch are read together: as they are if their
//! memory touches as well, else, if they are small, into a bounce block, from which each gets its part. Such a stretch of
//! the file is a *run*. Runs do not overlap, so bytes that several pieces ask for are read once.
//!
//! ```text
//!   file       ....[ 7 ][ 2 ]...........[ 5  [ 9 ]  ]....      pieces, by the index that the caller gave them
//!   runs           |  run  |            |    run    |
//!   offsets        0       a            a           b          the request counts the bytes of its runs
//! ```
//!
//! The request counts offsets through its runs, one behind the other. Because they are sorted, an offset at which a read
//! met the end of the file is before all that the file does not have. A run is found from the piece that it begins with,
//! so nothing is kept per run.

use crate::config::END_MAX;
use crate::digest::{Checksum, crc32c};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{BOUNCE_BYTES_MAX, Direction};
use crate::planted::{PlantedBug, planted};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The most pieces of one call.
pub(crate) const PIECES_MAX: usize = 1 << 20;

/// Pieces of at most this many bytes are read together with the neighbors that they touch: copying one costs less than an
/// operation of its own.
const SMALL_BYTES: u64 = 64 << 10;

/// Failures that are kept of a request that ends with the first.
const FAILURES_MAX: usize = 16;

/// One range: where in the file, how long, and where in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub(crate) position: u64,
    pub(crate) len: u64,
    pub(crate) address: u64,
    /// The caller's index.
    pub(crate) index: u32,
}

impl Segment {
    /// `len` bytes at `position` of the file and at this address. Its index is its place in the list.
    pub fn new(position: u64, len: u64, address: u64) -> Self {
        Self { position, len, address, index: 0 }
    }

    fn end(&self) -> u64 {
        self.position + self.len
    }
}

/// A stretch of the file that is read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its offset in the request.
    pub(crate) start: u64,
    pub(crate) position: u64,
    pub(crate) len: u64,
    /// Where it goes in memory; `None` if it is copied to the memory of its pieces.
    pub(crate) address: Option<u64>,
    /// The piece that the next run begins with.
    next: usize,
}

impl Run {
    /// All of a request for one range.
    pub(crate) fn whole(position: u64, len: u64, address: u64) -> Self {
        Self { start: 0, position, len, address: Some(address), next: 0 }
    }

    /// Its end, counted in the request.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }
}

/// A piece that could not be read, by its index.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) index: u32,
    pub(crate) error: Error,
}

/// The pieces of one request.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// By position. Those of no bytes are not among them.
    sorted: Vec<Segment>,
    /// How many there are, with those of no bytes.
    count: usize,
    /// Bytes between two pieces that are read, and dropped, to read both together.
    gap: u64,
    /// The longest piece.
    longest: u64,
    /// The bytes of all pieces.
    bytes: u64,
    /// The bytes of all runs.
    total: u64,
    /// Whether the request goes on after a failure.
    pub(crate) partial: bool,
    /// The position at which the file was found to end.
    file_end: AtomicU64,
    failures: Mutex<Vec<Failure>>,
}

impl Pieces {
    /// Sorts the pieces; their indices are their places in the list.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for too many, `EFBIG` for one that would end beyond the largest file,
    /// [`ErrorKind::Overlap`] for two that are read into the same memory, or written to the same bytes.
    pub(crate) fn new(mut list: Vec<Segment>, direction: Direction, gap: u64, partial: bool) -> Result<Self> {
        let call = direction.call_name();
        let count = list.len();
        if count > PIECES_MAX {
            return Err(
                Error::new(ErrorKind::Invalid, call).advise(format!("{count} ranges in one call; at most {PIECES_MAX} are possible"))
            );
        }
        for (index, piece) in list.iter_mut().enumerate() {
            piece.index = index as u32;
            if piece.position.checked_add(piece.len).is_none_or(|end| end > END_MAX) {
                let error = Error::os(libc::EFBIG, call).range(piece.position, piece.len, 0).of_range(piece.index);
                return Err(error.advise("the range would end beyond 2^63 bytes"));
            }
        }
        list.retain(|piece| piece.len > 0);
        if direction == Direction::Read {
            let memory = |piece: &Segment| (piece.address, piece.address.saturating_add(piece.len));
            // Most are packed.
            if !list.is_sorted_by_key(|piece| piece.address) {
                list.sort_unstable_by_key(|piece| piece.address);
            }
            refuse_overlap(&list, memory, call, "in memory")?;
        }
        list.sort_unstable_by_key(|piece| (piece.position, piece.index));
        if direction == Direction::Write {
            refuse_overlap(&list, |piece| (piece.position, piece.end()), call, "in the file")?;
        }
        let gap = gap.min(BOUNCE_BYTES_MAX);
        let bytes = list.iter().fold(0u64, |sum, piece| sum.saturating_add(piece.len));
        let longest = list.iter().map(|piece| piece.len).max().unwrap_or(0);
        let file_end = AtomicU64::new(u64::MAX);
        let mut pieces = Self { sorted: list, count, gap, longest, bytes, total: 0, partial, file_end, failures: Mutex::new(Vec::new()) };
        // So much memory does not exist, unless several ranges share it.
        if bytes > END_MAX / 2 {
            return Err(Error::os(libc::EFBIG, call).advise("the ranges have more than 2^62 bytes"));
        }
        pieces.total = pieces.runs().last().map_or(0, |run| run.end());
        Ok(pieces)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The bytes of all runs: the length of the request.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are read beside those of the pieces. Bytes that several of them ask for count once.
    pub(crate) fn overread(&self) -> u64 {
        let mut covered = 0;
        let mut end = 0;
        for piece in &self.sorted {
            covered += piece.end().saturating_sub(piece.position.max(end));
            end = end.max(piece.end());
        }
        self.total - covered
    }

    /// The bytes of all pieces.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        std::iter::successors(self.first_run(), |run| self.run_after(run))
    }

    pub(crate) fn first_run(&self) -> Option<Run> {
        self.run_at(0, 0)
    }

    pub(crate) fn run_after(&self, run: &Run) -> Option<Run> {
        self.run_at(run.next, run.end())
    }

    /// The run that begins with this piece.
    fn run_at(&self, first: usize, start: u64) -> Option<Run> {
        let head = self.sorted.get(first)?;
        let (mut end, mut touches, mut small) = (head.end(), true, head.len <= SMALL_BYTES);
        let mut next = first + 1;
        while let Some(piece) = self.sorted.get(next) {
            let goes_on = touches && piece.position == end && piece.address == head.address.wrapping_add(end - head.position);
            let fits = piece.len <= SMALL_BYTES && small && piece.end().saturating_sub(head.position) <= BOUNCE_BYTES_MAX;
            let joins = goes_on || piece.position < end || fits && piece.position <= end.saturating_add(self.gap);
            if !joins {
                break;
            }
            touches &= goes_on;
            end = end.max(piece.end());
            // What is read as it is can be of any length; it is not to be copied for the sake of a small neighbor.
            small &= !touches || end - head.position <= SMALL_BYTES;
            next += 1;
        }
        let address = touches.then_some(head.address);
        Some(Run { start, position: head.position, len: end - head.position, address, next })
    }

    /// Those that have bytes in a part of the file, the first one first.
    fn within(&self, from: u64, to: u64) -> impl Iterator<Item = &Segment> {
        // None that ends behind `from` begins further before it than the longest.
        let first = self.sorted.partition_point(|piece| piece.position.saturating_add(self.longest) <= from);
        self.sorted[first..].iter().take_while(move |piece| piece.position < to).filter(move |piece| piece.end() > from)
    }

    /// Where the bytes of a part of the file go: for each place how many bytes behind `from` they are, how many there
    /// are, and the address.
    pub(crate) fn places(&self, from: u64, to: u64) -> impl Iterator<Item = (usize, usize, u64)> {
        self.within(from, to).map(move |piece| {
            let (first, last) = (piece.position.max(from), piece.end().min(to));
            let skip = first - from - u64::from(planted(PlantedBug::MixesRanges) && first > from);
            (skip as usize, (last - first) as usize, piece.address + (first - piece.position))
        })
    }

    // ---- what became of them ----

    /// A read found that the file ends here.
    pub(crate) fn met_end(&self, position: u64) {
        self.file_end.fetch_min(position, Ordering::Relaxed);
    }

    /// A part of the file could not be read.
    pub(crate) fn failed(&self, from: u64, to: u64, error: &Error) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in self.within(from, to) {
            if !self.partial && failures.len() >= FAILURES_MAX {
                return;
            }
            let transferred = from.max(piece.position) - piece.position;
            let index = piece.index ^ u32::from(planted(PlantedBug::MisnamesRange));
            let error = error.clone().range(piece.position, piece.len, transferred).of_range(index);
            failures.push(Failure { index, error });
        }
    }

    /// The bytes that came of a piece that did not fail.
    fn came(&self, piece: &Segment) -> u64 {
        self.file_end.load(Ordering::Relaxed).clamp(piece.position, piece.end()) - piece.position
    }

    /// The failures, by index, one of each piece. Where `exact`, a piece that the file ends in or before has failed.
    pub(crate) fn failures(&self, exact: bool) -> Vec<Failure> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if exact && self.file_end.load(Ordering::Relaxed) < u64::MAX {
            let eof = Error::new(ErrorKind::Eof, "read");
            let short = self.sorted.iter().filter(|piece| self.came(piece) < piece.len);
            let most = if self.partial { usize::MAX } else { FAILURES_MAX };
            failures.extend(short.take(most).map(|piece| {
                let error = eof.clone().range(piece.position, piece.len, self.came(piece)).of_range(piece.index);
                Failure { index: piece.index, error }
            }));
        }
        failures.sort_by_key(|failure| (failure.index, failure.error.transferred()));
        failures.dedup_by_key(|failure| failure.index);
        failures
    }

    /// The failure with the lowest index.
    pub(crate) fn first_failure(&self, exact: bool) -> Option<Error> {
        self.failures(exact).into_iter().next().map(|failure| failure.error)
    }

    /// Passes on the bytes that came of each piece, with its index. Of one that failed, those before the failure.
    pub(crate) fn counts(&self, mut set: impl FnMut(u32, u64)) {
        for piece in &self.sorted {
            set(piece.index, self.came(piece));
        }
        for failure in self.failures(false) {
            set(failure.index, failure.error.transferred());
        }
    }

    /// The checksum of what came of each piece, by its index.
    ///
    /// # Safety
    /// The memory of all pieces can be read, and nothing writes to it.
    pub(crate) unsafe fn checksums(&self) -> Vec<u32> {
        let mut sums = vec![0; self.count];
        for piece in &self.sorted {
            // SAFETY: the caller's promise.
            let bytes = unsafe { slice::from_raw_parts(piece.address as *const u8, self.came(piece) as usize) };
            sums[piece.index as usize] = crc32c(bytes);
        }
        sums
    }

    /// Fails the pieces whose checksums are not the expected ones, unless they have failed before.
    pub(crate) fn compare(&self, sums: &[u32], expected: &[u32]) {
        let failed: Vec<_> = self.failures(false).iter().map(|failure| failure.index).collect();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in &self.sorted {
            let (&expected, &actual) = (&expected[piece.index as usize], &sums[piece.index as usize]);
            let is_short = self.came(piece) < piece.len;
            if Checksum::Expect(expected).check(actual).is_err() && !is_short && failed.binary_search(&piece.index).is_err() {
                let error = Error::new(ErrorKind::Checksum { expected, actual }, "read");
                let error = error.range(piece.position, piece.len, piece.len).of_range(piece.index);
                failures.push(Failure { index: piece.index, error });
                if !self.partial && failures.len() >= FAILURES_MAX {
                    return;
                }
            }
        }
    }

    /// The bytes that came of all.
    pub(crate) fn bytes_read(&self) -> u64 {
        let is_whole = self.file_end.load(Ordering::Relaxed) == u64::MAX;
        let came = if is_whole { self.bytes } else { self.sorted.iter().map(|piece| self.came(piece)).sum() };
        let missing = |failure: &Failure| failure.error.requested() - failure.error.transferred();
        came.saturating_sub(self.failures(false).iter().map(missing).sum())
    }
}

/// Refuses two that have bytes in common. They are sorted by where they begin.
fn refuse_overlap(sorted: &[Segment], bounds: impl Fn(&Segment) -> (u64, u64), call: &'static str, space: &str) -> Result<()> {
    // Where none overlap, the one before reaches furthest.
    let meets = |pair: &&[Segment]| bounds(&pair[0]).1 > bounds(&pair[1]).0;
    let Some(pair) = sorted.windows(2).find(meets) else { return Ok(()) };
    let (first, second) = if pair[0].index < pair[1].index { (&pair[0], &pair[1]) } else { (&pair[1], &pair[0]) };
    let error = Error::new(ErrorKind::Overlap(first.index), call).range(second.position, second.len, 0).of_range(second.index);
    Err(error.advise(format!("they have bytes {space} in common")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(position: u64, len: u64, address: u64) -> Segment {
        Segment::new(position, len, address)
    }

    fn pieces(list: &[Segment], gap: u64) -> Pieces {
        Pieces::new(list.to_vec(), Direction::Read, gap, false).expect("pieces")
    }

    fn lists() -> impl Strategy<Value = Vec<Segment>> {
        let lens = prop_oneof![0u64..200, 0u64..200_000, Just(4096u64)];
        let positions = prop_oneof![0u64..3000, (0u64..200).prop_map(|page| page * 4096)];
        proptest::collection::vec((positions, lens), 0..60).prop_map(|list| {
            let mut address = 1 << 40;
            list.into_iter()
                .map(|(position, len)| {
                    address += len;
                    segment(position, len, address - len)
                })
                .collect()
        })
    }

    #[test]
    fn neighbors_are_read_together_and_strangers_are_not() {
        let run = |list: &[Segment], gap| {
            let pieces = pieces(list, gap);
            pieces.runs().map(|run| (run.position, run.len, run.address)).collect::<Vec<_>>()
        };
        // Their memory touches, whatever their size.
        assert_eq!(run(&[segment(0, 1 << 20, 5), segment(1 << 20, 7, 5 + (1 << 20))], 0), [(0, (1 << 20) + 7, Some(5))]);
        // It does not.
        assert_eq!(run(&[segment(100, 10, 500), segment(110, 10, 300)], 0), [(100, 20, None)]);
        assert_eq!(run(&[segment(0, 1 << 20, 500), segment(1 << 20, 10, 300)], 0).len(), 2);
        // They do not touch.
        assert_eq!(run(&[segment(100, 10, 500), segment(111, 10, 511)], 0).len(), 2);
        assert_eq!(run(&[segment(100, 10, 500), segment(111, 10, 511)], 1), [(100, 21, None)]);
        // They overlap.
        assert_eq!(run(&[segment(0, 1 << 20, 0), segment(1000, 1 << 20, 1 << 30)], 0), [(0, 1000 + (1 << 20), None)]);
        // Together they are too long for one bounce block.
        let many: Vec<_> = (0..40).map(|index| segment(index << 15, 1 << 15, (80 - index) << 20)).collect();
        assert_eq!(run(&many, 0).len(), 2);
    }

    #[test]
    fn ranges_that_are_written_twice_or_read_into_the_same_memory_are_refused() {
        let refused = |list: &[Segment], direction| {
            let refused = Pieces::new(list.to_vec(), direction, 0, false).err();
            refused.map(|error| (error.kind(), error.index().expect("a range")))
        };
        let written = |list: &[Segment]| refused(list, Direction::Write);
        assert_eq!(written(&[segment(10, 5, 0), segment(0, 11, 0), segment(20, 0, 0)]), Some((ErrorKind::Overlap(0), 1)));
        assert_eq!(written(&[segment(0, 100, 0), segment(200, 1, 0), segment(50, 1, 0)]), Some((ErrorKind::Overlap(0), 2)));
        assert_eq!(written(&[segment(10, 5, 0), segment(0, 10, 0), segment(12, 0, 0), segment(15, 1, 0)]), None);
        let read = |list: &[Segment]| refused(list, Direction::Read);
        assert_eq!(read(&[segment(0, 5, 100), segment(0, 5, 300), segment(50, 5, 104)]), Some((ErrorKind::Overlap(0), 2)));
        assert_eq!(read(&[segment(0, 5, 100), segment(0, 5, 300), segment(50, 5, 105)]), None);
    }

    #[test]
    fn too_many_and_too_far_are_refused() {
        let call = |list| Pieces::new(list, Direction::Read, 0, false).expect_err("refused");
        assert_eq!(call(vec![segment(0, 1, 0); PIECES_MAX + 1]).kind(), ErrorKind::Invalid);
        let error = call(vec![segment(0, 1, 0), segment(u64::MAX - 3, 4, 9)]);
        assert_eq!((error.code().as_str(), error.index(), error.position()), ("EFBIG", Some(1), Some(u64::MAX - 3)));
    }

    proptest! {
        /// Every byte of every piece is in one run, and goes where it belongs.
        #[test]
        fn every_byte_of_every_piece_is_read_once(list in lists(), gap in prop_oneof![Just(0u64), Just(5000)], cut in 1u64..300_000) {
            let pieces = pieces(&list, gap);
            let mut got: Vec<Vec<bool>> = list.iter().map(|piece| vec![false; piece.len as usize]).collect();
            let (mut offset, mut last) = (0, 0);
            for run in pieces.runs() {
                prop_assert_eq!(run.start, offset);
                prop_assert!(run.position >= last && run.len > 0);
                (offset, last) = (run.end(), run.position + run.len);
                // In parts, as blocks are.
                let mut from = run.position;
                while from < last {
                    let to = last.min(from + cut);
                    for (skip, len, address) in pieces.places(from, to) {
                        let place = (0..list.len()).find(|&index| {
                            list[index].len > 0 && (list[index].address..list[index].address + list[index].len).contains(&address)
                        });
                        let index = place.expect("an address of a piece");
                        let at = (address - list[index].address) as usize;
                        prop_assert_eq!(list[index].position + at as u64, from + skip as u64);
                        for byte in &mut got[index][at..at + len] {
                            prop_assert!(!*byte);
                            *byte = true;
                        }
                        if let Some(start) = run.address {
                            prop_assert_eq!(address, start + (from + skip as u64 - run.position));
                        }
                    }
                    from = to;
                }
            }
            prop_assert!(got.iter().flatten().all(|byte| *byte));
            prop_assert_eq!(pieces.total(), offset);
        }

        /// What is copied fits into a bounce block, unless pieces overlap.
        #[test]
        fn no_run_of_separate_pieces_is_longer_than_a_bounce_block(list in lists(), gap in 0u64..5000) {
            if Pieces::new(list.clone(), Direction::Write, 0, false).is_err() {
                return Ok(());
            }
            for run in pieces(&list, gap).runs() {
                prop_assert!(run.address.is_some() || run.len <= BOUNCE_BYTES_MAX);
            }
        }

        /// A file that ends somewhere: each piece gets what lies before the end.
        #[test]
        fn counts_end_where_the_file_does(list in lists(), end in 0u64..500_000) {
            let pieces = pieces(&list, 0);
            pieces.met_end(end);
            let mut counts = vec![0; list.len()];
            pieces.counts(|index, count| counts[index as usize] = count);
            for (piece, &count) in list.iter().zip(&counts) {
                prop_assert_eq!(count, end.saturating_sub(piece.position).min(piece.len));
            }
            prop_assert_eq!(pieces.bytes_read(), counts.iter().sum::<u64>());
            let short = list.iter().filter(|piece| piece.len > 0 && piece.end() > end).count();
            prop_assert_eq!(pieces.failures(true).len(), short.min(FAILURES_MAX));
        }
    }
}
