//! One run: a world, one or two engines, a few files, a client that makes requests at random, and
//! the loop that moves them all.
//!
//! Everything happens on one thread. Each step draws one actor of those that can move: a driver
//! takes half a turn, a job runs, or the client makes or cancels a request. When no actor can move,
//! virtual time advances to the next event. A sleeping driver is called only if its inbox was
//! signaled or its device has completions. So a lost wake shows: no actor can move, and requests
//! are unsettled.

use super::engine::EngineUnderTest;
use super::model::{Model, fill};
use super::prng::Prng;
use super::profile::Profile;
use super::request::Request;
use super::world::{self, violate};
use crate::config::Config;
use crate::file::File;
use crate::inode::Inode;
use crate::open::{self, Name, OpenFile, OpenOptions};
use crate::share::Devices;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Steps per request after which a run counts as livelocked.
const STEPS_PER_OPERATION: u64 = 4000;

/// Small, so that the small requests of a run meet offloaded copies and fresh memory too.
pub(super) const OFFLOAD_BYTES: u64 = 4 << 10;

#[allow(clippy::struct_excessive_bools, reason = "independent facts about a file")]
pub(crate) struct SimFile {
    pub(crate) path: Arc<Path>,
    pub(crate) model: Model,
    pub(crate) exists: bool,
    /// Reads the file past the engine.
    pub(crate) probe: Option<std::fs::File>,
    pub(crate) number: u64,
    /// The engine's inode, kept alive for the run.
    pub(crate) inode: Option<Arc<Inode>>,
    pub(crate) sync_failed: bool,
    /// Another process has changed its length, and the engine has perhaps not noticed yet.
    pub(crate) size_outdated: bool,
    /// A trim of it has failed. The engine then relies on the size it has promised, so for the rest
    /// of the run no other process truncates the file.
    pub(crate) was_untrimmed: bool,
}

pub(crate) struct Opening {
    pub(crate) file: usize,
    pub(crate) engine: usize,
    /// Opened with [`open::Direct::Require`]: no buffered fallback.
    pub(crate) required: bool,
    /// `None` once it was closed or dropped.
    pub(crate) open: Option<File>,
    pub(crate) watch: Weak<OpenFile>,
    /// See [`world::Descriptor::opening`].
    pub(crate) number: u64,
}

/// Something that can move; the index is the engine's.
#[derive(Debug, Clone, Copy)]
enum Actor {
    Driver(usize),
    Job(usize),
    Client,
}

pub(crate) struct Run {
    pub(crate) rng: Prng,
    pub(crate) profile: Profile,
    pub(crate) engines: Vec<EngineUnderTest>,
    pub(crate) files: Vec<SimFile>,
    pub(crate) openings: Vec<Opening>,
    pub(crate) requests: BTreeMap<u64, Request>,
    pub(crate) next_id: u64,
    /// Requests made so far.
    pub(crate) made: u64,
    client_at_ns: u64,
    burst_left: u64,
    /// Requests that the client still makes while a device is stuck. Then it waits.
    pub(super) stuck_left: u64,
}

impl Run {
    /// Creates files in `directory`, which must be empty, and engines. The thread must have a
    /// world.
    pub(crate) fn new(mut rng: Prng, profile: Profile, directory: &Path) -> std::io::Result<Self> {
        let config = Config {
            queue_depth: profile.queue_depth,
            block_bytes: profile.block_bytes,
            in_flight_bytes: profile.in_flight_bytes,
            window: profile.window,
            window_bytes_min: profile.block_bytes,
            max_queued: profile.max_queued,
            offload_bytes: OFFLOAD_BYTES as usize,
        };
        let devices: Arc<Devices> = Arc::default();
        let engines = (0..profile.engines)
            .map(|index| EngineUnderTest::new(index, config, Arc::clone(&devices)).map_err(std::io::Error::from_raw_os_error));
        let engines = engines.collect::<std::io::Result<Vec<_>>>()?;
        let mut files = Vec::new();
        for index in 0..profile.files {
            let path: Arc<Path> = Arc::from(directory.join(format!("{index}.bin")));
            let exists = !rng.one_in(6);
            let mut bytes = vec![0; if exists && !rng.one_in(3) { rng.below(profile.file_bytes) as usize } else { 0 }];
            fill(&mut bytes, 0, u64::MAX - index as u64);
            if exists {
                std::fs::write(&path, &bytes)?;
            }
            let model = Model::new(bytes);
            files.push(SimFile {
                path,
                model,
                exists,
                probe: None,
                number: 0,
                inode: None,
                sync_failed: false,
                size_outdated: false,
                was_untrimmed: false,
            });
        }
        let mut run = Self {
            rng,
            profile,
            engines,
            files,
            openings: Vec::new(),
            requests: BTreeMap::new(),
            next_id: 1,
            made: 0,
            client_at_ns: 0,
            burst_left: 0,
            stuck_left: 0,
        };
        run.make_handles();
        for file in 0..run.files.len() {
            run.probe_file(file);
        }
        Ok(run)
    }

