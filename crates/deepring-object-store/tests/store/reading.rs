//! Reads: every range is exactly its bytes, nothing is copied, and what is replaced meanwhile goes on being read.

use crate::harness::child::{alone, limit};
use crate::harness::{assert_same, bytes, directory, engines, is_direct};
use crate::places::{at, built, cached, put, stores};
use deepring::Direct;
use deepring_object_store::{DeepringStore, Durability};
use futures_util::{StreamExt, TryStreamExt};
use object_store_014::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use pollster::block_on;
use proptest::prelude::*;
use std::ops::Range;

const MODES: [Direct; 3] = [Direct::Auto, Direct::Prefer, Direct::Never];

#[test]
fn every_range_is_exactly_its_bytes() {
    const SIZE: u64 = 3 << 20;
    let place = directory();
    let content = bytes(0, SIZE as usize + 777, 1);
    let stores: Vec<DeepringStore> = engines()
        .iter()
        .flat_map(|engine| {
            MODES.map(|direct| built(DeepringStore::builder(engine).prefix(place.path()).direct(direct).coalesce(8192, 1 << 20)))
        })
        .collect();
    put(&stores[0], "object", content.clone());
    let size = content.len() as u64;
    let range = (0..size, prop_oneof![Just(0u64), 1..100u64, 1..10_000u64, 1..2_000_000u64])
        .prop_map(move |(start, len)| start..(start + len).min(size));
    proptest!(ProptestConfig::with_cases(60), |(ranges in prop::collection::vec(range, 1..40), turn in 0usize..6)| {
        let store = &stores[turn % stores.len()];
        let found = block_on(store.get_ranges(&at("object"), &ranges)).expect("ranges");
        prop_assert_eq!(found.len(), ranges.len());
        for (found, Range { start, end }) in found.iter().zip(&ranges) {
            assert_same(found, &content[*start as usize..*end as usize], &format!("{start}..{end} of {store:?}"));
        }
        let Some(Range { start, end }) = ranges.iter().find(|range| !range.is_empty()).cloned() else { return Ok(()) };
        let found = block_on(store.get_range(&at("object"), start..end)).expect("a range");
        assert_same(&found, &content[start as usize..end as usize], "one range");
    });
}

#[test]
fn a_stream_of_chunks_is_the_object_from_any_byte_on() {
    let place = directory();
    let content = bytes(0, 700_001, 2);
    for engine in engines() {
        for direct in MODES {
            let builder = DeepringStore::builder(&engine).prefix(place.path()).durability(Durability::Cached).direct(direct);
            let store = built(builder.chunk(1).whole_max(100_000).read_ahead(3));
            put(&store, "object", content.clone());
            for start in [0u64, 1, 65_535, 65_536, 600_001] {
                let options = GetOptions::new().with_range(Some(GetRange::Offset(start)));
                let result = block_on(store.get_opts(&at("object"), options)).expect("an object");
                assert_eq!((result.range.clone(), result.meta.size), (start..700_001, 700_001));
                let chunks: Vec<_> = block_on(result.into_stream().try_collect()).expect("its bytes");
                if start < 600_001 {
                    assert!(chunks.iter().all(|chunk| chunk.len() <= 64 << 10), "chunks of 64 KiB");
                    assert!(chunks.len() > 1);
                } else {
                    assert_eq!(chunks.len(), 1, "what is no longer than whole_max comes in one chunk");
                }
                assert_same(&chunks.concat(), &content[start as usize..], "the chunks");
            }
        }
    }
}

#[test]
fn ranges_of_one_read_are_parts_of_the_same_memory() {
    for (place, store) in stores() {
        put(&store, "object", bytes(0, 1 << 20, 3));
        if !is_direct(place.path()) {
            return crate::harness::skip("the test directory has no direct I/O");
        }
        let asked = [500_001..500_011, 400_000..400_100, 450_000..550_000];
        let found = block_on(store.get_ranges(&at("object"), &asked)).expect("ranges");
        let address = |index: usize| found[index].as_ptr() as i64 - asked[index].start as i64;
        assert!(address(0) == address(1) && address(1) == address(2), "a copy was made");
        // The start of the widened read is on a page of its own.
        assert_eq!((address(0) + 399_872) % 512, 0);
        let stats = store.stats();
        assert_eq!((stats.ranges_asked, stats.ranges_fetched, stats.bytes_wanted), (3, 1, 100_110));
        assert!(stats.bytes_read < 160_000, "{stats:?}");
    }
}

#[test]
fn what_is_in_the_page_cache_comes_from_there_and_the_rest_from_the_drive() {
    for (place, store) in stores() {
        if !is_direct(place.path()) {
            return crate::harness::skip("the test directory has no direct I/O");
        }
        put(&store, "object", bytes(0, 1 << 20, 4));
        block_on(store.get_ranges(&at("object"), std::slice::from_ref(&(0..1 << 20)))).expect("ranges");
        assert_eq!((store.stats().direct, store.stats().buffered), (1, 0), "a direct put leaves nothing in the page cache");
        std::fs::read(place.path().join("object")).expect("the file");
        block_on(store.get_ranges(&at("object"), std::slice::from_ref(&(0..1 << 20)))).expect("ranges");
        assert_eq!((store.stats().direct, store.stats().buffered), (1, 1));
    }
}

