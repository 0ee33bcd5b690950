//! One run: a world, one or two engines, a few files, a client that makes requests at random, and
//! the loop that moves them all.
//!
//! Everything happens on one thread. Each step draws one actor of those that can move (`turns`). A
//! lost wake shows: no actor can move, and requests are unsettled.

use super::engine::EngineUnderTest;
use super::model::{Model, fill};
use super::prng::Prng;
use super::profile::Profile;
use super::request::Request;
use super::turns::{self, Actor, Ready};
use super::world::{self, violate};
use crate::file::File;
use crate::inode::Inode;
use crate::open::{self, Name, OpenFile, OpenOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};

/// Steps per request after which a run counts as livelocked.
const STEPS_PER_OPERATION: u64 = 4000;

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
        let engines = turns::engines(&profile)?;
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
        let now_ns = turns::now_ns();
        let stuck = self.get_stuck();
        let waits = stuck && self.stuck_left == 0;
        let busy = !waits && self.made < self.profile.operations && self.engines.iter().any(|engine| engine.api.is_some());
        let mut ready = Ready::find(&mut self.engines, &mut self.rng, &self.profile);
        if busy {
            ready.add(Actor::Client, self.client_at_ns);
        }
        if ready.actors.is_empty() {
            if !ready.wait() {
                return stuck && self.get_unstuck();
            }
            turns::wake_spuriously(&mut self.engines, &mut self.rng, &self.profile);
        } else {
            match self.rng.pick(&ready.actors) {
                Actor::Client => self.step_client(),
                Actor::Driver(index) => turns::turn(&mut self.engines[index], &mut self.rng, &self.profile),
                Actor::Job(index) => turns::run_job(&mut self.engines[index], &mut self.rng),
            }
            let spent_ns = self.rng.below(200);
            world::with(|world| world.advance(now_ns + spent_ns));
        }
        self.judge_all();
        true
    }

    fn step_client(&mut self) {
        if self.burst_left == 0 {
            self.burst_left = self.rng.between(1, self.profile.burst);
        }
        self.burst_left -= 1;
        if self.burst_left == 0 {
            let pause_ns = self.rng.about(self.profile.pause_ns);
            self.client_at_ns = turns::now_ns() + pause_ns;
        }
        self.client();
        self.stuck_left = self.stuck_left.saturating_sub(1);
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
        turns::check_released(&self.engines);
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
