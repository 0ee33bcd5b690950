//! From the engine's threads to one JavaScript environment: a list of records, and a wake when it
//! is no longer empty.
//!
//! JavaScript drains the whole list per wake. A group of transfers makes one record when all its
//! members have settled, so a thousand small files need no thousand wakes. The threadsafe
//! function is referenced only while something is due, so that an idle binding does not keep the
//! process alive and a busy one does.

use crate::canceled::Canceled;
use crate::convert::Detail;
use crate::record::{RECORD, Record, ids};
use crate::turns::{LINE_COUNT, Line, Turns};
use deepring::ErrorKind;
use napi::Env;
use napi::Status;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

type Wake = ThreadsafeFunction<(), (), (), Status, false>;

pub struct Delivery {
    state: Mutex<State>,
    /// For the JavaScript thread, which waits in `block` or in the clean-up hook.
    arrived: Condvar,
    /// Ids of canceled requests. `any_canceled` is its length, readable without the lock.
    canceled: Mutex<Canceled>,
    flags: CancelFlags,
}

/// What the driver reads for every request, on a separate cache line: the other fields change at
/// every request.
#[derive(Default)]
#[repr(align(64))]
struct CancelFlags {
    any_canceled: AtomicUsize,
    /// The environment is ending: everything counts as canceled.
    closing: AtomicBool,
}

