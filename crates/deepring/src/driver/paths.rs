//! Requests by path: their files are opened when the requests are admitted, and closed before they settle, so that any
//! number can be queued under a small limit on descriptors.
//!
//! **Descriptors run short** for other reasons too: the program has many open. An open that fails for that is final only
//! if no file of a path request is open in the process. Otherwise the request goes back to the head of the queue, and as many files as
//! are open now become the limit. It grows again while opens succeed, and by one each [`PAUSE`]: the files that are open
//! can be where nothing answers, and none of them is ever closed.

use super::Driver;
use super::directories::Directories;
use super::message::{Answer, Message, Opened, Wake};
use super::request::{Event, PathTarget, Submission, Target};
use crate::blocking::Line;
use crate::error::{Error, ErrorKind};
use crate::open::shortage::{self, Passing};
use crate::open::{self, OpenFile, OpenOptions};
use crate::plan::Direction;
use crate::planted::{PlantedBug, planted};
use crate::slots::Key;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Files of path requests that are open at once: few enough for `ulimit -n 256`. Requests in one directory get half of
/// them, which is more than is in flight of files of half a block.
const OPEN_MAX: usize = 192;

/// Files a blocking thread opens per job: waking a thread costs as much as opening a file.
const BATCH: usize = 8;

/// How long a limit that is too low holds up a request.
const PAUSE: Duration = Duration::from_millis(50);

/// The path requests of an engine.
pub(super) struct Paths {
    /// Requests whose file is not open yet.
    queued: Directories<Line, Submission>,
    /// Files that are being opened, are open, or are being closed.
    open: usize,
    /// The limit on these: lower than [`OPEN_MAX`] after descriptors ran short.
    open_max: usize,
    /// Opens that succeeded since the limit changed.
    opened: usize,
    /// A timer will raise the limit.
    waiting: bool,
}

impl Default for Paths {
    fn default() -> Self {
        Self { queued: Directories::new(), open: 0, open_max: OPEN_MAX, opened: 0, waiting: false }
    }
}

impl Paths {
    pub(super) fn push(&mut self, submission: Submission) {
        self.queued.push(line_of(&submission), submission);
    }

    /// The file of this request was closed, or could not be opened.
    pub(super) fn ended(&mut self, submission: &Submission) {
        self.open -= 1;
        self.queued.ended(line_of(submission));
        if self.open == 0 {
            self.open_max = OPEN_MAX;
        }
    }

    /// Moves the queued requests that match to `taken`.
    pub(super) fn sweep(&mut self, gone: impl Fn(&Submission) -> bool, taken: &mut Vec<Submission>) {
        self.queued.sweep(gone, taken);
    }

    fn next_to_open(&mut self) -> Option<Vec<Submission>> {
        let free = self.open_max.saturating_sub(self.open);
        let batch = self.queued.next(free, BATCH, self.open_max < OPEN_MAX)?;
        self.open += batch.len();
        Some(batch)
    }

    /// A file was opened.
    fn succeeded(&mut self) {
        self.opened += 1;
        if self.open_max < OPEN_MAX && self.opened > self.open_max {
            self.open_max += 1;
            self.opened = 0;
        }
    }

