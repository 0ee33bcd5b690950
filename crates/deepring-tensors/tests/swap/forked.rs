//! A program that forks: the child has the store's memory and none of its threads.

use crate::child::{argument, spawn};
use crate::harness::{directory, engine};
use crate::model::{MIB, assert_version, put, store, tensor};
use deepring_tensors::Error;
use deepring_tensors::swap::{SwapOptions, SwapStore};
use std::path::Path;

const TEST: &str = "forked::calls_in_a_forked_child_are_errors_and_the_parent_goes_on";

/// Seconds after which a child that hangs is ended by a signal.
const CHILD_SECONDS: libc::c_uint = 20;

fn is_forked<T>(outcome: Result<T, Error>) -> bool {
    outcome.is_err_and(|error| error.code() == "ERR_DEEPRING_FORKED")
}

/// Uses the store of the parent for everything.
fn use_all(store: &SwapStore) -> bool {
    [
        is_forked(store.get("stored").wait()),
        is_forked(store.get_mut("stored").wait()),
        is_forked(store.get_into("stored", vec![0u8; MIB]).wait()),
        is_forked(store.put(tensor("other", MIB, 1)).wait()),
        is_forked(store.flush().wait()),
    ]
    .into_iter()
    .all(|held| held)
}

/// In a process without other threads than those of its engine: another test's could hold a lock.
fn as_child(path: &Path) -> ! {
    let store = store(&engine(), path, SwapOptions::new(8 * MIB as u64));
    put(&store, "stored", MIB, 1);
    store.flush().wait().expect("flushed");
    store.evict("stored").wait().expect("evicted");
    put(&store, "unflushed", MIB, 1);
    // SAFETY: the child runs what is tested, and ends without cleaning up.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: no pointers.
        unsafe { libc::alarm(CHILD_SECONDS) };
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| use_all(&store))).unwrap_or(false);
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(!held)) };
    }
    let mut status = 0;
    // SAFETY: writes a local number.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the status of the forked child");
    assert_version(&store, "stored", MIB, 1);
    put(&store, "stored", MIB, 2);
    store.close().wait().expect("closed");
    std::process::exit(0);
}

#[test]
fn calls_in_a_forked_child_are_errors_and_the_parent_goes_on() {
    if let Some(arguments) = argument(TEST) {
        as_child(Path::new(&arguments[0]));
    }
    let place = directory();
    let path = place.path().join("store");
    let mut child = spawn(TEST, &[path.to_str().expect("UTF-8")]);
    assert!(child.wait().expect("its end").success());
    let again = store(&engine(), &path, SwapOptions::new(8 * MIB as u64));
    assert_version(&again, "stored", MIB, 2);
    assert_version(&again, "unflushed", MIB, 1);
}
