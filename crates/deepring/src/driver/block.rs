//! A block: one extent of a request, from the moment it is granted to the moment it is retired.
//!
//! An edge has two stages: it reads its unit ([`Stage::Modify`]), puts the request's bytes on top, and writes it
//! ([`Stage::Transfer`]). Every other block has one. A stage can take several operations, because transfers fall short
//! and are interrupted; [`super::verdict`] decides what each result means. The block holds its part of the budget, of its
//! handle's window and of the file's range locks until it is retired.

use super::Driver;
use super::join::Rider;
use super::message::Answer;
use super::offload::fill;
use super::request::{Claim, Event, Memory, Phase, Request, Waiting};
use super::verdict::{Cause, Facts, Progress, Verdict, before_end, judge};
use crate::backend::threads::transfer;
use crate::backend::{BackendKind, DeviceOp, Done};
use crate::blocking::Line;
use crate::budget::Cost;
use crate::error::{Error, ErrorKind};
use crate::inode::ReadTicket;
use crate::memory::Buffer;
use crate::open::BlockLock;
use crate::plan::{Direction, Extent};
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use crate::stats::{add, add_alone, raise_alone, sub_alone};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The driver copies no more than this from the page cache.
const CACHED_AT_ONCE: u32 = 64 << 10;

/// What a block is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Reading the unit that an edge will modify.
    Modify,
    Transfer,
}

/// Who has a block's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Driver,
    /// The backend. If it is lost, the kernel can still use the memory.
    Backend,
    /// A thread that carries out a blocking call, or works on memory: it is never lost.
    Thread,
}

/// What is granted to a block before it starts, and released when it is retired.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) cost: Cost,
    /// What it takes of its window.
    pub(super) bytes: u64,
    /// Whether the device has to do with it: not, if its bytes come from the page cache.
    pub(super) at_device: bool,
    /// Of a write: the lock of its range.
    pub(super) lock: Option<BlockLock>,
}

/// One extent of a request, in flight.
pub(super) struct Block {
    pub(super) request: Key,
    pub(super) extent: Extent,
    /// Where its bytes are in the caller's memory.
    pub(super) memory: Memory,
    pub(super) grant: Grant,
    stage: Stage,
    pub(super) holder: Holder,
    progress: Progress,
    /// The bounce block, if it needs one.
    pub(super) bounce: Option<Buffer>,
    /// Other requests whose bytes are in it.
    pub(super) riders: Vec<Rider>,
    /// Where the device's bytes begin in memory.
    address: u64,
    /// See [`crate::inode::Inode::clamp`].
    ticket: ReadTicket,
    /// The page cache said that it has all of it, and did not.
    skips_cache: bool,
}

impl Block {
    /// The direction of its operations now.
    pub(super) fn direction(&self, request: &Request) -> Direction {
        if self.stage == Stage::Modify { Direction::Read } else { request.submission.direction }
    }

    /// Where its operations begin in memory.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Whether the kernel could still use its memory if the backend were lost.
    pub(super) fn is_at_backend(&self) -> bool {
        self.holder == Holder::Backend
    }

    /// Whether a blocking thread works on it, or is about to.
    pub(super) fn is_on_thread(&self) -> bool {
        self.holder == Holder::Thread
    }

    /// Leaks the memory that the kernel can still write to. The request's own memory is its owner's to leak.
    pub(super) fn leak(&mut self) {
        mem::forget(self.bounce.take());
    }
}

impl Driver {
    /// Everything is granted: makes the block and stages its first operation. Returns whether there is memory for it.
    pub(super) fn start_block(&mut self, key: Key, extent: Extent, memory: Memory, grant: Grant) -> bool {
        let request = &mut self.requests[key];
        let direction = request.submission.direction;
        let known_empty = request
            .claim
            .extension()
            .is_some_and(|extension| extent.file_start >= extension.promised && request.file.inode.is_sole_extender(extension));
        let stage = if extent.rmw && !known_empty { Stage::Modify } else { Stage::Transfer };
        let mut bounce = None;
        if extent.bounce {
            match self.core.pool.bounce(extent.file_len as usize) {
                Ok(buffer) => bounce = Some(buffer),
                Err(error) => {
                    request.fail(extent.offset, error);
                    self.release_resources(key, &extent, grant);
                    return false;
                }
            }
        }
        let address = match (&mut bounce, memory) {
            (Some(bounce), _) => bounce.as_mut_ptr() as u64,
            (None, Memory::At(address)) => address,
            (None, Memory::Scattered) => {
                debug_assert!(false, "the planner bounces what goes to several places");
                return false;
            }
        };
        request.tally.first_block_at.get_or_insert(self.now);
        request.tally.buffered |= !request.file.is_direct();
        request.tally.blocks += 1;
        request.in_flight += 1;
        request.submission.reply.lend();
        request.cursor += extent.len;
        let nowait = direction == Direction::Write && request.file.nowait();
        let ticket = request.file.inode.read_ticket();
        // An edge is read first; its bytes are few.
        let sums = direction == Direction::Write && self.sum_issued(key, &extent, extent.bounce && stage == Stage::Transfer);
        let progress = Progress::new(nowait);
        let block = Block {
            request: key,
            extent,
            memory,
            grant,
            stage,
            holder: Holder::Driver,
            progress,
            bounce,
            riders: Vec::new(),
            address,
            ticket,
            skips_cache: false,
        };
        let block = self.blocks.insert(block);
        self.track(grant.cost);
        if direction == Direction::Write && stage == Stage::Transfer {
            self.copy_in(block, sums);
        } else {
            self.stage_first(block);
        }
        true
    }

