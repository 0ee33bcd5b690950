//! Operations between `push` and the moment their completion was taken.

use crate::backend::{BackendKind, DeviceOp};
use crate::plan::Direction;
use crate::sys::Errno;

/// Where the flights of one backend are counted.
#[derive(Debug, Clone)]
pub(crate) struct BackendState {
    /// The engine.
    pub(crate) engine: usize,
    pub(crate) lost: bool,
    /// What it had when it was lost, and was given afterwards.
    pub(crate) lost_operations: u64,
    pub(crate) kind: BackendKind,
}

/// What an operation will end with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// At most so many bytes.
    Moves(u32),
    /// An error, after so many bytes.
    Fails(Errno, u32),
}

/// An operation between `push` and the moment its completion was taken.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) backend: usize,
    pub(super) op: DeviceOp,
    /// Which opening of the descriptor it is for.
    pub(super) opening: u64,
    pub(super) inode: u64,
    pub(super) device: u32,
    pub(super) ending: Ending,
    /// The first piece ends here.
    pub(super) first_end: u32,
    pub(super) moved: u32,
    pub(super) submitted: bool,
    pub(super) lost: bool,
    /// When the next step is due.
    pub(super) due_ns: u64,
    /// Performed: what it will report.
    pub(super) result: Option<i32>,
}

impl Flight {
    fn touches(&self, address: u64, len: u64) -> bool {
        self.op.address < address + len && address < self.op.address + u64::from(self.op.len)
    }
}

/// Everything in flight at the simulated devices of a world.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(super) flights: Vec<Flight>,
    pub(super) backends: Vec<BackendState>,
}

impl Devices {
    /// Whether completions of this engine wait to be taken.
    pub(crate) fn has_completions(&self, engine: usize, now_ns: u64) -> bool {
        let ready = |flight: &Flight| !flight.lost && flight.result.is_some() && flight.due_ns <= now_ns;
        self.flights.iter().any(|flight| ready(flight) && self.backends[flight.backend].engine == engine)
    }

    /// When something happens next.
    pub(crate) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        self.flights.iter().filter(|flight| flight.submitted && flight.due_ns > now_ns).map(|flight| flight.due_ns).min()
    }

    /// Whether an operation that was not lost may still touch the range.
    pub(crate) fn holds(&self, address: u64, len: u64) -> bool {
        self.flights.iter().any(|flight| !flight.lost && flight.touches(address, len))
    }

    /// Whether a lost operation may still touch the range.
    pub(crate) fn has_lost(&self, address: u64, len: u64) -> bool {
        self.flights.iter().any(|flight| flight.lost && flight.touches(address, len))
    }

    /// Whether a write to the file is in flight.
    pub(crate) fn writes_to(&self, inode: u64) -> bool {
        self.flights.iter().any(|flight| !flight.lost && flight.inode == inode && flight.op.direction == Direction::Write)
    }

    /// How many operations of this engine went with a ring.
    pub(crate) fn lost_operations(&self, engine: usize) -> u64 {
        self.backends.iter().filter(|backend| backend.engine == engine).map(|backend| backend.lost_operations).sum()
    }

    pub(crate) fn uses(&self, opening: u64) -> bool {
        self.flights.iter().any(|flight| !flight.lost && flight.opening == opening)
    }
}
