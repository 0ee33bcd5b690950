//! Many ranges of a file in one call: [`File::read_scatter`], [`File::write_gather`], and the vectored calls.

use crate::blocking::Line;
use crate::completion::{Completion, Outcome, RawTransfer};
use crate::driver::request::Target;
use crate::driver::{Core, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::file::File;
use crate::gather::{Admission, Gather};
use crate::intake::{self, Kind};
use crate::memory::{IoBuf, IoBufMut};
use crate::op::{Op, Transfer};
use crate::open::OpenFile;
use crate::options::ManyOptions;
use crate::pieces::{Pieces, Segment};
use crate::plan::Direction;
use crate::stats::add;
use crate::unwind::contain;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Sorting more than this takes longer than waking a thread.
pub(crate) const SORTED_AT_ONCE: usize = 2048;

/// The same where the caller is an event loop, which goes on when the thread is woken.
pub(crate) const SORTED_BY_LOOP: usize = 256;

/// One range of a call with many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the file, in bytes.
    pub position: u64,
    /// Where its bytes are in the buffer.
    pub offset: usize,
    /// Its length in bytes; it can be 0.
    pub len: usize,
}

impl Piece {
    /// `len` bytes at `position` of the file, and at `offset` of the buffer.
    pub const fn new(position: u64, offset: usize, len: usize) -> Self {
        Self { position, offset, len }
    }
}

/// A buffer, and what became of the ranges that were read into it.
#[derive(Debug)]
pub struct Scattered<B> {
    /// The buffer.
    pub buf: B,
    ranges: Ranges,
}

impl<B> Scattered<B> {
    /// The bytes that came of each range, by its index: fewer than asked for at the end of the file, and where it failed.
    pub fn counts(&self) -> Vec<u64> {
        self.ranges.counts()
    }

    /// The checksum of what came of each range, by its index, if [asked for](ManyOptions::checksums).
    pub fn checksums(&self) -> Option<&[u32]> {
        self.ranges.checksums()
    }

    /// Bytes that were read beside those of the ranges and dropped, to read neighbors together.
    pub fn overread(&self) -> u64 {
        self.ranges.overread()
    }

    /// The ranges that failed, by their index. Empty unless the call is [partial](ManyOptions::partial): otherwise it has
    /// failed itself.
    pub fn failures(&self) -> Vec<Error> {
        self.ranges.failures()
    }
}

/// What became of the ranges of a call. A binding asks it after the call has settled.
#[derive(Debug, Clone)]
pub struct Ranges {
    pieces: Arc<OnceLock<Arc<Pieces>>>,
    sums: Arc<OnceLock<Vec<u32>>>,
    exact: bool,
}

impl Ranges {
    /// Of a call that is about to be submitted; `exact` as in its options.
    pub fn new(exact: bool) -> Self {
        Self { pieces: Arc::default(), sums: Arc::default(), exact }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pieces.get().map_or(0, |pieces| pieces.count())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that came of each range, by its index.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.len()];
        if let Some(pieces) = self.pieces.get() {
            pieces.counts(|index, count| counts[index as usize] = count);
        }
        counts
    }

    /// The ranges that failed, by their index. Of a call that ended with the first, at most 16 are kept.
    pub fn failures(&self) -> Vec<Error> {
        let failures = self.pieces.get().map(|pieces| pieces.failures(self.exact)).unwrap_or_default();
        failures.into_iter().map(|failure| failure.error).collect()
    }

    /// The checksum of each range, by its index, if asked for.
    pub fn checksums(&self) -> Option<&[u32]> {
        self.sums.get().map(Vec::as_slice)
    }

    /// Bytes that were read beside those of the ranges, to read neighbors together.
    pub fn overread(&self) -> u64 {
        self.pieces.get().map_or(0, |pieces| pieces.overread())
    }
}