    /// Opens a file past the engine, once it exists, and notes its inode.
    pub(crate) fn probe_file(&mut self, index: usize) {
        let file = &mut self.files[index];
        if file.probe.is_some() || !file.path.exists() {
            return;
        }
        file.exists = true;
        file.probe = std::fs::File::open(&file.path).ok();
        file.number = file.probe.as_ref().and_then(|probe| probe.metadata().ok()).map_or(0, |metadata| inode_number(&metadata));
        let injecting = world::with(|world| std::mem::take(&mut world.injecting)).unwrap_or(false);
        match open::open(&Name::of(&file.path), &OpenOptions::new().read(true)) {
            Ok(opened) => {
                file.inode = Some(Arc::clone(&opened.inode));
                let (number, inode) = (file.number, Arc::downgrade(&opened.inode));
                world::with(|world| world.facts(number).inode = inode);
            }
            Err(error) => violate(format!("a file cannot be examined: {error}")),
        }
        world::with(|world| world.injecting = injecting);
    }

    /// Moves the actors until all is done or a violation is found.
    pub(crate) fn execute(&mut self) {
        world::with(|world| world.injecting = true);
        // Copies poll each other's locks, here without a pause: a slow device takes them many steps.
        let patience = if self.profile.copies { 50 } else { 1 };
        let steps_max = (self.profile.operations + 50) * STEPS_PER_OPERATION * patience;
        let mut steps = 0;
        let mut closing = false;
        while !is_violated() {
            steps += 1;
            if steps > steps_max {
                violate(format!("the run does not end after {steps} steps: {}", self.describe()));
            }
            if self.step() {
                continue;
            }
            // No actor can move, and nothing is due.
            if !self.requests.is_empty() {
                violate(format!("no actor can move and {} requests are unsettled: {}", self.requests.len(), self.describe()));
            } else if closing {
                break;
            } else {
                closing = true;
                self.check_all_files();
                self.close_all();
            }
        }
        world::with(|world| world.injecting = false);
        if !is_violated() {
            self.check_end();
        }
    }

    /// Moves one actor, or time. Returns false if neither can move.
    fn step(&mut self) -> bool {
        let now_ns = world::with(|world| world.now_ns).unwrap_or(0);
        let stuck = self.get_stuck();
        let waits = stuck && self.stuck_left == 0;
        let busy = !waits && self.made < self.profile.operations && self.engines.iter().any(|engine| engine.api.is_some());
        let mut actors = Vec::new();
        let mut next_ns = u64::MAX;
        for (index, engine) in self.engines.iter_mut().enumerate() {
            if engine.can_turn() {
                actors.push(Actor::Driver(index));
            }
            if engine.jobs() == 0 {
                engine.job_at_ns = None;
                continue;
            }
            let at_ns = *engine.job_at_ns.get_or_insert_with(|| now_ns + self.rng.about(self.profile.job_delay_ns));
            if at_ns <= now_ns {
                actors.push(Actor::Job(index));
            }
            next_ns = next_ns.min(at_ns);
        }
        if busy && self.client_at_ns <= now_ns {
            actors.push(Actor::Client);
        }
        if busy {
            next_ns = next_ns.min(self.client_at_ns);
        }
        if actors.is_empty() {
            let device_ns = world::with(|world| world.devices.next_ns(now_ns)).flatten().unwrap_or(u64::MAX);
            next_ns = next_ns.min(device_ns);
            if next_ns == u64::MAX {
                return stuck && self.get_unstuck();
            }
            world::with(|world| world.advance(next_ns));
            self.wake_spuriously();
        } else {
            let actor = self.rng.pick(&actors);
            self.step_actor(actor);
            let spent_ns = self.rng.below(200);
            world::with(|world| world.advance(now_ns + spent_ns));
        }
        self.judge_all();
        true
    }

