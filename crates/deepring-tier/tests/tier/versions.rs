//! Objects that change: through the tier, behind its back, and while they are read.

use crate::harness::{assert_same, bytes, engines};
use crate::places::{CELL, MIB, Place, at, each, run};
use crate::remote::Trouble;
use deepring_tier::Validate;
use deepring_tier::v014::object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn what_changes_through_the_tier_is_seen_at_once_whatever_the_rule() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let (store, path) = (&place.store, at("object"));
        let content = |salt| bytes(0, 300_000, salt);
        let check = async |path: &str, salt: u64| {
            for _ in 0..2 {
                assert_same(&place.get(path).await, &content(salt), path);
                assert_same(&place.range(path, CELL..CELL + 5).await, &content(salt)[CELL as usize..CELL as usize + 5], path);
                place.tier.flush().await;
            }
        };
        store.put(&path, content(1).into()).await.expect("a put");
        check("object", 1).await;
        store.put(&path, content(2).into()).await.expect("a put");
        check("object", 2).await;
        let mut upload = store.put_multipart(&path).await.expect("an upload");
        upload.put_part(content(3).into()).await.expect("a part");
        check("object", 2).await;
        upload.complete().await.expect("an object");
        drop(upload);
        check("object", 3).await;
        store.put(&at("other"), content(4).into()).await.expect("a put");
        check("other", 4).await;
        store.copy(&at("other"), &path).await.expect("a copy");
        check("object", 4).await;
        store.put(&at("other"), content(5).into()).await.expect("a put");
        check("other", 5).await;
        store.rename(&at("other"), &path).await.expect("a rename");
        check("object", 5).await;
        assert!(matches!(store.get(&at("other")).await, Err(Error::NotFound { .. })));
        store.delete(&path).await.expect("a delete");
        assert!(matches!(store.get(&path).await, Err(Error::NotFound { .. })));
        for number in 0..5 {
            store.put(&at(&format!("many/{number}")), content(6).into()).await.expect("a put");
            check(&format!("many/{number}"), 6).await;
        }
        let paths = stream::iter((0..5).map(|number| Ok(at(&format!("many/{number}"))))).boxed();
        assert_eq!(store.delete_stream(paths).try_collect::<Vec<_>>().await.expect("deletes").len(), 5);
        for number in 0..5 {
            assert!(matches!(store.get_range(&at(&format!("many/{number}")), 0..1).await, Err(Error::NotFound { .. })));
        }
        // Nothing of what is gone comes back by a restart.
        let place = place.reopened(|tier| tier.otherwise(Validate::Immutable), 64 << 20).await;
        for path in ["object", "other", "many/0"] {
            assert!(matches!(place.store.get(&at(path)).await, Err(Error::NotFound { .. })), "{path}");
        }
    });
}

#[test]
fn what_changes_behind_its_back_is_seen_as_the_rule_says() {
    each(async |engine| {
        let changed = async |validate| {
            let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(validate));
            let old = place.put("object", 200_000, 1).await;
            assert_same(&place.get("object").await, &old, "the old one");
            place.tier.flush().await;
            let new = place.put("object", 250_000, 2).await;
            place.remote.take_counts();
            let found = place.get("object").await;
            assert!(found == old || found == new);
            (found == new, place.remote.take_counts())
        };
        assert_eq!(changed(Validate::Immutable).await, (false, (0, 0)));
        assert_eq!(changed(Validate::After(Duration::from_hours(1))).await, (false, (0, 0)));
        // The description says that it is another one; then that is fetched.
        assert_eq!(changed(Validate::Always).await, (true, (1, 1)));
        assert_eq!(changed(Validate::After(Duration::ZERO)).await, (true, (1, 1)));
    });
}