impl File {
    /// Reads many ranges into one buffer, in one request. The ranges can touch and overlap in the file, where bytes are read
    /// once, but not in the buffer ([`ErrorKind::Overlap`]). Small neighbors are read together. The end of the file inside a range is an error of kind
    /// [`ErrorKind::Eof`].
    ///
    /// The error of a range names it ([`Error::index`]). The call counts once against `max_queued`, and allocates nothing
    /// per range once it runs; while it is prepared, 32 bytes.
    ///
    /// ```
    /// use deepring::{Engine, OpenOptions, Piece};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("vectors.bin");
    /// # std::fs::write(&path, (0..100u8).flat_map(|n| [n; 128]).collect::<Vec<_>>()).unwrap();
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().read(true))?;
    /// let ranges = [70u64, 3, 71].iter().zip(0..).map(|(&row, place)| Piece::new(row * 128, place * 128, 128)).collect::<Vec<_>>();
    /// let (rows, receipt) = file.read_scatter(engine.buffer(3 * 128)?, &ranges).wait().ok()?;
    /// assert_eq!((rows[0], rows[128], rows[256], receipt.bytes), (70, 3, 71, 384));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn read_scatter<B: IoBufMut>(&self, mut buf: B, ranges: &[Piece]) -> Op<B> {
        let segments = segments(Direction::Read, buf.as_mut_ptr() as u64, buf.len(), ranges);
        self.many(Direction::Read, buf, segments, ManyOptions::new().exact(true), &Ranges::new(true))
    }

    /// Reads many ranges as the options say.
    ///
    /// ```
    /// use deepring::{Engine, ManyOptions, OpenOptions, Piece};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("vectors.bin");
    /// # std::fs::write(&path, vec![7u8; 1000]).unwrap();
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().read(true))?;
    /// let ranges = [Piece::new(900, 0, 200), Piece::new(0, 200, 200), Piece::new(5000, 400, 200)];
    /// let (read, receipt) = file.read_scatter_with(vec![0; 600], &ranges, ManyOptions::new()).wait().ok()?;
    /// assert_eq!((read.counts(), receipt.bytes), (vec![100, 200, 0], 300));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn read_scatter_with<B: IoBufMut>(&self, mut buf: B, ranges: &[Piece], options: ManyOptions) -> Op<Scattered<B>> {
        let segments = segments(Direction::Read, buf.as_mut_ptr() as u64, buf.len(), ranges);
        let ranges = Ranges::new(options.exact);
        self.many(Direction::Read, Scattered { buf, ranges: ranges.clone() }, segments, options, &ranges)
    }

    /// Reads many ranges into several buffers, in one request. [`Piece::offset`] counts through the buffers, one behind the
    /// other; a range that is not in one of them is refused with [`ErrorKind::Invalid`].
    ///
    /// ```
    /// use deepring::{Engine, ManyOptions, OpenOptions, Piece};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("vectors.bin");
    /// # std::fs::write(&path, (0..100u8).collect::<Vec<_>>()).unwrap();
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().read(true))?;
    /// let ranges = [Piece::new(70, 0, 4), Piece::new(30, 4, 2), Piece::new(20, 6, 1)];
    /// let (read, _) = file.read_scatter_vectored(vec![vec![0; 4], vec![0; 3]], &ranges, ManyOptions::new()).wait().ok()?;
    /// assert_eq!(read.buf, [vec![70, 71, 72, 73], vec![30, 31, 20]]);
    /// # for (offset, len, fits) in [(3, 2, false), (4, 3, true), (7, 1, false), (usize::MAX, 1, false)] {
    /// #     let bufs = vec![vec![0; 4], vec![], vec![0; 3]];
    /// #     let read = file.read_scatter_vectored(bufs, &[Piece::new(0, offset, len)], ManyOptions::new()).wait();
    /// #     assert_eq!(read.result.map_err(|error| (error.kind(), error.index())).err(), (!fits).then_some((deepring::ErrorKind::Invalid, Some(0))));
    /// # }
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn read_scatter_vectored<B: IoBufMut>(&self, mut bufs: Vec<B>, ranges: &[Piece], options: ManyOptions) -> Op<Scattered<Vec<B>>> {
        let segments = scattered_among(&mut bufs, ranges);
        let ranges = Ranges::new(options.exact);
        self.many(Direction::Read, Scattered { buf: bufs, ranges: ranges.clone() }, segments, options, &ranges)
    }

    /// Writes many ranges from one buffer, in one request. If two of them overlap in the file, the result is an error of kind
    /// [`ErrorKind::Overlap`], and nothing is written. Neighbors are written together. After a failure, any part of any range
    /// can have been written; the error names a range that was not.
    pub fn write_gather<B: IoBuf>(&self, buf: B, ranges: &[Piece]) -> Op<B> {
        let segments = segments(Direction::Write, buf.as_ptr() as u64, buf.len(), ranges);
        self.many(Direction::Write, buf, segments, ManyOptions::new(), &Ranges::new(false))
    }

    /// Writes many ranges as the options say.
    pub fn write_gather_with<B: IoBuf>(&self, buf: B, ranges: &[Piece], options: ManyOptions) -> Op<Scattered<B>> {
        let segments = segments(Direction::Write, buf.as_ptr() as u64, buf.len(), ranges);
        let ranges = Ranges::new(false);
        self.many(Direction::Write, Scattered { buf, ranges: ranges.clone() }, segments, options, &ranges)
    }

    /// Reads from `position` into several buffers, one behind the other, until they are full or the file ends. They must have
    /// their length: a [`Spare`](crate::Spare) is refused with [`ErrorKind::Invalid`].
    pub fn read_vectored<B: IoBufMut>(&self, mut bufs: Vec<B>, position: u64) -> Op<Vec<B>> {
        let segments = filled_in_a_row(&mut bufs, position);
        self.many(Direction::Read, bufs, segments, ManyOptions::new(), &Ranges::new(false))
    }

    /// Reads into several buffers as the options say. Each buffer is a range of the call: it has a count, and a checksum if
    /// asked for, and the error of a failure names it.
    pub fn read_vectored_with<B: IoBufMut>(&self, mut bufs: Vec<B>, position: u64, options: ManyOptions) -> Op<Scattered<Vec<B>>> {
        let segments = filled_in_a_row(&mut bufs, position);
        let ranges = Ranges::new(options.exact);
        self.many(Direction::Read, Scattered { buf: bufs, ranges: ranges.clone() }, segments, options, &ranges)
    }

    /// Writes several buffers at `position`, one behind the other.
    ///
    /// ```
    /// use deepring::{Engine, OpenOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("log.bin");
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().read(true).write(true).create(true))?;
    /// file.write_vectored(vec![vec![1u8; 10], vec![2; 5]], 100).wait().ok()?;
    /// let (parts, receipt) = file.read_vectored(vec![vec![0u8; 8], vec![0; 20]], 100).wait().ok()?;
    /// assert_eq!((receipt.bytes, &parts[1][..8]), (15, &[1, 1, 2, 2, 2, 2, 2, 0][..]));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn write_vectored<B: IoBuf>(&self, bufs: Vec<B>, position: u64) -> Op<Vec<B>> {
        let segments = held_in_a_row(&bufs, position);
        self.many(Direction::Write, bufs, segments, ManyOptions::new(), &Ranges::new(false))
    }

    /// Writes several buffers as the options say: with a checksum of each, for example. At most 2^20 buffers, else the result
    /// is an error of kind [`ErrorKind::Invalid`].
    ///
    /// ```
    /// use deepring::{Engine, ManyOptions, OpenOptions, crc32c};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().write(true).create(true))?;
    /// let tensors = vec![vec![1u8; 3000], vec![2; 5]];
    /// let (written, receipt) = file.write_vectored_with(tensors, 0, ManyOptions::new().checksums(true)).wait().ok()?;
    /// assert_eq!((receipt.bytes, written.buf.len()), (3005, 2));
    /// assert_eq!(written.checksums(), Some(&[crc32c(&[1; 3000]), crc32c(&[2; 5])][..]));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn write_vectored_with<B: IoBuf>(&self, bufs: Vec<B>, position: u64, options: ManyOptions) -> Op<Scattered<Vec<B>>> {
        let segments = held_in_a_row(&bufs, position);
        let ranges = Ranges::new(false);
        self.many(Direction::Write, Scattered { buf: bufs, ranges: ranges.clone() }, segments, options, &ranges)
    }

    /// A call whose memory `owner` keeps in place.
    pub(crate) fn many<T: Send + 'static>(
        &self,
        direction: Direction,
        owner: T,
        segments: Result<Vec<Segment>>,
        options: ManyOptions,
        ranges: &Ranges,
    ) -> Op<T> {
        let core = self.engine().core();
        let bytes = segments.iter().flatten().fold(0u64, |sum, segment| sum.saturating_add(segment.len));
        let (transfer, late) = self.until(Transfer::new(owner, bytes, core), options.deadline, direction);
        let completion = Arc::clone(&transfer) as Arc<dyn Completion>;
        match late.map_or(segments, Err) {
            Ok(segments) => {
                let count = segments.len();
                self.submit_many(direction, count <= SORTED_AT_ONCE, move || Some(segments), options, ranges, completion);
            }
            Err(error) => completion.settle(Outcome::failed(error.at(&self.open_file().path))),
        }
        self.engine().wake();
        Op::new(transfer, Arc::clone(core.inbox.doorbell()))
    }

    /// Submits ranges whose memory was handed over until the completion is settled; `None` refuses them all. If they are few,
    /// and there is nothing to be summed, they are sorted at once, else on a blocking thread. Does not wake the driver.
    pub(crate) fn submit_many(
        &self,
        direction: Direction,
        few: bool,
        segments: impl FnOnce() -> Option<Vec<Segment>> + Send + 'static,
        options: ManyOptions,
        ranges: &Ranges,
        completion: Arc<dyn Completion>,
    ) {
        let (core, file) = (Arc::clone(self.engine().core()), Arc::clone(self.open_file()));
        let admission = match direction {
            Direction::Read => None,
            Direction::Write => match Admission::of(&core, &file) {
                Ok(admission) => Some(admission),
                Err(error) => return completion.settle(Outcome::failed(error.at(&file.path))),
            },
        };
        let many = Many { core, file, admission, options, ranges: ranges.clone(), completion };
        if few && !many.options.sums || many.core.is_forked() {
            return many.submit(segments());
        }
        let core = Arc::clone(&many.core);
        let using = Use::of(&many.file, &core.inbox);
        let job = move || {
            let core = Arc::clone(&many.core);
            many.submit(segments());
            core.inbox.wake();
            drop(using);
        };
        core.blocking.run(Line::CALLER, Box::new(job));
    }
}

