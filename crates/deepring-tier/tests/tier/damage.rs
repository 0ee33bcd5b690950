//! What a drive, a crash or another program can leave: right bytes all the same.

use crate::harness::{assert_same, bytes, engines};
use crate::places::{CELL, EXTENT, MIB, Place, at, each, run};
use deepring::Engine;
use deepring_tier::v014::object_store::ObjectStoreExt;
use deepring_tier::{TierBuilder, Validate};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const RECORD: usize = 4096;

/// A part of a mixture that is as it was at the later of two moments.
const NEW: u8 = 3;

fn immutable(tier: TierBuilder) -> TierBuilder {
    tier.otherwise(Validate::Immutable)
}

fn files(directory: &Path) -> [PathBuf; 2] {
    ["slab", "index"].map(|name| directory.join(name))
}

/// Changes a byte behind the back of the tier, past the page cache of the kernel as far as the tier is concerned.
fn damage(path: &Path, position: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("a byte");
    file.write_all_at(&[!byte[0]], position).expect("a write");
    file.sync_all().expect("a flush");
}

/// Where some bytes are in the slab.
fn find(slab: &Path, needle: &[u8]) -> u64 {
    let slab = fs::read(slab).expect("the slab");
    slab.chunks(CELL as usize).position(|cell| cell.starts_with(needle)).expect("the cell") as u64 * CELL
}

#[test]
fn a_cell_that_is_damaged_is_fetched_again() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let content = place.put("object", MIB + 100, 1).await;
        place.get("object").await;
        place.tier.flush().await;
        let [slab, _] = files(place.directory.path());
        damage(&slab, find(&slab, &content[5 * CELL as usize..5 * CELL as usize + 100]) + 777);
        // The last cell is short, and so is what is in the slab of it.
        damage(&slab, find(&slab, &content[MIB as usize..]) + 99);
        place.remote.take_counts();
        for bad in [2, 2] {
            assert_same(&place.get("object").await, &content, "the object");
            place.tier.flush().await;
            assert_eq!(place.tier.stats().bad_cells, bad);
        }
        assert_eq!(place.remote.take_ranges(), [5 * CELL..MIB + 100]);
    });
}

#[test]
fn a_tier_that_is_opened_again_has_what_it_had() {
    each(async |engine| {
        for validate in [Validate::Immutable, Validate::Always] {
            let place = Place::new(engine, 64 << 20, |tier| tier.otherwise(validate));
            let content = place.put("object", 9 * MIB + 3, 1).await;
            place.range("object", 2 * MIB..5 * MIB).await;
            place.range("object", 9 * MIB..9 * MIB + 3).await;
            let place = place.reopened(|tier| tier.otherwise(validate), 64 << 20).await;
            place.remote.take_counts();
            assert_same(
                &place.range("object", 2 * MIB + 1..5 * MIB - 1).await,
                &content[2 * MIB as usize + 1..5 * MIB as usize - 1],
                "a range",
            );
            assert_same(&place.range("object", 9 * MIB..9 * MIB + 3).await, &content[9 * MIB as usize..], "the end");
            let heads = if validate == Validate::Always { 2 } else { 0 };
            assert_eq!(place.remote.take_counts(), (0, heads), "{validate:?}");
            assert_eq!(place.tier.stats().hits, 49);
            // The rest is a miss, in the same extents.
            assert_same(&place.get("object").await, &content, "the object");
            let place = place.reopened(|tier| tier.otherwise(validate), 64 << 20).await;
            place.remote.take_counts();
            assert_same(&place.get("object").await, &content, "the object");
            assert_eq!(place.remote.take_counts(), (0, heads / 2));
        }
    });
}

