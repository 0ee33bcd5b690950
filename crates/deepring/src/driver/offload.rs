//! Work on memory that the driver leaves to blocking threads, so that it goes on submitting: copies of bounced bytes and
//! sums that are long enough to be worth waking a thread, and the page faults of memory that was never touched.
//!
//! A device that reads into fresh memory would have the driver fault it in, page after page, when the read is submitted. So
//! such a block waits until threads have made its memory present. That happens just ahead of the device, because the
//! blocks of a request that are in flight wait for it one beside the other, and no more memory is taken than is read into.
//!
//! The block stays in flight until its work is done, and a request does not settle before its blocks are retired: so the
//! memory stays in place whatever happens to the request. The bounce block travels with the work. What a half turn leaves
//! to threads is handed out at its end, in jobs of similar size.

use super::Driver;
use super::block::Holder;
use super::message::Answer;
use super::request::Memory;
use super::summing::Part;
use crate::blocking::Line;
use crate::digest::crc32c_append;
use crate::error::{Error, ErrorKind};
use crate::memory::{Buffer, Fresh};
use crate::pieces::Pieces;
use crate::plan::{Direction, Extent};
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use crate::sys::memory;
use std::sync::Arc;
use std::{mem, slice};

/// A job takes up to this many bytes, so that the device gets the first blocks while the others are worked on.
const JOB_BYTES: usize = 1 << 20;

/// Bytes that are copied before they are summed: a part of a core's second-level cache. (Measured: the checksum costs 0.04 CPU
/// seconds per GB this way, and 0.10 as a pass of its own.)
const TILE_BYTES: usize = 256 << 10;

/// The work of one block.
pub(crate) struct Offload {
    key: Key,
    work: Work,
}

/// What is to be done with the memory of a block.
pub(super) enum Work {
    /// A bounced read: bytes from the bounce block to the request's memory. With their checksum, if that is asked for.
    CopyOut { bounce: Buffer, skip: usize, len: usize, to: u64, crc: Option<u32> },
    /// The same of many ranges: `from..to` of the file, which begins `skip` bytes into the bounce block.
    Scatter { bounce: Buffer, skip: usize, from: u64, to: u64, pieces: Arc<Pieces> },
    /// A bounced write: bytes of the request's memory into the bounce block, before the device takes them from there.
    CopyIn { bounce: Buffer, extent: Extent, from: u64, crc: Option<u32> },
    /// The checksum of bytes of a request, where its key stands for that of a block.
    Sum(Part),
    /// A read into memory that is not present.
    Populate(Fresh),
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::CopyOut { len, .. } => *len,
            Self::Scatter { from, to, .. } => (to - from) as usize,
            Self::CopyIn { extent, .. } => extent.len as usize,
            Self::Sum(part) => part.len as usize,
            Self::Populate(fresh) => fresh.bytes() as usize,
        }
    }

    fn line(&self) -> Line {
        if matches!(self, Self::Populate(_)) { Line::Populate } else { Line::Copy }
    }

    fn run(&mut self) {
        match self {
            Self::CopyOut { bounce, skip, len, to, crc } => {
                let wanted = &bounce[*skip..*skip + *len];
                // SAFETY: the request's memory was handed over for writing, is at least this long, and belongs to the engine
                // until the request is settled, which it is not before this block is retired. The bounce block does not
                // overlap it.
                unsafe { copy(wanted.as_ptr(), *to as *mut u8, *len, crc.as_mut()) };
            }
            Self::Scatter { bounce, skip, from, to, pieces } => {
                for (offset, len, to) in pieces.places(*from, *to) {
                    let wanted = &bounce[*skip + offset..*skip + offset + len];
                    // SAFETY: as above; `to` is in one of the ranges that were handed over.
                    unsafe { memory::copy(wanted.as_ptr(), to as *mut u8, len) };
                }
            }
            Self::CopyIn { bounce, extent, from, crc } => fill(bounce, extent, 0, *from, crc.as_mut()),
            Self::Sum(part) => part.sum(),
            Self::Populate(fresh) => fresh.populate(),
        }
    }
}

