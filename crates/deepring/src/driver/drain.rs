//! Early ends: cancellation, shutdown, and the loss of the ring.

use super::Driver;
use super::request::{Submission, Target};
use crate::backend::start::BackendReport;
use crate::error::{Error, ErrorKind};
use crate::inode::GiveUp;
use crate::planted::{PlantedBug, planted};
use crate::stats::add;
use crate::sys::Errno;
use crate::trace;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Outcomes of dropped requests that wait for their delivery.
const OUTCOMES_HELD: usize = 1024;

impl Driver {
    /// Drops every canceled request: queued ones at once, the others as soon as nothing of them is in flight.
    pub(super) fn sweep(&mut self) {
        let stopping = self.stopping;
        let gone = |submission: &Submission| stopping || submission.reply.canceled();
        if stopping {
            self.fail_unfinished();
        }
        let mut of_paths = Vec::new();
        self.paths.sweep(gone, &mut of_paths);
        for key in self.requests.keys() {
            self.requests[key].look();
        }
        // Out of all lines at once: one by one would be quadratic in their number.
        let requests = &self.requests;
        for queue in &mut self.queues {
            queue.schedule.sweep(|key| requests[key].is_stopped());
        }
        for window in self.windows.values_mut() {
            window.sweep(|key| requests[key].is_stopped());
        }
        for submission in of_paths {
            self.drop_swept(submission);
        }
        for queue in 0..self.queues.len() {
            for place in self.queues[queue].schedule.places() {
                let Some((flow, mut fresh)) = self.queues[queue].schedule.lend(place) else { continue };
                // Each is dropped where it stands: a hundred thousand that are moved out first cost more than their ends.
                for _ in 0..fresh.len() {
                    match fresh.pop_front() {
                        Some(submission) if gone(&submission) => self.drop_swept(submission),
                        kept => fresh.extend(kept),
                    }
                }
                self.queues[queue].schedule.give_back(flow, fresh);
            }
        }
        for key in self.requests.keys() {
            if self.requests[key].is_stopped() {
                if planted(PlantedBug::FreesOnDrop) {
                    self.settle_early(key);
                }
                // It stands in no line any more, and one that is over is not woken.
                self.conclude_unqueued(key);
            }
        }
        self.sweep_controls();
        // The first in a line for a window can have left it.
        for number in self.windows.keys().copied().collect::<Vec<_>>() {
            self.wake_first(number);
        }
    }

    /// As [`Driver::drop_queued`], of one of many.
    pub(super) fn drop_swept(&mut self, submission: Submission) {
        self.drop_queued(submission);
        // A million of them are not to hold a million outcomes at once.
        if self.settled.len() >= OUTCOMES_HELD {
            self.deliver_outcomes();
        }
    }

    /// The engine shuts down: what is not issued yet fails.
    fn fail_unfinished(&mut self) {
        for key in self.requests.keys() {
            let request = &mut self.requests[key];
            if !request.is_over() {
                let canceled = Error::new(ErrorKind::Canceled, request.submission.direction.call_name());
                request.fail(request.cursor, canceled.advise("the engine is shutting down"));
            }
        }
    }

    /// Ends a request that has not begun. If a trim was left to it, because it was to move the end of its file, that is
    /// done first.
    pub(super) fn drop_queued(&mut self, mut submission: Submission) {
        let (file, accepted) = match (&submission.target, submission.accepted) {
            (Target::File(file), Some(accepted)) => (Arc::clone(file), accepted),
            (Target::File(_), None) => return self.settle_dropped(submission),
            (Target::Path(target), _) => {
                let error = Error::new(ErrorKind::Canceled, submission.direction.call_name()).at(&target.name.path);
                return self.settle_unopened(submission, error);
            }
        };
        let error = Error::new(ErrorKind::Canceled, submission.direction.call_name());
        match file.inode.give_up_end(accepted, 0) {
            GiveUp::Done(without_end) => {
                submission.accepted = Some(without_end);
                self.settle_unopened(submission, error.at(&file.path));
            }
            GiveUp::MustTrim => {
                let queue = self.queue_of(&file);
                let key = self.admit(submission, file, queue);
                self.requests[key].fail(0, error);
                self.conclude_unqueued(key);
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.sweep();
    }

    pub(super) fn is_drained(&self) -> bool {
        let device_is_done = self.requests.len() == 0 && self.blocks.len() == 0;
        (device_is_done || planted(PlantedBug::ClosesEarly)) && self.controls.len() == 0 && self.jobs == 0 && self.settled.is_empty()
    }

    /// The backend will never report on what it holds: those blocks fail, and their memory is leaked and counted.
    pub(super) fn lose_backend(&mut self, errno: Errno) {
        let mut affected = Vec::new();
        for key in self.blocks.keys() {
            if !self.blocks[key].is_at_backend() {
                continue;
            }
            let mut block = self.blocks.take(key);
            block.leak();
            let riders = mem::take(&mut block.riders);
            let counters = &self.core.counters;
            add(&counters.leaked, 1);
            add(&counters.leaked_bytes, block.extent.file_len);
            self.untrack(&block);
            self.release_resources(block.request, &block.extent, block.grant);
            let request = &mut self.requests[block.request];
            request.in_flight -= 1;
            request.memory_lost = true;
            let lost = Error::new(ErrorKind::Lost, request.submission.direction.call_name());
            let lost = lost.advise(format!("the ring failed with error {errno}"));
            request.fail(block.extent.offset, lost.clone());
            affected.push(block.request);
            self.settle_riders(riders, Some(&lost));
        }
        trace::ring_lost(errno, affected.len());
        match self.backend.successor() {
            Ok(successor) => {
                self.backend = successor;
                let reason = format!("the ring was lost while running (error {errno}); new requests go to threads");
                let mut report = self.core.report.lock().unwrap_or_else(PoisonError::into_inner);
                *report = BackendReport { kind: self.backend.kind(), reason, flags: Vec::new(), ring_entries: 0 };
            }
            // No ring and no thread: the next wait fails again, and everything submitted until then fails as lost.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
        affected.sort_unstable_by_key(|key| key.to_bits());
        affected.dedup();
        for key in affected {
            self.conclude(key);
        }
    }
}
