//! When transfers are to be given up. One map per engine, and at most a few jobs of the timer, however many requests have
//! a deadline: a job is due at the first deadline, and no other is added for one that is later.
//!
//! A deadline that passes sets a flag, which the driver takes for a cancellation, and asks it to look. A request that ends
//! before takes its deadline out again.

use crate::blocking::BlockingPool;
use crate::doorbell::Doorbell;
use crate::sync::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// The deadlines of an engine.
pub(crate) struct Deadlines {
    state: Mutex<State>,
    doorbell: Arc<Doorbell>,
    blocking: Arc<BlockingPool>,
}

#[derive(Default)]
struct State {
    /// By the time, and a number.
    due: BTreeMap<(Instant, u64), Arc<AtomicBool>>,
    /// When jobs of the timer are due. Each new one is earlier than all others.
    jobs: BTreeSet<Instant>,
    number: u64,
}

impl State {
    /// When a job of the timer is missing, if one is.
    fn missing_job(&mut self) -> Option<Instant> {
        let (first, _) = *self.due.keys().next()?;
        let covered = self.jobs.first().is_some_and(|&job| job <= first);
        (!covered && self.jobs.insert(first)).then_some(first)
    }
}

/// The deadline of one request.
pub(crate) struct Deadline {
    deadlines: Arc<Deadlines>,
    key: (Instant, u64),
    passed: Arc<AtomicBool>,
}

impl Deadline {
    /// Whether it has passed and the request was to be given up for that.
    pub(crate) fn has_passed(&self) -> bool {
        self.passed.load(Ordering::Acquire)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.deadlines.lock().due.remove(&self.key);
    }
}

impl Deadlines {
    pub(crate) fn new(doorbell: &Arc<Doorbell>, blocking: &Arc<BlockingPool>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), doorbell: Arc::clone(doorbell), blocking: Arc::clone(blocking) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch a deadline.
    pub(crate) fn watch(self: &Arc<Self>, at: Instant) -> Deadline {
        let passed = Arc::new(AtomicBool::new(false));
        let mut state = self.lock();
        state.number += 1;
        let key = (at, state.number);
        state.due.insert(key, Arc::clone(&passed));
        let job = state.missing_job();
        drop(state);
        self.add_job(job);
        Deadline { deadlines: Arc::clone(self), key, passed }
    }

    fn add_job(self: &Arc<Self>, at: Option<Instant>) {
        let Some(at) = at else { return };
        let deadlines = Arc::downgrade(self);
        let job = move || {
            if let Some(deadlines) = deadlines.upgrade() {
                deadlines.pass(at);
            }
        };
        self.blocking.later(at.saturating_duration_since(Instant::now()), Box::new(job));
    }

    /// A job of the timer: everything up to now has passed.
    fn pass(self: &Arc<Self>, job: Instant) {
        let now = Instant::now();
        let mut state = self.lock();
        state.jobs.remove(&job);
        if now < job {
            // No thread serves the timer. The next deadline tries again.
            return;
        }
        let later = state.due.split_off(&(now, u64::MAX));
        let passed = std::mem::replace(&mut state.due, later);
        let next = state.missing_job();
        drop(state);
        for flag in passed.values() {
            flag.store(true, Ordering::Release);
        }
        if !passed.is_empty() {
            self.doorbell.request_sweep();
        }
        self.add_job(next);
    }

    /// Deadlines and jobs that wait.
    #[cfg(all(test, not(loom)))]
    fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.due.len(), state.jobs.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::event::Event;
    use std::time::Duration;

    fn deadlines() -> Arc<Deadlines> {
        Deadlines::new(&Arc::new(Doorbell::new(Event::new().expect("an eventfd"))), &Arc::default())
    }

    #[test]
    fn any_number_of_deadlines_takes_one_job_and_those_that_end_before_leave_nothing() {
        let deadlines = deadlines();
        let (start, hour) = (Instant::now(), Duration::from_secs(3600));
        let watched: Vec<_> = (0..10_000).map(|index| deadlines.watch(start + hour + Duration::from_micros(index))).collect();
        assert_eq!(deadlines.counts(), (10_000, 1));
        drop(watched);
        assert_eq!(deadlines.counts(), (0, 1));
        for _ in 0..1000 {
            drop(deadlines.watch(Instant::now() + hour + hour));
        }
        assert_eq!(deadlines.counts(), (0, 1), "a job that is due earlier covers them");
    }

    #[test]
    fn deadlines_pass_in_their_order_and_the_driver_is_asked_to_look() {
        let deadlines = deadlines();
        let start = Instant::now();
        let far = deadlines.watch(start + Duration::from_secs(3600));
        let watched: Vec<_> = [60, 20, 40].map(|millis| deadlines.watch(start + Duration::from_millis(millis))).into();
        let mut seen = Vec::new();
        while seen.len() < watched.len() {
            assert!(start.elapsed() < Duration::from_secs(60), "{seen:?}");
            for (index, deadline) in watched.iter().enumerate() {
                if deadline.has_passed() && !seen.contains(&index) {
                    assert!(Instant::now() >= deadline.key.0);
                    seen.push(index);
                }
            }
        }
        assert!(deadlines.doorbell.take_sweep());
        assert_eq!((seen[2], far.has_passed(), deadlines.counts().0), (0, false, 1));
    }
}
