//! Jobs of the crate of tensors: futures that are polled on the engine's blocking threads, and end in one record.
//!
//! The record of a job comes when nothing holds its [`Landing`] any more: neither the future, nor memory of JavaScript that
//! the engine still uses for it. So a canceled job reports when its memory is the caller's again, like a transfer.

use crate::convert::Detail;
use crate::delivery::{Delivery, lock};
use crate::failure::Failure;
use crate::record::Record;
use crate::session::Session;
use crate::turns::Line;
use async_task::{Runnable, Task};
use deepring::Engine;
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// What became of a job.
pub type Outcome = std::result::Result<Option<Detail>, Box<Failure>>;

/// The failure of a job.
pub fn failed(error: deepring_tensors::Error) -> Box<Failure> {
    Box::new(Failure::from(&error))
}

/// How far a job has come, in bytes.
#[derive(Default)]
pub struct Gauge {
    done: AtomicU64,
    total: AtomicU64,
}

impl Gauge {
    pub fn set(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

enum State {
    Running,
    Ended(Box<Outcome>),
    Delivered,
}

/// Delivers the record of a job when it is dropped.
pub struct Landing {
    id: u64,
    delivery: Arc<Delivery>,
    state: Mutex<State>,
}

impl Landing {
    /// The job has ended.
    pub fn end(&self, outcome: Outcome) {
        let lost = outcome.as_ref().is_err_and(|failure| failure.code == "ERR_DEEPRING_LOST");
        if lost {
            // Its memory is held forever, and holds this.
            *lock(&self.state) = State::Delivered;
            self.delivery.push(Line::OTHER, Record::of_job(self.id, outcome));
        } else {
            *lock(&self.state) = State::Ended(Box::new(outcome));
        }
    }

    pub fn is_canceled(&self) -> bool {
        self.delivery.is_canceled(self.id)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let outcome = match std::mem::replace(&mut *lock(&self.state), State::Delivered) {
            State::Ended(outcome) => *outcome,
            State::Running => Err(Box::new(Failure::plain("ERR_DEEPRING_CANCELED", "the operation was canceled"))),
            State::Delivered => return,
        };
        self.delivery.push(Line::OTHER, Record::of_job(self.id, outcome));
    }
}

/// A future and its landing, which goes last. The future is of any kind, because one copy of what runs tasks for each of
/// fifty kinds would be a tenth of a megabyte.
struct Running {
    future: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    landing: Arc<Landing>,
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else { return Poll::Ready(()) };
        let Poll::Ready(outcome) = future.as_mut().poll(context) else { return Poll::Pending };
        // What it holds goes before its end is reported.
        self.future = None;
        self.landing.end(outcome);
        Poll::Ready(())
    }
}

/// A job whose record has not been drained. Dropping it cancels the job.
pub struct Job {
    _task: Option<Task<()>>,
    gauge: Arc<Gauge>,
}

impl Session {
    /// The landing of a job with this id, whose record is due from now on.
    pub(crate) fn landing(&self, env: &Env, id: f64) -> Result<Arc<Landing>> {
        self.state.delivery.expect(env)?;
        let delivery = Arc::clone(&self.state.delivery);
        Ok(Arc::new(Landing { id: id as u64, delivery, state: Mutex::new(State::Running) }))
    }

    /// Runs a job on the blocking threads of an engine.
    pub(crate) fn start(
        &self,
        engine: &Engine,
        landing: Arc<Landing>,
        gauge: Arc<Gauge>,
        future: impl Future<Output = Outcome> + Send + 'static,
    ) {
        self.run(engine.clone(), gauge, Running { future: Some(Box::pin(future)), landing });
    }

    fn run(&self, engine: Engine, gauge: Arc<Gauge>, running: Running) {
        let id = running.landing.id;
        let schedule = move |runnable: Runnable| {
            // On a closed engine, this drops the task, which is canceled then.
            drop(engine.run_blocking(move || {
                runnable.run();
            }));
        };
        let (runnable, task) = async_task::spawn(running, schedule);
        self.state.tensors.jobs.borrow_mut().insert(id, Job { _task: Some(task), gauge });
        runnable.schedule();
    }

