//! Copies of tensors, so that their memory is free before they are written.

use crate::harness::{Rng, directory, engine, names_in, source};
use crate::model::{check, generation, mixed, store};
use deepring_tensors::DType;
use deepring_tensors::checkpoint::{BeginOptions, CheckpointOptions, PutOptions};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn what_the_caller_changes_after_it_was_captured_is_saved_as_it_was() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let tensors = mixed("t");
    for (staging, number) in [(64 << 20, 1), (6 << 20, 2), (0, 3)] {
        let mut captured = store.save(tensors.clone(), CheckpointOptions::new().staging(staging)).wait().expect("captured");
        assert_eq!(captured.number(), number);
        for mut data in captured.take() {
            data.fill(0);
        }
        captured.commit().wait().expect("a commit");
        check(&engine, &generation(place.path(), number), &tensors);
    }
}

#[test]
fn a_tensor_that_was_put_can_change_at_once() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new().staging(12 << 20)).wait().expect("a writer");
    let mut tensors = mixed("t");
    // More than the staging has room for: the rest is written before the put ends.
    tensors.extend((0..6).map(|nth| source(&format!("large{nth}"), DType::U8, &[(3 << 20) + 4096 * (nth % 2) + nth % 3])));
    for tensor in tensors.clone() {
        let mut data = writer.put(tensor, PutOptions::new()).wait().expect("put");
        data.fill(0);
    }
    writer.commit().wait().expect("a commit");
    check(&engine, &generation(place.path(), 1), &tensors);
}

#[test]
fn tensors_of_any_size_are_copied_by_several_threads_and_come_back() {
    const BLOCK: u64 = 4 << 20;
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let mut rng = Rng::new();
    let edges = [0, 1, 4095, 4096, 4097, BLOCK - 4096, BLOCK - 1, BLOCK, BLOCK + 1, (1 << 20) - 1, 2 * BLOCK + 4096, 0];
    for number in [1, 3] {
        let mut sizes = edges.to_vec();
        sizes.extend((0..30).map(|_| {
            let below = 2 << rng.below(22);
            rng.below(below)
        }));
        rng.shuffle(&mut sizes);
        let tensors: Vec<_> = sizes.iter().enumerate().map(|(nth, &bytes)| source(&format!("t{nth}"), DType::U8, &[bytes])).collect();
        let mut captured = store.save(tensors.clone(), CheckpointOptions::new().staging(256 << 20)).wait().expect("captured");
        captured.take().into_iter().zip(&tensors).for_each(|(data, tensor)| assert!(data == tensor.data, "each has its own memory"));
        captured.commit().wait().expect("a commit");
        check(&engine, &generation(place.path(), number), &tensors);
        let writer = store.begin(BeginOptions::new().staging(256 << 20)).wait().expect("a writer");
        for tensor in tensors.clone() {
            let mut data = writer.put(tensor, PutOptions::new()).wait().expect("put");
            data.fill(0);
        }
        writer.commit().wait().expect("a commit");
        check(&engine, &generation(place.path(), number + 1), &tensors);
        assert!(store.generation(number + 1).wait().expect("it opens").verify(None).wait().expect("read").is_whole());
    }
}

#[test]
fn the_memory_of_copies_stays_with_the_store_until_it_is_trimmed() {
    const STAGING: u64 = 64 << 20;
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let lent = || engine.stats().buffer_bytes;
    // A block whose pages are being made is given back a little later.
    let comes_to_nothing = || {
        let began = Instant::now();
        while lent() > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "{} bytes", lent());
            std::thread::yield_now();
        }
    };
    let save = |bytes| {
        let tensors = vec![source("t", DType::U8, &[10 << 20])];
        store.save(tensors, CheckpointOptions::new().staging(bytes)).wait().expect("captured").commit().wait().expect("a commit");
    };
    save(0);
    assert_eq!(lent(), 0);
    for _ in 0..20 {
        save(STAGING);
        assert!((STAGING..2 * STAGING).contains(&lent()), "{} bytes", lent());
    }
    // A smaller save gives back what it does not need, and one that copies nothing leaves the rest.
    save(STAGING / 4);
    save(0);
    store.trim();
    comes_to_nothing();
    save(STAGING);
    assert!(lent() > 0);
    store.close().wait().expect("closed");
    comes_to_nothing();
}

#[test]
fn what_fails_behind_the_caller_fails_the_calls_that_follow() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let writer = store.begin(BeginOptions::new().staging(32 << 20)).wait().expect("a writer");
    // Nothing can be made in the directory of the generation any more.
    let temporary = names_in(place.path()).into_iter().find(|name| name.starts_with(".tmp-")).expect("the directory");
    std::fs::remove_dir_all(place.path().join(temporary)).expect("removed");
    let large = |name: &str| source(name, DType::U8, &[8 << 20]);
    let expected = large("first").data;
    assert!(writer.put(large("first"), PutOptions::new()).wait().expect("its memory is free") == expected);
    let began = Instant::now();
    let mut puts = 0;
    while writer.put(source(&format!("next{puts}"), DType::U8, &[5]), PutOptions::new()).wait().is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing fails");
        puts += 1;
    }
    assert_eq!(writer.commit().wait().expect_err("it has failed").code(), "ENOENT");
    assert!(store.list().wait().expect("a list").is_empty());
}

#[test]
fn progress_of_a_save_ends_once_with_the_bytes_of_all_tensors() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let tensors = mixed("t");
    let total: u64 = tensors.iter().map(|tensor| tensor.data.len() as u64).sum();
    for staging in [0, 64 << 20] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let report = Arc::clone(&seen);
        let options = CheckpointOptions::new().staging(staging);
        let options = options.on_progress(move |done, all| report.lock().expect("no panic").push((done, all)));
        let captured = store.save(tensors.clone(), options).wait().expect("captured");
        assert!(seen.lock().expect("no panic").iter().all(|&(done, _)| done < total), "it ends when the generation is visible");
        captured.commit().wait().expect("a commit");
        let seen = seen.lock().expect("no panic");
        assert_eq!(seen.last(), Some(&(total, total)));
        assert!(seen.is_sorted() && seen.iter().all(|&(_, all)| all == total), "{seen:?}");
        assert_eq!(seen.iter().filter(|(done, _)| *done == total).count(), 1);
    }
}
