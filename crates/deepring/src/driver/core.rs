//! [`Core`]: what the driver and its engine share.

use super::Message;
use crate::backend::BackendKind;
use crate::backend::start::BackendReport;
use crate::blocking::BlockingPool;
use crate::config::Config;
use crate::inbox::Inbox;
use crate::memory::Pool;
use crate::stats::Counters;
use std::sync::{Arc, Mutex, PoisonError};

/// What the driver and its engine share.
pub(crate) struct Core {
    pub(crate) inbox: Arc<Inbox<Message>>,
    pub(crate) blocking: Arc<BlockingPool>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) counters: Arc<Counters>,
    /// Locked only to copy or to replace it.
    pub(crate) report: Mutex<BackendReport>,
    pub(crate) config: Config,
}

impl Core {
    /// Which backend runs now, and why.
    pub(crate) fn report(&self) -> BackendReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The backend that runs now.
    pub(crate) fn backend(&self) -> BackendKind {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).kind
    }
}