    /// Counts a block among what is in flight.
    fn track(&self, cost: Cost) {
        let counters = &self.core.counters;
        add_alone(&counters.in_flight, 1);
        raise_alone(&counters.in_flight_max, counters.in_flight.load(Ordering::Relaxed));
        add_alone(&counters.in_flight_bytes, cost.bytes);
        raise_alone(&counters.in_flight_bytes_max, counters.in_flight_bytes.load(Ordering::Relaxed));
    }

    pub(super) fn untrack(&self, block: &Block) {
        sub_alone(&self.core.counters.in_flight, 1);
        sub_alone(&self.core.counters.in_flight_bytes, block.grant.cost.bytes);
    }

    // ---- operations ----

    /// Hands the block's next operation to the backend: from where it got to, to the end of its extent.
    ///
    /// A write that would block is not left to the workers of a ring: those are few and serve all files, so a file
    /// system that does not answer would stop the writes to all others.
    pub(super) fn stage(&mut self, key: Key) {
        if self.stage_cached(key) {
            return;
        }
        let op = self.next_operation(key);
        let request = &self.requests[self.blocks[key].request];
        let can_block = request.file.blocks_submitters || op.direction == Direction::Write && !op.nowait;
        if can_block && self.backend.kind() == BackendKind::Uring {
            self.blocks[key].holder = Holder::Thread;
            self.push_off_ring(op);
        } else {
            self.blocks[key].holder = Holder::Backend;
            self.backend.push(op);
        }
    }

    /// Carries the block's next operation out by a blocking call: for a ring that cannot start a worker thread.
    fn stage_blocking(&mut self, key: Key) {
        let op = DeviceOp { nowait: false, ..self.next_operation(key) };
        self.blocks[key].holder = Holder::Thread;
        self.ask(Line::Mount(op.fate), move || Answer::Transferred(Done { key, result: transfer(&op) }));
    }

    /// Copies what a read is to bring from the page cache, if all of it is there: few bytes at once, many on a blocking
    /// thread. What is not there any more comes from the device.
    fn stage_cached(&mut self, key: Key) -> bool {
        let block = &self.blocks[key];
        let request = &self.requests[block.request];
        if block.stage != Stage::Transfer || request.is_write() || block.skips_cache {
            return false;
        }
        let (from, len) = (block.progress.from, block.extent.file_len);
        let Some(fd) = request.file.cached(block.extent.file_start + from, len - from) else { return false };
        let op = self.next_operation(key);
        let cached = DeviceOp { fd, nowait: true, ..op };
        let block = &mut self.blocks[key];
        block.grant.at_device = false;
        self.requests[block.request].tally.buffered = true;
        if op.len > CACHED_AT_ONCE {
            block.holder = Holder::Thread;
            self.ask(Line::Mount(op.fate), move || {
                let result = transfer(&cached);
                Answer::Transferred(Done { key, result: if result > 0 { result } else { transfer(&op) } })
            });
            return true;
        }
        let result = transfer(&cached);
        if result <= 0 {
            block.skips_cache = true;
            return false;
        }
        self.from_cache.push(Done { key, result });
        true
    }

    /// Carries the block's next operation out by a blocking call, up to the end of the file. If that was not in its way, it
    /// fails as before.
    fn stage_to_end(&mut self, key: Key, unit: u64) {
        let op = self.next_operation(key);
        let block = &mut self.blocks[key];
        block.holder = Holder::Thread;
        let file = Arc::clone(&self.requests[block.request].file);
        let known = file.inode.least_size_since(block.ticket);
        self.ask(Line::Mount(op.fate), move || {
            let len = file.measure().ok().and_then(|measured| before_end(op.position, op.len, unit, known, measured));
            let result = match len {
                None => -libc::EIO,
                Some(0) => 0,
                Some(len) => transfer(&DeviceOp { len, ..op }),
            };
            Answer::Transferred(Done { key, result })
        });
    }

