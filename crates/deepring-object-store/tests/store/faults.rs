//! Disks that are full or broken, and file systems without links or locks.

use crate::harness::child::{alone, forbid};
use crate::harness::disk::{Loop, ext4_image, forget_pages, free_bytes, mount, with_mounts};
use crate::harness::{assert_same, bytes, directory, engines};
use crate::places::{at, built, cached, files, get, over, put, put_when};
use deepring_object_store::{DeepringStore, Durability};
use object_store_014::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode};
use pollster::block_on;
use std::path::Path;

/// The file system's own directory is none of the store's.
fn objects(disk: &Path) -> Vec<String> {
    files(disk).into_iter().filter(|file| !file.starts_with("lost+found")).collect()
}

#[test]
fn a_full_disk_keeps_the_old_object_and_no_part_of_the_new_one() {
    with_mounts(|place| {
        let (image, disk) = (place.join("image"), place.join("disk"));
        ext4_image(&image, 32 << 20, &["-b", "4096"]);
        let device = Loop::attach(&image);
        mount(&device.path, &disk, "ext4", 0, "");
        for engine in engines() {
            for durability in [Durability::Synced, Durability::Cached] {
                let store = built(DeepringStore::builder(&engine).prefix(&disk).durability(durability));
                put(&store, "object", bytes(0, 1 << 20, 1));
                let before = free_bytes(&disk);
                let error = put_when(&store, "object", &bytes(0, 64 << 20, 2), PutMode::Overwrite).expect_err("it does not fit");
                assert!(error.to_string().contains("ENOSPC"), "{error}");
                // An upload does not say how much comes: the disk is full in the middle of it.
                let mut upload = block_on(store.put_multipart(&at("object"))).expect("an upload");
                let parts: Vec<_> = (0..8).map(|_| upload.put_part(bytes(0, 8 << 20, 3).into())).collect();
                let results: Vec<_> = parts.into_iter().map(block_on).collect();
                assert!(results.iter().any(|result| result.as_ref().is_err_and(|error| error.to_string().contains("ENOSPC"))));
                let error = block_on(upload.complete()).expect_err("a part has failed");
                assert!(error.to_string().contains("ENOSPC"), "{error}");
                block_on(upload.abort()).expect("it can be aborted");
                assert_eq!(objects(&disk), ["object"]);
                assert_same(&get(&store, "object").expect("the old object"), &bytes(0, 1 << 20, 1), "the old object");
                assert!(free_bytes(&disk) + (64 << 10) >= before, "the space is free again");
                put(&store, "next", bytes(0, 1 << 20, 4));
                block_on(store.delete(&at("next"))).expect("a delete");
            }
        }
    });
}

#[test]
fn a_disk_that_lost_its_end_is_an_error_of_the_ranges_there() {
    with_mounts(|place| {
        let (image, disk) = (place.join("image"), place.join("disk"));
        ext4_image(&image, 32 << 20, &["-b", "4096", "-O", "^has_journal"]);
        let device = Loop::attach(&image);
        mount(&device.path, &disk, "ext4", 0, "");
        std::fs::write(disk.join("object"), bytes(0, 24 << 20, 1)).expect("the file");
        free_bytes(&disk); // writes everything out
        forget_pages(&std::fs::File::open(disk.join("object")).expect("the file"));
        std::fs::OpenOptions::new().write(true).open(&image).and_then(|file| file.set_len(20 << 20)).expect("the cut");
        for engine in engines() {
            let store = cached(&engine, &disk);
            let error = block_on(store.get_ranges(&at("object"), &[0..100, (24 << 20) - 100..24 << 20])).expect_err("the end is gone");
            assert!(matches!(error, Error::Generic { .. }) && error.to_string().contains("EIO"), "{error}");
            let error = block_on(async { store.get(&at("object")).await?.bytes().await }).expect_err("the end is gone");
            assert!(error.to_string().contains("EIO"), "{error}");
            let found = block_on(store.get_ranges(&at("object"), std::slice::from_ref(&(0..100)))).expect("the start is there");
            assert_same(&found[0], &bytes(0, 100, 1), "the start");
        }
    });
}

