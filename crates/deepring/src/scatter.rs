//! Ranges of several files in one call: [`Engine::read_scatter`].
//!
//! Each file gets a request with its ranges, and all are in the engine's queue at once. The memory comes back when the last of
//! them has settled, also if one has failed: the others can still write to it.

use crate::completion::{Completion, Outcome, Receipt};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::file::File;
use crate::many::{Piece, Ranges, SORTED_AT_ONCE, scattered_among, segments};
use crate::memory::IoBufMut;
use crate::op::{Op, Transfer};
use crate::options::ManyOptions;
use crate::pieces::Segment;
use crate::plan::Direction;
use std::sync::{Arc, Mutex, PoisonError};

/// The ranges of one file, in a call that reads from several.
#[derive(Debug, Clone, Copy)]
pub struct FileRanges<'r> {
    /// The file, of the engine that reads.
    pub file: &'r File,
    /// What is read of it.
    pub ranges: &'r [Piece],
}

/// A buffer, and what became of the ranges of several files that were read into it.
#[derive(Debug)]
pub struct ScatteredFiles<B> {
    /// The buffer.
    pub buf: B,
    files: Vec<Ranges>,
}

impl<B> ScatteredFiles<B> {
    /// How many files the call had.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// The bytes that came of each range of a file, as [`Scattered::counts`](crate::Scattered::counts).
    ///
    /// # Panics
    /// If the call had no file of this index, like indexing.
    pub fn counts(&self, file: usize) -> Vec<u64> {
        self.files[file].counts()
    }

    /// The checksum of each range of a file, as [`Scattered::checksums`](crate::Scattered::checksums).
    ///
    /// # Panics
    /// If the call had no file of this index, like indexing.
    pub fn checksums(&self, file: usize) -> Option<&[u32]> {
        self.files[file].checksums()
    }

    /// Bytes that were read beside those of the ranges and dropped, to read neighbors together.
    pub fn overread(&self) -> u64 {
        self.files.iter().map(Ranges::overread).sum()
    }
}