    /// As [`Session::start`], for jobs that report no progress.
    pub(crate) fn start_plain(&self, engine: &Engine, landing: Arc<Landing>, future: impl Future<Output = Outcome> + Send + 'static) {
        self.start(engine, landing, Arc::default(), future);
    }
}

#[napi]
impl Session {
    // ---- jobs ----

    /// Writes how many bytes of a job are done, and of how many.
    #[napi]
    pub fn progress(&self, id: f64, mut bytes: Float64ArraySlice<'_>) {
        let jobs = self.state.tensors.jobs.borrow();
        let Some(Job { gauge, .. }) = jobs.get(&(id as u64)) else { return };
        // SAFETY: the caller's array is written during this call only, on the thread that owns it.
        let bytes = unsafe { bytes.as_mut() };
        for (slot, number) in bytes.iter_mut().zip([&gauge.done, &gauge.total]) {
            *slot = number.load(Ordering::Relaxed) as f64;
        }
    }
}

/// The outcome of a result without a detail.
pub fn nothing(result: deepring_tensors::Result<()>) -> Outcome {
    result.map(|()| None).map_err(failed)
}

/// Futures that are begun together and awaited one after the other.
pub struct Together<F> {
    futures: Vec<F>,
}

impl<F: Future + Unpin> Together<F> {
    pub fn new(futures: Vec<F>) -> Self {
        Self { futures }
    }

    /// Begins with all of them, and calls `then` with each result in their order. The first error ends it.
    pub async fn run<E>(self, mut then: impl FnMut(F::Output) -> std::result::Result<(), E>) -> std::result::Result<(), E> {
        let mut futures: Vec<Step<F>> = self.futures.into_iter().map(Step::Pending).collect();
        std::future::poll_fn(|context| {
            for step in &mut futures {
                step.poll(context);
            }
            Poll::Ready(())
        })
        .await;
        for mut step in futures {
            let output = std::future::poll_fn(|context| step.poll_to_end(context)).await;
            then(output)?;
        }
        Ok(())
    }
}

enum Step<F: Future> {
    Pending(F),
    Done(Option<F::Output>),
}

impl<F: Future + Unpin> Step<F> {
    fn poll(&mut self, context: &mut Context<'_>) {
        if let Self::Pending(future) = self
            && let Poll::Ready(output) = Pin::new(future).poll(context)
        {
            *self = Self::Done(Some(output));
        }
    }

    fn poll_to_end(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        self.poll(context);
        match self {
            Self::Done(output) => output.take().map_or(Poll::Pending, Poll::Ready),
            Self::Pending(_) => Poll::Pending,
        }
    }
}

/// Awaits both at the same time. The first error ends it.
pub async fn both<A, B, E>(
    first: impl Future<Output = std::result::Result<A, E>>,
    second: impl Future<Output = std::result::Result<B, E>>,
) -> std::result::Result<(A, B), E> {
    let (mut first, mut second) = (Step::Pending(Box::pin(first)), Step::Pending(Box::pin(second)));
    std::future::poll_fn(|context| {
        first.poll(context);
        second.poll(context);
        if let Some(error) = failure(&mut first).or_else(|| failure(&mut second)) {
            return Poll::Ready(Err(error));
        }
        let (Step::Done(one), Step::Done(two)) = (&mut first, &mut second) else { return Poll::Pending };
        match (one.take(), two.take()) {
            (Some(Ok(one)), Some(Ok(two))) => Poll::Ready(Ok((one, two))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// The error of a future that has failed.
fn failure<T, E, F: Future<Output = std::result::Result<T, E>>>(step: &mut Step<F>) -> Option<E> {
    let Step::Done(done) = step else { return None };
    match done.take() {
        Some(Err(error)) => Some(error),
        other => {
            *done = other;
            None
        }
    }
}
