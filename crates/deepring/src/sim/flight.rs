//! The operations in flight at the simulated devices, and the backends that they belong to.
//!
//! This is the ledger only. How operations move and end is in `device`.

use crate::backend::{BackendKind, DeviceOp};
use crate::plan::Direction;
use crate::sys::Errno;

/// One backend of an engine. A lost ring and its replacement are two.
#[derive(Debug, Clone)]
pub(crate) struct BackendState {
    /// The index of its engine.
    pub(crate) engine: usize,
    pub(crate) lost: bool,
    /// Operations that it held when it was lost, and those pushed to it afterwards.
    pub(crate) lost_operations: u64,
    pub(crate) kind: BackendKind,
}

/// How an operation will end; drawn when it is pushed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// It moves at most this number of bytes.
    Moves(u32),
    /// It fails with this error after it has moved this number of bytes.
    Fails(Errno, u32),
}

impl Ending {
    /// The bytes that an operation of `len` bytes moves at most, and its error; 0 for none.
    pub(super) fn of(self, len: u32) -> (u32, Errno) {
        match self {
            Self::Moves(limit) => (limit.min(len), 0),
            Self::Fails(errno, limit) => (limit.min(len), errno),
        }
    }
}

/// An operation between `push` and the moment its completion was taken.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) backend: usize,
    pub(super) op: DeviceOp,
    /// See `Descriptor::opening`.
    pub(super) opening: u64,
    pub(super) inode: u64,
    pub(super) device: u32,
    pub(super) ending: Ending,
    /// Bytes of the first piece.
    pub(super) first_end: u32,
    pub(super) moved: u32,
    pub(super) submitted: bool,
    pub(super) lost: bool,
    /// When the next step is due.
    pub(super) due_ns: u64,
    /// Set once it was performed: the result that its completion will carry.
    pub(super) result: Option<i32>,
}

impl Flight {
    fn touches(&self, address: u64, len: u64) -> bool {
        self.op.address < address + len && address < self.op.address + u64::from(self.op.len)
    }
}

/// Everything in flight at the devices of a world.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(super) flights: Vec<Flight>,
    pub(super) backends: Vec<BackendState>,
    /// The device that moves nothing now, if one is stuck.
    pub(super) stuck: Option<u32>,
}

impl Devices {
    /// Whether completions of this engine are ready.
    pub(crate) fn has_completions(&self, engine: usize, now_ns: u64) -> bool {
        let ready = |flight: &Flight| !flight.lost && flight.result.is_some() && flight.due_ns <= now_ns;
        self.flights.iter().any(|flight| ready(flight) && self.backends[flight.backend].engine == engine)
    }

    /// When the next step of any operation is due.
    pub(crate) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        let moves = |flight: &&Flight| flight.submitted && flight.due_ns > now_ns && !self.is_stuck(flight);
        self.flights.iter().filter(moves).map(|flight| flight.due_ns).min()
    }

    /// The device that is stuck goes on. Returns which it is.
    pub(super) fn release(&mut self, now_ns: u64) -> Option<u32> {
        let stuck = self.stuck.take()?;
        for flight in self.flights.iter_mut().filter(|flight| flight.device == stuck && flight.submitted) {
            flight.due_ns = flight.due_ns.max(now_ns + 1);
        }
        Some(stuck)
    }

    /// Whether the operation is at a device that is stuck, and not done.
    pub(super) fn is_stuck(&self, flight: &Flight) -> bool {
        !flight.lost && flight.result.is_none() && self.stuck == Some(flight.device)
    }

    /// Whether an operation that was not lost can still touch the range.
    pub(crate) fn holds(&self, address: u64, len: u64) -> bool {
        self.flights.iter().any(|flight| !flight.lost && flight.touches(address, len))
    }

    /// Whether a lost operation can still touch the range.
    pub(crate) fn has_lost(&self, address: u64, len: u64) -> bool {
        self.flights.iter().any(|flight| flight.lost && flight.touches(address, len))
    }

    /// Whether a write to the file is in flight.
    pub(crate) fn writes_to(&self, inode: u64) -> bool {
        self.flights.iter().any(|flight| !flight.lost && flight.inode == inode && flight.op.direction == Direction::Write)
    }

    /// Operations of this engine that were lost with a ring.
    pub(crate) fn lost_operations(&self, engine: usize) -> u64 {
        self.backends.iter().filter(|backend| backend.engine == engine).map(|backend| backend.lost_operations).sum()
    }

    pub(crate) fn uses(&self, opening: u64) -> bool {
        self.flights.iter().any(|flight| !flight.lost && flight.opening == opening)
    }
}
