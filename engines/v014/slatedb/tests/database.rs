//! A database behind a tier: what was written is read back, from the drive the second time, and survives `kill -9`.

#[allow(dead_code, reason = "every test binary uses its own part of it")]
#[path = "../../../../crates/deepring-tensors/tests/harness/child.rs"]
mod children;

use children::{argument, spawn};
use engines_slatedb::{database, open};
use engines_support::{Place, kill_after, say, say_durable};
use slatedb::config::{FlushOptions, FlushType};
use slatedb::{Db, WriteBatch};
use std::collections::VecDeque;
use std::path::Path;

/// Of the first test: 50 000 values of 32 to 287 bytes.
const KEYS: u64 = 50_000;
/// Keys that are written at once, all or none.
const BATCH: u64 = 100;
/// Batches that are on their way to be durable at once, so that a kill always finds some half-way.
const AHEAD: usize = 8;

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// A value that no other key has, of a length of its own.
fn value(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let length = 32 + (state >> 56) as usize;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    bytes.flatten().take(length).collect()
}

/// The batch of keys that begins with this one.
fn batch(first: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    (first..first + BATCH).for_each(|number| batch.put(key(number), value(number)));
    batch
}

/// Reads everything in order, compares each key and value, and returns how many there are.
async fn read_all(db: &Db) -> u64 {
    let mut found = db.scan(..).await.expect("a scan");
    let mut number = 0;
    while let Some(pair) = found.next().await.expect("the next one") {
        assert_eq!(pair.key, key(number)[..], "key {number}");
        assert_eq!(pair.value, value(number), "the value of key {number}");
        number += 1;
    }
    number
}

/// Reads some keys, here and there, and keys that are not there.
async fn read_some(db: &Db) {
    for number in (0..KEYS).step_by(97) {
        let found = db.get(key(number)).await.expect("a read").unwrap_or_else(|| panic!("no key {number}"));
        assert_eq!(found, value(number), "the value of key {number}");
    }
    assert_eq!(db.get(key(KEYS)).await.expect("a read"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_read_back_and_the_second_time_from_the_drive() {
    let folder = Place::folder(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let place = open(folder.path()).expect("a place");
    let db = database(&place, true).await.expect("a database");
    for first in (0..KEYS).step_by(BATCH as usize) {
        db.write(batch(first)).await.expect("a write");
    }
    db.flush_with_options(FlushOptions { flush_type: FlushType::MemTable }).await.expect("a flush");
    db.close().await.expect("the end");
    drop((db, place));

    let place = open(folder.path()).expect("a place");
    let db = database(&place, false).await.expect("a database");
    assert_eq!(read_all(&db).await, KEYS);
    read_some(&db).await;
    place.tier().flush().await;
    let first = place.tier().stats();
    assert_eq!(read_all(&db).await, KEYS);
    read_some(&db).await;
    let second = place.tier().stats();
    say(&format!("first {first:?}\nsecond {second:?}")).expect("the output");
    assert!(first.bytes_from_remote > 0, "{first:?}");
    assert!(second.hits > first.hits, "{second:?}");
    assert_eq!(second.bytes_from_remote, first.bytes_from_remote, "{second:?}");
    db.close().await.expect("the end");
    drop((db, place));

    // And what the drive has is found again by the next process.
    let place = open(folder.path()).expect("a place");
    let db = database(&place, false).await.expect("a database");
    assert_eq!(read_all(&db).await, KEYS);
    let third = place.tier().stats();
    say(&format!("third {third:?}")).expect("the output");
    // Opened again, a database begins a log.
    assert!(third.hits > 0 && third.bytes_from_remote < first.bytes_from_remote / 100, "{third:?}");
    db.close().await.expect("the end");
}

/// Writes batches one after the other until it is killed, and says how many keys are durable, as soon as they are.
async fn write_until_killed(folder: &Path) {
    let place = open(folder).expect("a place");
    let db = database(&place, true).await.expect("a database");
    let mut written = read_all(&db).await;
    let mut waiting = VecDeque::new();
    loop {
        let handle = db.write(batch(written)).await.expect("a write");
        written += BATCH;
        waiting.push_back((written, handle));
        if waiting.len() == AHEAD {
            let (keys, first) = waiting.pop_front().expect("it is not empty");
            first.await_durable().await.expect("a durable write");
            say_durable(keys).expect("the parent reads");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_that_was_durable_is_there_after_its_process_was_killed() {
    const TEST: &str = "every_write_that_was_durable_is_there_after_its_process_was_killed";
    if let Some(arguments) = argument(TEST) {
        return write_until_killed(Path::new(&arguments[0])).await;
    }
    let folder = Place::folder(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let mut there = 0;
    // Right after the first write, and later: of a log, and of tables.
    for writes in [1, 10, 100, 400] {
        let acknowledged = kill_after(spawn(TEST, &[path]), writes).expect("SIGKILL").expect("the writer has ended before it was killed");

        let place = open(folder.path()).expect("a place");
        let db = database(&place, true).await.expect("a database");
        let found = read_all(&db).await;
        say(&format!("killed after {writes} writes: {acknowledged} keys were acknowledged, {found} are there")).expect("the output");
        assert!(
            found >= acknowledged && found >= there + writes as u64 * BATCH,
            "{acknowledged} keys were acknowledged, {found} are there"
        );
        let written_max = acknowledged + AHEAD as u64 * BATCH;
        assert!(found % BATCH == 0 && found <= written_max, "a batch is there in part, or one that was not written yet: {found}");
        there = found;
        db.close().await.expect("the end");
    }
}
