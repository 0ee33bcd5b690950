//! Resident, reading, dirty and leased are never more than the memory: what does not fit waits, or can never fit.

use crate::harness::{directory, engine};
use crate::model::{MIB, assert_idle, assert_version, done_soon, put, store, tensor};
use deepring_tensors::swap::{SwapOptions, SwapState, SwapStore};
use deepring_tensors::{DType, Declared, Error};
use tempfile::TempDir;

/// A store of four MiB, with six tensors of one MiB on the drive.
fn six() -> (TempDir, SwapStore) {
    let place = directory();
    let store = store(&engine(), &place.path().join("store"), SwapOptions::new(4 * MIB as u64));
    for nth in 0..6 {
        let name = format!("t{nth}");
        put(&store, &name, MIB, 1);
        store.evict(&name).wait().expect("evicted");
    }
    (place, store)
}

#[test]
fn what_can_never_fit_is_an_error_at_once() {
    let (_place, store) = six();
    let needs = |error: Error| match error {
        Error::Budget { needed, budget, .. } => (needed / MIB as u64, budget / MIB as u64),
        other => panic!("{other}"),
    };
    assert_eq!(needs(store.put(tensor("large", 5 * MIB, 1)).wait().expect_err("too large")), (5, 4));
    let declared = Declared { name: "large".into(), dtype: DType::U8, shape: vec![5 * MIB as u64] };
    assert_eq!(needs(store.lease(declared).wait().expect_err("too large")), (5, 4));
    let names = ["t0", "t1", "t2", "t3", "t4"];
    assert_eq!(needs(store.get_many(names).wait().expect_err("too many")), (5, 4));
    for name in ["t0", "t1", "t2"] {
        store.pin(name).wait().expect("pinned");
    }
    assert_eq!(needs(store.get_many(["t3", "t4"]).wait().expect_err("pins stay")), (5, 4));
    assert_eq!(store.get_many(["t0", "t1", "t2", "t3", "t3"]).wait().expect("what is pinned counts once").len(), 5);
    store.unpin("t2");
    assert_eq!(store.get_many(["t3", "t4"]).wait().expect("they fit").len(), 2);
    assert!(matches!(store.evict("t0").wait(), Err(Error::Argument(_))), "it is pinned");
    assert_eq!((store.state("t0"), store.state("t1")), (Some(SwapState::Resident), Some(SwapState::Resident)));
}

#[test]
fn what_does_not_fit_waits_for_leases_and_a_dropped_job_leaves_nothing() {
    let (_place, store) = six();
    let mut leases = store.get_many(["t0", "t1", "t2", "t3"]).wait().expect("all of the memory");
    assert_eq!(store.stats().used, 4 * MIB as u64);
    assert!(done_soon(store.get("t4")).is_none(), "it waits");
    assert!(done_soon(store.put(tensor("new", 1, 1))).is_none(), "it waits");
    assert!(done_soon(store.get("t0")).is_some_and(|lease| lease.is_ok()), "what is there does not wait");
    leases.pop();
    assert_version(&store, "t4", MIB, 1);
    drop(leases);
    assert_idle(&store);
    assert_eq!(store.state("new"), None);
}

#[test]
fn the_first_that_waits_is_the_first_that_gets() {
    let (_place, store) = six();
    let leases = store.get_many(["t0", "t1", "t2"]).wait().expect("three");
    std::thread::scope(|scope| {
        let large = scope.spawn(|| store.get_many(["t3", "t4"]).wait().expect("two").len());
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(done_soon(store.get("t5")).is_none(), "it fits, and others wait");
        drop(leases);
        assert_eq!(large.join().expect("joined"), 2);
    });
    assert_version(&store, "t5", MIB, 1);
}

#[test]
fn puts_beyond_what_may_be_dirty_wait_for_the_drive_and_no_more() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(4 * MIB as u64));
    for nth in 0..64 {
        put(&store, &format!("t{nth}"), 300_000, 1);
        let stats = store.stats();
        assert!(stats.dirty <= stats.memory / 4 && stats.used <= stats.memory, "{stats:?}");
    }
    // One of almost all of the memory, and one more of it.
    put(&store, "large", 4 * MIB - 5000, 1);
    put(&store, "large", 4 * MIB - 5000, 2);
    for nth in 0..64 {
        assert_version(&store, &format!("t{nth}"), 300_000, 1);
    }
    assert_version(&store, "large", 4 * MIB - 5000, 2);
    assert_idle(&store);
}

#[test]
fn two_that_each_have_a_part_of_what_they_need_do_not_wait_for_each_other() {
    let (_place, store) = six();
    let both = |names: [&'static str; 3]| {
        let store = &store;
        move || {
            for _ in 0..50 {
                assert_eq!(store.get_many(names).wait().expect("three").len(), 3);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(both(["t0", "t1", "t2"]));
        scope.spawn(both(["t3", "t4", "t5"]));
        scope.spawn(both(["t5", "t2", "t0"]));
    });
    assert_idle(&store);
}
