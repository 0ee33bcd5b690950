//! An engine under test: the shipping driver, which the run turns by one half at a time, and the
//! jobs of its blocking threads, which the run takes out one by one.

use super::backend::SimBackend;
use super::jobs::JobQueue;
use super::kernel::Kernel;
use super::world;
use crate::backend::BackendKind;
use crate::backend::start::BackendReport;
use crate::blocking::BlockingPool;
use crate::config::Config;
use crate::deadlines::Deadlines;
use crate::driver::{Core, Driver, Message, Turn};
use crate::engine::Engine;
use crate::handle::Handle;
use crate::inbox::Inbox;
use crate::memory::Pool;
use crate::profile::Profiles;
use crate::share::Devices;
use crate::stats::Counters;
use crate::sys::Errno;
use crate::sys::event::Event;
use crate::sys::process::Process;
use crate::unwind::contain;
use crate::windows::Windows;
use std::sync::{Arc, Mutex};

/// Where the driver is in its loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first half of a turn.
    Awake,
    /// In its backend's wait. It sleeps only if the inbox was empty.
    Waiting { asleep: bool },
}

pub(crate) struct EngineUnderTest {
    index: usize,
    /// The public side. Dropped when shutdown begins.
    pub(crate) api: Option<Engine>,
    /// Dropped when shutdown has ended.
    driver: Option<Driver>,
    pub(crate) core: Arc<Core>,
    phase: Phase,
    jobs: JobQueue,
    /// When the next job runs, if there is one.
    pub(crate) job_at_ns: Option<u64>,
    pub(crate) handles: Vec<Arc<Handle>>,
}

impl EngineUnderTest {
    pub(crate) fn new(index: usize, config: Config, devices: Arc<Devices>) -> Result<Self, Errno> {
        let inbox: Arc<Inbox<Message>> = Arc::new(Inbox::new(Event::new()?));
        let counters = Arc::new(Counters::default());
        let jobs = JobQueue::default();
        let blocking = Arc::new(BlockingPool::new(jobs.clone()));
        let pool = Arc::new(Pool::new(Arc::clone(&counters), Arc::clone(&blocking), Some(Box::new(Kernel))));
        let report = BackendReport { kind: BackendKind::Uring, reason: "simulated".into(), flags: Vec::new(), ring_entries: 0 };
        let report = Mutex::new(report);
        let core = Arc::new(Core {
            closing: Arc::default(),
            deadlines: Deadlines::new(inbox.doorbell(), &blocking),
            inbox,
            blocking,
            pool,
            counters,
            report,
            config,
            process: Process::current(),
            devices,
            windows: Windows::default(),
            profiles: Profiles::off("simulated"),
        });
        let backend = Box::new(SimBackend::new(index, BackendKind::Uring));
        Ok(Self {
            index,
            api: Some(Engine::new(Arc::clone(&core), None)),
            driver: Some(Driver::new(Arc::clone(&core), backend)),
            core,
            phase: Phase::Awake,
            jobs,
            job_at_ns: None,
            handles: Vec::new(),
        })
    }

    /// Whether the driver can move: it has work, or a reason to end its wait. A driver that missed
    /// the wake of a message has none.
    pub(crate) fn can_turn(&self) -> bool {
        self.driver.is_some()
            && match self.phase {
                Phase::Awake | Phase::Waiting { asleep: false } => true,
                Phase::Waiting { asleep: true } => {
                    let completions = |world: &mut world::World| world.devices.has_completions(self.index, world.now_ns);
                    self.core.inbox.doorbell().is_signaled() || world::with(completions).unwrap_or(false)
                }
            }
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.driver.is_some() && self.phase == Phase::Waiting { asleep: true }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.driver.is_none()
    }

    /// What the engine's thread does last, after all jobs: messages that they left are dropped.
    pub(crate) fn end(&self) {
        self.core.inbox.end();
    }

    /// Half a turn, as a thread of the engine.
    pub(crate) fn turn(&mut self) {
        world::with(|world| world.in_engine = true);
        self.turn_driver();
        world::with(|world| world.in_engine = false);
    }

    /// The driver unwinds between two halves, as if it had panicked.
    pub(crate) fn unwind(&mut self) {
        let Some(driver) = self.driver.take() else { return };
        world::with(|world| {
            world.note(|| format!("the driver of engine {} unwinds", self.index));
            (world.in_engine, world.unwound) = (true, world.unwound + 1);
        });
        driver.collapse();
        self.core.blocking.stop();
        self.core.inbox.end();
        world::with(|world| world.in_engine = false);
    }

    fn turn_driver(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        match self.phase {
            Phase::Awake => match driver.run_ready() {
                Turn::Wait { sleep: asleep } => {
                    self.phase = Phase::Waiting { asleep };
                    // A backend's wait begins with submitting.
                    world::with(|world| world.submit(self.index));
                }
                Turn::Drained => self.driver = None,
            },
            Phase::Waiting { asleep } => {
                driver.wait_and_reap(asleep);
                self.phase = Phase::Awake;
            }
        }
    }

    /// Runs the queued job `index`.
    pub(crate) fn run_job(&self, index: usize) {
        if let Some(job) = self.jobs.take(index) {
            world::with(|world| world.in_engine = true);
            // As a thread of the pool does.
            contain(job);
            world::with(|world| world.in_engine = false);
        }
    }

    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// The first inconsistency in the driver's state, if there is one.
    pub(crate) fn audit(&mut self) -> Option<String> {
        self.driver.as_mut()?.audit().err()
    }

    /// The driver's unfinished work, for a report.
    pub(crate) fn describe(&self) -> String {
        match &self.driver {
            Some(driver) => format!("engine {} ({:?}): {}", self.index, self.phase, driver.describe()),
            None => format!("engine {}: ended", self.index),
        }
    }
}
