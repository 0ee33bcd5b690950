//! The jobs of an engine's blocking threads. The run takes them out in an order that it draws.

use crate::blocking::{Executor, Job, Line};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The jobs of one engine. The engine's pool and the run have a clone each.
#[derive(Clone, Default)]
pub(super) struct JobQueue(Arc<Mutex<VecDeque<Job>>>);

impl JobQueue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn take(&self, index: usize) -> Option<Job> {
        self.lock().remove(index)
    }
}

impl Executor for JobQueue {
    fn run(&self, _: Line, job: Job) {
        self.lock().push_back(job);
    }

    /// A simulated thread is always free.
    fn try_run(&self, line: Line, job: Job) -> Result<(), Job> {
        self.run(line, job);
        Ok(())
    }

    /// Only a driver that unwinds asks for it. Otherwise the run takes out what is left.
    fn stop(&self) {
        while let Some(job) = self.take(0) {
            job();
        }
    }
}
