//! What is there after the end of a process, in order or not.

use crate::child::{argument, await_line, spawn};
use crate::harness::{directory, engine, names_in, say};
use crate::model::{MIB, assert_version, put, store};
use deepring_tensors::Error;
use deepring_tensors::swap::{SwapOptions, SwapStore};
use std::io::Read;
use std::path::Path;

fn options() -> SwapOptions {
    SwapOptions::new(8 * MIB as u64).checksum(true)
}

#[test]
fn a_store_that_was_closed_is_there_again() {
    let (place, engine) = (directory(), engine());
    for durable in [false, true] {
        let path = place.path().join(durable.to_string());
        let first = store(&engine, &path, options().durable(durable));
        for nth in 0..20 {
            put(&first, &format!("t{nth}"), 1000 * nth, 1);
        }
        put(&first, "\u{202e}\"\n", 5, 1);
        first.remove("t3").wait().expect("removed");
        first.close().wait().expect("closed");
        assert_eq!(names_in(&path), ["data", "index", "lock"]);
        // Without `create`.
        let again = SwapStore::open(&engine, &path, options().durable(!durable)).wait().expect("a store");
        assert_eq!(again.names().len(), 20);
        assert!(matches!(again.get("t3").wait(), Err(Error::NotFound { .. })));
        assert_version(&again, "\u{202e}\"\n", 5, 1);
        for nth in (0..20).filter(|nth| *nth != 3) {
            assert_version(&again, &format!("t{nth}"), 1000 * nth, 1);
        }
    }
}

#[test]
fn one_has_a_store_at_a_time() {
    const TEST: &str = "reopened::one_has_a_store_at_a_time";
    if let Some(arguments) = argument(TEST) {
        let _store = store(&engine(), Path::new(&arguments[0]), options());
        say("holds the store");
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(0);
    }
    let (place, engine) = (directory(), engine());
    let path = place.path().join("store");
    let is_busy = |path: &Path| matches!(SwapStore::open(&engine, path, options().create(true)).wait(), Err(Error::Busy { .. }));
    let first = store(&engine, &path, options());
    assert!(is_busy(&path), "in this process");
    let lease = first.lease(crate::model::tensor("x", 5, 1).declared).wait().expect("a lease");
    first.close().wait().expect("closed");
    let second = store(&engine, &path, options());
    assert!(lease.close(true).is_err(), "its store is closed");
    drop(second);
    // The last work of a dropped store can still be on its way.
    crate::model::eventually("the lock", || !is_busy(&path));
    let mut child = spawn(TEST, &[path.to_str().expect("UTF-8")]);
    await_line(&mut child, "holds the store");
    assert!(is_busy(&path), "in another process");
    child.kill().expect("killed");
    child.wait().expect("its end");
    assert!(!is_busy(&path), "a lock ends with its process");
}

#[test]
fn what_was_not_flushed_is_torn_or_as_of_the_last_flush() {
    let (place, engine) = (directory(), engine());
    for durable in [false, true] {
        let path = place.path().join(durable.to_string());
        let first = store(&engine, &path, options().durable(durable));
        let reopen = |create| {
            let mut opened = SwapStore::open(&engine, &path, options().durable(durable).create(create)).wait();
            while matches!(opened, Err(Error::Busy { .. })) {
                opened = SwapStore::open(&engine, &path, options().durable(durable).create(create)).wait();
            }
            opened
        };
        put(&first, "x", MIB, 1);
        put(&first, "y", 3000, 1);
        first.flush().wait().expect("flushed");
        // Nothing was written since.
        drop(first);
        let second = reopen(false).expect("whole");
        assert_version(&second, "x", MIB, 1);
        put(&second, "x", MIB, 2);
        second.evict("x").wait().expect("written");
        put(&second, "z", 3000, 2);
        second.remove("y").wait().expect("removed");
        assert_version(&second, "x", MIB, 2);
        drop(second);
        if durable {
            let third = reopen(false).expect("the last flush");
            assert_eq!(third.names(), ["x", "y"]);
            assert_version(&third, "x", MIB, 1);
            assert_version(&third, "y", 3000, 1);
        } else {
            let error = reopen(false).expect_err("torn");
            assert_eq!((error.code(), matches!(error, Error::Torn { .. })), ("ERR_DEEPRING_TORN".into(), true));
            let third = reopen(true).expect("begun anew");
            assert_eq!(third.names(), [""; 0]);
            put(&third, "x", MIB, 3);
            third.close().wait().expect("closed");
            assert_version(&reopen(false).expect("whole"), "x", MIB, 3);
        }
    }
}

#[test]
fn a_file_grows_as_needed_and_old_places_are_used_again() {
    let (place, engine) = (directory(), engine());
    let path = place.path().join("store");
    let first = store(&engine, &path, options().capacity(3 * MIB as u64 + 1).durable(true));
    assert_eq!(first.stats().capacity, 3 * MIB as u64 + 4096);
    for version in 1..40 {
        for nth in 0..4 {
            put(&first, &format!("t{nth}"), MIB, version);
        }
        first.flush().wait().expect("flushed");
        let stats = first.stats();
        assert_eq!(stats.stored, 4 * MIB as u64, "one version of each after a flush");
    }
    let capacity = first.stats().capacity;
    assert!(capacity <= 32 * MIB as u64, "{capacity}");
    assert_eq!(std::fs::metadata(path.join("data")).expect("a file").len(), capacity);
}
