//! What comes from the drive, and what is asked of the remote for it.

use crate::harness::assert_same;
use crate::places::{CELL, EXTENT, MIB, Place, at, each};
use crate::remote::Asked;
use deepring_tier::Validate;
use deepring_tier::v014::object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutOptions, path::Path,
};

#[test]
fn a_hit_after_a_miss_asks_the_remote_nothing() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let content = place.put("object", 3 * MIB + 17, 1).await;
        for flushed in [false, true] {
            for range in [10..20, 70_000..700_000, 0..content.len() as u64, content.len() as u64 - 5..content.len() as u64] {
                let found = place.range("object", range.clone()).await;
                assert_same(&found, &content[range.start as usize..range.end as usize], &format!("{range:?}, flushed {flushed}"));
            }
            if !flushed {
                place.tier.flush().await;
                let asked = place.remote.take_ranges();
                assert_eq!(asked, [0..CELL, CELL..11 * CELL, 11 * CELL..3 * MIB + 17], "each cell once");
            }
        }
        assert!(place.remote.asked().is_empty(), "{:?}", place.remote.asked());
        let stats = place.tier.stats();
        assert_eq!((stats.fetches, stats.bytes_from_remote), (3, content.len() as u64));
        assert_eq!(stats.misses, 49);
        // 1 + 10 + 49 + 1 with the flush, and none of them bad.
        assert!(stats.hits >= 61 && stats.bad_cells == 0, "{stats:?}");
    });
}

#[test]
fn ranges_of_one_call_come_without_a_copy() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let content = place.put("object", 9 * MIB, 2).await;
        let ranges = [100..200u64, 200..300, EXTENT - 10..EXTENT + 10, 8 * MIB..9 * MIB, 8 * MIB..8 * MIB + 1];
        place.store.get_ranges(&at("object"), &ranges).await.expect("ranges");
        place.tier.flush().await;
        let before = place.tier.stats();
        let found = place.store.get_ranges(&at("object"), &ranges).await.expect("ranges");
        for (found, range) in found.iter().zip(&ranges) {
            assert_same(found, &content[range.start as usize..range.end as usize], &format!("{range:?}"));
        }
        // Parts of one buffer, also where they are in two extents.
        assert_eq!(found[0].as_ptr().wrapping_add(100), found[1].as_ptr());
        assert_eq!(found[3].as_ptr(), found[4].as_ptr());
        let stats = place.tier.stats();
        assert_eq!((stats.hits - before.hits, stats.fetches), (1 + 2 + 16, before.fetches));
        assert_eq!(stats.bytes_from_drive - before.bytes_from_drive, 19 * CELL);
    });
}

#[test]
fn only_missing_cells_are_fetched_and_neighbors_in_one_request() {
    each(async |engine| {
        let place = Place::new(engine, 64 << 20, |tier| tier.otherwise(Validate::Immutable).max_fetch_bytes(4 * MIB));
        let content = place.put("object", 20 * MIB, 3).await;
        let ask = async |ranges: &[std::ops::Range<u64>]| {
            let found = place.store.get_ranges(&at("object"), ranges).await.expect("ranges");
            for (found, range) in found.iter().zip(ranges) {
                assert_same(found, &content[range.start as usize..range.end as usize], &format!("{range:?}"));
            }
            place.tier.flush().await;
            place.remote.take_ranges()
        };
        assert_eq!(ask(&[5 * CELL + 7..5 * CELL + 8]).await, [5 * CELL..6 * CELL]);
        // With what is between them, but for what is there.
        assert_eq!(ask(&[0..1, 3 * CELL..4 * CELL]).await, [0..4 * CELL]);
        assert_eq!(ask(&[0..8 * CELL]).await, [4 * CELL..8 * CELL]);
        // Too far from each other.
        assert_eq!(ask(&[2 * MIB..2 * MIB + 1, 4 * MIB..4 * MIB + 1]).await, [2 * MIB..2 * MIB + CELL, 4 * MIB..4 * MIB + CELL]);
        // Longer than a request may be.
        assert_eq!(ask(&[8 * MIB..20 * MIB]).await, [8 * MIB..12 * MIB, 12 * MIB..16 * MIB, 16 * MIB..20 * MIB]);
        assert!(ask(&[8 * MIB..20 * MIB, 0..8 * CELL, 2 * MIB + 5..2 * MIB + 6]).await.is_empty());
        // Every fetch but the first of all names its version.
        ask(&[6 * MIB..6 * MIB + 1]).await;
        place.range("object", 7 * MIB..7 * MIB + 1).await;
        assert!(place.remote.asked().iter().all(|asked| asked.if_match.is_some()));
    });
}

