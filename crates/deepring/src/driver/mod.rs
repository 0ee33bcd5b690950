//! The driver: the one thread that admits, submits, reaps and retries.
//!
//! ```text
//!   producers ──► inbox ──► schedule ──► issue ──► blocks in flight ──► verdict ──► settle ──► completion
//!                              ▲           │ budget, window, locks         │
//!                              └───────────┴───── woken, resumed ◄─────────┘
//!                                 blocking threads: open, make room, trim, sync, close
//! ```
//!
//! One turn of the loop: take the inbox, issue what can go, deliver outcomes, then submit and sleep in one system call
//! until something completes or a message arrives. The thread blocks nowhere else, holds no lock across a call, and owns
//! all state below.
//!
//! | file | has |
//! |---|---|
//! | [`message`] | what arrives in the inbox |
//! | [`request`] | a request and the phases of its life |
//! | [`schedule`], [`flows`], [`window`] | who goes next on a device, and within a handle (pure) |
//! | [`device`], [`probe`] | what a device has in flight; how much it rewards (pure) |
//! | [`issue`] | from the schedule to a block in flight |
//! | [`block`], [`verdict`] | a block and its operations; what a result means (pure) |
//! | [`join`] | writes that share a unit |
//! | [`between`] | what waits for other copies of the engine |
//! | [`offload`] | copies, sums and page faults on blocking threads |
//! | [`summing`] | the checksum of a request |
//! | [`room`] | writes and the end of their file |
//! | [`paths`], [`directories`] | files of requests by path; who goes next (pure) |
//! | [`settle`] | outcomes and their delivery |
//! | [`control`] | sync, truncate, close |
//! | [`drain`] | cancellation, shutdown, a lost ring |
//! | [`collapse`] | the end of a driver that has unwound |
//!
//! **Ownership.** A request's memory belongs to the driver from acceptance until its outcome is delivered. It settles
//! when nothing of it is in flight. An operation that was handed to the backend stays in the table of blocks until its
//! completion arrives, canceled or not.
//!
//! **Keys.** A key that the driver itself holds names a request, block or control that exists, and is used as an index.
//! Only completions and wakes arrive with keys that can be stale, and are looked up.
//!
//! **Shutdown.** Intake is closed, queued requests settle as canceled, everything at the device is waited for without a
//! time limit.
//!
//! **A lost ring.** Operations in flight fail as lost; their memory is leaked and counted, never freed, because the
//! kernel can still write to it. Everything else goes on with the `threads` backend.
//!
//! **Panics.** The caller's code that runs here is contained, see [`crate::unwind`]. If the driver itself panics, which
//! is a bug, it ends as [`collapse`] says, and nothing waits for it.

#[cfg(any(debug_assertions, feature = "sim"))]
mod audit;
mod between;
mod block;
mod collapse;
mod control;
mod core;
mod device;
mod directories;
mod drain;
mod flows;
mod issue;
mod join;
mod message;
#[cfg(any(test, feature = "sim"))]
mod model;
mod offload;
mod paths;
mod probe;
pub(crate) mod request;
mod room;
mod schedule;
mod settle;
mod summing;
mod verdict;
mod window;

use crate::backend::{Backend, Done};
use crate::blocking::{Job, Line};
use crate::inbox::Inbox;
use crate::inode::Retry;
use crate::memory::Finder;
use crate::slots::{Key, Slots};
use crate::unwind::contain;
use between::Lines;
use block::Block;
use device::Device;
use issue::Queue;
use message::{Answer, Wake};
use offload::Offload;
use paths::Paths;
use request::Request;
use settle::Settled;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Instant;
use window::Window;

pub(crate) use control::{Barrier, Control, ControlJob, Use};
pub(crate) use core::Core;
pub(crate) use device::first_window;
pub(crate) use message::Message;
#[cfg(feature = "sim")]
pub(crate) use model::play;

