//! The blocking threads, for calls that can block: open, stat, fallocate, truncate, fsync, close,
//! unmapping, verification.
//!
//! Neither the caller's thread nor the driver may wait for these. A job never waits for another
//! job, and what is stuck holds up only its own kind:
//!
//! * Jobs stand in [`Line`]s, one per file system and kind of call. At most [`LINE_JOBS_MAX`] of a
//!   line run at once, and of work on memory half as many as there are processors. So a file system that does not answer keeps that number of threads, and no
//!   other line notices. Lines take turns.
//! * The file system of a job that opens a path is not known yet. Its line is that of the path's
//!   directory. One that takes longer than [`LONG`] no longer counts, and adds a place to its line.
//!
//! Threads are started when a job finds none idle. More than [`BASE`] work at once only if none of
//! them has finished anything for [`PATIENCE`]: then their number doubles, up to [`THREADS_MAX`].
//! [`THREADS_KEPT`] are kept for the engine's life. While something waits for one of these two
//! times to pass, one idle thread watches the clock; otherwise no thread ever wakes up by itself.
//! Shutdown runs what is queued, then joins the threads.

use crate::lanes::Lanes;
use crate::sync::thread::{JoinHandle, current};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::sys::thread;
use crate::timer;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// File-system calls mostly wait for the journal; more threads would wait for the same lock.
pub(crate) const LINE_JOBS_MAX: usize = 4;

/// Threads that work at once while some of them get on.
const BASE: usize = if cfg!(all(loom, test)) { 1 } else { 16 };

/// With this number of calls that never return, the rest waits.
const THREADS_MAX: usize = if cfg!(all(loom, test)) { 1 } else { 512 };

/// A thread that has nothing to do ends if there are more than these.
const THREADS_KEPT: usize = 64;

/// An open that takes longer does not count as one at work: its server may never answer.
const LONG: Duration = Duration::from_millis(100);

/// Without a job finished for this long, all threads count as stuck.
const PATIENCE: Duration = Duration::from_millis(5);

/// A model has no time.
const TIMED: bool = !cfg!(all(loom, test));

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Which jobs share a fate: if one of them is stuck, the others of its line can be, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// Waits for no file system: unmapping, reports.
    Memory,
    /// Copies bytes of requests. Their memory can be a file's.
    Copy,
    /// Makes memory of requests present.
    Populate,
    /// A short call on a file of this file system.
    Mount(u64),
    /// A flush on this file system, which can take long.
    Sync(u64),
    /// Reads much of a file of this file system.
    Verify(u64),
    /// Opens a path in this directory.
    Directory(u64),
}

impl Line {
    /// Jobs of the caller, of which nothing is known. As with opens, one that takes long no longer counts.
    pub(crate) const CALLER: Self = Self::Directory(0);

    /// How many jobs of the line run at once.
    pub(crate) fn jobs_max(self) -> usize {
        static MEMORY: OnceLock<usize> = OnceLock::new();
        match self {
            // They take a processor each, and the driver needs one.
            Self::Copy | Self::Populate => *MEMORY.get_or_init(|| (thread::processors() / 2).clamp(1, LINE_JOBS_MAX)),
            Self::Memory | Self::Mount(_) | Self::Sync(_) | Self::Verify(_) | Self::Directory(_) => LINE_JOBS_MAX,
        }
    }

    /// The line of a job that opens `path`.
    pub(crate) fn of_path(path: &Path) -> Self {
        let mut hasher = DefaultHasher::new();
        path.parent().hash(&mut hasher);
        Self::Directory(hasher.finish())
    }
}

/// Decides where and when a job runs: on [`Threads`], or in the order that a simulation draws.
pub(crate) trait Executor: Send + Sync {
    /// Runs a job now or later.
    fn run(&self, line: Line, job: Job);

    /// Runs a job that waits for no file system, but only if it need not wait for another, and starts no thread for it;
    /// else returns it.
    fn try_run_idle(&self, job: Job) -> Result<(), Job>;

    /// Runs a short job after a while.
    fn later(&self, delay: Duration, job: Job) {
        timer::later(delay, job);
    }

