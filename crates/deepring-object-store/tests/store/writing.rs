//! Puts, copies, renames, deletes and sweeps: whole or not at all, under the condition that was asked for.

use crate::harness::{assert_same, bytes, directory, engines, is_direct};
use crate::places::{at, built, files, get, listed, over, put, put_when, stores};
use deepring_object_store::{DeepringStore, Durability, Locking};
use futures_util::{StreamExt, TryStreamExt};
use object_store_014::{Attribute, Attributes, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use pollster::block_on;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

#[test]
fn a_payload_of_any_parts_is_one_object() {
    for (place, store) in stores() {
        for sizes in [vec![], vec![0], vec![1], vec![4096], vec![1, 4095, 0, 4097], vec![5000; 40], vec![3 << 20, 1, (1 << 20) - 1]] {
            let content = bytes(0, sizes.iter().sum(), 1);
            let mut rest = bytes::Bytes::from(content.clone());
            let payload: PutPayload = sizes.iter().map(|&size| rest.split_to(size)).collect();
            block_on(store.put(&at("object"), payload)).expect("a put");
            assert_same(&get(&store, "object").expect("the object"), &content, &format!("{sizes:?}"));
            assert_eq!(files(place.path()), ["object"]);
        }
    }
}

#[test]
fn a_put_makes_the_directories_above_it_for_either_durability() {
    for engine in engines() {
        for durability in [Durability::Synced, Durability::Cached] {
            let place = directory();
            let store = built(DeepringStore::builder(&engine).prefix(place.path()).durability(durability));
            let puts = (0..40).map(|number| {
                let store = &store;
                async move { store.put(&at(&format!("a/b/{}/c/{number}", number % 3)), "x".into()).await }
            });
            let done: Vec<_> = block_on(futures_util::stream::iter(puts).buffer_unordered(16).try_collect()).expect("puts");
            assert_eq!((done.len(), listed(&store, "a/b").len()), (40, 40));
        }
    }
}

#[test]
fn of_many_creators_one_wins_with_either_locking() {
    for engine in engines() {
        for locking in [Locking::Host, Locking::Process] {
            let place = directory();
            let store = built(DeepringStore::builder(&engine).prefix(place.path()).durability(Durability::Cached).locking(locking));
            for round in 0..10 {
                let name = format!("{round}");
                let won: Vec<usize> = std::thread::scope(|scope| {
                    let create = |number: usize| {
                        let (store, name) = (&store, &name);
                        scope.spawn(move || match put_when(store, name, number.to_string().as_bytes(), PutMode::Create) {
                            Ok(_) => Some(number),
                            Err(Error::AlreadyExists { .. }) => None,
                            Err(error) => panic!("{error}"),
                        })
                    };
                    let threads: Vec<_> = (0..8).map(create).collect();
                    threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
                });
                assert_eq!(won.len(), 1, "{won:?} have won");
                assert_eq!(get(&store, &name).expect("an object"), won[0].to_string().into_bytes());
            }
            assert_eq!(store.stats().creates_lost, 70);
            assert_eq!(files(place.path()).len(), 10);
        }
    }
}

#[test]
fn an_update_needs_the_version_that_it_names() {
    for (place, store) in stores() {
        let first = put(&store, "object", "1");
        let second = put_when(&store, "object", b"2", over(&first)).expect("an update");
        for mode in [over(&first), PutMode::Update(UpdateVersion { e_tag: Some("\"x\"".into()), version: None })] {
            let error = put_when(&store, "object", b"3", mode).expect_err("another version");
            assert!(matches!(error, Error::Precondition { .. }), "{error}");
        }
        let none = PutMode::Update(UpdateVersion { e_tag: None, version: Some("7".into()) });
        assert!(matches!(put_when(&store, "object", b"3", none), Err(Error::Generic { .. })));
        let error = put_when(&store, "missing/object", b"3", over(&second)).expect_err("no object");
        assert!(matches!(error, Error::Precondition { .. }), "{error}");
        assert_eq!(get(&store, "object").expect("an object"), b"2");
        // Neither an unconditional put, nor a delete, nor a rename goes unnoticed.
        put(&store, "object", "4");
        assert!(matches!(put_when(&store, "object", b"5", over(&second)), Err(Error::Precondition { .. })));
        let fourth = block_on(store.head(&at("object"))).expect("an object").e_tag;
        block_on(store.rename(&at("object"), &at("renamed"))).expect("a rename");
        let fourth = PutMode::Update(UpdateVersion { e_tag: fourth, version: None });
        assert!(matches!(put_when(&store, "object", b"5", fourth.clone()), Err(Error::Precondition { .. })));
        put_when(&store, "renamed", b"5", fourth).expect("it has the version");
        assert_eq!(files(place.path()), ["renamed"]);
        assert_eq!(store.stats().updates_lost, 5);
    }
}

#[test]
fn a_counter_that_many_threads_increment_by_update_counts_all() {
    for engine in engines() {
        for locking in [Locking::Host, Locking::Process] {
            let place = directory();
            let store = built(DeepringStore::builder(&engine).prefix(place.path()).durability(Durability::Cached).locking(locking));
            put(&store, "counter", "0");
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..25).for_each(|_| increment(&store)));
                }
            });
            assert_eq!(get(&store, "counter").expect("the counter"), b"100");
        }
    }
}

