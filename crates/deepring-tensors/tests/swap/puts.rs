//! Tensors that are pinned, converted or adopted when they are put, and what a store says of them meanwhile.

use crate::harness::{bytes, directory, engine, names_in};
use crate::model::{MIB, assert_idle, content, eventually, put, store, tensor};
use deepring::Engine;
use deepring_tensors::convert::convert_into;
use deepring_tensors::swap::{SwapOptions, SwapPutOptions, SwapState};
use deepring_tensors::{DType, Declared, Error, Source};

/// The same tensor as [`tensor`], in memory of the engine.
fn allocated(engine: &Engine, name: &str, len: usize, version: u64) -> Source<deepring::Buffer> {
    let Source { declared, data } = tensor(name, len, version);
    let mut memory = engine.buffer(len).expect("memory");
    memory.copy_from_slice(&data);
    Source { declared, data: memory }
}

#[test]
fn what_is_pinned_on_arrival_stays_as_if_it_was_pinned_afterwards() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(2 * MIB as u64));
    let pin = SwapPutOptions::new().pin(true);
    store.put_with(tensor("x", MIB, 1), pin).wait().expect("accepted");
    store.put_many_with(vec![tensor("x", 5000, 2), tensor("y", 100, 1)], pin).wait().expect("accepted");
    assert_eq!(store.stats().leased, 8192 + 4096, "the newest versions, each once");
    for nth in 0..20 {
        put(&store, &format!("t{nth}"), 300_000, 1);
    }
    eventually("the write", || store.state("x") == Some(SwapState::Resident));
    assert!(matches!(store.evict("x").wait(), Err(Error::Argument(_))), "it is pinned");
    let error = store.put_with(tensor("large", 2 * MIB - 8192, 1), pin).wait().expect_err("pins stay");
    assert!(matches!(error, Error::Budget { .. }));
    store.unpin("x");
    assert!(store.evict("x").wait().is_err(), "it was pinned twice");
    store.unpin("x");
    store.unpin("y");
    store.evict("x").wait().expect("evicted");
    assert!(store.get("x").wait().expect("a lease").bytes() == content("x", 5000, 2));
    assert_idle(&store);
}

#[test]
fn what_is_converted_has_the_bytes_of_the_conversion() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(8 * MIB as u64));
    // More than one piece that is converted at once, and an odd rest.
    let numel = 300_001;
    for (from, to) in [(DType::F32, DType::BF16), (DType::F16, DType::F32), (DType::F8E4M3, DType::F16), (DType::F64, DType::F32)] {
        let data = bytes(numel * from.bits() as usize / 8, 7);
        let declared = Declared { name: "x".into(), dtype: from, shape: vec![numel as u64] };
        let options = SwapPutOptions::new().convert(to);
        let returned = store.put_with(Source { declared, data: data.clone() }, options).wait().expect("accepted");
        assert!(returned == data);
        let mut expected = vec![0; numel * to.bits() as usize / 8];
        convert_into(from, &data, to, &mut expected).expect("converted");
        let lease = store.get("x").wait().expect("a lease");
        assert_eq!((lease.dtype(), lease.shape()), (Some(to), &[numel as u64][..]));
        assert!(lease.bytes() == expected, "{from} to {to}");
    }
    let same = SwapPutOptions::new().convert(DType::U8);
    store.put_with(tensor("same", 100, 1), same).wait().expect("a copy");
    let error = store.put_with(tensor("x", 100, 1), SwapPutOptions::new().convert(DType::F32)).wait().expect_err("no numbers");
    assert!(matches!(error, Error::Argument(_)), "{error}");
    let narrow = Declared { name: "x".into(), dtype: DType::F32, shape: vec![1] };
    let error = store.put_with(Source { declared: narrow, data: vec![0; 4] }, SwapPutOptions::new().convert(DType::F8E5M2)).wait();
    assert!(matches!(error, Err(Error::Argument(_))), "that needs a scale");
    assert_idle(&store);
}

