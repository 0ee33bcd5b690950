//! From the queues to the device: which request goes next, and whether its next block may go.
//!
//! A device has two queues, for requests of one block and for larger ones, and serves them in turn, so that a small request passes a large
//! one. Large requests share the device in quanta. A block goes when there is room in the backend, in its handle's window and in the
//! device's budget, and when the locks it needs are free; a request that lacks one of the last two waits outside the queues.

use super::complete::{retire, write_edge};
use super::request::{Block, Ends, PathTarget, Request, Stage, Submission, Target, Waits};
use super::{Driver, Message, Opened};
use crate::backend::threads::{Threads, transfer};
use crate::backend::{Backend, BackendKind, DeviceOp, Done};
use crate::budget::{Budget, Cost};
use crate::buffer::Buffer;
use crate::error::{Error, ErrorKind};
use crate::inode::{Access, Extension, RangeLock};
use crate::open::{OpenFile, OpenOptions};
use crate::plan::{Direction, Extent, extent_at};
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use crate::stats::{add, sub};
use crate::sys::memory;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Files of path requests that are open at once: twice what is in flight of files of half a block, and few enough for `ulimit -n 256`.
const OPEN_PATHS_MAX: usize = 128;

/// So many files are opened, and closed, by one helper at a time: waking a thread costs as much as opening a file.
const PATH_BATCH: usize = 8;

/// Requests for which room is made at once.
const EXTENDING_MAX: usize = 64;

/// A large request keeps its turn for this many bytes: long enough for sequential transfers, short enough to share the device.
const QUANTUM_BYTES: u64 = 16 << 20;

/// What a device request can carry at most in scattered memory: 254 segments of 4 KiB on common queues, less one for safety of rounding.
const SCATTERED_REQUEST_BYTES: u64 = 1 << 20;

pub(crate) fn call_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    }
}

/// The requests of one device, and what it may have in flight.
pub(super) struct DeviceQueue {
    budget: Budget,
    request_bytes: u64,
    /// Requests that have not begun, by size.
    fresh_small: VecDeque<Submission>,
    fresh_large: VecDeque<Submission>,
    /// Requests that have begun and can go on.
    small: VecDeque<Key>,
    large: VecDeque<Key>,
    /// Whose turn it is when both have work.
    large_next: bool,
    /// What the large request at the front has had of its quantum.
    spent: u64,
}

impl DeviceQueue {
    pub(super) fn give_back(&mut self, cost: Cost) {
        self.budget.give(cost);
    }

    #[cfg(feature = "sim")]
    pub(super) fn used(&self) -> Cost {
        self.budget.used()
    }

    pub(super) fn ready(&mut self, key: Key, large: bool) {
        if large { self.large.push_back(key) } else { self.small.push_back(key) }
    }

    pub(super) fn fresh_queues(&mut self) -> [&mut VecDeque<Submission>; 2] {
        [&mut self.fresh_small, &mut self.fresh_large]
    }

    fn has(&self, large: bool) -> bool {
        if large { !self.large.is_empty() || !self.fresh_large.is_empty() } else { !self.small.is_empty() || !self.fresh_small.is_empty() }
    }

    fn cost(&self, bytes: u64) -> Cost {
        let requests = bytes.div_ceil(self.request_bytes.clamp(4096, SCATTERED_REQUEST_BYTES));
        Cost { requests: requests as u32, bytes }
    }
}

/// What became of an attempt to issue a request's next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issue {
    /// Issued, and there are more.
    More(u64),
    /// Not this one, not now: it waits elsewhere, or is done.
    Away,
    /// The device takes no more.
    Full,
}

impl Driver {
    /// Takes a submission into its queue.
    pub(super) fn accept(&mut self, submission: Submission) {
        add(&self.core.counters.submitted, 1);
        if self.stopping || submission.completion.canceled() {
            self.drop_queued(submission);
            return;
        }
        match &submission.target {
            Target::Path(_) => self.paths.push_back(submission),
            Target::File(file) => {
                let device = self.device_of(&Arc::clone(file));
                let large = submission.len > self.block_bytes(&submission);
                let queue = &mut self.devices[device];
                if large { queue.fresh_large.push_back(submission) } else { queue.fresh_small.push_back(submission) }
            }
        }
    }

    pub(super) fn block_bytes(&self, submission: &Submission) -> u64 {
        let asked = submission.handle.as_ref().map_or(0, |handle| handle.limits().block_bytes);
        if asked == 0 { self.core.config.block_bytes } else { asked }
    }

