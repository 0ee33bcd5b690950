//! [`Script`]: engines, handles, and a list of operations. Its text form is what a failure prints
//! and `--script` replays.
//!
//! Every list of operations is a valid script: an operation that cannot run beside those in flight
//! waits for them (see `batch`). That makes a script easy to shrink.

use crate::harness::program::Memory;
use deepring::BackendKind;

/// A trial's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub(crate) engines: Vec<EngineSpec>,
    pub(crate) handles: Vec<HandleSpec>,
    /// Threads that submit at the same time; the handles are divided among them.
    pub(crate) writers: usize,
    pub(crate) ops: Vec<Op>,
}

impl Script {
    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The largest size the file can get.
    pub(crate) fn file_max(&self) -> u64 {
        self.ops.iter().map(Op::reach).max().unwrap_or(0)
    }
}

/// How one of a script's engines is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineSpec {
    pub(crate) backend: BackendKind,
    pub(crate) block_bytes: u64,
    /// 0 means the engine's default.
    pub(crate) queue_depth: u32,
}

/// How one of a script's handles on the file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandleSpec {
    pub(crate) engine: usize,
    pub(crate) mode: Mode,
}

/// Bypassing the page cache where the file system allows it, or through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Direct,
    Buffered,
}

/// A range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) position: u64,
    pub(crate) len: u64,
}

impl Range {
    pub(crate) fn end(self) -> u64 {
        self.position + self.len
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.len > 0 && other.len > 0 && self.position < other.end() && other.position < self.end()
    }

    /// The smallest range of whole units around it.
    pub(crate) fn rounded_out(self, unit: u64) -> Self {
        let position = self.position - self.position % unit;
        Self { position, len: self.end().next_multiple_of(unit) - position }
    }

    pub(crate) fn is_aligned(self, unit: u64) -> bool {
        self.position.is_multiple_of(unit) && self.len.is_multiple_of(unit)
    }
}

/// How the caller waits for a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Waits,
    /// Cancels as soon as it is submitted.
    Cancels,
    /// Cancels once its neighbors are submitted too.
    CancelsLate,
    /// Drops the operation, whose outcome stays unknown.
    Drops,
}

/// One operation. `handle` counts from 0, modulo the number of handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Write {
        handle: usize,
        range: Range,
        memory: Memory,
        patience: Patience,
    },
    Read {
        handle: usize,
        range: Range,
        memory: Memory,
        exact: bool,
        patience: Patience,
    },
    SetLen {
        handle: usize,
        size: u64,
    },
    /// `fallocate` through a descriptor unknown to the engine.
    Punch {
        range: Range,
    },
    /// The same with `FALLOC_FL_ZERO_RANGE`; with `extend`, the file grows to hold the range.
    Zero {
        range: Range,
        extend: bool,
    },
    Sync {
        handle: usize,
        data_only: bool,
    },
    Stat {
        handle: usize,
    },
    /// Closes the handle while its operations are in flight, and opens it again.
    Reopen {
        handle: usize,
        mode: Mode,
        truncate: bool,
    },
    /// Waits for everything, then compares the whole file, through a handle and through plain
    /// reads.
    Check {
        handle: usize,
        plain_first: bool,
    },
}

impl Op {
    /// The size the file can have afterwards because of it.
    pub(crate) fn reach(&self) -> u64 {
        match *self {
            Self::Write { range, .. } if range.len > 0 => range.end(),
            Self::Zero { range, extend: true } => range.end(),
            Self::SetLen { size, .. } => size,
            _ => 0,
        }
    }

    pub(crate) fn handle(&self) -> Option<usize> {
        match *self {
            Self::Write { handle, .. }
            | Self::Read { handle, .. }
            | Self::SetLen { handle, .. }
            | Self::Sync { handle, .. }
            | Self::Stat { handle }
            | Self::Reopen { handle, .. }
            | Self::Check { handle, .. } => Some(handle),
            Self::Punch { .. } | Self::Zero { .. } => None,
        }
    }

    pub(crate) fn range_mut(&mut self) -> Option<&mut Range> {
        match self {
            Self::Write { range, .. } | Self::Read { range, .. } | Self::Punch { range } | Self::Zero { range, .. } => Some(range),
            _ => None,
        }
    }
}
