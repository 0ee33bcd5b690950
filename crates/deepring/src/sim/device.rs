//! The simulated devices: in virtual time, over real files, with every fault that a device can
//! have.
//!
//! An operation takes four steps: it is pushed, submitted, *performed* (bytes move, in one or two
//! pieces) and completed. The time of each step is drawn, so operations overtake one another and
//! completions arrive in any order. How an operation will end is drawn when it is pushed: all of
//! it, a part of any length, or an error, possibly after some bytes have moved.
//!
//! The device checks everything that the engine gives it. It reports a violation if
//!
//! * more operations or bytes are pushed than the device's budget or the ring's capacity allows, or
//!   one operation is pushed twice;
//! * an operation on a direct file is not aligned;
//! * a direct read without pins touches a page that its request shares with other memory;
//! * a read finds memory that was never populated;
//! * memory is touched, or an operation on it completes, although no unsettled request and no live
//!   bounce block owns it;
//! * a descriptor is closed before an operation on it has completed;
//! * a backend is dropped while it still holds operations.
//!
//! **A lost ring** stops answering. What it was reading still arrives in memory later, which is why
//! such memory is leaked. What it was writing has reached the file by then, or never does. A write
//! that lands later could undo what the next backend wrote, and no engine could prevent that.

use super::flight::{BackendState, Ending, Flight};
use super::kernel::size_on_disk;
use super::ranges::Owner;
use super::world::{self, World};
use crate::backend::{BackendKind, DeviceOp, Done};
use crate::memory::is_engine_memory;
use crate::plan::Direction;
use crate::sys::{Errno, file};

/// The devices' part of the world.
impl World {
    /// Registers a backend of an engine.
    pub(crate) fn add_backend(&mut self, engine: usize, kind: BackendKind) -> usize {
        self.devices.backends.push(BackendState { engine, lost: false, lost_operations: 0, kind });
        self.devices.backends.len() - 1
    }

    pub(super) fn push(&mut self, backend: usize, op: DeviceOp) {
        if self.devices.backends[backend].lost {
            // Staged in a ring that will never be submitted.
            self.devices.backends[backend].lost_operations += 1;
            return;
        }
        self.tally.device_operations += 1;
        let Some(descriptor) = self.descriptor(op.fd) else {
            return self.violate(format!("an operation names the descriptor {}, which is not open", op.fd));
        };
        let (opening, inode, direct) = (descriptor.opening, descriptor.inode, descriptor.direct);
        let device = self.facts(inode).device;
        let flight = Flight {
            backend,
            op,
            opening,
            inode,
            device,
            ending: self.draw_ending(&op, direct, inode, true),
            first_end: self.rng.between(0, u64::from(op.len)) as u32,
            moved: 0,
            submitted: false,
            lost: false,
            due_ns: u64::MAX,
            result: None,
        };
        self.note(|| format!("push {op:?} direct {direct} inode {inode} ending {:?}", flight.ending));
        self.check_operation(&op, direct, inode);
        if !descriptor.was_direct {
            self.check_order(&op, inode);
        }
        if self.devices.flights.iter().any(|other| other.backend == backend && other.op.key == op.key) {
            self.violate(format!("an operation was pushed twice: {op:?}"));
        }
        self.devices.flights.push(flight);
        self.check_budget(backend, device);
    }

    /// Checks that the operation is well formed.
    fn check_operation(&mut self, op: &DeviceOp, direct: bool, inode: u64) {
        let facts = self.facts(inode);
        let (offset_unit, memory_unit) = (facts.offset_alignment, facts.memory_alignment);
        let aligned = op.position.is_multiple_of(offset_unit.into())
            && op.len.is_multiple_of(offset_unit)
            && op.address.is_multiple_of(memory_unit.into());
        if direct && !aligned {
            self.violate(format!("an unaligned operation on a direct file: {op:?}"));
        }
        if direct && !self.profile.pins && op.direction == Direction::Read {
            self.check_pages(op);
        }
        self.check_pages_are_present(op);
        if op.len == 0 {
            self.violate(format!("an operation of no bytes: {op:?}"));
        }
        self.check_range(op);
    }

    /// A file that nothing was reserved for has no gap behind a request's start: whoever follows it would read zeros.
    fn check_order(&mut self, op: &DeviceOp, inode: u64) {
        let Some(start) = self.start_of(op.address, op.position) else { return };
        let size = size_on_disk(op.fd);
        let facts = self.facts(inode);
        if facts.cut || facts.inode.upgrade().is_some_and(|inode| inode.size() > size) {
            // Another process has truncated the file. The engine may have noticed it, but not before the request was planned.
            return;
        }
        if op.direction == Direction::Write && op.position > size.max(start) {
            self.violate(format!("a file of {size} bytes grows out of order: {op:?}"));
        }
    }

