//! The blocking threads, for calls that can block: open, stat, fallocate, truncate, fsync, close,
//! unmapping, verification.
//!
//! Neither the caller's thread nor the driver may wait for these. There are at most [`THREADS_MAX`]
//! threads, started when there is work for them and kept for the engine's life. A job never waits
//! for another job. Shutdown runs what is queued, then joins the threads.

use crate::sync::thread::{JoinHandle, current};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::sys::{Errno, thread};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

/// File-system calls mostly wait for the journal; more threads would wait for the same lock.
pub(crate) const THREADS_MAX: usize = if cfg!(all(loom, test)) { 1 } else { 4 };

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Decides where and when a job runs: on [`Threads`], or in the order that a simulation draws.
pub(crate) trait Executor: Send + Sync {
    /// Runs a job now or later.
    fn run(&self, job: Job);

    /// Runs a job only if it need not wait for another; else returns it.
    fn try_run(&self, job: Job) -> Result<(), Job>;

    /// The same, but starts no thread for it.
    fn try_run_idle(&self, job: Job) -> Result<(), Job> {
        self.try_run(job)
    }

    /// Ends the executor after what is queued.
    fn stop(&self);
}

/// See the module.
pub(crate) struct BlockingPool {
    executor: Box<dyn Executor>,
}

impl Default for BlockingPool {
    fn default() -> Self {
        Self::new(Threads::default())
    }
}

impl BlockingPool {
    pub(crate) fn new(executor: impl Executor + 'static) -> Self {
        Self { executor: Box::new(executor) }
    }

    /// Queues a job.
    pub(crate) fn run(&self, job: Job) {
        self.executor.run(job);
    }

    /// Runs a job only if a thread is free for it or can be started; else gives it back.
    pub(crate) fn try_run(&self, job: Job) -> Result<(), Job> {
        self.executor.try_run(job)
    }

    /// Runs a job only if a thread is idle; else gives it back.
    pub(crate) fn try_run_idle(&self, job: Job) -> Result<(), Job> {
        self.executor.try_run_idle(job)
    }

    /// Runs what is queued and ends the threads. Later jobs run on their caller's thread.
    pub(crate) fn stop(&self) {
        self.executor.stop();
    }
}

/// The threads of an engine.
#[derive(Default)]
struct Threads {
    shared: Arc<Shared>,
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

impl Executor for Threads {
    fn try_run(&self, job: Job) -> Result<(), Job> {
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

    fn try_run_idle(&self, job: Job) -> Result<(), Job> {
        let state = self.shared.lock();
        let is_idle = state.idle > state.jobs.len();
        drop(state);
        if !is_idle {
            return Err(job);
        }
        self.run(job);
        Ok(())
    }

    /// If no thread can be started at all, the job runs on the calling thread, because it must run.
    fn run(&self, job: Job) {
        let mut state = self.shared.lock();
        let can_grow = state.threads.len() < THREADS_MAX && !state.stopping;
        state.jobs.push_back(job);
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

    fn stop(&self) {
        let threads = {
            let mut state = self.shared.lock();
            state.stopping = true;
            std::mem::take(&mut state.threads)
        };
        self.shared.work.notify_all();
        for handle in threads {
            // A job can drop the last engine; its thread must not wait for itself.
            if handle.thread().id() != current().id() {
                // A job does not panic. If one did, its thread is gone, and no error is left to
                // handle.
                drop(handle.join());
            }
        }
    }
}

fn spawn(shared: &Arc<Shared>, index: usize) -> Result<JoinHandle<()>, Errno> {
    let shared = Arc::clone(shared);
    thread::spawn(format!("deepring-help-{index}"), move || shared.run())
}