struct State {
    /// Records that wait to be drained.
    records: Turns,
    /// Records, and members of groups, that have not settled.
    due: usize,
    wake: Option<Wake>,
    /// `wake` keeps the process alive.
    referenced: bool,
    /// JavaScript was called and has not emptied the list since then.
    called: bool,
    waiting: bool,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Delivery {
    pub fn new() -> Self {
        let state = State { records: Turns::default(), due: 0, wake: None, referenced: false, called: false, waiting: false };
        Self { state: Mutex::new(state), arrived: Condvar::new(), canceled: Mutex::default(), flags: CancelFlags::default() }
    }

    /// Sets the function to call when records wait.
    pub fn attach(&self, env: &Env, wake: &Function<'_, (), ()>) -> napi::Result<()> {
        let mut wake: Wake = wake.build_threadsafe_function::<()>().build()?;
        unreference(&mut wake, env)?;
        lock(&self.state).wake = Some(wake);
        Ok(())
    }

    /// One more settlement is due: a record, or a member of a group. On the JavaScript thread.
    pub fn expect(&self, env: &Env) -> napi::Result<()> {
        self.expect_all(env, 1)
    }

    /// As [`Delivery::expect`], `count` times.
    pub fn expect_all(&self, env: &Env, count: usize) -> napi::Result<()> {
        let mut state = lock(&self.state);
        state.due += count;
        if count > 0
            && !state.referenced
            && let Some(wake) = &mut state.wake
        {
            reference(wake, env)?;
            state.referenced = true;
        }
        Ok(())
    }

    /// A record that was due has come, and waits in this line. On any thread.
    pub fn push(&self, line: Line, record: Record) {
        let mut state = lock(&self.state);
        state.records.push(line, record);
        self.settled(&mut state, 1);
    }

    /// As [`Delivery::push`], of requests that were canceled.
    pub fn push_canceled(&self, line: Line, ids: &[u64]) {
        let mut state = lock(&self.state);
        for neighbors in ids.chunk_by(|a, b| a + 1 == *b) {
            let (first, count) = (neighbors[0], neighbors.len());
            if state.waiting {
                // What waits has looked at the records that are there.
                state.records.push(line, Record::of_canceled(first, count));
            } else {
                state.records.push_canceled(line, first, count);
            }
        }
        self.settled(&mut state, ids.len());
    }

    /// A member of a group has settled; the record will be the group's. On any thread.
    pub fn count_down(&self) {
        self.settled(&mut lock(&self.state), 1);
    }

    fn settled(&self, state: &mut State, count: usize) {
        state.due -= count;
        if state.waiting {
            self.arrived.notify_all();
        }
        // Without records, JavaScript is called when nothing is due, so that the process can end.
        let wanted = state.records.len() > 0 || state.due == 0;
        // Called under the lock, so that the environment cannot go away in between; queuing a
        // call does not block.
        if wanted
            && !state.called
            && let Some(wake) = &state.wake
        {
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
            state.called = true;
        }
    }

    /// Moves records out, of no more requests than `numbers` has room for records: their numbers there, their details to
    /// `details`. Returns the number of records. On the JavaScript thread.
    pub fn drain(&self, env: &Env, numbers: &mut [f64], details: &mut Vec<(u64, Detail)>) -> napi::Result<usize> {
        let mut state = lock(&self.state);
        let max = numbers.len() / RECORD;
        let mut slots = numbers.chunks_exact_mut(RECORD);
        let mut count = 0;
        state.records.take(max, |record| {
            if let Some(slot) = slots.next() {
                slot.copy_from_slice(&record.numbers);
                count += 1;
            }
            if let Some(detail) = record.detail {
                details.push((record.id, detail));
            }
        });
        if self.flags.any_canceled.load(Ordering::Relaxed) > 0 {
            self.forget_canceled(numbers.chunks_exact(RECORD).take(count).flat_map(ids));
        }
        state.called &= state.records.len() > 0;
        let is_idle = state.due + state.records.len() == 0;
        if is_idle
            && state.referenced
            && let Some(wake) = &mut state.wake
        {
            unreference(wake, env)?;
            state.referenced = false;
        }
        Ok(count)
    }

    /// Blocks until a record of each id waits to be drained.
    pub fn wait_for(&self, mut missing: HashSet<u64>) {
        let mut state = lock(&self.state);
        state.waiting = true;
        let mut looked_at = [0; LINE_COUNT];
        loop {
            for (list, looked_at) in state.records.lines().zip(&mut looked_at) {
                for id in list.iter().skip(*looked_at).flat_map(Record::ids) {
                    missing.remove(&id);
                }
                *looked_at = list.len();
            }
            if missing.is_empty() || state.due == 0 {
                break;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting = false;
    }

    pub fn cancel(&self, ids: &[u64]) {
        let mut canceled = lock(&self.canceled);
        canceled.extend(ids);
        self.flags.any_canceled.store(canceled.len(), Ordering::Release);
    }

    fn forget_canceled(&self, ids: impl Iterator<Item = u64>) {
        let mut canceled = lock(&self.canceled);
        for id in ids {
            canceled.remove(id);
        }
        self.flags.any_canceled.store(canceled.len(), Ordering::Release);
    }

    pub fn is_canceled(&self, id: u64) -> bool {
        self.flags.closing.load(Ordering::Relaxed)
            || (self.flags.any_canceled.load(Ordering::Relaxed) > 0 && lock(&self.canceled).contains(id))
    }

    /// The environment is ending: no wake is called from now on, and everything counts as canceled.
    pub fn close(&self) {
        self.flags.closing.store(true, Ordering::Release);
        let wake = lock(&self.state).wake.take();
        drop(wake);
    }

    /// Drops the records that were not drained.
    pub fn clear(&self) {
        let mut state = lock(&self.state);
        let records = std::mem::take(&mut state.records);
        drop(state);
        drop(records);
    }

    /// Blocks until nothing is due.
    pub fn wait_until_idle(&self) {
        let mut state = lock(&self.state);
        state.waiting = true;
        while state.due > 0 {
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[allow(deprecated, reason = "the replacement, a weak function, lets the process exit with work in flight")]
fn reference(wake: &mut Wake, env: &Env) -> napi::Result<()> {
    wake.refer(env)
}

#[allow(deprecated, reason = "the replacement, a strong function, keeps an idle process alive")]
fn unreference(wake: &mut Wake, env: &Env) -> napi::Result<()> {
    wake.unref(env)
}

/// Whether the request was canceled.
pub fn is_cancellation(error: &deepring::Error) -> bool {
    error.kind() == ErrorKind::Canceled
}
