//! What the process knows of one file, shared by every open and every engine: its promised size, which ranges are being
//! written, and whether an `fsync` of it ever failed. Which opens are of one file, [`registry`] decides.
//!
//! Four mechanisms, each in a file of its own and each a plain struct without a lock:
//!
//! * [`ranges`]: the locks of blocks in flight, so that a read-modify-write at an edge loses no neighbor's bytes;
//! * [`gate`]: truncations run alone;
//! * [`epochs`]: a sync waits for the writes accepted before it;
//! * [`end`]: the promised size, and what can lie beyond it on disk.
//!
//! One mutex guards them all. A second one, [`Inode::lock_end`], is held by a blocking thread while it measures, moves
//! or trims the end of the file; it is taken first.
//!
//! What must wait registers a waiter: a write that meets a truncation, a sync or truncation that waits for writes. When
//! their condition can have come, all waiters of that kind are woken, and they retry. Writes wait for ranges in a line,
//! see [`ranges`]. Waiters live in the same critical section as the condition they wait for, so no wake is lost.
//!
//! The failure of an `fsync` is latched here: the kernel reports a lost write once, and a later `fsync` would succeed
//! although the data are not on the drive.

#[cfg(feature = "sim")]
mod audit;
mod end;
mod epochs;
mod gate;
mod ranges;
mod registry;

use crate::locks::EndHold;
use crate::slots::Key;
use end::End;
use epochs::Epochs;
use gate::Gate;
use ranges::{Ranges, Ticket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use end::{Accepted, Extension, GiveUp, ReadTicket, TrimTarget};
pub(crate) use ranges::RangeLock;
pub(crate) use registry::{Identity, Numbers, Proof};

/// Wakes a parked request so that it retries.
pub(crate) trait Retry: Send + Sync {
    fn retry(&self, key: Key);
}

pub(crate) type Waiter = (Arc<dyn Retry>, Key);

/// The answer to a request for something that others may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Access {
    Granted,
    /// The waiter is registered, and is woken when it is worth a retry.
    Queued,
}

pub(crate) struct Inode {
    id: u64,
    end_lock: Mutex<()>,
    /// The same between copies of the engine, and for longer.
    end_hold: EndHold,
    /// Padding was left for a request that has not begun, and the hold with it.
    end_kept: AtomicBool,
    /// The size was measured while another copy held the end: it can be padding.
    in_doubt: AtomicBool,
    /// Shared with every file that has the same numbers: see [`registry`].
    state: Arc<Mutex<State>>,
    /// Where its own part stands in [`State::files`].
    place: usize,
    /// Whether no other file is ever taken for this one.
    lasts: bool,
    /// What [`End`] says, published so that reads need no lock: the promised size, and the version.
    size: AtomicU64,
    version: AtomicU64,
    /// Truncations by this process.
    truncations: AtomicU64,
    /// Whether a part of the file can have no space, as far as this process has seen.
    has_holes: AtomicBool,
}

/// The number of the next inode.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

struct State {
    epochs: Epochs,
    ranges: Ranges<Waiter>,
    gate: Gate,
    /// What belongs to one file each. Nearly always there is one.
    files: Vec<Part>,
    /// Syncs and truncations that wait for writes.
    waiters: Vec<Waiter>,
    /// Writes that wait for truncations.
    writes: Vec<Waiter>,
}

struct Part {
    end: End,
    sync_failed: Option<i32>,
    is_open: bool,
}

impl State {
    fn new() -> Self {
        Self {
            epochs: Epochs::new(),
            ranges: Ranges::default(),
            gate: Gate::default(),
            files: Vec::new(),
            waiters: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Adds the part of a file. Returns its place.
    fn add(&mut self, size: u64) -> usize {
        let part = Part { end: End::new(size), sync_failed: None, is_open: true };
        if let Some(place) = self.files.iter().position(|part| !part.is_open) {
            self.files[place] = part;
            return place;
        }
        self.files.push(part);
        self.files.len() - 1
    }

    /// Grants what `take` takes, or registers the waiter.
    fn grant(&mut self, waiter: Waiter, take: impl FnOnce(&mut Self) -> bool) -> Access {
        if take(self) {
            return Access::Granted;
        }
        self.waiters.push(waiter);
        Access::Queued
    }
}

/// A place in the line for a range. One that is dropped is given up, with the lock if that has been handed to it.
pub(crate) struct RangePlace {
    inode: Arc<Inode>,
    /// `None` once the lock was taken over.
    ticket: Option<Ticket>,
}

impl Drop for RangePlace {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let woken = lock(&self.inode.state).ranges.leave(ticket);
            retry_all(woken);
        }
    }
}

