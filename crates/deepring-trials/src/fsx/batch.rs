//! [`Batch`]: operations that run at the same time, because their results do not depend on their
//! order.
//!
//! Writers can share sectors, pages and blocks, but no byte. Readers can overlap writers, and then
//! see old or new bytes. A file can be truncated where no writer is busy. Changes through another
//! descriptor stay away from every block that a writer might read, modify and write back, because
//! the engine cannot know of them.

use super::script::{Op, Range};

/// The most the engine reads and writes back around an edge, in bytes. The block size of every file
/// system in these trials divides it.
const EDGE_BYTES: u64 = 4096;

/// More than any device here has in flight at once.
const LEN_MAX: usize = 24;

/// Operations in flight together, with their numbers in the script.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) ops: Vec<(usize, Op)>,
}

impl Batch {
    /// Whether `op` can run beside these operations, on a file of `size` bytes.
    pub(crate) fn admits(&self, op: &Op, size: u64) -> bool {
        self.ops.is_empty()
            || self.ops.len() < LEN_MAX && self.ops.iter().all(|(_, other)| !conflict(op, other, size) && !conflict(other, op, size))
    }

    /// What the writes of this batch write: `(number, range)`.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (usize, Range)> {
        self.ops.iter().filter_map(|&(number, op)| match op {
            Op::Write { range, .. } => Some((number, range)),
            _ => None,
        })
    }

    pub(crate) fn new_length(&self) -> Option<u64> {
        self.ops.iter().find_map(|(_, op)| match *op {
            Op::SetLen { size, .. } => Some(size),
            _ => None,
        })
    }

    /// The smallest and largest size a file of `size` bytes can have while this batch runs.
    pub(crate) fn sizes(&self, size: u64) -> (u64, u64) {
        let least = self.new_length().map_or(size, |cut| cut.min(size));
        let largest = self.ops.iter().map(|(_, op)| op.reach()).max().unwrap_or(0).max(size);
        (least, largest)
    }
}

/// Whether the order of `op` and `other` matters. Call it both ways round.
fn conflict(op: &Op, other: &Op, size: u64) -> bool {
    match (*op, *other) {
        (Op::Check { .. } | Op::Reopen { truncate: true, .. } | Op::Zero { extend: true, .. }, _)
        | (Op::SetLen { .. }, Op::SetLen { .. }) => true,
        (Op::Write { range, .. }, Op::Write { range: other, .. })
        | (Op::Punch { range } | Op::Zero { range, .. }, Op::Read { range: other, .. }) => range.overlaps(other),
        (Op::SetLen { size: cut, .. }, Op::Write { range, .. }) => range.end() > cut,
        (Op::SetLen { size: cut, .. }, Op::Read { range, .. } | Op::Punch { range } | Op::Zero { range, .. }) => {
            range.end() > cut.min(size)
        }
        (Op::Punch { range } | Op::Zero { range, .. }, Op::Write { range: other, .. }) => {
            !range.is_aligned(EDGE_BYTES) || range.end() > size || range.overlaps(other.rounded_out(EDGE_BYTES))
        }
        _ => false,
    }
}
