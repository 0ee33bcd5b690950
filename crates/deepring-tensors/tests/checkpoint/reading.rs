//! Generations read back: whole tensors, tensors that several writers have split, slices of them, and copies.

use crate::disks::Mounted;
use crate::harness::{Rng, directory, engine, names_in, source};
use crate::model::{generation, is_clean, mixed, store};
use deepring_tensors::binding::{self, Destination};
use deepring_tensors::checkpoint::{
    BeginOptions, Check, Checkpoint, CheckpointOptions, Checkpoints, JoinOptions, PutOptions, StoreOptions,
};
use deepring_tensors::{DType, Declared, Error, LoadOptions, Slice, Source, StreamOptions};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Writes a generation of these tensors, and opens it.
pub(crate) fn saved(store: &Checkpoints, tensors: Vec<Source<Vec<u8>>>, options: CheckpointOptions) -> Checkpoint {
    let number = store.save(tensors, options).wait().expect("captured").commit().wait().expect("a commit").number;
    store.generation(number).wait().expect("a generation")
}

/// Checks that a checkpoint has just these tensors.
fn check(checkpoint: &Checkpoint, expected: &[Source<Vec<u8>>]) {
    let table = checkpoint.table();
    assert_eq!(table.len(), expected.len());
    let loaded = checkpoint.load(&table.all()).wait().expect("loaded");
    for Source { declared: Declared { name, dtype, shape }, data } in expected {
        let info = table.info(table.find(name).expect("the tensor"));
        assert_eq!((info.dtype, &info.shape, info.len), (Some(*dtype), shape, data.len() as u64), "{name}");
        let tensor = loaded.get(name).expect("the tensor");
        assert!(tensor.bytes() == data, "the bytes of {name} in {} pieces", info.pieces);
        assert!(tensor.bytes().as_ptr().addr().is_multiple_of(dtype.align()), "{name}");
    }
    let mut stream = checkpoint.stream(&table.all(), &StreamOptions::new().memory(table.largest().max(1))).expect("a stream");
    let mut count = 0;
    while let Some(tensor) = stream.wait_next() {
        let tensor = tensor.expect("a tensor");
        let source = expected.iter().find(|source| source.declared.name == tensor.name()).expect("one of them");
        assert!(tensor.bytes() == source.data, "{}", tensor.name());
        count += 1;
    }
    assert_eq!(count, expected.len());
    let found = checkpoint.verify(None).wait().expect("verified");
    assert!(found.is_whole() && found.verified == expected.len() as u64, "{found:?}");
}

