//! Snapshots: into a checkpoint and back, also while training goes on.

use crate::disks::Mounted;
use crate::harness::{Rng, directory, engine};
use crate::model::{Model, groups, open, options, step};
use deepring::Engine;
use deepring_tensors::checkpoint::{BeginOptions, Check, Checkpoint, Checkpoints, StoreOptions};
use deepring_tensors::swap::OptimizerSwapper;
use std::future::Future;
use std::path::Path;
use std::task::{Context, Poll, Waker};

fn store(engine: &Engine, place: &Path) -> Checkpoints {
    Checkpoints::open(engine, place.join("checkpoints"), StoreOptions::new().create(true)).wait().expect("a store")
}

fn latest(store: &Checkpoints) -> Checkpoint {
    store.latest(Check::Sizes).wait().expect("a store").checkpoint.expect("a generation")
}

#[test]
fn a_snapshot_is_restored_into_any_swapper_of_the_same_groups() {
    let (engine, place, mut rng) = (engine(), directory(), Rng::new());
    let store = store(&engine, place.path());
    let mut model = Model::new(groups());
    for durable in [false, true] {
        let swapper = open(&engine, &place.path().join(format!("swap-{durable}")), options(1).durable(durable).create(true));
        model.initialize(&swapper);
        if durable {
            swapper.restore(&latest(&store)).wait().expect("restored");
            model.check(&swapper);
        }
        model.put_gradients(&swapper, &mut rng, 20_000);
        step(&swapper);
        model.step();
        let writer = store.begin(BeginOptions::new().step(model.steps)).wait().expect("begun");
        swapper.snapshot(&writer).wait().expect("a snapshot");
        writer.commit().wait().expect("committed");
        let checkpoint = latest(&store);
        assert_eq!(checkpoint.step(), Some(model.steps));
        for (group, parts) in model.groups.iter().zip(&model.parts) {
            let names = std::iter::once("param").chain(group.states.iter().map(String::as_str));
            for (name, part) in names.zip(parts) {
                let tensor = checkpoint.tensor(&format!("{}.{name}", group.name), None).wait().expect("a tensor");
                assert_eq!((tensor.shape(), tensor.dtype()), (&[group.numel as usize][..], Some(group.dtype)));
                assert!(tensor.bytes() == part, "{}.{name}", group.name);
            }
        }
    }
}

/// Polls once.
fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_durable_swapper_goes_on_while_a_snapshot_is_taken() {
    let (engine, place, mut rng) = (engine(), directory(), Rng::new());
    let store = store(&engine, place.path());
    let swapper = open(&engine, &place.path().join("swap"), options(1).durable(true).create(true));
    let mut model = Model::new(groups());
    model.initialize(&swapper);
    let mut with_steps = 0;
    for _ in 0..5 {
        let expected = model.clone();
        let writer = store.begin(BeginOptions::new()).wait().expect("begun");
        let mut job = swapper.snapshot(&writer);
        let mut ended = None;
        while ended.is_none() {
            if let Poll::Ready(result) = poll(&mut job) {
                ended = Some(result);
            }
            // Not before its flush has ended: until then, all groups are in use.
            if swapper.step_over(["head"]).is_ok() {
                model.put_gradients(&swapper, &mut rng, 50_000);
                step(&swapper);
                model.step();
                if ended.is_none() {
                    with_steps += 1;
                    assert_eq!(swapper.flush().wait().expect_err("a snapshot").code(), "ERR_DEEPRING_BUSY");
                }
            }
        }
        ended.expect("ended").expect("a snapshot");
        drop(job);
        writer.commit().wait().expect("committed");
        model.check(&swapper);
        let copy = open(&engine, &place.path().join("copy"), options(1).create(true));
        copy.restore(&latest(&store)).wait().expect("restored");
        expected.check(&copy);
        copy.close().wait().expect("closed");
    }
    assert!(with_steps > 0, "no step was made while a snapshot was taken");
}