    fn step_actor(&mut self, actor: Actor) {
        match actor {
            Actor::Driver(index) => {
                self.engines[index].turn();
                let unwinds = self.profile.unwinds;
                if unwinds > 0 && self.rng.chance(unwinds) {
                    self.engines[index].unwind();
                }
                if self.rng.one_in(4)
                    && let Some(fault) = self.engines[index].audit()
                {
                    violate(format!("the driver's state is inconsistent: {fault}"));
                }
            }
            Actor::Job(index) => {
                let engine = &mut self.engines[index];
                let job = self.rng.index(engine.jobs());
                engine.job_at_ns = None;
                engine.run_job(job);
            }
            Actor::Client => {
                if self.burst_left == 0 {
                    self.burst_left = self.rng.between(1, self.profile.burst);
                }
                self.burst_left -= 1;
                if self.burst_left == 0 {
                    let pause_ns = self.rng.about(self.profile.pause_ns);
                    self.client_at_ns = world::with(|world| world.now_ns).unwrap_or(0) + pause_ns;
                }
                self.client();
                self.stuck_left = self.stuck_left.saturating_sub(1);
            }
        }
    }

    /// Ends the wait of a sleeping driver without a reason, now and then.
    fn wake_spuriously(&mut self) {
        for engine in &mut self.engines {
            if engine.is_asleep() && self.rng.chance(self.profile.spurious) {
                engine.turn();
            }
        }
    }

    /// Drops every open file and every engine. The rest of the run is their shutdown.
    fn close_all(&mut self) {
        for index in 0..self.engines.len() {
            self.shut_down(index);
        }
    }

    pub(crate) fn shut_down(&mut self, engine: usize) {
        for opening in self.openings.iter_mut().filter(|opening| opening.engine == engine) {
            opening.open = None;
        }
        self.engines[engine].api = None;
    }

    pub(crate) fn describe(&self) -> String {
        self.engines.iter().map(EngineUnderTest::describe).collect::<Vec<_>>().join("; ")
    }

    /// Checks after the end that everything was released.
    fn check_end(&mut self) {
        let lost = world::with(|world| world.lost_rings > 0).unwrap_or(false);
        let unwound = world::with(|world| world.unwound > 0).unwrap_or(false);
        for (index, engine) in self.engines.iter().enumerate() {
            if !engine.has_ended() {
                violate(format!("engine {index} did not shut down: {}", engine.describe()));
            }
            engine.end();
            let counters = &engine.core.counters;
            for (name, counter) in
                [("in_flight", &counters.in_flight), ("in_flight_bytes", &counters.in_flight_bytes), ("queued", &counters.queued)]
            {
                let left = counter.load(Ordering::Relaxed);
                if left > 0 {
                    violate(format!("engine {index} ends with {name} = {left}"));
                }
            }
            let (leaked, lost_operations) =
                (counters.leaked.load(Ordering::Relaxed), world::with(|world| world.devices.lost_operations(index)));
            // A driver that unwinds also leaks what it alone could hand to the device.
            if lost_operations != Some(leaked) && !(unwound && lost_operations.is_some_and(|lost| lost <= leaked)) {
                violate(format!("engine {index} counts {leaked} operations as leaked, and {lost_operations:?} were lost with rings"));
            }
            let buffers = counters.buffers.load(Ordering::Relaxed);
            if buffers > 0 && !lost {
                violate(format!("engine {index} ends with {buffers} buffers that were not returned"));
            }
        }
        self.check_all_files();
        for file in &self.files {
            if let Some(left) = file.inode.as_ref().and_then(|inode| inode.leftovers()) {
                violate(format!("{} is not at rest: {left}", file.path.display()));
            }
        }
        if !unwound && self.openings.iter().any(|opening| opening.watch.strong_count() > 0) {
            violate("a file is still open although nothing uses it");
        }
        let live_buffers = world::with(|world| world.live_buffers).unwrap_or(0);
        if live_buffers > 0 && !lost {
            violate(format!("{live_buffers} buffers were never freed"));
        }
    }
}

pub(crate) fn inode_number(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

pub(crate) fn is_violated() -> bool {
    world::with(|world| world.is_violated()).unwrap_or(false)
}
