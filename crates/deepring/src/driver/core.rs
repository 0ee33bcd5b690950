//! What the driver shares with its engine.

use super::Message;
use crate::backend::start::BackendReport;
use crate::blocking::BlockingPool;
use crate::config::Config;
use crate::inbox::Inbox;
use crate::memory::Pool;
use crate::stats::Counters;
use std::sync::{Arc, Mutex};

/// What the driver shares with its engine.
pub(crate) struct Core {
    pub(crate) inbox: Arc<Inbox<Message>>,
    pub(crate) blocking: Arc<BlockingPool>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) report: Mutex<BackendReport>,
    pub(crate) config: Config,
}
