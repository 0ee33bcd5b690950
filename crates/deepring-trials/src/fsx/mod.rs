//! fsx: random reads, writes, truncations, holes, syncs and reopenings of one file by several
//! handles, engines and threads, against a model.
//!
//! The idea is that of Apple's and XFS's `fsx`, which has found bugs in every file system it was
//! run on. A [`Script`] is generated from a seed. The `runner` collects operations that can run at
//! the same time into a `batch`, the `session` runs it on real files, and the `judge` compares
//! every result with the `model`. The bytes identify their own position and write (`content`), so a
//! failure reports what was found and where it belongs. A failing script is shrunk as far as
//! possible (`shrink`) and printed as text that can be run again.
//!
//! ```text
//!   seed ──> generate ──> Script ──> runner ──> batch ──> session ──> engines ──> file on a Place
//!                           ^          │  judge, model  <────┘                       │
//!                           │          └── compares the file <── engine, plain reads ┘
//!                         shrink <── a failure
//! ```
//!
//! A seed generates the same scripts everywhere. It does not repeat the kernel's scheduling, so a
//! failing script is run several times. A script that does not end is reported as hanging and is
//! not shrunk.

mod batch;
mod content;
mod generate;
mod judge;
mod many;
mod model;
mod places;
mod plain;
mod planted;
mod runner;
mod script;
mod session;
mod shrink;
mod text;

pub use places::{Missing, Place, names, with_places};
pub use planted::PlantedBug;
pub use script::Script;

use crate::harness::{self, Rng};
use shrink::Failing;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// No script takes longer, unless it hangs.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(60);

/// A script mostly waits for its file system.
const SCRIPTS_PER_PROCESSOR: usize = 2;

/// Where a campaign's scripts come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Generated from a seed.
    Seed(u64),
    /// This one, repeated.
    Script(Box<Script>),
}

/// A number of operations on a number of places.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The scripts.
    pub source: Source,
    /// How many operations to run, over all places. A script that has begun runs to its end.
    pub operations: u64,
    /// A bug to plant into every script.
    pub bug: Option<PlantedBug>,
}

/// How a campaign ended.
#[derive(Debug)]
pub struct Summary {
    /// Operations that were run.
    pub operations: u64,
    /// Scripts that were run.
    pub scripts: u64,
    /// The first broken promise.
    pub violation: Option<Violation>,
}

/// A broken promise.
#[derive(Debug)]
pub struct Violation {
    /// The name of the place.
    pub place: String,
    /// Which script of the campaign it was, counted from 0.
    pub number: u64,
    /// What was wrong.
    pub what: String,
    /// The whole script.
    pub script: Script,
    /// The shortest script found that also fails, and what is wrong with it.
    pub short: (Script, String),
}

/// What went wrong with one script.
struct Failure {
    what: String,
    hangs: bool,
}

impl Campaign {
    /// Runs it. Scripts are assigned to the places in turn, several at a time. `progress` is called
    /// now and then with the number of operations that have been run.
    ///
    /// # Panics
    /// If there is no place.
    pub fn run(&self, places: &[Place], progress: impl Fn(u64) + Sync) -> Summary {
        assert!(!places.is_empty(), "a campaign needs a place");
        let (begun, done) = (Mutex::new((0, 0)), AtomicU64::new(0));
        let first: Mutex<Option<(u64, Script, Failure)>> = Mutex::default();
        let stopped = || first.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let next = || {
            let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
            let (number, operations) = *begun;
            if operations >= self.operations {
                return None;
            }
            let script = self.script(number);
            *begun = (number + 1, operations + script.len().max(1) as u64);
            Some((number, script))
        };
        let work = || {
            while let Some((number, script)) = (!stopped()).then(next).flatten() {
                if let Some(failure) = self.attempt(&script, &file_of(number, places)) {
                    first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((number, script, failure));
                } else {
                    progress(done.fetch_add(script.len() as u64, Ordering::Relaxed) + script.len() as u64);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..SCRIPTS_PER_PROCESSOR * std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        let (scripts, operations) = begun.into_inner().unwrap_or_else(PoisonError::into_inner);
        let violation = first.into_inner().unwrap_or_else(PoisonError::into_inner);
        let violation = violation.map(|(number, script, failure)| self.violation(number, script, failure, places));
        Summary { operations, scripts, violation }
    }

    fn script(&self, number: u64) -> Script {
        match &self.source {
            Source::Seed(seed) => generate::script(Rng::seeded(*seed).next() ^ number, &harness::backends()),
            Source::Script(script) => (**script).clone(),
        }
    }

    fn violation(&self, number: u64, script: Script, failure: Failure, places: &[Place]) -> Violation {
        let failing = Failing { script: script.clone(), what: failure.what.clone() };
        let file = file_of(number, places);
        let run = |script: &Script| self.attempt(script, &file).filter(|failure| !failure.hangs).map(|failure| failure.what);
        let short = if failure.hangs { failing } else { shrink::shrink(failing, run) };
        let place = places[number as usize % places.len()].name.clone();
        Violation { place, number, what: failure.what, script, short: (short.script, short.what) }
    }

    /// Runs one script, on a separate thread because it might never end.
    fn attempt(&self, script: &Script, file: &Path) -> Option<Failure> {
        let (script, file, bug) = (script.clone(), file.to_path_buf(), self.bug);
        let (end, ended) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            // The receiver is gone if it has taken too long.
            let _ = end.send(runner::run(&script, &file, bug));
        });
        match ended.recv_timeout(SCRIPT_TIME_MAX) {
            Ok(result) => result.err().map(|what| Failure { what, hangs: false }),
            Err(RecvTimeoutError::Timeout) => Some(Failure { what: format!("it did not end within {SCRIPT_TIME_MAX:?}"), hangs: true }),
            Err(RecvTimeoutError::Disconnected) => {
                let panic = thread.join().err();
                let words = panic.as_ref().and_then(|panic| panic.downcast_ref::<String>().cloned());
                Some(Failure { what: format!("it panicked: {}", words.unwrap_or_default()), hangs: false })
            }
        }
    }
}

/// The file of a script, on the next place in turn.
fn file_of(number: u64, places: &[Place]) -> PathBuf {
    let directory = &places[number as usize % places.len()].directory;
    directory.join(format!("fsx-{}-{number}", std::process::id()))
}
