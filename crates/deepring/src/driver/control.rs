//! Operations that must wait for others before they can run: sync, truncate, close. They run on blocking threads.
//!
//! * **sync** runs when every write accepted before it has settled;
//! * **truncate**, and what else moves bytes or space by itself, runs alone: no write is at work, and none begins until it
//!   is done;
//! * **close** runs when every request of the file has settled, and nothing else needs its descriptor.

use super::Driver;
use super::between::{WAIT_MAX, pause_after};
use super::message::{Answer, Message, Wake};
use crate::blocking::Line;
use crate::error::ErrorKind;
use crate::inbox::Inbox;
use crate::inode::Access;
use crate::locks::{Attempt, FileLocks};
use crate::open::OpenFile;
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use crate::stats::add;
use crate::unwind::contain;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a control waits for.
pub(crate) enum Barrier {
    /// The epoch that the sync closed when it was accepted.
    Sync(u64),
    Truncate,
    /// A truncation that keeps writes out, and waits for another copy of the engine since then.
    TruncateAlone(Instant),
    Close,
}

/// A control: what it waits for, and the job to run then.
pub(crate) struct Control {
    pub(crate) file: Arc<OpenFile>,
    pub(crate) barrier: Barrier,
    pub(crate) job: ControlJob,
    pub(crate) canceled: Arc<AtomicBool>,
    /// Bytes that a truncation changes: no other copy of the engine may write their units in part meanwhile.
    pub(crate) bytes: Option<Range<u64>>,
}

/// Bytes that are locked between copies of the engine, until it is dropped.
struct LockedBytes {
    file: Arc<OpenFile>,
    bytes: Range<u64>,
    _using: Use,
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.file.unlock_units(&self.bytes);
    }
}

/// The job of a control, and the caller's callback in it. It runs once. If it is dropped, because the driver has
/// unwound, the callback gets that as its error.
pub(crate) struct ControlJob(Option<Box<dyn FnOnce(Option<ErrorKind>) + Send>>);

impl ControlJob {
    /// `job` is passed the reason if it must not do its work.
    pub(crate) fn new(job: impl FnOnce(Option<ErrorKind>) + Send + 'static) -> Self {
        Self(Some(Box::new(job)))
    }

    /// Returns false if the job panicked.
    pub(super) fn run(&mut self, instead: Option<ErrorKind>) -> bool {
        self.0.take().and_then(|job| contain(|| job(instead))).is_some()
    }
}

impl Drop for ControlJob {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.run(Some(ErrorKind::Panicked));
        }
    }
}

/// Keeps a file from being closed while something other than a transfer needs its descriptor: a closed number can soon
/// name another file.
pub(crate) struct Use {
    file: Arc<OpenFile>,
    inbox: Arc<Inbox<Message>>,
}

impl Use {
    pub(crate) fn of(file: &Arc<OpenFile>, inbox: &Arc<Inbox<Message>>) -> Self {
        file.unsettled.fetch_add(1, Ordering::AcqRel);
        Self { file: Arc::clone(file), inbox: Arc::clone(inbox) }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if self.file.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inbox.post(Message::Wake(Wake::File(Arc::clone(&self.file))));
        }
    }
}

impl Control {
    /// Locks the bytes that it changes, if that is needed. Never waits.
    fn lock_bytes(&self, inbox: &Arc<Inbox<Message>>) -> Result<Option<LockedBytes>, Attempt> {
        let Some(bytes) = self.bytes.as_ref().and_then(|bytes| self.file.units_to_lock(bytes)) else { return Ok(None) };
        match self.file.lock_units(&bytes) {
            Attempt::Locked => Ok(Some(LockedBytes { file: Arc::clone(&self.file), bytes, _using: Use::of(&self.file, inbox) })),
            Attempt::Without => Ok(None),
            attempt => Err(attempt),
        }
    }
}

impl Driver {
    pub(super) fn accept_control(&mut self, control: Control) {
        if matches!(control.barrier, Barrier::Truncate) {
            control.file.inode.announce_truncation();
        }
        let key = self.controls.insert(control);
        self.try_control(key);
    }