    /// Hands an operation on a file that must not be given to a ring to separate threads, so that a server that stalls
    /// there stalls nothing else. If they cannot be started, to a blocking thread.
    fn push_off_ring(&mut self, op: DeviceOp) {
        if self.off_ring.is_none() {
            self.off_ring = self.backend.successor().ok();
        }
        match &mut self.off_ring {
            Some(threads) => threads.push(op),
            None => self.ask(Line::Mount(op.fate), move || Answer::Transferred(Done { key: op.key, result: transfer(&op) })),
        }
    }

    fn next_operation(&mut self, key: Key) -> DeviceOp {
        let block = &mut self.blocks[key];
        let request = &self.requests[block.request];
        block.progress.direct = request.file.is_direct();
        let direction = block.direction(request);
        let from = block.progress.from;
        DeviceOp {
            key,
            fd: request.file.raw(),
            fate: request.file.fate,
            direction,
            address: block.address + from,
            len: (block.extent.file_len - from) as u32,
            position: block.extent.file_start + from,
            nowait: block.progress.nowait && direction == Direction::Write,
        }
    }

    /// Applies one completion.
    pub(super) fn complete(&mut self, done: Done) {
        // A completion can arrive for a block that went with a lost ring. Its key then names nothing, never another block.
        let Some(block) = self.blocks.get_mut(done.key) else { return };
        block.holder = Holder::Driver;
        let request = &mut self.requests[block.request];
        let (inode, direction) = (&request.file.inode, block.direction(request));
        let geometry = request.file.geometry();
        let facts = Facts {
            direction,
            len: block.extent.file_len,
            wanted: if block.stage == Stage::Modify { block.extent.file_len } else { block.extent.skip + block.extent.len },
            unit: geometry.unit(direction).max(geometry.memory(direction)),
            file_end: inode.size_max_on_disk().saturating_sub(block.extent.file_start),
            direct: request.file.is_direct(),
        };
        let verdict = judge(&mut block.progress, done.result, facts);
        let counters = &self.core.counters;
        match verdict {
            Verdict::Finished => return self.finish_stage(done.key),
            Verdict::Failed(errno) => return self.fail_block(done.key, errno),
            Verdict::Resume => {
                request.tally.resumed += 1;
                add(&counters.resumed, 1);
            }
            Verdict::Repeat(cause) => {
                request.tally.retried += 1;
                match cause {
                    Cause::Punted => add(&counters.punted, 1),
                    Cause::NowaitRefused => request.file.forget_nowait(),
                    Cause::Interrupted => add(&counters.retried, 1),
                    Cause::Buffered => request.tally.buffered = true,
                }
            }
            Verdict::RepeatBlocking => {
                request.tally.retried += 1;
                add(&counters.retried, 1);
                return self.stage_blocking(done.key);
            }
            Verdict::ReadToEnd => {
                request.tally.retried += 1;
                add(&counters.retried, 1);
                return self.stage_to_end(done.key, facts.unit);
            }
            Verdict::Downgrade => {
                if request.file.downgrade() {
                    add(&counters.downgraded, 1);
                } else if request.file.is_direct() {
                    // Direct I/O was required.
                    return self.fail_block(done.key, libc::EINVAL);
                }
                request.tally.retried += 1;
                request.tally.buffered = true;
            }
        }
        if planted(PlantedBug::ReleasesBudgetEarly) {
            let cost = mem::replace(&mut block.grant.cost, Cost::NOTHING);
            let queue = &mut self.queues[request.queue];
            queue.used.sub(cost);
            self.devices[queue.device].budget.give(cost);
        }
        self.stage(done.key);
    }

    fn fail_block(&mut self, key: Key, errno: i32) {
        let block = &self.blocks[key];
        let request = &mut self.requests[block.request];
        let extent = block.extent;
        // Of a bounced block nothing counts; of a direct one, what was moved before.
        let moved = if extent.bounce { 0 } else { block.progress.done };
        // And of a read, nothing beyond the size that was promised: what lies there can be padding.
        let direction = block.direction(request);
        let limit = if direction == Direction::Read { request.file.inode.clamp(block.ticket) } else { u64::MAX };
        let moved = moved.min(limit.saturating_sub(extent.file_start));
        let error = Error::os(errno, direction.call_name());
        request.fail_at(&extent, moved, error.clone());
        let riders = mem::take(&mut self.blocks[key].riders);
        self.settle_riders(riders, Some(&error));
        self.retire(key);
    }