    /// Checks that a page which is not pinned holds nothing but the memory of one request.
    fn check_pages(&mut self, op: &DeviceOp) {
        const PAGE: u64 = 4096;
        let (first, end) = (op.address - op.address % PAGE, (op.address + u64::from(op.len)).next_multiple_of(PAGE));
        if let Some(owner @ Owner::Request(_)) = self.ranges.owner(op.address, op.len.into())
            && self.ranges.owner(first, end - first) != Some(owner)
            && !is_engine_memory(op.address, op.len.into())
        {
            self.violate(format!("a device reads into a page that is not pinned, and not all the request's: {op:?}"));
        }
    }

    /// Draws how an operation will end. Only a ring can cancel one, when it finds no worker thread.
    fn draw_ending(&mut self, op: &DeviceOp, direct: bool, inode: u64, by_ring: bool) -> Ending {
        if !self.injecting {
            return Ending::Moves(op.len);
        }
        let p = self.profile.clone();
        let write = op.direction == Direction::Write;
        let fail = |world: &mut Self, errno: Errno| {
            world.inject(inode, errno);
            let moved = if world.rng.one_in(2) { 0 } else { world.rng.below(u64::from(op.len)) as u32 };
            Ending::Fails(errno, moved)
        };
        if direct && self.facts(inode).refuses_direct {
            self.inject(inode, libc::EINVAL);
            return Ending::Fails(libc::EINVAL, 0);
        }
        // The block in which the file ends is there.
        let is_past_end = |op: &DeviceOp| op.position + u64::from(op.len) > size_on_disk(op.fd).next_multiple_of(4096);
        if direct && !write && p.past_end > 0 && is_past_end(op) && self.rng.chance(p.past_end) {
            self.tally.faults += 1;
            return Ending::Fails(libc::EIO, 0);
        }
        if op.nowait && self.facts(inode).refuses_nowait {
            self.tally.faults += 1;
            return Ending::Fails(self.rng.pick(&[libc::EOPNOTSUPP, libc::EINVAL]), 0);
        }
        if op.nowait && self.rng.chance(p.would_block) {
            self.tally.faults += 1;
            return Ending::Fails(libc::EAGAIN, 0);
        }
        if self.rng.chance(p.interrupted) {
            return fail(self, libc::EINTR);
        }
        if self.rng.chance(p.again) {
            return fail(self, libc::EAGAIN);
        }
        if self.rng.chance(p.io_error) {
            return fail(self, libc::EIO);
        }
        if write && self.rng.chance(p.no_space) {
            return fail(self, libc::ENOSPC);
        }
        if by_ring && self.rng.chance(p.canceled) {
            return fail(self, libc::ECANCELED);
        }
        if self.rng.chance(p.short) {
            self.tally.faults += 1;
            // A read of 0 bytes would mean the end of the file. A write of 0 bytes means nothing:
            // the kernel made no progress.
            if write && self.rng.one_in(8) {
                self.inject(inode, libc::EIO);
                return Ending::Moves(0);
            }
            return Ending::Moves(self.rng.between(1, u64::from(op.len)) as u32);
        }
        Ending::Moves(op.len)
    }

    fn check_range(&mut self, op: &DeviceOp) {
        if !self.profile.program && self.ranges.owner(op.address, op.len.into()).is_none() {
            self.violate(format!("the device was given memory that is not lent: {op:?}"));
        }
    }

    /// Adds up what all engines of one copy have in flight at one device, and compares that with the budget.
    fn check_budget(&mut self, backend: usize, device: u32) {
        let engine = self.devices.backends[backend].engine;
        let request_bytes = self.profile.request_bytes.clamp(4096, 1 << 20);
        let (mut operations, mut requests, mut bytes) = (0u64, 0, 0);
        let mut all = 0;
        for flight in self.devices.flights.iter().filter(|flight| !flight.lost) {
            let is_own = self.devices.backends[flight.backend].engine == engine;
            all += usize::from(is_own);
            if flight.device == device && (is_own || !self.profile.copies) {
                operations += 1;
                requests += u64::from(flight.op.len).div_ceil(request_bytes);
                bytes += u64::from(flight.op.len);
            }
        }
        let most = u64::from(self.profile.device_requests / 2).max(1);
        let depth = most.min(u64::from(self.profile.queue_depth.unwrap_or(u32::MAX)));
        // One operation on scattered memory can be more device requests than the whole budget. Then
        // it must be alone.
        if (operations > 1 && requests > most) || operations > depth || bytes > self.profile.in_flight_bytes {
            let limit = self.profile.in_flight_bytes;
            let what = format!("{operations} blocks of {depth}, {requests} requests of {most} and {bytes} bytes of {limit}");
            self.violate(format!("{what} are in flight at one device"));
        }
        if all > self.profile.capacity {
            self.violate(format!("{all} operations are in a ring that holds {}", self.profile.capacity));
        }
    }

