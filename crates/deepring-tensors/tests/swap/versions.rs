//! Versions keep their order: puts, removals and leases of one name, in the middle of each other.

use crate::harness::{directory, engine};
use crate::model::{MIB, assert_idle, assert_version, content, done_soon, put, store, tensor};
use deepring_tensors::Error;
use deepring_tensors::swap::{SwapOptions, SwapState};

#[test]
fn a_lease_keeps_the_version_that_it_has() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(8 * MIB as u64));
    put(&store, "x", MIB, 1);
    let first = store.get("x").wait().expect("a lease");
    put(&store, "x", MIB, 2);
    let second = store.get("x").wait().expect("a lease");
    assert!(done_soon(store.evict("x")).is_none(), "it is leased");
    put(&store, "x", MIB, 3);
    assert!(first.bytes() == content("x", MIB, 1) && second.bytes() == content("x", MIB, 2));
    assert_version(&store, "x", MIB, 3);
    assert!(store.stats().used >= 3 * MIB as u64, "old versions count as long as they are leased");
    drop((first, second));
    assert_idle(&store);
    assert!(store.stats().used <= MIB as u64);
}

#[test]
fn one_lease_changes_a_tensor_at_a_time_and_others_wait() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(8 * MIB as u64));
    put(&store, "x", MIB, 1);
    let reader = store.get("x").wait().expect("a lease");
    assert!(done_soon(store.get_mut("x")).is_none(), "readers keep it");
    assert!(done_soon(store.remove("x")).is_none() && done_soon(store.evict("x")).is_none());
    drop(reader);
    let mut writer = store.get_mut("x").wait().expect("a lease");
    assert_eq!(store.state("x"), Some(SwapState::Leased));
    assert!(done_soon(store.get("x")).is_none() && done_soon(store.get_mut("x")).is_none());
    assert!(done_soon(store.put(tensor("x", MIB, 5))).is_none() && done_soon(store.remove("x")).is_none());
    assert!(done_soon(store.get_into("x", vec![0; MIB])).is_none());
    writer.bytes_mut().expect("it writes").copy_from_slice(&content("x", MIB, 2));
    writer.close(true).expect("accepted");
    assert_version(&store, "x", MIB, 2);
    // What is dropped was not changed.
    let mut writer = store.get_mut("x").wait().expect("a lease");
    writer.bytes_mut().expect("it writes").fill(0);
    drop(writer);
    assert_version(&store, "x", MIB, 2);
    store.remove("x").wait().expect("removed");
    assert!(matches!(store.get("x").wait(), Err(Error::NotFound { .. })));
    assert_idle(&store);
    assert_eq!((store.stats().used, store.stats().stored), (0, 0));
}

#[test]
fn puts_gets_and_removals_in_the_middle_of_reads_and_writes_keep_their_order() {
    let (place, engine) = (directory(), engine());
    for durable in [false, true] {
        let options = SwapOptions::new(8 * MIB as u64).durable(durable).checksum(true);
        let store = store(&engine, &place.path().join(durable.to_string()), options);
        for round in 1..30u64 {
            put(&store, "x", MIB, 2 * round);
            if round % 3 == 0 {
                // On its way to the drive now.
                drop(done_soon(store.evict("x")));
            }
            if round % 5 == 0 {
                store.prefetch(["x"], std::time::Duration::from_secs(1));
            }
            if round % 7 == 0 {
                store.remove("x").wait().expect("removed");
                assert!(matches!(store.get("x").wait(), Err(Error::NotFound { .. })), "round {round}");
            }
            put(&store, "x", MIB, 2 * round + 1);
            assert_version(&store, "x", MIB, 2 * round + 1);
            if round % 4 == 0 {
                store.evict("x").wait().expect("evicted");
                assert_version(&store, "x", MIB, 2 * round + 1);
            }
        }
        store.close().wait().expect("closed");
    }
}

#[test]
fn a_version_that_another_takes_the_place_of_before_it_is_written_leaves_nothing() {
    let (place, engine) = (directory(), engine());
    for durable in [false, true] {
        let store = store(&engine, &place.path().join(durable.to_string()), SwapOptions::new(8 * MIB as u64).durable(durable));
        for nth in 0..20 {
            // Too little to be written of itself.
            let name = format!("t{nth}");
            put(&store, &name, 20_000, 1);
            put(&store, &name, 20_000, 2);
            put(&store, &name, 100, 3);
            put(&store, &name, 20_000, 4);
        }
        assert_eq!(store.stats().written, 0);
        for nth in 0..20 {
            store.evict(&format!("t{nth}")).wait().expect("written");
        }
        for nth in 0..20 {
            assert_version(&store, &format!("t{nth}"), 20_000, 4);
        }
        assert_eq!(store.stats().stored, 20 * 20_480);
        store.flush().wait().expect("flushed");
        assert_eq!(store.stats().stored, 20 * 20_480);
    }
}
