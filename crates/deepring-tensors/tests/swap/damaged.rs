//! Files of a store that others have changed.

use crate::disks::Mounted;
use crate::harness::{directory, engine};
use crate::model::{MIB, assert_idle, assert_version, put, store, tensor};
use deepring_tensors::swap::{SwapOptions, SwapStore};
use deepring_tensors::{Error, Reason};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn options() -> SwapOptions {
    SwapOptions::new(8 * MIB as u64).checksum(true)
}

/// A store with two tensors, which is closed.
fn closed() -> (TempDir, PathBuf) {
    let place = directory();
    let path = place.path().join("store");
    let store = store(&engine(), &path, options());
    put(&store, "x", MIB, 1);
    put(&store, "y", 5000, 1);
    store.close().wait().expect("closed");
    (place, path)
}

fn reason(path: &Path) -> (Reason, Option<String>) {
    match SwapStore::open(&engine(), path, options().create(true)).wait().expect_err("damaged") {
        Error::Format { reason, tensor, .. } => (reason, tensor),
        other => panic!("{other}"),
    }
}

#[test]
fn a_damaged_index_is_refused_with_its_reason() {
    let (_place, path) = closed();
    let index = path.join("index");
    let good = fs::read(&index).expect("the index");
    for at in [0, 30, good.len() / 2, good.len() - 3] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&index, bad).expect("a file");
        assert_eq!(reason(&path), (Reason::Index, None), "byte {at}");
    }
    fs::write(&index, &good[..good.len() - 1]).expect("a file");
    assert_eq!(reason(&path), (Reason::Index, None));
    fs::write(&index, b"").expect("a file");
    assert_eq!(reason(&path), (Reason::Index, None));
    fs::write(&index, &good).expect("a file");
    let data = fs::read(path.join("data")).expect("the data");
    fs::remove_file(path.join("data")).expect("removed");
    assert_eq!(reason(&path), (Reason::Index, None));
    fs::write(path.join("data"), &data[..4096]).expect("a file");
    assert_eq!(reason(&path).0, Reason::Truncated);
    fs::write(path.join("data"), data).expect("a file");
    assert_version(&store(&engine(), &path, options()), "x", MIB, 1);
}

#[test]
fn a_file_that_is_cut_or_changed_while_it_is_open_is_an_error_that_names_the_tensor() {
    let (_place, path) = closed();
    let store = store(&engine(), &path, options());
    let data = OpenOptions::new().write(true).open(path.join("data")).expect("the data");
    data.write_all_at(&[0; 7], 3000).expect("changed");
    let of = |error: Error| (error.code(), error.tensor().map(str::to_owned));
    let named = |code: &str, tensor: &str| (code.to_owned(), Some(tensor.to_owned()));
    assert_eq!(of(store.get("x").wait().expect_err("changed")), named("ERR_DEEPRING_CHECKSUM", "x"));
    assert_eq!(of(store.get_into("x", vec![0; MIB]).wait().expect_err("changed")), named("ERR_DEEPRING_CHECKSUM", "x"));
    assert_eq!(of(store.get_many(["y", "x"]).wait().expect_err("changed")), named("ERR_DEEPRING_CHECKSUM", "x"));
    assert_version(&store, "y", 5000, 1);
    store.evict("y").wait().expect("evicted");
    data.set_len(8192).expect("cut");
    assert_eq!(of(store.get("y").wait().expect_err("cut")), named("ERR_DEEPRING_EOF", "y"));
    assert_eq!(of(store.get_mut("y").wait().expect_err("cut")), named("ERR_DEEPRING_EOF", "y"));
    assert_eq!(of(store.get_into("y", vec![0; 5000]).wait().expect_err("cut")), named("ERR_DEEPRING_EOF", "y"));
    // The store is usable.
    put(&store, "x", MIB, 2);
    put(&store, "y", 5000, 2);
    for name in ["x", "y"] {
        store.evict(name).wait().expect("written");
    }
    assert_version(&store, "x", MIB, 2);
    assert_version(&store, "y", 5000, 2);
}

#[test]
fn a_file_that_another_took_the_place_of_is_found_when_it_is_read() {
    let (_place, path) = closed();
    let (data, other) = (path.join("data"), path.join("other"));
    let good = fs::read(&data).expect("the data");
    fs::write(&other, vec![7; good.len()]).expect("a file");
    let open = store(&engine(), &path, options());
    assert_version(&open, "y", 5000, 1);
    fs::rename(&other, &data).expect("another file");
    // A store that is open has its own file still.
    open.evict("y").wait().expect("evicted");
    assert_version(&open, "y", 5000, 1);
    assert_version(&open, "x", MIB, 1);
    drop(open);
    let again = loop {
        match SwapStore::open(&engine(), &path, options()).wait() {
            Err(Error::Busy { .. }) => {}
            opened => break opened.expect("the file is long enough"),
        }
    };
    for name in ["x", "y"] {
        let error = again.get(name).wait().expect_err("of another file");
        assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_CHECKSUM", Some(name)));
    }
    put(&again, "x", MIB, 3);
    again.evict("x").wait().expect("written");
    assert_version(&again, "x", MIB, 3);
}

#[test]
fn a_full_disk_is_found_by_a_put_and_by_a_lease_and_the_store_goes_on() {
    for durable in [false, true] {
        let place = directory();
        let path = place.path().join("small");
        fs::create_dir(&path).expect("a directory");
        // 20 MiB, and some room for an index.
        let Some(_mounted) = Mounted::memory(&path, "20500k") else { return };
        let store = store(&engine(), &path, SwapOptions::new(8 * MIB as u64).durable(durable));
        let mut put_count = 0;
        let error = loop {
            match store.put(tensor(&format!("t{put_count}"), MIB, 1)).wait() {
                Ok(_) => put_count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), "ENOSPC");
        assert!((10..=20).contains(&put_count), "{put_count} MiB of 20");
        assert_eq!(store.lease(tensor("more", MIB, 1).declared).wait().expect_err("full").code(), "ENOSPC");
        assert_eq!(store.names().len(), put_count, "what was refused is not there");
        for nth in 0..put_count {
            assert_version(&store, &format!("t{nth}"), MIB, 1);
        }
        store.remove("t0").wait().expect("removed");
        // The place of a version that was never flushed is free at once.
        put(&store, "more", MIB, 2);
        store.remove("t1").wait().expect("removed");
        store.remove("t2").wait().expect("removed");
        store.flush().wait().expect("flushed");
        assert_version(&store, "more", MIB, 2);
        assert_idle(&store);
        store.close().wait().expect("closed");
    }
}