fn retry_all(waiters: Vec<Waiter>) {
    for (retry, key) in waiters {
        retry.retry(key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the syncs and truncations that wait, and the writes if no truncation is in their way; outside the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    let waiters = std::mem::take(&mut state.waiters);
    let writes = if state.gate.is_open() { std::mem::take(&mut state.writes) } else { Vec::new() };
    drop(state);
    retry_all(waiters);
    retry_all(writes);
}

impl Inode {
    fn new(size: u64, state: Arc<Mutex<State>>, lasts: bool) -> Self {
        let place = lock(&state).add(size);
        Self {
            id: NUMBERS.fetch_add(1, Ordering::Relaxed),
            end_lock: Mutex::default(),
            end_hold: EndHold::default(),
            end_kept: AtomicBool::new(false),
            in_doubt: AtomicBool::new(false),
            state,
            place,
            lasts,
            size: AtomicU64::new(size),
            version: AtomicU64::new(0),
            truncations: AtomicU64::new(0),
            has_holes: AtomicBool::new(false),
        }
    }

    /// Looks at the end of the file under the lock.
    fn end<T>(&self, look: impl FnOnce(&mut End) -> T) -> T {
        look(&mut lock(&self.state).files[self.place].end)
    }

    /// Changes the end of the file under the lock, and publishes it.
    fn change_end<T>(&self, change: impl FnOnce(&mut End) -> T) -> T {
        let mut state = lock(&self.state);
        let end = &mut state.files[self.place].end;
        let result = change(end);
        // The size first: a read that finds the old version with the new size takes too small a promise, never too large.
        self.size.store(end.size(), Ordering::Release);
        self.version.store(end.version(), Ordering::Release);
        result
    }

    /// A number that no other inode of the process has had.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    // ---- acceptance and fsync ----

    /// Counts a write from the moment its caller can rely on it: from here on no trim cuts what it writes.
    pub(crate) fn accept_write(&self, end: u64) -> Accepted {
        let mut state = lock(&self.state);
        state.files[self.place].end.claim(end);
        Accepted { epoch: state.epochs.accept(), end }
    }

    /// Whether a write was accepted and has not settled.
    pub(crate) fn is_written(&self) -> bool {
        lock(&self.state).epochs.is_busy()
    }

    /// The write has settled, successfully or not.
    pub(crate) fn settle_write(&self, accepted: Accepted) {
        let mut state = lock(&self.state);
        let is_settled = state.epochs.settle(accepted.epoch);
        let end = &mut state.files[self.place].end;
        end.unclaim(accepted.end);
        let gives_up = self.end_kept.load(Ordering::Acquire) && !end.has_spared_padding();
        if is_settled {
            wake(state);
        } else {
            drop(state);
        }
        if gives_up {
            self.give_up_kept_end();
        }
    }

    /// Closes the current epoch, and returns it.
    pub(crate) fn close_epoch(&self) -> u64 {
        lock(&self.state).epochs.close()
    }

    /// Granted when every write accepted up to `epoch` has settled.
    pub(crate) fn wait_for_epoch(&self, epoch: u64, waiter: Waiter) -> Access {
        lock(&self.state).grant(waiter, |state| state.epochs.is_settled(epoch))
    }

    /// The error number of the first fsync that failed.
    pub(crate) fn sync_failure(&self) -> Option<i32> {
        lock(&self.state).files[self.place].sync_failed
    }

    // ---- writes and truncations ----

    /// A write becomes active, unless a truncation runs or waits for its turn.
    pub(crate) fn enter_write(&self, waiter: Waiter) -> Access {
        let mut state = lock(&self.state);
        if state.gate.enter_write() {
            return Access::Granted;
        }
        state.writes.push(waiter);
        Access::Queued
    }

    pub(crate) fn leave_write(&self) {
        let mut state = lock(&self.state);
        if state.gate.leave_write() {
            wake(state);
        }
    }

    /// Announces a truncation: from now on no further write becomes active.
    pub(crate) fn announce_truncation(&self) {
        lock(&self.state).gate.announce_truncation();
    }

    /// Takes an announcement back.
    pub(crate) fn withdraw_truncation(&self) {
        let mut state = lock(&self.state);
        state.gate.withdraw_truncation();
        wake(state);
    }

    /// The announced truncation starts, when no write and no other truncation is at work.
    pub(crate) fn enter_truncation(&self, waiter: Waiter) -> Access {
        lock(&self.state).grant(waiter, |state| state.gate.enter_truncation())
    }

    pub(crate) fn leave_truncation(&self) {
        let mut state = lock(&self.state);
        state.gate.leave_truncation();
        wake(state);
    }

    /// Locks a range, now or when the waiter is woken. `place` is what the last call for it left.
    pub(crate) fn lock_range(
        self: &Arc<Self>,
        range: RangeLock,
        place: &mut Option<RangePlace>,
        waiter: impl FnOnce() -> Waiter,
    ) -> Access {
        let mut woken = Vec::new();
        let mut state = lock(&self.state);
        if let Some(mut former) = place.take()
            && let Some(ticket) = former.ticket.take()
        {
            match state.ranges.collect(ticket) {
                Some(handed) if handed == range => return Access::Granted,
                // The file has become buffered since, or its end has moved: it needs another range.
                Some(handed) => woken = state.ranges.release(handed),
                // Woken for another reason.
                None => {
                    *place = Some(RangePlace { inode: Arc::clone(self), ticket: Some(ticket) });
                    return Access::Queued;
                }
            }
        }
        let taken = state.ranges.take(range, waiter);
        drop(state);
        retry_all(woken);
        match taken {
            Ok(()) => Access::Granted,
            Err(ticket) => {
                *place = Some(RangePlace { inode: Arc::clone(self), ticket: Some(ticket) });
                Access::Queued
            }
        }
    }

    /// Takes the first in line for exactly this range, which is locked, out of the line: as many as `join` makes something
    /// of, at most `max`. They share the lock of its holder.
    pub(crate) fn join_waiting<T>(&self, range: RangeLock, max: usize, join: impl Fn(&Waiter) -> Option<T>) -> Vec<T> {
        lock(&self.state).ranges.join(range, max, join)
    }

    pub(crate) fn unlock_range(&self, range: RangeLock) {
        let woken = lock(&self.state).ranges.release(range);
        retry_all(woken);
    }

    // ---- the size, for reads ----

    /// The promised size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// How long the file can be on disk: as promised, or as far as extenders have grown it.
    pub(crate) fn size_max_on_disk(&self) -> u64 {
        if self.version.load(Ordering::Acquire).is_multiple_of(2) {
            return self.size();
        }
        self.end(|end| end.size().max(end.padded_up_to()))
    }

    /// A ticket for [`Inode::clamp`], taken before a read starts.
    pub(crate) fn read_ticket(&self) -> ReadTicket {
        let version = self.version.load(Ordering::Acquire);
        ReadTicket { version, truncations: self.truncations.load(Ordering::Acquire), size: self.size() }
    }

    /// Where a read that started with `ticket` must stop: nowhere, unless an extender was at work in the meantime. Then
    /// the read can have seen padding. What was promised before it began, and still is, was in the file all the time. So
    /// was what another process had put there, even if that was noticed only when the extender began.
    pub(crate) fn clamp(&self, ticket: ReadTicket) -> u64 {
        let is_quiet = |version: u64| version == ticket.version && version.is_multiple_of(2);
        if is_quiet(self.version.load(Ordering::Acquire)) {
            return u64::MAX;
        }
        self.end(|end| {
            let (adopted, when) = end.adopted();
            let before = if is_quiet(when) { ticket.size.max(adopted) } else { ticket.size };
            before.min(end.size())
        })
    }

    /// The least size that the file has had since a read started with `ticket`: 0 if its end was moved, and nothing is known
    /// of how.
    pub(crate) fn least_size_since(&self, ticket: ReadTicket) -> u64 {
        let is_quiet = self.clamp(ticket) == u64::MAX && self.truncations.load(Ordering::Acquire) == ticket.truncations;
        if is_quiet { ticket.size } else { 0 }
    }

    /// The size to report: the promised one while the file can be padded, else the measured one.
    pub(crate) fn size_to_report(&self, measured: u64) -> u64 {
        self.end(|end| if end.may_be_padded(measured) { end.size() } else { measured })
    }

    /// Whether no other request has extended the file since this one began to. Then everything past the size promised
    /// at that time is known to be empty.
    pub(crate) fn is_sole_extender(&self, extension: Extension) -> bool {
        self.version.load(Ordering::Acquire) == extension.sole_version
    }

    /// Whether a part of the file can have no space.
    pub(crate) fn has_holes(&self) -> bool {
        self.has_holes.load(Ordering::Relaxed)
    }

    /// The file was found to have holes, or grows without being written. This is never taken back: another file can have
    /// the same identity.
    pub(crate) fn note_holes(&self) {
        self.has_holes.store(true, Ordering::Relaxed);
    }

    // ---- the end of the file between copies of the engine ----

    pub(crate) fn end_hold(&self) -> &EndHold {
        &self.end_hold
    }

    /// A request that entered the end has moved it, or will not.
    pub(crate) fn leave_end(&self) {
        let has_spared = || self.end(|end| end.has_spared_padding());
        let keep = has_spared();
        self.end_kept.store(keep, Ordering::Release);
        self.end_hold.leave(keep);
        if keep && !has_spared() {
            self.give_up_kept_end();
        }
    }

    fn give_up_kept_end(&self) {
        self.end_kept.store(false, Ordering::Release);
        self.end_hold.give_up();
    }

    /// Another copy is to have the end now. If it was kept for the sake of padding, that stays in the file: what this
    /// copy knew of it is no longer true when it comes back.
    pub(crate) fn yield_kept_end(&self) {
        if self.end_kept.load(Ordering::Acquire) {
            self.mark_clean();
            self.give_up_kept_end();
        }
    }

    /// The size on disk was measured while another copy could have padded the file. Until it is
    /// measured again, every write counts as one that moves the end.
    pub(crate) fn doubt_size(&self) {
        self.in_doubt.store(true, Ordering::Release);
    }

    /// The size was measured while this copy held the end.
    pub(crate) fn trust_size(&self) {
        self.in_doubt.store(false, Ordering::Release);
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Acquire)
    }

    // ---- the end of the file (blocking threads only, but for the last two methods) ----

    /// Serializes everything that measures or moves the end of the file.
    pub(crate) fn lock_end(&self) -> MutexGuard<'_, ()> {
        let guard = lock(&self.end_lock);
        self.end(End::locked);
        guard
    }

    /// See [`End::begin_extending`].
    pub(crate) fn begin_extending(&self, measured: u64, padded_up_to: u64) -> Extension {
        self.change_end(|end| end.begin_extending(measured, padded_up_to))
    }

    /// See [`End::end_extending`].
    pub(crate) fn end_extending(&self, clean: bool) {
        self.change_end(|end| end.end_extending(clean));
        wake(lock(&self.state));
    }

    /// See [`End::release`].
    pub(crate) fn release_end(&self, reached: u64, accepted: Accepted, whole: bool) -> TrimTarget {
        self.change_end(|end| end.release(reached, accepted, whole))
    }

    /// See [`End::is_left_padded`].
    pub(crate) fn is_left_padded(&self) -> bool {
        self.end(|end| end.is_left_padded())
    }

    /// See [`End::mark_clean`].
    pub(crate) fn mark_clean(&self) {
        self.change_end(End::mark_clean);
    }

    /// See [`End::claimed_by_others`].
    pub(crate) fn claimed_by_others(&self, end: u64) -> u64 {
        self.end(|state| state.claimed_by_others(end))
    }

    /// See [`End::record_truncation`].
    pub(crate) fn record_truncation(&self, size: u64) {
        if size > self.size() {
            self.note_holes();
        }
        self.truncations.fetch_add(1, Ordering::AcqRel);
        self.change_end(|end| end.record_truncation(size));
    }

    /// The same, with space for what is new.
    pub(crate) fn record_allocation(&self, size: u64) {
        self.change_end(|end| end.record_allocation(size));
    }

    /// See [`End::adopt_measured_if_quiet`].
    pub(crate) fn adopt_measured_if_quiet(&self, measured: u64) {
        self.change_end(|end| end.adopt_measured_if_quiet(measured));
    }

    /// See [`End::give_up`].
    pub(crate) fn give_up_end(&self, accepted: Accepted, reached: u64) -> GiveUp {
        self.change_end(|end| end.give_up(accepted, reached))
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        lock(&self.state).files[self.place].is_open = false;
    }
}
