//! The end of a request: its outcome, its receipt, and the delivery of both.

use super::Driver;
use super::flows::Hold;
use super::request::{Event, Phase, Request, Submission, Target};
use crate::backend::BackendKind;
use crate::blocking::Line;
use crate::completion::{Completion, Outcome, Receipt, Reply};
use crate::error::{Error, ErrorKind};
use crate::open::OpenFile;
use crate::plan::Direction;
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use crate::stats::{add, add_alone, sub};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An outcome not yet delivered.
pub(super) struct Settled {
    reply: Reply,
    ending: Ending,
    /// The file, which can be closed only when all its outcomes have been delivered. A path request's file is closed
    /// before.
    file: Option<Arc<OpenFile>>,
}

enum Ending {
    Outcome(Outcome),
    /// Canceled before it began, with nothing to undo: that many are at once, and few of them need an error.
    Dropped {
        direction: Direction,
        position: u64,
        len: u64,
    },
    Delivered,
}

impl Settled {
    fn new(reply: Reply, result: Result<Receipt, Error>, memory_lost: bool, file: Option<Arc<OpenFile>>) -> Self {
        Self { reply, ending: Ending::Outcome(Outcome { result, memory_lost }), file }
    }

    /// Returns false if the completion panicked.
    fn deliver(&mut self) -> bool {
        match mem::replace(&mut self.ending, Ending::Delivered) {
            Ending::Outcome(outcome) => self.reply.settle(outcome),
            Ending::Dropped { direction, position, len } => self.reply.settle_dropped(&|| {
                let error = Error::new(ErrorKind::Canceled, direction.call_name()).range(position, len, 0);
                self.file.iter().fold(error, |error, file| error.at(&file.path))
            }),
            Ending::Delivered => true,
        }
    }

    /// Whether both can be delivered at once: they were dropped, and are of one file and completion.
    fn ends_with(&self, other: &Self) -> bool {
        let are_dropped = matches!((&self.ending, &other.ending), (Ending::Dropped { .. }, Ending::Dropped { .. }));
        let of_one_file = || match (&self.file, &other.file) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        are_dropped && of_one_file() && self.reply.shares_completion(&other.reply)
    }

    /// Delivers the outcomes of neighbors that end with each other. Returns how many completions panicked.
    fn deliver_together(neighbors: &mut [Self], tags: &mut Vec<u64>) -> u64 {
        let mut taken = Some(false);
        if let [first, _, ..] = &*neighbors {
            tags.clear();
            tags.extend(neighbors.iter().map(|settled| settled.reply.tag()));
            taken = first.reply.settle_together(tags);
        }
        if taken == Some(false) {
            return neighbors.iter_mut().map(|settled| u64::from(!settled.deliver())).sum();
        }
        let let_go = |settled: &mut Self| {
            settled.ending = Ending::Delivered;
            u64::from(!settled.reply.let_go())
        };
        u64::from(taken.is_none()) + neighbors.iter_mut().map(let_go).sum::<u64>()
    }
}

impl Drop for Settled {
    /// For a driver that unwinds: that memory is lost must reach its owner.
    fn drop(&mut self) {
        self.deliver();
    }
}

impl Driver {
    /// Goes on with a request that can be over: after a block, a failure or a cancellation.
    pub(super) fn conclude(&mut self, key: Key) {
        if self.requests[key].is_over() {
            self.unqueue(key);
            self.conclude_unqueued(key);
        }
    }

    /// The same for a request that is over and stands in no line.
    pub(super) fn conclude_unqueued(&mut self, key: Key) {
        let request = &mut self.requests[key];
        debug_assert!(request.is_over());
        if request.place.take().is_some() {
            self.queues[request.queue].schedule.release(request.flow, Hold::Range);
        }
        if matches!(request.phase(), Phase::Ready | Phase::Parked(_)) {
            request.step(Event::Over);
        }
        let request = &self.requests[key];
        if request.phase() == Phase::Draining && request.is_drained() && (!request.is_write() || self.release_end(key)) {
            if self.requests[key].is_by_path() { self.close_path(key) } else { self.settle(key) }
        }
    }