#[test]
fn what_was_written_is_read_back_with_what_was_said_about_it() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    assert!(store.latest(Check::Sizes).wait().expect("none").checkpoint.is_none());
    assert!(matches!(store.generation(1).wait(), Err(Error::NoGeneration { generation: 1 })));
    let (before, tensors) = (SystemTime::now() - Duration::from_millis(1), mixed("t"));
    let checkpoint = saved(&store, tensors.clone(), CheckpointOptions::new().step(7).meta(r#"{"loss": 0.5}"#));
    assert_eq!((checkpoint.number(), checkpoint.step(), checkpoint.meta()), (1, Some(7), r#"{"loss": 0.5}"#));
    assert!((before..=SystemTime::now()).contains(&checkpoint.created()), "{:?}", checkpoint.created());
    check(&checkpoint, &tensors);
    for tensor in &tensors {
        let index = checkpoint.table().find(&tensor.declared.name).expect("the tensor");
        assert_eq!(checkpoint.checksum(index), Some(deepring::crc32c(&tensor.data)), "{}", tensor.declared.name);
    }
    let second = saved(&store, vec![source("x", DType::U8, &[9])], CheckpointOptions::new());
    assert_eq!((second.step(), second.meta()), (None, "null"));
    let empty = saved(&store, Vec::new(), CheckpointOptions::new());
    check(&empty, &[]);
    let latest = store.latest(Check::All).wait().expect("the third");
    assert_eq!((latest.checkpoint.map(|checkpoint| checkpoint.number()), latest.skipped.len()), (Some(3), 0));
}

/// Cuts a box in two, and these again.
fn tiling(rng: &mut Rng, shape: &[u64], pieces: u64, dtype: DType) -> Vec<(Vec<u64>, Vec<u64>)> {
    let mut boxes = vec![(vec![0; shape.len()], shape.to_vec())];
    for _ in 1..pieces {
        let which = rng.below(boxes.len() as u64) as usize;
        let (start, extents) = boxes[which].clone();
        let dimension = if rng.once_in(2) { 0 } else { rng.below(shape.len().max(1) as u64) as usize };
        // Of elements that share a byte, whole bytes. A scalar, and what has no room, is not cut.
        let unit = if dimension + 1 == shape.len() && dtype == DType::F4 { 2 } else { 1 };
        let Some(&extent) = extents.get(dimension) else { continue };
        let at = rng.below(extent / unit + 1) * unit;
        let (mut next, mut rest) = (start, extents);
        next[dimension] += at;
        rest[dimension] -= at;
        boxes[which].1[dimension] = at;
        boxes.push((next, rest));
    }
    boxes
}

/// The bytes of a part of a tensor, element by element.
fn part(data: &[u8], shape: &[u64], ranges: &[Range<u64>], bits: u64) -> Vec<u8> {
    let (mut part, mut halves) = (Vec::new(), Vec::new());
    for element in 0..shape.iter().product::<u64>() {
        let mut rest = element;
        let is_in = (0..shape.len()).rev().all(|dimension| {
            let at = rest % shape[dimension];
            rest /= shape[dimension];
            ranges[dimension].contains(&at)
        });
        if is_in && bits == 4 {
            halves.push(data[element as usize / 2] >> (element % 2 * 4) & 15);
        } else if is_in {
            let at = (element * bits / 8) as usize;
            part.extend_from_slice(&data[at..at + bits as usize / 8]);
        }
    }
    part.extend(halves.chunks(2).map(|pair| pair[0] | pair[1] << 4));
    part
}

/// Writes a generation whose tensors are cut at random, each piece by a random one of so many writers. Of a checkpoint that is
/// given, each piece is read as a slice.
fn write_split(rng: &mut Rng, store: &Checkpoints, tensors: &[Source<Vec<u8>>], writers: u32, from: Option<&Checkpoint>) -> Checkpoint {
    let first = store.begin(BeginOptions::new().writers(writers)).wait().expect("a writer");
    let token = first.token();
    let others = (1..writers).map(|writer| store.join(&token, writer, JoinOptions::new()).wait().expect("joined"));
    let mut all = vec![first];
    all.extend(others);
    for Source { declared: Declared { name, dtype, shape }, data } in tensors {
        let pieces = 1 + rng.below(2 * u64::from(writers));
        for (start, extents) in tiling(rng, shape, pieces, *dtype) {
            let ranges: Vec<Range<u64>> = start.iter().zip(&extents).map(|(&start, &extent)| start..start + extent).collect();
            let piece = match from {
                None => part(data, shape, &ranges, dtype.bits().into()),
                Some(from) => from.tensor(name, Some(Slice::new(ranges.into_iter().map(Some)))).wait().expect("a slice").bytes().to_vec(),
            };
            let source = Source { declared: Declared { name: name.clone(), dtype: *dtype, shape: extents }, data: piece };
            let writer = &all[rng.below(writers.into()) as usize];
            writer.put(source, PutOptions::new().within(shape.clone(), start)).wait().expect("put");
        }
    }
    let mut all = all.into_iter();
    let first = all.next().expect("the first writer");
    for writer in all {
        writer.commit().wait().expect("its part");
    }
    let number = first.commit().wait().expect("a commit").number;
    store.generation(number).wait().expect("a generation")
}

#[test]
fn split_tensors_of_every_type_are_one_and_can_be_split_anew() {
    let (place, engine, mut rng) = (directory(), engine(), Rng::new());
    let store = store(&engine, place.path());
    let tensors = vec![
        source("int8", DType::I8, &[17, 5, 3]),
        source("f8", DType::F8E4M3, &[64, 70]),
        source("bool", DType::Bool, &[13]),
        source("f4", DType::F4, &[6, 3, 8]),
        source("scalar", DType::F64, &[]),
        source("empty", DType::F32, &[0, 4]),
        source("bf16", DType::BF16, &[700, 300]),
        source("large", DType::F32, &[1500, 512]),
        source("c64", DType::C64, &[2, 3, 4, 5]),
    ];
    let mut checkpoint = write_split(&mut rng, &store, &tensors, 3, None);
    check(&checkpoint, &tensors);
    for writers in [2, 5, 1] {
        checkpoint = write_split(&mut rng, &store, &tensors, writers, Some(&checkpoint));
        check(&checkpoint, &tensors);
    }
}

#[test]
fn random_slices_of_split_tensors_are_the_elements_of_their_definition() {
    let (place, engine, mut rng) = (directory(), engine(), Rng::new());
    let store = Checkpoints::open(&engine, place.path(), StoreOptions::new().keep_all()).wait().expect("a store");
    for _ in 0..6 {
        let shapes: Vec<Vec<u64>> = (0..12).map(|_| (0..rng.below(4)).map(|_| 1 + rng.below(40)).collect()).collect();
        let dtype = |nth: usize| [DType::F4, DType::U8, DType::F16, DType::F64][nth % 4];
        let tensor = |(nth, mut shape): (usize, Vec<u64>)| {
            if dtype(nth) == DType::F4 {
                shape.push(2);
            }
            source(&format!("t{nth}"), dtype(nth), &shape)
        };
        let tensors: Vec<_> = shapes.into_iter().enumerate().map(tensor).collect();
        let writers = 1 + rng.below(4) as u32;
        let checkpoint = write_split(&mut rng, &store, &tensors, writers, None);
        check(&checkpoint, &tensors);
        let (mut options, mut expected, mut destinations) = (LoadOptions::new(), BTreeMap::new(), Vec::new());
        for Source { declared: Declared { name, dtype, shape }, data } in &tensors {
            let mut range = |dimension: usize| {
                let unit = if dimension + 1 == shape.len() && *dtype == DType::F4 { 2 } else { 1 };
                let (a, b) = (rng.below(shape[dimension] / unit + 1) * unit, rng.below(shape[dimension] / unit + 1) * unit);
                a.min(b)..a.max(b)
            };
            let ranges: Vec<Range<u64>> = (0..shape.len()).map(&mut range).collect();
            let slice = Slice::new(ranges.iter().cloned().map(Some));
            let bytes = part(data, shape, &ranges, dtype.bits().into());
            let index = checkpoint.table().find(name).expect("the tensor") as u32;
            destinations.push(Destination { index, slice: Some(slice.clone()), memory: vec![0; bytes.len()] });
            options = options.slice(name, slice);
            expected.insert(index, bytes);
        }
        let options = options.group_bytes([1, 5000, 64 << 20][rng.below(3) as usize]).verify(rng.once_in(2));
        let loaded = checkpoint.load_with(&checkpoint.table().all(), options).wait().expect("loaded");
        for (tensor, expected) in loaded.iter().zip(expected.values()) {
            assert!(tensor.bytes() == expected, "{tensor:?}");
        }
        let jobs = binding::load_into(&checkpoint, destinations, 5000, Some(true)).expect("sizes that fit");
        let filled: Vec<Vec<u8>> = jobs.into_iter().flat_map(|job| job.wait().expect("read").0).collect();
        assert!(filled.iter().eq(expected.values()));
    }
}

/// As `cp -r` does: new files, in another order.
fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory");
    for name in names_in(from).iter().rev() {
        std::fs::copy(from.join(name), to.join(name)).expect("a copy");
    }
}

#[test]
fn a_directory_that_was_copied_or_moved_loads_and_survives_there() {
    let (place, engine, mut rng) = (directory(), engine(), Rng::new());
    let (old, new) = (place.path().join("old"), place.path().join("new"));
    let open = |path: &Path| Checkpoints::open(&engine, path, StoreOptions::new().create(true)).wait().expect("a store");
    let tensors = vec![source("a", DType::F32, &[100, 100]), source("b", DType::U8, &[5])];
    drop(write_split(&mut rng, &open(&old), &tensors, 2, None));
    let copies = open(&new);
    copy_directory(&generation(&old, 1), &generation(&new, 1));
    std::fs::remove_dir_all(&old).expect("removed");
    let moved = place.path().join("moved");
    check(&copies.generation(1).wait().expect("a copy"), &tensors);
    copies.collect().wait().expect("collected");
    std::fs::rename(&new, &moved).expect("moved");
    let moved = open(&moved);
    check(&moved.generation(1).wait().expect("moved"), &tensors);
    // What is saved there comes after it.
    assert_eq!(saved(&moved, tensors.clone(), CheckpointOptions::new()).number(), 2);
}

#[test]
fn a_directory_that_was_copied_to_another_file_system_loads_and_survives_there() {
    let (place, engine, mut rng) = (directory(), engine(), Rng::new());
    let elsewhere = place.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a directory");
    let Some(_mounted) = Mounted::memory(&elsewhere, "64m") else { return };
    let here = Checkpoints::open(&engine, place.path(), StoreOptions::new()).wait().expect("a store");
    let there = Checkpoints::open(&engine, &elsewhere, StoreOptions::new()).wait().expect("a store");
    let tensors = vec![source("a", DType::F32, &[100, 100]), source("b", DType::U8, &[5])];
    drop(write_split(&mut rng, &here, &tensors, 2, None));
    copy_directory(&generation(place.path(), 1), &generation(&elsewhere, 1));
    there.collect().wait().expect("collected");
    check(&there.generation(1).wait().expect("a copy"), &tensors);
    write_split(&mut rng, &there, &tensors, 3, None).copy_to(place.path(), None).wait().expect("copied back");
    check(&here.generation(2).wait().expect("a copy of the copy"), &tensors);
}

#[test]
fn a_copy_in_another_store_has_the_same_bytes_and_takes_no_number_twice() {
    let (place, engine, mut rng) = (directory(), engine(), Rng::new());
    let (from, to) = (place.path().join("from"), place.path().join("a/to"));
    let store = Checkpoints::open(&engine, &from, StoreOptions::new().create(true)).wait().expect("a store");
    let mut tensors = mixed("m");
    tensors.push(source("split", DType::F32, &[300, 1000]));
    write_split(&mut rng, &store, &tensors, 3, None).copy_to(&to, None).wait().expect("copied");
    let files = |of: &Path| -> BTreeMap<String, Vec<u8>> {
        let names = names_in(of).into_iter();
        names.map(|name| (name.clone(), std::fs::read(of.join(name)).expect("a file"))).collect()
    };
    assert!(files(&generation(&from, 1)) == files(&generation(&to, 1)));
    let whole = saved(&store, mixed("w"), CheckpointOptions::new());
    whole.copy_to(&to, None).wait().expect("copied");
    assert!(files(&generation(&from, 2)) == files(&generation(&to, 2)), "the index of a model without pieces is there, too");
    let copies = Checkpoints::open(&engine, &to, StoreOptions::new()).wait().expect("a store");
    check(&copies.generation(1).wait().expect("the copy"), &tensors);
    assert_eq!(copies.list().wait().expect("a list"), [1, 2]);
    let error = whole.copy_to(&to, None).wait().expect_err("it is there");
    assert!(matches!(error, Error::Conflict { generation: 2, .. }), "{error}");
    assert!(is_clean(&to));
}

#[test]
fn what_is_open_is_not_removed_and_a_stream_of_it_ends() {
    let (place, engine) = (directory(), engine());
    let store = Checkpoints::open(&engine, place.path(), StoreOptions::new().keep_last(1)).wait().expect("a store");
    let tensors: Vec<_> = (0..20).map(|nth| source(&format!("t{nth}"), DType::U8, &[300_000])).collect();
    let checkpoint = saved(&store, tensors.clone(), CheckpointOptions::new());
    let mut stream = checkpoint.stream(&checkpoint.table().all(), &StreamOptions::new().memory(1 << 20)).expect("a stream");
    assert!(stream.wait_next().expect("the first").is_ok());
    drop(saved(&store, tensors.clone(), CheckpointOptions::new()));
    store.collect().wait().expect("collected");
    assert_eq!(store.list().wait().expect("a list"), [1, 2], "it is read");
    let clone = checkpoint.clone();
    drop(checkpoint);
    store.collect().wait().expect("collected");
    assert_eq!(store.list().wait().expect("a list"), [1, 2], "a clone has it");
    drop(clone);
    store.collect().wait().expect("collected");
    assert_eq!(store.list().wait().expect("a list"), [2]);
    // The files are open, whatever their names.
    let mut rest = 0;
    while let Some(tensor) = stream.wait_next() {
        let tensor = tensor.expect("a tensor");
        assert!(tensors.iter().any(|source| source.declared.name == tensor.name() && source.data == tensor.bytes()));
        rest += 1;
    }
    assert_eq!(rest, 19);
}