/// A call that is about to be submitted.
struct Many {
    core: Arc<Core>,
    file: Arc<OpenFile>,
    /// Of a write.
    admission: Option<Admission>,
    options: ManyOptions,
    ranges: Ranges,
    completion: Arc<dyn Completion>,
}

impl Many {
    fn submit(self, segments: Option<Vec<Segment>>) {
        let pieces = match self.prepare(segments) {
            Ok(pieces) => Arc::new(pieces),
            Err(error) => {
                let error = error.at(&self.file.path);
                drop(self.admission);
                return self.completion.settle(Outcome::failed(error));
            }
        };
        // Each call has its own.
        let _ = self.ranges.pieces.set(Arc::clone(&pieces));
        let Self { core, file, admission, options, ranges, mut completion } = self;
        let ManyOptions { exact, handle, priority, sums, expected, .. } = options;
        if let Some(admission) = admission {
            if sums {
                // SAFETY: the memory was handed over for reading until the completion is settled.
                let _ = ranges.sums.set(unsafe { pieces.checksums() });
            }
            return Gather::start(admission, pieces, handle, priority, completion);
        }
        if sums {
            let (core, using) = (Arc::clone(&core), Mutex::new(Some(Use::of(&file, &core.inbox))));
            completion = Arc::new(Summing { core, file: Arc::clone(&file), using, ranges, expected, completion });
        }
        let len = pieces.total();
        let raw = RawTransfer::new(Direction::Read, 0, len, 0).exact(exact).handle(handle).priority(priority);
        intake::submit(&core, Target::File(file), raw, Kind::Pieces(pieces), completion);
    }

