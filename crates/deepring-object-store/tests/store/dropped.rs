//! Futures that are dropped at every point where they wait: nothing is left, and the object is the old one or the new one.

use crate::harness::polled::drop_after;
use crate::harness::{bytes, directory, engines, eventually};
use crate::places::{at, built, cached, files, get, put};
use deepring_object_store::{DeepringStore, Durability};
use futures_util::{StreamExt, TryStreamExt};
use object_store_014::{MultipartUpload, ObjectStore, ObjectStoreExt, Result};
use std::path::Path;
use std::time::Duration;

/// Waits until these files and no others are below a directory: what was dropped is removed on other threads.
pub(crate) fn eventually_only(place: &Path, expected: &[&str]) {
    eventually(Duration::from_secs(20), "the files in progress are gone", || files(place) == expected);
}

/// Drops a call at every point where it waits. It gets the number of the round: what was dropped can go on into the next.
fn at_every_wait<T>(call: &impl AsyncFn(&DeepringStore, usize) -> Result<T>, mut check: impl FnMut(&DeepringStore, &Path, bool)) {
    for engine in engines() {
        for durability in [Durability::Synced, Durability::Cached] {
            let place = directory();
            let store = built(DeepringStore::builder(&engine).prefix(place.path()).durability(durability).whole_max(0).chunk(1));
            for waits in 0.. {
                put(&store, "object", "old");
                let ended = drop_after(waits, call(&store, waits)).map(|result| result.map(drop).expect("it succeeds"));
                check(&store, place.path(), ended.is_some());
                if ended.is_some() {
                    break;
                }
                assert!(waits < 200, "it goes on waiting");
            }
        }
    }
}

#[test]
fn a_put_leaves_the_old_object_or_the_new_one_and_no_file() {
    let new = bytes(0, 300_000, 1);
    at_every_wait(&async |store, _| store.put(&at("object"), new.clone().into()).await, |store, place, ended| {
        eventually_only(place, &["object"]);
        let found = get(store, "object").expect("an object");
        assert!(found == new || !ended && found == b"old", "{} bytes", found.len());
    });
}

#[test]
fn a_put_into_new_directories_leaves_the_object_or_nothing() {
    at_every_wait(&async |store, _| store.put(&at("far/away/object"), vec![7u8; 5000].into()).await, |store, place, ended| {
        eventually(Duration::from_secs(20), "the files in progress are gone", || {
            files(place).iter().all(|file| file == "object" || file == "far/away/object")
        });
        assert!(!ended || get(store, "far/away/object").expect("an object") == vec![7; 5000]);
        // The next round begins without them. What was dropped can still make one.
        let _ = std::fs::remove_dir_all(place.join("far"));
    });
}

#[test]
fn an_upload_leaves_the_old_object_or_the_new_one_and_no_file() {
    let part = bytes(0, 100_000, 2);
    at_every_wait(
        &async |store, _| {
            let mut upload = store.put_multipart(&at("object")).await?;
            let parts: Vec<_> = (0..3).map(|_| upload.put_part(part.clone().into())).collect();
            futures_util::future::try_join_all(parts).await?;
            upload.complete().await
        },
        |store, place, ended| {
            eventually_only(place, &["object"]);
            let found = get(store, "object").expect("an object");
            assert!(found == part.repeat(3) || !ended && found == b"old", "{} bytes", found.len());
        },
    );
}

#[test]
fn reads_and_listings_leave_nothing_in_flight() {
    for engine in engines() {
        let place = directory();
        let store = cached(&engine, place.path());
        put(&store, "object", bytes(0, 2 << 20, 3));
        let ranges: Vec<_> = (0..200u64).map(|number| number * 10_000..number * 10_000 + 3000).collect();
        let before = engine.stats().buffers;
        for waits in 0..4 {
            drop(drop_after(waits, store.get_ranges(&at("object"), &ranges)));
            drop(drop_after(waits, async { store.get(&at("object")).await?.bytes().await }));
            drop(drop_after(waits, store.list(None).try_collect::<Vec<_>>()));
            drop(drop_after(waits, async { store.get(&at("object")).await?.into_stream().next().await.transpose() }));
        }
        eventually(Duration::from_secs(20), "the memory of dropped reads is back", || engine.stats().buffers <= before);
    }
}

#[test]
fn copies_renames_and_deletes_happen_or_do_not() {
    at_every_wait(
        &async |store, round| {
            let [copy, renamed] = ["copy", "renamed"].map(|name| at(&format!("{name}{round}")));
            store.copy(&at("object"), &copy).await?;
            store.rename(&copy, &renamed).await?;
            store.delete(&renamed).await
        },
        |store, place, _| {
            eventually(Duration::from_secs(20), "the links in progress are gone", || files(place).iter().all(|file| !file.contains('#')));
            assert_eq!(get(store, "object").expect("an object"), b"old");
        },
    );
}
