//! Transfers that fail at every call, and those that go on after them.

use super::object_store::ObjectStore;
use super::watched::Fails;
use super::{at, download, get, objects, put, sent, watched};
use crate::generations::{Local, assert_same_generation, engine};
use pollster::block_on;

/// More calls than any of these transfers makes.
const CALLS_MAX: usize = 60;

#[test]
fn an_upload_that_fails_at_any_call_shows_nothing_and_the_next_one_ends_it() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    for fails in [Fails::Before, Fails::After] {
        let mut resumed = 0;
        for call in 0.. {
            assert!(call < CALLS_MAX, "it goes on for ever");
            let (remote, store) = watched();
            store.fail(Some((call, fails)));
            let result = block_on(remote.upload(&from.generation(1)));
            let calls = store.calls();
            if calls.len() <= call {
                result.expect("no call has failed");
                break;
            }
            store.fail(None);
            let has_manifest = objects(&*store, 1).contains(&"manifest.json".into());
            if result.is_err() {
                assert_eq!(
                    has_manifest,
                    fails == Fails::After && calls[call].starts_with("create") && calls[call].ends_with("manifest.json")
                );
            } else {
                // The answer to its own claim, or to an abort, does not matter.
                assert!(has_manifest, "{calls:?}");
            }
            assert_eq!(block_on(remote.list()).expect("a list"), if has_manifest { vec![1] } else { Vec::<u64>::new() });
            store.calls();
            let again = block_on(remote.upload(&from.generation(1))).unwrap_or_else(|error| panic!("after {}: {error}", calls[call]));
            assert!(again.complete == has_manifest && (again.complete || again.moved + again.found == again.bytes), "{again:?}");
            resumed += u32::from(again.found > 0);
            let to = Local::new(&engine);
            block_on(remote.download(&to.store, 1)).expect("fetched");
            assert_same_generation(&to, &from, 1);
            assert_eq!(objects(&*store, 1).len(), from.files(1).len() + 1);
        }
        assert!(resumed > 3, "no upload has found what another has left");
    }
}

#[test]
fn a_download_that_fails_at_any_call_shows_nothing_and_the_next_one_ends_it() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote, store) = watched();
    sent(&remote, &from);
    for parts in [1, 3] {
        let (remote, mut resumed) = (remote.clone().parts_in_flight(parts), 0);
        for call in 0.. {
            assert!(call < CALLS_MAX, "it goes on for ever");
            let to = Local::new(&engine);
            store.fail(Some((call, Fails::Before)));
            let result = block_on(remote.download(&to.store, 1));
            if store.calls().len() <= call {
                result.expect("no call has failed");
                break;
            }
            result.expect_err("a call has failed");
            assert!(to.numbers().is_empty());
            store.fail(None);
            let again = download(&remote, &to, 1).expect("fetched");
            assert_eq!(again.moved + again.found, again.bytes);
            resumed += u32::from(again.found > 0);
            assert_same_generation(&to, &from, 1);
            assert_eq!(to.names(), [".lock", "000000000001"]);
        }
        // Of several at once, none may have come to its end.
        assert!(resumed > 0 || parts > 1, "no download has found what another has left");
    }
}

#[test]
fn what_a_download_has_left_is_compared_and_fetched_again_if_it_is_not_right() {
    let engine = engine();
    let from = Local::several(&engine);
    let (remote, store) = watched();
    block_on(remote.upload(&from.generation(1))).expect("sent");
    // One file after the other, so that nothing goes on when one has failed.
    let remote = remote.parts_in_flight(1);
    for damage in 0..6 {
        let to = Local::new(&engine);
        let last = from.files(1).into_keys().rfind(|name| name.ends_with(".safetensors")).expect("files");
        let intact = get(&*store, &at(1, &last));
        put(&*store, &at(1, &last), intact[1..].to_vec());
        block_on(remote.download(&to.store, 1)).expect_err("an object is short");
        put(&*store, &at(1, &last), intact);
        let left = to.names().into_iter().find(|name| name.starts_with(".tmp-")).expect("what it has left");
        let left = to.place.path().join(left);
        let files = crate::generations::files(&left);
        let (name, bytes) = files.iter().find(|(name, _)| name.ends_with(".safetensors")).expect("a file has arrived");
        let path = left.join(name);
        let mut changed = bytes.clone();
        match damage {
            0 => changed[bytes.len() - 1] ^= 1,
            1 => changed[20] ^= 1,
            2 => changed.truncate(bytes.len() - 1),
            3 => changed.push(0),
            4 => changed.clear(),
            _ => {}
        }
        std::fs::write(&path, &changed).expect("a file");
        // Neither are these.
        std::fs::write(left.join("manifest.json"), "{}").expect("a file");
        std::fs::write(left.join(".data.tmp"), "x").expect("a file");
        let arrived: u64 = files.iter().filter(|(name, _)| name.ends_with(".safetensors")).map(|(_, bytes)| bytes.len() as u64).sum();
        let again = download(&remote, &to, 1).expect("fetched");
        let wrong = if damage < 5 { bytes.len() as u64 } else { 0 };
        assert_eq!((again.found, again.moved), (arrived - wrong, again.bytes - arrived + wrong), "damage {damage}");
        assert_same_generation(&to, &from, 1);
    }
}

#[test]
fn what_a_download_has_left_goes_with_the_next_collection() {
    let engine = engine();
    let (from, to) = (Local::small(&engine, 1), Local::new(&engine));
    let (remote, store) = watched();
    sent(&remote, &from);
    store.fail(Some((4, Fails::Before)));
    block_on(remote.download(&to.store, 1)).expect_err("a call fails");
    assert!(to.names().iter().any(|name| name.starts_with(".tmp-000000000001-")));
    // A file that was just being named keeps the lock until it is.
    let is_collected = || to.store.collect().wait().expect("collected").temporaries == 1;
    crate::harness::eventually(std::time::Duration::from_secs(20), "it is collected", is_collected);
    assert_eq!(to.names(), [".lock"]);
    store.fail(None);
    block_on(remote.download(&to.store, 1)).expect("fetched");
    assert_same_generation(&to, &from, 1);
}

#[test]
fn an_upload_sends_again_what_is_not_right_there() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let names: Vec<String> = from.files(1).into_keys().filter(|name| name != "manifest.json").collect();
    for name in names {
        for damage in 0..5 {
            let (remote, store) = watched();
            sent(&remote, &from);
            let intact = get(&*store, &at(1, &name));
            let mut changed = intact.clone();
            match damage {
                // The length stays.
                0 => changed[intact.len() - 2] ^= 1,
                1 => changed[0] ^= 1,
                2 => changed.truncate(intact.len() - 1),
                3 => changed.push(b' '),
                _ => changed.clear(),
            }
            put(&*store, &at(1, &name), changed);
            delete(&*store, "manifest.json");
            let again = block_on(remote.upload(&from.generation(1))).expect("sent");
            let moved = if name.ends_with(".safetensors") { intact.len() as u64 } else { 0 };
            assert_eq!((again.moved, again.found), (moved, again.bytes - moved), "{name}, damage {damage}");
            assert!(get(&*store, &at(1, &name)) == intact, "{name}, damage {damage}");
        }
    }
}

/// Removes an object of the first generation.
fn delete(store: &dyn ObjectStore, name: &str) {
    use futures_util::TryStreamExt;
    let paths = futures_util::stream::iter([Ok(at(1, name))]);
    block_on(store.delete_stream(Box::pin(paths)).try_collect::<Vec<_>>()).expect("deleted");
}
