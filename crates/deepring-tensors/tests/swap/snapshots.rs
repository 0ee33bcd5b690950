//! Snapshots of a store into a checkpoint: as of their flush, cloned where the file system can, and while the store is used.

use crate::disks::Mounted;
use crate::harness::{directory, engine};
use crate::model::{MIB, assert_idle, assert_version, content, done_soon, put, store, tensor};
use deepring::Engine;
use deepring_tensors::checkpoint::{BeginOptions, Check, Checkpoint, Checkpoints, Generation, StoreOptions};
use deepring_tensors::swap::{SwapOptions, SwapStore};
use deepring_tensors::{Error, Job};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Whole pages and not, and nothing.
const SIZES: [usize; 5] = [3 * MIB, 8192, 5000, 1, 0];

fn name(nth: usize) -> String {
    format!("t{nth}")
}

fn checkpoints(engine: &Engine, place: &Path) -> Checkpoints {
    Checkpoints::open(engine, place.join("checkpoints"), StoreOptions::new().create(true)).wait().expect("a store")
}

fn taken(checkpoints: &Checkpoints, store: &SwapStore) -> Generation {
    let writer = checkpoints.begin(BeginOptions::new()).wait().expect("begun");
    store.snapshot(&writer).wait().expect("a snapshot");
    writer.commit().wait().expect("committed")
}

fn latest(checkpoints: &Checkpoints) -> Checkpoint {
    checkpoints.latest(Check::Sizes).wait().expect("a store").checkpoint.expect("a generation")
}

#[track_caller]
fn assert_has(checkpoint: &Checkpoint, version: u64) {
    assert_eq!(checkpoint.table().len(), SIZES.len());
    for (nth, len) in SIZES.into_iter().enumerate() {
        let tensor = checkpoint.tensor(&name(nth), None).wait().expect("a tensor");
        assert!(tensor.bytes() == content(&name(nth), len, version), "{}", name(nth));
    }
    assert!(checkpoint.verify(None).wait().expect("verified").is_whole());
}

/// Two snapshots of a store at a directory, and how the bytes of the second came: cloned and copied.
fn take_at(place: &Path) -> (u64, u64) {
    let engine = engine();
    let checkpoints = checkpoints(&engine, place);
    for durable in [false, true] {
        let store = store(&engine, &place.join(durable.to_string()), SwapOptions::new(8 * MIB as u64).durable(durable).checksum(durable));
        for version in [1, 2] {
            for (nth, len) in SIZES.into_iter().enumerate() {
                put(&store, &name(nth), len, version);
            }
            taken(&checkpoints, &store);
            assert_has(&latest(&checkpoints), version);
        }
        // What the store does afterwards is its own.
        let generation = taken(&checkpoints, &store);
        for (nth, len) in SIZES.into_iter().enumerate() {
            put(&store, &name(nth), len, 3);
        }
        store.flush().wait().expect("flushed");
        assert_has(&latest(&checkpoints), 2);
        assert_idle(&store);
        if durable {
            return (generation.reused.cloned, generation.reused.copied);
        }
    }
    unreachable!("the second store is durable")
}

/// Polls a job once.
fn poll<T>(job: &mut Job<T>) -> Option<T> {
    match Pin::new(job).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

const CLONED: u64 = 3 * MIB as u64 + 8192;
const REST: u64 = 5001;

fn on(kind: &str, expected: (u64, u64)) {
    let place = directory();
    let at = place.path().join(kind);
    let Some(_mounted) = Mounted::image(kind, &at) else { return };
    assert_eq!(take_at(&at), expected);
}

#[test]
fn on_xfs_whole_pages_are_cloned() {
    on("xfs", (CLONED, REST));
}

#[test]
fn on_btrfs_whole_pages_are_cloned() {
    on("btrfs", (CLONED, REST));
}

#[test]
fn on_ext4_everything_is_copied() {
    on("ext4", (0, CLONED + REST));
}

#[test]
fn a_durable_store_is_written_to_while_a_snapshot_is_taken_and_another_holds_its_writes() {
    let (place, engine) = (directory(), engine());
    let checkpoints = checkpoints(&engine, place.path());
    for durable in [false, true] {
        let store = store(&engine, &place.path().join(durable.to_string()), SwapOptions::new(8 * MIB as u64).durable(durable));
        for nth in 0..16 {
            put(&store, &name(nth), MIB, 1);
        }
        let writer = checkpoints.begin(BeginOptions::new()).wait().expect("begun");
        let mut job = store.snapshot(&writer);
        let index = place.path().join(durable.to_string()).join("index");
        let (mut polls_left, mut is_named) = (6, false);
        // Past its flush, and not half of its tensors: each takes two polls at least.
        while polls_left > 0 {
            assert!(poll(&mut job).is_none(), "it has ended before anything came in between");
            is_named |= std::fs::read_to_string(&index).is_ok_and(|text| text.contains("\"t15\""));
            polls_left -= u32::from(is_named);
            std::thread::sleep(Duration::from_millis(5));
        }
        let written = store.stats().written;
        let newer: Vec<_> = (0..16).map(|nth| done_soon(store.put(tensor(&name(nth), MIB, 2))).is_some()).collect();
        if durable {
            assert!(newer.iter().all(|accepted| *accepted) && store.stats().written > written, "{newer:?}");
        } else {
            assert_eq!(store.stats().written, written);
            assert!(newer[0] && !newer[15], "{newer:?}");
        }
        job.wait().expect("a snapshot");
        writer.commit().wait().expect("committed");
        let checkpoint = latest(&checkpoints);
        for (nth, is_newer) in newer.into_iter().enumerate() {
            assert!(checkpoint.tensor(&name(nth), None).wait().expect("a tensor").bytes() == content(&name(nth), MIB, 1));
            assert_version(&store, &name(nth), MIB, if is_newer { 2 } else { 1 });
        }
        store.close().wait().expect("closed");
    }
}

#[test]
fn a_snapshot_that_is_given_up_leaves_the_store_as_it_was() {
    let (place, engine) = (directory(), engine());
    let checkpoints = checkpoints(&engine, place.path());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(8 * MIB as u64));
    for nth in 0..4 {
        put(&store, &name(nth), MIB, 1);
    }
    let writer = checkpoints.begin(BeginOptions::new()).wait().expect("begun");
    let mut job = store.snapshot(&writer);
    assert!(poll(&mut job).is_none());
    drop(job);
    put(&store, "t0", MIB, 2);
    store.evict("t0").wait().expect("written");
    store.flush().wait().expect("flushed");
    for nth in 0..4 {
        assert_version(&store, &name(nth), MIB, if nth == 0 { 2 } else { 1 });
    }
    assert_idle(&store);
    let closed = store.clone();
    store.close().wait().expect("closed");
    let writer = checkpoints.begin(BeginOptions::new()).wait().expect("begun");
    assert!(matches!(closed.snapshot(&writer).wait(), Err(Error::Argument(_))));
}
