//! [`File::checksum`]: the checksum of a range of a file, of any length, in bounded memory.
//!
//! ```text
//!   a few pieces in flight:  read into a buffer of the pool ──► summed by a blocking thread ──► the next read, same buffer
//! ```
//!
//! A [`Walk`] reads the range piece by piece, several at once, so the drive always has work. Where the caller wants a
//! checksum per chunk, a piece is summed in parts that end at the cuts; what is read is not cut for it. The parts come
//! in any order, and are put together by [`Sums`].
//!
//! A walk holds the file open, but not the engine: when the last of its handles goes, the walk ends as canceled, as its
//! reads do.

use crate::blocking::Line;
use crate::completion::{Completion, Outcome, RawTransfer};
use crate::digest::{Sums, crc32c};
use crate::driver::request::Target;
use crate::driver::{Core, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{self, File};
use crate::intake::{self, Kind};
use crate::memory::{Buffer, IoBufMut};
use crate::op::Task;
use crate::open::OpenFile;
use crate::plan::Direction;
use crate::priority::Priority;
use crate::stats::add;
use crate::unwind::contain;
use std::collections::BTreeMap;
use std::mem;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of one read. They begin on multiples of it, so that only the ends of the range can be unaligned.
const PIECE_BYTES: u64 = 4 << 20;

/// Pieces that are read or summed at once: 64 MiB, what the engine has in flight at most by default.
const PIECES: usize = 16;

/// Checksums of one walk: 64 MiB of them.
const SUMS_MAX: u64 = 1 << 24;

/// What to sum.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Where it begins, in bytes.
    pub position: u64,
    /// Its length; `None` for all up to the end of the file.
    pub length: Option<u64>,
    /// One checksum for this many bytes each, the last for what is left; `None` for one of all.
    pub chunk: Option<u64>,
    /// The class of its reads; `None` stands for that of the file.
    pub priority: Option<Priority>,
}

impl Walk {
    fn of(range: impl RangeBounds<u64>, chunk: Option<u64>) -> Result<Self> {
        let position = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => Some(end.saturating_add(1)),
            Bound::Excluded(&end) => Some(end),
            Bound::Unbounded => None,
        };
        let before = || Error::new(ErrorKind::Invalid, "read").advise("the range ends before it begins");
        let length = end.map(|end| end.checked_sub(position).ok_or_else(before)).transpose()?;
        Ok(Self { position, length, chunk, priority: None })
    }

    /// The lengths of a chunk, and the number of chunks, of a range of `length` bytes.
    fn chunks(&self, length: u64) -> Result<(u64, u64)> {
        let Some(chunk) = self.chunk else { return Ok((length, 1)) };
        let count = if chunk == 0 { u64::MAX } else { length.div_ceil(chunk) };
        let why = || Error::new(ErrorKind::Invalid, "read").advise(format!("chunks of {chunk} bytes are more than {SUMS_MAX}"));
        if count <= SUMS_MAX { Ok((chunk, count)) } else { Err(why()) }
    }
}

/// The parts of `start..end` between multiples of `chunk`: of each the chunk, where in it the part begins, and its length.
fn parts(start: u64, end: u64, chunk: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    let mut at = start;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (index, offset) = (at / chunk, at % chunk);
            let len = (chunk - offset).min(end - at);
            at += len;
            (index, offset, len)
        })
    })
}