    /// Ends the executor after what is queued.
    fn stop(&self);
}

/// See the module.
pub(crate) struct BlockingPool {
    executor: Box<dyn Executor>,
}

impl Default for BlockingPool {
    fn default() -> Self {
        Self::new(Threads::default())
    }
}

impl BlockingPool {
    pub(crate) fn new(executor: impl Executor + 'static) -> Self {
        Self { executor: Box::new(executor) }
    }

    /// Queues a job.
    pub(crate) fn run(&self, line: Line, job: Job) {
        self.executor.run(line, job);
    }

    /// Runs a job only if a thread is idle; else gives it back.
    pub(crate) fn try_run_idle(&self, job: Job) -> Result<(), Job> {
        self.executor.try_run_idle(job)
    }

    /// See [`Executor::later`].
    pub(crate) fn later(&self, delay: Duration, job: Job) {
        self.executor.later(delay, job);
    }

    /// Runs what is queued and ends the threads. Later jobs run on their caller's thread.
    pub(crate) fn stop(&self) {
        self.executor.stop();
    }
}

/// The threads of an engine.
#[derive(Default)]
struct Threads {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    jobs: Lanes<Line, Job>,
    /// Jobs of unknown file systems that wait.
    opens: usize,
    /// Those at work that count, oldest first: since when, and which.
    young: VecDeque<(Instant, u64, Line)>,
    /// The number of the next open.
    number: u64,
    /// Jobs that run now, and how many can.
    working: usize,
    working_max: usize,
    /// When a job was last finished, or found all threads idle.
    progress: Instant,
    idle: usize,
    /// Threads that were started and have not looked for a job yet.
    starting: usize,
    /// An idle thread watches the clock.
    watched: bool,
    /// The index of the next thread, in its name.
    started: usize,
    threads: Vec<JoinHandle<()>>,
    stopping: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            jobs: Lanes::new(Line::jobs_max),
            opens: 0,
            young: VecDeque::new(),
            number: 0,
            working: 0,
            working_max: BASE,
            progress: Instant::now(),
            idle: 0,
            starting: 0,
            watched: false,
            started: 0,
            threads: Vec::new(),
            stopping: false,
        }
    }
}

impl State {
    fn push(&mut self, line: Line, job: Job) {
        self.opens += usize::from(matches!(line, Line::Directory(_)));
        if self.jobs.startable() == 0 {
            self.progress = Instant::now();
        }
        self.jobs.push(line, job);
    }

    /// The next job, its line, and the number of an open.
    fn pop(&mut self) -> Option<(Line, Option<u64>, Job)> {
        if self.working >= self.working_max {
            return None;
        }
        let (line, job) = self.jobs.pop()?;
        self.working += 1;
        let number = matches!(line, Line::Directory(_)).then(|| {
            self.opens -= 1;
            self.number += 1;
            self.young.push_back((Instant::now(), self.number, line));
            self.number
        });
        Some((line, number, job))
    }

    fn done(&mut self, line: Line, number: Option<u64>) {
        let index = number.map(|number| self.young.iter().position(|(_, other, _)| *other == number));
        if let Some(Some(index)) = index {
            self.young.remove(index);
        }
        self.jobs.done(line, index == Some(None));
        self.working -= 1;
        self.working_max = self.working_max.min(self.working + BASE).max(BASE);
        self.progress = Instant::now();
    }

    /// Whether jobs wait for nothing but a thread, and too many threads are at work.
    fn is_crowded(&self) -> bool {
        self.jobs.startable() > 0 && self.working >= self.working_max && self.working_max < THREADS_MAX
    }

    /// Looks at the clock: opens that take long no longer count, and where nothing gets on, more threads may work.
    fn look(&mut self) {
        while TIMED
            && let Some(&(since, _, line)) = self.young.front()
            && since.elapsed() >= LONG
        {
            self.young.pop_front();
            self.jobs.excuse(line);
        }
        if TIMED && self.is_crowded() && self.progress.elapsed() >= PATIENCE {
            self.working_max = (self.working_max * 2).min(THREADS_MAX);
            self.progress = Instant::now();
        }
    }

