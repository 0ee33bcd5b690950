//! From the device back: every completion's result is read here, and nothing else decides what it means.
//!
//! | result | meaning |
//! |---|---|
//! | all of it | done |
//! | less | continued from the last whole unit; a read that ends at the same place again, where the file may end, has met its end |
//! | 0 | reading: the end of the file; writing: tried again, then `EIO` |
//! | `EAGAIN` with `RWF_NOWAIT` | the kernel would have handed the write to a worker thread: counted, and repeated without the flag |
//! | `EINTR`, `EAGAIN` | repeated, at most [`ATTEMPTS_MAX`] times |
//! | `ECANCELED` | nobody cancelled it: the kernel has no worker thread for it (`RLIMIT_NPROC`, a pids cgroup); done by a blocking call |
//! | `EINVAL` on a direct file | the file goes on buffered, unless direct was required |
//! | anything else | the request's error |

use super::Driver;
use super::admit::fill;
use super::request::{Block, Ends, Stage, Waits};
use crate::backend::Done;
use crate::budget::Cost;
use crate::buffer::Buffer;
use crate::error::Error;
use crate::plan::Direction;
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use crate::stats::add;
use crate::sys::memory;
use std::mem;

/// How often an operation is repeated before its error counts. (XFS and old kernels return `EAGAIN` even from files that may block.)
const ATTEMPTS_MAX: u32 = 8;

/// A file that ends at the same place so many times ends there, whatever was known before. Two short reads in a row that happen to agree
/// are not worth believing; more than this would make every read at the end of a file that others append to a slow one.
const ENDS_MAX: u32 = 4;

/// Transfers that bring nothing new, before that is an error: so many that even where one in four falls short for no reason, enough of them end
/// where the file does.
const VAIN_MAX: u32 = 16;

/// What to do with a block after a completion.
enum Next {
    /// Stage it again from `block.from`.
    Again,
    /// The same, by a blocking call.
    AgainBlocking,
    /// Its transfer, or the read before it, is done.
    Finished,
    Failed(i32),
}

pub(super) fn apply(driver: &mut Driver, done: Done) {
    // A key that names nothing is a completion for a block that is gone; the generation in the key kept it from finding a stranger.
    let Some(block) = driver.blocks.get_mut(done.key) else { return };
    block.at_device = false;
    let Some(request) = driver.requests.get_mut(block.request) else { return };
    let direction = block.direction(request.submission.direction);
    let geometry = request.file.geometry();
    let unit = geometry.unit(direction).max(geometry.memory);
    let result = match done.result {
        _ if planted(PlantedBug::IgnoresResult) => (block.extent.file_len - block.from) as i32,
        result if planted(PlantedBug::ForgetsErrnoSign) => result.abs(),
        result => result,
    };
    let next = if result < 0 {
        match -result {
            libc::EAGAIN if block.nowait => {
                block.nowait = false;
                request.tally.retried += 1;
                add(&driver.core.counters.punted, 1);
                Next::Again
            }
            libc::EOPNOTSUPP | libc::EINVAL if block.nowait => {
                block.nowait = false;
                request.file.forget_nowait();
                request.tally.retried += 1;
                Next::Again
            }
            libc::EINTR | libc::EAGAIN if block.attempts < ATTEMPTS_MAX => {
                block.attempts += 1;
                request.tally.retried += 1;
                add(&driver.core.counters.retried, 1);
                Next::Again
            }
            libc::ECANCELED if block.attempts < ATTEMPTS_MAX => {
                block.attempts += 1;
                request.tally.retried += 1;
                add(&driver.core.counters.retried, 1);
                Next::AgainBlocking
            }
            libc::EINVAL if block.direct && request.file.downgrade() => {
                request.tally.retried += 1;
                request.tally.buffered = true;
                add(&driver.core.counters.downgraded, 1);
                Next::Again
            }
            // Another operation has just found that out, while this one was in flight.
            libc::EINVAL if block.direct && !request.file.is_direct() => {
                request.tally.retried += 1;
                request.tally.buffered = true;
                Next::Again
            }
            errno => Next::Failed(errno),
        }
    } else {
        let next = advance(block, direction, unit, result as u64, request.file.inode.size_max_on_disk());
        if matches!(next, Next::Again) {
            request.tally.resumed += 1;
            add(&driver.core.counters.resumed, 1);
        }
        next
    };
    match next {
        Next::Again => {
            if planted(PlantedBug::ReleasesBudgetEarly) {
                let cost = mem::replace(&mut block.cost, Cost { requests: 0, bytes: 0 });
                driver.devices[request.device].give_back(cost);
            }
            driver.stage(done.key);
        }
        Next::AgainBlocking => driver.stage_blocking(done.key),
        Next::Finished => finish_stage(driver, done.key),
        Next::Failed(errno) => {
            let call = super::admit::call_name(direction);
            let extent = block.extent;
            // Of a bounced block nothing counts; of a direct one, what was moved before.
            let moved = if extent.bounce { 0 } else { block.done };
            // And of a read, nothing beyond the size that was promised: what lies there may be padding.
            let limit = if direction == Direction::Read { request.file.inode.clamp(block.ticket) } else { u64::MAX };
            let moved = moved.min(limit.saturating_sub(extent.file_start));
            request.fail(extent.offset + moved, Error::os(errno, call));
            retire(driver, done.key);
        }
    }
}

