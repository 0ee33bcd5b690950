//! The driver: the one thread that admits, submits, reaps and retries.
//!
//! ```text
//!   producers ──► inbox ──► queues ──► admit ──► blocks in flight ──► complete ──► settle ──► whoever asked
//!                             ▲          │ budget, handle, locks         │
//!                             └──────────┴──── try again ◄───────────────┘
//!                                  helper threads: open, extend, trim, sync, close
//! ```
//!
//! One turn of the loop: take the inbox, admit what the budget allows, tell who has finished, then submit and sleep in one system call until
//! something completes or somebody writes. The thread never blocks anywhere else, holds no lock across a call, and owns all state below.
//!
//! **Ownership.** A request's memory belongs to the driver from acceptance until `settle`. It settles when nothing of it is in flight; an
//! operation that was handed to the backend stays in the table of blocks until its completion arrives, whoever lost interest meanwhile.
//!
//! **Shutdown.** Intake is closed, queued requests settle as cancelled, everything at the device is waited for without a time limit.
//!
//! **A lost ring.** Operations in flight fail as lost; their memory is leaked and counted, never freed, because the kernel may still write to
//! it. Everything else goes on with the `threads` backend.

mod admit;
#[cfg(feature = "sim")]
mod audit;
mod complete;
mod control;
mod core;
pub(crate) mod request;

use crate::backend::start::BackendReport;
use crate::backend::{Backend, BackendKind, Done, threads::Threads};
use crate::completion::{Completion, Outcome, Receipt};
use crate::error::{Error, ErrorKind};
use crate::inbox::Inbox;
use crate::inode::{Accepted, GiveUp};
use crate::open::OpenFile;
use crate::planted::{PlantedBug, planted};
use crate::slots::{Key, Slots};
use crate::stats::{add, sub};
use crate::sys::Errno;
use admit::DeviceQueue;
pub(crate) use control::{Barrier, Control, Use};
pub(crate) use core::Core;
use request::{Block, Request, Submission, Target, Waits};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// What producers and helper threads leave in the inbox.
pub(crate) enum Message {
    Submit(Submission),
    Control(Control),
    /// A waiter of this request was woken.
    Resume(Key),
    /// A waiter of this control was woken.
    ResumeControl(Key),
    /// The files of path requests were opened, or not.
    Opened(Vec<Opened>),
    /// Room was made for a write, or not.
    Extended(Key, Result<crate::inode::Extension, Error>),
    /// A helper has carried out an operation that the ring could not.
    Transferred(Done),
    /// The bytes of these blocks were copied to where they are wanted.
    Copied(Vec<Key>),
    /// The end of the file was put in order after a write.
    Trimmed(Key, Result<(), Error>),
    /// So many files of path requests were closed.
    PathsClosed(usize),
    /// A helper has run a control.
    ControlDone,
    /// Nothing uses the file's descriptor any more: a close may go on.
    Unused(Arc<OpenFile>),
    Shutdown,
}

pub(crate) struct Opened {
    submission: Submission,
    result: Result<Arc<OpenFile>, Error>,
}

/// An outcome that is yet to be told.
struct Settled {
    completion: Arc<dyn Completion>,
    outcome: Outcome,
    /// The file, which may be closed only when all its outcomes have been told. A path request's file is closed by other means.
    file: Option<Arc<OpenFile>>,
}

pub(crate) struct Driver {
    core: Arc<Core>,
    backend: Box<dyn Backend>,
    /// Beside a ring: for files that must not be given to it. Started when the first one is met.
    off_ring: Option<Threads<Message>>,
    requests: Slots<Request>,
    blocks: Slots<Block>,
    controls: Slots<Control>,
    devices: Vec<DeviceQueue>,
    device_index: HashMap<u64, usize>,
    /// Path requests whose file is not open yet.
    paths: VecDeque<Submission>,
    /// Path requests whose file is being opened, is open, or is being closed.
    open_paths: usize,
    /// Files of path requests that have ended, to be closed.
    path_files: Vec<Arc<OpenFile>>,
    /// Requests for which room is being made.
    extending: usize,
    /// Helper jobs that will answer.
    jobs: usize,
    /// Requests that wait for a place in their handle's window, by the handle's number.
    handle_waiters: BTreeMap<u64, VecDeque<Key>>,
    /// Large copies out of bounce blocks, to be made at the end of this turn.
    copies: Vec<complete::Copy>,
    settled: Vec<Settled>,
    /// Allocations that a turn fills and empties.
    messages: Vec<Message>,
    done: Vec<Done>,
    /// When this half of the turn began: what happens in it is not worth a clock of its own.
    now: Instant,
    stopping: bool,
    waker: Arc<dyn crate::inode::Retry>,
    control_waker: Arc<dyn crate::inode::Retry>,
}

