//! [`Core`]: what the driver and its engine share.

use super::Message;
use crate::backend::BackendKind;
use crate::backend::start::BackendReport;
use crate::blocking::BlockingPool;
use crate::closing::Closing;
use crate::config::Config;
use crate::deadlines::Deadlines;
use crate::error::{Error, ErrorKind, Result};
use crate::inbox::Inbox;
use crate::memory::Pool;
use crate::open::OpenFile;
use crate::profile::Profiles;
use crate::share::Devices;
use crate::stats::Counters;
use crate::sys::process::Process;
use crate::windows::Windows;
use std::sync::{Arc, Mutex, PoisonError};

/// Why an engine whose driver has unwound runs nothing.
pub(super) const UNWOUND: &str = "the engine has ended: a panic on its driver thread";

/// What the driver and its engine share.
pub(crate) struct Core {
    pub(crate) closing: Arc<Closing>,
    pub(crate) inbox: Arc<Inbox<Message>>,
    pub(crate) blocking: Arc<BlockingPool>,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) counters: Arc<Counters>,
    /// Locked only to copy or to replace it.
    pub(crate) report: Mutex<BackendReport>,
    pub(crate) config: Config,
    /// The process whose threads serve the engine.
    pub(crate) process: Process,
    /// What it shares with other engines.
    pub(crate) devices: Arc<Devices>,
    /// What it has found out about devices.
    pub(crate) windows: Windows,
    /// Where the search at a device begins.
    pub(crate) profiles: Profiles,
}

impl Core {
    /// Which backend runs now, and why.
    pub(crate) fn report(&self) -> BackendReport {
        if self.is_forked() {
            let reason = ErrorKind::Forked.to_string();
            return BackendReport { kind: BackendKind::Threads, reason, flags: Vec::new(), ring_entries: 0 };
        }
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The backend that runs now.
    pub(crate) fn backend(&self) -> BackendKind {
        if self.is_forked() {
            return BackendKind::Threads;
        }
        self.report.lock().unwrap_or_else(PoisonError::into_inner).kind
    }

    /// What moves the bytes of this file now: a ring never gets a file that blocks its submitter.
    pub(crate) fn backend_of(&self, file: &OpenFile) -> BackendKind {
        if file.blocks_submitters { BackendKind::Threads } else { self.backend() }
    }

    /// Why intake is closed: the engine was closed, its driver has unwound, or the last engine has gone.
    pub(crate) fn why_closed(&self) -> ErrorKind {
        if self.closing.is_requested() {
            ErrorKind::Closed
        } else if self.report().reason == UNWOUND {
            ErrorKind::Panicked
        } else {
            ErrorKind::Canceled
        }
    }

    /// Whether this process was forked by the engine's. Another thread can have held any lock of the engine at that
    /// moment, and no thread serves it here: it must not be touched.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_parent()
    }

    /// # Errors
    /// [`ErrorKind::Forked`], and [`ErrorKind::Closed`] once the engine was closed.
    pub(crate) fn check_open(&self, call: &'static str) -> Result<()> {
        self.check_process(call)?;
        if self.closing.is_requested() { Err(Error::new(ErrorKind::Closed, call)) } else { Ok(()) }
    }

    /// # Errors
    /// [`ErrorKind::Forked`] in a process that was forked by the engine's.
    pub(crate) fn check_process(&self, call: &'static str) -> Result<()> {
        if self.is_forked() { Err(Error::new(ErrorKind::Forked, call)) } else { Ok(()) }
    }
}