/// Accounts for `moved` bytes. `reach` is how far the file may go, as far as is known.
fn advance(block: &mut Block, direction: Direction, unit: u64, moved: u64, reach: u64) -> Next {
    let reached = (block.from + moved).min(block.extent.file_len);
    let progress = reached > block.done;
    block.done = block.done.max(reached);
    if block.done == block.extent.file_len || planted(PlantedBug::ShortIsDone) {
        block.done = block.extent.file_len;
        return Next::Finished;
    }
    match direction {
        Direction::Read => {
            // A read need not go further than the last byte that is wanted: what follows it may lie beyond the end of the file.
            let wanted = if block.stage == Stage::Modify { block.extent.file_len } else { block.extent.skip + block.extent.len };
            if block.done >= wanted {
                return Next::Finished;
            }
            let times = block.ends.count(reached);
            if !progress {
                // The last unit was read again. To read nothing, or to end at the same place again where the file may end, is to have met its
                // end. To end elsewhere means that the device is in a bad mood, or that somebody has just cut the file: then it goes on ending
                // at one place.
                let enough = if block.extent.file_start + reached >= reach { 2 } else { ENDS_MAX };
                if moved == 0 || times >= enough {
                    block.done = reached;
                    return Next::Finished;
                }
                block.ends.vain += 1;
                if block.ends.vain > VAIN_MAX {
                    return Next::Failed(libc::EIO);
                }
            }
        }
        Direction::Write => {
            if !progress {
                block.ends.vain += 1;
                if block.ends.vain > VAIN_MAX {
                    return Next::Failed(libc::EIO);
                }
            }
        }
    }
    // Direct transfers begin on whole units, in the file and in memory: the last, partly transferred one is done again.
    block.from = block.done - block.done % unit;
    Next::Again
}

fn finish_stage(driver: &mut Driver, key: Key) {
    let Some(block) = driver.blocks.get_mut(key) else { return };
    let Some(request) = driver.requests.get_mut(block.request) else { return };
    let extent = block.extent;
    let user_address = request.submission.address + extent.offset;
    if block.stage == Stage::Modify {
        if block.done < extent.file_len && request.extension.is_none() && !request.file.is_block_device {
            // The file ends here, nearer than was known: the write will move its end, and must claim it first. The edge stays in flight
            // meanwhile, with its lock and its place; the helper that makes the claim waits for neither.
            request.late.push(key);
            if request.waits != Waits::Helper {
                let request = block.request;
                driver.make_room(request);
            }
            return;
        }
        write_edge(driver, key);
        return;
    }
    if request.submission.direction == Direction::Read {
        let bounced = block.bounce.is_some();
        let limit = request.file.inode.clamp(block.ticket);
        let end = (extent.file_start + block.done).min(limit);
        let got = end.saturating_sub(extent.file_start + extent.skip).min(extent.len);
        if got < extent.len {
            let eof = extent.offset + got;
            request.eof = Some(request.eof.map_or(eof, |nearest| nearest.min(eof)));
        }
        if bounced {
            copy_out(driver, key, got, user_address);
            return;
        }
    }
    retire(driver, key);
}

/// One copy from a bounce block to a request's memory.
pub(super) struct Copy {
    pub(super) key: Key,
    bounce: Buffer,
    skip: usize,
    len: usize,
    to: u64,
}

impl Copy {
    pub(super) fn run(&self) {
        let wanted = &self.bounce[self.skip..self.skip + self.len];
        // SAFETY: the request's memory was handed over for writing, is at least this long, and belongs to nobody else before it is settled,
        // which it is not before this block is retired; the bounce block is ours and does not overlap it.
        unsafe { memory::copy_past_cache(wanted.as_ptr(), self.to as *mut u8, self.len) };
    }
}

/// Copies at least this long are worth waking a helper for: about 15 us of copying against 5 us of waking. A simulation, whose requests are
/// smaller, is to meet it as well.
const COPY_AWAY_BYTES: usize = if cfg!(feature = "sim") { 4 << 10 } else { 64 << 10 };

/// Brings the bytes of a bounced read to where they are wanted: at once, or with the other large copies of this turn on helper threads,
/// so that the driver goes on submitting meanwhile. The block stays in flight, with its place in the budget, until they are there.
fn copy_out(driver: &mut Driver, key: Key, got: u64, to: u64) {
    let Some(block) = driver.blocks.get_mut(key) else { return };
    let Some(bounce) = block.bounce.take() else { return };
    let copy = Copy { key, bounce, skip: block.extent.skip as usize, len: got as usize, to };
    if copy.len >= COPY_AWAY_BYTES {
        driver.copies.push(copy);
    } else {
        copy.run();
        retire(driver, key);
    }
}

/// The unit of an edge has been read: puts the request's bytes on top, and writes it.
pub(super) fn write_edge(driver: &mut Driver, key: Key) {
    let Some(block) = driver.blocks.get_mut(key) else { return };
    let Some(request) = driver.requests.get_mut(block.request) else { return };
    if let Some(bounce) = &mut block.bounce {
        fill(bounce, &block.extent, block.done, request.submission.address + block.extent.offset);
    }
    block.stage = Stage::Transfer;
    (block.from, block.done, block.attempts, block.ends) = (0, 0, 0, Ends::default());
    driver.stage(key);
}

/// Takes a block out and, if it was the last of its request, concludes that.
pub(super) fn retire(driver: &mut Driver, key: Key) {
    let Some(block) = driver.blocks.remove(key) else { return };
    if block.extent.bounce {
        if let Some(request) = driver.requests.get_mut(block.request) {
            request.tally.bounced += block.extent.len;
        }
        add(&driver.core.counters.bounced_bytes, block.extent.len);
    }
    driver.count_out(&block);
    driver.give_back(&block);
    let Some(request) = driver.requests.get_mut(block.request) else { return };
    request.in_flight -= 1;
    let over = request.cursor >= request.submission.len || request.is_stopped();
    if over && request.in_flight == 0 {
        if request.waits == Waits::Parked {
            request.waits = Waits::No;
        }
        driver.conclude(block.request);
    }
}
