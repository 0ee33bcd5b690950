//! Memory that was never touched, in a simulation: which pages the kernel has not made yet, and who makes them when.
//!
//! The client draws that the memory of a read is fresh. The kernel then reports its pages as absent until they are
//! populated, which takes time, can be refused, and may only be done to memory of a request that has not settled. A device
//! that reads into an absent page, which the engine could know of, is a violation.

use super::turns::OFFLOAD_BYTES;
use super::world::World;
use crate::backend::DeviceOp;
use crate::memory::is_engine_memory;
use crate::plan::Direction;
use std::collections::BTreeSet;
use std::ops::Range;

const PAGE: u64 = 4096;

/// The pages that are absent.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeSet<u64>);

fn pages(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE..range.end.div_ceil(PAGE)
}

impl Pages {
    /// The pages that lie in this range as a whole are absent.
    pub(crate) fn take(&mut self, range: &Range<u64>) {
        self.0.extend(range.start.div_ceil(PAGE)..range.end / PAGE);
    }

    /// All pages of this range are present.
    pub(crate) fn put(&mut self, range: &Range<u64>) {
        for page in self.absent(range) {
            self.0.remove(&page);
        }
    }

    fn absent(&self, range: &Range<u64>) -> Vec<u64> {
        self.0.range(pages(range)).copied().collect()
    }
}

impl World {
    /// Which pages of a range the kernel has made.
    pub(super) fn residence(&self, range: &Range<u64>) -> Vec<(Range<u64>, bool)> {
        let absent = self.pages.absent(range);
        pages(range).map(|page| (page * PAGE..(page + 1) * PAGE, absent.binary_search(&page).is_err())).collect()
    }

    /// A thread populates a range. The devices go on working.
    pub(super) fn populate(&mut self, range: &Range<u64>) -> bool {
        let until_ns = self.now_ns + self.latency();
        self.advance(until_ns);
        if !self.profile.program && !self.ranges.is_owned(range.start, range.end - range.start) {
            self.violate(format!("memory of no request is populated: {range:?}"));
        }
        self.note(|| format!("populate {range:?}"));
        self.pages.put(range);
        let refused = self.rng.chance(self.profile.populate_fails);
        self.tally.faults += u64::from(refused);
        !refused
    }

    /// A thread writes to each page of a range.
    pub(super) fn touch(&mut self, range: &Range<u64>) {
        if self.devices.holds(range.start, range.end - range.start) {
            self.violate(format!("memory is touched while a device has it: {range:?}"));
        }
        self.pages.put(range);
    }

    /// Checks that a device finds the memory that it reads into. Small reads into memory that is not the engine's are
    /// let through without a look.
    pub(super) fn check_pages_are_present(&mut self, op: &DeviceOp) {
        let (range, len) = (op.address..op.address + u64::from(op.len), u64::from(op.len));
        let is_known = len >= OFFLOAD_BYTES || is_engine_memory(op.address, len);
        if op.direction == Direction::Read && is_known && !self.pages.absent(&range).is_empty() {
            self.violate(format!("a device reads into memory that is not there: {op:?}"));
        }
    }
}
