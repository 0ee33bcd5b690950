//! A job that runs alone on a stage.

use deepring::sim::Stage;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Steps of one job that runs alone, after which it counts as endless.
const STEPS_MAX: u64 = 2_000_000;

/// Whether a job was woken since it was polled.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    /// Of a job that was never polled.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The same. From here on it is not.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a job to its end. The error says what is wrong.
pub(crate) fn alone<T>(stage: &mut Stage, job: impl Future<Output = T>) -> Result<T, String> {
    let ended = alone_for(stage, job, STEPS_MAX)?;
    ended.ok_or_else(|| "a job that runs alone does not end".into())
}

/// The same for at most so many steps. Then it is given up.
pub(crate) fn alone_for<T>(stage: &mut Stage, job: impl Future<Output = T>, steps: u64) -> Result<Option<T>, String> {
    let (mut job, woken) = (pin!(job), Flag::new());
    let waker = Waker::from(Arc::clone(&woken));
    for _ in 0..steps {
        if woken.take() {
            if let Poll::Ready(value) = job.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(Some(value));
            }
        } else if !stage.step() && !woken.is_set() {
            return Err("a job that runs alone waits for ever".into());
        }
        if let Some(what) = stage.violation() {
            return Err(what);
        }
    }
    Ok(None)
}