    fn prepare(&self, segments: Option<Vec<Segment>>) -> Result<Pieces> {
        let direction = if self.admission.is_some() { Direction::Write } else { Direction::Read };
        let segments = segments.ok_or_else(|| Error::new(ErrorKind::Invalid, direction.call_name()).advise("a range was refused"))?;
        if let Some(expected) = self.options.expected.as_ref().filter(|expected| expected.len() != segments.len()) {
            let advice = format!("{} checksums are expected of {} ranges", expected.len(), segments.len());
            return Err(Error::new(ErrorKind::Invalid, "read").advise(advice));
        }
        if self.admission.is_some() {
            return Pieces::new(segments, Direction::Write, 0, false);
        }
        Pieces::new(segments, Direction::Read, self.options.gap, self.options.partial)
    }
}

/// The completion of a read whose ranges are summed before it is settled.
struct Summing {
    core: Arc<Core>,
    file: Arc<OpenFile>,
    /// A close of the file ends after everything it waited for.
    using: Mutex<Option<Use>>,
    ranges: Ranges,
    expected: Option<Vec<u32>>,
    completion: Arc<dyn Completion>,
}

impl Summing {
    fn sum(&self, pieces: &Pieces) -> Result<()> {
        // SAFETY: the memory was handed over for writing until the completion is settled, and nothing writes to it any more.
        let sums = unsafe { pieces.checksums() };
        if let Some(expected) = &self.expected {
            pieces.compare(&sums, expected);
        }
        let _ = self.ranges.sums.set(sums);
        match pieces.first_failure(self.ranges.exact).filter(|_| !pieces.partial) {
            Some(error) => Err(error.at(&self.file.path)),
            None => Ok(()),
        }
    }
}

