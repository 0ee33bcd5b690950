//! Promise: a record has every call that changes a name below a directory or flushes there, once, in order, and no other.

mod harness;

use deepring::sim::Recorded::{Create, Link, MakeDirectory, RemoveDirectory, RemoveFile, Rename, SyncDirectory, SyncFile};
use deepring::sim::{Recorded, record};
use deepring::{Directory, Engine, LockKind, ReplaceOptions};
use harness::directory;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    name.into()
}

#[test]
fn calls_of_a_directory_are_recorded_in_order() {
    let place = directory();
    let record = record(place.path()).expect("a record");
    let top = Directory::open(place.path()).expect("the directory");
    let draft = top.make_directory("draft", 0o777).expect("a directory");
    let lock = draft.lock("lock", LockKind::Exclusive, true).expect("a lock");
    assert!(draft.try_lock("lock", LockKind::Shared, true).expect("an answer").is_none());
    draft.link("lock", &top, "second").expect("a link");
    draft.sync().expect("a flush");
    top.rename("draft", &top, "final").expect("a rename");
    top.sync().expect("a flush");
    // Through the same descriptor, under its new name.
    draft.make_directory("inner", 0o777).expect("a directory");
    draft.remove_file("lock").expect("the file");
    // What fails is not there.
    top.rename("second", &top, "final").expect_err("it is taken");
    draft.remove_directory("none").expect_err("it is missing");
    top.remove_tree("final").expect("a tree");
    drop(lock);
    let expected = [
        MakeDirectory(path("draft")),
        Create(path("draft/lock")),
        Link(path("draft/lock"), path("second")),
        SyncDirectory(path("draft")),
        Rename(path("draft"), path("final")),
        SyncDirectory(path("")),
        MakeDirectory(path("final/inner")),
        RemoveFile(path("final/lock")),
        RemoveDirectory(path("final/inner")),
        RemoveDirectory(path("final")),
    ];
    assert_eq!(record.calls(), expected);
}

#[test]
fn calls_of_a_replacement_are_recorded_in_order() {
    let place = directory();
    let target = place.path().join("weights");
    let engine = Engine::builder().build().expect("an engine");
    let record = record(place.path()).expect("a record");
    let replacement = engine.replace(&target, ReplaceOptions::new().sync_directory(false)).wait().expect("a temporary file");
    replacement.file().write_at(vec![7u8; 5000], 0).wait().result.expect("a write");
    replacement.commit().wait().expect("a commit");
    engine.sync_directory(place.path()).wait().expect("a flush");
    let calls = record.calls();
    let Some(Create(temporary)) = calls.first().cloned() else { panic!("{calls:?}") };
    assert!(temporary.to_string_lossy().starts_with(".weights."), "{}", temporary.display());
    let expected = [Create(temporary.clone()), SyncFile(temporary.clone()), Rename(temporary, path("weights")), SyncDirectory(path(""))];
    assert_eq!(calls, expected);
    let abandoned = engine.replace(&target, ReplaceOptions::new()).wait().expect("a temporary file");
    abandoned.abandon().wait().expect("it is gone");
    assert!(matches!(&record.calls()[4..], [Create(one), RemoveFile(other)] if one == other), "{:?}", record.calls());
}

#[test]
fn a_record_has_what_happens_below_its_directory_and_until_it_is_dropped() {
    let place = directory();
    let top = Directory::open(place.path()).expect("the directory");
    let inside = top.make_directory("inside", 0o777).expect("a directory");
    let beside = top.make_directory("inside-not", 0o777).expect("a directory");
    let (outer, inner) = (record(place.path()).expect("a record"), record(inside.path()).expect("a record"));
    beside.make_directory("one", 0o777).expect("a directory");
    inside.make_directory("two", 0o777).expect("a directory");
    beside.rename("one", &inside, "one").expect("a rename");
    let absolute = |name: &str| place.path().canonicalize().expect("the directory").join(name);
    assert_eq!(inner.calls(), [MakeDirectory(path("two")), Rename(absolute("inside-not/one"), path("one"))]);
    let all = |calls: Vec<Recorded>| calls.len();
    assert_eq!(all(outer.calls()), 3);
    drop(inner);
    inside.sync().expect("a flush");
    assert_eq!(outer.calls().last(), Some(&SyncDirectory(path("inside"))));
    record(Path::new("/no/such/directory")).expect_err("there is nothing to record");
}

#[test]
fn threads_that_are_recorded_leave_an_order_that_can_have_happened() {
    let place = directory();
    let top = Directory::open(place.path()).expect("the directory");
    let record = record(place.path()).expect("a record");
    // Each name is given and taken away in turns by two threads: the record must alternate.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    // The other thread can have been faster.
                    drop(top.make_directory("name", 0o777));
                    drop(top.remove_directory("name"));
                }
            });
        }
    });
    let calls = record.calls();
    assert!(calls.len() >= 200, "only {} calls", calls.len());
    for (index, call) in calls.iter().enumerate() {
        let expected = if index % 2 == 0 { MakeDirectory(path("name")) } else { RemoveDirectory(path("name")) };
        assert_eq!(*call, expected, "call {index}");
    }
}
