//! Checkpoints on a file system that fails: what cannot be flushed is not called safe, and what cannot be read is not called
//! damaged.
//!
//! Mounting needs root and `/dev/fuse`; without them these tests are reported as skipped.

#[path = "../../deepring/tests/harness/mod.rs"]
mod harness;

use deepring::ErrorKind;
use deepring_tensors::checkpoint::{BeginOptions, Check, CheckpointOptions, Checkpoints, Reference, StoreOptions};
use deepring_tensors::{DType, Declared, Error, Source};
use deepring_trials::faultfs::{Call, Effect, Fault, Mounted, unavailable};
use harness::disk::with_mounts;
use harness::{bytes, engines, skip};
use std::path::Path;

/// Runs a test for each engine on a file system that fails on demand, which is empty, and all of which is a store.
fn with_stores(body: impl Fn(&mut Mounted, &Checkpoints) + Sync) {
    if let Some(why) = unavailable() {
        return skip(why);
    }
    with_mounts(|place| {
        let backing = place.join("backing");
        std::fs::create_dir(&backing).expect("a directory");
        for (nth, engine) in engines().into_iter().enumerate() {
            let at = place.join(format!("store-{nth}"));
            std::fs::create_dir(&at).expect("a mount point");
            let mut mounted = Mounted::start(&at, &backing, true).expect("a mounted file system");
            let store = Checkpoints::open(&engine, &at, StoreOptions::new()).wait().expect("a store");
            body(&mut mounted, &store);
        }
    });
}

fn tensors(salt: u64) -> Vec<Source<Vec<u8>>> {
    let declared = Declared { name: "weights".into(), dtype: DType::U8, shape: vec![100_000] };
    vec![Source { declared, data: bytes(0, 100_000, salt) }]
}

fn save(store: &Checkpoints, salt: u64) -> Result<u64, Error> {
    let captured = store.save(tensors(salt), CheckpointOptions::new()).wait()?;
    Ok(captured.commit().wait()?.number)
}

/// What the newest generation has.
fn newest(store: &Checkpoints) -> (u64, Vec<u8>) {
    let latest = store.latest(Check::All).wait().expect("a look");
    assert!(latest.skipped.is_empty(), "{:?}", latest.skipped);
    let checkpoint = latest.checkpoint.expect("one");
    let weights = checkpoint.tensor("weights", None).wait().expect("the tensor");
    (checkpoint.number(), weights.bytes().to_vec())
}

fn fail(mounted: &mut Mounted, call: Call, at: u64) {
    mounted.inject(&Fault { call, range: at..at + 1, times: u64::MAX, effect: Effect::Errno(libc::EIO) }).expect("the server");
}

fn io(error: &Error) -> &deepring::Error {
    let Error::Io { error, .. } = error else { panic!("{error}") };
    error
}

#[test]
fn if_the_store_cannot_be_flushed_the_commit_is_uncertain_and_the_generation_is_there() {
    with_stores(|mounted, store| {
        assert_eq!(save(store, 1).expect("a commit"), 1);
        // The directory that is mounted: the store itself, not that of the generation.
        fail(mounted, Call::SyncDirectory, 1);
        let error = save(store, 2).expect_err("the store cannot be flushed");
        assert_eq!((error.code().as_str(), io(&error).kind()), ("ERR_DEEPRING_UNCERTAIN", ErrorKind::Uncertain(libc::EIO)));
        assert_eq!((io(&error).syscall(), io(&error).path()), ("fsync", Some(mounted.path())));
        mounted.clear().expect("the server");
        assert_eq!(newest(store), (2, bytes(0, 100_000, 2)));
        assert_eq!(store.list().wait().expect("a list"), [1, 2], "a power cut can take the second away, so the first one stays");
        assert_eq!(save(store, 3).expect("a commit"), 3);
    });
}

#[test]
fn if_a_copy_cannot_be_flushed_it_is_uncertain_and_there() {
    with_stores(|mounted, store| {
        let place = harness::directory();
        let engine = deepring::Engine::builder().build().expect("an engine");
        let other = Checkpoints::open(&engine, place.path(), StoreOptions::new()).wait().expect("a store");
        assert_eq!(save(&other, 1).expect("a commit"), 1);
        fail(mounted, Call::SyncDirectory, 1);
        let copied = other.generation(1).wait().expect("a checkpoint").copy_to(mounted.path(), None).wait();
        assert_eq!(copied.expect_err("the store cannot be flushed").code(), "ERR_DEEPRING_UNCERTAIN");
        mounted.clear().expect("the server");
        assert_eq!(newest(store), (1, bytes(0, 100_000, 1)));
    });
}

#[test]
fn what_cannot_be_flushed_before_makes_no_generation() {
    with_stores(|mounted, store| {
        assert_eq!(save(store, 1).expect("a commit"), 1);
        fail(mounted, Call::Sync, 0);
        let error = save(store, 2).expect_err("no file can be flushed");
        assert_eq!(io(&error).kind(), ErrorKind::Os(libc::EIO), "{error}");
        mounted.clear().expect("the server");
        assert_eq!(newest(store), (1, bytes(0, 100_000, 1)));
        assert_eq!(left(mounted.path()), Vec::<String>::new());
    });
}

/// What writers have left in a store.
fn left(store: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(store).expect("the store").map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".tmp-") || name.starts_with(".trash-")).collect()
}

#[test]
fn a_generation_that_cannot_be_read_is_not_passed_over() {
    with_stores(|mounted, store| {
        assert_eq!((save(store, 1).expect("a commit"), save(store, 2).expect("a commit")), (1, 2));
        fail(mounted, Call::Read, 0);
        let error = store.latest(Check::Sizes).wait().expect_err("nothing can be read");
        assert_eq!((io(&error).kind(), io(&error).syscall()), (ErrorKind::Os(libc::EIO), "read"));
        mounted.clear().expect("the server");
        assert_eq!(newest(store), (2, bytes(0, 100_000, 2)));
    });
}

#[test]
fn where_files_have_one_name_only_a_group_is_copied() {
    with_stores(|_, store| {
        assert_eq!(save(store, 1).expect("a commit"), 1);
        let writer = store.begin(BeginOptions::new().reference(Reference::Latest)).wait().expect("a writer");
        let reused = writer.reference_group("main").wait().expect("taken over");
        assert!(reused.copied > 100_000 && reused.linked + reused.cloned == 0, "{reused:?}");
        assert_eq!(writer.commit().wait().expect("a commit").number, 2);
        store.remove(1).wait().expect("removed");
        assert_eq!(newest(store), (2, bytes(0, 100_000, 1)));
    });
}