    /// The queue of the device this file lives on.
    pub(super) fn device_of(&mut self, file: &Arc<OpenFile>) -> usize {
        let id = if planted(PlantedBug::DepthPerHandle) { Arc::as_ptr(file) as u64 } else { file.device.id };
        if let Some(&index) = self.device_index.get(&id) {
            return index;
        }
        let config = self.core.config;
        // Above its queue's size, submitting blocks the submitter; half of it leaves room for others.
        let requests = config.queue_depth.unwrap_or(u32::MAX).min((file.device.requests / 2).max(1));
        self.devices.push(DeviceQueue {
            budget: Budget::new(requests, config.in_flight_bytes),
            request_bytes: file.device.request_bytes,
            fresh_small: VecDeque::new(),
            fresh_large: VecDeque::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            large_next: false,
            spent: 0,
        });
        let index = self.devices.len() - 1;
        self.device_index.insert(id, index);
        index
    }

    /// Issues everything that may go.
    pub(super) fn admit(&mut self) {
        while !self.paths.is_empty() && self.open_paths + PATH_BATCH.min(self.paths.len()) <= OPEN_PATHS_MAX {
            let batch = self.paths.drain(..PATH_BATCH.min(self.paths.len())).collect();
            self.open_paths(batch);
        }
        for device in 0..self.devices.len() {
            self.admit_device(device);
        }
    }

    fn admit_device(&mut self, index: usize) {
        loop {
            let device = &self.devices[index];
            let large = match (device.has(false), device.has(true)) {
                (false, false) => return,
                (true, true) => device.large_next,
                (_, large) => large,
            };
            if self.issue_from(index, large) {
                // Only now: whoever found no place keeps the turn, or else the place that becomes free next is the other's again.
                self.devices[index].large_next = !large;
                continue;
            }
            // A small request may fit where a large one does not.
            if !(large && self.devices[index].has(false) && self.issue_from(index, false)) {
                return;
            }
        }
    }

    /// Issues one block from the queue of small or large requests. Returns `false` when the device takes no more.
    fn issue_from(&mut self, index: usize, large: bool) -> bool {
        let device = &mut self.devices[index];
        let queue = if large { &mut device.large } else { &mut device.small };
        let key = if let Some(key) = queue.pop_front() {
            key
        } else {
            if self.blocks.len() >= self.backend.capacity() || self.extending >= EXTENDING_MAX {
                return false;
            }
            let fresh = if large { &mut device.fresh_large } else { &mut device.fresh_small };
            let Some(submission) = fresh.pop_front() else { return true };
            let Target::File(file) = &submission.target else { return true };
            let file = Arc::clone(file);
            let block_bytes = self.block_bytes(&submission);
            self.requests.insert(Request::new(submission, file, index, block_bytes))
        };
        let issued = self.issue(key);
        let device = &mut self.devices[index];
        let queue = if large { &mut device.large } else { &mut device.small };
        match issued {
            Issue::More(bytes) => {
                device.spent += bytes;
                if device.spent >= QUANTUM_BYTES {
                    device.spent = 0;
                    queue.push_back(key);
                } else {
                    queue.push_front(key);
                }
                true
            }
            Issue::Away => true,
            Issue::Full => {
                queue.push_front(key);
                false
            }
        }
    }