    /// Descriptors or memory ran short for these. Returns whether a file is open whose end can help.
    fn starved<'a>(&mut self, submissions: impl Iterator<Item = &'a Submission>) -> bool {
        for submission in submissions {
            self.open -= 1;
            self.queued.ended(line_of(submission));
        }
        let can_wait = self.open > 0 || shortage::is_passing();
        (self.open_max, self.opened) = (if can_wait { self.open.max(1) } else { OPEN_MAX }, 0);
        can_wait
    }

    /// Whether requests wait because the limit is low.
    fn is_scarce(&self) -> bool {
        self.open_max < OPEN_MAX && !self.queued.is_empty()
    }

    fn push_first(&mut self, submission: Submission) {
        self.queued.push_first(line_of(&submission), submission);
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
            let (alone, line) = (self.paths.open == batch.len(), line_of(&batch[0]));
            self.ask(line, move || {
                let open = |submission| Opened { result: open_target(&submission, alone), submission };
                Answer::Opened(batch.into_iter().map(open).collect())
            });
        }
        if self.paths.is_scarce() && !self.paths.waiting {
            self.paths.waiting = true;
            let inbox = Arc::clone(&self.core.inbox);
            self.core.blocking.later(PAUSE, Box::new(move || inbox.post(Message::Wake(Wake::Paths))));
        }
    }

    pub(super) fn opened(&mut self, batch: Vec<Opened>) {
        let mut starved = Vec::new();
        for Opened { mut submission, result } in batch {
            match result {
                Err(error) if shortage::is_shortage(&error) => starved.push((submission, error)),
                Err(error) => {
                    self.paths.ended(&submission);
                    self.settle_unopened(submission, error);
                }
                Ok((file, passing)) => {
                    self.paths.succeeded();
                    file.unsettled.fetch_add(1, Ordering::AcqRel);
                    if submission.direction == Direction::Write {
                        submission.accepted = Some(file.inode.accept_write(submission.position + submission.len));
                    }
                    let queue = self.queue_of(&file);
                    let key = self.admit(submission, file, queue);
                    self.requests[key].passing = Some(passing);
                    if self.stopping {
                        self.requests[key].fail(0, Error::new(ErrorKind::Canceled, "open"));
                    }
                    self.ready(key);
                }
            }
        }
        if starved.is_empty() {
            return;
        }
        let can_wait = self.paths.starved(starved.iter().map(|(submission, _)| submission));
        // The last first, so that they stand in their order again.
        for (submission, error) in starved.into_iter().rev() {
            if self.stopping || submission.reply.canceled() {
                self.drop_queued(submission);
            } else if can_wait {
                self.paths.push_first(submission);
            } else {
                self.settle_unopened(submission, error);
            }
        }
    }

    /// It is time to try with one more file.
    pub(super) fn retry_paths(&mut self) {
        self.paths.waiting = false;
        self.paths.open_max = OPEN_MAX.min(self.paths.open_max + 1);
    }

    /// Closes the file of a path request that has done everything else.
    pub(super) fn close_path(&mut self, key: Key) {
        let request = &mut self.requests[key];
        let file = Arc::clone(&request.file);
        if planted(PlantedBug::SettlesBeforeClose) {
            self.ask(Line::Mount(file.fate), move || {
                drop(file.close());
                Answer::ControlRan
            });
            return self.settle(key);
        }
        request.step(Event::NeedsClose);
        self.ask(Line::Mount(file.fate), move || Answer::Closed(key, file.close()));
    }

    pub(super) fn closed(&mut self, key: Key, result: Result<(), Error>) {
        let request = &mut self.requests[key];
        if let Err(error) = result
            && request.has_succeeded()
        {
            // Where writes are sent late, this is the only report that they failed.
            request.fail(request.submission.len, error);
        }
        self.settle(key);
    }
}

/// The line that the file of a path request is opened in.
fn line_of(submission: &Submission) -> Line {
    if let Target::Path(target) = &submission.target { Line::of_path(&target.name.path) } else { Line::Memory }
}

/// Opens the file of a path request, and checks its size if all of it is wanted. `alone`: no other file of the engine's
/// path requests is open. If descriptors run short then, other engines have them, and it takes a moment.
fn open_target(submission: &Submission, alone: bool) -> Result<(Arc<OpenFile>, Passing), Error> {
    // Only path requests are queued here; for any other there is nothing to open.
    let Target::Path(target) = &submission.target else { return Err(Error::new(ErrorKind::Invalid, "open")) };
    let PathTarget { name, whole, mode } = &**target;
    let options = match submission.direction {
        Direction::Read => OpenOptions::new().read(true),
        Direction::Write => OpenOptions::new().write(true).create(true).mode(*mode),
    };
    let file = open::open(name, &options).inspect_err(|error| {
        if alone && shortage::is_shortage(error) && shortage::is_passing() {
            shortage::pause();
        }
    })?;
    if *whole && submission.direction == Direction::Read {
        let size = file.inode.size();
        if size != submission.len {
            let advice = format!("the file has {size} bytes, the buffer {}", submission.len);
            return Err(Error::new(ErrorKind::SizeMismatch, "read").at(&name.path).advise(advice));
        }
    }
    Ok((Arc::new(file), Passing::new()))
}
