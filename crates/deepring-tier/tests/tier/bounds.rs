//! What a tier takes, and what happens when that is full.

use crate::harness::{assert_same, bytes};
use crate::places::{EXTENT, MIB, Place, at, each};
use deepring_tier::Validate;
use deepring_tier::v014::object_store::ObjectStoreExt;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_tier_takes_its_capacity_from_the_first_moment_and_no_more_ever() {
    each(async |engine| {
        let place = Place::new(engine, (16 << 20) + 12_345, |tier| tier.otherwise(Validate::Immutable));
        let taken = || {
            let files = std::fs::read_dir(place.directory.path()).expect("a directory").map(|entry| entry.expect("an entry"));
            let mut files: Vec<_> =
                files.map(|entry| (entry.file_name().into_string().expect("a name"), entry.metadata().expect("a file"))).collect();
            files.sort_by(|one, two| one.0.cmp(&two.0));
            files.into_iter().map(|(name, found)| (name, found.len(), found.blocks() * 512)).collect::<Vec<_>>()
        };
        let before = taken();
        assert_eq!(
            before.iter().map(|(name, len, _)| (name.as_str(), *len)).collect::<Vec<_>>(),
            [("index", 4 * 4096), ("slab", 16 << 20)]
        );
        // The file system can need a block of its own for either.
        assert!(before.iter().all(|(_, len, blocks)| (*len..=len + 4096).contains(blocks)), "{before:?}");
        // Three times as much, twice.
        for round in 0..2 {
            for number in 0..12 {
                let path = format!("object-{number}");
                let content = bytes(0, EXTENT as usize, number);
                if round == 0 {
                    place.put(&path, EXTENT, number).await;
                }
                assert_same(&place.get(&path).await, &content, &path);
                place.tier.flush().await;
            }
        }
        let stats = place.tier.stats();
        assert!(stats.evicted >= 9 && stats.slots == 4 && stats.bad_cells == 0, "{stats:?}");
        let after = taken();
        assert!(after.iter().zip(&before).all(|(after, before)| after.1 == before.1 && after.2 <= before.2 + 4096), "{before:?} {after:?}");
    });
}

#[test]
fn nothing_of_the_memory_of_the_process_goes_to_the_drive() {
    each(async |engine| {
        let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Immutable));
        let content = place.put("object", 8 * 4096 + 100, 1).await;
        // Memory of this size comes back with these bytes in it.
        for _ in 0..4 {
            engine.pooled_buffer(9 * 4096).expect("memory").fill(0xaa);
        }
        place.get("object").await;
        place.tier.flush().await;
        let slab = std::fs::read(place.directory.path().join("slab")).expect("the slab");
        let cell = slab.chunks(4096).position(|page| page == &content[..4096]).expect("the object") * 4096;
        assert_same(&slab[cell..cell + content.len()], &content, "the object");
        assert!(slab[cell + content.len()..].iter().all(|&byte| byte == 0), "zeros behind it");
    });
}

#[test]
fn what_is_read_again_stays_and_what_is_read_once_goes() {
    each(async |engine| {
        let place = Place::new(engine, 64 << 20, |tier| tier.otherwise(Validate::Immutable));
        for number in 0..60 {
            let path = format!("object-{number}");
            place.put(&path, MIB, number).await;
            place.get(&path).await;
            place.tier.flush().await;
            place.get("object-0").await;
        }
        place.remote.take_counts();
        place.get("object-0").await;
        assert_eq!(place.remote.take_counts(), (0, 0));
        assert!(place.tier.stats().evicted > 40);
    });
}

#[test]
fn without_room_for_fills_everything_is_served_and_nothing_cached() {
    each(async |engine| {
        let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Immutable).max_fill_bytes(0));
        let content = place.put("object", MIB, 1).await;
        for _ in 0..3 {
            assert_same(&place.get("object").await, &content, "the object");
        }
        place.tier.flush().await;
        let stats = place.tier.stats();
        assert_eq!((stats.fills_skipped, stats.bytes_filled, stats.hits, stats.slots_free), (3, 0, 0, 4));
    });
}

#[test]
fn on_a_closed_engine_the_remote_serves() {
    each(async |_| {
        for engine in crate::harness::engines() {
            let place = Place::immutable(&engine);
            let content = place.put("object", MIB, 1).await;
            place.get("object").await;
            place.tier.flush().await;
            engine.close().await.expect("its end");
            for _ in 0..2 {
                assert_same(&place.get("object").await, &content, "the object");
                place.tier.flush().await;
            }
            place.store.put(&at("object"), vec![7; 10].into()).await.expect("a put");
            assert_same(&place.get("object").await, &[7; 10], "the new version");
        }
    });
}