impl File {
    /// The CRC-32C of a range of the file, as [`crc32c`](crate::crc32c) of its bytes. `..` is the whole
    /// file, as long as it is at the call. It is read at the speed of the drive into at most 64 MiB of
    /// engine memory, and summed on blocking threads.
    ///
    /// Bytes that a write in progress changes count as they are read. Dropping the task does not end
    /// the work; dropping the last handle of the engine does.
    ///
    /// # Errors of the task
    /// Those of [`File::read_exact_at`]: a range that reaches past the end of the file is
    /// [`ErrorKind::Eof`]. `ENOMEM`. [`ErrorKind::Invalid`] if the range ends before it begins.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// # std::fs::write(&path, b"123456789").unwrap();
    /// let engine = deepring::Engine::builder().build()?;
    /// let file = engine.open(&path, deepring::OpenOptions::new().read(true))?;
    /// assert_eq!(file.checksum(..).wait()?, 0xE306_9283);
    /// assert_eq!(file.checksum(2..5).wait()?, deepring::crc32c(b"345"));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn checksum(&self, range: impl RangeBounds<u64>) -> Task<u32> {
        let (task, end) = Task::new();
        let then = move |sums: Result<Vec<u32>>| end(sums.map(|sums| sums.first().copied().unwrap_or(0)));
        match Walk::of(range, None) {
            Ok(walk) => self.checksum_then(walk, Arc::default(), then),
            Err(error) => then(Err(error.at(&self.file.path))),
        }
        task
    }

    /// As [`File::checksum`], one for each `chunk` bytes from the start of the range on; the last for
    /// what is left. How the file is read does not depend on it.
    ///
    /// # Errors of the task
    /// Those of [`File::checksum`]; [`ErrorKind::Invalid`] if there would be more than 2^24 checksums.
    pub fn checksums(&self, range: impl RangeBounds<u64>, chunk: u64) -> Task<Vec<u32>> {
        let (task, end) = Task::new();
        match Walk::of(range, Some(chunk)) {
            Ok(walk) => self.checksum_then(walk, Arc::default(), end),
            Err(error) => end(Err(error.at(&self.file.path))),
        }
        task
    }

    /// The same for [`crate::binding`].
    pub(crate) fn checksum_then(&self, walk: Walk, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<Vec<u32>>) + Send + 'static) {
        let chunks = || walk.chunks(walk.length.unwrap_or(0)).map_err(|error| error.at(&self.file.path));
        if let Err(error) = self.check_open("read").and_then(|()| chunks()) {
            return then(Err(error));
        }
        let core = Arc::clone(self.engine().core());
        let (file, using) = (Arc::clone(&self.file), Use::of(&self.file, &core.inbox));
        self.engine().run_on(Line::Mount(file.fate), move || {
            let measured = walk.length.map_or_else(|| file::stat(&file).map(|stat| stat.size.saturating_sub(walk.position)), Ok);
            let chunks = measured.and_then(|length| Ok((length, walk.chunks(length).map_err(|error| error.at(&file.path))?)));
            match chunks {
                Err(error) => then(Err(error)),
                Ok((length, (chunk, count))) => {
                    let state = State {
                        next: 0,
                        refused: Vec::new(),
                        in_flight: 0,
                        sums: vec![0; count as usize],
                        unfinished: BTreeMap::new(),
                        failure: None,
                        end: Some((Box::new(then), using)),
                    };
                    Walking { core, file, walk, length, chunk, canceled, state: Mutex::new(state) }.begin();
                }
            }
        });
    }
}

/// What gets the checksums.
type End = Box<dyn FnOnce(Result<Vec<u32>>) + Send>;

/// A walk in progress.
struct Walking {
    core: Arc<Core>,
    file: Arc<OpenFile>,
    walk: Walk,
    length: u64,
    chunk: u64,
    canceled: Arc<AtomicBool>,
    state: Mutex<State>,
}

struct State {
    /// Where the next piece begins. All offsets count from the start of the range.
    next: u64,
    /// Pieces for which the queue of requests had no place. They are tried again when another piece is done.
    refused: Vec<(Range<u64>, Error)>,
    /// Pieces that are read or summed.
    in_flight: usize,
    sums: Vec<u32>,
    /// Chunks of which parts are summed.
    unfinished: BTreeMap<u64, Sums>,
    /// The failure nearest to the start.
    failure: Option<(u64, Error)>,
    /// Taken by the end. Until then the file is not closed.
    end: Option<(End, Use)>,
}

impl State {
    fn fail(&mut self, offset: u64, error: Error) {
        if self.failure.as_ref().is_none_or(|&(nearest, _)| offset < nearest) {
            self.failure = Some((offset, error));
        }
    }
}