    /// Submits what the engine has pushed.
    pub(crate) fn submit(&mut self, engine: usize) {
        for index in 0..self.devices.flights.len() {
            let flight = &self.devices.flights[index];
            if !flight.submitted && self.devices.backends[flight.backend].engine == engine {
                let due_ns = self.now_ns + self.latency();
                let flight = &mut self.devices.flights[index];
                (flight.submitted, flight.due_ns) = (true, due_ns);
            }
        }
    }

    pub(super) fn latency(&mut self) -> u64 {
        let stalled = self.rng.chance(self.profile.stall);
        let latency = 1 + self.rng.about(self.profile.latency_ns);
        if stalled { latency * 50 } else { latency }
    }

    /// Lets time pass until `until_ns`, and performs what is due by then.
    pub(crate) fn advance(&mut self, until_ns: u64) {
        loop {
            let stuck = |flight: &Flight| self.devices.is_stuck(flight);
            let due = |flight: &Flight| flight.submitted && flight.result.is_none() && flight.due_ns <= until_ns && !stuck(flight);
            let flights = self.devices.flights.iter().enumerate().filter(|(_, flight)| due(flight));
            let Some((index, _)) = flights.min_by_key(|(_, flight)| flight.due_ns) else { break };
            self.now_ns = self.now_ns.max(self.devices.flights[index].due_ns);
            self.perform(index);
        }
        self.now_ns = self.now_ns.max(until_ns);
        self.devices.flights.retain(|flight| !(flight.lost && flight.result.is_some()));
    }

    /// Performs the next piece of an operation.
    fn perform(&mut self, index: usize) {
        let pause = 1 + self.rng.below(self.profile.latency_ns + 1) / 4;
        let flight = &self.devices.flights[index];
        let (op, ending, lost) = (flight.op, flight.ending, flight.lost);
        let (limit, errno) = ending.of(op.len);
        let (from, first) = (flight.moved, flight.moved < flight.first_end && flight.first_end < limit);
        let piece = if first { flight.first_end } else { limit } - from.min(limit);
        let opening = flight.opening;
        self.check_range(&op);
        if !lost && self.descriptor(op.fd).is_none_or(|descriptor| descriptor.opening != opening) {
            self.violate(format!("a descriptor was closed before its operation was performed: {op:?}"));
        }
        if self.is_violated() {
            // The memory or the descriptor can belong to another request by now.
            self.devices.flights[index].result = Some(-libc::EIO);
            return;
        }
        let moved = if lost { Self::fill_lost_read(&op, from, piece) } else { self.transfer(&op, from, piece) };
        let flight = &mut self.devices.flights[index];
        flight.moved += moved;
        flight.due_ns = self.now_ns + pause;
        if !first || moved < piece {
            let result = if errno == 0 { flight.moved as i32 } else { -errno };
            flight.result = Some(result);
            self.tally.moved_bytes += u64::from(flight.moved);
            self.digest(&[op.position, op.len.into(), result as u64, self.now_ns]);
            self.note(|| format!("performed {op:?}: {result}"));
        }
    }

    /// Performs an operation that a job makes by a blocking call. The devices go on working during
    /// it.
    fn block(&mut self, op: &DeviceOp) -> i32 {
        self.tally.device_operations += 1;
        let Some(descriptor) = self.descriptor(op.fd) else {
            self.violate(format!("a blocking call names the descriptor {}, which is not open", op.fd));
            return -libc::EBADF;
        };
        self.check_operation(op, descriptor.direct, descriptor.inode);
        if self.devices.holds(op.address, op.len.into()) {
            self.violate(format!("a blocking call names memory that the device still holds: {op:?}"));
        }
        let ending = self.draw_ending(op, descriptor.direct, descriptor.inode, false);
        self.note(|| format!("blocking {op:?} direct {} inode {} ending {ending:?}", descriptor.direct, descriptor.inode));
        let (limit, errno) = ending.of(op.len);
        let first = self.rng.between(0, u64::from(limit)) as u32;
        let mut moved = 0;
        for piece in [first, limit - first] {
            if self.is_violated() {
                return -libc::EIO;
            }
            let done = self.transfer(op, moved, piece);
            moved += done;
            if done < piece {
                break;
            }
            let until_ns = self.now_ns + self.latency();
            self.advance(until_ns);
        }
        self.tally.moved_bytes += u64::from(moved);
        let result = if errno == 0 { moved as i32 } else { -errno };
        self.digest(&[op.position, op.len.into(), result as u64, self.now_ns]);
        result
    }