    /// Takes a request out of every line: its device's schedule, and the one for its handle's window.
    pub(super) fn unqueue(&mut self, key: Key) {
        let request = &self.requests[key];
        if request.phase() == Phase::Ready {
            self.queues[request.queue].schedule.remove(request.flow, key);
        }
        self.leave_window(key);
    }

    /// Ends the request in its inode, and queues its outcome.
    pub(super) fn settle(&mut self, key: Key) {
        let mut request = self.requests.take(key);
        debug_assert!(request.is_drained() && request.late_edges.is_empty());
        request.claim.release(&request.file);
        let result = self.result_of(&mut request);
        let Request { submission, file, memory_lost, .. } = request;
        self.count(&submission, &result);
        let file = match &submission.target {
            Target::File(_) => Some(file),
            Target::Path(_) => {
                self.paths.ended(&submission);
                None
            }
        };
        if planted(PlantedBug::SettlesTwice) && result.is_err() {
            self.settled.push(Settled::new(submission.reply.twin(), result.clone(), memory_lost, None));
        }
        self.settled.push(Settled::new(submission.reply, result, memory_lost, file));
    }

    fn result_of(&self, request: &mut Request) -> Result<Receipt, Error> {
        let Submission { direction, position, len, exact, .. } = request.submission;
        let call = direction.call_name();
        let transferred = request.transferred();
        let failure = request.take_failure();
        let pieces = request.submission.pieces.as_ref();
        if let Some(failure) = pieces.filter(|pieces| !pieces.partial).and_then(|pieces| pieces.first_failure(exact)) {
            return Err(failure.at(&request.file.path));
        }
        let range = |error: Error| {
            let error = error.at(&request.file.path);
            if pieces.is_some() { error } else { error.range(position, len, transferred) }
        };
        if let Some(error) = failure {
            return Err(range(error));
        }
        if request.has_met_end() && exact && pieces.is_none() {
            return Err(range(Error::new(ErrorKind::Eof, call)));
        }
        if !request.has_met_end() && transferred < len {
            return Err(range(Error::new(ErrorKind::Canceled, call)));
        }
        let checksum = request.summing.as_ref().and_then(|summing| summing.value(transferred));
        if let Some(Err(wrong)) = checksum.map(|actual| request.submission.checksum.check(actual)) {
            return Err(range(Error::new(wrong, call)));
        }
        let now = self.now;
        let tally = &request.tally;
        let started = tally.first_block_at.unwrap_or(now);
        Ok(Receipt {
            bytes: pieces.map_or(transferred, |pieces| pieces.bytes_read()),
            backend: if request.file.blocks_submitters { BackendKind::Threads } else { self.backend.kind() },
            direct: !tally.buffered,
            blocks: tally.blocks,
            bounced: tally.bounced,
            resumed: tally.resumed,
            retried: tally.retried,
            queue: started.saturating_duration_since(request.submission.accepted_at),
            device: now.saturating_duration_since(started),
            checksum,
        })
    }

    fn count(&self, submission: &Submission, result: &Result<Receipt, Error>) {
        let counters = &self.core.counters;
        sub(&counters.queued, 1);
        match result {
            Ok(receipt) => {
                add_alone(&counters.completed, 1);
                let moved = match submission.direction {
                    Direction::Read => &counters.read_bytes,
                    Direction::Write => &counters.written_bytes,
                };
                add_alone(moved, receipt.bytes);
                counters.record_latency(submission.priority, (receipt.queue + receipt.device).as_micros() as u64);
            }
            Err(error) if error.kind() == ErrorKind::Canceled => add_alone(&counters.canceled, 1),
            Err(_) => add(&counters.failed, 1),
        }
    }

