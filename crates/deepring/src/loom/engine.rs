//! The whole engine: the shipping driver, inbox and backend `threads` (one thread), over the device
//! of `memory`.

use super::memory::{LENT_BYTES, Lent, WRITTEN, lent};
use super::{explore, noticed};
use crate::backend::BackendKind;
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::file::File;
use crate::open::{Direct, OpenOptions};
use crate::planted::PlantedBug;
use crate::sync::STACK_WORDS;
use crate::sync::thread::{Builder, JoinHandle};
use std::path::PathBuf;

/// Enough for nearly every bug, and few enough to try every order.
const PREEMPTIONS: Option<usize> = Some(2);

/// A write that extends its file has three times the steps, some of them system calls.
const WRITE_PREEMPTIONS: Option<usize> = Some(1);

/// Runs a model on a thread with a stack that is large enough for the driver.
fn deep(model: impl FnOnce() + Send + 'static) {
    spawn(model).join().expect("a model");
}

fn spawn(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    Builder::new().stack_size(STACK_WORDS).spawn(body).expect("a thread")
}

/// A file as long as one lent buffer. Its bytes are never read: the device is a stand-in.
fn path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    std::fs::write(&path, [0u8; LENT_BYTES]).expect("a file");
    (directory, path)
}

fn engine(path: &std::path::Path) -> (Engine, File) {
    let engine = Engine::builder().backend(BackendKind::Threads).build().expect("an engine");
    let file = engine.open(path, OpenOptions::new().read(true).direct(Direct::Never)).expect("a file");
    (engine, file)
}

fn waited_for(path: PathBuf) {
    deep(move || {
        let (engine, file) = engine(&path);
        let done = file.read_exact_at(Lent::new(), 0).wait();
        assert_eq!(done.result.expect("a transfer").bytes, LENT_BYTES as u64);
        assert!(done.buf.is_some_and(|buf| buf.value() == WRITTEN));
        drop((file, engine));
        assert_eq!(lent(), 0);
    });
}

#[test]
fn a_request_is_handed_to_the_device_and_its_outcome_back() {
    let (_directory, path) = path();
    explore(PREEMPTIONS, move || waited_for(path.clone()));
}

#[test]
fn a_driver_that_misses_a_message_is_noticed() {
    let (_directory, path) = path();
    noticed(PlantedBug::LosesWake, "deadlock", PREEMPTIONS, move || waited_for(path.clone()));
}

fn dropped(path: PathBuf) {
    deep(move || {
        let (engine, file) = engine(&path);
        drop(file.read_exact_at(Lent::new(), 0));
        drop((file, engine));
        assert_eq!(lent(), 0);
    });
}

#[test]
fn memory_of_a_dropped_operation_stays_until_the_device_is_done() {
    let (_directory, path) = path();
    explore(PREEMPTIONS, move || dropped(path.clone()));
}

#[test]
fn memory_that_is_freed_when_its_operation_is_dropped_is_noticed() {
    let (_directory, path) = path();
    noticed(PlantedBug::FreesOnDrop, "freed while the device had it", PREEMPTIONS, move || dropped(path.clone()));
}

fn shut_down(path: PathBuf) {
    deep(move || {
        let (engine, file) = engine(&path);
        let submitter = spawn(move || {
            let op = file.read_exact_at(Lent::new(), 0);
            drop(file);
            let done = op.wait();
            match done.result {
                Ok(receipt) => assert_eq!(receipt.bytes, LENT_BYTES as u64),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Canceled),
            }
            assert!(done.buf.is_some());
        });
        drop(engine);
        submitter.join().expect("a submitter");
        assert_eq!(lent(), 0);
    });
}

#[test]
fn a_request_that_meets_shutdown_ends() {
    let (_directory, path) = path();
    explore(PREEMPTIONS, move || shut_down(path.clone()));
}

#[test]
fn a_shutdown_that_does_not_wait_for_the_device_is_noticed() {
    let (_directory, path) = path();
    noticed(PlantedBug::ClosesEarly, "left == right", PREEMPTIONS, move || shut_down(path.clone()));
}

fn closed(path: PathBuf) {
    deep(move || {
        let (engine, file) = engine(&path);
        let op = file.read_exact_at(Lent::new(), 0);
        let closed = file.close();
        drop(op);
        closed.wait().expect("a close");
        drop(engine);
        assert_eq!(lent(), 0);
    });
}

#[test]
fn a_file_is_closed_when_the_device_is_done_with_it() {
    let (_directory, path) = path();
    explore(PREEMPTIONS, move || closed(path.clone()));
}

#[test]
fn a_file_that_is_closed_in_use_is_noticed() {
    let (_directory, path) = path();
    noticed(PlantedBug::ClosesInUse, "closed while the device had it", PREEMPTIONS, move || closed(path.clone()));
}

/// With a blocking thread: space is preallocated for the write, and the file is trimmed after it.
fn write_dropped(path: PathBuf) {
    deep(move || {
        std::fs::write(&path, []).expect("an empty file");
        let engine = Engine::builder().backend(BackendKind::Threads).build().expect("an engine");
        let file = engine.open(&path, OpenOptions::new().read(true).write(true).direct(Direct::Never)).expect("a file");
        drop(file.write_at(Lent::new(), 0));
        drop((file, engine));
        assert_eq!(lent(), 0);
        let len = std::fs::metadata(&path).expect("a file").len();
        assert!([0, LENT_BYTES as u64].contains(&len), "{len} bytes: neither the old length nor the new one");
    });
}

#[test]
fn a_write_that_is_dropped_leaves_the_file_as_long_as_it_was_or_will_be() {
    let (_directory, path) = path();
    explore(WRITE_PREEMPTIONS, move || write_dropped(path.clone()));
}
