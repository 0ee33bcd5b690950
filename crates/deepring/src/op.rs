//! What a caller holds while the engine works: [`Op`] for transfers, [`Task`] for everything else.
//! Both are futures, and both can be waited for without an executor.
//!
//! The buffer of a transfer lives in a cell that the engine shares, not in the `Op`. Dropping the
//! `Op` cancels what has not reached the device yet. The memory stays in place until the kernel is
//! done with the rest.
//!
//! **Threads.** An outcome wakes its task on the engine's driver, which serves all requests: a waker
//! must not block. The buffer of a dropped transfer is dropped there if that is cheap: a plain
//! vector below 1 MiB, or the engine's own memory. Any other is dropped on a blocking thread. A
//! waker or a `Drop` that panics is caught and counted ([`Stats::panics`](crate::Stats::panics)).

use crate::blocking::Line;
use crate::completion::{Completion, Outcome, Receipt};
use crate::deadlines::Deadline;
use crate::doorbell::Doorbell;
use crate::driver::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{Buffer, IoBufMut, SharedBuffer, Slice};
use crate::planted::{PlantedBug, planted};
use crate::stats::add;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::sys::process::Process;
use crate::unwind::contain;
use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

/// A finished transfer: the buffer and the outcome.
#[derive(Debug)]
#[must_use = "a transfer may have failed"]
pub struct Completed<B> {
    /// The buffer. `None` only if the result is an error of kind [`ErrorKind::Lost`]: then the
    /// kernel can still use the memory, and it is never freed. Or of kind [`ErrorKind::Forked`]:
    /// then it belongs to the parent process. Or if [`File::read_buffer_at`](crate::File::read_buffer_at)
    /// failed: what is in it is not the file's.
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
    /// Only threads of this process end the waiting.
    process: Process,
}

enum State<T> {
    /// What is woken when it is done: a task, and whether a thread waits.
    Pending(Option<Waker>, bool),
    Done(T),
    Taken,
}

impl<T> Cell<T> {
    fn new() -> Self {
        Self {
            state: Mutex::new(State::Pending(None, false)),
            ready: Condvar::new(),
            canceled: AtomicBool::new(false),
            process: Process::current(),
        }
    }