struct Resume(Arc<Inbox<Message>>);

impl crate::inode::Retry for Resume {
    fn retry(&self, key: Key) {
        self.0.post(Message::Resume(key));
    }
}

struct ResumeControl(Arc<Inbox<Message>>);

impl crate::inode::Retry for ResumeControl {
    fn retry(&self, key: Key) {
        self.0.post(Message::ResumeControl(key));
    }
}

impl Driver {
    pub(crate) fn new(core: Arc<Core>, backend: Box<dyn Backend>) -> Self {
        Self {
            waker: Arc::new(Resume(Arc::clone(&core.inbox))),
            control_waker: Arc::new(ResumeControl(Arc::clone(&core.inbox))),
            core,
            backend,
            off_ring: None,
            requests: Slots::new(),
            blocks: Slots::new(),
            controls: Slots::new(),
            devices: Vec::new(),
            device_index: HashMap::new(),
            paths: VecDeque::new(),
            open_paths: 0,
            path_files: Vec::new(),
            extending: 0,
            jobs: 0,
            handle_waiters: BTreeMap::new(),
            copies: Vec::new(),
            settled: Vec::new(),
            messages: Vec::new(),
            done: Vec::new(),
            now: Instant::now(),
            stopping: false,
        }
    }

    /// Runs until shutdown has drained everything.
    pub(crate) fn run(mut self) {
        while self.turn() {}
    }

    /// One turn of the loop. Returns whether there is another.
    fn turn(&mut self) -> bool {
        let Some(sleep) = self.work() else { return false };
        self.rest(sleep);
        true
    }

    /// The first half of a turn: everything that can be done now. Returns whether the driver may sleep, or `None` when shutdown has drained
    /// everything.
    pub(crate) fn work(&mut self) -> Option<bool> {
        let mut messages = mem::take(&mut self.messages);
        self.core.inbox.take(&mut messages);
        self.now = Instant::now();
        for message in messages.drain(..) {
            self.receive(message);
        }
        self.messages = messages;
        if self.core.inbox.take_sweep() {
            self.sweep();
        }
        self.admit();
        self.copy_away();
        self.close_paths();
        self.tell();
        if self.stopping && self.is_drained() {
            return None;
        }
        Some(self.core.inbox.park())
    }

