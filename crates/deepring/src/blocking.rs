//! A few named threads for calls that may block: open, stat, fallocate, truncate, fsync, close, unmapping, verification.
//!
//! Neither the caller's thread nor the driver may wait for these. At most [`THREADS_MAX`] threads, started when there is work for them and
//! kept for the engine's life. A job never waits for another job. Shutdown runs what is queued, then joins.

use crate::sync::thread::{JoinHandle, current};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::sys::{Errno, thread};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

/// File-system calls mostly wait for the device's journal; more threads would queue up behind the same lock.
pub(crate) const THREADS_MAX: usize = if cfg!(all(loom, test)) { 1 } else { 4 };

pub(crate) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct BlockingPool {
    shared: Arc<Shared>,
    /// A simulation runs the jobs, in an order of its choice.
    #[cfg(feature = "sim")]
    deferred: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    stopping: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
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

impl BlockingPool {
    /// Runs a job only if a thread is free for it or can be started; else gives it back.
    pub(crate) fn try_run(&self, job: Job) -> Result<(), Job> {
        let state = self.shared.lock();
        let is_free = state.idle > state.jobs.len() || (state.threads.len() < THREADS_MAX && !state.stopping);
        drop(state);
        if is_free {
            self.run(job);
            Ok(())
        } else {
            Err(job)
        }
    }

    /// Queues a job. If no thread can be started at all, the job runs on the calling thread: late is better than never.
    pub(crate) fn run(&self, job: Job) {
        let mut state = self.shared.lock();
        let can_grow = state.threads.len() < THREADS_MAX && !state.stopping;
        state.jobs.push_back(job);
        #[cfg(feature = "sim")]
        if self.deferred {
            return;
        }
        if state.idle >= state.jobs.len() {
            drop(state);
            self.shared.work.notify_one();
            return;
        }
        if can_grow && let Ok(handle) = spawn(&self.shared, state.threads.len()) {
            state.threads.push(handle);
            return;
        }
        if state.idle > 0 {
            drop(state);
            self.shared.work.notify_one();
        } else if state.threads.is_empty() {
            let job = state.jobs.pop_back();
            drop(state);
            if let Some(job) = job {
                job();
            }
        }
    }

    /// Runs what is queued and ends the threads. Later jobs run on their caller's thread.
    pub(crate) fn stop(&self) {
        let threads = {
            let mut state = self.shared.lock();
            state.stopping = true;
            std::mem::take(&mut state.threads)
        };
        self.shared.work.notify_all();
        for handle in threads {
            // The engine may be dropped by a job of its own; a thread does not wait for itself.
            if handle.thread().id() != current().id() {
                // A job does not panic; if one did, its thread is gone and there is nothing to add.
                drop(handle.join());
            }
        }
    }
}

#[cfg(feature = "sim")]
impl BlockingPool {
    /// No threads: jobs wait until they are taken.
    pub(crate) fn deferred() -> Self {
        Self { deferred: true, ..Self::default() }
    }

    /// How many jobs wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    /// Takes a waiting job out.
    pub(crate) fn take(&self, index: usize) -> Option<Job> {
        self.shared.lock().jobs.remove(index)
    }
}

fn spawn(shared: &Arc<Shared>, index: usize) -> Result<JoinHandle<()>, Errno> {
    let shared = Arc::clone(shared);
    thread::spawn(format!("deepring-help-{index}"), move || shared.run())
}
