//! Settings that are refused, and places where no tier can be.

use crate::harness::{directory, engines};
use crate::places::{Place, each};
use deepring_tier::v013::TieredStore as Earlier;
use deepring_tier::{OpenError, Tier, TierBuilder, Validate};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn settings_outside_their_range_are_refused_by_name() {
    let engine = engines().remove(0);
    let place = directory();
    let refused = |expected: &str, capacity: u64, set: &dyn Fn(TierBuilder) -> TierBuilder| {
        let error = set(Tier::builder(&engine)).open(place.path().join("tier"), capacity).expect_err("a setting");
        assert!(matches!(&error, OpenError::Setting { setting, .. } if *setting == expected), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    for capacity in [0, (16 << 20) - 1, u64::MAX] {
        refused("capacity", capacity, &|tier| tier);
    }
    for cell in [0, 8 << 10, 65_537, 8 << 20] {
        refused("cell", 16 << 20, &|tier| tier.cell(cell));
    }
    for fetches in [0, 1025] {
        refused("fetches", 16 << 20, &|tier| tier.fetches(fetches));
    }
    for timeout in [Duration::ZERO, Duration::MAX] {
        refused("timeout", 16 << 20, &|tier| tier.timeout(timeout));
    }
    for bytes in [0, 65_535, u64::MAX] {
        refused("max_fetch_bytes", 16 << 20, &|tier| tier.max_fetch_bytes(bytes));
    }
    refused("a pattern", 16 << 20, &|tier| tier.bypass(["/"]));
    refused("a pattern", 16 << 20, &|tier| tier.validate("", Validate::Always));
    assert!(!place.path().join("tier").exists(), "nothing was made");
}

#[test]
fn a_place_without_a_directory_is_an_error_with_its_path() {
    let engine = engines().remove(0);
    let place = directory();
    let file = place.path().join("file");
    std::fs::write(&file, b"of a user").expect("a file");
    let error = Tier::builder(&engine).open(&file, 16 << 20).expect_err("a file");
    assert!(matches!(error, OpenError::Directory { .. }) && error.to_string().contains("file"), "{error}");
    assert_eq!(std::fs::read(&file).expect("a file"), b"of a user");
    std::fs::create_dir_all(place.path().join("tier/slab")).expect("a directory");
    let error = Tier::builder(&engine).open(place.path().join("tier"), 16 << 20).expect_err("a directory");
    assert!(matches!(error, OpenError::Files(_)), "{error}");
    // More than any drive has: what was taken is given back.
    let error = Tier::builder(&engine).open(place.path().join("large"), 1 << 47).expect_err("no space");
    assert!(matches!(error, OpenError::Files(_)), "{error}");
}

#[test]
fn a_directory_has_one_tier_at_a_time() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let open = || Tier::builder(engine).open(place.directory.path(), 16 << 20);
        assert!(matches!(open(), Err(OpenError::Held(path)) if path == place.directory.path()));
        let Place { store, tier, directory, .. } = place;
        drop(tier);
        assert!(matches!(Tier::builder(engine).open(directory.path(), 16 << 20), Err(OpenError::Held(_))), "a store holds it");
        drop(store);
        Tier::builder(engine).open(directory.path(), 16 << 20).expect("a tier");
    });
}

#[test]
fn stores_of_both_versions_share_a_tier() {
    use deepring_tier::v013::object_store::{ObjectStoreExt as _, memory::InMemory, path::Path};
    each(async |engine| {
        let place = Place::immutable(engine);
        let earlier = Earlier::new(&place.tier, Arc::new(InMemory::new()), "memory://earlier");
        earlier.put(&Path::from("object"), vec![7; 1000].into()).await.expect("a put");
        let content = place.put("object", 1000, 1).await;
        for _ in 0..2 {
            assert_eq!(earlier.get(&Path::from("object")).await.expect("an object").bytes().await.expect("bytes"), vec![7; 1000]);
            assert_eq!(place.get("object").await, content, "stores of other names are apart");
            place.tier.flush().await;
        }
        assert_eq!((place.tier.stats().fetches, place.tier.stats().hits), (2, 2));
        assert_eq!(earlier.to_string(), "TieredStore(memory://earlier, InMemory)");
        assert!(format!("{:?}", earlier.tier()).contains("hits: 2"));
        assert_eq!(earlier.remote().to_string(), "InMemory");
    });
}