#[test]
fn a_version_is_confirmed_once_for_each_call_and_by_a_fetch_if_there_is_one() {
    each(async |engine| {
        let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Always));
        place.put("object", MIB, 1).await;
        place.range("object", 0..10).await;
        place.tier.flush().await;
        assert_eq!(place.remote.take_counts(), (1, 0));
        place.range("object", 0..10).await;
        assert_eq!(place.remote.take_counts(), (0, 1), "a hit asks for the description");
        place.range("object", 0..2 * CELL).await;
        assert_eq!(place.remote.take_counts(), (1, 0), "a miss does not");
        place.store.head(&at("object")).await.expect("a description");
        assert_eq!(place.remote.take_counts(), (0, 1));
    });
}

#[test]
fn a_read_of_an_object_that_was_replaced_starts_over_once() {
    each(async |engine| {
        let hour = Validate::After(Duration::from_hours(1));
        let place = Place::new(engine, 64 << 20, |tier| tier.otherwise(hour));
        place.put("object", 4 * MIB, 1).await;
        place.range("object", 0..MIB).await;
        place.tier.flush().await;
        let new = place.put("object", 4 * MIB, 2).await;
        let ranges = [0..10u64, MIB - 10..MIB + 10, 3 * MIB..4 * MIB];
        let found = place.store.get_ranges(&at("object"), &ranges).await.expect("ranges");
        for (found, range) in found.iter().zip(&ranges) {
            assert_same(found, &new[range.start as usize..range.end as usize], "all of the new one");
        }
        assert_eq!(place.tier.stats().preconditions_lost, 1);
        place.remote.objects.delete(&at("object")).await.expect("a delete");
        assert!(matches!(place.store.get_range(&at("object"), 2 * MIB..2 * MIB + 1).await, Err(Error::NotFound { .. })));
        assert!(matches!(place.store.get_range(&at("object"), 0..1).await, Err(Error::NotFound { .. })), "it is forgotten");
    });
}

#[test]
fn a_stream_of_an_object_that_is_replaced_ends_with_an_error() {
    each(async |engine| {
        let place = Place::new(engine, 64 << 20, |tier| tier.otherwise(Validate::Always));
        let old = place.put("object", 100 * MIB, 1).await;
        let mut stream = place.store.get(&at("object")).await.expect("an object").into_stream();
        let first = stream.next().await.expect("a chunk").expect("bytes");
        assert_same(&first, &old[..first.len()], "the first chunk");
        place.put("object", 100 * MIB, 2).await;
        let mut len = first.len();
        let error = loop {
            match stream.next().await.expect("an error") {
                Ok(chunk) => {
                    assert_same(&chunk, &old[len..len + chunk.len()], "the old version");
                    len += chunk.len();
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Precondition { .. }), "{error}");
        assert!(len < 100 << 20);
    });
}

#[test]
fn a_read_that_began_before_a_put_teaches_nothing_after_it() {
    each(async |engine| {
        for is_known in [false, true] {
            let place = Place::immutable(engine);
            let old = place.put("object", 3 * CELL, 1).await;
            if is_known {
                place.store.head(&at("object")).await.expect("a description");
            }
            place.remote.trouble(Trouble::AnswersLate);
            place.remote.answers(false);
            let mut read = Box::pin(place.range("object", 0..3 * CELL));
            assert!(read.as_mut().now_or_never().is_none());
            let new = bytes(0, 3 * CELL as usize, 2);
            place.store.put(&at("object"), new.clone().into()).await.expect("a put");
            place.remote.answers(true);
            // It began before the put.
            assert_same(&read.await, &old, "the old version");
            assert_same(&place.get("object").await, &new, "the new version");
            let place = place.reopened(|tier| tier.otherwise(Validate::Immutable), 64 << 20).await;
            assert_same(&place.get("object").await, &new, "the new version, after a restart");
        }
    });
}

#[test]
fn who_joins_a_fetch_that_began_earlier_asks_whether_it_still_holds() {
    each(async |engine| {
        let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Always));
        let old = place.put("object", 1000, 1).await;
        place.remote.trouble(Trouble::AnswersLate);
        place.remote.answers(false);
        let mut early = Box::pin(place.range("object", 0..10));
        assert!(early.as_mut().now_or_never().is_none());
        let new = place.put("object", 1000, 2).await;
        let mut late = Box::pin(place.range("object", 0..10));
        assert!(late.as_mut().now_or_never().is_none());
        assert_eq!(place.tier.stats().coalesced, 1);
        place.remote.answers(true);
        assert_same(&early.await, &old[..10], "who began before the put");
        assert_same(&late.await, &new[..10], "who began after it");
    });
}

