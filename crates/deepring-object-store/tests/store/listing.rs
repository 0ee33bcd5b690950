//! Listings beyond the suite: links, what changes meanwhile, and many objects.

use crate::harness::child::{alone, become_nobody, directory_for_all};
use crate::harness::disk::as_root;
use crate::harness::{directory, engines};
use crate::places::{at, cached, listed, put, stores};
use futures_util::{StreamExt, TryStreamExt};
use object_store_014::{Error, ObjectStore, ObjectStoreExt};
use pollster::block_on;
use std::os::unix::fs::symlink;

#[test]
fn links_in_a_circle_and_links_to_nowhere_end() {
    for (place, store) in stores() {
        put(&store, "a/b/object", "x");
        symlink("..", place.path().join("a/b/up")).expect("a link");
        symlink(".", place.path().join("a/here")).expect("a link");
        symlink("nowhere", place.path().join("a/broken")).expect("a link");
        symlink("itself", place.path().join("itself")).expect("a link");
        symlink("b/object", place.path().join("a/same")).expect("a link");
        assert_eq!(listed(&store, ""), ["a/b/object", "a/same"]);
        let level = block_on(store.list_with_delimiter(Some(&at("a")))).expect("a list");
        let objects: Vec<_> = level.objects.iter().map(|meta| meta.location.as_ref()).collect();
        assert_eq!((objects, level.common_prefixes), (vec!["a/same"], vec![at("a/b"), at("a/here")]));
    }
}

#[test]
fn more_objects_than_a_batch_are_listed_once_each_and_from_an_offset() {
    let place = directory();
    for directory in 0..5 {
        std::fs::create_dir(place.path().join(format!("d{directory}"))).expect("a directory");
        for file in 0..700 {
            std::fs::write(place.path().join(format!("d{directory}/{file:03}")), b"x").expect("a file");
        }
    }
    for engine in engines() {
        let store = cached(&engine, place.path());
        let all = listed(&store, "");
        assert_eq!((all.len(), all.first().map(String::as_str), all.last().map(String::as_str)), (3500, Some("d0/000"), Some("d4/699")));
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
        let offset = at("d3/500");
        let behind: Vec<_> = block_on(store.list_with_offset(None, &offset).map_ok(|meta| meta.location).try_collect()).expect("a list");
        assert_eq!(behind.len(), 199 + 700);
        assert!(behind.iter().all(|path| *path > offset));
        // A listing that is dropped asks for no more.
        let first: Vec<_> = block_on(store.list(None).take(10).collect());
        assert_eq!(first.len(), 10);
    }
}

#[test]
fn objects_that_are_deleted_while_they_are_listed_are_no_error() {
    for (place, store) in stores() {
        for number in 0..3000 {
            let directory = place.path().join(format!("{}", number % 30));
            std::fs::create_dir_all(&directory).expect("a directory");
            std::fs::write(directory.join(number.to_string()), b"x").expect("a file");
        }
        let deleter = store.clone();
        let found = std::thread::scope(|scope| {
            let deleting = scope.spawn(move || {
                for number in (0..3000).rev() {
                    let path = at(&format!("{}/{number}", number % 30));
                    block_on(deleter.delete(&path)).expect("a delete");
                    if number < 30 {
                        std::fs::remove_dir(deleter.prefix().join(number.to_string())).expect("an empty directory");
                    }
                }
            });
            let mut found = Vec::new();
            while !deleting.is_finished() {
                found.push(listed(&store, "").len());
            }
            deleting.join().expect("no panic");
            found
        });
        assert!(found.windows(2).all(|pair| pair[0] >= pair[1]), "{found:?}");
        assert_eq!(listed(&store, ""), [""; 0]);
    }
}

#[test]
fn a_directory_that_may_not_be_read_is_an_error_and_not_an_empty_one() {
    use std::os::unix::fs::PermissionsExt;
    as_root(|| {
        alone(|| {
            let place = directory_for_all(0o755);
            std::fs::create_dir(place.path().join("closed")).expect("a directory");
            std::fs::write(place.path().join("closed/object"), b"x").expect("a file");
            std::fs::set_permissions(place.path().join("closed"), PermissionsExt::from_mode(0o000)).expect("a mode");
            become_nobody();
            for engine in engines() {
                let store = cached(&engine, place.path());
                let result: Result<Vec<_>, _> = block_on(store.list(None).try_collect());
                assert!(matches!(result, Err(Error::PermissionDenied { .. })), "{result:?}");
                let error = block_on(store.head(&at("closed/object"))).expect_err("it may not be looked at");
                assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
                let error = block_on(store.put(&at("object"), "x".into())).expect_err("it may not be written to");
                assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
            }
        });
    });
}
