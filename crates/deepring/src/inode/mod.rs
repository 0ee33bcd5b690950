//! What the process knows of one file, shared by every handle and every engine: its true size, who is writing where, and whether an
//! `fsync` of it ever failed.
//!
//! Direct writes work in whole units, so two writers of neighbouring bytes touch the same unit, and the last unit reaches past the end
//! of the file. Three rules make that exact:
//!
//! 1. **Edges are locked.** A read-modify-write holds its unit exclusively; a write of whole units holds its range shared, which only
//!    excludes edges, and writes of the other kind: buffered and direct writes are never at work on one place. Locks are taken in ascending order within a request, so no two requests can wait for each other.
//! 2. **The true size is kept here.** While any request pads, preallocates or extends (an *extender*), the size on disk may be larger than
//!    the size anyone was promised. `size` is the promised one: what was there before, or the furthest settled write. Readers are
//!    clamped to it. The end-of-file lock (`eof`) makes measuring, preallocating, trimming and truncating exclusive.
//! 3. **A trim never cuts accepted work.** It goes to the largest end that any accepted request reaches. (Trimming per handle loses data:
//!    A pads its tail, B extends the file, A trims B away.)
//!
//! Whoever cannot proceed leaves a waiter; every release wakes all of them, and they try again. Waiters live in the same critical section
//! as the condition they wait for, so no wake is lost.
//!
//! `fsync` waits for the writes accepted before it, which are counted in epochs: a sync closes the current one. Its failure is latched here:
//! the kernel reports a lost write once, and a later `fsync` would succeed without the data being there.

#[cfg(feature = "sim")]
mod audit;

use crate::slots::Key;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// Identifies a file for the life of the process: device, inode number, and birth time, so that a recycled number is another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) number: u64,
    pub(crate) born_ns: i128,
}

/// What was promised when a read began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadTicket {
    extenders: u64,
    size: u64,
}

/// Wakes a parked request so that it retries.
pub(crate) trait Retry: Send + Sync {
    fn resume(&self, key: Key);
}

type Waiter = (Arc<dyn Retry>, Key);

/// A place in the order of accepted writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    epoch: u64,
    /// The end of the file that this write claims, 0 if it was given up.
    end: u64,
}

pub(crate) struct Inode {
    /// Held while the end of the file is measured, moved or trimmed. Taken before `state`, and only by helper threads.
    eof: Mutex<()>,
    /// The promised size in bytes.
    size: AtomicU64,
    /// Twice the number of changes of the set of extenders, plus one while there is any: lets readers skip the lock.
    extenders: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Unsettled writes per epoch; the front is epoch `first_epoch`.
    epochs: VecDeque<u64>,
    first_epoch: u64,
    /// Ends of accepted, unsettled writes: of those inside the file too, because somebody else may cut it under them.
    ends: BTreeMap<u64, u32>,
    holds: Vec<RangeLock>,
    active_writes: u32,
    /// Extenders at work.
    extending: u32,
    /// How far writes have come since the end-of-file lock was taken.
    reached: u64,
    /// How far extenders may have grown the file on disk beyond its promised size; 0 when it is known not to be.
    inflated: u64,
    /// The size another process gave the file, as it was last found out, and the number of changes of extenders then.
    found: (u64, u64),
    truncates_waiting: u32,
    truncate_running: bool,
    sync_failed: Option<i32>,
    waiters: Vec<Waiter>,
}

/// A locked range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeLock {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// An edge: reads the range, modifies it, and writes it back.
    pub(crate) exclusive: bool,
    /// Goes through the page cache.
    pub(crate) buffered: bool,
}

/// The page cache works in folios of up to this size: a dirty one beside a direct write cannot be dropped, and the kernel then reports an
/// error to whoever syncs next.
const FOLIO_BYTES_MAX: u64 = 2 << 20;

impl RangeLock {
    /// The lock of one block of a write.
    pub(crate) fn of(start: u64, end: u64, exclusive: bool, buffered: bool) -> Self {
        if buffered {
            let (start, end) = (start - start % FOLIO_BYTES_MAX, end.next_multiple_of(FOLIO_BYTES_MAX));
            return Self { start, end, exclusive, buffered };
        }
        Self { start, end, exclusive, buffered }
    }

    fn conflicts(&self, other: &Self) -> bool {
        let excludes = self.exclusive || other.exclusive || self.buffered != other.buffered;
        excludes && self.start < other.end && other.start < self.end
    }
}

