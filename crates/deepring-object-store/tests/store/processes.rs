//! Several processes on one store, and processes that are killed.

#[allow(dead_code, reason = "every test binary uses its own part of it")]
#[path = "../../../deepring-tensors/tests/harness/child.rs"]
mod children;

use crate::harness::{Rng, byte, directory, say};
use crate::places::{at, built, cached, files, get, listed, put};
use crate::writing::increment;
use children::{argument, spawn};
use deepring::Engine;
use deepring_object_store::{DeepringStore, Durability};
use object_store_014::{MultipartUpload, ObjectStoreExt, PutPayload};
use pollster::block_on;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

const INCREMENTS: usize = 200;
const PROCESSES: usize = 4;

fn engine() -> Engine {
    Engine::builder().build().expect("an engine")
}

#[test]
fn four_processes_that_increment_an_object_count_every_increment() {
    const TEST: &str = "processes::four_processes_that_increment_an_object_count_every_increment";
    if let Some(arguments) = argument(TEST) {
        let store = built(DeepringStore::builder(&engine()).prefix(&arguments[0]));
        (0..INCREMENTS).for_each(|_| increment(&store));
        say(&format!("{} updates came too late", store.stats().updates_lost));
        return;
    }
    let place = directory();
    let store = cached(&engine(), place.path());
    put(&store, "counter", "0");
    let path = place.path().to_str().expect("UTF-8");
    let children: Vec<_> = (0..PROCESSES).map(|_| spawn(TEST, &[path])).collect();
    for child in children {
        let output = child.wait_with_output().expect("the end of a child");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(get(&store, "counter").expect("the counter"), (INCREMENTS * PROCESSES).to_string().into_bytes());
    assert_eq!(files(place.path()), ["counter"]);
}

/// The object of a round: its length and every byte follow from the number in front, so that a mixture shows.
fn content(number: u64) -> Vec<u8> {
    let len = 30_000 + (number * 7919 % 400_000) as usize;
    let mut content = number.to_le_bytes().to_vec();
    content.extend((8..len as u64).map(|position| byte(position, number)));
    content
}

/// The number of an object that is whole.
fn number_of(found: &[u8]) -> u64 {
    let number = u64::from_le_bytes(found[..8].try_into().expect("a number"));
    assert!(found == content(number), "an object of {} bytes is a mixture", found.len());
    number
}

/// Puts and uploads for ever. After each, says so in a file.
fn write_for_ever(place: &Path, durability: Durability) -> ! {
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    let store = built(DeepringStore::builder(&engine()).prefix(place.join("store")).durability(durability));
    let first = get(&store, "put").map_or(0, |found| number_of(&found));
    for number in first + 1.. {
        let content = content(number);
        block_on(store.put(&at("put"), content.clone().into())).expect("a put");
        std::fs::write(place.join("acknowledged"), number.to_string()).expect("a file");
        let mut upload = block_on(store.put_multipart(&at("new/upload"))).expect("an upload");
        let parts: Vec<_> = content.chunks(20_000).map(|part| upload.put_part(PutPayload::from(part.to_vec()))).collect();
        block_on(futures_util::future::try_join_all(parts)).expect("parts");
        block_on(upload.complete()).expect("complete");
    }
    unreachable!("the numbers do not end")
}

#[test]
fn processes_that_are_killed_in_puts_and_uploads_leave_whole_objects_and_clean_listings() {
    const TEST: &str = "processes::processes_that_are_killed_in_puts_and_uploads_leave_whole_objects_and_clean_listings";
    const ROUNDS: u32 = 16;
    if let Some(arguments) = argument(TEST) {
        let durability = if arguments[1] == "cached" { Durability::Cached } else { Durability::Synced };
        write_for_ever(Path::new(&arguments[0]), durability);
    }
    let (place, mut rng) = (directory(), Rng::new());
    std::fs::create_dir(place.path().join("store")).expect("a directory");
    let store = cached(&engine(), &place.path().join("store"));
    put(&store, "put", content(0));
    put(&store, "new/upload", content(0));
    let path = place.path().to_str().expect("UTF-8");
    let (mut last, mut left) = ([0, 0], 0);
    let mut round_ms = 300;
    for round in 0..ROUNDS {
        let mut child = spawn(TEST, &[path, if round % 2 == 0 { "cached" } else { "synced" }]);
        std::thread::sleep(Duration::from_millis(50 + rng.below(round_ms)));
        child.kill().expect("kill -9");
        child.wait().expect("the end of the child");
        assert_eq!(listed(&store, ""), ["new/upload", "put"], "the listing is clean");
        let found = ["put", "new/upload"].map(|name| number_of(&get(&store, name).expect("an object")));
        let acknowledged = std::fs::read_to_string(place.path().join("acknowledged")).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        assert!(found[0] >= acknowledged, "put {acknowledged} was acknowledged, {} is there", found[0]);
        assert!(found[0] >= last[0] && found[1] >= last[1], "{found:?} after {last:?}");
        if found[0] == last[0] {
            // It had no time to begin.
            round_ms *= 2;
        }
        last = found;
        let swept = block_on(store.sweep(Duration::ZERO)).expect("a sweep");
        left += swept.files;
        assert_eq!(files(&place.path().join("store")), ["new/upload", "put"]);
    }
    assert!(last[0] > 0 && last[1] > 0, "no process had time to write: {last:?}");
    say(&format!("{} puts, {} uploads, {left} files in progress were left", last[0], last[1]));
}
