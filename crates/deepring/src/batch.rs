//! [`Batch`]: transfers of any files, whose outcomes come one after the other as they end.
//!
//! The outcomes wait in one list, so a program that follows a thousand transfers needs neither a thousand tasks nor one
//! future that asks all of them at each wake.

use crate::completion::{Completion, Outcome, RawTransfer};
use crate::driver::Core;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::file::File;
use crate::memory::{IoBuf, IoBufMut};
use crate::op::{Completed, Filled, count_filled};
use crate::plan::Direction;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Transfers whose outcomes come in the order in which they end. Dropping it cancels what has not reached the device.
///
/// ```
/// use deepring::{Batch, Engine, OpenOptions};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("weights.bin");
/// # std::fs::write(&path, (0..10u8).flat_map(|n| [n; 100]).collect::<Vec<_>>()).unwrap();
/// let engine = Engine::builder().build()?;
/// let file = engine.open(&path, OpenOptions::new().read(true))?;
/// let mut batch = Batch::new(&engine);
/// for row in 0..10 {
///     batch.read_exact_at(&file, vec![0; 100], row * 100);
/// }
/// while let Some((row, completed)) = batch.wait_next() {
///     let (bytes, _) = completed.ok()?;
///     assert_eq!(usize::from(bytes[0]), row);
/// }
/// # Ok::<(), deepring::Error>(())
/// ```
pub struct Batch<B: Send + 'static> {
    core: Arc<Core>,
    shared: Arc<Shared<B>>,
    /// Transfers added so far.
    added: usize,
    /// Outcomes taken so far.
    taken: usize,
}

struct Shared<B> {
    ended: Mutex<Ended<B>>,
    one_ended: Condvar,
    canceled: AtomicBool,
}

struct Ended<B> {
    list: VecDeque<(usize, Completed<B>)>,
    waker: Option<Waker>,
    /// A thread waits.
    waits: bool,
}

impl<B> Shared<B> {
    fn lock(&self) -> MutexGuard<'_, Ended<B>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One transfer.
struct Member<B> {
    shared: Arc<Shared<B>>,
    index: usize,
    buf: Mutex<Option<B>>,
    filled: Option<Filled<B>>,
}

impl<B: Send + 'static> Completion for Member<B> {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        let mut buf = self.buf.lock().unwrap_or_else(PoisonError::into_inner).take();
        if outcome.memory_lost {
            std::mem::forget(buf.take());
        }
        // SAFETY: it is the result of a read into this buffer.
        let counted = unsafe { count_filled(self.filled, &mut buf, &outcome.result) };
        let mut ended = self.shared.lock();
        ended.list.push_back((self.index, Completed { buf, result: outcome.result }));
        let (waker, waits) = (ended.waker.take(), ended.waits);
        drop(ended);
        if waits {
            self.shared.one_ended.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        if !counted {
            resume_unwind(Box::new("a buffer that was counted panicked"));
        }
    }

    fn canceled(&self) -> bool {
        self.shared.canceled.load(Ordering::Acquire)
    }
}

