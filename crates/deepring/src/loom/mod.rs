//! What happens where threads meet, in every order: the engine's own code on loom's locks and atomics (`npm run loom`).
//!
//! ```text
//!   wake      the inbox: producers, a driver that falls asleep, a request to sweep, the end
//!   outcome   one operation: settled while it is waited for, polled, or dropped
//!   engine    all of it: `Engine::builder().build()`, the driver, the backend `threads` with one thread; only the device is a model
//! ```
//!
//! A model is one short encounter. Loom runs it again and again, each time in another order of the steps that matter, and fails if a
//! thread panics, if all wait for one another, or if two touch memory without an order between them. The small models are exhaustive;
//! those of the whole engine try every order with up to two switches at points where a thread could have gone on, which is where nearly
//! all such bugs are found (`LOOM_MAX_PREEMPTIONS=3` tries more).
//!
//! Every kind of model is shown to fail with a bug of [`crate::planted`] planted.

mod engine;
mod memory;
mod outcome;
mod wake;

use crate::backend::interpose;
use crate::planted::{PlantedBug, plant};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of one encounter. The engine's longest takes a few hundred; one that never ends is a bug.
const STEPS_MAX: usize = 10_000;

/// Runs an encounter in every order, or in those with at most so many preemptions. Says how many there were.
#[allow(clippy::print_stdout, reason = "a test tells what it has covered")]
fn explore(preemptions: Option<usize>, encounter: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = STEPS_MAX;
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    // All threads of a model are coroutines of this one.
    interpose::install(Some(memory::transfer));
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        memory::forget();
        encounter();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

/// In the environment of a child process: the bug to plant.
const PLANT: &str = "DEEPRING_LOOM_PLANT";

/// The same with a bug planted, which must be noticed; `said` is part of what is said of it.
///
/// A failed order ends in a panic amid half-run coroutines, which cannot be unwound, so the test runs itself once more in a child process.
#[track_caller]
fn noticed(bug: PlantedBug, said: &str, preemptions: Option<usize>, encounter: impl Fn() + Send + Sync + 'static) {
    if std::env::var_os(PLANT).is_some() {
        plant(Some(bug));
        return explore(preemptions, encounter);
    }
    let thread = std::thread::current();
    let name = thread.name().expect("the test harness names its threads");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let output = child.args(["--exact", name, "--nocapture"]).env(PLANT, "1").output().expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("running 1 test"), "{text}");
    assert!(!output.status.success(), "nobody noticed {bug:?}: {text}");
    assert!(text.contains(said), "noticed, but not for its reason: {text}");
}
