//! Checksums: which transfers ask for one, bits that the device flips, and whether each outcome is right.
//!
//! A read expects the checksum of what the file held when it was made, or a wrong one. Another request can change the
//! file meanwhile, so a checksum that does not match is no fault. But it must be that of the bytes in memory; a wrong one
//! must not be accepted; and where the device has flipped a bit, the read must not succeed.

use super::prng::mix;
use super::ranges::Owner;
use super::request::{Memory, Request};
use super::run::Run;
use super::world::{self, World, violate};
use crate::backend::DeviceOp;
use crate::completion::Receipt;
use crate::digest::{Checksum, crc32c};
use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// An unsettled request and the range of its file.
#[derive(Debug, Clone, Copy)]
struct Reach {
    inode: u64,
    start: u64,
    end: u64,
    /// It finds out what the device flips.
    expects: bool,
}

/// The largest unit of an edge.
const EDGE: u64 = 4096;

/// What the world knows of requests and their checksums.
#[derive(Debug, Default)]
pub(super) struct Summed {
    unsettled: BTreeMap<u64, Reach>,
    flipped: BTreeSet<u64>,
}

impl Summed {
    pub(super) fn settled(&mut self, id: u64) {
        self.unsettled.remove(&id);
    }

    pub(super) fn is_flipped(&self, id: u64) -> bool {
        self.flipped.contains(&id)
    }

    /// The one request that the bytes of the file at `start..end` are read for, if it expects a checksum.
    fn only_reader(&self, inode: u64, start: u64, end: u64) -> Option<(u64, Reach)> {
        // The rest of an edge's unit can be read by an operation of its own.
        let (start, end) = (start - start % EDGE, end.next_multiple_of(EDGE));
        let mut near = self.unsettled.iter().filter(|(_, reach)| reach.inode == inode && reach.start < end && start < reach.end);
        let (&id, &reach) = near.next()?;
        (reach.expects && near.next().is_none()).then_some((id, reach))
    }
}

impl World {
    /// Flips a bit of what the device has just read to `address`, now and then, where a checksum will show it.
    pub(super) fn flip_sometimes(&mut self, op: &DeviceOp, address: u64, position: u64, moved: u32) {
        if moved == 0 || self.profile.flips == 0 || !self.rng.chance(self.profile.flips) {
            return;
        }
        let Some(inode) = self.descriptor(op.fd).map(|descriptor| descriptor.inode) else { return };
        let (start, end) = (position, position + u64::from(moved));
        // The unit of an edge is read for the write, which is a second request there.
        let reader = match self.ranges.owner(address, 1) {
            Some(Owner::Request(id)) => self.summed.unsettled.get(&id).filter(|reach| reach.expects).map(|&reach| (id, reach)),
            _ => self.summed.only_reader(inode, op.position, op.position + u64::from(op.len)),
        };
        let Some((id, reach)) = reader else { return };
        let (start, end) = (start.max(reach.start), end.min(reach.end));
        if start >= end {
            return;
        }
        let at = (address + (self.rng.between(start, end - 1) - position)) as *mut u8;
        let bit = self.rng.below(8);
        // SAFETY: a byte that the device has just written, in memory that was lent to it.
        unsafe { *at ^= 1 << bit };
        self.tally.faults += 1;
        self.summed.flipped.insert(id);
        self.note(|| format!("a bit of request {id} is flipped: {op:?}"));
    }
}

impl Run {
    /// Draws what a transfer asks for about its checksum. Not from the run's own numbers, so that old seeds replay their
    /// runs.
    pub(super) fn draw_checksum(&mut self, id: u64) {
        let sums = u64::from(self.profile.sums);
        let drawn = mix(id ^ mix(self.profile.operations));
        let Some(request) = self.requests.get_mut(&id) else { return };
        if drawn % 1_000_000 < sums {
            request.checksum = match (&request.view, (drawn >> 32) % 4) {
                (None, _) | (_, 0) => Checksum::Sum,
                (Some(view), 1) => Checksum::Expect(!crc32c(&view.bytes)),
                (Some(view), _) => Checksum::Expect(crc32c(&view.bytes)),
            };
        }
        let (inode, start, end) = (self.files[request.file].number, request.start, request.end);
        let expects = matches!(request.checksum, Checksum::Expect(_));
        world::with(|world| world.summed.unsettled.insert(id, Reach { inode, start, end, expects }));
    }

    /// The transfer takes an entry point that has no checksums.
    pub(super) fn ask_no_checksum(&mut self, id: u64) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.checksum = Checksum::None;
        }
        world::with(|world| world.summed.unsettled.get_mut(&id).map(|reach| reach.expects = false));
    }
}

/// Whether the checksum is that of the bytes, and no wrong one was accepted.
pub(super) fn judge_checksum(id: u64, request: &Request, memory: Option<&Memory>, result: Option<&Result<Receipt>>) {
    let (Some(memory), Some(result)) = (memory, result) else { return };
    let of = |bytes: u64| crc32c(&memory.bytes()[..(bytes as usize).min(memory.bytes().len())]);
    match (result, request.checksum) {
        (Ok(receipt), Checksum::None) => {
            if receipt.checksum.is_some() {
                violate(format!("request {id} has a checksum that it did not ask for"));
            }
        }
        (Ok(receipt), asked) => {
            let actual = of(receipt.bytes);
            if receipt.checksum != Some(actual) {
                violate(format!("request {id} has the checksum {:x?}, its bytes have {actual:x}", receipt.checksum));
            }
            if let Checksum::Expect(expected) = asked
                && expected != actual
            {
                violate(format!("request {id} expects the checksum {expected:x}, has {actual:x}, and succeeds"));
            }
        }
        (Err(error), _) => {
            let ErrorKind::Checksum { expected, actual } = error.kind() else { return };
            let found = of(Error::transferred(error));
            if found != actual || expected == actual || error.position() != Some(request.start) {
                violate(format!(
                    "request {id} reports a checksum of {actual:x} in place of {expected:x}, its bytes have {found:x}: {error}"
                ));
            }
        }
    }
}