impl Completion for Summing {
    fn settle(self: Arc<Self>, mut outcome: Outcome) {
        let using = self.using.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(pieces) = self.ranges.pieces.get().filter(|_| outcome.result.is_ok()).map(Arc::clone) else {
            return Arc::clone(&self.completion).settle(outcome);
        };
        let core = Arc::clone(&self.core);
        let deliver = move || {
            outcome.result = outcome.result.and_then(|receipt| self.sum(&pieces).map(|()| receipt));
            if contain(|| Arc::clone(&self.completion).settle(outcome)).is_none() {
                add(&self.core.counters.panics, 1);
            }
            drop(using);
        };
        core.blocking.run(Line::Copy, Box::new(deliver));
    }

    fn canceled(&self) -> bool {
        self.completion.canceled()
    }
}

/// Ranges whose memory is in one buffer.
pub(crate) fn segments(direction: Direction, address: u64, len: usize, ranges: &[Piece]) -> Result<Vec<Segment>> {
    let segment = |(index, range)| segment_of(direction, index, range, range.offset, address, len);
    ranges.iter().enumerate().map(segment).collect()
}

/// Ranges whose memory is in buffers that are counted through one behind the other.
pub(crate) fn scattered_among<B: IoBufMut>(bufs: &mut [B], ranges: &[Piece]) -> Result<Vec<Segment>> {
    refuse_spares(bufs)?;
    let mut end = 0;
    let place = |buf: &mut B| {
        let start = end;
        end += buf.len();
        (start, buf.as_mut_ptr() as u64, buf.len())
    };
    let places: Vec<(usize, u64, usize)> = bufs.iter_mut().map(place).collect();
    let segment = |(index, range): (usize, &Piece)| {
        // Of those that begin at the same offset, all but the last are empty.
        let number = places.partition_point(|&(start, ..)| start <= range.offset);
        let (start, address, len) = number.checked_sub(1).map_or((0, 0, 0), |number| places[number]);
        segment_of(Direction::Read, index, range, range.offset - start, address, len)
    };
    ranges.iter().enumerate().map(segment).collect()
}

/// A range at `offset` of a buffer with this address and length.
fn segment_of(direction: Direction, index: usize, range: &Piece, offset: usize, address: u64, len: usize) -> Result<Segment> {
    if offset.checked_add(range.len).is_none_or(|end| end > len) {
        let error = Error::new(ErrorKind::Invalid, direction.call_name()).range(range.position, range.len as u64, 0);
        let advice = format!("{} bytes at {offset} are not in a buffer of {len} bytes", range.len);
        return Err(error.of_range(index as u32).advise(advice));
    }
    Ok(Segment::new(range.position, range.len as u64, address + offset as u64))
}

/// Refuses memory that gets its length by the read.
fn refuse_spares<B: IoBufMut>(bufs: &[B]) -> Result<()> {
    if bufs.iter().any(|buf| buf.room() != buf.len()) {
        let advice = "only a read of one range can bring a buffer its length";
        return Err(Error::new(ErrorKind::Invalid, "read").range(0, 0, 0).advise(advice));
    }
    Ok(())
}

/// Buffers that are filled from one stretch of the file.
fn filled_in_a_row<B: IoBufMut>(bufs: &mut [B], position: u64) -> Result<Vec<Segment>> {
    refuse_spares(bufs).map_err(|error| error.range(position, 0, 0))?;
    in_a_row(Direction::Read, bufs.iter_mut().map(|buf| (buf.as_mut_ptr() as u64, buf.len() as u64)), position)
}

/// Buffers that are written to one stretch of the file.
fn held_in_a_row<B: IoBuf>(bufs: &[B], position: u64) -> Result<Vec<Segment>> {
    in_a_row(Direction::Write, bufs.iter().map(|buf| (buf.as_ptr() as u64, buf.len() as u64)), position)
}

/// Buffers that follow one another in the file.
fn in_a_row(direction: Direction, buffers: impl Iterator<Item = (u64, u64)>, position: u64) -> Result<Vec<Segment>> {
    let mut next = position;
    let segment = |(address, len): (u64, u64)| {
        let segment = Segment::new(next, len, address);
        let too_far = || Error::os(libc::EFBIG, direction.call_name()).advise("the transfer would end beyond 2^63 bytes");
        next = next.checked_add(len).ok_or_else(too_far)?;
        Ok(segment)
    };
    buffers.map(segment).collect()
}
