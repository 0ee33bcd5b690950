//! Readers, writers and collectors of one store at the same time.

use crate::harness::{directory, engine, source};
use crate::model::{is_clean, store};
use deepring_tensors::DType;
use deepring_tensors::checkpoint::{Check, CheckpointOptions, Checkpoints, StoreOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const COMMITS: u64 = 150;

/// Commits again and again, and keeps one generation, while each of these goes on.
fn while_commits_come(place: &Path, others: &[&(dyn Fn() + Sync)]) {
    let engine = engine();
    let store = Checkpoints::open(&engine, place, StoreOptions::new().keep_last(1)).wait().expect("a store");
    let commit = || {
        let save = store.save(vec![source("x", DType::U8, &[1000])], CheckpointOptions::new());
        save.wait().expect("captured").commit().wait().expect("a commit")
    };
    commit();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for other in others {
            let is_done = &is_done;
            scope.spawn(move || {
                while !is_done.load(Ordering::Acquire) {
                    other();
                }
            });
        }
        let committing = scope.spawn(|| {
            for _ in 1..COMMITS {
                commit();
            }
        });
        let ended = committing.join();
        is_done.store(true, Ordering::Release);
        ended.expect("all commits");
    });
    // The last one that a reader had.
    store.collect().wait().expect("collected");
    assert_eq!(store.list().wait().expect("a list"), [COMMITS]);
}

#[test]
fn a_reader_always_finds_the_latest_while_others_are_removed() {
    let (place, reading) = (directory(), engine());
    let store = store(&reading, place.path());
    while_commits_come(
        place.path(),
        &[&|| {
            let latest = store.latest(Check::All).wait().expect("a look");
            assert!(latest.skipped.is_empty(), "{:?}", latest.skipped);
            let checkpoint = latest.checkpoint.expect("there is always one");
            // It stays as long as it is open.
            std::thread::yield_now();
            assert!(checkpoint.verify(None).wait().expect("readable").is_whole());
            assert!(store.list().wait().expect("a list").contains(&checkpoint.number()), "it was removed");
        }],
    );
}

#[test]
fn collecting_beside_commits_neither_fails_nor_takes_anything_away() {
    let (place, collecting) = (directory(), engine());
    let store = Checkpoints::open(&collecting, place.path(), StoreOptions::new().keep_last(1)).wait().expect("a store");
    let collect = || assert_eq!(store.collect().wait().expect("collected").temporaries, 0, "no writer has ended");
    while_commits_come(place.path(), &[&collect, &collect]);
    assert!(is_clean(place.path()));
}
