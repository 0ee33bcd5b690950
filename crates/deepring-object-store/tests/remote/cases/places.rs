//! Prefixes of all sorts.

use super::RemoteCheckpoints;
use super::object_store::ObjectStore;
use super::object_store::local::LocalFileSystem;
use super::object_store::memory::InMemory;
use super::object_store::path::Path;
use crate::generations::{Local, assert_same_generation, engine};
use crate::harness::directory;
use futures_util::TryStreamExt;
use pollster::block_on;
use std::sync::Arc;

#[test]
fn every_prefix_is_a_place_of_its_own() {
    let engine = engine();
    let (from, place) = (Local::small(&engine, 1), directory());
    let stores: [Arc<dyn ObjectStore>; 2] =
        [Arc::new(InMemory::new()), Arc::new(LocalFileSystem::new_with_prefix(place.path()).expect("a store"))];
    for store in stores {
        for (nth, prefix) in ["", "a", "a/b/c", "/a/", "with space", "ümläut/模型", "a#7", "..", "a/../b", "%2F", "000000000001", ".tmp-x"]
            .into_iter()
            .enumerate()
        {
            let remote = RemoteCheckpoints::new(Arc::clone(&store), prefix).part_bytes(1 << 20);
            let is_same_as_before = prefix == "/a/";
            assert_eq!(block_on(remote.list()).expect("a list").is_empty(), !is_same_as_before, "{prefix} ({nth})");
            let sent = block_on(remote.upload(&from.generation(1))).expect("sent");
            assert_eq!(sent.complete, is_same_as_before, "{prefix}");
            assert_eq!(block_on(remote.list()).expect("a list"), [1], "{prefix}");
            let to = Local::new(&engine);
            block_on(remote.download_latest(&to.store)).expect("fetched");
            assert_same_generation(&to, &from, 1);
        }
        let all: Vec<_> = block_on(store.list(None).try_collect()).expect("a listing");
        assert_eq!(all.len(), 11 * (from.files(1).len() + 1), "each has its objects, and nothing is elsewhere");
    }
    assert!(Path::parse("a/../b").is_err(), "such a path is escaped");
}
