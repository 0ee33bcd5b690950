//! Tensors of every size come back, whatever the budget.

use crate::harness::{Rng, directory, engine};
use crate::model::{MIB, assert_idle, assert_version, content, put, store, tensor};
use deepring_tensors::swap::{SwapOptions, SwapState};
use deepring_tensors::{DType, Declared, Error};

const SIZES: [usize; 8] = [0, 1, 4095, 4096, 4097, 100_000, MIB, 5 * MIB + 3];

#[test]
fn tensors_of_all_sizes_come_back_from_the_drive() {
    let (place, engine) = (directory(), engine());
    for (durable, checksum) in [(false, false), (false, true), (true, false), (true, true)] {
        let options = SwapOptions::new(8 * MIB as u64).durable(durable).checksum(checksum);
        let store = store(&engine, &place.path().join(format!("{durable}-{checksum}")), options);
        for version in 1..4 {
            for (nth, len) in SIZES.into_iter().enumerate() {
                put(&store, &format!("t{nth}"), len, version);
            }
            for (nth, len) in SIZES.into_iter().enumerate() {
                let name = format!("t{nth}");
                assert_version(&store, &name, len, version);
                store.evict(&name).wait().expect("evicted");
                assert_eq!(store.state(&name), Some(SwapState::Stored));
                let into = store.get_into(&name, vec![1u8; len]).wait().expect("read");
                assert!(into == content(&name, len, version), "{name} into memory of the caller");
                assert_eq!(store.state(&name), Some(SwapState::Stored), "that takes no memory");
                assert_version(&store, &name, len, version);
                assert_eq!(store.state(&name), Some(SwapState::Resident));
                let into = store.get_into(&name, vec![1u8; len]).wait().expect("copied");
                assert!(into == content(&name, len, version));
            }
            if version == 2 {
                store.flush().wait().expect("flushed");
            }
        }
        assert_idle(&store);
        store.close().wait().expect("closed");
    }
}

#[test]
fn a_set_far_larger_than_the_budget_stays_right() {
    const TENSORS: usize = 60;
    let (place, engine, mut rng) = (directory(), engine(), Rng::new());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(4 * MIB as u64));
    let mut versions = [0; TENSORS];
    let len = |nth: usize| 1000 + nth * 9973;
    for step in 1..600 {
        let nth = rng.below(TENSORS as u64) as usize;
        let name = format!("t{nth}");
        match rng.below(4) {
            0 => {
                put(&store, &name, len(nth), step);
                versions[nth] = step;
            }
            1 if versions[nth] > 0 => {
                let mut lease = store.get_mut(&name).wait().expect("a lease");
                assert!(lease.bytes() == content(&name, len(nth), versions[nth]));
                lease.bytes_mut().expect("it writes").copy_from_slice(&content(&name, len(nth), step));
                let writes = rng.once_in(2);
                if writes {
                    versions[nth] = step;
                }
                if writes { lease.close(true).expect("accepted") } else { drop(lease) }
            }
            _ if versions[nth] > 0 => assert_version(&store, &name, len(nth), versions[nth]),
            _ => assert!(matches!(store.get(&name).wait(), Err(Error::NotFound { .. }))),
        }
    }
    assert_idle(&store);
    let stats = store.stats();
    assert!(stats.evicted > 100 && stats.misses > 50 && stats.hits > 5, "{stats:?}");
}

#[test]
fn another_shape_of_a_name_takes_the_place_of_the_one_before() {
    let (place, engine) = (directory(), engine());
    for durable in [false, true] {
        let path = place.path().join(durable.to_string());
        let store = store(&engine, &path, SwapOptions::new(8 * MIB as u64).durable(durable));
        put(&store, "x", 3 * MIB, 1);
        store.flush().wait().expect("flushed");
        put(&store, "x", 5000, 2);
        put(&store, "y", 2 * MIB, 1);
        assert_version(&store, "x", 5000, 2);
        store.flush().wait().expect("flushed");
        let taken = store.stats().stored;
        assert_eq!(taken, 8192 + 2 * MIB as u64, "old places are free again");
        put(&store, "x", 3 * MIB, 3);
        store.close().wait().expect("closed");
        let store = self::store(&engine, &path, SwapOptions::new(8 * MIB as u64).durable(durable));
        assert_version(&store, "x", 3 * MIB, 3);
        assert_version(&store, "y", 2 * MIB, 1);
    }
}

#[test]
fn a_lease_of_a_new_version_is_zeros_and_exists_when_it_is_written() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(MIB as u64));
    put(&store, "dirt", 500_000, 9);
    store.remove("dirt").wait().expect("removed");
    let declared = |rows| Declared { name: "made".into(), dtype: DType::F32, shape: vec![rows, 25] };
    let lease = store.lease(declared(1000)).wait().expect("a lease");
    assert!(lease.bytes().len() == 100_000 && lease.bytes().iter().all(|byte| *byte == 0));
    drop(lease);
    assert_eq!((store.state("made"), store.names()), (None, vec![]));
    let mut lease = store.lease(declared(2)).wait().expect("a lease");
    lease.bytes_mut().expect("it writes").fill(7);
    assert_eq!(store.names(), [""; 0]);
    lease.close(true).expect("accepted");
    let lease = store.get("made").wait().expect("there");
    assert_eq!((lease.dtype(), lease.shape(), lease.bytes()), (Some(DType::F32), &[2, 25][..], &[7; 200][..]));
    drop(lease);
    assert_idle(&store);
}

#[test]
fn what_is_wrong_with_a_call_is_said_and_changes_nothing() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(MIB as u64));
    put(&store, "x", 5000, 1);
    let mut short = tensor("x", 5000, 2);
    short.data.pop();
    assert!(matches!(store.put(short).wait(), Err(Error::Argument(_))));
    assert!(matches!(store.get_into("x", vec![0; 4999]).wait(), Err(Error::Argument(_))));
    assert!(matches!(store.get_into("y", vec![0; 4999]).wait(), Err(Error::NotFound { .. })));
    assert!(matches!(store.get("x").wait().expect("a lease").bytes_mut(), Err(Error::Argument(_))));
    assert!(matches!(store.get("x").wait().expect("a lease").close(true), Err(Error::Argument(_))));
    for error in [store.remove("y").wait(), store.evict("y").wait(), store.pin("y").wait()] {
        assert!(matches!(error, Err(Error::NotFound { .. })));
    }
    let clone = store.clone();
    store.close().wait().expect("closed");
    assert!(matches!(clone.get("x").wait(), Err(Error::Argument(_))));
    assert!(matches!(clone.close().wait(), Err(Error::Argument(_))));
}

#[test]
fn ten_thousand_small_tensors_take_a_page_each_and_come_back() {
    const TENSORS: u64 = 10_000;
    let (place, engine) = (directory(), engine());
    let path = place.path().join("store");
    let first = store(&engine, &path, SwapOptions::new(MIB as u64).durable(true));
    let all: Vec<_> = (0..TENSORS).map(|nth| tensor(&format!("t{nth}"), 128, nth)).collect();
    first.put_many(all).wait().expect("accepted");
    first.flush().wait().expect("flushed");
    let stats = first.stats();
    assert_eq!((stats.stored, stats.dirty), (TENSORS * 4096, 0));
    first.close().wait().expect("closed");
    let second = store(&engine, &path, SwapOptions::new(MIB as u64));
    assert_eq!(second.names().len() as u64, TENSORS);
    for nth in (0..TENSORS).step_by(7) {
        assert_version(&second, &format!("t{nth}"), 128, nth);
    }
}
