//! Remotes that misbehave: a typed error in bounded time, and nothing of it in the cache.

use crate::harness::assert_same;
use crate::places::{CELL, MIB, Place, at, each};
use crate::remote::Trouble;
use deepring_tier::v014::object_store::{Error, ObjectStore, ObjectStoreExt, Result};
use deepring_tier::{Fault, Validate};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_millis(50);

fn fault<T: std::fmt::Debug>(result: Result<T>) -> Fault {
    match result {
        Err(Error::Generic { source, .. } | Error::Precondition { source, .. }) => source.downcast_ref::<Fault>().expect("a fault").clone(),
        other => panic!("{other:?}"),
    }
}

/// Asks a remote that misbehaves, of which something is known or nothing, and then asks it when it is well.
fn misbehaving(trouble: Trouble, check: impl Fn(Fault)) {
    each(async |engine| {
        for is_known in [false, true] {
            let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Immutable).timeout(TIMEOUT));
            let content = place.put("object", MIB, 1).await;
            if is_known {
                place.range("object", 0..1).await;
                place.tier.flush().await;
            }
            let stats = place.tier.stats();
            place.remote.trouble(trouble);
            let range = 3 * CELL..4 * CELL + 10;
            check(fault(place.store.get_range(&at("object"), range.clone()).await));
            check(fault(place.store.get_ranges(&at("object"), std::slice::from_ref(&range)).await));
            let whole = async { place.store.get(&at("object")).await?.bytes().await };
            check(fault(whole.await));
            place.tier.flush().await;
            assert_eq!(place.tier.stats().bytes_filled, stats.bytes_filled, "nothing is cached");
            place.remote.trouble(Trouble::None);
            assert_same(&place.range("object", range.clone()).await, &content[range.start as usize..range.end as usize], "afterwards");
        }
    });
}

#[test]
fn a_remote_that_hangs_is_an_error_in_time() {
    for trouble in [Trouble::Hangs, Trouble::HangsInTheBody] {
        let start = Instant::now();
        misbehaving(trouble, |fault| assert_eq!(fault, Fault::TimedOut(TIMEOUT)));
        assert!(start.elapsed() >= TIMEOUT);
    }
    each(async |engine| {
        let place = Place::new(engine, 16 << 20, |tier| tier.timeout(TIMEOUT));
        place.remote.trouble(Trouble::Hangs);
        assert_eq!(fault(place.store.head(&at("object")).await), Fault::TimedOut(TIMEOUT));
    });
}

#[test]
fn a_body_that_is_too_short_is_an_error() {
    misbehaving(Trouble::Short, |fault| assert!(matches!(fault, Fault::Short { expected, found } if found < expected), "{fault}"));
}

#[test]
fn a_body_that_is_too_long_is_an_error() {
    misbehaving(Trouble::Long, |fault| assert!(matches!(fault, Fault::Long { expected } if expected >= CELL), "{fault}"));
}

#[test]
fn an_answer_for_another_range_is_an_error() {
    misbehaving(Trouble::OtherRange, |fault| assert!(matches!(fault, Fault::WrongRange { size: MIB, .. }), "{fault}"));
}

#[test]
fn a_precondition_that_always_fails_ends_after_two_tries() {
    each(async |engine| {
        let place = Place::immutable(engine);
        place.put("object", 20 * MIB, 1).await;
        place.range("object", 0..1).await;
        place.tier.flush().await;
        place.remote.trouble(Trouble::AlwaysLost);
        place.remote.take_counts();
        // Two requests each: the second one says which version it wants.
        let ranges = [5 * MIB..5 * MIB + 1, 15 * MIB..15 * MIB + 1];
        let error = place.store.get_ranges(&at("object"), &ranges).await.expect_err("no version");
        assert!(matches!(error, Error::Precondition { .. }), "{error}");
        assert!(place.remote.take_counts().0 <= 4);
        assert_eq!(place.tier.stats().preconditions_lost, 2);
        // What was known is forgotten, so what needs no more than one request works.
        place.range("object", 3 * MIB..3 * MIB + 1).await;
    });
}

#[test]
fn objects_without_a_strong_tag_are_served_and_not_cached() {
    each(async |engine| {
        for trouble in [Trouble::NoTag, Trouble::WeakTag] {
            let place = Place::new(engine, 64 << 20, |tier| tier.otherwise(Validate::Immutable));
            place.remote.trouble(trouble);
            for salt in 0..3 {
                let content = place.put("object", 10 * MIB, salt).await;
                assert_same(&place.get("object").await, &content, "the object");
                let ranges = [0..10u64, 9 * MIB..10 * MIB];
                let found = place.store.get_ranges(&at("object"), &ranges).await.expect("ranges");
                assert_same(&found[1], &content[9 * MIB as usize..], "a range");
                assert_same(&place.range("object", 5..15).await, &content[5..15], "a range");
                assert_eq!(place.store.head(&at("object")).await.expect("a description").size, 10 * MIB);
            }
            place.tier.flush().await;
            let stats = place.tier.stats();
            assert_eq!((stats.uncacheable, stats.bytes_filled, stats.hits, stats.slots_free), (9, 0, 0, stats.slots), "{trouble:?}");
            // Small ones need one request, not two.
            place.remote.take_counts();
            place.put("small", 1000, 1).await;
            place.get("small").await;
            assert_eq!(place.remote.take_counts(), (1, 0));
        }
    });
}

#[test]
fn a_tag_that_differs_between_parts_is_served_by_the_remote_itself() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let content = place.put("object", 20 * MIB, 1).await;
        place.remote.trouble(Trouble::OtherTag);
        let ranges = [5 * MIB..5 * MIB + 1000, 15 * MIB..15 * MIB + 1000];
        for _ in 0..3 {
            let found = place.store.get_ranges(&at("object"), &ranges).await.expect("ranges");
            for (found, range) in found.iter().zip(&ranges) {
                assert_same(found, &content[range.start as usize..range.end as usize], "a range");
            }
        }
        let stats = place.tier.stats();
        assert_eq!((stats.uncacheable, stats.preconditions_lost), (3, 2));
    });
}

#[test]
fn names_that_do_not_fit_into_the_index_are_served_and_not_cached() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let path = "x".repeat(4000);
        let content = place.put(&path, 1000, 1).await;
        for _ in 0..2 {
            assert_same(&place.get(&path).await, &content, "the object");
        }
        assert_eq!((place.tier.stats().uncacheable, place.tier.stats().bytes_filled), (2, 0));
    });
}

#[test]
fn errors_of_the_remote_keep_their_kind() {
    each(async |engine| {
        let place = Place::immutable(engine);
        assert!(matches!(place.store.get_range(&at("nothing"), 0..1).await, Err(Error::NotFound { .. })));
        assert!(matches!(place.store.get_ranges(&at("nothing"), &[0..1]).await, Err(Error::NotFound { .. })));
        assert!(matches!(place.store.get(&at("nothing")).await, Err(Error::NotFound { .. })));
        place.put("object", 1000, 1).await;
        for _ in 0..2 {
            for range in [1000..1001, 2000..3000, u64::MAX - 1..u64::MAX] {
                assert!(place.store.get_range(&at("object"), range.clone()).await.is_err(), "{range:?}");
                assert!(place.store.get_ranges(&at("object"), &[0..1, range.clone()]).await.is_err(), "{range:?}");
            }
            #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
            for range in [5..5, 7..3] {
                assert!(place.store.get_range(&at("object"), range.clone()).await.is_err(), "{range:?}");
            }
        }
    });
}
