//! [`Progress`]: reports of how far a job has come, few enough that they cost nothing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is called with bytes done and bytes in all.
pub(crate) type OnProgress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Between two reports: 20 a second.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Progress {
    report: Option<OnProgress>,
    done: u64,
    total: u64,
    last: Option<Instant>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, total, .. } = self;
        f.debug_struct("Progress").field("done", done).field("total", total).finish_non_exhaustive()
    }
}

impl Progress {
    pub(crate) fn new(report: Option<OnProgress>, total: u64) -> Self {
        Self { report, done: 0, total, last: None }
    }

    /// This many more bytes are done.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let Some(report) = &self.report else { return };
        // The last report is that of the end.
        if self.done < self.total && self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.last = Some(Instant::now());
            report(self.done, self.total);
        }
    }

    /// Everything is done.
    pub(crate) fn end(self) {
        if let Some(report) = self.report {
            report(self.total, self.total);
        }
    }
}