    /// When to look at the clock next, if something waits for that.
    fn next_look(&self) -> Option<Duration> {
        let oldest = self.young.front().filter(|_| self.opens > 0);
        let open = oldest.map(|(since, ..)| LONG.saturating_sub(since.elapsed()));
        let crowd = self.is_crowded().then(|| PATIENCE.saturating_sub(self.progress.elapsed()));
        open.into_iter().chain(crowd).min().filter(|_| TIMED)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: &Arc<Self>) {
        let mut state = self.lock();
        state.starting -= 1;
        loop {
            if let Some((line, number, job)) = state.pop() {
                drop(self.find_threads(state));
                job();
                state = self.lock();
                state.done(line, number);
                state.look();
                continue;
            }
            if state.stopping && state.jobs.queued() == 0 {
                // Others can be idle, and wait for the last job.
                self.work.notify_all();
                return;
            }
            if state.threads.len() > THREADS_KEPT && state.next_look().is_none() && !state.stopping {
                let id = current().id();
                state.threads.retain(|thread| thread.thread().id() != id);
                return;
            }
            state = self.sleep(state);
        }
    }

    /// Waits for work, and watches the clock if that is needed and no other thread does.
    fn sleep<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let look = state.next_look().filter(|_| !state.watched);
        state.idle += 1;
        state.watched |= look.is_some();
        let mut state = match look {
            None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(look) => self.work.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0,
        };
        state.idle -= 1;
        state.watched &= look.is_none();
        state.look();
        state
    }

    /// Makes sure that what can start, or has to be watched, finds a thread: wakes one that is idle, or starts one. Where nothing
    /// gets on, each thread that has found work starts two: hundreds that are started one by the other take long on a busy machine.
    fn find_threads<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let (starts, starting_max) = if state.working_max > BASE { (2, THREADS_MAX) } else { (1, 1) };
        for _ in 0..starts {
            let work = state.jobs.startable().min(state.working_max.saturating_sub(state.working));
            if work == 0 && (state.watched || state.next_look().is_none()) {
                break;
            }
            if state.idle > 0 {
                self.work.notify_one();
                break;
            }
            if state.starting >= starting_max.min(work.max(1)) || state.threads.len() >= THREADS_MAX || state.stopping {
                break;
            }
            let shared = Arc::clone(self);
            let index = state.started;
            // A failure is not final: the next job tries again, and a thread that is done looks for more.
            let Ok(handle) = thread::spawn(format!("deepring-help-{index}"), move || shared.run()) else { break };
            state.started += 1;
            state.starting += 1;
            state.threads.push(handle);
        }
        state
    }

    /// Finds a thread for a job that was queued. If none can be started at all, or no longer, the job runs here, because
    /// it must run.
    fn hand_out(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        let mut state = self.find_threads(state);
        while state.threads.is_empty()
            && let Some((line, job)) = state.jobs.take_any()
        {
            state.opens -= usize::from(matches!(line, Line::Directory(_)));
            drop(state);
            job();
            state = self.lock();
        }
    }
}

impl Executor for Threads {
    fn try_run_idle(&self, job: Job) -> Result<(), Job> {
        let mut state = self.shared.lock();
        if state.idle <= state.jobs.startable() || state.jobs.room(Line::Memory) == 0 {
            return Err(job);
        }
        state.push(Line::Memory, job);
        self.shared.hand_out(state);
        Ok(())
    }

    fn run(&self, line: Line, job: Job) {
        let mut state = self.shared.lock();
        state.push(line, job);
        self.shared.hand_out(state);
    }

    fn stop(&self) {
        let threads = {
            let mut state = self.shared.lock();
            state.stopping = true;
            std::mem::take(&mut state.threads)
        };
        self.shared.work.notify_all();
        for handle in threads {
            // A job can drop the last engine; its thread must not wait for itself.
            if handle.thread().id() != current().id() {
                // A job does not panic. If one did, its thread is gone, and no error is left to
                // handle.
                drop(handle.join());
            }
        }
    }
}