#[test]
fn what_was_read_in_the_middle_of_a_put_is_forgotten_when_it_ends() {
    each(async |engine| {
        for is_given_up in [false, true] {
            let place = Place::immutable(engine);
            let old = place.put("object", 3 * CELL, 1).await;
            let new = bytes(0, 3 * CELL as usize, 2);
            place.remote.takes_puts(false);
            let path = at("object");
            let mut put = Box::pin(place.store.put(&path, new.clone().into()));
            assert!(put.as_mut().now_or_never().is_none());
            assert_same(&place.get("object").await, &old, "the old version");
            place.tier.flush().await;
            place.remote.takes_puts(true);
            if is_given_up {
                // The remote can have taken it all the same.
                drop(put);
                place.remote.objects.put(&path, new.clone().into()).await.expect("a put");
            } else {
                put.await.expect("a put");
            }
            assert_same(&place.get("object").await, &new, "the new version");
        }
    });
}

/// A writer replaces the object all the time, readers look at it: each of their reads is of one version.
#[test]
fn no_read_mixes_versions_while_a_writer_replaces_the_object() {
    const VERSIONS: u64 = 200;
    for engine in engines() {
        for through_the_tier in [false, true] {
            let place = Arc::new(run(async { Place::new(&engine, 64 << 20, |tier| tier.otherwise(Validate::Always)) }));
            // Every byte is the number of its version.
            let content = |version: u64| vec![version as u8; 64 * CELL as usize];
            run(async { place.remote.objects.put(&at("object"), content(0).into()).await.expect("a put") });
            let is_over = Arc::new(AtomicBool::new(false));
            std::thread::scope(|scope| {
                let (writer, over) = (Arc::clone(&place), Arc::clone(&is_over));
                scope.spawn(move || {
                    run(async {
                        for version in 1..VERSIONS {
                            let (path, payload) = (at("object"), content(version).into());
                            let put = if through_the_tier {
                                writer.store.put(&path, payload).await
                            } else {
                                writer.remote.objects.put(&path, payload).await
                            };
                            put.expect("a put");
                        }
                    });
                    over.store(true, Ordering::Release);
                });
                for reader in 0..2u64 {
                    let (place, over) = (Arc::clone(&place), Arc::clone(&is_over));
                    scope.spawn(move || {
                        run(async {
                            let (mut round, mut last) = (reader, 0);
                            while !over.load(Ordering::Acquire) {
                                round += 1;
                                let cell = |number: u64| {
                                    let cell = (round * 7 + number * 13) % 64;
                                    cell * CELL + 5..cell * CELL + 9
                                };
                                let ranges = [cell(0), cell(1), cell(2), cell(3)];
                                match place.store.get_ranges(&at("object"), &ranges).await {
                                    Ok(found) => {
                                        let versions: Vec<u8> = found.iter().flatten().copied().collect();
                                        assert!(versions.iter().all(|&version| version == versions[0]), "{versions:?}");
                                        assert!(versions[0] >= last, "{} after {last}", versions[0]);
                                        last = versions[0];
                                    }
                                    Err(error) => assert!(matches!(error, Error::Precondition { .. }), "{error}"),
                                }
                            }
                        });
                    });
                }
            });
            let last = run(place.get("object"));
            assert_same(&last, &content(VERSIONS - 1), "the last version");
        }
    }
}
