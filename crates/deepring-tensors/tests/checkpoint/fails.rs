//! What fails leaves the generations before, and nothing else.

use crate::harness::{directory, engine, names_in, say, source};
use crate::model::{check, generation, is_clean, mixed, store};
use deepring_tensors::checkpoint::{BeginOptions, CheckpointOptions, PutOptions};
use deepring_tensors::{DType, Error};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_directory_of_the_number_is_a_conflict_also_an_empty_one() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    for fill in [false, true] {
        let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
        let number = writer.number();
        let taken = generation(place.path(), number);
        std::fs::create_dir(&taken).expect("a directory of the number");
        if fill {
            std::fs::write(taken.join("x"), b"x").expect("a file");
        }
        writer.put(source("t", DType::U8, &[5]), PutOptions::new()).wait().expect("put");
        let error = writer.commit().wait().expect_err("the name is taken");
        assert!(matches!(error, Error::Conflict { generation, .. } if generation == number), "{error}");
        assert_eq!(names_in(&taken), if fill { vec!["x"] } else { vec![] }, "it is as it was");
        assert!(is_clean(place.path()));
    }
}

#[test]
fn a_put_that_is_dropped_fails_the_checkpoint() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    let mut put = writer.put(source("large", DType::U8, &[32 << 20]), PutOptions::new());
    // Until it has a place in a file and is at the drive.
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let began = Instant::now();
    loop {
        use std::future::Future;
        let polled = std::pin::Pin::new(&mut put).poll(&mut context);
        assert!(polled.is_pending(), "it has ended before it could be dropped");
        let files = std::fs::read_dir(place.path()).expect("the store").flatten();
        let mut names = files.filter(|file| file.path().is_dir()).flat_map(|file| names_in(&file.path()));
        if names.any(|name| name.contains("data-")) {
            let _ = std::pin::Pin::new(&mut put).poll(&mut context);
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "there is no file");
    }
    drop(put);
    let error = writer.put(source("next", DType::U8, &[5]), PutOptions::new()).wait().expect_err("it has failed");
    assert!(matches!(error, Error::Argument(_)) && error.to_string().contains("large"), "{error}");
    assert!(writer.commit().wait().is_err());
    assert!(is_clean(place.path()) && store.list().wait().expect("a list").is_empty());
}

/// A small file system of its own, for as long as the value lives.
struct Small<'p>(&'p Path);

impl<'p> Small<'p> {
    fn mount(at: &'p Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the file system stays mounted");
    }
}

#[test]
fn a_full_disk_leaves_the_generation_before_and_nothing_else() {
    let place = directory();
    let Some(_small) = Small::mount(place.path(), "48m") else {
        return say("skipped: mounting needs root");
    };
    let engine = engine();
    let store = store(&engine, place.path());
    let tensors = mixed("t");
    store.save(tensors.clone(), CheckpointOptions::new()).wait().expect("captured").commit().wait().expect("a commit");
    let before = names_in(place.path());
    let large = || source("large", DType::U8, &[40 << 20]);
    let is_full = |error: Error| assert_eq!(error.code(), "ENOSPC", "{error}");
    is_full(store.save(vec![large()], CheckpointOptions::new()).wait().map(drop).expect_err("no room"));
    is_full(store.save(vec![large()], CheckpointOptions::new().staging(48 << 20)).wait().map(drop).expect_err("no room"));
    for staging in [0, 64 << 20] {
        let writer = store.begin(BeginOptions::new().staging(staging)).wait().expect("a writer");
        let put = writer.put(large(), PutOptions::new()).wait();
        let small = writer.put(source("small", DType::U8, &[5]), PutOptions::new()).wait();
        assert!(staging > 0 || small.is_err(), "it goes on after a failure");
        is_full(put.map(drop).and(writer.commit().wait().map(drop)).expect_err("no room"));
        assert_eq!(names_in(place.path()), before, "with staging {staging}");
    }
    check(&engine, &generation(place.path(), 1), &tensors);
}