#[test]
fn whole_objects_ends_and_descriptions_take_one_request() {
    each(async |engine| {
        // With room for all of them.
        let place = Place::new(engine, 512 << 20, |tier| tier.otherwise(Validate::Immutable));
        let get = async |path: &Path, range: Option<GetRange>| {
            let result = place.store.get_opts(path, GetOptions { range, ..GetOptions::default() }).await?;
            assert_eq!((result.meta.e_tag.is_some(), &result.meta.location), (true, path));
            let (size, range) = (result.meta.size, result.range.clone());
            Ok::<_, Error>((size, range, result.bytes().await?))
        };
        for (number, len) in [0u64, 1, CELL - 1, CELL, CELL + 1, EXTENT, EXTENT + 1, 9 * MIB + 3].into_iter().enumerate() {
            for (kind, range) in
                [None, Some(GetRange::Suffix(10)), Some(GetRange::Offset(0)), Some(GetRange::Bounded(0..u64::MAX))].into_iter().enumerate()
            {
                let path = format!("object-{number}-{kind}");
                let content = place.put(&path, len, 4).await;
                if len == 0 && kind >= 2 {
                    assert!(get(&at(&path), range).await.is_err());
                    place.remote.take_counts();
                    continue;
                }
                let expected = if kind == 1 { len.saturating_sub(10)..len } else { 0..len };
                for round in 0..3 {
                    let (size, found, bytes) = get(&at(&path), range.clone()).await.expect("bytes");
                    assert_eq!((size, &found), (len, &expected), "{path}");
                    assert_same(&bytes, &content[expected.start as usize..expected.end as usize], &path);
                    let most = 1 + usize::from(len > 8 * MIB && kind != 1);
                    let counts = place.remote.take_counts();
                    assert!(
                        if round == 0 { counts.0 >= 1 && counts.0 <= most && counts.1 == 0 } else { counts == (0, 0) },
                        "{path}, round {round}: {counts:?}"
                    );
                    place.tier.flush().await;
                }
                assert_eq!(place.store.head(&at(&path)).await.expect("a description").size, len);
                assert_eq!(place.remote.take_counts(), (0, 0));
            }
        }
    });
}

#[test]
fn a_description_takes_one_request_and_a_read_after_it_none_more() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let content = place.put("object", 2 * CELL, 5).await;
        let head = place.store.head(&at("object")).await.expect("a description");
        assert_eq!(head, place.remote.objects.head(&at("object")).await.expect("a description"));
        place.store.head(&at("object")).await.expect("a description");
        assert_eq!(place.remote.take_counts(), (0, 1));
        assert_same(&place.range("object", CELL..CELL + 9).await, &content[CELL as usize..CELL as usize + 9], "a range");
        assert_eq!(*place.remote.asked(), [Asked { range: Some(GetRange::Bounded(CELL..2 * CELL)), head: false, if_match: head.e_tag }]);
        assert!(matches!(place.store.head(&at("nothing")).await, Err(Error::NotFound { .. })));
    });
}

