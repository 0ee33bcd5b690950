//! Another process collects after each call of a commit: a generation in progress stays as long as its writer is alive.

use crate::commits::{How, recorded};
use crate::disk::{Replay, number};
use crate::harness::{directory, engine, names_in};
use deepring::sim::Recorded;
use deepring::{Directory, LockKind};
use deepring_tensors::checkpoint::{Checkpoints, PlantedBug, StoreOptions};
use std::path::Path;

/// Collects after each call from the one that made the lock of the first writer to the one that publishes. `begin` has not let
/// anybody collect before. Returns how often, or what is wrong.
fn collect_everywhere(replay: &Replay) -> Result<usize, String> {
    let engine = engine();
    let is_lock = |call: &Recorded| matches!(call, Recorded::Create(path) if path.ends_with("lock-00000"));
    let is_published = |call: &Recorded| matches!(call, Recorded::Rename(_, to) if number(to.as_os_str()).is_some());
    let first = replay.calls.iter().position(is_lock).expect("a lock");
    let last = replay.calls.iter().position(is_published).expect("a name");
    for calls in first + 1..=last {
        let place = directory();
        replay.after(calls, place.path());
        let name = names_in(place.path()).into_iter().find(|name| name.starts_with(".tmp-")).expect("a temporary directory");
        let temporary = Directory::open(place.path().join(&name)).expect("a directory");
        // What the writers hold then, who may have taken the names from their locks.
        let held = |name: &str| temporary.try_lock(name, LockKind::Exclusive, false).ok().flatten();
        let _held: Vec<_> =
            names_in(temporary.path()).iter().filter(|name| name.starts_with("lock-")).filter_map(|name| held(name)).collect();
        let store = Checkpoints::open(&engine, place.path(), StoreOptions::new()).wait().expect("a store");
        let collected = store.collect().wait().expect("collected");
        if collected.temporaries > 0 || !Path::new(temporary.path()).exists() {
            return Err(format!("it was collected after {:?}", replay.calls[calls - 1]));
        }
    }
    Ok(last - first)
}

#[test]
fn a_generation_in_progress_is_never_collected() {
    for how in How::ALL {
        let collected = collect_everywhere(&recorded(how, None).replay).unwrap_or_else(|what| panic!("{how:?}: {what}"));
        assert!(collected > 5, "{how:?}: {collected}");
    }
}

#[test]
fn locks_that_go_too_early_are_found() {
    let what = collect_everywhere(&recorded(How::Alone, Some(PlantedBug::UnlocksFirst)).replay).expect_err("a bug");
    assert!(what.contains("RemoveFile"), "{what}");
}
