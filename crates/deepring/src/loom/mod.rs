//! What happens where threads meet, in every order: the engine's own code on loom's locks and
//! atomics (`npm run loom`).
//!
//! ```text
//!   wake      the inbox: producers, a driver that falls asleep, a request to sweep, the end
//!   group     transfers that end together: members that settle while the owner closes
//!   share     a device between two engines
//!   outcome   one operation: settled while it is waited for, polled, or dropped
//!   engine    all of it: `Engine::builder().build()`, the driver, the backend `threads` with one
//!             thread; only the device is a stand-in
//!   memory    the watched buffers of the models, and that device
//! ```
//!
//! A loom model is one short meeting of threads. Loom runs it once for each order of the steps that
//! matter. It fails if a thread panics, if the threads deadlock, or if two of them access memory
//! without an order between them. The small models try every order, or every order
//! with up to three preemptions. Those of the whole engine allow two, which finds nearly all such
//! bugs (`LOOM_MAX_PREEMPTIONS=3` tries more).
//!
//! Every kind of model is shown to fail with a bug of [`crate::planted`] planted.

mod engine;
mod group;
mod memory;
mod outcome;
mod share;
mod wake;

use crate::backend::interpose;
use crate::planted::{PlantedBug, plant};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of one order. The longest takes a few hundred; one that never ends is a bug.
const STEPS_MAX: usize = 10_000;

/// Runs a model in every order, or in those with at most `preemptions` preemptions. Prints the
/// number of orders, which `scripts/loom.mjs` adds up.
#[allow(clippy::print_stdout, reason = "the test reports its coverage")]
fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = STEPS_MAX;
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    // All threads of a model are coroutines of this thread.
    interpose::install(Some(memory::transfer));
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        memory::forget();
        model();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

/// In the environment of a child process: the bug to plant.
const PLANT: &str = "DEEPRING_LOOM_PLANT";

/// Runs a model with a bug planted. The model must fail, with `message` in its output.
///
/// A failed order panics amid suspended coroutines, which cannot be unwound. So the test runs
/// itself again in a child process.
#[track_caller]
fn noticed(bug: PlantedBug, message: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    if std::env::var_os(PLANT).is_some() {
        plant(Some(bug));
        return explore(preemptions, model);
    }
    let thread = std::thread::current();
    let name = thread.name().expect("the test harness names its threads");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let output = child.args(["--exact", name, "--nocapture"]).env(PLANT, "1").output().expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("running 1 test"), "{text}");
    assert!(!output.status.success(), "{bug:?} was not noticed: {text}");
    assert!(text.contains(message), "{bug:?} failed for another reason: {text}");
}
