//! The jobs of an engine's blocking threads. The run takes them out in an order that it draws.

use super::world;
use crate::blocking::{Executor, Job, Line};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The jobs of one engine. The engine's pool and the run have a clone each.
#[derive(Clone, Default)]
pub(super) struct JobQueue(Arc<Mutex<VecDeque<(Line, Job)>>>);

impl JobQueue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Line, Job)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs that can run: not those on files of a device that is stuck.
    pub(super) fn len(&self) -> usize {
        self.lock().iter().filter(|(line, _)| !is_stuck(*line)).count()
    }

    /// Takes out one of them.
    pub(super) fn take(&self, index: usize) -> Option<Job> {
        let mut jobs = self.lock();
        let (place, _) = jobs.iter().enumerate().filter(|(_, (line, _))| !is_stuck(*line)).nth(index)?;
        jobs.remove(place).map(|(_, job)| job)
    }
}

fn is_stuck(line: Line) -> bool {
    match line {
        Line::Mount(fate) | Line::Sync(fate) | Line::Verify(fate) => world::with(|world| world.is_fate_stuck(fate)).unwrap_or(false),
        Line::Memory | Line::Copy | Line::Populate | Line::Directory(_) => false,
    }
}

impl Executor for JobQueue {
    fn run(&self, line: Line, job: Job) {
        self.lock().push_back((line, job));
    }

    /// A simulated thread is always free.
    fn try_run_idle(&self, job: Job) -> Result<(), Job> {
        self.run(Line::Memory, job);
        Ok(())
    }

    /// Later is when the run takes it out.
    fn later(&self, _: Duration, job: Job) {
        self.run(Line::Memory, job);
    }

    /// Only a driver that unwinds asks for it. Otherwise the run takes out what is left.
    fn stop(&self) {
        while let Some(job) = self.take(0) {
            job();
        }
    }
}
