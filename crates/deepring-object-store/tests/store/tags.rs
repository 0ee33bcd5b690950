//! An `ETag` is a version: it differs between any two puts, and agrees wherever it is reported.

use crate::harness::{directory, skip};
use crate::places::{at, cached, put};
use deepring::Engine;
use futures_util::TryStreamExt;
use object_store_013::ObjectStoreExt as _;
use object_store_014::ObjectStore;
use pollster::block_on;
use std::collections::HashSet;
use std::path::Path;

/// Puts of one length to few names: inodes are given back and taken again all the time.
fn are_all_different(place: &Path) {
    const PUTS: usize = 20_000;
    let engine = Engine::builder().build().expect("an engine");
    let store = cached(&engine, place);
    let tags = std::sync::Mutex::new(HashSet::with_capacity(PUTS));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, tags) = (&store, &tags);
            scope.spawn(move || {
                let found: Vec<String> =
                    (0..PUTS / 4).map(|number| put(store, &format!("{}", (thread + number) % 3), "same").e_tag.expect("a tag")).collect();
                tags.lock().expect("no panic").extend(found);
            });
        }
    });
    assert_eq!(tags.into_inner().expect("no panic").len(), PUTS, "two puts have one ETag");
}

#[test]
fn twenty_thousand_puts_of_one_length_have_as_many_tags_on_a_disk() {
    are_all_different(directory().path());
}

#[test]
fn twenty_thousand_puts_of_one_length_have_as_many_tags_in_memory() {
    let Ok(place) = tempfile::tempdir_in("/dev/shm") else { return skip("there is no /dev/shm") };
    are_all_different(place.path());
}

#[test]
fn put_head_get_and_list_report_one_tag_in_both_versions() {
    let (place, engine) = (directory(), Engine::builder().build().expect("an engine"));
    let store = cached(&engine, place.path());
    let tag = put(&store, "dir/object", "x").e_tag.expect("a tag");
    let path = at("dir/object");
    let got = block_on(ObjectStore::get_opts(&store, &path, object_store_014::GetOptions::new())).expect("an object").meta;
    let head = block_on(ObjectStore::get_opts(&store, &path, object_store_014::GetOptions::new().with_head(true))).expect("an object").meta;
    let listed: Vec<_> = block_on(ObjectStore::list(&store, None).try_collect()).expect("a list");
    let level = block_on(ObjectStore::list_with_delimiter(&store, Some(&at("dir")))).expect("a list").objects;
    for meta in [&got, &head, &listed[0], &level[0]] {
        assert_eq!((meta.e_tag.as_deref(), meta.last_modified, meta.size), (Some(tag.as_str()), got.last_modified, 1));
    }
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    // The other version has its own way to write it, and takes either.
    let older = object_store_013::path::Path::parse("dir/object").expect("a path");
    let head = block_on(store.head(&older)).expect("an object");
    assert_eq!(head.e_tag.as_deref(), Some(tag.trim_matches('"')));
    let version = object_store_013::UpdateVersion { e_tag: Some(tag), version: None };
    let mode = object_store_013::PutMode::Update(version).into();
    block_on(object_store_013::ObjectStore::put_opts(&store, &older, "y".into(), mode)).expect("an update");
}

#[test]
fn where_times_are_coarse_an_update_is_refused() {
    // Such a file system is at hand only in tests of the kernel: ext4 with inodes of 128 bytes keeps whole seconds.
    crate::harness::disk::with_mounts(|place| {
        let (image, disk) = (place.join("image"), place.join("disk"));
        crate::harness::disk::ext4_image(&image, 16 << 20, &["-I", "128"]);
        let device = crate::harness::disk::Loop::attach(&image);
        crate::harness::disk::mount(&device.path, &disk, "ext4", 0, "");
        let engine = Engine::builder().build().expect("an engine");
        let store = cached(&engine, &disk);
        let first = put(&store, "object", "1");
        let error = crate::places::put_when(&store, "object", b"2", crate::places::over(&first)).expect_err("coarse times");
        assert!(matches!(error, object_store_014::Error::NotSupported { .. }), "{error}");
        assert_eq!(crate::places::get(&store, "object").expect("an object"), b"1");
    });
}