    /// Issues the next block of a request, if it may go.
    fn issue(&mut self, key: Key) -> Issue {
        if self.blocks.len() >= self.backend.capacity() {
            return if self.requests.get(key).is_some() { Issue::Full } else { Issue::Away };
        }
        let Some(request) = self.requests.get_mut(key) else { return Issue::Away };
        if request.waits != Waits::No {
            return Issue::Away;
        }
        if request.is_stopped() {
            let handle = request.submission.handle.as_ref().map(|handle| handle.number());
            self.conclude(key);
            if let Some(handle) = handle {
                self.wake_handle(handle);
            }
            return Issue::Away;
        }
        if request.is_write() && !request.active && !self.activate(key) {
            return Issue::Away;
        }
        let Some(request) = self.requests.get_mut(key) else { return Issue::Away };
        let geometry = request.file.geometry();
        let Some(extent) = extent_at(geometry, &request.span(), request.cursor) else {
            self.conclude(key);
            return Issue::Away;
        };

        if let Some(handle) = &request.submission.handle {
            if !handle.take() {
                request.waits = Waits::Parked;
                let line = self.handle_waiters.entry(handle.number()).or_default();
                if std::mem::take(&mut request.first_in_line) {
                    line.push_front(key);
                } else {
                    line.push_back(key);
                }
                return Issue::Away;
            }
            request.first_in_line = false;
        }
        let device = &mut self.devices[request.device];
        let cost = device.cost(extent.file_len);
        if !device.budget.take(cost) {
            if let Some(handle) = &request.submission.handle {
                handle.untake();
            }
            return Issue::Full;
        }
        // Buffered writes too: another handle of the file may be direct.
        let buffered = !request.file.is_direct();
        // Far enough apart that the ranges of two handles never meet.
        let lane = if planted(PlantedBug::LocksPerHandle) { Arc::as_ptr(&request.file) as u64 } else { 0 };
        let (start, end) = (lane + extent.file_start, lane + extent.file_end());
        let hold = request.is_write().then(|| RangeLock::of(start, end, extent.rmw, buffered));
        let locked = hold.is_none_or(|hold| request.file.inode.lock_range(hold, (Arc::clone(&self.waker), key)) == Access::Granted);
        if !locked {
            request.waits = Waits::Parked;
            device.budget.give(cost);
            if let Some(handle) = &request.submission.handle {
                handle.untake();
            }
            return Issue::Away;
        }
        self.start_block(key, extent, cost, hold)
    }

    /// Everything is granted: makes the block and stages its first operation.
    fn start_block(&mut self, key: Key, extent: Extent, cost: Cost, hold: Option<RangeLock>) -> Issue {
        let Some(request) = self.requests.get_mut(key) else { return Issue::Away };
        request.tally.first_block_at.get_or_insert(self.now);
        request.tally.buffered |= !request.file.is_direct();
        request.in_flight += 1;
        request.cursor += extent.len;
        let direction = request.submission.direction;
        let user_address = request.submission.address + extent.offset;
        let known_empty = request
            .extension
            .is_some_and(|extension: Extension| extent.file_start >= extension.promised && request.file.inode.is_sole_extender(extension));
        let ticket = request.file.inode.read_ticket();
        let nowait = direction == Direction::Write && request.file.nowait();
        let single_submit = request.submission.handle.as_ref().is_some_and(|handle| handle.limits().single_submit);
        let stage = if extent.rmw && !known_empty { Stage::Modify } else { Stage::Transfer };
        let mut block = Block {
            request: key,
            extent,
            stage,
            bounce: None,
            address: user_address,
            from: 0,
            done: 0,
            ends: Ends::default(),
            attempts: 0,
            nowait,
            direct: false,
            at_device: false,
            cost,
            hold,
            ticket,
        };
        if extent.bounce {
            match self.core.pool.bounce(extent.file_len as usize) {
                Ok(mut bounce) => {
                    block.address = bounce.as_mut_ptr() as u64;
                    if direction == Direction::Write && stage == Stage::Transfer {
                        fill(&mut bounce, &extent, 0, user_address);
                    }
                    block.bounce = Some(bounce);
                }
                Err(error) => {
                    request.in_flight -= 1;
                    request.fail(extent.offset, error);
                    self.give_back(&block);
                    self.conclude(key);
                    return Issue::Away;
                }
            }
        }
        if let Some(handle) = request.submission.handle.as_ref().map(|handle| handle.number()) {
            self.wake_handle(handle);
        }
        let counters = &self.core.counters;
        let in_flight = counters.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        counters.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
        let bytes = counters.in_flight_bytes.fetch_add(cost.bytes, Ordering::Relaxed) + cost.bytes;
        counters.in_flight_bytes_max.fetch_max(bytes, Ordering::Relaxed);
        let block_key = self.blocks.insert(block);
        self.stage(block_key);
        if single_submit {
            // An error shows again at the next wait, where it is handled.
            let _ = self.backend.submit();
        }
        let finished = self.requests.get(key).is_none_or(|request| request.cursor >= request.submission.len);
        if finished { Issue::Away } else { Issue::More(extent.len) }
    }

    /// Hands the block's next operation to the backend: from where it got to, to the end of its extent.
    pub(super) fn stage(&mut self, key: Key) {
        if let Some(op) = self.next_operation(key) {
            if self.is_offloaded(key) {
                self.offload(op);
                return;
            }
            self.backend.push(op);
            if let Some(block) = self.blocks.get_mut(key) {
                block.at_device = true;
            }
        }
    }

