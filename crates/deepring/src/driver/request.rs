//! A request: what its producer leaves, and its life from admission to settlement.
//!
//! ```text
//!               issued, more left
//!                   ┌───┐
//!                   │   ▼         over                    drained
//!   admitted ─────► Ready ─────────────────► Draining ─────────────────► settled
//!                   │ ▲ ▲ │                  ▲  │ │ │                       ▲ ▲
//!            queued │ │ │ │ moves the end    │  │ │ └────► Trimming ────────┘ │
//!                   ▼ │ │ ▼                  │  │ │   the end is put in order │
//!                Parked │ MakingRoom ◄───────┼──┘ └──────► Closing ───────────┘
//!                   │   └─ room made         │             by path
//!                   └─────────── over ───────┘
//!                                  late edge: to MakingRoom from any phase before Trimming
//! ```
//!
//! [`Request::step`] is the only place where a phase changes. `MakingRoom`, `Trimming` and `Closing` wait for a blocking
//! thread; a request in one of them stays there until the answer arrives, canceled or not. In every other phase a request
//! that is over ([`Request::is_over`]) goes to `Draining`, and settles when nothing of it is in flight.
//!
//! A request by path settles after its file is closed: then the program can run, unmount or lock the file, and the error
//! of the close is the request's. What trims its file also closes it.
//!
//! A *late edge* is an edge whose read found the end of the file nearer than was known, because another process cut the
//! file. Its write will move the end, so the request must claim it after all; the edge waits in flight for that.

use super::flows::{FlowKey, Source};
use super::summing::Summing;
use crate::completion::{Outcome, Reply};
use crate::digest::Checksum;
use crate::error::{Error, ErrorKind};
use crate::extend;
use crate::handle::Handle;
use crate::inode::{Accepted, Extension, RangePlace};
use crate::open::shortage::Passing;
use crate::open::{BlockLock, Name, OpenFile};
use crate::pieces::{Pieces, Run};
use crate::plan::{Direction, Extent, Span, extent_at};
use crate::planted::{PlantedBug, planted};
use crate::priority::Priority;
use crate::slots::Key;
use crate::stats::{Counters, add, sub};
use crate::sys::lock::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Where a request goes.
pub(crate) enum Target {
    File(Arc<OpenFile>),
    /// Opened when the request is admitted, closed when it has ended: queued requests hold no descriptor.
    Path(Box<PathTarget>),
}

pub(crate) struct PathTarget {
    pub(crate) name: Name,
    /// Reading: the file must be exactly as long as the request. Writing: it will be.
    pub(crate) whole: bool,
    /// Permission bits, if the file is created.
    pub(crate) mode: u32,
}

/// A request as its producer leaves it: everything that is needed while it waits, in one small value.
pub(crate) struct Submission {
    pub(crate) reply: Reply,
    pub(crate) target: Target,
    pub(crate) handle: Option<Arc<Handle>>,
    pub(crate) priority: Priority,
    pub(crate) direction: Direction,
    /// A read that meets the end of the file is an error.
    pub(crate) exact: bool,
    pub(crate) address: u64,
    pub(crate) len: u64,
    pub(crate) position: u64,
    /// Of a read of many ranges. Its length is that of their runs; it has no address, and no position.
    pub(crate) pieces: Option<Arc<Pieces>>,
    /// For writes to an open file.
    pub(crate) accepted: Option<Accepted>,
    pub(crate) accepted_at: Instant,
    pub(crate) checksum: Checksum,
}

impl Submission {
    /// The flow that it belongs to, if it is for this file.
    pub(super) fn flow(&self, file: &OpenFile) -> FlowKey {
        let source = match (&self.handle, &self.target) {
            (Some(handle), _) => Source::Handle(handle.number()),
            (None, Target::File(_)) => Source::File(file.inode.id()),
            (None, Target::Path(_)) => Source::Paths,
        };
        FlowKey::new(self.priority, self.direction, self.len, source)
    }