pub(crate) struct Driver {
    core: Arc<Core>,
    backend: Box<dyn Backend>,
    /// Beside a ring: threads for what must not be given to it. Started when they are first needed.
    off_ring: Option<Box<dyn Backend>>,
    requests: Slots<Request>,
    blocks: Slots<Block>,
    controls: Slots<Control>,
    devices: Vec<Device>,
    device_index: HashMap<u64, usize>,
    queues: Vec<Queue>,
    /// By device and file system.
    queue_index: HashMap<(u64, u64), usize>,
    /// Where the next turn begins to issue.
    first_queue: usize,
    /// The windows of handles that have blocks in flight or requests in line: of each handle one per queue, so that its
    /// requests to one that is stuck leave room for the others. By the handle's number and the queue.
    windows: BTreeMap<(u64, usize), Window>,
    paths: Paths,
    /// Requests that wait for other copies of the engine, by file.
    lines: Lines,
    /// Jobs of blocking threads that are not answered yet.
    jobs: usize,
    /// Work on memory for blocking threads, handed out at the end of this half turn.
    offloads: Vec<Offload>,
    /// Sums for blocking threads, handed out when the device has its next blocks.
    sums: Vec<Offload>,
    /// Finds memory that is not present.
    fresh: Finder,
    settled: Vec<Settled>,
    /// Operations that the page cache has done.
    from_cache: Vec<Done>,
    /// Allocations that a turn fills and empties.
    messages: Vec<Message>,
    done: Vec<Done>,
    /// When this half of the turn began: within it, the clock is not read again.
    now: Instant,
    started: Instant,
    stopping: bool,
    retry_request: Arc<dyn Retry>,
    retry_control: Arc<dyn Retry>,
}

struct RetryRequest(Arc<Inbox<Message>>);

impl Retry for RetryRequest {
    fn retry(&self, key: Key) {
        self.0.post(Message::Wake(Wake::Request(key)));
    }
}

struct RetryControl(Arc<Inbox<Message>>);

impl Retry for RetryControl {
    fn retry(&self, key: Key) {
        self.0.post(Message::Wake(Wake::Control(key)));
    }
}

impl Driver {
    pub(crate) fn new(core: Arc<Core>, backend: Box<dyn Backend>) -> Self {
        Self {
            retry_request: Arc::new(RetryRequest(Arc::clone(&core.inbox))),
            retry_control: Arc::new(RetryControl(Arc::clone(&core.inbox))),
            core,
            backend,
            off_ring: None,
            requests: Slots::new(),
            blocks: Slots::new(),
            controls: Slots::new(),
            devices: Vec::new(),
            device_index: HashMap::new(),
            queues: Vec::new(),
            queue_index: HashMap::new(),
            first_queue: 0,
            windows: BTreeMap::new(),
            paths: Paths::default(),
            lines: Lines::default(),
            jobs: 0,
            offloads: Vec::new(),
            sums: Vec::new(),
            fresh: Finder::default(),
            settled: Vec::new(),
            from_cache: Vec::new(),
            messages: Vec::new(),
            done: Vec::new(),
            now: Instant::now(),
            started: Instant::now(),
            stopping: false,
        }
    }

    /// Runs until shutdown has drained everything.
    pub(crate) fn run(mut self) {
        loop {
            match contain(|| self.turn()) {
                Some(true) => {}
                Some(false) => return,
                None => return self.collapse(),
            }
        }
    }

    /// One turn of the loop. Returns whether there is another.
    fn turn(&mut self) -> bool {
        match self.run_ready() {
            Turn::Wait { sleep } => self.wait_and_reap(sleep),
            Turn::Drained => return false,
        }
        true
    }

