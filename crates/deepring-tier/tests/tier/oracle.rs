//! Random reads and changes through a tier, held against the store behind it.

use crate::harness::{assert_same, bytes, engines};
use crate::places::{CELL, EXTENT, Place, at, run};
use deepring_tier::Validate;
use deepring_tier::v014::object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use std::ops::Range;

#[derive(Debug, Clone)]
enum Step {
    Ranges(usize, Vec<Range<u64>>),
    Get(usize, Option<GetRange>),
    Put(usize, u64),
    PutBehind(usize, u64),
    Delete(usize),
    Flush,
    Reopen,
}

const OBJECTS: usize = 3;

fn near() -> impl Strategy<Value = u64> {
    let edges = prop::sample::select(vec![0, CELL, 2 * CELL, 17 * CELL, EXTENT, 2 * EXTENT]);
    (edges, -3i64..4).prop_map(|(edge, off)| edge.saturating_add_signed(off))
}

fn place() -> impl Strategy<Value = u64> {
    prop_oneof![near(), 0..9u64 << 20]
}

fn range() -> impl Strategy<Value = Range<u64>> {
    (place(), place()).prop_map(|(one, two)| one.min(two)..one.max(two))
}

fn step() -> impl Strategy<Value = Step> {
    let got = prop_oneof![
        Just(None),
        range().prop_map(|range| Some(GetRange::Bounded(range))),
        place().prop_map(|start| Some(GetRange::Offset(start))),
        place().prop_map(|bytes| Some(GetRange::Suffix(bytes))),
    ];
    prop_oneof![
        8 => (0..OBJECTS, prop::collection::vec(range(), 1..8)).prop_map(|(object, ranges)| Step::Ranges(object, ranges)),
        6 => (0..OBJECTS, got).prop_map(|(object, range)| Step::Get(object, range)),
        3 => (0..OBJECTS, place()).prop_map(|(object, len)| Step::Put(object, len)),
        2 => (0..OBJECTS, place()).prop_map(|(object, len)| Step::PutBehind(object, len)),
        1 => (0..OBJECTS).prop_map(Step::Delete),
        3 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_read_is_that_of_the_remote(steps in prop::collection::vec(step(), 1..25), cell in prop::sample::select(vec![16u64 << 10, CELL, EXTENT])) {
        for engine in engines() {
            run(follow(&engine, &steps, cell));
        }
    }
}

async fn follow(engine: &deepring::Engine, steps: &[Step], cell: u64) {
    let set = |tier: deepring_tier::TierBuilder| tier.otherwise(Validate::Always).cell(cell).max_fetch_bytes(EXTENT);
    let mut place = Place::new(engine, 16 << 20, set);
    for (number, step) in steps.iter().enumerate() {
        let path = |object: usize| at(&format!("object-{object}"));
        match step {
            Step::Ranges(object, ranges) => {
                let expected = place.remote.objects.get_ranges(&path(*object), ranges).await;
                let found = place.store.get_ranges(&path(*object), ranges).await;
                assert_eq!(found.is_ok(), expected.is_ok(), "step {number}, {step:?}: {found:?}");
                for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert_same(found, expected, &format!("step {number}, {step:?}"));
                }
            }
            Step::Get(object, range) => {
                let options = || GetOptions { range: range.clone(), ..GetOptions::default() };
                let expected = place.remote.objects.get_opts(&path(*object), options()).await;
                let found = place.store.get_opts(&path(*object), options()).await;
                match (found, expected) {
                    (Ok(found), Ok(expected)) => {
                        assert_eq!((&found.meta, &found.range), (&expected.meta, &expected.range), "step {number}");
                        let (found, expected) = (found.bytes().await.expect("bytes"), expected.bytes().await.expect("bytes"));
                        assert_same(&found, &expected, &format!("step {number}, {step:?}"));
                    }
                    (Err(_), Err(_)) => {}
                    (found, expected) => panic!("step {number}, {step:?}: {found:?}, {expected:?}"),
                }
            }
            Step::Put(object, len) => {
                drop(place.store.put(&path(*object), bytes(0, *len as usize, number as u64).into()).await.expect("a put"));
            }
            Step::PutBehind(object, len) => {
                place.remote.objects.put(&path(*object), bytes(0, *len as usize, number as u64).into()).await.expect("a put");
            }
            Step::Delete(object) => place.store.delete(&path(*object)).await.expect("a delete"),
            Step::Flush => place.tier.flush().await,
            Step::Reopen => place = place.reopened(set, 16 << 20).await,
        }
    }
    assert_eq!(place.tier.stats().bad_cells, 0);
}