    /// Ends a request that the driver did not take: it has unwound, or ends with its engine.
    pub(crate) fn refuse(mut self, kind: ErrorKind, counters: &Counters) {
        let path = match &self.target {
            Target::File(file) => {
                if let Some(accepted) = self.accepted.take() {
                    // What can fail is the trim of another request's padding.
                    let _ = extend::abandon(file, 0, accepted);
                    file.inode.settle_write(accepted.without_end());
                }
                file.unsettled.fetch_sub(1, Ordering::AcqRel);
                &file.path
            }
            Target::Path(target) => &target.name.path,
        };
        sub(&counters.queued, 1);
        add(&counters.failed, 1);
        let error = Error::new(kind, self.direction.call_name()).at(path).range(self.position, self.len, 0);
        if !self.reply.settle(Outcome::failed(error)) {
            add(&counters.panics, 1);
        }
    }
}

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// In its device's schedule, or about to issue.
    Ready,
    /// In no line of the schedule until it is woken.
    Parked(Waiting),
    /// A blocking thread claims the end of the file and makes room.
    MakingRoom,
    /// Nothing more is issued. The blocks in flight come back.
    Draining,
    /// A blocking thread puts the end of the file in order and, by path, closes it.
    Trimming,
    /// A blocking thread closes the file of a path request.
    Closing,
}

/// What a parked request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Room in its handle's window.
    Window,
    /// The lock of its next block's range.
    Range,
    /// The end of a truncation.
    Truncation,
    /// Its own block in flight: a file that nothing is reserved for grows in order.
    Order,
    /// A lock that another copy of the engine or another process holds: see [`super::between`].
    Process,
}

/// What moves a request from one phase to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Queued(Waiting),
    Woken,
    /// It moves the end of its file: found before its first block, or by a late edge.
    NeedsRoom,
    RoomMade,
    /// Its last block is issued, or it failed, was canceled, or met the end of its file.
    Over,
    NeedsTrim,
    NeedsClose,
}

/// What a write holds of the end of its file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Claim {
    /// A read.
    None,
    /// No trim cuts what it writes, and syncs wait for it.
    Accepted(Accepted),
    /// It has begun: truncations wait for it, too.
    Active(Accepted),
    /// It moves the end. `edge` is the lock of the unit at the end, kept until that is trimmed.
    Extending { accepted: Accepted, extension: Extension, edge: Option<BlockLock> },
}

impl Claim {
    pub(super) fn accepted(&self) -> Option<Accepted> {
        match *self {
            Self::None => None,
            Self::Accepted(accepted) | Self::Active(accepted) | Self::Extending { accepted, .. } => Some(accepted),
        }
    }

    pub(super) fn extension(&self) -> Option<Extension> {
        if let Self::Extending { extension, .. } = self { Some(*extension) } else { None }
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self, Self::Active(_) | Self::Extending { .. })
    }

    /// The claim on the end of the file was given up.
    pub(super) fn without_end(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Accepted(accepted) => Self::Accepted(accepted.without_end()),
            Self::Active(accepted) => Self::Active(accepted.without_end()),
            Self::Extending { accepted, extension, edge } => Self::Extending { accepted: accepted.without_end(), extension, edge },
        }
    }

    /// Releases everything that is held.
    pub(super) fn release(self, file: &OpenFile) {
        if let Self::Extending { edge: Some(lock), .. } = self {
            file.unlock_block(lock);
        }
        let inode = &file.inode;
        if self.is_active() {
            inode.leave_write();
        }
        if let Some(accepted) = self.accepted() {
            inode.settle_write(accepted);
        }
    }
}

/// A request from admission to settlement.
pub(super) struct Request {
    pub(super) submission: Submission,
    pub(super) file: Arc<OpenFile>,
    /// The index of the queue it stands in.
    pub(super) queue: usize,
    pub(super) flow: FlowKey,
    pub(super) block_bytes: u64,
    /// What its next block is a part of: all of it, but of many ranges.
    run: Run,
    whole_pages: Option<u64>,
    phase: Phase,
    pub(super) claim: Claim,
    /// Where the next block begins, counted from the start of the request.
    pub(super) cursor: u64,
    pub(super) in_flight: u32,
    /// Its place in the line for the range of its next block.
    pub(super) place: Option<RangePlace>,
    /// Late edges, which wait in flight for `RoomMade`.
    pub(super) late_edges: Vec<Key>,
    /// It moves the end of its file, which another copy holds.
    pub(super) awaits_end: bool,
    /// For what another copy holds.
    pub(super) wait: Option<Wait>,
    /// The failure nearest to the start: where, counted from the start of the request, and what.
    failure: Option<(u64, Error)>,
    /// Where a read met the end of the file, counted from the start of the request.
    eof: Option<u64>,
    /// Whether the caller has canceled it, as [`Request::look`] last saw.
    canceled: bool,
    pub(super) memory_lost: bool,
    /// Of a path request: counts its open file.
    pub(super) passing: Option<Passing>,
    pub(super) tally: Tally,
    /// If its bytes are summed.
    pub(super) summing: Option<Box<Summing>>,
}

