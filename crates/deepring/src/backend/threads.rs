//! The backend of blocking system calls: threads, each with one operation at a time.
//!
//! Planner, budget and results are those of the ring; the cost is a thread switch per block. The
//! threads take operations from [`Lanes`] and leave results in a list. The driver sleeps on the
//! [`Doorbell`], which the first result rings. Dropping the backend ends each thread after its
//! current operation; the driver drops it only when nothing is in flight.
//!
//! There is one lane per file system, and a number of threads ([`THREADS`], unless the engine's options say another) serves one
//! lane at most. If a file system does not answer, its operations keep that number of threads, and
//! further threads are started for the others.

use super::{Backend, BackendKind, DeviceOp, Done};
use crate::doorbell::Doorbell;
use crate::lanes::Lanes;
use crate::plan::Direction;
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::sys::{Errno, file, thread};
use std::mem;
use std::sync::{Arc, PoisonError};

/// Eight blocking readers of 1 MiB blocks keep a drive as busy as a ring does (measured: reads
/// 1.00, writes 1.04 of the ring).
pub(crate) const THREADS: usize = if cfg!(all(loom, test)) { 1 } else { 8 };

/// Enough for 32 file systems that do not answer, and one that does.
const LANES_MAX: usize = if cfg!(all(loom, test)) { 1 } else { 33 };

/// Staged and running operations together. The device's budget is the real limit; this only has to
/// be larger.
const CAPACITY: usize = 4096;

pub(crate) struct Threads {
    /// Threads of one lane.
    per_lane: usize,
    shared: Arc<Shared>,
    staged: Vec<DeviceOp>,
    handles: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    doorbell: Arc<Doorbell>,
}

/// The number of threads of a lane, which is the same for all.
type Limit = Box<dyn Fn(u64) -> usize + Send>;

struct State {
    todo: Lanes<u64, DeviceOp, Limit>,
    done: Vec<Done>,
    idle: usize,
    /// Threads that have an operation.
    busy: usize,
    stopping: bool,
}

impl Threads {
    /// # Errors
    /// No thread at all could be started.
    pub(crate) fn new(doorbell: Arc<Doorbell>, per_lane: usize) -> Result<Self, Errno> {
        let state = State { todo: Lanes::new(Box::new(move |_| per_lane) as Limit), done: Vec::new(), idle: 0, busy: 0, stopping: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), doorbell });
        let mut backend = Self { per_lane, shared, staged: Vec::new(), handles: Vec::new() };
        match backend.start(per_lane) {
            Err(errno) if backend.handles.is_empty() => Err(errno),
            // Fewer threads are slower, not wrong.
            _ => Ok(backend),
        }
    }

    /// The most that are started, for all lanes.
    fn most(&self) -> usize {
        self.per_lane * LANES_MAX
    }

    /// Starts threads.
    fn start(&mut self, count: usize) -> Result<(), Errno> {
        for _ in 0..count.min(self.most() - self.handles.len()) {
            let shared = Arc::clone(&self.shared);
            self.handles.push(thread::spawn(format!("deepring-io-{}", self.handles.len()), move || shared.run())?);
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        // The driver is to be woken: not under the lock, which it takes first of all.
        let mut rings = false;
        loop {
            if let Some((fate, op)) = state.todo.pop() {
                state.busy += 1;
                drop(state);
                if mem::take(&mut rings) {
                    self.doorbell.wake();
                }
                let result = transfer(&op);
                state = self.lock();
                state.busy -= 1;
                state.todo.done(fate, false);
                rings = state.done.is_empty();
                state.done.push(Done { key: op.key, result });
            } else if mem::take(&mut rings) {
                drop(state);
                self.doorbell.wake();
                state = self.lock();
            } else if state.stopping {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

/// Carries out one operation by a blocking call. Returns bytes, or a negative error number.
pub(crate) fn transfer(op: &DeviceOp) -> i32 {
    if let Some(result) = super::interpose::transfer(op) {
        return result;
    }
    let flags = if op.nowait { file::NOWAIT } else { 0 };
    match op.direction {
        // SAFETY: the driver owns the memory on behalf of the request and keeps it until this
        // result has been taken.
        Direction::Read => unsafe { file::read_at(op.fd, op.address, op.len, op.position, flags) },
        // SAFETY: as above.
        Direction::Write => unsafe { file::write_at(op.fd, op.address, op.len, op.position, flags) },
    }
}

impl Backend for Threads {
    fn kind(&self) -> BackendKind {
        BackendKind::Threads
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn push(&mut self, op: DeviceOp) {
        // These threads exist to block.
        self.staged.push(DeviceOp { nowait: false, ..op });
    }

    fn submit(&mut self) -> Result<(), Errno> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let mut state = self.shared.lock();
        for op in self.staged.drain(..) {
            state.todo.push(op.fate, op);
        }
        let (startable, idle) = (state.todo.startable(), state.idle);
        let missing = startable.saturating_sub(self.handles.len() - state.busy);
        drop(state);
        (0..startable.min(idle)).for_each(|_| self.shared.work.notify_one());
        if missing > 0 && self.handles.len() < self.most() {
            // Without further threads the operations wait for those that there are.
            let _ = self.start(missing.min(self.per_lane));
        }
        Ok(())
    }

    fn wait(&mut self, block: bool, done: &mut Vec<Done>) -> Result<(), Errno> {
        self.submit()?;
        let mut state = self.shared.lock();
        if state.done.is_empty() && block {
            drop(state);
            self.shared.doorbell.event().wait();
            state = self.shared.lock();
        }
        done.append(&mut state.done);
        Ok(())
    }

    fn abandon(mut self: Box<Self>) {
        // Each thread ends after its current operation, and nothing waits for that.
        self.handles.clear();
        self.shared.lock().todo.clear();
    }

    fn successor(&self) -> Result<Box<dyn Backend>, Errno> {
        Ok(Box::new(Self::new(Arc::clone(&self.shared.doorbell), self.per_lane)?))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        for handle in self.handles.drain(..) {
            // A transfer does not panic. If one did, no error is left to handle.
            drop(handle.join());
        }
    }
}