#[test]
fn what_is_adopted_is_not_copied_and_comes_back_from_the_drive() {
    let (place, engine) = (directory(), engine());
    let path = place.path().join("store");
    let options = SwapOptions::new(4 * MIB as u64).checksum(true);
    let first = store(&engine, &path, options.clone());
    let sizes = [0, 1, 4095, 4096, 4097, 70_001, MIB, 3 * MIB / 2];
    let mut adopted = 0;
    for (size, version) in sizes.into_iter().zip(1..) {
        let source = allocated(&engine, "x", size, version);
        let address = source.data.as_ptr();
        first.adopt(source, SwapPutOptions::new()).wait().expect("accepted");
        adopted += size.next_multiple_of(4096) as u64;
        let lease = first.get("x").wait().expect("a lease");
        assert!(lease.bytes() == content("x", size, version), "{size}");
        assert!(size == 0 || lease.bytes().as_ptr() == address, "{size} bytes were copied");
        drop(lease);
        first.evict("x").wait().expect("written");
        assert!(first.get("x").wait().expect("a lease").bytes() == content("x", size, version), "{size}, read");
    }
    assert_eq!(first.stats().adopted, adopted);
    assert_idle(&first);
    // It can be changed in place, pinned, and found again.
    first.adopt(allocated(&engine, "x", 70_001, 9), SwapPutOptions::new().pin(true)).wait().expect("accepted");
    assert!(matches!(first.evict("x").wait(), Err(Error::Argument(_))));
    let mut lease = first.get_mut("x").wait().expect("a lease");
    lease.bytes_mut().expect("it writes")[70_000] = 0;
    lease.close(true).expect("accepted");
    first.close().wait().expect("closed");
    let again = store(&engine, &path, options);
    let lease = again.get("x").wait().expect("a lease");
    assert!(lease.bytes()[..70_000] == content("x", 70_001, 9)[..70_000] && lease.bytes()[70_000] == 0);
    assert_eq!(names_in(&path), ["data", "index", "lock"]);
}

#[test]
fn memory_that_is_not_the_tensors_alone_is_not_adopted() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(4 * MIB as u64));
    let adopt = |data: deepring::Buffer, options| {
        let declared = Declared { name: "x".into(), dtype: DType::U8, shape: vec![data.len() as u64] };
        store.adopt(Source { declared, data }, options).wait()
    };
    let is_refused = |result: Result<(), Error>, why: &str| match result {
        Err(Error::Argument(what)) => what.contains(why),
        _ => false,
    };
    let mut head = engine.buffer(MIB).expect("memory");
    let tail = head.split_off(MIB / 2);
    assert!(is_refused(adopt(tail, SwapPutOptions::new()), "shared"), "another has the beginning");
    assert!(is_refused(adopt(head, SwapPutOptions::new()), "larger"), "the end is gone");
    let mut large = engine.buffer(MIB).expect("memory");
    large.truncate(MIB / 2);
    assert!(is_refused(adopt(large, SwapPutOptions::new()), "larger"), "it would not be counted");
    let converted = SwapPutOptions::new().convert(DType::F32);
    assert!(is_refused(adopt(engine.buffer(4096).expect("memory"), converted), "copied"));
    let declared = Declared { name: "x".into(), dtype: DType::U8, shape: vec![5] };
    let other = store.adopt(Source { declared, data: engine.buffer(6).expect("memory") }, SwapPutOptions::new());
    assert!(matches!(other.wait(), Err(Error::Argument(_))), "other sizes");
    let huge = engine.buffer(5 * MIB).expect("memory");
    assert!(matches!(adopt(huge, SwapPutOptions::new()), Err(Error::Budget { .. })));
    assert_eq!((store.names().len(), store.stats().used, store.stats().adopted), (0, 0, 0));
}

#[test]
fn a_store_says_that_a_tensor_is_being_written() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(256 * MIB as u64));
    let mut states = std::collections::HashSet::new();
    for version in 0..50 {
        put(&store, "x", 16 * MIB, version);
        assert_eq!(store.state("x"), Some(SwapState::Dirty), "that is too little to be written of itself");
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| store.flush().wait().expect("flushed"));
            while !flush.is_finished() {
                states.insert(format!("{:?}", store.state("x").expect("a tensor")));
            }
        });
        assert_eq!(store.state("x"), Some(SwapState::Resident));
        if states.contains("Writing") {
            return;
        }
    }
    panic!("it was never seen to be written: {states:?}");
}

#[test]
fn small_tensors_that_lie_side_by_side_are_written_together() {
    let (place, engine) = (directory(), engine());
    for checksum in [false, true] {
        let path = place.path().join(checksum.to_string());
        let options = SwapOptions::new(64 * MIB as u64).checksum(checksum);
        let first = store(&engine, &path, options.clone());
        let size = |nth: u64| [100, 5000, 300_000, 0][nth as usize % 4];
        for nth in 0..40 {
            put(&first, &format!("t{nth}"), size(nth), 1);
        }
        assert_eq!(first.stats().written, 0);
        first.flush().wait().expect("flushed");
        // Two small ones between two that are large.
        assert_eq!((first.stats().joined, first.stats().dirty), (20, 0));
        first.close().wait().expect("closed");
        let again = store(&engine, &path, options);
        for nth in 0..40 {
            assert!(again.get(&format!("t{nth}")).wait().expect("a lease").bytes() == content(&format!("t{nth}"), size(nth), 1), "t{nth}");
        }
    }
}