impl Driver {
    /// Brings the bytes of a bounced read to the request's memory.
    pub(super) fn copy_out(&mut self, key: Key, bounce: Buffer, len: u64) {
        let block = &self.blocks[key];
        let Extent { skip, file_start, .. } = block.extent;
        let request = &self.requests[block.request];
        let pieces = request.submission.pieces.clone();
        let crc = request.summing.is_some().then_some(0);
        // A short copy to fresh memory takes longer than waking a thread, too.
        let (work, is_fresh) = match (block.memory, pieces) {
            (Memory::At(to), _) => {
                (Work::CopyOut { bounce, skip: skip as usize, len: len as usize, to, crc }, self.find_fresh(to, len).is_some())
            }
            (Memory::Scattered, Some(pieces)) => {
                let (from, to) = (file_start + skip, file_start + skip + len);
                let is_fresh = pieces.places(from, to).any(|(_, len, to)| self.find_fresh(to, len as u64).is_some());
                (Work::Scatter { bounce, skip: skip as usize, from, to, pieces }, is_fresh)
            }
            (Memory::Scattered, None) => {
                debug_assert!(false, "only ranges are scattered");
                return self.retire(key);
            }
        };
        if is_fresh { self.leave(key, work) } else { self.work_on(key, work) }
    }

    /// Stages the first operation of a block, once its memory is present.
    pub(super) fn stage_first(&mut self, key: Key) {
        let block = &self.blocks[key];
        let (address, len) = (block.address(), block.extent.file_len);
        let reads = block.direction(&self.requests[block.request]) == Direction::Read;
        match if reads { self.find_fresh(address, len) } else { None } {
            Some(fresh) if !planted(PlantedBug::IssuesUnpopulated) => self.leave(key, Work::Populate(fresh)),
            _ => self.stage(key),
        }
    }

    fn find_fresh(&mut self, address: u64, len: u64) -> Option<Fresh> {
        self.fresh.find(address, len, self.core.config.offload_bytes as u64)
    }

    /// Brings the bytes of a bounced write into its bounce block, and hands that to the device. A write without one goes
    /// there at once. With `sums`, the bytes are summed as they are copied.
    pub(super) fn copy_in(&mut self, key: Key, sums: bool) {
        let block = &mut self.blocks[key];
        match (block.bounce.take(), block.memory) {
            (Some(bounce), Memory::At(from)) => {
                let extent = block.extent;
                self.work_on(key, Work::CopyIn { bounce, extent, from, crc: sums.then_some(0) });
            }
            _ => self.stage(key),
        }
    }

    /// Does the work at once, or with other work of this half turn on blocking threads.
    fn work_on(&mut self, key: Key, mut work: Work) {
        if work.bytes() >= self.core.config.offload_bytes {
            self.leave(key, work);
        } else {
            work.run();
            self.worked(key, work);
        }
    }

    /// Leaves the work to a thread.
    fn leave(&mut self, key: Key, work: Work) {
        self.blocks[key].holder = Holder::Thread;
        self.offloads.push(Offload { key, work });
    }

    /// Leaves bytes of a request to be summed by a thread.
    pub(super) fn leave_sum(&mut self, request: Key, part: Part) {
        self.sums.push(Offload { key: request, work: Work::Sum(part) });
    }

    /// The work of a block is done.
    fn worked(&mut self, key: Key, work: Work) {
        let block = &mut self.blocks[key];
        block.holder = Holder::Driver;
        let (request, extent) = (block.request, block.extent);
        match work {
            Work::CopyOut { len, crc, .. } => {
                self.requests[request].add_sum(extent.offset, len as u64, crc);
                self.retire(key);
            }
            Work::Scatter { .. } => self.retire(key),
            Work::CopyIn { bounce, crc, .. } => {
                block.bounce = Some(bounce);
                self.requests[request].add_sum(extent.offset, extent.len, crc);
                self.stage(key);
            }
            Work::Populate(_) => self.stage(key),
            Work::Sum(_) => {}
        }
    }

    /// Threads have done their work. A read that was canceled since does not go to the device. A write does: a later
    /// block of it can be there, and what is written is to have no gap.
    pub(super) fn offloaded(&mut self, offloads: Vec<Offload>) {
        for Offload { key, work } in offloads {
            if let Work::Sum(part) = work {
                self.summed(key, &part);
                continue;
            }
            let block = &self.blocks[key];
            let offset = block.extent.offset;
            let request = &mut self.requests[block.request];
            request.look();
            if request.is_canceled() && !request.is_write() && !matches!(work, Work::CopyOut { .. } | Work::Scatter { .. }) {
                request.fail(offset, Error::new(ErrorKind::Canceled, request.submission.direction.call_name()));
                self.retire(key);
            } else {
                self.worked(key, work);
            }
        }
    }

    /// Hands the work of this half turn to blocking threads.
    pub(super) fn hand_out_work(&mut self) {
        if self.offloads.is_empty() {
            return;
        }
        let (fresh, copies) = mem::take(&mut self.offloads).into_iter().partition(|offload| offload.work.line() == Line::Populate);
        self.hand_out(Line::Populate, fresh);
        self.hand_out(Line::Copy, copies);
    }