    /// Carries the block's next operation out by a blocking call on a helper: for a ring that cannot start a worker thread.
    pub(super) fn stage_blocking(&mut self, key: Key) {
        if let Some(op) = self.next_operation(key) {
            let op = DeviceOp { nowait: false, ..op };
            self.help(move || Message::Transferred(Done { key, result: transfer(&op) }));
        }
    }

    /// Whether the block's file is one that a ring must not touch, and a ring runs.
    fn is_offloaded(&self, key: Key) -> bool {
        let request = self.blocks.get(key).and_then(|block| self.requests.get(block.request));
        self.backend.kind() == BackendKind::Uring && request.is_some_and(|request| request.file.blocks_submitters)
    }

    /// Hands an operation to threads that do nothing else, so that whatever stalls there stalls nothing else; without threads, to a helper.
    fn offload(&mut self, op: DeviceOp) {
        if self.off_ring.is_none() {
            self.off_ring = Threads::new(Arc::clone(&self.core.inbox)).ok();
        }
        match &mut self.off_ring {
            Some(threads) => threads.push(op),
            None => self.help(move || Message::Transferred(Done { key: op.key, result: transfer(&op) })),
        }
    }

    fn next_operation(&mut self, key: Key) -> Option<DeviceOp> {
        let block = self.blocks.get_mut(key)?;
        let request = self.requests.get_mut(block.request)?;
        request.tally.blocks += 1;
        block.direct = request.file.is_direct();
        let direction = block.direction(request.submission.direction);
        Some(DeviceOp {
            key,
            fd: request.file.raw(),
            direction,
            address: block.address + block.from,
            len: (block.extent.file_len - block.from) as u32,
            position: block.extent.file_start + block.from,
            nowait: block.nowait && direction == Direction::Write,
        })
    }

    /// Returns what a block holds of budget, handle and locks, and counts it out.
    pub(super) fn give_back(&mut self, block: &Block) {
        let Some(request) = self.requests.get_mut(block.request) else { return };
        self.devices[request.device].give_back(block.cost);
        if let Some(handle) = &request.submission.handle {
            handle.give();
            let handle = handle.number();
            self.wake_handle(handle);
        }
        let Some(request) = self.requests.get_mut(block.request) else { return };
        if let Some(hold) = block.hold {
            if block.extent.rmw && request.extension.is_some() && request.kept.is_none() && hold.end >= request.end() {
                // The unit at the end of the file: nobody else may pad it before this request has trimmed it.
                request.kept = Some(hold);
            } else {
                request.file.inode.unlock_range(hold);
            }
        }
    }

    /// Tells the first request in line that there may be a place in its handle's window.
    pub(super) fn wake_handle(&mut self, handle: u64) {
        let Some(line) = self.handle_waiters.get_mut(&handle) else { return };
        while let Some(key) = line.pop_front() {
            let Some(request) = self.requests.get_mut(key) else { continue };
            if request.waits == Waits::Parked {
                request.first_in_line = true;
                self.resume(key);
                return;
            }
        }
        self.handle_waiters.remove(&handle);
    }

    /// Counts a block out of what is in flight.
    pub(super) fn count_out(&self, block: &Block) {
        sub(&self.core.counters.in_flight, 1);
        sub(&self.core.counters.in_flight_bytes, block.cost.bytes);
    }

    // ---- before the first block ----

    /// Registers a write with its inode and, if it moves the end of the file, makes room. Returns whether blocks may go at once.
    fn activate(&mut self, key: Key) -> bool {
        let Some(request) = self.requests.get_mut(key) else { return false };
        let file = &request.file;
        if file.inode.enter_write((Arc::clone(&self.waker), key)) == Access::Queued {
            request.waits = Waits::Parked;
            return false;
        }
        request.active = true;
        let unit = file.padding_unit();
        let is_empty = request.submission.len == 0;
        let extends = request.is_whole() || !is_empty && request.end().next_multiple_of(unit) > file.inode.size();
        if file.is_block_device || !extends {
            return true;
        }
        self.make_room(key);
        false
    }

    /// Asks a helper to claim the end of the file.
    pub(super) fn make_room(&mut self, key: Key) {
        let Some(request) = self.requests.get_mut(key) else { return };
        request.waits = Waits::Helper;
        self.extending += 1;
        let (file, position, end) = (Arc::clone(&request.file), request.submission.position, request.end());
        self.help(move || {
            let extension = crate::extend::begin(&file, position, end);
            Message::Extended(key, extension.map_err(|(errno, call)| Error::os(errno, call)))
        });
    }