static REGISTRY: LazyLock<Mutex<HashMap<Identity, Weak<Inode>>>> = LazyLock::new(Mutex::default);
/// Inodes whose fsync failed: kept until the process ends, whoever still has them open.
static FAILED: Mutex<Vec<Arc<Inode>>> = Mutex::new(Vec::new());

/// How many dead registry entries are tolerated before they are swept.
const REGISTRY_SWEEP_LEN: usize = 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Accepted {
    /// The same place in the order, with the claim on the end of the file given up.
    #[must_use]
    pub(crate) fn without_end(self) -> Self {
        Self { end: 0, ..self }
    }
}

impl Inode {
    /// The one inode of this identity. `size` is what the file system says now; it counts unless an extender is at work.
    pub(crate) fn of(identity: Identity, size: u64) -> Arc<Self> {
        let mut registry = lock(&REGISTRY);
        if let Some(inode) = registry.get(&identity).and_then(Weak::upgrade) {
            // In this order: a failure that is latched in between makes for one holder more, not one fewer. Nobody else can take the inode up
            // while the registry is locked.
            let remembered = usize::from(inode.sync_failure().is_some());
            let is_closed = Arc::strong_count(&inode) == 1 + remembered;
            drop(registry);
            if is_closed {
                // Only the failure of its fsync is remembered; nobody has it open. What is on disk now is what others made of it meanwhile.
                inode.forget_padding();
            }
            inode.believe(size);
            return inode;
        }
        if registry.len() >= REGISTRY_SWEEP_LEN && registry.len().is_power_of_two() {
            registry.retain(|_, inode| inode.strong_count() > 0);
        }
        let inode = Arc::new(Self {
            eof: Mutex::default(),
            size: AtomicU64::new(size),
            extenders: AtomicU64::new(0),
            state: Mutex::new(State { epochs: VecDeque::from([0]), ..State::default() }),
        });
        registry.insert(identity, Arc::downgrade(&inode));
        inode
    }

    /// The promised size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// How far the file may go on disk: to its promised size, or as far as extenders have inflated it.
    pub(crate) fn reach(&self) -> u64 {
        if self.extenders.load(Ordering::Acquire).is_multiple_of(2) {
            return self.size();
        }
        self.size().max(lock(&self.state).inflated)
    }

    // ---- acceptance and fsync ----

    /// Counts a write from the moment its caller may rely on it: from here on no trim cuts what it writes.
    pub(crate) fn accept_write(&self, end: u64) -> Accepted {
        let mut state = lock(&self.state);
        if let Some(current) = state.epochs.back_mut() {
            *current += 1;
        }
        let epoch = state.first_epoch + state.epochs.len() as u64 - 1;
        if end > 0 {
            *state.ends.entry(end).or_default() += 1;
        }
        Accepted { epoch, end }
    }

    /// The write has settled, one way or the other.
    pub(crate) fn settle_write(&self, accepted: Accepted) {
        let mut state = lock(&self.state);
        let index = (accepted.epoch - state.first_epoch) as usize;
        state.epochs[index] -= 1;
        while state.epochs.len() > 1 && state.epochs[0] == 0 {
            state.epochs.pop_front();
            state.first_epoch += 1;
        }
        state.forget_end(accepted.end);
        wake(state);
    }

    /// Closes the current epoch and names it.
    pub(crate) fn begin_sync(&self) -> u64 {
        let mut state = lock(&self.state);
        let epoch = state.first_epoch + state.epochs.len() as u64 - 1;
        state.epochs.push_back(0);
        while state.epochs.len() > 1 && state.epochs[0] == 0 {
            state.epochs.pop_front();
            state.first_epoch += 1;
        }
        epoch
    }

    /// Whether every write accepted up to `epoch` has settled; if not, the waiter is told when to ask again.
    pub(crate) fn settled_up_to(&self, epoch: u64, waiter: Waiter) -> bool {
        let mut state = lock(&self.state);
        let done = state.first_epoch > epoch;
        if !done {
            state.waiters.push(waiter);
        }
        done
    }

    /// The error number of the first fsync that failed.
    pub(crate) fn sync_failure(&self) -> Option<i32> {
        lock(&self.state).sync_failed
    }

    pub(crate) fn latch_sync_failure(self: &Arc<Self>, errno: i32) {
        // Kept once, and before it counts as kept.
        let mut failed = lock(&FAILED);
        let mut state = lock(&self.state);
        if state.sync_failed.is_none() {
            failed.push(Arc::clone(self));
            state.sync_failed = Some(errno);
        }
    }

    // ---- writes and truncations ----