#[test]
fn a_disk_that_cannot_flush_keeps_the_old_object() {
    with_mounts(|place| {
        // The file system below the image is full: what is written cannot be kept.
        let memory = place.join("memory");
        mount(Path::new("none"), &memory, "tmpfs", 0, "size=8m");
        let (image, disk) = (memory.join("image"), place.join("disk"));
        ext4_image(&image, 64 << 20, &["-b", "4096", "-O", "^has_journal", "-E", "lazy_itable_init=1"]);
        let device = Loop::attach(&image);
        mount(&device.path, &disk, "ext4", 0, "");
        for engine in engines() {
            let store = built(DeepringStore::builder(&engine).prefix(&disk));
            if get(&store, "object").is_err() {
                put(&store, "object", "old");
            }
            let error = put_when(&store, "object", &bytes(0, 20 << 20, 2), PutMode::Overwrite).expect_err("the disk cannot keep it");
            assert!(error.to_string().contains("EIO") || error.to_string().contains("ENOSPC"), "{error}");
            assert_eq!(get(&store, "object").expect("the old object"), b"old");
            assert_eq!(objects(&disk), ["object"]);
        }
    });
}

#[test]
fn an_object_on_another_file_system_is_copied_and_renamed_by_its_bytes() {
    with_mounts(|place| {
        mount(Path::new("none"), &place.join("store/memory"), "tmpfs", 0, "size=8m");
        let content = bytes(0, 300_001, 1);
        for engine in engines() {
            let builder = DeepringStore::builder(&engine).prefix(place.join("store")).chunk(1);
            let store = built(builder);
            put(&store, "object", content.clone());
            block_on(store.copy(&at("object"), &at("memory/copy"))).expect("a copy");
            let error = block_on(store.copy_if_not_exists(&at("object"), &at("memory/copy"))).expect_err("it exists");
            assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
            block_on(store.rename(&at("object"), &at("memory/renamed"))).expect("a rename");
            block_on(store.rename(&at("memory/copy"), &at("back"))).expect("a rename");
            assert_eq!(files(&place.join("store")), ["back", "memory/renamed"]);
            for name in ["back", "memory/renamed"] {
                assert_same(&get(&store, name).expect("an object"), &content, name);
                block_on(store.delete(&at(name))).expect("a delete");
            }
        }
    });
}

#[test]
fn without_locks_a_put_works_and_an_update_is_refused() {
    alone(|| {
        forbid(libc::SYS_flock, libc::EOPNOTSUPP, true);
        for engine in engines() {
            let place = directory();
            let store = cached(&engine, place.path());
            let first = put(&store, "object", "1");
            put(&store, "object", "2");
            assert!(store.stats().unlocked >= 2);
            let error = put_when(&store, "object", b"3", over(&first)).expect_err("no locks");
            assert!(matches!(error, Error::NotSupported { .. }) && error.to_string().contains("locks"), "{error}");
            put_when(&store, "new", b"4", PutMode::Create).expect("a create needs none");
            block_on(store.rename(&at("new"), &at("newer"))).expect("a rename");
            block_on(store.delete(&at("newer"))).expect("a delete");
            assert_eq!((files(place.path()), get(&store, "object").expect("an object")), (vec!["object".to_owned()], b"2".to_vec()));
        }
    });
}

#[test]
fn without_second_names_a_copy_has_the_bytes() {
    alone(|| {
        forbid(libc::SYS_linkat, libc::EPERM, true);
        for engine in engines() {
            let place = directory();
            let store = cached(&engine, place.path());
            put(&store, "object", bytes(0, 100_000, 1));
            block_on(store.copy(&at("object"), &at("copy"))).expect("a copy");
            block_on(store.copy_if_not_exists(&at("object"), &at("other"))).expect("a copy");
            assert_same(&get(&store, "copy").expect("an object"), &bytes(0, 100_000, 1), "the copy");
            assert_eq!(files(place.path()), ["copy", "object", "other"]);
            let meta = |name| block_on(store.head(&at(name))).expect("an object").e_tag;
            assert_ne!(meta("copy"), meta("object"), "it is another file");
        }
    });
}
