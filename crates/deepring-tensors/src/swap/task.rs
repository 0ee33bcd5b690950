//! Work that nobody waits for: its steps run on threads of the engine.

use deepring::Engine;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    engine: Engine,
    work: Mutex<Option<Work>>,
}

/// A step that is due. One that the engine does not run, because it is closed, is made where it is dropped: what waits for the
/// work must see its end.
struct Step(Option<Arc<Task>>);

/// Begins with work: on this thread up to the first wait, so that what it asks of the drive is in the queue when this returns.
pub(super) fn spawn(engine: &Engine, work: impl Future<Output = ()> + Send + 'static) {
    Arc::new(Task { engine: engine.clone(), work: Mutex::new(Some(Box::pin(work))) }).step();
}

impl Task {
    fn step(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.as_mut().is_some_and(|work| work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()) {
            *work = None;
        }
    }
}

impl Wake for Task {
    /// Called by the driver, which must not wait.
    fn wake(self: Arc<Self>) {
        let mut step = Step(Some(Arc::clone(&self)));
        drop(self.engine.run_blocking(move || step.make()));
    }
}

impl Step {
    fn make(&mut self) {
        if let Some(task) = self.0.take() {
            task.step();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.make();
    }
}
