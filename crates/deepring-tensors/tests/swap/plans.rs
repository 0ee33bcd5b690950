//! Reads ahead: by a plan, by a guess, and by one that is wrong.

use crate::harness::{directory, engine};
use crate::model::{assert_idle, assert_version, content, eventually, put, store};
use deepring_tensors::Error;
use deepring_tensors::swap::{SwapOptions, SwapState, SwapStore};
use std::time::Duration;
use tempfile::TempDir;

const LEN: usize = 256 << 10;

/// A store with room for eight of 32 tensors, none of which is in memory.
fn many() -> (TempDir, SwapStore) {
    let place = directory();
    let store = store(&engine(), &place.path().join("store"), SwapOptions::new(8 * LEN as u64));
    for nth in 0..32 {
        put(&store, &name(nth), LEN, 1);
    }
    for nth in 0..32 {
        store.evict(&name(nth)).wait().expect("evicted");
    }
    (place, store)
}

fn name(nth: usize) -> String {
    format!("t{nth}")
}

fn plan(store: &SwapStore, order: &[usize], repeat: bool) {
    let names: Vec<String> = order.iter().map(|nth| name(*nth)).collect();
    store.plan(names.iter().map(String::as_str), repeat);
}

fn resident(store: &SwapStore) -> Vec<usize> {
    (0..32).filter(|nth| store.state(&name(*nth)) == Some(SwapState::Resident)).collect()
}

#[test]
fn what_a_plan_names_is_there_before_it_is_asked_for() {
    let (_place, store) = many();
    plan(&store, &(0..32).collect::<Vec<_>>(), true);
    eventually("what is first", || resident(&store) == (0..8).collect::<Vec<_>>());
    let before = store.stats();
    for lap in 0..3 {
        for nth in 0..32 {
            assert_version(&store, &name(nth), LEN, 1);
            let next = (nth + 1) % 32;
            eventually("what is next", || store.state(&name(next)) == Some(SwapState::Resident));
        }
        assert_eq!(store.stats().misses, before.misses, "lap {lap}");
    }
    assert_idle(&store);
    let hits = store.stats().prefetch_hits;
    assert!(hits < 96, "some stay, and are not read again: {hits}");
}

#[test]
fn what_is_used_last_goes_first() {
    let (_place, store) = many();
    // Of twelve in a circle, the least recently used one is always the next: the worst order for eight places.
    let circle: Vec<usize> = (0..12).collect();
    let run = |store: &SwapStore| {
        let before = store.stats();
        for _ in 0..10 {
            for nth in &circle {
                assert_version(store, &name(*nth), LEN, 1);
            }
        }
        let after = store.stats();
        (after.read - before.read) / LEN as u64
    };
    assert_eq!(run(&store), 120);
    plan(&store, &circle, true);
    let reads = run(&store);
    // Six of twelve stay, and two places are for what is read ahead.
    assert!(reads <= 75, "{reads} reads");
}

#[test]
fn a_plan_that_lies_costs_reads_and_nothing_else() {
    let (_place, store) = many();
    store.plan(["t9", "nothing", "t3", "t3", "t30", "t1"], true);
    for nth in (0..32).rev().chain(0..32) {
        assert_version(&store, &name(nth), LEN, 1);
        let stats = store.stats();
        assert!(stats.used <= stats.memory, "{stats:?}");
    }
    assert!(matches!(store.get("nothing").wait(), Err(Error::NotFound { .. })));
    plan(&store, &[], true);
    plan(&store, &[5], false);
    assert_version(&store, "t5", LEN, 1);
    assert_version(&store, "t5", LEN, 1);
    assert_idle(&store);
}

#[test]
fn a_guess_is_read_while_nothing_else_is_and_expires() {
    let (_place, store) = many();
    store.prefetch(["t4", "nothing", "t5"], Duration::from_secs(60));
    eventually("guesses", || resident(&store) == [4, 5]);
    let before = store.stats();
    assert_version(&store, "t4", LEN, 1);
    let after = store.stats();
    assert_eq!((after.hits, after.prefetched, after.prefetch_hits), (before.hits + 1, 2, 1));
    // Something waits for memory that does not come: no guess begins.
    let names: Vec<String> = (8..16).map(name).collect();
    let leases = store.get_many(names.iter().map(String::as_str)).wait().expect("all of the memory");
    store.prefetch(["t20"], Duration::ZERO);
    store.prefetch(["t21"], Duration::from_secs(60));
    drop(leases);
    eventually("the guess that lives", || store.state("t21") == Some(SwapState::Resident));
    assert_eq!((store.state("t20"), store.stats().expired), (Some(SwapState::Stored), 1));
    assert_idle(&store);
}

#[test]
fn a_consumer_that_is_slower_than_the_drive_keeps_the_budget() {
    let (_place, store) = many();
    plan(&store, &(0..32).collect::<Vec<_>>(), true);
    for nth in 0..32 {
        let lease = store.get(&name(nth)).wait().expect("a lease");
        // Longer than all reads ahead take.
        std::thread::sleep(Duration::from_millis(5));
        assert!(lease.bytes() == content(&name(nth), LEN, 1));
        let stats = store.stats();
        assert!(stats.used_max <= stats.memory, "{stats:?}");
    }
    assert_idle(&store);
}

#[test]
fn reads_ahead_that_are_given_up_leave_nothing() {
    let (place, store) = many();
    let all: Vec<String> = (0..32).map(name).collect();
    for round in 0..20 {
        store.prefetch(all.iter().map(String::as_str), Duration::from_secs(60));
        plan(&store, &[round, round + 1, round + 2, round + 3], true);
        // Under way, or before they begin: another plan, a removal, a version in its place.
        plan(&store, &[], false);
        let (gone, newer) = (name(round), name(round + 1));
        store.remove(&gone).wait().expect("removed");
        assert!(matches!(store.get(&gone).wait(), Err(Error::NotFound { .. })));
        put(&store, &newer, LEN, 2);
        assert_version(&store, &newer, LEN, 2);
    }
    assert_idle(&store);
    // A store that is dropped in the middle of its reads ahead is free for others.
    store.prefetch(all.iter().map(String::as_str), Duration::from_secs(60));
    drop(store);
    let path = place.path().join("store");
    eventually("the end of its reads", || {
        let opened = SwapStore::open(&engine(), &path, SwapOptions::new(LEN as u64).create(true)).wait();
        !matches!(opened, Err(Error::Busy { .. }))
    });
}