impl<B: Send + 'static> Batch<B> {
    /// A batch without transfers. They can be of any engine; a wake for all of one tick reaches this one.
    pub fn new(engine: &Engine) -> Self {
        let ended = Mutex::new(Ended { list: VecDeque::new(), waker: None, waits: false });
        let shared = Arc::new(Shared { ended, one_ended: Condvar::new(), canceled: AtomicBool::new(false) });
        Self { core: Arc::clone(engine.core()), shared, added: 0, taken: 0 }
    }

    /// Adds a read as by [`File::read_at`]. Returns its index: how many were added before.
    pub fn read_at(&mut self, file: &File, buf: B, position: u64) -> usize
    where
        B: IoBufMut,
    {
        self.read(file, buf, position, false)
    }

    /// Adds a read as by [`File::read_exact_at`].
    pub fn read_exact_at(&mut self, file: &File, buf: B, position: u64) -> usize
    where
        B: IoBufMut,
    {
        self.read(file, buf, position, true)
    }

    fn read(&mut self, file: &File, mut buf: B, position: u64, exact: bool) -> usize
    where
        B: IoBufMut,
    {
        let (address, len) = (buf.as_mut_ptr() as u64, buf.room() as u64);
        self.add(file, buf, RawTransfer::new(Direction::Read, address, len, position).exact(exact), Some(B::filled))
    }

    /// Adds a write as by [`File::write_at`].
    pub fn write_at(&mut self, file: &File, buf: B, position: u64) -> usize
    where
        B: IoBuf,
    {
        let (address, len) = (buf.as_ptr() as u64, buf.len() as u64);
        self.add(file, buf, RawTransfer::new(Direction::Write, address, len, position), None)
    }

    fn add(&mut self, file: &File, buf: B, raw: RawTransfer, filled: Option<Filled<B>>) -> usize {
        let index = self.added;
        self.added += 1;
        let member = Member { shared: Arc::clone(&self.shared), index, buf: Mutex::new(Some(buf)), filled };
        // SAFETY: the member holds the buffer, whose memory stays in place, until the transfer has settled.
        unsafe { file.submit(raw, Arc::new(member)) };
        file.engine().wake();
        index
    }

    /// Transfers whose outcomes were not taken yet.
    pub fn len(&self) -> usize {
        self.added - self.taken
    }

    /// Whether all outcomes were taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cancels what has not reached the device. All outcomes still come.
    pub fn cancel(&self) {
        if !self.shared.canceled.swap(true, Ordering::AcqRel) && !self.core.is_forked() {
            self.core.inbox.doorbell().request_sweep();
        }
    }

    /// The next outcome, with the index of its transfer; `None` when all were taken. Blocks the thread.
    pub fn wait_next(&mut self) -> Option<(usize, Completed<B>)> {
        if self.is_empty() {
            return None;
        }
        if self.core.is_forked() {
            return Some(self.take_forked());
        }
        let mut ended = self.shared.lock();
        loop {
            if let Some(next) = ended.list.pop_front() {
                self.taken += 1;
                return Some(next);
            }
            ended.waits = true;
            ended = self.shared.one_ended.wait(ended).unwrap_or_else(PoisonError::into_inner);
            ended.waits = false;
        }
    }

    /// The next outcome, for a task.
    pub async fn next(&mut self) -> Option<(usize, Completed<B>)> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Batch::next`], for a future or stream of the caller's.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Completed<B>)>> {
        if self.is_empty() {
            return Poll::Ready(None);
        }
        if self.core.is_forked() {
            return Poll::Ready(Some(self.take_forked()));
        }
        let mut ended = self.shared.lock();
        if let Some(next) = ended.list.pop_front() {
            self.taken += 1;
            return Poll::Ready(Some(next));
        }
        let former = match &ended.waker {
            Some(waker) if waker.will_wake(context.waker()) => None,
            _ => ended.waker.replace(context.waker().clone()),
        };
        // The caller's code, which can use this very batch.
        drop(ended);
        drop(former);
        Poll::Pending
    }

    /// All outcomes that were not taken, by index. Blocks the thread.
    pub fn wait(mut self) -> Vec<(usize, Completed<B>)> {
        let mut all: Vec<_> = std::iter::from_fn(|| self.wait_next()).collect();
        all.sort_by_key(|(index, _)| *index);
        all
    }

    /// In a forked child no outcome comes.
    fn take_forked(&mut self) -> (usize, Completed<B>) {
        self.taken += 1;
        (self.taken - 1, Completed { buf: None, result: Err(Error::new(ErrorKind::Forked, "transfer")) })
    }
}

impl<B: Send + 'static> Drop for Batch<B> {
    fn drop(&mut self) {
        if !self.is_empty() {
            self.cancel();
        }
    }
}

impl<B: Send + 'static> fmt::Debug for Batch<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("added", &self.added).field("taken", &self.taken).finish_non_exhaustive()
    }
}
