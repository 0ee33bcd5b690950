//! Swap stores in the simulation: random programs on simulated devices, with every fault of these, on files that look like one
//! file, and by two engines. Needs the feature `sim`.
//!
//! A run asks for everything that a store has: puts, reads, changes, leases, plans, pins, flushes, removals. It gives jobs up,
//! looks at what a killed process would leave, and opens the store again. After each step the budget holds; each lease and each
//! read has a version that was the newest one at some time of its request; a store that was left has just the tensors of a
//! flush; and nothing waits for ever.
//!
//! `DEEPRING_TEST_SEED` repeats one run, with the last events. Each planted bug must be found: see
//! [`PlantedBug`](deepring_tensors::swap::PlantedBug).

#[path = "../harness/mod.rs"]
mod harness;

mod alone;
mod check;
mod history;
mod optimizer;
mod program;

use deepring_tensors::swap::{PlantedBug, plant};
use harness::say;
use program::{Program, Tally};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Runs of the campaign. More: `DEEPRING_TEST_RUNS`.
const RUNS: u64 = 150;

/// A planted bug must be found in this number of runs.
const PLANTED_RUNS: u64 = 400;

/// Calls of a program with an optimizer.
const OPTIMIZER_CALLS: u64 = 60;

/// Seeds that once found a bug, and find it again without its fix.
const SEEDS: &[(u64, &str)] = &[
    (3, "a lease that changes a tensor waited for ever for a write that had failed"),
    (5, "a removal during a commit gave a place away that the new index names"),
    (19, "of two flushes that waited for one write that failed, the second waited for ever"),
    (22, "a flush that was given up did not know of the index that it left"),
    (23, "a flush did not wait for a version that came while an older one was on its way"),
    (81, "what was written by a ring that was lost could not be changed any more"),
    (179, "a place was given away that an older version on its way has as well"),
    (240, "a lease that ended was counted for another tensor, made under its name when the one that it read was removed"),
];

/// A directory in memory if there is one.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_path_buf() } else { PathBuf::from(env!("CARGO_TARGET_TMPDIR")) };
    tempfile::Builder::new().prefix("deepring-swap-").tempdir_in(parent).expect("a directory")
}

/// One run. The error says what is wrong.
fn run(seed: u64) -> Result<Tally, String> {
    let place = place();
    let run = || Program::new(seed, place.path()).run();
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

#[track_caller]
fn clean(seed: u64) -> Tally {
    run(seed).unwrap_or_else(|what| panic!("seed {seed} (DEEPRING_TEST_SEED={seed} repeats it): {what}"))
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

#[test]
fn random_programs_see_whole_versions_within_the_budget_and_never_wait_for_ever() {
    let (first, runs) = number_of("DEEPRING_TEST_SEED").map_or((1, number_of("DEEPRING_TEST_RUNS").unwrap_or(RUNS)), |seed| (seed, 1));
    let mut sum = Tally::default();
    for seed in first..first + runs {
        sum.add(&clean(seed));
    }
    say(&format!("{runs} runs: {sum:?}"));
    if runs >= RUNS {
        sum.assert_that_it_proves_something(runs);
    }
}

#[test]
fn seeds_that_once_found_a_bug_find_none() {
    for (seed, bug) in SEEDS {
        say(&format!("{seed}, which once found that {bug}"));
        clean(*seed);
    }
}

#[test]
fn a_seed_replays_exactly() {
    assert_eq!(clean(77), clean(77));
    assert_ne!(clean(77).fingerprint, clean(78).fingerprint);
}

#[test]
fn every_planted_bug_is_found() {
    for bug in PlantedBug::OF_RUNS {
        let found = (1..=PLANTED_RUNS).find_map(|seed| {
            plant(Some(bug));
            let found = run(seed).err();
            plant(None);
            Some((seed, found?))
        });
        let (seed, what) = found.unwrap_or_else(|| panic!("{bug:?} survived {PLANTED_RUNS} runs"));
        say(&format!("{bug:?}: seed {seed}: {}", what.lines().next().unwrap_or_default()));
    }
}

#[test]
fn a_flush_of_an_optimizer_that_is_given_up_leaves_no_index_behind_a_newer_one() {
    let (first, runs) = number_of("DEEPRING_TEST_SEED").map_or((1, number_of("DEEPRING_TEST_RUNS").unwrap_or(RUNS)), |seed| (seed, 1));
    let mut sum = optimizer::Tally::default();
    for seed in first..first + runs {
        let place = place();
        let ran = optimizer::Program::new(seed, place.path()).run(OPTIMIZER_CALLS, &mut sum);
        ran.unwrap_or_else(|what| panic!("seed {seed} (DEEPRING_TEST_SEED={seed} repeats it): {what}"));
    }
    say(&format!("{runs} runs: {sum:?}"));
    if runs >= RUNS {
        assert!(sum.given_up > 5 * runs && sum.kills > 10 * runs && sum.torn > 3 * runs, "{sum:?}");
    }
}
