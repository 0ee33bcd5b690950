//! What is in memory at once, and settings that are out of range.

use super::{PART_BYTES, RemoteError, sent, watched};
use crate::generations::{Local, assert_same_generation, engine};
use pollster::block_on;

#[test]
fn parts_are_on_their_way_at_once_and_no_more_than_were_asked_for() {
    let engine = engine();
    let from = Local::wide(&engine);
    for parts in [1, 2, 5] {
        let (remote, store) = watched();
        let remote = remote.parts_in_flight(parts);
        store.pauses(3);
        block_on(remote.upload(&from.generation(1))).expect("sent");
        let bound = parts * PART_BYTES as usize;
        // Tables are in memory as they are.
        let tables: usize = from.files(1).iter().filter(|(name, _)| !name.ends_with(".safetensors")).map(|(_, bytes)| bytes.len()).sum();
        let most = store.alive.most();
        assert!(most <= bound + tables, "{most} bytes at once, and {bound} are allowed");
        assert!(parts == 1 || most > PART_BYTES as usize, "{most} bytes at once: the parts came one after the other");
        let (again, to) = (super::remote(std::sync::Arc::clone(store.inner())), Local::new(&engine));
        block_on(again.download(&to.store, 1)).expect("fetched");
        assert_same_generation(&to, &from, 1);
        // And back.
        let watched = std::sync::Arc::new(super::Watched::new(std::sync::Arc::clone(store.inner())));
        watched.pauses(3);
        let to = Local::new(&engine);
        let remote = super::remote(std::sync::Arc::clone(&watched) as _).parts_in_flight(parts);
        block_on(remote.download(&to.store, 1)).expect("fetched");
        let most = watched.alive.most();
        // A chunk that is larger than the rest of a part comes as a whole.
        assert!(most <= bound + tables, "{most} bytes at once, and {bound} are allowed");
        assert!(parts == 1 || most > PART_BYTES as usize, "{most} bytes at once: the pieces came one after the other");
        assert_eq!(watched.alive.now(), 0);
        assert_same_generation(&to, &from, 1);
    }
}

#[test]
fn parts_can_have_any_size() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    for (part_bytes, parts) in [(1 << 10, 1024), (123_457, 7), (1 << 20, 1), (5 << 30, 1024)] {
        let (remote, _store) = watched();
        let remote = remote.part_bytes(part_bytes).parts_in_flight(parts);
        sent(&remote, &from);
        let to = Local::new(&engine);
        block_on(remote.download(&to.store, 1)).expect("fetched");
        assert_same_generation(&to, &from, 1);
    }
}

#[test]
fn settings_out_of_range_are_refused_by_every_call() {
    let from = Local::small(&engine(), 1);
    for (part_bytes, parts, named) in
        [(0, 1, "part_bytes"), ((5 << 30) + 1, 1, "part_bytes"), (1, 0, "parts_in_flight"), (1, 1025, "parts_in_flight")]
    {
        let (remote, store) = watched();
        let remote = remote.part_bytes(part_bytes).parts_in_flight(parts);
        let results = [
            block_on(remote.upload(&from.generation(1))).map(drop),
            block_on(remote.download(&from.store, 1)).map(drop),
            block_on(remote.download_latest(&from.store)).map(drop),
            block_on(remote.list()).map(drop),
            block_on(remote.latest()).map(drop),
        ];
        for result in results {
            assert!(matches!(result, Err(RemoteError::Setting { setting, .. }) if setting == named));
        }
        assert_eq!(store.calls(), [""; 0]);
    }
}
