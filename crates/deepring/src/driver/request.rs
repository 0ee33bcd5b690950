//! What the driver keeps per request, and per block of it that is in flight.

use crate::budget::Cost;
use crate::buffer::Buffer;
use crate::completion::Completion;
use crate::error::Error;
use crate::handle::Handle;
use crate::inode::{Accepted, Extension, RangeLock, ReadTicket};
use crate::open::OpenFile;
use crate::plan::{Direction, Extent, Span};
use crate::slots::Key;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Where a request goes.
pub(crate) enum Target {
    File(Arc<OpenFile>),
    /// Opened when the request is admitted, closed when it has ended: queued requests hold no descriptor.
    Path(Box<PathTarget>),
}

pub(crate) struct PathTarget {
    pub(crate) path: Arc<Path>,
    /// Reading: the file must be exactly as long as the request. Writing: it will be.
    pub(crate) whole: bool,
    /// Permission bits, if the file is created.
    pub(crate) mode: u32,
}

/// A request as its producer leaves it: everything there is to know while it waits, in one small value.
pub(crate) struct Submission {
    pub(crate) completion: Arc<dyn Completion>,
    pub(crate) target: Target,
    pub(crate) handle: Option<Arc<Handle>>,
    pub(crate) direction: Direction,
    /// A read that meets the end of the file is an error.
    pub(crate) exact: bool,
    pub(crate) address: u64,
    pub(crate) len: u64,
    pub(crate) position: u64,
    /// For writes to an open file.
    pub(crate) accepted: Option<Accepted>,
    pub(crate) accepted_at: Instant,
}

/// What a request is waiting for when it is in no queue of the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Nothing: it is in a queue, or all its blocks are in flight.
    No,
    /// To be woken by an inode or a handle.
    Parked,
    /// For a helper thread's answer. Such a request cannot be settled before the answer is there.
    Helper,
}

/// A request from admission to settlement.
pub(crate) struct Request {
    pub(crate) submission: Submission,
    pub(crate) file: Arc<OpenFile>,
    /// Index of the device's queue.
    pub(crate) device: usize,
    pub(crate) block_bytes: u64,
    pub(crate) waits: Waits,
    /// It was the first in line for its handle's window, and stays that if it finds no place.
    pub(crate) first_in_line: bool,
    /// Where the next block begins, counted from the start of the request.
    pub(crate) cursor: u64,
    pub(crate) in_flight: u32,
    /// A write that its inode counts among the active ones.
    pub(crate) active: bool,
    pub(crate) extension: Option<Extension>,
    /// Edges that found the end of the file nearer than was known, and wait in flight for the claim on it.
    pub(crate) late: Vec<Key>,
    /// The lock of an edge beyond the old end of the file: kept until the end is trimmed.
    pub(crate) kept: Option<RangeLock>,
    /// The failure nearest to the start: where, counted from the start of the request, and what.
    pub(crate) failure: Option<(u64, Error)>,
    /// Where a read met the end of the file, counted from the start of the request.
    pub(crate) eof: Option<u64>,
    pub(crate) memory_lost: bool,
    pub(crate) tally: Tally,
}

/// What becomes the receipt.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) blocks: u32,
    pub(crate) bounced: u64,
    pub(crate) resumed: u32,
    pub(crate) retried: u32,
    pub(crate) buffered: bool,
    pub(crate) first_block_at: Option<Instant>,
}

impl Request {
    pub(crate) fn new(submission: Submission, file: Arc<OpenFile>, device: usize, block_bytes: u64) -> Self {
        let geometry = file.geometry();
        let block_bytes = block_bytes.next_multiple_of(geometry.read_unit.max(geometry.write_unit));
        Self {
            submission,
            file,
            device,
            block_bytes,
            waits: Waits::No,
            first_in_line: false,
            cursor: 0,
            in_flight: 0,
            active: false,
            extension: None,
            late: Vec::new(),
            kept: None,
            failure: None,
            eof: None,
            memory_lost: false,
            tally: Tally::default(),
        }
    }

    pub(crate) fn span(&self) -> Span {
        let Submission { direction, position, len, address, .. } = self.submission;
        Span { direction, position, len, address, block: self.block_bytes }
    }

