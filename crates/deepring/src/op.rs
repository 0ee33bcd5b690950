//! What a caller holds while the engine works: [`Op`] for transfers, [`Task`] for everything else.
//! Both are futures, and both can be waited for without an executor.
//!
//! The buffer of a transfer lives in a cell that the engine shares, not in the `Op`. Dropping the
//! `Op` cancels what has not reached the device yet. The memory stays in place until the kernel is
//! done with the rest.

use crate::completion::{Completion, Outcome, Receipt};
use crate::doorbell::Doorbell;
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{PlantedBug, planted};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

/// A finished transfer: the buffer and the outcome.
#[derive(Debug)]
#[must_use = "a transfer may have failed"]
pub struct Completed<B> {
    /// The buffer. `None` only if the result is an error of kind [`ErrorKind::Lost`]: then the
    /// kernel can still use the memory, and it is never freed.
    pub buf: Option<B>,
    /// The receipt, or the error.
    pub result: Result<Receipt>,
}

impl<B> Completed<B> {
    /// The buffer and the receipt, if the transfer succeeded.
    ///
    /// # Errors
    /// The transfer's error. The buffer is dropped then; take the fields apart to keep it.
    pub fn ok(self) -> Result<(B, Receipt)> {
        let receipt = self.result?;
        // The engine never reports success without the buffer; its own error names the call.
        let buf = self.buf.ok_or_else(|| Error::new(ErrorKind::Lost, "transfer"))?;
        Ok((buf, receipt))
    }
}

/// Where the engine leaves one value for one waiter.
struct Cell<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    canceled: AtomicBool,
}

enum State<T> {
    Pending(Option<Waker>),
    Done(T),
    Taken,
}

impl<T> Cell<T> {
    fn new() -> Self {
        Self { state: Mutex::new(State::Pending(None)), ready: Condvar::new(), canceled: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, value: T) {
        let before = mem::replace(&mut *self.lock(), State::Done(value));
        self.ready.notify_all();
        if let State::Pending(Some(waker)) = before {
            waker.wake();
        }
    }

    fn wait(&self) -> T {
        let mut state = self.lock();
        loop {
            match mem::replace(&mut *state, State::Taken) {
                State::Done(value) => return value,
                pending => *state = pending,
            }
            if planted(PlantedBug::LooksThenWaits) {
                drop(state);
                state = self.lock();
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<T> {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Taken) {
            State::Done(value) => Poll::Ready(value),
            State::Pending(waker) => {
                if planted(PlantedBug::LooksThenWaits) {
                    *state = State::Pending(waker);
                    drop(state);
                    state = self.lock();
                }
                *state = State::Pending(Some(context.waker().clone()));
                Poll::Pending
            }
            // Polling a future again after it was ready is a mistake of the caller; it stays
            // pending.
            State::Taken => Poll::Pending,
        }
    }

    fn is_pending(&self) -> bool {
        matches!(*self.lock(), State::Pending(_))
    }
}

/// The engine's side of an [`Op`].
pub(crate) struct Transfer<B> {
    buf: Mutex<Option<B>>,
    cell: Cell<Completed<B>>,
}

impl<B: Send> Transfer<B> {
    pub(crate) fn new(buf: B) -> Arc<Self> {
        Arc::new(Self { buf: Mutex::new(Some(buf)), cell: Cell::new() })
    }
}

impl<B: Send> Completion for Transfer<B> {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        let mut buf = self.buf.lock().unwrap_or_else(PoisonError::into_inner).take();
        if outcome.memory_lost {
            mem::forget(buf.take());
        }
        self.cell.put(Completed { buf, result: outcome.result });
    }

    fn canceled(&self) -> bool {
        self.cell.canceled.load(Ordering::Acquire)
    }
}

/// A transfer in progress: a future of [`Completed`].
///
/// Dropping it cancels the blocks that have not been submitted. The buffer is freed when the blocks
/// at the device have completed.
#[must_use = "dropping a transfer cancels it"]
pub struct Op<B: Send> {
    transfer: Arc<Transfer<B>>,
    doorbell: Arc<Doorbell>,
}

impl<B: Send> Op<B> {
    pub(crate) fn new(transfer: Arc<Transfer<B>>, doorbell: Arc<Doorbell>) -> Self {
        Self { transfer, doorbell }
    }

    /// Blocks the thread until the transfer has ended.
    pub fn wait(self) -> Completed<B> {
        self.transfer.cell.wait()
    }

    /// Cancels the transfer. Blocks that are queued leave at once, blocks at the device complete
    /// first. The result is then [`ErrorKind::Canceled`], or that of the transfer if every block
    /// had been submitted. Does not block.
    pub fn cancel(&self) {
        if !self.transfer.cell.canceled.swap(true, Ordering::AcqRel) {
            self.doorbell.request_sweep();
        }
    }
}

impl<B: Send> Future for Op<B> {
    type Output = Completed<B>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completed<B>> {
        self.transfer.cell.poll(context)
    }
}

impl<B: Send> Drop for Op<B> {
    fn drop(&mut self) {
        if self.transfer.cell.is_pending() {
            self.cancel();
        }
    }
}

impl<B: Send> fmt::Debug for Op<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.transfer.cell.is_pending() { "Op(pending)" } else { "Op(done)" })
    }
}

/// A call other than a transfer in progress: a future of its result.
///
/// Dropping it does not cancel the call.
#[must_use = "the result may be an error"]
pub struct Task<T> {
    cell: Arc<Cell<Result<T>>>,
}

impl<T: Send + 'static> Task<T> {
    /// A task, and the function that ends it.
    pub(crate) fn new() -> (Self, impl FnOnce(Result<T>) + Send) {
        let cell = Arc::new(Cell::new());
        let task = Self { cell: Arc::clone(&cell) };
        (task, move |result| cell.put(result))
    }

    /// Blocks the thread until the task has ended.
    ///
    /// # Errors
    /// The task's.
    pub fn wait(self) -> Result<T> {
        self.cell.wait()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.cell.poll(context)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.cell.is_pending() { "Task(pending)" } else { "Task(done)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_memory_is_kept_from_the_caller_and_the_error_names_the_call() {
        let transfer = Transfer::new(vec![0u8; 16]);
        let outcome = Outcome { result: Err(Error::new(ErrorKind::Lost, "write")), memory_lost: true };
        Arc::clone(&transfer).settle(outcome);
        let done = transfer.cell.wait();
        assert!(done.buf.is_none());
        let error = done.ok().expect_err("a lost transfer");
        assert_eq!((error.kind(), error.syscall()), (ErrorKind::Lost, "write"));
    }
}
