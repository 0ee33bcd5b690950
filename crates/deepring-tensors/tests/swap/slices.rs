//! Leases of slices: their bytes alone are read, and count.

use crate::harness::{Rng, bytes, directory, engine, saved, source};
use crate::model::{MIB, assert_idle, content, done_soon, put, store};
use deepring_tensors::swap::{SwapOptions, SwapState, SwapStore};
use deepring_tensors::{DType, Declared, Error, Safetensors, SaveOptions, Slice, Source};

/// The bytes of a slice, without this crate.
fn cut(data: &[u8], shape: &[u64], ranges: &[std::ops::Range<u64>], size: usize) -> Vec<u8> {
    let Some((range, inner)) = ranges.split_first() else { return data.to_vec() };
    let row = shape[1..].iter().product::<u64>() as usize * size;
    range.clone().flat_map(|index| cut(&data[index as usize * row..][..row], &shape[1..], inner, size)).collect()
}

fn matrix(store: &SwapStore, name: &str, shape: &[u64]) -> Vec<u8> {
    let data = bytes(2 * shape.iter().product::<u64>() as usize, shape[0]);
    let declared = Declared { name: name.into(), dtype: DType::BF16, shape: shape.into() };
    store.put(Source { declared, data: data.clone() }).wait().expect("accepted");
    data
}

#[test]
fn a_slice_is_read_alone_and_counts_its_own_bytes() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(4 * MIB as u64).checksum(true));
    let data = matrix(&store, "x", &[1000, 1000]);
    store.evict("x").wait().expect("written");
    let rows = store.get_slice("x", Slice::new([Some(10..20)])).wait().expect("rows");
    assert_eq!((rows.dtype(), rows.shape(), rows.name()), (Some(DType::BF16), &[10, 1000][..], "x"));
    assert!(rows.bytes() == &data[20_000..40_000]);
    let stats = store.stats();
    assert_eq!((stats.used, stats.leased, stats.read, stats.misses), (20_480, 20_480, 20_000, 1));
    assert_eq!(store.state("x"), Some(SwapState::Stored), "the whole is not there");
    drop(rows);
    assert_eq!((store.stats().used, store.stats().leased), (0, 0));
    // Of the whole, if it is there.
    let whole = store.get("x").wait().expect("the whole");
    let read = store.stats().read;
    let column = store.get_slice("x", Slice::new([None, Some(7..9)])).wait().expect("a column");
    assert!(column.bytes() == cut(&data, &[1000, 1000], &[0..1000, 7..9], 2));
    assert_eq!((store.stats().read, store.stats().used), (read, whole.bytes().len().next_multiple_of(4096) as u64 + 4096));
    drop((whole, column));
    assert_idle(&store);
}

#[test]
fn any_slice_is_that_of_its_tensor() {
    let (place, engine, mut rng) = (directory(), engine(), Rng::new());
    let shape = [9, 30, 40];
    let own = store(&engine, &place.path().join("store"), SwapOptions::new(MIB as u64));
    let data = matrix(&own, "x", &shape);
    own.evict("x").wait().expect("written");
    let declared = Declared { name: "x".into(), dtype: DType::BF16, shape: shape.into() };
    let model = [Source { declared, data: data.clone() }];
    let path = saved(&engine, place.path(), "model.safetensors", &model, SaveOptions::new().checksums(true));
    let over = SwapStore::over(&Safetensors::open(&engine, &path).wait().expect("a model"), MIB as u64);
    for _ in 0..60 {
        let ranges = shape.map(|extent| {
            let start = rng.below(extent + 1);
            start..start + rng.below(extent - start + 1)
        });
        for store in [&own, &over] {
            let lease = store.get_slice("x", Slice::new(ranges.clone().map(Some))).wait().expect("a slice");
            assert!(lease.bytes() == cut(&data, &shape, &ranges, 2), "{ranges:?}");
            assert_eq!(lease.shape(), ranges.each_ref().map(|range| range.end - range.start));
        }
    }
    assert_eq!((own.stats().leased, own.stats().used, over.stats().used), (0, 0, 0));
}

#[test]
fn a_slice_keeps_its_version_and_keeps_nothing_from_being_changed() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(4 * MIB as u64));
    put(&store, "x", MIB, 1);
    store.evict("x").wait().expect("written");
    let slice = || store.get_slice("x", Slice::new([Some(5000..6000)]));
    let old = slice().wait().expect("a slice");
    let mut writing = store.get_mut("x").wait().expect("no lease keeps it");
    assert!(done_soon(slice()).is_none(), "what is changed is waited for");
    writing.bytes_mut().expect("it writes").copy_from_slice(&content("x", MIB, 2));
    writing.close(true).expect("accepted");
    assert!(old.bytes() == &content("x", MIB, 1)[5000..6000]);
    assert!(slice().wait().expect("a slice").bytes() == &content("x", MIB, 2)[5000..6000]);
    put(&store, "x", 5500, 3);
    assert!(matches!(slice().wait(), Err(Error::Slice { tensor, .. }) if tensor == "x"), "it is shorter by now");
}

#[test]
fn what_cannot_be_sliced_is_refused_and_a_slice_only_reads() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(MIB as u64));
    matrix(&store, "x", &[3, 4]);
    let refused = |slice| matches!(store.get_slice("x", slice).wait(), Err(Error::Slice { .. }));
    assert!(refused(Slice::new([Some(0..4)])) && refused(Slice::new([None, None, None])));
    assert!(matches!(store.get_slice("y", Slice::default()).wait(), Err(Error::NotFound { .. })));
    let mut slice = store.get_slice("x", Slice::new([Some(1..2)])).wait().expect("a slice");
    assert!(matches!(slice.bytes_mut(), Err(Error::Argument(_))));
    assert!(matches!(slice.close(true), Err(Error::Argument(_))));
    assert_eq!(store.stats().leased, 0, "it has ended all the same");
    let model = [source("f4", DType::F4, &[2, 8])];
    let path = saved(&engine, place.path(), "model.safetensors", &model, SaveOptions::new());
    let over = SwapStore::over(&Safetensors::open(&engine, &path).wait().expect("a model"), MIB as u64);
    assert!(matches!(over.get_slice("f4", Slice::new([None, Some(1..2)])).wait(), Err(Error::Slice { .. })), "inside of a byte");
}

#[test]
fn a_slice_waits_for_memory_and_one_of_a_file_that_was_cut_names_its_tensor() {
    let (place, engine) = (directory(), engine());
    let path = place.path().join("store");
    let store = store(&engine, &path, SwapOptions::new(MIB as u64));
    put(&store, "x", MIB, 1);
    put(&store, "y", MIB / 2, 1);
    store.evict("x").wait().expect("written");
    store.evict("y").wait().expect("written");
    let lease = store.get("x").wait().expect("all of the memory");
    let slice = || store.get_slice("y", Slice::new([Some(MIB as u64 / 2 - 100..MIB as u64 / 2)]));
    assert!(done_soon(slice()).is_none(), "it waits");
    drop(lease);
    assert!(slice().wait().expect("a slice").bytes() == &content("y", MIB / 2, 1)[MIB / 2 - 100..]);
    store.pin("x").wait().expect("pinned");
    assert!(matches!(slice().wait(), Err(Error::Budget { .. })), "pins stay");
    store.unpin("x");
    let file = std::fs::OpenOptions::new().write(true).open(path.join("data")).expect("the file");
    file.set_len(MIB as u64 + 8192).expect("cut");
    let error = slice().wait().expect_err("cut");
    assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_EOF", Some("y")));
    assert_eq!(store.stats().leased, 0);
}