#[test]
fn an_object_that_changed_while_the_tier_was_closed_is_asked_for() {
    each(async |engine| {
        let place = Place::new(engine, 64 << 20, |tier| tier.otherwise(Validate::After(std::time::Duration::from_hours(1))));
        place.put("object", MIB, 1).await;
        place.get("object").await;
        place.tier.flush().await;
        let new = place.put("object", MIB, 2).await;
        let place = place.reopened(|tier| tier.otherwise(Validate::After(std::time::Duration::from_hours(1))), 64 << 20).await;
        assert_same(&place.get("object").await, &new, "the new version");
        // Two versions are in the index now. Which is the last is asked, whatever the rule.
        let place = place.reopened(immutable, 64 << 20).await;
        place.remote.take_counts();
        assert_same(&place.get("object").await, &new, "the new version");
        assert_eq!(place.remote.take_counts(), (0, 1));
    });
}

#[test]
fn files_that_were_cut_or_removed_cost_misses() {
    each(async |engine| {
        for (number, len) in [(0, 0), (0, 5 * MIB + 1), (0, u64::MAX), (1, 0), (1, RECORD as u64 + 100), (1, u64::MAX)] {
            let place = Place::immutable(engine);
            let content = place.put("object", 12 * MIB, 1).await;
            place.get("object").await;
            place.tier.flush().await;
            let path = files(place.directory.path())[number].clone();
            let Place { remote, store, tier, directory, engine } = place;
            drop((store, tier));
            if len == u64::MAX {
                fs::remove_file(&path).expect("a file");
            } else {
                OpenOptions::new().write(true).open(&path).expect("a file").set_len(len).expect("a cut");
            }
            let tier = immutable(deepring_tier::Tier::builder(&engine)).open(directory.path(), 64 << 20).expect("a tier");
            let store = deepring_tier::v014::TieredStore::new(&tier, remote.clone(), "memory://");
            let place = Place { remote, store, tier, directory, engine };
            for _ in 0..2 {
                assert_same(&place.get("object").await, &content, "the object");
                place.tier.flush().await;
            }
            assert!(place.tier.stats().hits >= 192);
        }
    });
}

#[test]
fn a_slab_that_is_cut_while_it_is_open_costs_misses() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let content = place.put("object", 12 * MIB, 1).await;
        place.get("object").await;
        place.tier.flush().await;
        OpenOptions::new().write(true).open(&files(place.directory.path())[0]).expect("a file").set_len(5 * MIB).expect("a cut");
        assert_same(&place.get("object").await, &content, "the object");
        assert!(place.tier.stats().bad_cells >= 7 * 16);
    });
}

#[test]
fn another_capacity_or_size_of_cells_loses_no_more_than_it_must() {
    each(async |engine| {
        let place = Place::immutable(engine);
        let content = place.put("object", 24 * MIB, 1).await;
        place.get("object").await;
        let mut place = place;
        for (capacity, cell, has_hits) in [
            (32 << 20, CELL, true),
            (16 << 20, CELL, true),
            (64 << 20, CELL, true),
            (64 << 20, 16 << 10, false),
            (64 << 20, 4 << 20, false),
        ] {
            place = place.reopened(|tier| immutable(tier).cell(cell), capacity).await;
            let [slab, index] = files(place.directory.path()).map(|path| fs::metadata(path).expect("a file").len());
            assert_eq!((slab, index), (capacity, capacity / EXTENT * RECORD as u64));
            assert_same(&place.get("object").await, &content, "the object");
            assert_eq!(place.tier.stats().hits > 0, has_hits, "{capacity} {cell}");
        }
    });
}

/// The slab and the index of a tier with two versions of some objects, before and after the second ones were read.
struct Moments {
    directory: tempfile::TempDir,
    old: [Vec<u8>; 2],
    new: [Vec<u8>; 2],
    /// Which slot the second version of each object has.
    slots: Vec<usize>,
    remote: std::sync::Arc<crate::remote::Remote>,
    contents: Vec<Vec<u8>>,
}

