//! What is kept, and what goes.

use crate::child::{argument, await_line, spawn};
use crate::harness::{directory, engine, names_in, say, source};
use crate::model::{check, generation, is_clean, mixed, sealed, store};
use deepring::{Directory, LockKind};
use deepring_tensors::checkpoint::{BeginOptions, Check, CheckpointOptions, Checkpoints, PutOptions, StoreOptions};
use deepring_tensors::{DType, Error};
use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn save(store: &Checkpoints, step: u64) -> u64 {
    let options = CheckpointOptions::new().step(step);
    let captured = store.save(vec![source("x", DType::U8, &[1000])], options).wait().expect("captured");
    captured.commit().wait().expect("a commit").number
}

#[test]
fn the_newest_stay_and_every_tenth_step_and_what_is_pinned_or_read() {
    let (place, engine) = (directory(), engine());
    let options = StoreOptions::new().keep_last(2).keep_every(10);
    let store = Checkpoints::open(&engine, place.path(), options).wait().expect("a store");
    let list = || store.list().wait().expect("a list");
    for step in 9..12 {
        save(&store, step);
    }
    assert_eq!(list(), [2, 3]);
    store.pin(3).wait().expect("pinned");
    assert!(store.is_pinned(3).wait().expect("a look") && !store.is_pinned(2).wait().expect("a look"));
    save(&store, 12);
    // A reader of generation 4.
    let at = Directory::open(generation(place.path(), 4)).expect("a directory");
    let reader = at.try_lock("manifest.json", LockKind::Shared, false).expect("a lock").expect("free");
    for step in 13..16 {
        save(&store, step);
    }
    assert_eq!(list(), [2, 3, 4, 6, 7], "2 has step 10, 3 is pinned, 4 is read");
    assert!(matches!(store.remove(3).wait(), Err(Error::Conflict { .. })));
    assert!(matches!(store.remove(4).wait(), Err(Error::Conflict { .. })));
    drop(reader);
    store.unpin(3).wait().expect("unpinned");
    store.unpin(3).wait().expect("no pin is no error");
    let collected = store.collect().wait().expect("collected");
    assert_eq!((collected.generations, collected.temporaries), (vec![3, 4], 0));
    assert!(collected.bytes > 2000);
    store.remove(2).wait().expect("removed");
    for missing in [store.remove(2).wait(), store.pin(2).wait()] {
        assert!(matches!(missing, Err(Error::NoGeneration { generation: 2 })), "{missing:?}");
    }
    assert_eq!(list(), [6, 7]);
    assert!(is_clean(place.path()));
}

#[test]
fn the_newest_one_that_is_whole_stays() {
    let (place, engine) = (directory(), engine());
    let store = Checkpoints::open(&engine, place.path(), StoreOptions::new().keep_last(1)).wait().expect("a store");
    let keep = Checkpoints::open(&engine, place.path(), StoreOptions::new().keep_all()).wait().expect("a store");
    for step in 0..4 {
        save(&keep, step);
    }
    std::fs::remove_file(generation(place.path(), 4).join("data-00000-main-00000.safetensors")).expect("damaged");
    std::fs::write(generation(place.path(), 3).join("manifest.json"), b"{}").expect("damaged");
    let collected = store.collect().wait().expect("collected");
    assert_eq!(collected.generations, [1], "2 is the newest one that is whole");
    assert_eq!(store.list().wait().expect("a list"), [2, 3, 4]);
}

#[test]
fn numbers_only_grow() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    assert_eq!((save(&store, 0), save(&store, 0)), (1, 2));
    store.remove(1).wait().expect("removed");
    assert_eq!(save(&store, 0), 3);
    // What is in progress, and what is left of something, have their numbers.
    let id = "00112233445566778899aabbccddeeff";
    std::fs::create_dir(place.path().join(format!(".tmp-000000000007-{id}"))).expect("a leftover");
    assert_eq!(save(&store, 0), 8);
    std::fs::create_dir(place.path().join(format!(".trash-000000000020-{id}"))).expect("a leftover");
    assert_eq!(save(&store, 0), 21);
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    assert_eq!((writer.number(), save(&store, 0)), (22, 23));
    writer.commit().wait().expect("a commit");
    assert_eq!(store.list().wait().expect("a list").last(), Some(&23));
}

#[test]
fn a_live_writer_is_left_alone_however_old_and_a_dead_one_is_removed() {
    const TEST: &str = "collect::a_live_writer_is_left_alone_however_old_and_a_dead_one_is_removed";
    if let Some(arguments) = argument(TEST) {
        let engine = engine();
        let writer = store(&engine, Path::new(&arguments[0])).begin(BeginOptions::new()).wait().expect("a writer");
        writer.put_all(mixed("dead"), "main").wait().expect("put");
        say("here");
        std::thread::sleep(Duration::from_secs(600));
    }
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let live = store.begin(BeginOptions::new()).wait().expect("a writer");
    let tensors = mixed("live");
    live.put_all(tensors.clone(), "main").wait().expect("put");
    let mut child = spawn(TEST, &[place.path().to_str().expect("UTF-8")]);
    await_line(&mut child, "here");
    let id = "00112233445566778899aabbccddeeff";
    std::fs::create_dir_all(place.path().join(format!(".trash-000000000001-{id}/x"))).expect("a leftover");
    for step in 0..5 {
        save(&store, step);
    }
    let temporaries = || names_in(place.path()).into_iter().filter(|name| name.starts_with(".tmp-")).count();
    assert_eq!(temporaries(), 2, "both are alive");
    child.kill().expect("killed");
    child.wait().expect("the child's end");
    let collected = store.collect().wait().expect("collected");
    assert_eq!((collected.temporaries, temporaries()), (1, 1));
    let number = live.number();
    live.commit().wait().expect("a commit");
    assert!(is_clean(place.path()));
    // Five are newer: it went at once, as its number says.
    assert_eq!((number, store.list().wait().expect("a list")), (1, vec![5, 6, 7]));
}