/// Where the bytes of a block are in the caller's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    At(u64),
    /// In several places, which the pieces of the request name.
    Scattered,
}

fn whole_pages(file: &OpenFile, direction: Direction, run: &Run) -> Option<u64> {
    run.address.and_then(|address| file.whole_pages(direction, address, run.len))
}

/// How long a request has waited for another copy or process, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) since: Instant,
    pub(super) place: Range,
    /// When the file was last modified, when that was last asked.
    pub(super) modified_ns: i128,
    /// When the wait began, whatever happened to the file.
    pub(super) began: Instant,
}

/// What becomes the receipt.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) blocks: u32,
    pub(super) bounced: u64,
    pub(super) resumed: u32,
    pub(super) retried: u32,
    pub(super) buffered: bool,
    pub(super) first_block_at: Option<Instant>,
}

impl Request {
    pub(super) fn new(mut submission: Submission, file: Arc<OpenFile>, queue: usize, block_bytes: u64) -> Self {
        let geometry = file.geometry();
        let flow = submission.flow(&file);
        let whole = Run::whole(submission.position, submission.len, submission.address);
        let run = submission.pieces.as_ref().and_then(|pieces| pieces.first_run()).unwrap_or(whole);
        let whole_pages = whole_pages(&file, submission.direction, &run);
        Self {
            summing: submission.checksum.is_asked().then(Box::default),
            claim: submission.accepted.take().map_or(Claim::None, Claim::Accepted),
            submission,
            file,
            queue,
            flow,
            block_bytes: block_bytes.next_multiple_of(geometry.read_unit.max(geometry.write_unit)),
            run,
            whole_pages,
            phase: Phase::Ready,
            cursor: 0,
            in_flight: 0,
            place: None,
            late_edges: Vec::new(),
            awaits_end: false,
            wait: None,
            failure: None,
            eof: None,
            canceled: false,
            memory_lost: false,
            passing: None,
            tally: Tally::default(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Moves the request on. A pair that is not listed does not happen.
    pub(super) fn step(&mut self, event: Event) {
        let waited = self.phase == Phase::Parked(Waiting::Process);
        if waited && self.awaits_end {
            self.file.end_waiting();
        }
        self.phase = match (self.phase, event) {
            // Not only from Ready: a late edge that cannot claim the end is given up, and planned again later.
            (Phase::Ready, Event::Queued(waiting)) | (Phase::Parked(_) | Phase::Draining, Event::Queued(waiting @ Waiting::Process)) => {
                Phase::Parked(waiting)
            }
            (Phase::Parked(_), Event::Woken) | (Phase::MakingRoom, Event::RoomMade) => Phase::Ready,
            (Phase::Ready | Phase::Parked(_) | Phase::MakingRoom | Phase::Draining, Event::NeedsRoom) => Phase::MakingRoom,
            (Phase::Ready | Phase::Parked(_), Event::Over) => Phase::Draining,
            (Phase::Draining, Event::NeedsTrim) => Phase::Trimming,
            (Phase::Draining, Event::NeedsClose) => Phase::Closing,
            (phase, event) => {
                debug_assert!(false, "{event:?} in phase {phase:?}");
                phase
            }
        };
    }

    /// Where its next block lies, and where its bytes are in memory; `None` if there is no further one. No block is larger
    /// than `block_max`, but of at least one unit.
    pub(super) fn next_extent(&mut self, block_max: u64) -> Option<(Extent, Memory)> {
        if self.cursor >= self.run.end()
            && let Some(pieces) = &self.submission.pieces
        {
            self.run = pieces.run_after(&self.run)?;
            self.whole_pages = whole_pages(&self.file, self.submission.direction, &self.run);
        }
        let start = self.run.start;
        let mut extent = extent_at(self.file.geometry(), &self.span(block_max), self.cursor - start)?;
        let memory = self.run.address.map_or(Memory::Scattered, |address| Memory::At(address + extent.offset));
        extent.offset += start;
        Some((extent, memory))
    }

    /// As the planner sees it.
    pub(super) fn span(&self, block_max: u64) -> Span {
        let direction = self.submission.direction;
        let Run { position, len, address, .. } = self.run;
        let geometry = self.file.geometry();
        let unit = geometry.read_unit.max(geometry.write_unit);
        let block = if block_max < self.block_bytes { block_max.next_multiple_of(unit) } else { self.block_bytes };
        // A buffered read is a copy by the processor, which finds the process's own page.
        let whole_pages = self.whole_pages.filter(|_| self.file.is_direct());
        Span { direction, position, len, address: address.unwrap_or(0), block, whole_pages, scattered: address.is_none() }
    }

    pub(super) fn is_write(&self) -> bool {
        self.submission.direction == Direction::Write
    }

    /// Whether its file is its own, to be closed when it has ended.
    pub(super) fn is_by_path(&self) -> bool {
        matches!(self.submission.target, Target::Path(_))
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.submission.target, Target::Path(path) if path.whole)
    }

    pub(super) fn end(&self) -> u64 {
        self.submission.position + self.submission.len
    }

    /// Whether a block up to `end` must wait for the one in flight.
    pub(super) fn is_out_of_order(&self, end: u64) -> bool {
        self.in_flight > 0
            && self.claim.extension().is_some_and(|extension| end > extension.ordered_from)
            && !planted(PlantedBug::GrowsInAnyOrder)
    }

    /// Whether no further block is to be issued: all are, or it failed, was canceled, or met the end of its file.
    pub(super) fn is_over(&self) -> bool {
        self.is_issued() || self.is_stopped()
    }

    /// Whether all blocks are issued.
    pub(super) fn is_issued(&self) -> bool {
        self.cursor >= self.submission.len
    }

    /// Whether it is over for another reason than that all is issued.
    pub(super) fn is_stopped(&self) -> bool {
        self.failure.is_some() || self.eof.is_some() || self.canceled
    }

    /// Looks whether the caller has canceled the request. It can do that at any time; between two looks the answer must
    /// stay the same, or a request could be over and stand in a line.
    pub(super) fn look(&mut self) {
        self.canceled = self.canceled || self.submission.reply.canceled();
    }

    pub(super) fn is_canceled(&self) -> bool {
        self.canceled
    }

    /// Records a failure `offset` bytes into the request; the one nearest to the start is kept.
    pub(super) fn fail(&mut self, offset: u64, error: Error) {
        if self.failure.as_ref().is_none_or(|&(nearest, _)| offset < nearest) {
            self.failure = Some((offset, error));
        }
    }

    /// Records that a block failed after `moved` bytes of it.
    pub(super) fn fail_at(&mut self, extent: &Extent, moved: u64, error: Error) {
        if let Some(pieces) = &self.submission.pieces {
            let position = extent.file_start + extent.skip;
            pieces.failed(position + moved, position + extent.len, &error);
            if pieces.partial {
                return;
            }
        }
        self.fail(extent.offset + moved, error);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether it has done what was asked, once nothing is in flight.
    pub(super) fn has_succeeded(&self) -> bool {
        !self.has_failed() && if self.has_met_end() { !self.submission.exact } else { self.is_issued() }
    }

    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take().map(|(_, error)| error)
    }

    /// Records that a read met the end of the file `offset` bytes into the request; the nearest is kept.
    pub(super) fn met_end(&mut self, offset: u64) {
        self.eof = Some(self.eof.map_or(offset, |nearest| nearest.min(offset)));
    }

    /// Records that a read met the end of the file `got` bytes into a block.
    pub(super) fn met_end_at(&mut self, extent: &Extent, got: u64) {
        if let Some(pieces) = &self.submission.pieces {
            pieces.met_end(extent.file_start + extent.skip + got);
        }
        self.met_end(extent.offset + got);
    }

    pub(super) fn has_met_end(&self) -> bool {
        self.eof.is_some()
    }

    /// Whether nothing of it is in flight or being summed.
    pub(super) fn is_drained(&self) -> bool {
        self.in_flight == 0 && !self.is_summed()
    }

    /// Whether threads sum bytes of it.
    pub(super) fn is_summed(&self) -> bool {
        self.summing.as_ref().is_some_and(|summing| summing.running > 0)
    }

    /// Bytes moved from the start without a gap, once nothing is in flight.
    pub(super) fn transferred(&self) -> u64 {
        let failure = self.failure.as_ref().map_or(u64::MAX, |&(offset, _)| offset);
        self.cursor.min(failure).min(self.eof.unwrap_or(u64::MAX))
    }
}