    /// Runs a control if what it waits for has happened.
    pub(super) fn try_control(&mut self, key: Key) {
        // The control can have run or been canceled since it registered.
        let Some(control) = self.controls.get(key) else { return };
        let inode = &control.file.inode;
        let waiter = (Arc::clone(&self.retry_control), key);
        let access = match control.barrier {
            Barrier::Sync(epoch) => inode.wait_for_epoch(epoch, waiter),
            Barrier::Truncate => match inode.enter_truncation(waiter) {
                Access::Granted => return self.truncate_alone(key),
                Access::Queued => Access::Queued,
            },
            Barrier::TruncateAlone(_) => return self.truncate_alone(key),
            Barrier::Close if control.file.unsettled.load(Ordering::Acquire) == 0 => Access::Granted,
            Barrier::Close if planted(PlantedBug::ClosesInUse) => Access::Granted,
            Barrier::Close => Access::Queued,
        };
        if access == Access::Granted {
            self.run_control(key, None, None);
        }
    }

    /// No write of this process is at work: the truncation runs when no other copy of the engine holds the end of the
    /// file.
    fn truncate_alone(&mut self, key: Key) {
        let control = &mut self.controls[key];
        let since = if let Barrier::TruncateAlone(since) = control.barrier { since } else { self.now };
        control.barrier = Barrier::TruncateAlone(since);
        match control.file.enter_end() {
            Attempt::Locked | Attempt::Without => match control.lock_bytes(&self.core.inbox) {
                Ok(locked) => return self.run_control(key, None, locked),
                Err(attempt) => {
                    control.file.inode.leave_end();
                    if attempt == Attempt::TwoCopies {
                        return self.run_control(key, Some(ErrorKind::TwoCopies), None);
                    }
                }
            },
            Attempt::TwoCopies => return self.run_control(key, Some(ErrorKind::TwoCopies), None),
            Attempt::Busy => {}
        }
        let waited = self.now.saturating_duration_since(since);
        if waited >= WAIT_MAX {
            return self.run_control(key, Some(ErrorKind::Locked(None)), None);
        }
        let retry = Arc::clone(&self.retry_control);
        let pause = if waited.as_millis() < 5 { pause_after(0) } else { pause_after(u32::MAX) };
        self.core.blocking.later(pause, Box::new(move || retry.retry(key)));
    }

    /// A request of the file has settled: a close can have waited for it.
    pub(super) fn try_closes(&mut self, file: &Arc<OpenFile>) {
        if file.unsettled.load(Ordering::Acquire) > 0 || self.controls.len() == 0 {
            return;
        }
        for key in self.controls.keys() {
            let control = &self.controls[key];
            if matches!(control.barrier, Barrier::Close) && Arc::ptr_eq(&control.file, file) {
                self.try_control(key);
            }
        }
    }

    /// Ends the waiting of controls that were canceled, or of all when the engine shuts down. A close always runs.
    pub(super) fn sweep_controls(&mut self) {
        for key in self.controls.keys() {
            let control = &self.controls[key];
            let gone = self.stopping || control.canceled.load(Ordering::Acquire);
            if gone && !matches!(control.barrier, Barrier::Close) {
                if matches!(control.barrier, Barrier::Truncate) {
                    control.file.inode.withdraw_truncation();
                }
                self.run_control(key, Some(ErrorKind::Canceled), None);
            }
        }
    }

    fn run_control(&mut self, key: Key, instead: Option<ErrorKind>, locked: Option<LockedBytes>) {
        let Control { file, barrier, mut job, .. } = self.controls.take(key);
        let counters = Arc::clone(&self.core.counters);
        // Who holds the lock is still to be found out: if it is this process, the file is cut after all.
        let examines = matches!(instead, Some(ErrorKind::Locked(_)));
        let line = match barrier {
            // It only reports: that must not stand behind calls that are stuck.
            _ if instead.is_some() && !examines => Line::Memory,
            Barrier::Sync(_) => Line::Sync(file.fate),
            Barrier::Truncate | Barrier::TruncateAlone(_) | Barrier::Close => Line::Mount(file.fate),
        };
        self.ask(line, move || {
            let (mut instead, mut entered) = (instead, instead.is_none());
            if examines {
                let obstacle = file.locks.examine(file.fd(), FileLocks::end_place());
                entered = obstacle.is_own && matches!(file.enter_end(), Attempt::Locked | Attempt::Without);
                instead = (!entered).then_some(ErrorKind::Locked(obstacle.process));
            }
            if !job.run(instead) {
                add(&counters.panics, 1);
            }
            drop(locked);
            if matches!(barrier, Barrier::TruncateAlone(_)) {
                // The new size was recorded by the job, while it held the end of the file.
                if entered {
                    file.inode.leave_end();
                }
                file.inode.leave_truncation();
            }
            drop(file);
            Answer::ControlRan
        });
    }
}