#[test]
fn the_conditions_of_a_get_hold() {
    each(async |engine| {
        for validate in [Validate::Immutable, Validate::Always] {
            let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(validate));
            place.put("object", 1000, 6).await;
            for _ in 0..2 {
                let tag = place.store.head(&at("object")).await.expect("a description").e_tag;
                let ask = async |options| place.store.get_opts(&at("object"), options).await.map(drop);
                let (is, is_not) = (
                    |tag| GetOptions { if_match: tag, ..GetOptions::default() },
                    |tag| GetOptions { if_none_match: tag, ..GetOptions::default() },
                );
                ask(is(tag.clone())).await.expect("it matches");
                ask(is_not(Some("\"other\"".into()))).await.expect("it does not match");
                assert!(matches!(ask(is(Some("\"other\"".into()))).await, Err(Error::Precondition { .. })));
                assert!(matches!(ask(is_not(tag.clone())).await, Err(Error::NotModified { .. })));
                let head = GetOptions { head: true, ..is_not(tag) };
                assert!(matches!(ask(head).await, Err(Error::NotModified { .. })));
                place.get("object").await;
            }
            assert_eq!(place.tier.stats().preconditions_lost, 0);
        }
    });
}

#[test]
fn a_condition_on_a_newer_version_than_is_known_is_asked_of_the_remote() {
    each(async |engine| {
        let hour = Validate::After(std::time::Duration::from_hours(1));
        let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(hour));
        place.put("object", 1000, 6).await;
        place.get("object").await;
        let new = place.put("object", 2000, 7).await;
        let tag = place.remote.objects.head(&at("object")).await.expect("a description").e_tag;
        let found = place.store.get_opts(&at("object"), GetOptions { if_match: tag, ..GetOptions::default() }).await.expect("an object");
        assert_same(&found.bytes().await.expect("bytes"), &new, "the new version");
        // So is a range that the known version does not have.
        place.put("object", 3000, 8).await;
        assert_eq!(place.range("object", 2500..2600).await.len(), 100);
    });
}

#[test]
fn attributes_come_back_also_after_a_restart() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, "text/plain"),
            (Attribute::StorageClass, "GLACIER"),
            (Attribute::Metadata("by".into()), "me"),
        ]);
        let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
        place.remote.objects.put_opts(&at("object"), vec![7; 100_000].into(), options).await.expect("a put");
        for _ in 0..3 {
            let result = place.store.get(&at("object")).await.expect("an object");
            assert_eq!(result.attributes, attributes);
            result.bytes().await.expect("bytes");
            place.tier.flush().await;
        }
        let place = place.reopened(|tier| tier.otherwise(Validate::Immutable), 64 << 20).await;
        for options in [GetOptions::default(), GetOptions { head: true, ..GetOptions::default() }] {
            let result = place.store.get_opts(&at("object"), options).await.expect("an object");
            assert_eq!(result.attributes, attributes);
        }
        let stats = place.tier.stats();
        assert_eq!((stats.fetches, stats.heads), (0, 0), "the remote was asked again: {stats:?}");
    });
}

#[test]
fn an_object_whose_attributes_have_no_room_is_asked_for_once_after_a_restart() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let attributes = Attributes::from_iter([(Attribute::Metadata("text".into()), "x".repeat(4000))]);
        let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
        place.remote.objects.put_opts(&at("object"), vec![7; 100_000].into(), options).await.expect("a put");
        place.get("object").await;
        place.tier.flush().await;
        let place = place.reopened(|tier| tier.otherwise(Validate::Immutable), 64 << 20).await;
        for _ in 0..3 {
            let result = place.store.get(&at("object")).await.expect("an object");
            assert_eq!(result.attributes, attributes);
            assert_eq!(result.bytes().await.expect("bytes"), vec![7; 100_000]);
        }
        assert_eq!(place.tier.stats().fetches, 1);
    });
}

#[test]
fn what_bypasses_the_tier_is_not_cached() {
    each(async |engine| {
        let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Immutable).bypass(["_delta_log/", "*.json"]));
        for path in ["table/_delta_log/0.parquet", "table/x.json"] {
            for salt in 0..3 {
                let content = place.put(path, 1000, salt).await;
                assert_same(&place.get(path).await, &content, path);
                assert_same(&place.store.get_ranges(&at(path), &[1..5]).await.expect("ranges")[0], &content[1..5], path);
                assert_eq!(place.store.head(&at(path)).await.expect("a description").size, 1000);
            }
        }
        let stats = place.tier.stats();
        assert_eq!((stats.bypassed, stats.fetches, stats.slots_free), (18, 0, stats.slots));
    });
}