    /// Ends a request that never got as far as a file.
    pub(super) fn settle_unopened(&mut self, submission: Submission, error: Error) {
        let Submission { position, len, .. } = submission;
        let result = Err(error.range(position, len, 0));
        if let (Some(accepted), Target::File(file)) = (submission.accepted, &submission.target) {
            file.inode.settle_write(accepted);
        }
        self.count(&submission, &result);
        let file = if let Target::File(file) = submission.target { Some(file) } else { None };
        self.settled.push(Settled::new(submission.reply, result, false, file));
    }

    /// Ends a request of a file that was canceled before it began, and has nothing to undo.
    pub(super) fn settle_dropped(&mut self, submission: Submission) {
        let counters = &self.core.counters;
        sub(&counters.queued, 1);
        add_alone(&counters.canceled, 1);
        let Submission { reply, target, direction, position, len, .. } = submission;
        let file = if let Target::File(file) = target { Some(file) } else { None };
        self.settled.push(Settled { reply, ending: Ending::Dropped { direction, position, len }, file });
    }

    /// Delivers the outcomes of this half turn in one batch, so one wake covers them all.
    pub(super) fn deliver_outcomes(&mut self) {
        let mut settled = mem::take(&mut self.settled);
        let mut tags = Vec::new();
        for neighbors in settled.chunk_by_mut(Settled::ends_with) {
            let panics = Settled::deliver_together(neighbors, &mut tags);
            if panics > 0 {
                add(&self.core.counters.panics, panics);
            }
            self.let_go_of_file(neighbors);
        }
        settled.clear();
        // Delivering settles nothing further; the allocation serves the next batch.
        debug_assert!(self.settled.is_empty());
        self.settled = settled;
    }

    /// Outcomes of one file were delivered: only now, so that a close ends after everything it waited for.
    fn let_go_of_file(&mut self, neighbors: &mut [Settled]) {
        let count = neighbors.len();
        let Some((last, others)) = neighbors.split_last_mut() else { return };
        let Some(file) = last.file.take() else { return };
        // None of these is the last reference.
        for settled in others {
            settled.file = None;
        }
        if file.unsettled.fetch_sub(count, Ordering::AcqRel) == count {
            self.try_closes(&file);
        }
        self.release(file);
    }

    /// Drops a reference to a file; if it is the last one, on a blocking thread, because closing can block.
    pub(super) fn release(&self, file: Arc<OpenFile>) {
        // Counting first could miss that another thread drops the last but one.
        if let Some(file) = Arc::into_inner(file) {
            self.core.blocking.run(Line::Mount(file.fate), Box::new(move || drop(file)));
        }
    }
}

/// For [`PlantedBug::FreesOnDrop`]: the completion of a request whose outcome was delivered too early.
struct Ignored;

impl Completion for Ignored {
    fn settle(self: Arc<Self>, _: Outcome) {}

    fn canceled(&self) -> bool {
        true
    }
}

impl Driver {
    /// [`PlantedBug::FreesOnDrop`]: delivers the outcome of a canceled request while blocks of it are in flight.
    pub(super) fn settle_early(&mut self, key: Key) {
        // With bounced blocks the bug shows when freed memory is copied to, and then anything can happen.
        let blocks: Vec<_> = self.blocks.keys().into_iter().filter(|block| self.blocks[*block].request == key).collect();
        let at_device = !blocks.is_empty() && blocks.iter().all(|block| !self.blocks[*block].extent.bounce);
        let request = &mut self.requests[key];
        if at_device && request.is_canceled() {
            let reply = mem::replace(&mut request.submission.reply, Reply::new(Arc::new(Ignored), 0));
            let result = Err(Error::new(ErrorKind::Canceled, request.submission.direction.call_name()));
            self.settled.push(Settled::new(reply, result, false, None));
        }
    }
}