    /// A write begins to work on the file, unless a truncation is at work or waiting for its turn.
    pub(crate) fn activate_write(&self, waiter: Waiter) -> bool {
        let mut state = lock(&self.state);
        let free = !state.truncate_running && state.truncates_waiting == 0;
        if free {
            state.active_writes += 1;
        } else {
            state.waiters.push(waiter);
        }
        free
    }

    pub(crate) fn deactivate_write(&self) {
        let mut state = lock(&self.state);
        state.active_writes -= 1;
        wake(state);
    }

    /// Announces a truncation: from now on no further write begins.
    pub(crate) fn announce_truncate(&self) {
        lock(&self.state).truncates_waiting += 1;
    }

    /// Whether the announced truncation may run: no write and no other truncation is at work.
    pub(crate) fn begin_truncate(&self, waiter: Waiter) -> bool {
        let mut state = lock(&self.state);
        let free = state.active_writes == 0 && !state.truncate_running;
        if free {
            state.truncates_waiting -= 1;
            state.truncate_running = true;
        } else {
            state.waiters.push(waiter);
        }
        free
    }

    /// Takes an announcement back.
    pub(crate) fn abandon_truncate(&self) {
        let mut state = lock(&self.state);
        state.truncates_waiting -= 1;
        wake(state);
    }

    pub(crate) fn end_truncate(&self) {
        let mut state = lock(&self.state);
        state.truncate_running = false;
        wake(state);
    }

    /// Locks a range, or leaves a waiter.
    pub(crate) fn lock(&self, hold: RangeLock, waiter: Waiter) -> bool {
        let mut state = lock(&self.state);
        let free = !state.holds.iter().any(|other| other.conflicts(&hold));
        if free {
            state.holds.push(hold);
        } else {
            state.waiters.push(waiter);
        }
        free
    }

    pub(crate) fn unlock(&self, hold: RangeLock) {
        let mut state = lock(&self.state);
        if let Some(index) = state.holds.iter().position(|other| *other == hold) {
            state.holds.swap_remove(index);
        }
        wake(state);
    }

    // ---- the end of the file (helper threads only) ----

