//! What fails leaves the generations before, and nothing else.

use crate::child;
use crate::disks::Mounted;
use crate::harness::{directory, engine, names_in, source};
use crate::model::{check, generation, is_clean, mixed, store};
use deepring_tensors::checkpoint::{BeginOptions, Check, CheckpointOptions, Checkpoints, PutOptions, StoreOptions};
use deepring_tensors::{DType, Error};
use std::path::Path;
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
fn of_two_committers_of_one_number_one_is_there_whole() {
    let (place, engine) = (directory(), engine());
    let (here, there) = (place.path().join("here"), place.path().join("there"));
    let open = |path: &Path| Checkpoints::open(&engine, path, StoreOptions::new().create(true)).wait().expect("a store");
    let (store, other) = (open(&here), open(&there));
    let save = |store: &Checkpoints, name| store.save(mixed(name), CheckpointOptions::new()).wait().expect("captured");
    let number = save(&other, "theirs").commit().wait().expect("a commit").number;
    let ours = save(&store, "ours");
    assert_eq!(ours.number(), number);
    let theirs = other.generation(number).wait().expect("a generation");
    let ended = std::thread::scope(|scope| {
        let copied = scope.spawn(|| theirs.copy_to(&here, None).wait());
        let committed = ours.commit().wait().map(drop);
        [committed, copied.join().expect("no panic")]
    });
    let expected = if ended[0].is_ok() { mixed("ours") } else { mixed("theirs") };
    let lost: Vec<&Error> = ended.iter().filter_map(|ended| ended.as_ref().err()).collect();
    assert!(matches!(lost[..], [Error::Conflict { generation, .. }] if *generation == number), "{ended:?}");
    check(&engine, &generation(&here, number), &expected);
    assert!(is_clean(&here));
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

#[test]
fn a_generation_is_not_passed_over_because_no_file_can_be_opened() {
    const TEST: &str = "fails::a_generation_is_not_passed_over_because_no_file_can_be_opened";
    let Some(arguments) = child::argument(TEST) else {
        let (place, engine) = (directory(), engine());
        let store = store(&engine, place.path());
        for number in 1..=2 {
            let saved = store.save(mixed("t"), CheckpointOptions::new()).wait().expect("captured");
            assert_eq!(saved.commit().wait().expect("a commit").number, number);
        }
        let mut child = child::spawn_limited(TEST, &[place.path().to_str().expect("UTF-8")], "-n 100");
        return assert!(child.wait().expect("the child").success());
    };
    let engine = engine();
    let store = store(&engine, Path::new(&arguments[0]));
    let newest = || store.latest(Check::Sizes).wait().map(|latest| (latest.checkpoint.map(|found| found.number()), latest.skipped.len()));
    let own = open_descriptors();
    // What a look has opened is closed behind its back.
    let closed = |hoard: &[std::fs::File]| {
        let began = Instant::now();
        while open_descriptors() > own + hoard.len() {
            assert!(began.elapsed() < Duration::from_secs(20), "a look leaves descriptors");
            std::thread::yield_now();
        }
    };
    assert_eq!(newest().expect("a look"), (Some(2), 0));
    let mut hoard = Vec::new();
    closed(&hoard);
    while let Ok(taken) = std::fs::File::open("/dev/null") {
        hoard.push(taken);
    }
    // None for the first step, then none for the second, and so on.
    let mut refused = 0;
    while let Err(error) = newest() {
        assert_eq!(error.code(), "EMFILE", "{error}");
        refused += 1;
        closed(&hoard);
        assert!(hoard.pop().is_some(), "no descriptor is enough");
    }
    assert!(refused > 2, "only {refused} steps needed a descriptor");
    closed(&hoard);
    assert_eq!(newest().expect("a look"), (Some(2), 0));
}

/// The descriptors of this process, of the hundred that it can have here. Takes none to count them.
fn open_descriptors() -> usize {
    // SAFETY: a number is passed, and no memory.
    (0..100).filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0).count()
}

#[test]
fn a_full_disk_leaves_the_generation_before_and_nothing_else() {
    let place = directory();
    let Some(_small) = Mounted::memory(place.path(), "48m") else { return };
    let engine = engine();
    let store = store(&engine, place.path());
    let tensors = mixed("t");
    store.save(tensors.clone(), CheckpointOptions::new()).wait().expect("captured").commit().wait().expect("a commit");
    let before = names_in(place.path());
    let large = || source("large", DType::U8, &[40 << 20]);
    let is_full = |error: Error| assert_eq!(error.code(), "ENOSPC", "{error}");
    is_full(store.save(vec![large()], CheckpointOptions::new()).wait().map(drop).expect_err("no room"));
    // What was copied is written behind the caller.
    let captured = store.save(vec![large()], CheckpointOptions::new().staging(48 << 20)).wait().expect("captured");
    is_full(captured.commit().wait().map(drop).expect_err("no room"));
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