async fn moments(engine: &Engine) -> Moments {
    let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Always));
    let snapshot = || files(place.directory.path()).map(|path| fs::read(path).expect("a file"));
    // One fill at a time: which extents are evicted does not depend on how fast the drive is.
    let fill = async |path: &str, salt: u64| {
        let content = place.put(path, 2 * MIB, salt).await;
        place.get(path).await;
        place.tier.flush().await;
        content
    };
    let paths: Vec<_> = (0..3).map(|number| format!("object-{number}")).collect();
    for (path, salt) in paths.iter().zip(0..) {
        fill(path, salt).await;
    }
    let old = snapshot();
    let mut contents = Vec::new();
    for (path, salt) in paths.iter().zip(100..) {
        contents.push(fill(path, salt).await);
    }
    let new = snapshot();
    let records = || old[1].chunks(RECORD).zip(new[1].chunks(RECORD));
    let is_of = |record: &[u8], path: &str| record.windows(path.len()).any(|name| name == path.as_bytes());
    let slot_of = |path: &String| records().position(|(old, new)| old != new && is_of(new, path)).expect("a record");
    let slots = paths.iter().map(slot_of).collect();
    let Place { remote, store, tier, directory, .. } = place;
    drop((store, tier));
    Moments { directory, old, new, slots, remote, contents }
}

/// After a power failure, each cell and each record can be old, new, torn or nonsense, in any combination.
#[test]
fn any_mixture_of_old_new_and_torn_parts_gives_right_bytes() {
    let engine = engines().remove(0);
    let Moments { directory, old, new, slots, remote, contents } = run(moments(&engine));
    let part = |number: usize, range: std::ops::Range<usize>, choice: u8, seed: u64| match choice {
        0 => bytes(range.start as u64, range.len(), seed),
        1 => vec![0; range.len()],
        choice if choice % 2 == 0 => old[number][range].to_vec(),
        _ => new[number][range].to_vec(),
    };
    let mixture = |number: usize, unit: usize, choices: &[u8], seed: u64| -> Vec<u8> {
        let units = (0..old[number].len()).step_by(unit).zip(choices.iter().cycle());
        units.flat_map(|(at, &choice)| part(number, at..at + unit, choice, seed)).collect()
    };
    let choices = |count| prop::collection::vec(0u8..8, count);
    // Most records are whole; of the others, each sector is one thing or another.
    let records = prop::collection::vec(prop_oneof![4 => (0u8..8).prop_map(|choice| vec![choice; 8]), 1 => choices(8)], 4);
    // In most cases, the record of the object that is read first is the new one, so that its cells are looked at.
    let first = prop::option::weighted(0.75, 0..contents.len());
    let (hits, bad) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() });
    let result = runner.run(&(records, first, choices(256), any::<u64>()), |(mut records, first, cells, seed)| {
        if let Some(object) = first {
            records[slots[object]].fill(NEW);
        }
        let paths = files(directory.path());
        fs::write(&paths[0], mixture(0, CELL as usize, &cells, seed)).expect("a slab");
        fs::write(&paths[1], mixture(1, RECORD / 8, &records.concat(), seed)).expect("an index");
        let tier = deepring_tier::Tier::builder(&engine).open(directory.path(), 16 << 20).expect("a tier");
        let store = deepring_tier::v014::TieredStore::new(&tier, remote.clone(), "memory://");
        run(async {
            let objects = contents.iter().enumerate().cycle().skip(first.unwrap_or_default()).take(contents.len());
            for (number, content) in objects {
                let found = store.get(&at(&format!("object-{number}"))).await.expect("an object").bytes().await.expect("bytes");
                assert_same(&found, content, "the object");
                tier.flush().await;
            }
        });
        hits.set(hits.get() + tier.stats().hits);
        bad.set(bad.get() + tier.stats().bad_cells);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(hits.get() > 100 && bad.get() > 100, "{} hits, {} bad cells", hits.get(), bad.get());
}