impl Engine {
    /// Reads ranges of several files into one buffer, all at once. [`Piece::offset`] counts in the buffer, whatever the file. No
    /// two ranges can have bytes of the buffer in common ([`ErrorKind::Overlap`]).
    ///
    /// The call fails with the error of the first file that has one, when all have ended. The path of the error is that of the
    /// file, and [`Error::index`] counts through the ranges of all files. `max_queued` counts every file.
    ///
    /// ```
    /// use deepring::{Engine, FileRanges, ManyOptions, OpenOptions, Piece};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = |name: &str| directory.path().join(name);
    /// # std::fs::write(path("even.bin"), [0u8, 2, 4, 6]).unwrap();
    /// # std::fs::write(path("odd.bin"), [1u8, 3, 5, 7]).unwrap();
    /// let engine = Engine::builder().build()?;
    /// let even = engine.open(path("even.bin"), OpenOptions::new().read(true))?;
    /// let odd = engine.open(path("odd.bin"), OpenOptions::new().read(true))?;
    /// let files = [
    ///     FileRanges { file: &even, ranges: &[Piece::new(0, 0, 1), Piece::new(1, 2, 1)] },
    ///     FileRanges { file: &odd, ranges: &[Piece::new(0, 1, 1), Piece::new(1, 3, 1)] },
    /// ];
    /// let (read, receipt) = engine.read_scatter(vec![9; 5], &files, ManyOptions::new()).wait().ok()?;
    /// assert_eq!((read.buf, receipt.bytes), (vec![0, 1, 2, 3, 9], 4));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn read_scatter<B: IoBufMut>(&self, mut buf: B, files: &[FileRanges<'_>], options: ManyOptions) -> Op<ScatteredFiles<B>> {
        let (address, len) = (buf.as_mut_ptr() as u64, buf.len());
        self.scatter(buf, files, options, |ranges| segments(Direction::Read, address, len, ranges))
    }

    /// The same into several buffers, in which [`Piece::offset`] counts as in
    /// [`File::read_scatter_vectored`].
    pub fn read_scatter_vectored<B: IoBufMut>(
        &self,
        mut bufs: Vec<B>,
        files: &[FileRanges<'_>],
        options: ManyOptions,
    ) -> Op<ScatteredFiles<Vec<B>>> {
        let all: Vec<Piece> = files.iter().flat_map(|file| file.ranges).copied().collect();
        let mut placed = scattered_among(&mut bufs, &all).map(Vec::into_iter);
        self.scatter(bufs, files, options, |ranges| match &mut placed {
            Ok(segments) => Ok(segments.by_ref().take(ranges.len()).collect()),
            Err(error) => Err(error.clone()),
        })
    }

    fn scatter<B: Send + 'static>(
        &self,
        buf: B,
        files: &[FileRanges<'_>],
        options: ManyOptions,
        mut place: impl FnMut(&[Piece]) -> Result<Vec<Segment>>,
    ) -> Op<ScatteredFiles<B>> {
        let core = self.core();
        let expected = options.expected;
        let options = ManyOptions { expected: None, ..options };
        let placed = self.place(files, expected.as_deref(), &mut place);
        let bytes = placed.iter().flatten().flatten().fold(0u64, |sum, segment| sum.saturating_add(segment.len));
        let ranges: Vec<Ranges> = files.iter().map(|_| Ranges::new(options.exact)).collect();
        let transfer = Transfer::new(ScatteredFiles { buf, files: ranges.clone() }, bytes, core);
        let (transfer, late) = match files.first() {
            Some(first) => first.file.until(transfer, options.deadline, Direction::Read),
            None => (Arc::new(transfer), None),
        };
        let completion = Arc::clone(&transfer) as Arc<dyn Completion>;
        match late.map_or(placed, Err) {
            Err(error) => completion.settle(Outcome::failed(error)),
            Ok(placed) if placed.is_empty() => {
                completion.settle(Outcome { result: Ok(Receipt::empty(core.backend(), true, None)), memory_lost: false });
            }
            Ok(placed) => {
                let ended = Ended { left: placed.len(), receipt: None, failure: None, memory_lost: false };
                let joint = Arc::new(Joint { completion, ended: Mutex::new(ended) });
                let mut first = 0;
                for (number, ((of, segments), ranges)) in files.iter().zip(placed).zip(&ranges).enumerate() {
                    let count = segments.len();
                    let expected = expected.as_ref().map(|all| all[first..first + count].to_vec());
                    let member = Arc::new(Member { joint: Arc::clone(&joint), number, first: first as u32 });
                    let options = ManyOptions { expected, ..options.clone() };
                    of.file.submit_many(Direction::Read, count <= SORTED_AT_ONCE, move || Some(segments), options, ranges, member);
                    first += count;
                }
            }
        }
        self.wake();
        Op::new(transfer, Arc::clone(core.inbox.doorbell()))
    }

    /// The memory of all ranges, by file.
    fn place(
        &self,
        files: &[FileRanges<'_>],
        expected: Option<&[u32]>,
        place: &mut impl FnMut(&[Piece]) -> Result<Vec<Segment>>,
    ) -> Result<Vec<Vec<Segment>>> {
        let count: usize = files.iter().map(|file| file.ranges.len()).sum();
        if let Some(expected) = expected.filter(|expected| expected.len() != count) {
            let advice = format!("{} checksums are expected of {count} ranges", expected.len());
            return Err(Error::new(ErrorKind::Invalid, "read").advise(advice));
        }
        let mut all = Vec::with_capacity(files.len());
        let mut first = 0;
        for FileRanges { file, ranges } in files {
            let at = |error: Error| error.at(&file.open_file().path);
            if !Arc::ptr_eq(file.engine().core(), self.core()) {
                return Err(at(Error::new(ErrorKind::Invalid, "read").advise("the file is another engine's")));
            }
            all.push(place(ranges).map_err(|error| at(of_all(error, first)))?);
            first += ranges.len() as u32;
        }
        if files.len() > 1 {
            refuse_overlap(files)?;
        }
        Ok(all)
    }
}

/// Refuses ranges of any two files that have bytes of the buffer in common. Those of one file are compared where they are
/// sorted.
fn refuse_overlap(files: &[FileRanges<'_>]) -> Result<()> {
    let ranges = files.iter().flat_map(|file| file.ranges).zip(0..).filter(|(range, _)| range.len > 0);
    let mut sorted: Vec<(usize, usize, u32)> = ranges.map(|(range, index)| (range.offset, range.offset + range.len, index)).collect();
    // Stable, because that finds the order which most files bring with them.
    sorted.sort_by_key(|&(start, ..)| start);
    let Some(pair) = sorted.windows(2).find(|pair| pair[0].1 > pair[1].0) else { return Ok(()) };
    let (one, two) = (pair[0].2.min(pair[1].2), pair[0].2.max(pair[1].2));
    let error = Error::new(ErrorKind::Overlap(one), "read").of_range(two);
    Err(error.advise("they have bytes in memory in common"))
}

/// The error of a file whose first range has this index among those of all.
fn of_all(error: Error, first: u32) -> Error {
    match error.index() {
        Some(index) => error.of_range(first + index),
        None => error,
    }
}

/// The completion of all files.
struct Joint {
    completion: Arc<dyn Completion>,
    ended: Mutex<Ended>,
}

struct Ended {
    /// Files that have not ended.
    left: usize,
    receipt: Option<Receipt>,
    /// Of the first file that has failed, by its number; one that has lost the memory comes before all others.
    failure: Option<((bool, usize), Error)>,
    memory_lost: bool,
}

/// The completion of one file.
struct Member {
    joint: Arc<Joint>,
    number: usize,
    /// The index of its first range among those of all files.
    first: u32,
}

impl Ended {
    /// Adds a file. Returns the outcome of all with the last one.
    fn add(&mut self, number: usize, first: u32, outcome: Outcome) -> Option<Outcome> {
        self.left -= 1;
        self.memory_lost |= outcome.memory_lost;
        let rank = (!outcome.memory_lost, number);
        match (outcome.result, &mut self.receipt) {
            (Ok(part), Some(receipt)) => receipt.include(&part),
            (Ok(part), none) => *none = Some(part),
            (Err(error), _) if self.failure.as_ref().is_none_or(|&(other, _)| rank < other) => {
                self.failure = Some((rank, of_all(error, first)));
            }
            (Err(_), _) => {}
        }
        if self.left > 0 {
            return None;
        }
        let result = match (self.failure.take(), self.receipt) {
            (None, Some(receipt)) => Ok(receipt),
            (Some((_, error)), _) => Err(error),
            (None, None) => Err(Error::new(ErrorKind::Panicked, "read")),
        };
        Some(Outcome { result, memory_lost: self.memory_lost })
    }
}

impl Completion for Member {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        let all = self.joint.ended.lock().unwrap_or_else(PoisonError::into_inner).add(self.number, self.first, outcome);
        if let Some(all) = all {
            Arc::clone(&self.joint.completion).settle(all);
        }
    }

    fn canceled(&self) -> bool {
        self.joint.completion.canceled()
    }
}