    /// Serialises everything that measures or moves the end of the file.
    pub(crate) fn eof_lock(&self) -> MutexGuard<'_, ()> {
        let eof = lock(&self.eof);
        lock(&self.state).reached = 0;
        eof
    }

    /// A request begins to pad, preallocate or extend the file up to `inflated`; `measured` is the size on disk. Returns the promised size,
    /// which is `measured` only if no extender has inflated it, and a ticket for [`Inode::is_sole_extender`].
    pub(crate) fn begin_extending(&self, measured: u64, inflated: u64) -> (u64, u64) {
        let mut state = lock(&self.state);
        let alone = !state.end_is_open(measured);
        if alone {
            // A write that ended since the file was measured may have made it larger, if somebody else had cut it.
            let measured = measured.max(state.reached);
            self.find(&mut state, measured);
            state.inflated = 0;
        }
        state.extending += 1;
        state.inflated = state.inflated.max(inflated);
        self.count_extenders(&state);
        let ticket = if alone { self.extenders.load(Ordering::Relaxed) } else { 0 };
        (self.size(), ticket)
    }

    /// Whether nobody else has extended the file since the request that holds the ticket began to: then everything past the promised size
    /// is known to be empty.
    pub(crate) fn is_sole_extender(&self, ticket: u64) -> bool {
        self.extenders.load(Ordering::Acquire) == ticket
    }

    /// A request gives up its claim on the end it was accepted with, having reached `reached` (0: nowhere). Returns the size the file must
    /// have now (the furthest of what was promised, what this request reached, and what any other accepted request will reach), and the
    /// largest size on disk that is our own doing. With `whole`, the request replaces the file, and what was promised before counts no more.
    pub(crate) fn size_after(&self, reached: u64, accepted: Accepted, whole: bool) -> (u64, u64) {
        let mut state = lock(&self.state);
        let size = if whole { reached } else { self.size().max(reached) };
        self.size.store(size, Ordering::Release);
        state.forget_end(accepted.end);
        let furthest = state.ends.last_key_value().map_or(0, |(&end, _)| end);
        (size.max(furthest), state.inflated)
    }

    /// An extender has finished. `clean`: the file on disk is not larger than promised.
    pub(crate) fn end_extending(&self, clean: bool) {
        let mut state = lock(&self.state);
        state.extending -= 1;
        if clean && state.extending == 0 {
            state.inflated = 0;
        }
        self.count_extenders(&state);
        wake(state);
    }

    /// Whether the file on disk is larger than promised and no extender is left to cut it.
    pub(crate) fn is_left_inflated(&self) -> bool {
        let state = lock(&self.state);
        state.extending == 0 && state.inflated > 0
    }

    /// The file on disk was cut to its promised size.
    pub(crate) fn deflated(&self) {
        let mut state = lock(&self.state);
        if state.extending == 0 {
            state.inflated = 0;
        }
        self.count_extenders(&state);
    }

    /// A write that needed no extending gives up its claim, having reached `reached` (0: nowhere). `None` if that might leave the file larger
    /// than promised, because a trim may have spared it for this write: then it must be abandoned.
    pub(crate) fn give_up_end(&self, accepted: Accepted, reached: u64) -> Option<Accepted> {
        let mut state = lock(&self.state);
        if accepted.end > self.size() && (state.extending > 0 || state.inflated > 0) {
            return None;
        }
        // Recorded before the claim goes. (The file may have been cut by somebody else meanwhile.)
        self.size.fetch_max(reached, Ordering::AcqRel);
        state.reached = state.reached.max(reached);
        state.forget_end(accepted.end);
        Some(accepted.without_end())
    }

    /// How far the file must go for accepted requests, other than one that ends at `end`.
    pub(crate) fn claimed_besides(&self, end: u64) -> u64 {
        let state = lock(&self.state);
        let others = |&(&claimed, &count): &(&u64, &u32)| claimed != end || count > 1;
        state.ends.iter().rev().find(others).map_or(0, |(&claimed, _)| claimed)
    }

    /// The file was measured. What the file system says counts, unless an extender is at work.
    pub(crate) fn believe(&self, measured: u64) {
        let mut state = lock(&self.state);
        if !state.end_is_open(measured) {
            self.find(&mut state, measured);
        }
    }

    /// Whatever padding there was is somebody else's by now, unless an extender has begun since.
    fn forget_padding(&self) {
        let mut state = lock(&self.state);
        if state.extending == 0 {
            state.inflated = 0;
            self.count_extenders(&state);
        }
    }

    /// The file was cut while the end-of-file lock was held.
    pub(crate) fn cut(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// The file was measured while no extender was at work.
    fn find(&self, state: &mut State, measured: u64) {
        if measured > self.size() {
            state.found = (measured, self.extenders.load(Ordering::Relaxed));
        }
        self.size.store(measured, Ordering::Release);
    }

    fn count_extenders(&self, state: &State) {
        let changes = self.extenders.load(Ordering::Relaxed) / 2 + 1;
        let open = state.extending > 0 || state.inflated > 0;
        self.extenders.store(changes * 2 + u64::from(open), Ordering::Release);
    }

    /// A ticket for [`Inode::clamp`], taken before a read starts.
    pub(crate) fn read_ticket(&self) -> ReadTicket {
        let extenders = self.extenders.load(Ordering::Acquire);
        ReadTicket { extenders, size: self.size() }
    }

    /// Where a read that started with `ticket` must stop: nowhere, unless an extender was at work meanwhile. Then it may have been shown
    /// padding; what was promised before it began, and still is, was in the file all the time. So was what another process had put there,
    /// although that may have been found out only when the extender began.
    pub(crate) fn clamp(&self, ticket: ReadTicket) -> u64 {
        let now = self.extenders.load(Ordering::Acquire);
        if now == ticket.extenders && now.is_multiple_of(2) {
            return u64::MAX;
        }
        let (found, when) = lock(&self.state).found;
        let before = if when == ticket.extenders && when.is_multiple_of(2) { ticket.size.max(found) } else { ticket.size };
        before.min(self.size())
    }

    /// The size to report: the promised one while an extender is at work, else the measured one.
    pub(crate) fn size_to_report(&self, measured: u64) -> u64 {
        let state = lock(&self.state);
        if state.end_is_open(measured) { self.size() } else { measured }
    }
}

impl State {
    /// Whether a file of `measured` bytes on disk may be larger than promised. (One that is larger than we ever made it was extended by
    /// another process, and is believed.)
    fn end_is_open(&self, measured: u64) -> bool {
        self.extending > 0 || (self.inflated > 0 && measured <= self.inflated)
    }

    fn forget_end(&mut self, end: u64) {
        if end == 0 {
            return;
        }
        if let Some(count) = self.ends.get_mut(&end) {
            *count -= 1;
            if *count == 0 {
                self.ends.remove(&end);
            }
        }
    }
}

/// Tells all waiters to try again, outside the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    if state.waiters.is_empty() {
        return;
    }
    let waiters = std::mem::take(&mut state.waiters);
    drop(state);
    for (waker, key) in waiters {
        waker.resume(key);
    }
}
