//! The checksum of a request: which of its bytes are summed, when and where.
//!
//! * A **read** is summed block by block, when the bytes of a block have come and before the request settles.
//! * A **write** is summed in the order of its memory, when a block is issued: while the device reads the same bytes. A
//!   block that is planned again, or repeated, is not summed again.
//! * What passes through a bounce block is summed as it is copied, see [`super::offload`].
//!
//! Few bytes are summed by the driver at once, more on blocking threads. That work belongs to the request, not to the
//! block: the block is retired when the device is done with it, and the device gets the next. The request stays until
//! all its sums have come, so its memory stays in place whatever happens to it. The sums come in any order, and are put
//! together by [`Sums`].

use super::Driver;
use super::request::Request;
use crate::digest::{Sums, crc32c};
use crate::plan::Extent;
use crate::slots::Key;
use std::slice;

/// Sums go to threads from this many times the length on from which copies do: a byte is summed in a quarter of the time
/// in which it is copied. So a block keeps the driver for about 20 us at most.
const TIMES_COPIED: u64 = 4;

/// What a request knows of its checksum.
#[derive(Debug, Default)]
pub(super) struct Summing {
    sums: Sums,
    /// Of a write: how far its bytes are summed, or about to be.
    begun: u64,
    /// Parts that threads sum, or are about to.
    pub(super) running: u32,
}

impl Summing {
    /// The checksum of the first `len` bytes of a request that has drained.
    pub(super) fn value(&self, len: u64) -> Option<u32> {
        let value = self.sums.value(len);
        debug_assert!(value.is_some(), "{len} bytes were moved, and these summed: {self:?}");
        value
    }
}

/// Bytes of a request to be summed, and the result.
pub(super) struct Part {
    address: u64,
    offset: u64,
    pub(super) len: u64,
    crc: u32,
}

impl Part {
    pub(super) fn sum(&mut self) {
        // SAFETY: the request's memory is at least this long and stays in place until the request is settled, which it is
        // not before this part has come back. The device does not write to it: a read has brought these bytes. Nothing
        // else does: the submitter guarantees that.
        let bytes = unsafe { slice::from_raw_parts(self.address as *const u8, self.len as usize) };
        self.crc = crc32c(bytes);
    }
}

impl Request {
    /// The checksum of bytes that lie `offset` bytes into the request, if it is asked for.
    pub(super) fn add_sum(&mut self, offset: u64, len: u64, crc: Option<u32>) {
        if let (Some(summing), Some(crc)) = (&mut self.summing, crc) {
            summing.sums.add(offset, len, crc);
        }
    }
}

impl Driver {
    /// Sums bytes of a request that asks for that, now or later.
    pub(super) fn sum(&mut self, key: Key, offset: u64, len: u64) {
        let request = &mut self.requests[key];
        // Of a request that has failed no checksum is reported.
        let failed = request.has_failed();
        let Some(summing) = request.summing.as_mut().filter(|_| len > 0 && !failed) else { return };
        let mut part = Part { address: request.submission.address + offset, offset, len, crc: 0 };
        if len <= TIMES_COPIED * self.core.config.offload_bytes as u64 {
            part.sum();
            summing.sums.add(offset, len, part.crc);
        } else {
            summing.running += 1;
            self.leave_sum(key, part);
        }
    }

    /// A block of a write is issued. Returns whether its bytes are to be summed as they are `copied`; if they are not
    /// copied, they are summed here.
    pub(super) fn sum_issued(&mut self, key: Key, extent: &Extent, copied: bool) -> bool {
        let Some(summing) = &mut self.requests[key].summing else { return false };
        let (end, from) = (extent.offset + extent.len, extent.offset.max(summing.begun));
        summing.begun = summing.begun.max(end);
        if copied && from == extent.offset {
            return true;
        }
        self.sum(key, from, end.saturating_sub(from));
        false
    }

    /// A thread has summed bytes of a request.
    pub(super) fn summed(&mut self, key: Key, part: &Part) {
        let request = &mut self.requests[key];
        request.add_sum(part.offset, part.len, Some(part.crc));
        if let Some(summing) = &mut request.summing {
            summing.running -= 1;
        }
        self.conclude(key);
    }
}
