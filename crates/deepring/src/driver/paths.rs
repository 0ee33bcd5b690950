//! Requests by path: their files are opened when the requests are admitted, and closed when they have ended, so that any
//! number can be queued under a small limit on descriptors.

use super::Driver;
use super::message::{Answer, Opened};
use super::request::{PathTarget, Submission, Target};
use crate::error::{Error, ErrorKind};
use crate::open::{self, OpenFile, OpenOptions};
use crate::plan::Direction;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Files of path requests that are open at once: twice what is in flight of files of half a block, and few enough for
/// `ulimit -n 256`.
const OPEN_MAX: usize = 128;

/// Files a blocking thread opens or closes per job: waking a thread costs as much as opening a file.
const BATCH: usize = 8;

/// The path requests of an engine.
#[derive(Default)]
pub(super) struct Paths {
    /// Requests whose file is not open yet.
    queued: VecDeque<Submission>,
    /// Files that are being opened, are open, or are being closed.
    open: usize,
    /// Files of requests that have ended, to be closed.
    ended: Vec<Arc<OpenFile>>,
}

impl Paths {
    pub(super) fn push(&mut self, submission: Submission) {
        self.queued.push_back(submission);
    }

    /// The file of a request that has ended.
    pub(super) fn ended(&mut self, file: Arc<OpenFile>) {
        self.ended.push(file);
    }

    /// Moves the queued requests that match to `taken`.
    pub(super) fn sweep(&mut self, gone: impl Fn(&Submission) -> bool, taken: &mut Vec<Submission>) {
        if self.queued.iter().any(&gone) {
            for submission in mem::take(&mut self.queued) {
                if gone(&submission) { taken.push(submission) } else { self.queued.push_back(submission) }
            }
        }
    }

    /// Whether every file that ended has been handed to a thread to be closed.
    pub(super) fn is_closed(&self) -> bool {
        self.ended.is_empty()
    }

    fn next_to_open(&mut self) -> Option<Vec<Submission>> {
        let count = BATCH.min(self.queued.len());
        if count == 0 || self.open + count > OPEN_MAX {
            return None;
        }
        self.open += count;
        Some(self.queued.drain(..count).collect())
    }

    /// A batch at a time, or what there is if no other file is open to make it grow.
    fn next_to_close(&mut self) -> Option<Vec<Arc<OpenFile>>> {
        let is_batch = self.ended.len() >= BATCH || self.open == self.ended.len();
        (!self.ended.is_empty() && is_batch).then(|| mem::take(&mut self.ended))
    }

    /// Queued, and open.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.queued.len(), self.open)
    }
}

impl Driver {
    pub(super) fn open_paths(&mut self) {
        while let Some(batch) = self.paths.next_to_open() {
            self.ask(move || {
                let open = |submission| Opened { result: open_target(&submission), submission };
                Answer::Opened(batch.into_iter().map(open).collect())
            });
        }
    }

    pub(super) fn opened(&mut self, opened: Opened) {
        let Opened { mut submission, result } = opened;
        match result {
            Err(error) => {
                self.paths.open -= 1;
                self.settle_unopened(submission, error);
            }
            Ok(file) => {
                file.unsettled.fetch_add(1, Ordering::AcqRel);
                if submission.direction == Direction::Write {
                    submission.accepted = Some(file.inode.accept_write(submission.position + submission.len));
                }
                let key = self.admit(submission, file);
                if self.stopping {
                    self.requests[key].fail(0, Error::new(ErrorKind::Canceled, "open"));
                }
                self.ready(key);
            }
        }
    }

    pub(super) fn close_paths(&mut self) {
        if let Some(files) = self.paths.next_to_close() {
            self.ask(move || {
                let count = files.len();
                for file in files {
                    // Nothing was promised about what close reports; a write that needs to know syncs.
                    drop(file.close());
                }
                Answer::PathsClosed(count)
            });
        }
    }

    pub(super) fn paths_closed(&mut self, count: usize) {
        self.paths.open -= count;
    }
}

/// Opens the file of a path request, and checks its size if all of it is wanted.
fn open_target(submission: &Submission) -> Result<Arc<OpenFile>, Error> {
    // Only path requests are queued here; for any other there is nothing to open.
    let Target::Path(target) = &submission.target else { return Err(Error::new(ErrorKind::Invalid, "open")) };
    let PathTarget { path, whole, mode } = &**target;
    let options = match submission.direction {
        Direction::Read => OpenOptions::new().read(true),
        Direction::Write => OpenOptions::new().write(true).create(true).mode(*mode),
    };
    let file = open::open(path, &options)?;
    if *whole && submission.direction == Direction::Read {
        let size = file.inode.size();
        if size != submission.len {
            let advice = format!("the file has {size} bytes, the buffer {}", submission.len);
            return Err(Error::new(ErrorKind::SizeMismatch, "read").at(path).advise(advice));
        }
    }
    Ok(Arc::new(file))
}