    /// The current stage has transferred all that it can.
    fn finish_stage(&mut self, key: Key) {
        let block = &mut self.blocks[key];
        let request = &mut self.requests[block.request];
        let extent = block.extent;
        if block.stage == Stage::Modify {
            let ends_early = block.progress.done < extent.file_len;
            if ends_early && request.claim.extension().is_none() && !request.file.is_block_device {
                return self.claim_late(key);
            }
            return self.write_edge(key);
        }
        if request.submission.direction == Direction::Write {
            if block.progress.direct && !request.file.went_direct(extent.file_start, extent.file_len) {
                self.was_buffered(key);
            }
            return self.retire(key);
        }
        let end = (extent.file_start + block.progress.done).min(request.file.inode.clamp(block.ticket));
        let got = end.saturating_sub(extent.file_start + extent.skip).min(extent.len);
        if got < extent.len {
            request.met_end_at(&extent, got);
        }
        match block.bounce.take() {
            None => {
                let request = block.request;
                self.sum(request, extent.offset, got);
                self.retire(key);
            }
            Some(bounce) => self.copy_out(key, bounce, got),
        }
    }

    /// A write was accepted as direct, and went through the page cache.
    fn was_buffered(&mut self, key: Key) {
        let block = &self.blocks[key];
        let request = &mut self.requests[block.request];
        request.tally.buffered = true;
        if request.file.downgrade() {
            add(&self.core.counters.downgraded, 1);
        } else if request.file.is_direct() {
            // Direct I/O was required. The bytes of this block were written all the same.
            let error =
                Error::new(ErrorKind::Direct, "write").advise("the file system accepted the direct write and put it into the page cache");
            request.fail(block.extent.offset + block.extent.len, error);
        }
    }

    /// The unit of an edge has been read: puts the request's bytes on top, and writes it.
    pub(super) fn write_edge(&mut self, key: Key) {
        let block = &mut self.blocks[key];
        let request = &self.requests[block.request];
        if let (Some(bounce), Memory::At(from)) = (&mut block.bounce, block.memory) {
            fill(bounce, &block.extent, block.progress.done, from, None);
        }
        if request.claim.extension().is_some_and(|extension| extension.exact) {
            // There was no room for the padding, and the file is buffered now.
            block.extent.file_len = block.progress.done.max(block.extent.skip + block.extent.len);
        }
        block.stage = Stage::Transfer;
        block.progress.restart();
        self.take_riders(key);
        self.stage(key);
    }

    // ---- the end of a block ----

    /// Takes a block out and, if its request has nothing more to do, settles that.
    pub(super) fn retire(&mut self, key: Key) {
        let request = self.drop_block(key);
        self.conclude(request);
    }

    /// Takes a block out, with everything that it holds. Returns its request.
    pub(super) fn drop_block(&mut self, key: Key) -> Key {
        // The callers have just used the block.
        let mut block = self.blocks.take(key);
        let riders = mem::take(&mut block.riders);
        if block.extent.bounce {
            self.requests[block.request].tally.bounced += block.extent.len;
            add(&self.core.counters.bounced_bytes, block.extent.len);
        }
        self.untrack(&block);
        self.release_resources(block.request, &block.extent, block.grant);
        let request = &mut self.requests[block.request];
        request.in_flight -= 1;
        if request.in_flight == 0 && request.phase() == Phase::Parked(Waiting::Order) {
            request.step(Event::Woken);
            self.ready(block.request);
        }
        self.settle_riders(riders, None);
        block.request
    }

    /// Returns what a block holds of the budget, its handle's window and the range locks.
    pub(super) fn release_resources(&mut self, key: Key, extent: &Extent, grant: Grant) {
        let request = &mut self.requests[key];
        let queue = &mut self.queues[request.queue];
        queue.blocks -= 1;
        queue.used.sub(grant.cost);
        let (direction, size) = (request.submission.direction, request.flow.size);
        self.devices[queue.device].give(direction, size, grant.cost, grant.bytes, grant.at_device);
        if let Some(lock) = grant.lock {
            let end = request.end();
            match &mut request.claim {
                // The unit at the end of the file: no other request may pad it before this one has trimmed it.
                Claim::Extending { edge: edge @ None, .. } if extent.rmw && lock.end() >= end => *edge = Some(lock),
                _ => request.file.unlock_block(lock),
            }
        }
        self.give_window(key);
    }
}