#[test]
fn a_range_that_leaves_the_object_is_an_error_that_names_both() {
    for (_place, store) in stores() {
        put(&store, "object", bytes(0, 1000, 5));
        #[allow(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        for range in [0..1001, 1000..1001, 5000..6000, u64::MAX - 1..u64::MAX, 10..9] {
            let error = block_on(store.get_ranges(&at("object"), &[0..10, range.clone()])).expect_err("outside");
            let text = error.to_string();
            assert!(matches!(error, Error::Generic { .. }) && text.contains(&format!("{}..{}", range.start, range.end)), "{text}");
            assert!(text.contains("1000 bytes"), "{text}");
        }
        let found = block_on(store.get_ranges(&at("object"), &[1000..1000, 999..1000, 0..0])).expect("inside");
        assert_eq!(found.iter().map(bytes::Bytes::len).collect::<Vec<_>>(), [0, 1, 0]);
        assert!(block_on(store.get_ranges(&at("object"), &[])).expect("nothing").is_empty());
        let missing = block_on(store.get_ranges(&at("missing"), &[0..1, 1..2])).expect_err("no object");
        assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    }
}

#[test]
fn a_reader_of_an_object_that_is_replaced_goes_on_reading_the_old_one() {
    let place = directory();
    for engine in engines() {
        let builder = DeepringStore::builder(&engine).prefix(place.path()).durability(Durability::Cached);
        let store = built(builder.chunk(64 << 10).whole_max(0).read_ahead(1));
        let (old, new) = (bytes(0, 1 << 20, 6), bytes(0, 1 << 20, 7));
        put(&store, "object", old.clone());
        let mut reader = block_on(store.get(&at("object"))).expect("an object").into_stream();
        let mut found = block_on(reader.next()).expect("a chunk").expect("bytes").to_vec();
        put(&store, "object", new.clone());
        block_on(store.delete(&at("object"))).expect("a delete");
        while let Some(chunk) = block_on(reader.next()) {
            found.extend_from_slice(&chunk.expect("bytes"));
        }
        assert_same(&found, &old, "the object that was opened");
    }
}

#[test]
fn a_stream_that_is_dropped_reads_no_further() {
    let place = directory();
    for engine in engines() {
        let builder = DeepringStore::builder(&engine).prefix(place.path()).durability(Durability::Cached);
        let store = built(builder.chunk(64 << 10).whole_max(0).read_ahead(2));
        put(&store, "object", bytes(0, 4 << 20, 8));
        let mut reader = block_on(store.get(&at("object"))).expect("an object").into_stream();
        assert_eq!(store.stats().ranges_asked, 0, "nothing is read before it is polled");
        block_on(reader.next()).expect("a chunk").expect("bytes");
        drop(reader);
        let read = store.stats().ranges_asked;
        assert!((1..=3).contains(&read), "{read} chunks were read for a consumer of one");
    }
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_read_is_an_error() {
    for (place, store) in stores() {
        put(&store, "object", bytes(0, 1 << 20, 9));
        let whole = block_on(store.get(&at("object"))).expect("an object");
        std::fs::OpenOptions::new().write(true).open(place.path().join("object")).and_then(|file| file.set_len(1000)).expect("a cut");
        let error = block_on(whole.bytes()).expect_err("its end is gone");
        assert!(error.to_string().contains("became shorter"), "{error}");
    }
}

#[test]
fn ten_thousand_ranges_and_many_readers_need_few_descriptors() {
    alone(|| {
        let place = directory();
        let content = bytes(0, 8 << 20, 10);
        for engine in engines() {
            let store = cached(&engine, place.path());
            put(&store, "object", content.clone());
            limit(libc::RLIMIT_NOFILE, 64);
            let ranges: Vec<_> = (0..10_000u64).map(|number| number * 800..number * 800 + 100).collect();
            let found = block_on(store.get_ranges(&at("object"), &ranges)).expect("ranges");
            for (found, range) in found.iter().zip(&ranges) {
                assert_same(found, &content[range.start as usize..range.end as usize], "a range");
            }
            // Each opens the object; no more are open than there are readers.
            let reads = (0..500u64).map(|number| {
                let store = &store;
                async move { store.get_range(&at("object"), number..number + 10).await }
            });
            let found: Vec<_> = block_on(futures_util::stream::iter(reads).buffer_unordered(8).try_collect()).expect("reads");
            assert_eq!(found.len(), 500);
            let puts = (0..100).map(|number| {
                let store = &store;
                async move { store.put(&at(&format!("many/{number}")), vec![7u8; 5000].into()).await }
            });
            let found: Vec<_> = block_on(futures_util::stream::iter(puts).buffer_unordered(4).try_collect()).expect("puts");
            assert_eq!(found.len(), 100);
        }
    });
}