impl Walking {
    fn begin(self) {
        let walking = Arc::new(self);
        // One more than there are pieces in flight, so that the walk does not end before all have begun.
        walking.lock().in_flight += 1;
        for _ in 0..PIECES {
            if !walking.read_next(None) || !walking.lock().refused.is_empty() {
                break;
            }
        }
        walking.core.inbox.wake();
        walking.leave();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the next piece, into memory that is free again. Returns whether there was one.
    fn read_next(self: &Arc<Self>, memory: Option<Buffer>) -> bool {
        let Some(range) = self.take_next() else { return false };
        let len = (range.end - range.start) as usize;
        let memory = memory.filter(|memory| memory.len() >= len);
        // All but the first and the last piece have one length, and share memory.
        let allocated = memory.map_or_else(|| self.core.pool.allocate(len.max(self.length.min(PIECE_BYTES) as usize), false), Ok);
        let mut memory = match allocated {
            Ok(memory) => memory,
            Err(error) => {
                self.lock().fail(range.start, error);
                self.leave();
                return true;
            }
        };
        let (address, position) = (memory.as_mut_ptr() as u64, self.walk.position + range.start);
        let raw = RawTransfer::new(Direction::Read, address, len as u64, position).exact(true).priority(self.walk.priority);
        let piece = Piece { walking: Arc::clone(self), range, memory: Mutex::new(Some(memory)) };
        intake::submit(&self.core, Target::File(Arc::clone(&self.file)), raw, Kind::Plain, Arc::new(piece));
        true
    }

    /// The next piece, which counts as in flight.
    fn take_next(&self) -> Option<Range<u64>> {
        let mut state = self.lock();
        if state.failure.is_some() {
            return None;
        }
        if self.canceled.load(Ordering::Acquire) {
            let next = state.next;
            state.fail(next, Error::new(ErrorKind::Canceled, "read"));
            return None;
        }
        let range = state.refused.pop().map(|(range, _)| range).or_else(|| {
            let start = state.next;
            let position = self.walk.position + start;
            state.next = self.length.min(start + PIECE_BYTES - position % PIECE_BYTES);
            (start < self.length).then_some(start..state.next)
        })?;
        state.in_flight += 1;
        Some(range)
    }

    /// Sums a piece that was read, and goes on.
    fn sum(self: &Arc<Self>, range: &Range<u64>, memory: Buffer) {
        let mut from = 0;
        let sum = |(index, offset, len)| {
            let bytes = &memory[from..from + len as usize];
            from += len as usize;
            (index, offset, len, crc32c(bytes))
        };
        let summed: Vec<_> = parts(range.start, range.end, self.chunk).map(sum).collect();
        let mut state = self.lock();
        for (index, offset, len, crc) in summed {
            let whole = self.chunk.min(self.length - index * self.chunk);
            let value = if len == whole {
                Some(crc)
            } else {
                let sums = state.unfinished.entry(index).or_default();
                sums.add(offset, len, crc);
                sums.value(whole)
            };
            if let (Some(value), Some(place)) = (value, state.sums.get_mut(index as usize)) {
                *place = value;
                state.unfinished.remove(&index);
            }
        }
        drop(state);
        self.read_next(Some(memory));
        self.core.inbox.wake();
        self.leave();
    }

    /// A piece is done. With the last one the walk ends.
    fn leave(&self) {
        let mut state = self.lock();
        state.in_flight -= 1;
        if state.in_flight > 0 {
            return;
        }
        // Nothing is left that these could wait for.
        for (range, error) in mem::take(&mut state.refused) {
            state.fail(range.start, error);
        }
        let result = match state.failure.take() {
            None => Ok(mem::take(&mut state.sums)),
            Some((offset, error)) => Err(error.at(&self.file.path).range(self.walk.position, self.length, offset)),
        };
        let end = state.end.take();
        drop(state);
        let Some((end, using)) = end else { return };
        if contain(|| end(result)).is_none() {
            add(&self.core.counters.panics, 1);
        }
        drop(using);
    }
}

/// The completion of the read of a piece.
struct Piece {
    walking: Arc<Walking>,
    range: Range<u64>,
    memory: Mutex<Option<Buffer>>,
}

impl Completion for Piece {
    fn settle(self: Arc<Self>, Outcome { result, memory_lost }: Outcome) {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (walking, range) = (Arc::clone(&self.walking), self.range.clone());
        if memory_lost {
            mem::forget(memory);
        } else if let (Ok(_), Some(memory)) = (&result, memory) {
            let core = Arc::clone(&walking.core);
            return core.blocking.run(Line::Copy, Box::new(move || walking.sum(&range, memory)));
        }
        match result {
            Err(error) if error.kind() == ErrorKind::QueueFull => walking.lock().refused.push((range, error)),
            Err(error) => walking.lock().fail(range.start + error.transferred(), error),
            // A read that succeeds has its memory.
            Ok(_) => {}
        }
        walking.leave();
    }

    fn canceled(&self) -> bool {
        self.walking.canceled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The parts of a piece cover it once, in order, and none crosses a cut.
        #[test]
        fn parts_end_at_the_cuts(start in 0u64..10_000, len in 0u64..10_000, chunk in 1u64..5000) {
            let mut at = start;
            for (index, offset, len) in parts(start, start + len, chunk) {
                prop_assert_eq!(index * chunk + offset, at);
                prop_assert!(len > 0 && offset + len <= chunk);
                at += len;
            }
            prop_assert_eq!(at, start + len);
        }
    }

    #[test]
    fn a_range_is_a_position_and_a_length() {
        let of = |walk: Walk| (walk.position, walk.length);
        assert_eq!(Walk::of(.., None).map(of).ok(), Some((0, None)));
        assert_eq!(Walk::of(7.., None).map(of).ok(), Some((7, None)));
        assert_eq!(Walk::of(..9, None).map(of).ok(), Some((0, Some(9))));
        assert_eq!(Walk::of(3..=9, None).map(of).ok(), Some((3, Some(7))));
        assert_eq!(Walk::of(9..9, None).map(of).ok(), Some((9, Some(0))));
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let reversed = Walk::of(9..8, None).map_err(|error| error.kind());
        assert_eq!(reversed.map(of), Err(ErrorKind::Invalid));
    }
}