    pub(super) fn extended(&mut self, key: Key, result: Result<Extension, Error>) {
        self.jobs -= 1;
        self.extending -= 1;
        let Some(request) = self.requests.get_mut(key) else { return };
        let late = std::mem::take(&mut request.late);
        match result {
            Ok(extension) => {
                request.extension = Some(extension);
                request.waits = Waits::Parked;
                self.resume(key);
                for block in late {
                    write_edge(self, block);
                }
            }
            Err(error) => {
                request.waits = Waits::No;
                if late.is_empty() {
                    request.fail(request.cursor, error.clone());
                }
                for block in late {
                    let offset = self.blocks.get(block).map_or(0, |block| block.extent.offset);
                    if let Some(request) = self.requests.get_mut(key) {
                        request.fail(offset, error.clone());
                    }
                    retire(self, block);
                }
                self.conclude(key);
            }
        }
    }

    fn open_paths(&mut self, batch: Vec<Submission>) {
        self.open_paths += batch.len();
        self.help(move || {
            let open = |submission| Opened { result: open_target(&submission), submission };
            Message::Opened(batch.into_iter().map(open).collect())
        });
    }

    /// Closes the files of path requests that have ended: a batch at a time, or what there is if nothing is left to make it grow.
    pub(super) fn close_paths(&mut self) {
        let complete = self.path_files.len() >= PATH_BATCH || self.open_paths == self.path_files.len();
        if self.path_files.is_empty() || !complete {
            return;
        }
        let files = std::mem::take(&mut self.path_files);
        self.help(move || {
            let count = files.len();
            for file in files {
                // Nothing was promised about what close says; a write that needs to know syncs.
                drop(file.close());
            }
            Message::PathsClosed(count)
        });
    }

    pub(super) fn opened(&mut self, opened: Opened) {
        let Opened { mut submission, result } = opened;
        match result {
            Err(error) => {
                self.open_paths -= 1;
                self.settle_unopened(submission, error);
            }
            Ok(file) => {
                file.unsettled.fetch_add(1, Ordering::AcqRel);
                if submission.direction == Direction::Write {
                    submission.accepted = Some(file.inode.accept_write(submission.position + submission.len));
                }
                let device = self.device_of(&file);
                let block_bytes = self.block_bytes(&submission);
                let stopping = self.stopping;
                let mut request = Request::new(submission, file, device, block_bytes);
                if stopping {
                    request.fail(0, Error::new(ErrorKind::Canceled, "open"));
                }
                request.waits = Waits::Parked;
                let key = self.requests.insert(request);
                self.resume(key);
            }
        }
    }
}

/// Opens the file of a path request, and checks its size if all of it is wanted.
fn open_target(submission: &Submission) -> Result<Arc<OpenFile>, Error> {
    let Target::Path(target) = &submission.target else { return Err(Error::new(ErrorKind::Invalid, "open")) };
    let PathTarget { path, whole, mode } = &**target;
    let options = match submission.direction {
        Direction::Read => OpenOptions::new().read(true),
        Direction::Write => OpenOptions::new().write(true).create(true).mode(*mode),
    };
    let file = crate::open::open(path, &options)?;
    if *whole && submission.direction == Direction::Read {
        let size = file.inode.size();
        if size != submission.len {
            let advice = format!("the file has {size} bytes, the buffer {}", submission.len);
            return Err(Error::new(ErrorKind::SizeMismatch, "read").at(path).advise(advice));
        }
    }
    Ok(Arc::new(file))
}

/// Prepares the bounce block of a write: `valid` bytes of it have been read from the file, the request's own bytes go on top, and what
/// is neither is zero, so that no old memory ever reaches a disk.
pub(super) fn fill(bounce: &mut Buffer, extent: &Extent, valid: u64, user_address: u64) {
    bounce[valid as usize..].fill(0);
    let wanted = &mut bounce[extent.skip as usize..(extent.skip + extent.len) as usize];
    // SAFETY: the request's memory was handed over by its owner, is at least `offset + len` bytes long, and nobody writes to it before it is
    // settled; the bounce block is ours and does not overlap it.
    unsafe { memory::copy_past_cache(user_address as *const u8, wanted.as_mut_ptr(), wanted.len()) };
}
