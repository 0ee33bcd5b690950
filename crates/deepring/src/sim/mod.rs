//! The whole engine in a simulated world: seeded, deterministic, in virtual time, with every fault
//! of a drive, a kernel and a client. Only with the feature `sim`; for tests of the engine, and not
//! part of its public API.
//!
//! ```text
//!            client ──► Engine, File, Op ──► inbox ──► Driver ──► device ──► files
//!              │  (the shipping code, all of it)          │          │
//!              └───────── judge ◄── model                 └─► jobs ──► sys ──► kernel (faults)
//! ```
//!
//! Only what lies outside the engine is simulated:
//!
//! * `client`, `transfer`: the program that uses the engine;
//! * `backend`, `device`, `flight`: the devices, behind [`crate::backend::Backend`];
//! * `kernel`: the other system calls, behind `sys::fault`;
//! * `engine`, `jobs`, `turns`, `run`: the scheduling of threads;
//! * `stuck`: a device that does not answer;
//! * `pages`: memory that was never touched;
//! * `checksum`: who asks for one, and bits that a device flips;
//! * `world`, `ranges`, `profile`, `prng`: the state of all these, and its one source of
//!   randomness.
//!
//! Driver, planner, budget, slots, inodes, inbox, buffers and the public API are the ones that
//! ship. One thread runs everything and one stream of numbers decides everything, so a seed
//! describes a run completely.
//!
//! A **campaign** is a series of runs. Each run draws its own world: how many engines and files,
//! how faulty the device (see `profile`). It makes some hundred requests, shuts down, and checks
//! that
//!
//! * every operation settled exactly once, and only with an error that has a cause;
//! * every byte that was read, and at rest every byte of every file, is one that was written there;
//! * a write that failed or was canceled left everything outside its own range alone, and the
//!   file's length is what was promised;
//! * every checksum is that of the bytes, and where one was expected, a bit that the device had
//!   flipped was found;
//! * the device touched only memory that it was lent, before the request settled, and every buffer
//!   came back once;
//! * no device read into memory that was not there yet;
//! * no more was in flight than the budget allows, at every single push;
//! * while one device was stuck, every request on the other ended;
//! * no request, block, lock, window or counter is left over, and shutdown ended;
//! * a failed sync stays failed;
//! * a window is found on a device with a knee, also after a stall, and each class has its share of a device (these are
//!   games beside the runs, see `driver::model`).
//!
//! In some runs the engines are two copies, as two processes would have them. They share the locks of
//! `crate::locks` and nothing else, and must lose no byte of each other.
//!
//! `model` is the oracle: what each file must hold, byte by byte. `judge` compares the engine with
//! it. The checks themselves are checked: [`PlantedBug`] plants one of a dozen bugs, and the campaign
//! must find it.
//!
//! A [`Stage`] has the same engines and the same world without that client: on it, crates that stand on this one run programs
//! of their own, with models of their own.
//!
//! Beside all this, [`record`](record()) notes what a real commit does, for tests that replay power cuts.
//!
//! The simulation does not see races inside one half of a driver's turn or inside one job, which
//! are atomic here; the loom models cover those. It does not see what the real kernel does
//! differently from the simulated one; the tests on real files cover that.

mod backend;
mod buffer;
mod checksum;
mod client;
mod device;
mod engine;
mod flight;
mod jobs;
mod judge;
mod kernel;
mod model;
mod pages;
mod prng;
mod profile;
mod ranges;
mod record;
mod request;
mod run;
mod split;
mod stage;
mod stuck;
mod transfer;
mod turns;
mod world;

use crate::backend::interpose;
use crate::driver;
use crate::planted;
pub use crate::planted::PlantedBug;
use crate::sys::fault;
use kernel::Kernel;
use prng::Prng;
use profile::Profile;
pub(crate) use record::noted;
pub use record::{Record, Recorded, record};
use run::Run;
pub use stage::Stage;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use world::World;

/// Plants a bug in what this thread does with real engines from now on, or none: for trials on file systems that crash. A
/// campaign plants its own.
pub fn plant(bug: Option<PlantedBug>) {
    planted::plant(bug);
}