#[test]
fn a_snapshot_of_groups_in_place_holds_them() {
    let (engine, place) = (engine(), directory());
    let store = store(&engine, place.path());
    let swapper = open(&engine, &place.path().join("swap"), options(1).create(true));
    Model::new(groups()).initialize(&swapper);
    let writer = store.begin(BeginOptions::new()).wait().expect("begun");
    let mut job = swapper.snapshot(&writer);
    let mut polls = 0;
    let ended = loop {
        match poll(&mut job) {
            Poll::Ready(ended) => break ended,
            Poll::Pending => {
                polls += 1;
                assert_eq!(swapper.step().expect_err("in use").code(), "ERR_DEEPRING_BUSY");
            }
        }
    };
    ended.expect("a snapshot");
    assert!(polls > 0);
    swapper.step().expect("free again");
}

/// A snapshot on a file system of this kind: bytes of parts that fill pages, and were ever written, are cloned or not.
fn on(kind: &str, is_cloned: bool) {
    let place = directory();
    let at = place.path().join(kind);
    let Some(_mounted) = Mounted::image(kind, &at) else { return };
    let (engine, mut rng) = (engine(), Rng::new());
    let store = store(&engine, &at);
    for durable in [false, true] {
        let mut model = Model::new(groups());
        let swapper = open(&engine, &at.join(format!("swap-{durable}")), options(1).durable(durable).create(true));
        model.initialize(&swapper);
        for _ in 0..2 {
            model.put_gradients(&swapper, &mut rng, 20_000);
            step(&swapper);
            model.step();
        }
        let writer = store.begin(BeginOptions::new()).wait().expect("begun");
        swapper.snapshot(&writer).wait().expect("a snapshot");
        let reused = writer.commit().wait().expect("committed").reused;
        let all: Vec<u64> = model.parts.iter().flatten().map(|part| part.len() as u64).collect();
        let whole: u64 = all.iter().filter(|len| len.is_multiple_of(4096)).sum();
        let expected = if is_cloned { (whole, all.iter().sum::<u64>() - whole) } else { (0, all.iter().sum()) };
        assert!(whole > 100_000);
        assert_eq!((reused.linked, (reused.cloned, reused.copied)), (0, expected));
        // What is changed afterwards is the swapper's own.
        let expected = model.clone();
        model.put_gradients(&swapper, &mut rng, 20_000);
        step(&swapper);
        swapper.flush().wait().expect("flushed");
        let checkpoint = latest(&store);
        assert!(checkpoint.verify(None).wait().expect("verified").is_whole());
        let copy = open(&engine, &at.join(format!("copy-{durable}")), options(1).create(true));
        copy.restore(&checkpoint).wait().expect("restored");
        expected.check(&copy);
    }
}

#[test]
fn on_xfs_parts_that_fill_pages_are_cloned() {
    on("xfs", true);
}

#[test]
fn on_btrfs_parts_that_fill_pages_are_cloned() {
    on("btrfs", true);
}

#[test]
fn on_ext4_parts_are_copied() {
    on("ext4", false);
}

#[test]
fn a_swapper_that_a_snapshot_reads_is_not_closed() {
    let (engine, place) = (engine(), directory());
    let store = store(&engine, place.path());
    let path = place.path().join("swap");
    let swapper = open(&engine, &path, options(1).durable(true).create(true));
    let model = Model::new(groups());
    model.initialize(&swapper);
    swapper.flush().wait().expect("flushed");
    let writer = store.begin(BeginOptions::new()).wait().expect("begun");
    let mut job = swapper.snapshot(&writer);
    // Until its flush has ended, all groups are in use; then it reads.
    while poll(&mut job).is_pending() && swapper.step_over(["head"]).is_err() {}
    assert_eq!(swapper.clone().close().wait().expect_err("a snapshot").code(), "ERR_DEEPRING_BUSY");
    assert_eq!(OptimizerSwapper::open(&engine, &path, options(1)).wait().expect_err("it is open").code(), "ERR_DEEPRING_BUSY");
    job.wait().expect("a snapshot");
    swapper.close().wait().expect("closed");
    writer.commit().wait().expect("committed");
    let copy = open(&engine, &place.path().join("copy"), options(1).create(true));
    copy.restore(&latest(&store)).wait().expect("restored");
    model.check(&copy);
}