    pub(crate) fn is_write(&self) -> bool {
        self.submission.direction == Direction::Write
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(&self.submission.target, Target::Path(path) if path.whole)
    }

    pub(crate) fn end(&self) -> u64 {
        self.submission.position + self.submission.len
    }

    /// No further block is to be issued, whatever the cursor says.
    pub(crate) fn is_stopped(&self) -> bool {
        self.failure.is_some() || self.eof.is_some() || self.submission.completion.canceled()
    }

    /// Records a failure `offset` bytes into the request; the one nearest to the start is kept.
    pub(crate) fn fail(&mut self, offset: u64, error: Error) {
        if self.failure.as_ref().is_none_or(|&(nearest, _)| offset < nearest) {
            self.failure = Some((offset, error));
        }
    }

    /// Bytes moved from the start without a gap, once nothing is in flight.
    pub(crate) fn transferred(&self) -> u64 {
        let failure = self.failure.as_ref().map_or(u64::MAX, |&(offset, _)| offset);
        self.cursor.min(failure).min(self.eof.unwrap_or(u64::MAX))
    }
}

/// What a block is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Reading the unit that an edge will modify.
    Modify,
    Transfer,
}

/// Where reads fell short, and how often: at the end of the file, or wherever the device was not in the mood to go on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    furthest: (u64, u32),
    /// The last one that did not come as far, and how many of them in a row.
    nearer: (u64, u32),
    /// Reads that brought nothing new.
    pub(crate) vain: u32,
}

impl Ends {
    /// Counts a read that ended at `place`. Returns how many have ended there.
    ///
    /// A read that does not come as far as an earlier one says nothing about the end of the file, so it does not count against it. Only if
    /// the file was cut meanwhile do they all end nearer, and at one place.
    pub(crate) fn count(&mut self, place: u64) -> u32 {
        let (furthest, times) = self.furthest;
        let counted = if times == 0 || place >= furthest { &mut self.furthest } else { &mut self.nearer };
        *counted = (place, if counted.0 == place { counted.1 + 1 } else { 1 });
        counted.1
    }
}

/// One extent of a request, at the device.
pub(crate) struct Block {
    pub(crate) request: Key,
    pub(crate) extent: Extent,
    pub(crate) stage: Stage,
    /// The bounce block, if it needs one.
    pub(crate) bounce: Option<Buffer>,
    /// Where the device's bytes begin in memory.
    pub(crate) address: u64,
    /// Where the current operation begins, counted from the start of the extent.
    pub(crate) from: u64,
    /// How far the extent has been transferred without a gap.
    pub(crate) done: u64,
    /// Where reads fell short, counted as `from`.
    pub(crate) ends: Ends,
    pub(crate) attempts: u32,
    pub(crate) nowait: bool,
    /// Whether the file was direct when the current operation was staged.
    pub(crate) direct: bool,
    /// Whether the backend has an operation of it.
    pub(crate) at_device: bool,
    pub(crate) cost: Cost,
    pub(crate) hold: Option<RangeLock>,
    /// See [`crate::inode::Inode::clamp`].
    pub(crate) ticket: ReadTicket,
}

impl Block {
    pub(crate) fn direction(&self, of_request: Direction) -> Direction {
        if self.stage == Stage::Modify { Direction::Read } else { of_request }
    }
}

#[cfg(test)]
mod tests {
    use super::Ends;

    #[test]
    fn reads_that_fall_short_do_not_hide_the_end_of_the_file() {
        let mut ends = Ends::default();
        let counts = [2506, 165, 2506, 621, 2506, 0, 2506].map(|place| ends.count(place));
        assert_eq!(counts, [1, 1, 2, 1, 3, 1, 4]);
    }

    #[test]
    fn a_file_that_was_cut_meanwhile_ends_where_all_further_reads_end() {
        let mut ends = Ends::default();
        let counts = [2506, 0, 0, 0, 7, 0].map(|place| ends.count(place));
        assert_eq!(counts, [1, 1, 2, 3, 1, 1]);
    }

    #[test]
    fn a_read_that_comes_further_begins_anew() {
        let mut ends = Ends::default();
        let counts = [512, 512, 4096, 512, 4096].map(|place| ends.count(place));
        assert_eq!(counts, [1, 2, 1, 1, 2]);
    }
}