/// Every so many runs, the parts that decide about windows and turns play against simulated devices of their own: it takes
/// minutes of virtual time until a window is found.
const GAMES_EVERY: u64 = 16;

/// The settings of a campaign.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The first run's seed; each following run has the next number.
    pub seed: u64,
    /// The campaign ends after the run that reaches this number of operations. It makes at least
    /// one run.
    pub operations: u64,
    /// Where files are created and removed. A memory file system is fastest; direct I/O is not
    /// needed.
    pub directory: PathBuf,
    /// A bug to plant.
    pub bug: Option<PlantedBug>,
    /// Whether to keep the last events, to show them with a violation.
    pub traced: bool,
}

/// Something that must never happen and did.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The seed of the run. A campaign that begins with it meets the violation in its first run.
    pub seed: u64,
    /// Operations that the campaign had simulated by then.
    pub operation: u64,
    /// What happened.
    pub what: String,
    /// The last events, if the campaign was traced.
    pub trace: Vec<String>,
    /// The settings of the run.
    pub profile: String,
}

/// The results of a campaign.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Requests and controls submitted to the engine.
    pub operations: u64,
    /// Runs made.
    pub runs: u64,
    /// Device operations that the engine issued.
    pub device_operations: u64,
    /// Bytes that the device moved.
    pub moved_bytes: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Rings that were lost.
    pub lost_rings: u64,
    /// A digest of everything that happened: the same for the same seed, and different for any
    /// other course of events.
    pub fingerprint: u64,
    /// The violation that ended the campaign.
    pub violation: Option<Violation>,
}

impl Campaign {
    /// Runs the campaign on this thread until it has made its operations or met a violation. Calls
    /// `progress` after each run.
    ///
    /// # Errors
    /// The directory cannot be used, or the process has no free descriptor.
    pub fn run(&self, mut progress: impl FnMut(&Summary)) -> std::io::Result<Summary> {
        let mut summary = Summary::default();
        plant(self.bug);
        while summary.runs == 0 || (summary.operations < self.operations && summary.violation.is_none()) {
            let seed = self.seed.wrapping_add(summary.runs);
            let directory = self.directory.join(format!("run-{seed}"));
            std::fs::create_dir_all(&directory)?;
            let played = self.run_once(seed, &directory, &mut summary);
            std::fs::remove_dir_all(&directory)?;
            played?;
            progress(&summary);
        }
        plant(None);
        Ok(summary)
    }

    fn run_once(&self, seed: u64, directory: &Path, summary: &mut Summary) -> std::io::Result<()> {
        let mut rng = Prng::new(prng::mix(seed));
        let profile = Profile::draw(&mut rng);
        // Not drawn, so that older seeds replay what they did.
        let copies = prng::mix(seed ^ 5 << 32).is_multiple_of(6);
        let profile = if copies { profile.with_copies() } else { profile };
        world::enter(World::new(rng.branch(), profile.clone(), self.traced));
        fault::install(Some(Rc::new(Kernel)));
        interpose::install(Some(device::transfer));
        let mut run = Run::new(rng, profile.clone(), directory)?;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run.execute())) {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            world::violate(format!("panic: {}", text.unwrap_or_default()));
        }
        if seed.is_multiple_of(GAMES_EVERY)
            && let Err(what) = driver::play(prng::mix(seed))
        {
            world::violate(what);
        }
        let operations = run.made;
        summary.operations += operations;
        summary.runs += 1;
        if run::is_violated() {
            // The engine can be in any state. Nothing of it is touched again.
            std::mem::forget(run);
        }
        fault::install(None);
        interpose::install(None);
        if let Some(mut world) = world::leave() {
            summary.device_operations += world.tally.device_operations;
            summary.moved_bytes += world.tally.moved_bytes;
            summary.faults += world.tally.faults;
            summary.lost_rings += u64::from(world.lost_rings);
            summary.fingerprint = prng::mix(summary.fingerprint ^ world.fingerprint());
            if let Some(what) = world.take_violation() {
                let (operation, trace) = (summary.operations, world.take_trace());
                summary.violation = Some(Violation { seed, operation, what, trace, profile: format!("{profile:?}") });
            }
        }
        Ok(())
    }
}