    /// In a forked child: the value if it had arrived before the fork, else what `instead` makes.
    /// Another thread can have held the lock when the process was forked, and none unlocks it here.
    fn take_forked(&self, instead: impl FnOnce() -> T) -> T {
        let state = self.state.try_lock().ok();
        match state.map(|mut state| mem::replace(&mut *state, State::Taken)) {
            Some(State::Done(value)) => value,
            left => {
                // A waker of the parent's.
                mem::forget(left);
                instead()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, value: T) {
        let before = mem::replace(&mut *self.lock(), State::Done(value));
        let State::Pending(waker, waits) = before else { return };
        // It enters the kernel even if no thread waits.
        if waits {
            self.ready.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(&self, forked: impl FnOnce() -> T) -> T {
        if self.process.is_parent() {
            return self.take_forked(forked);
        }
        let mut state = self.lock();
        loop {
            match mem::replace(&mut *state, State::Taken) {
                State::Done(value) => return value,
                State::Pending(waker, _) => *state = State::Pending(waker, true),
                State::Taken => {}
            }
            if planted(PlantedBug::LooksThenWaits) {
                drop(state);
                state = self.lock();
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn poll(&self, context: &Context<'_>, forked: impl FnOnce() -> T) -> Poll<T> {
        if self.process.is_parent() {
            return Poll::Ready(self.take_forked(forked));
        }
        let mut state = self.lock();
        // The former waker is dropped after the lock: it is the caller's code, which can drop this
        // very operation.
        let former = match mem::replace(&mut *state, State::Taken) {
            State::Done(value) => return Poll::Ready(value),
            State::Pending(former, _) => former,
            // Polling a future again after it was ready is a mistake of the caller; it stays
            // pending.
            State::Taken => return Poll::Pending,
        };
        if former.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *state = State::Pending(former, false);
            return Poll::Pending;
        }
        if planted(PlantedBug::LooksThenWaits) {
            *state = State::Pending(None, false);
            drop(state);
            state = self.lock();
        }
        *state = State::Pending(Some(context.waker().clone()), false);
        drop(state);
        drop(former);
        Poll::Pending
    }

    fn is_pending(&self) -> bool {
        !self.process.is_parent() && matches!(*self.lock(), State::Pending(..))
    }
}

/// [`IoBufMut::filled`].
pub(crate) type Filled<B> = unsafe fn(&mut B, usize);

/// Tells a buffer how many bytes a read has brought it. Returns false if it panicked.
///
/// # Safety
/// It is the result of a read of one range into this buffer.
pub(crate) unsafe fn count_filled<B>(filled: Option<Filled<B>>, buf: &mut Option<B>, result: &Result<Receipt>) -> bool {
    let (Some(filled), Some(buf)) = (filled, buf) else { return true };
    let bytes = result.as_ref().map_or_else(Error::transferred, |receipt| receipt.bytes);
    // SAFETY: the engine has read them, from the start without a gap.
    contain(|| unsafe { filled(buf, bytes as usize) }).is_some()
}

/// The engine's side of an [`Op`].
pub(crate) struct Transfer<B> {
    buf: Mutex<Option<B>>,
    cell: Cell<Completed<B>>,
    /// Of a read: [`IoBufMut::filled`].
    filled: Option<Filled<B>>,
    deadline: Option<Deadline>,
    /// Drops the buffer if that can take long.
    reaper: Option<Arc<Core>>,
}

impl<B: Send + 'static> Transfer<B> {
    /// A transfer whose buffer, of `len` bytes, the engine drops if its [`Op`] is dropped.
    pub(crate) fn new(buf: B, len: u64, core: &Arc<Core>) -> Self {
        let reaper = drops_long::<B>(len).then(|| Arc::clone(core));
        Self { reaper, ..Self::of(Some(buf)) }
    }

    fn of(buf: Option<B>) -> Self {
        Self { buf: Mutex::new(buf), cell: Cell::new(), filled: None, deadline: None, reaper: None }
    }

    /// The same of a read, which reports to its buffer what came.
    pub(crate) fn reading(buf: B, len: u64, core: &Arc<Core>) -> Self
    where
        B: IoBufMut,
    {
        Self { filled: Some(B::filled), ..Self::new(buf, len, core) }
    }

    /// The same, given up when the deadline passes.
    pub(crate) fn until(self, deadline: Deadline) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// A transfer that gets its buffer when it settles.
    pub(crate) fn without_buffer() -> Arc<Self> {
        Arc::new(Self::of(None))
    }

    /// Brings the buffer that the outcome comes with.
    pub(crate) fn put_buffer(&self, buf: Option<B>) {
        *self.buf.lock().unwrap_or_else(PoisonError::into_inner) = buf;
    }

    /// The same without an engine.
    #[cfg(test)]
    pub(crate) fn detached(buf: B) -> Arc<Self> {
        Arc::new(Self::of(Some(buf)))
    }

    /// Whether the deadline, and not the caller, has canceled it.
    fn timed_out(&self, error: &Error) -> bool {
        let passed = self.deadline.as_ref().is_some_and(Deadline::has_passed);
        error.kind() == ErrorKind::Canceled && passed && !self.cell.canceled.load(Ordering::Acquire)
    }

    /// Drops the last reference. Returns false if that panicked.
    fn discard(mut self) -> bool {
        match self.reaper.take() {
            None => contain(|| drop(self)).is_some(),
            Some(core) => {
                let counters = Arc::clone(&core.counters);
                // As the caller's own jobs: how long its `Drop` takes is not known.
                core.blocking.run(
                    Line::CALLER,
                    Box::new(move || {
                        if contain(|| drop(self)).is_none() {
                            add(&counters.panics, 1);
                        }
                    }),
                );
                true
            }
        }
    }
}

/// Whether dropping a buffer can take longer than waking a thread: because it is large (freeing
/// 1 MiB takes 70 us), or because its type's `Drop` is unknown.
fn drops_long<B: 'static>(len: u64) -> bool {
    const LONG_BYTES: u64 = 1 << 20;
    let is = |types: &[TypeId]| types.contains(&TypeId::of::<B>());
    let of_engine =
        [TypeId::of::<Buffer>(), TypeId::of::<SharedBuffer>(), TypeId::of::<Slice<Buffer>>(), TypeId::of::<Slice<SharedBuffer>>()];
    if cfg!(all(loom, test)) || !mem::needs_drop::<B>() || is(&of_engine) {
        return false;
    }
    len >= LONG_BYTES || !is(&[TypeId::of::<Vec<u8>>(), TypeId::of::<Box<[u8]>>()])
}

impl<B: Send + 'static> Completion for Transfer<B> {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        let mut buf = self.buf.lock().unwrap_or_else(PoisonError::into_inner).take();
        if outcome.memory_lost {
            mem::forget(buf.take());
        }
        // SAFETY: it is the result of a read into this buffer.
        let counted = unsafe { count_filled(self.filled, &mut buf, &outcome.result) };
        let result = outcome.result.map_err(|error| if self.timed_out(&error) { error.with_kind(ErrorKind::TimedOut) } else { error });
        // Contained one by one: a buffer whose drop panics while a waker's panic unwinds would
        // abort the process.
        let woken = contain(|| self.cell.put(Completed { buf, result })).is_some();
        let dropped = Arc::into_inner(self).is_none_or(Self::discard);
        if !(counted && woken && dropped) {
            resume_unwind(Box::new("a waker, or a buffer that was counted or dropped, panicked"));
        }
    }

    fn canceled(&self) -> bool {
        self.cell.canceled.load(Ordering::Acquire) || self.deadline.as_ref().is_some_and(Deadline::has_passed)
    }
}

/// A transfer in progress: a future of [`Completed`].
///
/// Dropping it cancels the blocks that have not been submitted. The buffer is freed when the blocks
/// at the device have completed. A dropped write leaves a mixture: each of its bytes in the file can
/// be the old one or the new one, in no order, and the file can have grown to the end of any of them.
/// Wait for a write whose outcome matters; a `select` that drops it is a cancellation.
///
/// Its waker is called on the engine's driver thread, and must not block. A dropped transfer's
/// buffer is dropped on a thread of the engine. See [Threads](crate#threads).
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
        self.transfer.cell.wait(forked)
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
        self.transfer.cell.poll(context, forked)
    }
}