    fn transfer(&mut self, op: &DeviceOp, from: u32, piece: u32) -> u32 {
        if piece == 0 {
            return 0;
        }
        let (address, position) = (op.address + u64::from(from), op.position + u64::from(from));
        let result = match op.direction {
            // SAFETY: the range lies in the operation's memory. `check_range` has just found a live
            // request or bounce block that owns it, and the whole simulation runs on this thread.
            Direction::Read => unsafe { file::read_at(op.fd, address, piece, position, 0) },
            // SAFETY: as above.
            Direction::Write => unsafe { file::write_at(op.fd, address, piece, position, 0) },
        };
        if result < 0 {
            self.violate(format!("the file system below the simulation returned {result} for {op:?}"));
        }
        let moved = result.max(0) as u32;
        if op.direction == Direction::Read {
            self.flip_sometimes(op, address, position, moved);
        }
        moved
    }

    /// A read of a lost ring arrives: no request wants its bytes any more.
    fn fill_lost_read(op: &DeviceOp, from: u32, piece: u32) -> u32 {
        if op.direction == Direction::Read {
            let start = (op.address + u64::from(from)) as *mut u8;
            // SAFETY: `check_range` has just found the range leaked, so nothing else uses it, now
            // or later.
            unsafe { start.write_bytes(0xdb, piece as usize) };
        }
        piece
    }

    /// Takes out all completions that are due, or some of them.
    pub(super) fn collect(&mut self, backend: usize, done: &mut Vec<Done>) -> Result<(), Errno> {
        self.submit(self.devices.backends[backend].engine);
        let now_ns = self.now_ns;
        let mut ready: Vec<_> = (0..self.devices.flights.len())
            .filter(|&index| {
                let flight = &self.devices.flights[index];
                flight.backend == backend && flight.result.is_some() && flight.due_ns <= now_ns
            })
            .collect();
        let wanted = if ready.is_empty() || self.rng.one_in(2) { ready.len() } else { self.rng.between(1, ready.len() as u64) as usize };
        let mut taken = Vec::new();
        for _ in 0..wanted {
            let index = ready.swap_remove(self.rng.index(ready.len()));
            let Flight { op, result, .. } = self.devices.flights[index];
            self.check_range(&op);
            done.push(Done { key: op.key, result: result.unwrap_or(0) });
            taken.push(index);
        }
        taken.sort_unstable();
        for index in taken.into_iter().rev() {
            self.devices.flights.remove(index);
        }
        let state = &self.devices.backends[backend];
        if state.kind == BackendKind::Uring && !state.lost && self.rng.chance(self.profile.lost) && self.injecting {
            self.lose(backend);
            return Err(libc::EBADF);
        }
        Ok(())
    }

    /// Loses the ring of this backend: it will never complete anything again.
    pub(super) fn lose(&mut self, backend: usize) {
        self.note(|| format!("the ring of backend {backend} is lost"));
        self.devices.backends[backend].lost = true;
        self.lost_rings += 1;
        for index in 0..self.devices.flights.len() {
            let Flight { op, result, backend: its, .. } = self.devices.flights[index];
            if its != backend {
                continue;
            }
            self.devices.backends[backend].lost_operations += 1;
            if op.direction == Direction::Write && result.is_none() && self.rng.one_in(2) {
                while self.devices.flights[index].result.is_none() {
                    self.perform(index);
                }
            }
            let later = self.now_ns + self.latency() * 20;
            let flight = &mut self.devices.flights[index];
            (flight.lost, flight.submitted, flight.due_ns, flight.moved) = (true, true, later, 0);
            if op.direction == Direction::Read {
                flight.result = None;
                flight.ending = Ending::Moves(op.len);
            } else {
                flight.result = Some(0);
            }
            if self.ranges.owner(op.address, 1) == Some(Owner::Bounce) {
                self.ranges.leak(op.address);
            }
        }
    }

    pub(super) fn close_backend(&mut self, backend: usize) {
        let held = self.devices.flights.iter().filter(|flight| flight.backend == backend && !flight.lost).count();
        if held > 0 {
            self.violate(format!("a backend was dropped while {held} operations were in flight"));
        }
    }
}

/// A blocking transfer of a job. Returns what the system call would return.
pub(super) fn transfer(op: &DeviceOp) -> i32 {
    // Installed only while this thread has a world.
    world::with(|world| world.block(op)).unwrap_or(-libc::EIO)
}
