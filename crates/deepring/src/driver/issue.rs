//! From a submission to a block in flight: into its device's schedule, and out of it when its turn comes.
//!
//! A block is issued when the backend has a place, the handle's window and the device's budget have room, and the range
//! of a write can be locked. Only the budget, which other engines share, is taken before the last of them is known, and
//! can have to be given back. Without a place or budget the request keeps its turn; without room in its window, or
//! without the lock, it parks.

use super::Driver;
use super::block::Grant;
use super::device::{Device, limit_of};
use super::flows::Hold;
use super::message::Answer;
use super::request::{Claim, Event, Phase, Request, Submission, Target, Waiting};
use super::schedule::{Contention, Issued, Next, Price, Round, Schedule};
use super::window::{Room, Window};
use crate::blocking::Line;
use crate::budget::Cost;
use crate::inode::{Access, RangeLock};
use crate::open::{Device as Found, OpenFile};
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use crate::stats::add;
use crate::sys::fault;
use std::sync::Arc;

/// Requests of a queue for which room is made at once.
const MAKING_ROOM_MAX: usize = 64;

/// The requests of one file system (or block device): what gets stuck together.
pub(super) struct Queue {
    /// The index of its device, whose budget it shares with the other file systems there.
    pub(super) device: usize,
    pub(super) schedule: Schedule<Submission>,
    /// Requests for which room is being made.
    pub(super) making_room: usize,
    /// What its blocks hold of the device's budget.
    pub(super) used: Cost,
    /// Its blocks in flight.
    pub(super) blocks: usize,
}

impl Driver {
    /// Takes a submission into its queue.
    pub(super) fn accept(&mut self, submission: Submission) {
        add(&self.core.counters.submitted, 1);
        if self.stopping || submission.reply.canceled() {
            return self.drop_queued(submission);
        }
        match &submission.target {
            Target::Path(_) => self.paths.push(submission),
            Target::File(file) => {
                let file = Arc::clone(file);
                let queue = self.queue_of(&file);
                self.queues[queue].schedule.enqueue(submission.flow(&file), submission);
            }
        }
    }

    fn block_bytes(&self, submission: &Submission) -> u64 {
        let asked = submission.handle.as_ref().map_or(0, |handle| handle.limits().block_bytes);
        if asked == 0 { self.core.config.block_bytes } else { asked }
    }

    /// Makes a request of a submission in the queue of its file.
    pub(super) fn admit(&mut self, submission: Submission, file: Arc<OpenFile>, queue: usize) -> Key {
        let block_bytes = self.block_bytes(&submission);
        self.requests.insert(Request::new(submission, file, queue, block_bytes))
    }

    /// The queue of the file system that this file lives on.
    pub(super) fn queue_of(&mut self, file: &Arc<OpenFile>) -> usize {
        let id = if planted(PlantedBug::DepthPerHandle) { Arc::as_ptr(file) as u64 } else { file.device.id };
        if let Some(&index) = self.queue_index.get(&(id, file.fate)) {
            self.devices[self.queues[index].device].follow(&self.core.config, &file.device);
            return index;
        }
        let device = if let Some(&index) = self.device_index.get(&id) {
            self.devices[index].is_shared = true;
            index
        } else {
            let config = self.core.config;
            let budget = self.core.devices.join(id, limit_of(&config, &file.device), self.core.inbox.doorbell());
            let board = self.core.windows.add(id, &file.device.name);
            self.devices.push(Device::new(&config, &file.device, budget, board));
            let index = self.devices.len() - 1;
            self.device_index.insert(id, index);
            self.ask_for_profile(index, &file.device);
            index
        };
        self.queues.push(Queue { device, schedule: Schedule::new(), making_room: 0, used: Cost::NOTHING, blocks: 0 });
        let index = self.queues.len() - 1;
        self.queue_index.insert((id, file.fate), index);
        index
    }

    /// Has the profile of a device read. Its directory can be on any file system, and counts as one in which a path is
    /// opened.
    fn ask_for_profile(&mut self, index: usize, found: &Arc<Found>) {
        let Some(line) = self.core.profiles.path().map(Line::of_path) else { return };
        let (core, found) = (Arc::clone(&self.core), Arc::clone(found));
        self.ask(line, move || Answer::Profiled(index, core.profiles.meet(&found)));
    }

