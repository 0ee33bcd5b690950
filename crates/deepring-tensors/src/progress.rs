//! [`Progress`]: reports of how far a job has come, few enough that they cost nothing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is called with bytes done and bytes in all.
pub(crate) type OnProgress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Between two reports: 20 a second.
const PAUSE: Duration = Duration::from_millis(50);

/// Reports of a job that moves bytes, few enough that they cost nothing: at most 20 a second, and one at the end.
///
/// ```
/// use deepring_tensors::Progress;
/// use std::sync::{Arc, Mutex};
/// let reports = Arc::new(Mutex::new(Vec::new()));
/// let reported = Arc::clone(&reports);
/// let mut progress = Progress::new(Some(Arc::new(move |done, total| reported.lock().unwrap().push((done, total)))), 100);
/// progress.advance(60);
/// progress.advance(40);
/// progress.end();
/// assert_eq!(*reports.lock().unwrap(), [(60, 100), (100, 100)]);
/// ```
pub struct Progress {
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
    /// Calls this function, if there is one, with the bytes that are done and those of all.
    pub fn new(report: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>, total: u64) -> Self {
        Self { report, done: 0, total, last: None }
    }

    /// This many more bytes are done.
    pub fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let Some(report) = &self.report else { return };
        // The last report is that of the end.
        if self.done < self.total && self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.last = Some(Instant::now());
            report(self.done, self.total);
        }
    }

    /// Everything is done.
    pub fn end(self) {
        if let Some(report) = self.report {
            report(self.total, self.total);
        }
    }
}
