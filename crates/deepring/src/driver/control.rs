//! Operations that must wait for others before they may run: sync, truncate, close. They run on helper threads.
//!
//! * **sync** runs when every write accepted before it has settled;
//! * **truncate** runs alone: no write is at work, and none begins until it is done;
//! * **close** runs when every request of the file has settled, and nothing else needs its descriptor.

use super::{Driver, Message};
use crate::error::ErrorKind;
use crate::inbox::Inbox;
use crate::inode::Access;
use crate::open::OpenFile;
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a control waits for.
pub(crate) enum Barrier {
    /// The epoch that the sync closed when it was accepted.
    Sync(u64),
    Truncate,
    Close,
}

/// A control: what it waits for, and what to do then. The job is told if it must not do it after all.
pub(crate) struct Control {
    pub(crate) file: Arc<OpenFile>,
    pub(crate) barrier: Barrier,
    pub(crate) job: Box<dyn FnOnce(Option<ErrorKind>) + Send>,
    pub(crate) canceled: Arc<AtomicBool>,
}

/// Keeps a file from being closed while something other than a transfer needs its descriptor: a closed number may soon name another file.
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
            self.inbox.post(Message::Unused(Arc::clone(&self.file)));
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

    pub(super) fn try_control(&mut self, key: Key) {
        let Some(control) = self.controls.get(key) else { return };
        let inode = &control.file.inode;
        let waiter = (Arc::clone(&self.control_waker), key);
        let free = match control.barrier {
            Barrier::Sync(epoch) => inode.wait_for_epoch(epoch, waiter) == Access::Granted,
            Barrier::Truncate => inode.enter_truncation(waiter) == Access::Granted,
            Barrier::Close => control.file.unsettled.load(Ordering::Acquire) == 0 || planted(PlantedBug::ClosesInUse),
        };
        if free {
            self.run_control(key, None);
        }
    }

    /// A request of the file has settled: a close may have waited for it.
    pub(super) fn try_closes(&mut self, file: &Arc<OpenFile>) {
        if file.unsettled.load(Ordering::Acquire) > 0 || self.controls.len() == 0 {
            return;
        }
        for key in self.controls.keys() {
            let waits = |control: &Control| matches!(control.barrier, Barrier::Close) && Arc::ptr_eq(&control.file, file);
            if self.controls.get(key).is_some_and(waits) {
                self.try_control(key);
            }
        }
    }

    /// Ends the waiting of controls that were cancelled, or of all when the engine shuts down. A close always runs.
    pub(super) fn sweep_controls(&mut self) {
        for key in self.controls.keys() {
            let Some(control) = self.controls.get(key) else { continue };
            let gone = self.stopping || control.canceled.load(Ordering::Acquire);
            if gone && !matches!(control.barrier, Barrier::Close) {
                if matches!(control.barrier, Barrier::Truncate) {
                    control.file.inode.withdraw_truncation();
                }
                self.run_control(key, Some(ErrorKind::Canceled));
            }
        }
    }

    fn run_control(&mut self, key: Key, instead: Option<ErrorKind>) {
        let Some(control) = self.controls.remove(key) else { return };
        self.help(move || {
            let Control { file, barrier, job, .. } = control;
            job(instead);
            if matches!(barrier, Barrier::Truncate) && instead.is_none() {
                // The new size was recorded by the job, under the end-of-file lock.
                file.inode.leave_truncation();
            }
            drop(file);
            Message::ControlDone
        });
    }
}
