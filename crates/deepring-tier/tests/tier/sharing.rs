//! Concurrent misses: one fetch for all who want a cell, whoever of them goes.

use crate::harness::assert_same;
use crate::places::{CELL, MIB, Place, at, each};
use crate::remote::Trouble;
use deepring_tier::Validate;
use deepring_tier::v014::object_store::ObjectStoreExt;
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::time::Duration;

#[test]
fn concurrent_misses_share_one_fetch() {
    each(async |engine| {
        for is_known in [false, true] {
            let place = Place::immutable(engine);
            let content = place.put("object", 2 * MIB, 1).await;
            if is_known {
                place.store.head(&at("object")).await.expect("a description");
                place.remote.take_counts();
            }
            place.remote.answers(false);
            let mut reads: Vec<_> = (0..50u64).map(|number| Box::pin(place.range("object", CELL + number..CELL + 1000))).collect();
            assert!(reads.iter_mut().all(|read| read.as_mut().now_or_never().is_none()));
            place.remote.answers(true);
            for (number, found) in join_all(reads).await.into_iter().enumerate() {
                assert_same(&found, &content[CELL as usize + number..CELL as usize + 1000], "a range");
            }
            assert_eq!(place.remote.take_ranges(), [CELL..2 * CELL]);
            assert_eq!((place.tier.stats().misses, place.tier.stats().coalesced), (1, 49));
        }
    });
}

#[test]
fn a_call_fetches_only_what_no_other_fetches() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let content = place.put("object", 2 * MIB, 2).await;
        place.store.head(&at("object")).await.expect("a description");
        place.remote.take_counts();
        place.remote.answers(false);
        let mut first = Box::pin(place.range("object", 4 * CELL..8 * CELL));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(place.range("object", 2 * CELL..10 * CELL));
        assert!(second.as_mut().now_or_never().is_none());
        place.remote.answers(true);
        // The second brings the first's bytes along, if need be.
        assert_same(&second.await, &content[2 * CELL as usize..10 * CELL as usize], "the second");
        assert_same(&first.await, &content[4 * CELL as usize..8 * CELL as usize], "the first");
        assert_eq!(place.remote.take_ranges(), [4 * CELL..8 * CELL, 2 * CELL..4 * CELL, 8 * CELL..10 * CELL]);
    });
}

#[test]
fn who_is_dropped_takes_no_fetch_from_others() {
    each(async |engine| {
        for is_known in [false, true] {
            let place = Place::immutable(engine);
            let content = place.put("object", MIB, 3).await;
            if is_known {
                place.store.head(&at("object")).await.expect("a description");
                place.remote.take_counts();
            }
            place.remote.answers(false);
            let mut first = Box::pin(place.range("object", 0..10));
            assert!(first.as_mut().now_or_never().is_none());
            let mut second = Box::pin(place.range("object", 5..20));
            assert!(second.as_mut().now_or_never().is_none());
            drop(first);
            place.remote.answers(true);
            assert_same(&second.await, &content[5..20], "the second");
            assert_eq!(place.remote.take_counts(), (1, 0));
            // Nobody waits: the fetch ends with the last of them, and the next call asks again.
            place.tier.flush().await;
            place.remote.answers(false);
            let mut third = Box::pin(place.range("object", 5 * CELL..5 * CELL + 1));
            assert!(third.as_mut().now_or_never().is_none());
            drop(third);
            place.remote.answers(true);
            assert_same(&place.range("object", 5 * CELL..5 * CELL + 1).await, &content[5 * CELL as usize..][..1], "again");
            assert_eq!(place.remote.take_ranges(), [5 * CELL..6 * CELL, 5 * CELL..6 * CELL]);
        }
    });
}

#[test]
fn the_failure_of_another_call_is_tried_again() {
    each(async |engine| {
        for is_known in [false, true] {
            let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Immutable).timeout(Duration::from_millis(200)));
            let content = place.put("object", MIB, 4).await;
            if is_known {
                place.store.head(&at("object")).await.expect("a description");
                place.remote.take_counts();
            }
            place.remote.answers(false);
            place.remote.trouble(Trouble::Fails);
            let ask =
                async || Ok::<_, deepring_tier::v014::object_store::Error>(place.store.get_range(&at("object"), 0..10).await?.to_vec());
            let mut first = Box::pin(ask());
            let mut second = Box::pin(ask());
            assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
            place.remote.answers(true);
            assert!(first.await.is_err());
            place.remote.trouble(Trouble::None);
            assert_same(&second.await.expect("bytes"), &content[..10], "the second");
            assert_eq!(place.remote.take_counts(), (2, 0));
        }
    });
}