#[test]
fn what_a_killed_collect_leaves_the_next_one_removes() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let first = save(&store, 0);
    let tensors = mixed("t");
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    for tensor in tensors.clone() {
        writer.put(tensor, PutOptions::new()).wait().expect("put");
    }
    let second = writer.commit().wait().expect("a commit").number;
    // Killed between the rename and the removal, and in the middle of that.
    let id = "00112233445566778899aabbccddeeff";
    let trash = place.path().join(format!(".trash-{first:012}-{id}"));
    std::fs::rename(generation(place.path(), first), &trash).expect("retired");
    std::fs::remove_file(trash.join("manifest.json")).expect("begun");
    assert_eq!(store.list().wait().expect("a list"), [second]);
    let collected = store.collect().wait().expect("collected");
    assert_eq!((collected.generations, collected.temporaries), (vec![], 0));
    assert!(collected.bytes > 1000 && is_clean(place.path()));
    check(&engine, &generation(place.path(), second), &tensors);
}

#[test]
fn generations_are_in_the_order_of_their_numbers_whatever_the_clock_said() {
    let (place, engine) = (directory(), engine());
    let store = Checkpoints::open(&engine, place.path(), StoreOptions::new().keep_last(1)).wait().expect("a store");
    let keep = Checkpoints::open(&engine, place.path(), StoreOptions::new().keep_all()).wait().expect("a store");
    let future = SystemTime::now() + Duration::from_secs(1 << 32);
    for (step, then) in [(0, future), (1, SystemTime::now()), (2, SystemTime::UNIX_EPOCH + Duration::from_secs(1))] {
        set_clock(&generation(place.path(), save(&keep, step)), then);
    }
    let latest = || store.latest(Check::All).wait().expect("a look").checkpoint.expect("one that is whole");
    assert_eq!((latest().number(), latest().created()), (3, SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
    assert_eq!(store.collect().wait().expect("collected").generations, [1, 2]);
    assert_eq!(save(&store, 3), 4);
    assert_eq!(store.list().wait().expect("a list"), [4]);
}

/// Makes it look as if a generation had been committed then.
fn set_clock(generation: &Path, then: SystemTime) {
    let path = generation.join("manifest.json");
    let millis = then.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    let text = std::fs::read_to_string(&path).expect("a manifest");
    let (before, after) = text.split_once("\"created\":").expect("a time");
    let (_, after) = after.split_once(',').expect("more fields");
    std::fs::write(&path, sealed(&format!("{before}\"created\":{millis},{after}"))).expect("a manifest");
    for path in names_in(generation).iter().map(|name| generation.join(name)).chain([generation.to_owned()]) {
        let times = FileTimes::new().set_modified(then).set_accessed(then);
        File::open(path).and_then(|file| file.set_times(times)).expect("a time");
    }
}

/// What another process holds, until it is killed.
fn hold(arguments: &[String]) {
    let [directory, name, kind] = arguments else { panic!("three arguments") };
    let kind = if kind == "shared" { LockKind::Shared } else { LockKind::Exclusive };
    let _lock = Directory::open(directory).and_then(|at| at.lock(name, kind, true)).expect("a lock");
    say("here");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn what_another_process_has_open_stays_until_it_ends() {
    const TEST: &str = "collect::what_another_process_has_open_stays_until_it_ends";
    if let Some(arguments) = argument(TEST) {
        return hold(&arguments);
    }
    let (place, engine) = (directory(), engine());
    let store = Checkpoints::open(&engine, place.path(), StoreOptions::new().keep_last(1)).wait().expect("a store");
    save(&store, 0);
    let at = generation(place.path(), 1);
    let mut reader = spawn(TEST, &[at.to_str().expect("UTF-8"), "manifest.json", "shared"]);
    await_line(&mut reader, "here");
    save(&store, 1);
    assert_eq!(store.list().wait().expect("a list"), [1, 2]);
    assert!(matches!(store.remove(1).wait(), Err(Error::Conflict { generation: 1, .. })));
    // It can be read by others, too.
    assert_eq!(store.generation(1).wait().expect("a generation").number(), 1);
    reader.kill().expect("killed");
    reader.wait().expect("its end");
    assert_eq!(store.collect().wait().expect("collected").generations, [1]);
}

#[test]
fn a_writer_begins_when_another_process_has_looked() {
    const TEST: &str = "collect::a_writer_begins_when_another_process_has_looked";
    if let Some(arguments) = argument(TEST) {
        return hold(&arguments);
    }
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let mut other = spawn(TEST, &[place.path().to_str().expect("UTF-8"), ".lock", "exclusive"]);
    await_line(&mut other, "here");
    std::thread::scope(|scope| {
        let begun = scope.spawn(|| store.begin(BeginOptions::new()).wait().expect("a writer"));
        // It cannot be seen that something will not happen; a writer that does not wait has begun by then.
        std::thread::sleep(Duration::from_millis(100));
        assert!(is_clean(place.path()) && !begun.is_finished());
        other.kill().expect("killed");
        other.wait().expect("its end");
        begun.join().expect("begun").commit().wait().expect("a commit");
    });
    assert_eq!(store.list().wait().expect("a list"), [1]);
}