/// The outcome of a transfer of the parent process, in a forked child.
fn forked<B>() -> Completed<B> {
    Completed { buf: None, result: Err(Error::new(ErrorKind::Forked, "transfer")) }
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
/// Dropping it does not cancel the call. Its waker is called on a blocking thread of the engine, that
/// of [`Engine::close`](crate::Engine::close) on the driver's. See [Threads](crate#threads).
#[must_use = "the result may be an error"]
pub struct Task<T> {
    cell: Arc<Cell<Result<T>>>,
}

impl<T: Send + 'static> Task<T> {
    /// A task, and the function that ends it.
    pub(crate) fn new() -> (Self, impl FnOnce(Result<T>) + Send) {
        let cell = Arc::new(Cell::new());
        let task = Self { cell: Arc::clone(&cell) };
        let end = TaskEnd(Some(cell));
        (task, move |result| end.put(result))
    }

    /// Blocks the thread until the task has ended.
    ///
    /// # Errors
    /// The task's.
    pub fn wait(self) -> Result<T> {
        self.cell.wait(|| Err(Error::new(ErrorKind::Forked, "task")))
    }
}

/// Ends a task. Dropped without a result, which only a panic of the engine does, it reports that:
/// nothing waits for ever.
struct TaskEnd<T>(Option<Arc<Cell<Result<T>>>>);

impl<T> TaskEnd<T> {
    fn put(mut self, result: Result<T>) {
        if let Some(cell) = self.0.take() {
            cell.put(result);
        }
    }
}

impl<T> Drop for TaskEnd<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.0.take() {
            contain(|| cell.put(Err(Error::new(ErrorKind::Panicked, "task"))));
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.cell.poll(context, || Err(Error::new(ErrorKind::Forked, "task")))
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
        let transfer = Transfer::detached(vec![0u8; 16]);
        let outcome = Outcome { result: Err(Error::new(ErrorKind::Lost, "write")), memory_lost: true };
        Arc::clone(&transfer).settle(outcome);
        let done = transfer.cell.wait(forked);
        assert!(done.buf.is_none());
        let error = done.ok().expect_err("a lost transfer");
        assert_eq!((error.kind(), error.syscall()), (ErrorKind::Lost, "write"));
    }
}
