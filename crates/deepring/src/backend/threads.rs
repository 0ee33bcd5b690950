//! The backend of blocking system calls: [`THREADS`] threads, each with one operation at a time.
//!
//! Planner, budget and results are those of the ring; the cost is a thread switch per block. The
//! threads take operations from one list and leave results in another. The driver sleeps on the
//! [`Doorbell`], which the first result rings. Dropping the backend ends each thread after its
//! current operation; the driver drops it only when nothing is in flight.

use super::{Backend, BackendKind, DeviceOp, Done};
use crate::doorbell::Doorbell;
use crate::plan::Direction;
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::sys::{Errno, file, thread};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

/// Eight blocking readers of 1 MiB blocks keep a drive as busy as a ring does (measured: reads
/// 1.00, writes 1.04 of the ring).
pub(crate) const THREADS: usize = if cfg!(all(loom, test)) { 1 } else { 8 };

/// Staged and running operations together. The device's budget is the real limit; this only has to
/// be larger.
const CAPACITY: usize = 1024;

pub(crate) struct Threads {
    shared: Arc<Shared>,
    staged: Vec<DeviceOp>,
    handles: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    doorbell: Arc<Doorbell>,
}

#[derive(Default)]
struct State {
    todo: VecDeque<DeviceOp>,
    done: Vec<Done>,
    idle: usize,
    stopping: bool,
}

impl Threads {
    /// # Errors
    /// No thread at all could be started.
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> Result<Self, Errno> {
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), doorbell });
        let mut handles = Vec::new();
        for index in 0..THREADS {
            let its = Arc::clone(&shared);
            match thread::spawn(format!("deepring-io-{index}"), move || its.run()) {
                Ok(handle) => handles.push(handle),
                Err(errno) if handles.is_empty() => return Err(errno),
                // Fewer threads are slower, not wrong.
                Err(_) => break,
            }
        }
        Ok(Self { shared, staged: Vec::new(), handles })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(op) = state.todo.pop_front() {
                drop(state);
                let result = transfer(&op);
                state = self.lock();
                let first = state.done.is_empty();
                state.done.push(Done { key: op.key, result });
                if first {
                    self.doorbell.wake();
                }
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
        let wakes = self.staged.len().min(state.idle);
        state.todo.extend(self.staged.drain(..));
        drop(state);
        (0..wakes).for_each(|_| self.shared.work.notify_one());
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
        Ok(Box::new(Self::new(Arc::clone(&self.shared.doorbell))?))
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