    /// Issues everything that can go. Each turn begins with another queue.
    pub(super) fn issue_all(&mut self) {
        self.open_paths();
        self.first_queue = self.first_queue.wrapping_add(1);
        self.devices.iter_mut().for_each(|device| device.budget.begin());
        for offset in 0..self.queues.len() {
            let queue = (self.first_queue + offset) % self.queues.len();
            let mut round = Round::default();
            loop {
                let can_begin = self.has_place(queue) && self.queues[queue].making_room < MAKING_ROOM_MAX;
                let (flow, key) = match self.queues[queue].schedule.next(&round, can_begin) {
                    None => break,
                    Some(Next::Begun(flow, key)) => (flow, key),
                    Some(Next::Fresh(flow, submission)) => {
                        let Target::File(file) = &submission.target else {
                            debug_assert!(false, "path requests are opened before they are scheduled");
                            continue;
                        };
                        if submission.reply.canceled() {
                            // The sweep is still to come. Of a hundred thousand, none is to become a request for that.
                            self.queues[queue].schedule.pass(flow);
                            self.drop_swept(submission);
                            continue;
                        }
                        let file = Arc::clone(file);
                        (flow, self.admit(submission, file, queue))
                    }
                };
                let issued = self.issue(key);
                self.queues[queue].schedule.report(&mut round, flow, key, issued);
            }
        }
        self.devices.iter_mut().for_each(|device| device.budget.end());
        self.sample_devices();
    }

    /// All that can go was issued: what is left tells how much the windows hold back.
    fn sample_devices(&mut self) {
        let now = fault::elapsed().unwrap_or_else(|| self.now.saturating_duration_since(self.started));
        for index in 0..self.devices.len() {
            let queues = self.queues.iter_mut().filter(|queue| queue.device == index);
            let contention = queues.map(|queue| queue.schedule.take_contention()).max().unwrap_or(Contention::Alone);
            self.devices[index].sample(now, contention);
        }
    }

    /// Whether the backend takes another operation of this queue. A queue gets no more places than it leaves free, so
    /// however many are stuck, there is one for the next.
    fn has_place(&self, queue: usize) -> bool {
        let free = self.backend.capacity().saturating_sub(self.blocks.len());
        self.queues[queue].blocks < free || planted(PlantedBug::TakesEveryPlace) && free > 0
    }

    /// Issues the next block of a request whose turn it is, if it can go. Unless `Full`, it is not in the schedule now.
    fn issue(&mut self, key: Key) -> Issued {
        if !self.has_place(self.requests[key].queue) {
            return Issued::Full;
        }
        let request = &mut self.requests[key];
        debug_assert_eq!(request.phase(), Phase::Ready);
        request.look();
        if request.is_stopped() {
            self.leave_window(key);
            self.conclude_unqueued(key);
            return Issued::Left(Price::NOTHING);
        }
        if (matches!(request.claim, Claim::Accepted(_)) || request.awaits_end) && !self.activate(key) {
            return Issued::Left(Price::NOTHING);
        }
        let request = &mut self.requests[key];
        let direction = request.submission.direction;
        let block_max = self.devices[self.queues[request.queue].device].block_bytes(direction);
        let Some((extent, memory)) = request.next_extent(block_max) else {
            // A write of nothing, which only makes a file and ends it.
            self.conclude_unqueued(key);
            return Issued::Left(Price::NOTHING);
        };

        if request.is_out_of_order(extent.file_end()) {
            self.leave_window(key);
            self.requests[key].step(Event::Queued(Waiting::Order));
            return Issued::Left(Price::NOTHING);
        }
        // A handle without a window has nothing in flight.
        if let Some(handle) = &request.submission.handle
            && let Some(window) = self.windows.get_mut(&(handle.number(), request.queue))
            && window.room_for(key) == Room::Queued
        {
            request.step(Event::Queued(Waiting::Window));
            return Issued::Left(Price::NOTHING);
        }
        let queue = &self.queues[request.queue];
        let device = &mut self.devices[queue.device];
        let (cost, size) = (device.cost(extent.file_len), request.flow.size);
        if !device.has_room(direction, size, request.flow.class, cost) {
            return Issued::Full;
        }
        if device.is_shared && !device.budget.own().fits_share(cost, queue.used) || !device.budget.take(cost) {
            device.was_full(direction, size);
            return Issued::Full;
        }
        let range = request.is_write().then(|| {
            // Far enough apart that the ranges of two opens never meet.
            let lane = if planted(PlantedBug::LocksPerHandle) { Arc::as_ptr(&request.file) as u64 } else { 0 };
            // Buffered writes are locked too: another open of the file can be direct.
            RangeLock::of(lane + extent.file_start, lane + extent.file_end(), extent.rmw, !request.file.is_direct())
        });
        let retry = &self.retry_request;
        let waited = request.place.is_some();
        let access = range.map(|range| request.file.inode.lock_range(range, &mut request.place, || (Arc::clone(retry), key)));
        let waits = request.place.is_some();
        if waited != waits {
            let schedule = &mut self.queues[request.queue].schedule;
            if waits { schedule.hold(request.flow, Hold::Range) } else { schedule.release(request.flow, Hold::Range) }
        }
        if access == Some(Access::Queued) {
            device.budget.give(cost);
            self.leave_window(key);
            self.requests[key].step(Event::Queued(Waiting::Range));
            return Issued::Left(Price::NOTHING);
        }
        let lock = match range.map(|range| (range, request.file.lock_block(&extent, range))) {
            Some((range, Err(why))) => {
                device.budget.give(cost);
                request.file.inode.unlock_range(range);
                self.leave_window(key);
                self.cannot_lock(key, why);
                return Issued::Left(Price::NOTHING);
            }
            lock => lock.and_then(|(_, lock)| lock.ok()),
        };
        let queue = &mut self.queues[request.queue];
        queue.used.add(cost);
        queue.blocks += 1;
        device.take(direction, size, cost);
        let price = device.price(direction, cost, extent.len);
        self.take_window(key);
        let started = self.start_block(key, extent, memory, Grant { cost, bytes: cost.bytes, at_device: true, lock });
        let request = &self.requests[key];
        if request.submission.handle.as_ref().is_some_and(|handle| handle.limits().single_submit) {
            // An error shows again at the next wait, where it is handled.
            let _ = self.backend.submit();
        }
        if !started || self.requests[key].is_issued() {
            self.leave_window(key);
            self.conclude_unqueued(key);
            return Issued::Left(price);
        }
        Issued::More(price)
    }