/// Adds one to an object, however often another is faster.
pub(crate) fn increment(store: &DeepringStore) {
    loop {
        let found = block_on(store.get(&at("counter"))).expect("the counter");
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: None };
        let text = block_on(found.bytes()).expect("its bytes");
        let next = std::str::from_utf8(&text).expect("a number").parse::<u64>().expect("a number") + 1;
        match put_when(store, "counter", next.to_string().as_bytes(), PutMode::Update(version)) {
            Ok(_) => return,
            Err(Error::Precondition { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_is_not_supported_says_so() {
    for (place, store) in stores() {
        let attributes = Attributes::from_iter([(Attribute::ContentType, "text/plain")]);
        let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
        let error = block_on(store.put_opts(&at("x"), "x".into(), options)).expect_err("attributes");
        assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
        let options = object_store_014::PutMultipartOptions { attributes, ..Default::default() };
        let error = block_on(store.put_multipart_opts(&at("x"), options)).expect_err("attributes");
        assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
        put(&store, "x", "x");
        let options = object_store_014::GetOptions::new().with_version(Some("7"));
        let error = block_on(store.get_opts(&at("x"), options)).expect_err("a version");
        assert!(matches!(error, Error::NotSupported { .. }), "{error}");
        assert_eq!(files(place.path()), ["x"]);
    }
}

#[test]
fn a_copy_is_the_same_version_and_stays_when_the_original_changes() {
    for (place, store) in stores() {
        put(&store, "old", "1");
        block_on(store.copy(&at("old"), &at("new/copy"))).expect("a copy");
        let tags = ["old", "new/copy"].map(|name| block_on(store.head(&at(name))).expect("an object").e_tag);
        assert_eq!(tags[0], tags[1]);
        put(&store, "old", "2");
        assert_eq!(get(&store, "new/copy").expect("the copy"), b"1");
        let error = block_on(store.copy_if_not_exists(&at("old"), &at("new/copy"))).expect_err("it exists");
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        block_on(store.copy(&at("old"), &at("new/copy"))).expect("a copy over another object");
        assert_eq!(get(&store, "new/copy").expect("the copy"), b"2");
        // Onto itself, and over another name of the same file.
        block_on(store.copy(&at("old"), &at("old"))).expect("a copy");
        block_on(store.copy(&at("old"), &at("new/copy"))).expect("a copy");
        assert_eq!(files(place.path()), ["new/copy", "old"]);
    }
}

#[test]
fn a_rename_leaves_one_name_also_over_another_name_of_the_same_file() {
    for (place, store) in stores() {
        put(&store, "old", "1");
        block_on(store.copy(&at("old"), &at("new"))).expect("a copy");
        block_on(store.rename(&at("old"), &at("new"))).expect("a rename");
        assert_eq!(files(place.path()), ["new"]);
        block_on(store.rename(&at("new"), &at("new"))).expect("onto itself");
        let error = block_on(store.rename_if_not_exists(&at("new"), &at("new"))).expect_err("it exists");
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        put(&store, "other", "2");
        let error = block_on(store.rename_if_not_exists(&at("new"), &at("other"))).expect_err("it exists");
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        block_on(store.rename_if_not_exists(&at("new"), &at("far/away"))).expect("a rename");
        assert_eq!(files(place.path()), ["far/away", "other"]);
        let error = block_on(store.rename(&at("far/away"), &at("far"))).expect_err("a directory has the name");
        assert!(matches!(error, Error::Generic { .. }), "{error}");
        assert_eq!(get(&store, "far/away").expect("the object"), b"1");
    }
}

#[test]
fn a_delete_of_many_reports_each_in_order() {
    for (place, store) in stores() {
        let names: Vec<String> = (0..300).map(|number| format!("{}/{number}", number % 7)).collect();
        for name in names.iter().filter(|name| !name.ends_with('3')) {
            put(&store, name, "x");
        }
        let paths: Vec<_> = names.iter().map(|name| Ok(at(name))).collect();
        let results: Vec<_> = block_on(store.delete_stream(futures_util::stream::iter(paths).boxed()).collect());
        assert_eq!(results.len(), 300);
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(path) => assert_eq!(path.as_ref(), name),
                Err(Error::NotFound { path, .. }) => assert!(name.ends_with('3') && path.ends_with(name.as_str())),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(files(place.path()), [""; 0]);
        assert_eq!(store.stats().deletes, 270);
    }
}

#[test]
fn links_are_read_through_and_a_put_takes_their_name() {
    for (place, store) in stores() {
        let outside = directory();
        std::fs::write(outside.path().join("target"), b"outside").expect("a file");
        symlink(outside.path().join("target"), place.path().join("link")).expect("a link");
        symlink(outside.path(), place.path().join("elsewhere")).expect("a link");
        assert_eq!(get(&store, "link").expect("through the link"), b"outside");
        assert_eq!(get(&store, "elsewhere/target").expect("through the link"), b"outside");
        assert_eq!(listed(&store, ""), ["elsewhere/target", "link"]);
        block_on(store.copy(&at("link"), &at("copy"))).expect("a copy of what it leads to");
        let version = block_on(store.head(&at("link"))).expect("an object").e_tag;
        put_when(&store, "link", b"new", PutMode::Update(UpdateVersion { e_tag: version, version: None })).expect("an update");
        assert_eq!(
            (get(&store, "link").expect("an object"), std::fs::read(outside.path().join("target")).expect("a file")),
            (b"new".to_vec(), b"outside".to_vec())
        );
        assert_eq!(get(&store, "copy").expect("an object"), b"outside");
        assert!(!place.path().join("link").is_symlink() && !place.path().join("copy").is_symlink());
        block_on(store.delete(&at("elsewhere/target"))).expect("a delete through the link");
        assert!(!outside.path().join("target").exists());
    }
}

#[test]
fn a_put_keeps_the_mode_and_leaves_nothing_in_the_page_cache() {
    use std::os::unix::fs::PermissionsExt;
    for (place, store) in stores() {
        put(&store, "object", bytes(0, 1 << 20, 1));
        let path = place.path().join("object");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("a mode");
        put(&store, "object", bytes(0, 1 << 20, 2));
        assert_eq!(std::fs::metadata(&path).expect("a file").mode() & 0o777, 0o640);
        if is_direct(place.path()) {
            block_on(store.get_ranges(&at("object"), std::slice::from_ref(&(0..4096)))).expect("a range");
            assert_eq!(store.stats().direct, 1);
        }
    }
}

#[test]
fn a_sweep_removes_what_was_left_and_nothing_else() {
    for (place, store) in stores() {
        put(&store, "a/object", "x");
        for name in ["a/.deepring-1-1#0", ".deepring-1-link-7#0", "a/foreign#1", "a/.deepring-notes"] {
            std::fs::write(place.path().join(name), b"left").expect("a file");
        }
        let outside = directory();
        std::fs::write(outside.path().join(".deepring-1-1#0"), b"left").expect("a file");
        symlink(outside.path(), place.path().join("elsewhere")).expect("a link");
        assert_eq!(listed(&store, "a"), ["a/.deepring-notes", "a/object"]);
        let swept = block_on(store.sweep(Duration::from_secs(3600))).expect("a sweep");
        assert_eq!(swept.files, 0);
        let swept = block_on(store.sweep(Duration::ZERO)).expect("a sweep");
        assert_eq!((swept.files, swept.bytes), (2, 8));
        assert_eq!(files(place.path()), ["a/.deepring-notes", "a/foreign#1", "a/object", "elsewhere"]);
        assert!(outside.path().join(".deepring-1-1#0").exists(), "links are not followed");
    }
}

#[test]
fn a_closed_engine_refuses_and_harms_nothing() {
    for (place, store) in stores() {
        put(&store, "object", "x");
        block_on(store.engine().clone().close()).expect("the end");
        assert!(put_when(&store, "object", b"y", PutMode::Overwrite).is_err());
        assert!(get(&store, "object").is_err());
        assert!(block_on(store.delete(&at("object"))).is_err());
        assert!(block_on(store.list(None).try_collect::<Vec<_>>()).is_err());
        assert_eq!(std::fs::read(place.path().join("object")).expect("the file"), b"x");
        assert_eq!(files(place.path()), ["object"]);
    }
}