    /// Hands the sums to blocking threads: after the device has got what is issued, because nothing at the device waits for
    /// a sum, and waking a thread takes a while.
    pub(super) fn hand_out_sums(&mut self) {
        if !self.sums.is_empty() {
            // An error shows again at the next wait, where it is handled.
            let _ = self.backend.submit();
            let sums = mem::take(&mut self.sums);
            self.hand_out(Line::Copy, sums);
        }
    }

    /// Cuts work into jobs.
    fn hand_out(&mut self, line: Line, offloads: Vec<Offload>) {
        let total: usize = offloads.iter().map(|offload| offload.work.bytes()).sum();
        let share = total.div_ceil(line.jobs_max()).min(JOB_BYTES);
        let (mut offloads, mut bytes) = (offloads.into_iter().peekable(), 0);
        let mut part = Vec::new();
        while let Some(offload) = offloads.next() {
            bytes += offload.work.bytes();
            part.push(offload);
            if bytes >= share || offloads.peek().is_none() {
                let mut part = mem::take(&mut part);
                bytes = 0;
                self.ask(line, move || {
                    for offload in &mut part {
                        offload.work.run();
                    }
                    Answer::Offloaded(part)
                });
            }
        }
    }
}

/// Prepares the bounce block of a write: `valid` bytes of it have been read from the file, the request's own bytes go on
/// top, and the rest is zeroed, so that no old memory ever reaches a disk.
pub(super) fn fill(bounce: &mut Buffer, extent: &Extent, valid: u64, from: u64, crc: Option<&mut u32>) {
    let (valid, first) = (valid as usize, extent.skip as usize);
    let end = first + extent.len as usize;
    if valid < first {
        bounce[valid..first].fill(0);
    }
    bounce[end.max(valid)..].fill(0);
    put(bounce, extent, from, crc);
}

/// Puts the request's own bytes, which are at `from`, into a bounce block.
pub(super) fn put(bounce: &mut Buffer, extent: &Extent, from: u64, crc: Option<&mut u32>) {
    let wanted = &mut bounce[extent.skip as usize..(extent.skip + extent.len) as usize];
    // SAFETY: the request's memory was handed over by its owner, is at least `offset + len` bytes long, and is not written
    // to before the request is settled. The bounce block is the engine's and does not overlap it.
    unsafe { copy(from as *const u8, wanted.as_mut_ptr(), wanted.len(), crc) };
}

/// Copies bytes and, if that is asked for, continues their checksum: tile by tile, so that a tile is still in the cache
/// of the processor when it is summed. What is summed is the source, because large copies go past the cache.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`], and nothing writes to the source during the call.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize, crc: Option<&mut u32>) {
    let Some(crc) = crc else {
        // SAFETY: passed on.
        return unsafe { memory::copy(from, to, len) };
    };
    for at in (0..len).step_by(TILE_BYTES) {
        let tile = TILE_BYTES.min(len - at);
        // SAFETY: `at + tile <= len`, so the tile lies in the source.
        let source = unsafe { from.add(at) };
        // SAFETY: the same in the target.
        let target = unsafe { to.add(at) };
        // SAFETY: a tile of the range that the caller guarantees.
        unsafe { memory::copy(source, target, tile) };
        // SAFETY: the same tile, which nothing writes to.
        *crc = crc32c_append(*crc, unsafe { slice::from_raw_parts(source, tile) });
    }
}

#[cfg(test)]
mod tests {
    use super::fill;
    use crate::blocking::BlockingPool;
    use crate::memory::Pool;
    use crate::plan::Extent;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        /// Whatever lay in the bounce block: what was read stays, the request's bytes are on top, and the rest is zero.
        #[test]
        fn no_old_byte_is_left_in_a_bounce_block(valid in 0usize..=4096, skip in 0usize..4096, len in 1usize..4096) {
            let len = len.min(4096 - skip);
            let pool = Arc::new(Pool::new(Arc::default(), Arc::new(BlockingPool::default()), None));
            let mut bounce = pool.bounce(4096).expect("memory");
            bounce.fill(0xa5);
            bounce[..valid].fill(1);
            let bytes = vec![2u8; len];
            let (skip, len) = (skip as u64, len as u64);
            let extent = Extent { file_start: 0, file_len: 4096, skip, offset: 0, len, bounce: true, rmw: true };
            fill(&mut bounce, &extent, valid as u64, bytes.as_ptr() as u64, None);
            for (at, &byte) in bounce.iter().enumerate() {
                let expected = if (skip..skip + len).contains(&(at as u64)) { 2 } else { u8::from(at < valid) };
                prop_assert_eq!(byte, expected);
            }
        }
    }
}