    /// A request that waited can go on: it stands in its device's line again.
    pub(super) fn ready(&mut self, key: Key) {
        let request = &self.requests[key];
        debug_assert_eq!(request.phase(), Phase::Ready);
        self.queues[request.queue].schedule.ready(request.flow, key);
    }

    /// Something that a request waited for is free again.
    pub(super) fn wake_request(&mut self, key: Key) {
        // The request can have ended since it registered, or wait for something else by now.
        let Some(request) = self.requests.get_mut(key) else { return };
        if matches!(request.phase(), Phase::Parked(Waiting::Range | Waiting::Truncation | Waiting::Process)) {
            request.step(Event::Woken);
            self.ready(key);
        }
    }

    // ---- the windows of handles ----

    fn window_of(&self, key: Key) -> Option<(u64, usize)> {
        let request = &self.requests[key];
        request.submission.handle.as_ref().map(|handle| (handle.number(), request.queue))
    }

    /// A block of this request takes its place in its handle's window.
    fn take_window(&mut self, key: Key) {
        let request = &self.requests[key];
        if let Some(handle) = &request.submission.handle {
            let number = (handle.number(), request.queue);
            self.windows.entry(number).or_insert_with(|| Window::new(handle.limits())).take(key);
            self.wake_first(number);
        }
    }

    /// A block of this request is done: its place in its handle's window is free.
    pub(super) fn give_window(&mut self, key: Key) {
        if let Some(number) = self.window_of(key)
            && let Some(window) = self.windows.get_mut(&number)
        {
            window.give();
            self.wake_first(number);
        }
    }

    /// The request waits for something else than its window, or is over. Called before its phase changes.
    pub(super) fn leave_window(&mut self, key: Key) {
        let Some(number) = self.window_of(key) else {
            // Most requests have no handle.
            return;
        };
        let phase = self.requests[key].phase();
        let Some(window) = self.windows.get_mut(&number) else {
            // An idle window was dropped, and nothing stands in line for it.
            return;
        };
        match phase {
            Phase::Parked(Waiting::Window) => window.leave(key),
            // It was woken, and is the first in line until it issues a block.
            Phase::Ready => window.pass(key),
            _ => return,
        }
        self.wake_first(number);
    }

    /// Wakes the first request in line for a window, if there is room for it. Drops a window that is idle.
    pub(super) fn wake_first(&mut self, number: (u64, usize)) {
        let Some(window) = self.windows.get(&number) else {
            // An idle window was dropped, and nothing stands in line for it.
            return;
        };
        if window.is_idle() {
            self.windows.remove(&number);
        } else if let Some(key) = window.first() {
            let request = &mut self.requests[key];
            // It can have been woken before, and stand in its device's line.
            if request.phase() == Phase::Parked(Waiting::Window) {
                request.step(Event::Woken);
                self.ready(key);
            }
        }
    }
}
