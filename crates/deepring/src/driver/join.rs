//! Writes that share a unit are joined: while one has the unit of an edge in memory, the bytes of those that wait for
//! the same unit are put on top, and all are written at once.
//!
//! Each remains a request of its own, with its own outcome; one that rides along has no operation at the device, and
//! takes no budget and no place in a window. Only writes of one open file ride along, and only where the file does not
//! end: there every request has to put the end in order itself.

use super::Driver;
use super::flows::Hold;
use super::offload::put;
use super::request::{Claim, Event, Phase, Waiting};
use crate::error::Error;
use crate::inode::Waiter;
use crate::plan::{Extent, extent_at};
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use crate::stats::add;
use std::sync::Arc;

/// Writes that are joined at once.
const RIDERS_MAX: usize = 256;

/// A request whose bytes are in the bounce block of another's edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rider {
    pub(super) request: Key,
    pub(super) extent: Extent,
}

impl Driver {
    /// The edge has read its unit and is about to write it: takes along those that wait for the unit.
    pub(super) fn take_riders(&mut self, edge: Key) {
        let block = &self.blocks[edge];
        let carrier = &self.requests[block.request];
        let Some(lock) = block.grant.lock.filter(|_| matches!(carrier.claim, Claim::Active(_)) && carrier.file.is_direct()) else {
            return;
        };
        let (file, unit) = (&carrier.file, block.extent);
        let requests = &self.requests;
        let as_rider = |waiter: &Waiter| {
            let (retry, key) = waiter;
            let request = requests.get(*key).filter(|_| Arc::ptr_eq(retry, &self.retry_request))?;
            let fits = Arc::ptr_eq(&request.file, file)
                && request.phase() == Phase::Parked(Waiting::Range)
                && matches!(request.claim, Claim::Active(_))
                && !request.is_stopped();
            let extent = extent_at(file.geometry(), &request.span(u64::MAX), request.cursor).filter(|_| fits)?;
            let is_same = extent.rmw && (extent.file_start, extent.file_end()) == (unit.file_start, unit.file_end());
            is_same.then_some(Rider { request: *key, extent })
        };
        let riders = file.inode.join_waiting(lock.range(), RIDERS_MAX, as_rider);
        for &Rider { request, extent } in &riders {
            if let Some(bounce) = &mut self.blocks[edge].bounce
                && !planted(PlantedBug::ForgetsRider)
            {
                put(bounce, &extent, self.requests[request].submission.address + extent.offset, None);
            }
            self.sum_issued(request, &extent, false);
            self.board(request, &extent);
        }
        self.blocks[edge].riders = riders;
    }

    /// A request rides along with its next block.
    fn board(&mut self, key: Key, extent: &Extent) {
        let request = &mut self.requests[key];
        request.place = None;
        self.queues[request.queue].schedule.release(request.flow, Hold::Range);
        request.tally.first_block_at.get_or_insert(self.now);
        request.tally.blocks += 1;
        request.tally.bounced += extent.len;
        add(&self.core.counters.bounced_bytes, extent.len);
        request.in_flight += 1;
        request.cursor += extent.len;
        if request.is_issued() {
            request.step(Event::Over);
        } else {
            request.step(Event::Woken);
            self.ready(key);
        }
    }

    /// The block that these rode along with is done, or has failed.
    pub(super) fn settle_riders(&mut self, riders: Vec<Rider>, error: Option<&Error>) {
        for Rider { request: key, extent } in riders {
            let request = &mut self.requests[key];
            if let Some(error) = error {
                request.fail(extent.offset, error.clone());
            }
            request.in_flight -= 1;
            self.conclude(key);
        }
    }
}