    /// The first half of a turn: everything that can be done now.
    pub(crate) fn run_ready(&mut self) -> Turn {
        self.core.inbox.take(&mut self.messages);
        self.now = Instant::now();
        // One by one, so that the others are not lost with one that is received by a driver that panics.
        for index in 0..self.messages.len() {
            let message = mem::replace(&mut self.messages[index], Message::Received);
            self.receive(message);
        }
        self.messages.clear();
        if self.core.inbox.take_sweep() {
            self.sweep();
        }
        self.issue_all();
        let from_cache = mem::take(&mut self.from_cache);
        let is_idle = from_cache.is_empty();
        for done in from_cache {
            self.complete(done);
        }
        self.hand_out_work();
        self.hand_out_sums();
        self.deliver_outcomes();
        #[cfg(debug_assertions)]
        self.check();
        if self.stopping && self.is_drained() {
            return Turn::Drained;
        }
        // What has come from the page cache makes room for more.
        Turn::Wait { sleep: is_idle && self.from_cache.is_empty() && self.core.inbox.park() }
    }

    /// The second half: submits, sleeps until something completes or a message arrives, and applies what has completed.
    pub(crate) fn wait_and_reap(&mut self, sleep: bool) {
        let mut completed = mem::take(&mut self.done);
        if let Some(threads) = &mut self.off_ring {
            // These threads are never lost. One that is done wakes the driver, whichever backend that sleeps in.
            let _ = threads.submit();
        }
        let waited = self.backend.wait(sleep, &mut completed);
        self.core.inbox.unpark();
        self.now = Instant::now();
        if let Some(threads) = &mut self.off_ring {
            // After the wait: what was done before a wake must be collected with it.
            let _ = threads.wait(false, &mut completed);
        }
        for done in completed.drain(..) {
            self.complete(done);
        }
        self.done = completed;
        self.hand_out_work();
        if let Err(errno) = waited {
            self.lose_backend(errno);
        }
        self.deliver_outcomes();
        #[cfg(debug_assertions)]
        self.check();
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Submit(submission) => self.accept(submission),
            Message::Control(control) => self.accept_control(control),
            Message::Wake(Wake::Request(key)) => self.wake_request(key),
            Message::Wake(Wake::Line(number)) => self.retry_line(number),
            Message::Wake(Wake::Paths) => self.retry_paths(),
            Message::Wake(Wake::Control(key)) => self.try_control(key),
            Message::Wake(Wake::File(file)) => {
                self.try_closes(&file);
                self.release(file);
            }
            Message::Answer(answer) => {
                self.jobs -= 1;
                self.take_answer(answer);
            }
            Message::Shutdown => self.stop(),
            Message::Received => {}
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Opened(batch) => self.opened(batch),
            Answer::RoomMade(key, result) => self.room_made(key, result),
            Answer::Transferred(done) => self.complete(done),
            Answer::Offloaded(offloads) => self.offloaded(offloads),
            Answer::Trimmed(key, result) => self.trimmed(key, result),
            Answer::Closed(key, result) => self.closed(key, result),
            Answer::Examined(number, place, obstacle) => self.examined(number, place, obstacle),
            Answer::Profiled(device, seeds) => {
                if let Some(seeds) = seeds {
                    self.devices[device].seed(seeds);
                }
            }
            Answer::ControlRan => {}
            // As if it had panicked here.
            Answer::Panicked => resume_unwind(Box::new("a job of the driver's panicked")),
        }
    }

    /// Runs `job` on a blocking thread, in this line. Its answer arrives in the inbox.
    fn ask(&mut self, line: Line, job: impl FnOnce() -> Answer + Send + 'static) {
        let job = self.job(job);
        self.core.blocking.run(line, job);
    }

    /// A job that answers whatever happens.
    fn job(&mut self, job: impl FnOnce() -> Answer + Send + 'static) -> Job {
        self.jobs += 1;
        let inbox = Arc::clone(&self.core.inbox);
        Box::new(move || inbox.post(Message::Answer(contain(job).unwrap_or(Answer::Panicked))))
    }
}

/// What follows the first half of a turn.
pub(crate) enum Turn {
    /// The second half. The driver can `sleep` if no message has arrived since.
    Wait { sleep: bool },
    /// Nothing: shutdown has drained everything.
    Drained,
}