    /// The second half: submits, sleeps until something completes or somebody writes, and applies what has completed.
    pub(crate) fn rest(&mut self, sleep: bool) {
        let mut completed = mem::take(&mut self.done);
        if let Some(threads) = &mut self.off_ring {
            // They are never lost. When one of them is done it wakes the driver, wherever that sleeps.
            let _ = threads.submit();
        }
        let waited = self.backend.wait(sleep, &mut completed);
        self.core.inbox.unpark();
        self.now = Instant::now();
        if let Some(threads) = &mut self.off_ring {
            // Only now: a wake that came before would be forgotten with what it was for.
            let _ = threads.wait(false, &mut completed);
        }
        for done in completed.drain(..) {
            self.complete(done);
        }
        self.done = completed;
        self.copy_away();
        if let Err(errno) = waited {
            self.lose_backend(errno);
        }
        self.tell();
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Submit(submission) => self.accept(submission),
            Message::Control(control) => self.accept_control(control),
            Message::Resume(key) => self.resume(key),
            Message::ResumeControl(key) => self.try_control(key),
            Message::Opened(batch) => {
                self.jobs -= 1;
                for opened in batch {
                    self.opened(opened);
                }
            }
            Message::Extended(key, result) => self.extended(key, result),
            Message::Transferred(done) => {
                self.jobs -= 1;
                self.complete(done);
            }
            Message::Copied(keys) => {
                self.jobs -= 1;
                for key in keys {
                    complete::retire(self, key);
                }
            }
            Message::Trimmed(key, result) => self.trimmed(key, result),
            Message::PathsClosed(count) => {
                self.jobs -= 1;
                self.open_paths -= count;
            }
            Message::ControlDone => self.jobs -= 1,
            Message::Unused(file) => {
                self.try_closes(&file);
                self.release(file);
            }
            Message::Shutdown => self.stop(),
        }
    }

    /// Runs `job` on a helper thread; its answer comes through the inbox.
    fn help(&mut self, job: impl FnOnce() -> Message + Send + 'static) {
        self.jobs += 1;
        let inbox = Arc::clone(&self.core.inbox);
        self.core.blocking.run(Box::new(move || inbox.post(job())));
    }

    /// Hands the large copies of this turn to helpers that have nothing else to do; makes what is left over itself.
    fn copy_away(&mut self) {
        /// Two threads copy as fast as most machines' memory goes.
        const COPIERS: usize = 2;
        if self.copies.is_empty() {
            return;
        }
        let mut copies = mem::take(&mut self.copies);
        let share = copies.len().div_ceil(COPIERS);
        while !copies.is_empty() {
            let part = copies.split_off(copies.len().saturating_sub(share));
            let inbox = Arc::clone(&self.core.inbox);
            let job = Box::new(move || {
                part.iter().for_each(complete::Copy::run);
                inbox.post(Message::Copied(part.iter().map(|copy| copy.key).collect()));
            });
            self.jobs += 1;
            if let Err(job) = self.core.blocking.try_run(job) {
                job();
            }
        }
    }

    /// A woken request tries again.
    fn resume(&mut self, key: Key) {
        let Some(request) = self.requests.get_mut(key) else { return };
        if request.waits != Waits::Parked {
            return;
        }
        request.waits = Waits::No;
        let (device, large) = (request.device, request.submission.len > request.block_bytes);
        self.devices[device].ready(key, large);
    }

    // ---- ends ----

    /// Called when a request has nothing in flight and is to issue nothing more: puts the end of the file in order, then settles.
    fn conclude(&mut self, key: Key) {
        let Some(request) = self.requests.get_mut(key) else { return };
        let freed = planted(PlantedBug::FreesOnDrop) && request.submission.completion.canceled();
        if (request.in_flight > 0 && !freed) || request.waits == Waits::Helper {
            return;
        }
        if request.is_write() {
            if request.is_whole() && !request.active && request.failure.is_none() {
                // It never began. With no bytes to miss, that would look like success.
                request.fail(0, Error::new(ErrorKind::Canceled, "write"));
            }
            let succeeded = request.failure.is_none() && request.cursor == request.submission.len;
            let reached = match request.transferred() {
                0 => 0,
                transferred => request.submission.position + transferred,
            };
            let Some(accepted) = request.submission.accepted else { return self.settle(key) };
            if request.extension.is_some() {
                request.waits = Waits::Helper;
                let whole = request.is_whole() && succeeded;
                let file = Arc::clone(&request.file);
                self.help(move || Message::Trimmed(key, crate::extend::finish(&file, reached, accepted, whole)));
                return;
            }
            let GiveUp::Done(without_end) = request.file.inode.give_up_end(accepted, reached) else {
                request.waits = Waits::Helper;
                let file = Arc::clone(&request.file);
                self.help(move || Message::Trimmed(key, crate::extend::abandon(&file, reached, accepted)));
                return;
            };
            request.submission.accepted = Some(without_end);
        }
        self.settle(key);
    }

    fn trimmed(&mut self, key: Key, result: Result<(), Error>) {
        self.jobs -= 1;
        let Some(request) = self.requests.get_mut(key) else { return };
        request.waits = Waits::No;
        request.extension = None;
        request.submission.accepted = request.submission.accepted.map(Accepted::without_end);
        if let Err(error) = result {
            // The bytes are where they belong, the length is not: a failure, at the end of what was asked.
            let Submission { position, len, .. } = request.submission;
            request.fail(len, error.range(position, len, len));
        }
        self.settle(key);
    }

    /// Tells the inode, queues the outcome, closes the file of a path request.
    fn settle(&mut self, key: Key) {
        let Some(mut request) = self.requests.remove(key) else { return };
        let inode = &request.file.inode;
        if let Some(hold) = request.kept.take() {
            inode.unlock_range(hold);
        }
        if request.active {
            inode.leave_write();
        }
        if let Some(accepted) = request.submission.accepted {
            inode.settle_write(accepted);
        }
        let result = self.result_of(&mut request);
        let memory_lost = request.memory_lost;
        let Request { submission, file, .. } = request;
        if let Some(handle) = submission.handle.as_ref().map(|handle| handle.number()) {
            // It may just have been told that there is a place in the window: the next in line is told instead.
            self.wake_handle(handle);
        }
        self.count(&submission, &result);
        let file = if matches!(submission.target, Target::Path(_)) {
            self.path_files.push(file);
            None
        } else {
            Some(file)
        };
        if planted(PlantedBug::SettlesTwice) && result.is_err() {
            let outcome = Outcome { result: result.clone(), memory_lost };
            self.settled.push(Settled { completion: Arc::clone(&submission.completion), outcome, file: None });
        }
        self.settled.push(Settled { completion: submission.completion, outcome: Outcome { result, memory_lost }, file });
    }

    /// Drops a reference to a file; if it is the last one, on a helper thread, because closing may block.
    fn release(&self, file: Arc<OpenFile>) {
        if Arc::strong_count(&file) == 1 {
            self.core.blocking.run(Box::new(move || drop(file)));
        }
    }

    fn result_of(&self, request: &mut Request) -> Result<Receipt, Error> {
        let Submission { direction, position, len, exact, .. } = request.submission;
        let call = admit::call_name(direction);
        let transferred = request.transferred();
        let range = |error: Error| error.at(&request.file.path).range(position, len, transferred);
        if let Some((_, error)) = request.failure.take() {
            return Err(range(error));
        }
        if request.eof.is_some() && exact {
            return Err(range(Error::new(ErrorKind::Eof, call)));
        }
        if request.eof.is_none() && transferred < len {
            return Err(range(Error::new(ErrorKind::Canceled, call)));
        }
        let now = self.now;
        let tally = &request.tally;
        let started = tally.first_block_at.unwrap_or(now);
        Ok(Receipt {
            bytes: transferred,
            backend: if request.file.blocks_submitters { BackendKind::Threads } else { self.backend.kind() },
            direct: !tally.buffered,
            blocks: tally.blocks,
            bounced: tally.bounced,
            resumed: tally.resumed,
            retried: tally.retried,
            queue: started.saturating_duration_since(request.submission.accepted_at),
            device: now.saturating_duration_since(started),
        })
    }

    fn count(&self, submission: &Submission, result: &Result<Receipt, Error>) {
        let counters = &self.core.counters;
        sub(&counters.queued, 1);
        match result {
            Ok(receipt) => {
                add(&counters.completed, 1);
                let moved =
                    if submission.direction == crate::plan::Direction::Read { &counters.read_bytes } else { &counters.written_bytes };
                add(moved, receipt.bytes);
                counters.latency.record((receipt.queue + receipt.device).as_micros() as u64);
            }
            Err(error) if error.kind() == ErrorKind::Canceled => add(&counters.canceled, 1),
            Err(_) => add(&counters.failed, 1),
        }
    }

    /// A request that never got as far as a file.
    fn settle_unopened(&mut self, submission: Submission, error: Error) {
        let Submission { position, len, .. } = submission;
        let result = Err(error.range(position, len, 0));
        if let (Some(accepted), Target::File(file)) = (submission.accepted, &submission.target) {
            file.inode.settle_write(accepted);
        }
        self.count(&submission, &result);
        let file = if let Target::File(file) = submission.target { Some(file) } else { None };
        self.settled.push(Settled { completion: submission.completion, outcome: Outcome { result, memory_lost: false }, file });
    }

    /// Tells everybody whose request has ended. At the end of a batch, so that one wake serves them all.
    fn tell(&mut self) {
        let mut settled = mem::take(&mut self.settled);
        for Settled { completion, outcome, file } in settled.drain(..) {
            completion.settle(outcome);
            let Some(file) = file else { continue };
            // Only now, so that a close ends after everything it waited for.
            if file.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.try_closes(&file);
            }
            self.release(file);
        }
        // Telling settles nothing further; the allocation goes on to serve the next batch.
        self.settled = settled;
    }

    // ---- cancellation, shutdown, loss ----

    /// Drops every request whose owner has lost interest: queued ones at once, the others as soon as nothing of them is in flight.
    fn sweep(&mut self) {
        let stopping = self.stopping;
        let gone = |submission: &Submission| stopping || submission.completion.canceled();
        let mut dropped = Vec::new();
        take_if(&mut self.paths, &mut dropped, gone);
        for device in &mut self.devices {
            for queue in device.fresh_queues() {
                take_if(queue, &mut dropped, gone);
            }
        }
        for submission in dropped {
            self.drop_queued(submission);
        }
        for key in self.requests.keys() {
            let Some(request) = self.requests.get_mut(key) else { continue };
            if stopping && !request.is_stopped() && request.cursor < request.submission.len {
                let canceled = Error::new(ErrorKind::Canceled, admit::call_name(request.submission.direction));
                request.fail(request.cursor, canceled.advise("the engine is shutting down"));
            }
            if request.is_stopped() {
                if request.waits == Waits::Parked {
                    request.waits = Waits::No;
                }
                self.conclude(key);
            }
        }
        self.sweep_controls();
        // Whoever was about to take a place in a handle's window may just have left: the next in line is told.
        for handle in self.handle_waiters.keys().copied().collect::<Vec<_>>() {
            self.wake_handle(handle);
        }
    }

    /// A queued request that leaves: if it was a write that others counted on to move the end of the file, they are told.
    fn drop_queued(&mut self, mut submission: Submission) {
        let error = Error::new(ErrorKind::Canceled, admit::call_name(submission.direction));
        if let (Target::File(file), Some(accepted)) = (&submission.target, submission.accepted) {
            let file = Arc::clone(file);
            if let GiveUp::Done(without_end) = file.inode.give_up_end(accepted, 0) {
                submission.accepted = Some(without_end);
                return self.settle_unopened(submission, error.at(&file.path));
            }
            // Let it become a request and conclude: one path for all that.
            let device = self.device_of(&file);
            let block_bytes = self.block_bytes(&submission);
            let mut request = Request::new(submission, file, device, block_bytes);
            request.fail(0, error);
            let key = self.requests.insert(request);
            self.conclude(key);
            return;
        }
        let error = match &submission.target {
            Target::File(file) => error.at(&file.path),
            Target::Path(path) => error.at(&path.path),
        };
        self.settle_unopened(submission, error);
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.sweep();
    }

    fn is_drained(&self) -> bool {
        let device_is_done = self.requests.len() == 0 && self.blocks.len() == 0;
        (device_is_done || planted(PlantedBug::ClosesEarly))
            && self.controls.len() == 0
            && self.jobs == 0
            && self.path_files.is_empty()
            && self.settled.is_empty()
    }

    /// The backend will never report on what it holds.
    fn lose_backend(&mut self, errno: Errno) {
        let counters = Arc::clone(&self.core.counters);
        let mut affected = Vec::new();
        for key in self.blocks.keys() {
            // What a helper is working on, or waits for one, the backend never had, or has given back.
            if self.blocks.get(key).is_none_or(|block| !block.at_device) {
                continue;
            }
            let Some(block) = self.blocks.remove(key) else { continue };
            add(&counters.leaked, 1);
            add(&counters.leaked_bytes, block.extent.file_len);
            self.count_out(&block);
            self.give_back(&block);
            if let Some(request) = self.requests.get_mut(block.request) {
                request.in_flight -= 1;
                request.memory_lost = true;
                let lost = Error::new(ErrorKind::Lost, admit::call_name(request.submission.direction));
                request.fail(block.extent.offset, lost.advise(format!("the ring failed with error {errno}")));
                affected.push(block.request);
            }
            // The kernel may still write to the bounce block.
            mem::forget(block.bounce);
        }
        let reason = format!("the ring was lost while running (error {errno}); new requests go to threads");
        match self.backend.successor() {
            Ok(successor) => {
                self.backend = successor;
                let mut report = self.core.report.lock().unwrap_or_else(PoisonError::into_inner);
                *report = BackendReport { kind: self.backend.kind(), reason, flags: Vec::new(), ring_entries: 0 };
            }
            // No ring and no thread: the next wait fails again, and everything submitted until then fails as lost.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
        for key in affected {
            self.conclude(key);
        }
    }
}

/// Moves the elements that match from a queue to a list, keeping the order of the others.
fn take_if(queue: &mut VecDeque<Submission>, taken: &mut Vec<Submission>, matches: impl Fn(&Submission) -> bool) {
    if queue.iter().any(&matches) {
        for submission in mem::take(queue) {
            if matches(&submission) { taken.push(submission) } else { queue.push_back(submission) }
        }
    }
}

/// One completion, applied. See [`complete`].
impl Driver {
    fn complete(&mut self, done: Done) {
        complete::apply(self, done);
    }
}
