//! Streaming: never above the budget, never other bytes, and all memory back.

mod harness;

use deepring::Engine;
use deepring_tensors::{DType, Error, Order, Safetensors, SaveOptions, Slice, Source, StreamOptions, Tensor};
use harness::{Rng, source};
use std::collections::BTreeMap;
use std::path::Path;

/// A model of tensors of very different sizes.
fn model(engine: &Engine, directory: &Path, rng: &mut Rng, count: u64) -> (Safetensors, Vec<Source<Vec<u8>>>) {
    let tensors: Vec<_> = (0..count)
        .map(|nth| {
            let elements = match rng.below(4) {
                0 => rng.below(3),
                1 => rng.below(300),
                2 => 1000 + rng.below(9000),
                _ => 20_000 + rng.below(60_000),
            };
            source(&format!("t{nth}"), *rng.pick(&[DType::U8, DType::BF16, DType::F32]), &[elements])
        })
        .collect();
    let path = harness::saved(engine, directory, "model", &tensors, SaveOptions::new().order(Order::Given).align(8));
    (Safetensors::open(engine, &path).wait().expect("a model"), tensors)
}

/// Buffers of the engine that are out; memory that is dropped elsewhere can be a moment late.
#[track_caller]
fn all_back(engine: &Engine, before: u64) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while engine.stats().buffers > before || engine.stats().in_flight > 0 {
        assert!(std::time::Instant::now() < deadline, "{} buffers are still out, {} were before", engine.stats().buffers, before);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_stream_yields_every_tensor_in_its_order_with_its_bytes() {
    let (directory, engine, mut rng) = (harness::directory(), harness::engine(), Rng::new());
    let (model, tensors) = model(&engine, directory.path(), &mut rng, 120);
    let largest = model.table().largest();
    for memory in [largest, largest + 1, 2 * largest, 10 * largest, 1 << 30] {
        let mut stream = model.stream(&model.table().all(), &StreamOptions::new().memory(memory)).expect("a stream");
        for expected in &tensors {
            let tensor = stream.wait_next().expect("there").expect("read");
            assert_eq!(tensor.name(), expected.declared.name);
            assert!(tensor.bytes() == expected.data, "{}", tensor.name());
        }
        assert!(stream.wait_next().is_none() && stream.wait_next().is_none());
        assert_eq!(stream.receipt().bytes, model.table().bytes());
    }
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.declared.name.as_str()).collect();
    rng.shuffle(&mut names);
    let selection = model.table().select(names.iter().copied()).expect("all");
    let options = StreamOptions::new().memory(4 * largest).in_order(true).slice("t5", Slice::new([Some(0..0)]));
    let mut stream = model.stream(&selection, &options).expect("a stream");
    for name in names {
        let tensor = stream.wait_next().expect("there").expect("read");
        let expected = tensors.iter().find(|tensor| tensor.declared.name == name).expect("there");
        assert_eq!((tensor.name(), tensor.bytes() == expected.data || name == "t5"), (name, true));
    }
}

#[test]
fn a_budget_that_cannot_do_is_refused_before_anything_is_read() {
    let (directory, engine, mut rng) = (harness::directory(), harness::engine(), Rng::new());
    let (model, _) = model(&engine, directory.path(), &mut rng, 60);
    let largest = model.table().largest();
    let name = model.table().iter().max_by_key(|info| info.len).expect("tensors").name.to_owned();
    let before = engine.stats().submitted;
    for memory in [0, 1, largest - 1] {
        let error = model.stream(&model.table().all(), &StreamOptions::new().memory(memory)).expect_err("too little");
        let Error::Budget { needed, budget, tensor } = error else { panic!("{error}") };
        assert!(needed > memory && budget == memory, "{needed} of {budget}");
        if memory == largest - 1 {
            assert_eq!((needed, tensor), (largest, Some(name.clone())));
        }
    }
    assert_eq!(engine.stats().submitted, before);
}

#[test]
fn a_program_that_holds_all_of_the_budget_gets_an_error_and_does_not_hang() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors: Vec<_> = (0..8).map(|nth| source(&format!("t{nth}"), DType::U8, &[1 << 20])).collect();
    let path = harness::saved(&engine, directory.path(), "model", &tensors, SaveOptions::new().order(Order::Given));
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let before = engine.stats().buffers;
    for keep in [false, true] {
        let mut stream = model.stream(&model.table().all(), &StreamOptions::new().memory(4 << 20)).expect("a stream");
        let mut held: Vec<Tensor> = Vec::new();
        let error = loop {
            match stream.wait_next().expect("not the end") {
                Ok(tensor) => held.push(if keep { tensor.keep().expect("has its group for itself") } else { tensor }),
                Err(error) => break error,
            }
        };
        assert_eq!((error.code().as_str(), held.len()), ("ERR_DEEPRING_BUDGET", 4), "{error}");
        assert!(stream.wait_next().is_none(), "after an error there is no other");
        for (tensor, expected) in held.iter().zip(&tensors) {
            assert!(tensor.bytes() == expected.data);
        }
        drop((held, stream));
        all_back(&engine, before);
    }
}

#[test]
fn what_is_kept_counts_and_gives_back_what_its_group_took() {
    let (directory, engine) = (harness::directory(), harness::engine());
    // One group of 64 KiB tensors; one of them is kept.
    let tensors: Vec<_> = (0..64).map(|nth| source(&format!("t{nth}"), DType::U8, &[64 << 10])).collect();
    let path = harness::saved(&engine, directory.path(), "model", &tensors, SaveOptions::new().order(Order::Given));
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let mut stream = model.stream(&model.table().all(), &StreamOptions::new().memory(2 << 20)).expect("a stream");
    let mut kept = Vec::new();
    for (nth, expected) in tensors.iter().enumerate() {
        let tensor = stream.wait_next().expect("there").expect("room");
        assert!(tensor.bytes() == expected.data);
        if nth % 16 == 3 {
            kept.push((nth, tensor.keep().expect("room")));
        }
    }
    assert!(stream.wait_next().is_none());
    drop(stream);
    for (nth, tensor) in &kept {
        assert!(tensor.bytes() == tensors[*nth].data);
    }
    // All of a budget kept: the next one has no room.
    let mut stream = model.stream(&model.table().all(), &StreamOptions::new().memory(1 << 20)).expect("a stream");
    let mut kept = Vec::new();
    let refused = loop {
        match stream.wait_next().map(|tensor| tensor.and_then(Tensor::keep)) {
            Some(Ok(tensor)) => kept.push(tensor),
            Some(Err(error)) => break error,
            None => panic!("4 MiB were kept in 1 MiB"),
        }
    };
    assert_eq!(refused.code(), "ERR_DEEPRING_BUDGET");
    assert!(kept.len() >= 8 && kept.len() < 16, "{} were kept", kept.len());
}

#[test]
fn a_stream_that_is_dropped_at_any_moment_gives_everything_back() {
    let (directory, engine, mut rng) = (harness::directory(), harness::engine(), Rng::new());
    let (model, tensors) = model(&engine, directory.path(), &mut rng, 80);
    let before = engine.stats().buffers;
    for _ in 0..60 {
        let memory = model.table().largest() * (1 + rng.below(8));
        let mut stream = model.stream(&model.table().all(), &StreamOptions::new().memory(memory)).expect("a stream");
        let last = rng.below(tensors.len() as u64 + 1);
        let mut held = None;
        for _ in 0..last {
            // What is held counts.
            drop(held.take());
            held = stream.wait_next().map(|tensor| tensor.expect("read"));
        }
        if rng.once_in(2) {
            drop(stream);
        } else {
            drop(held);
        }
    }
    all_back(&engine, before);
    drop(model);
}

#[test]
fn memory_that_the_engine_keeps_is_given_back_only_if_the_budget_has_no_room_for_it() {
    const MIB: u64 = 1 << 20;
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = harness::saved(&engine, directory.path(), "model", &[source("large", DType::U8, &[20 * MIB])], SaveOptions::new());
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    engine.trim();
    // Every other one goes back: free memory in pieces, none of which is large enough.
    let mut buffers: Vec<_> = (0..30).map(|_| engine.pooled_buffer(MIB as usize).expect("memory")).collect();
    let mut nth = 0;
    buffers.retain(|_| {
        nth += 1;
        nth % 2 == 0
    });
    let kept = engine.stats().pooled_bytes;
    assert!((10 * MIB..20 * MIB).contains(&kept), "{kept}");
    for (memory, stays) in [(60 * MIB, true), (24 * MIB, false)] {
        let mut stream = model.stream(&model.table().all(), &StreamOptions::new().memory(memory)).expect("a stream");
        let tensor = stream.wait_next().expect("there").expect("read");
        assert_eq!(engine.stats().pooled_bytes >= kept, stays, "{} of {kept}", engine.stats().pooled_bytes);
        drop(tensor);
    }
    drop(buffers);
}

/// Steps of all rounds.
const STEPS: u64 = 100_000;

#[test]
fn a_tensor_that_is_held_never_shows_other_bytes_in_any_interleaving() {
    let (directory, engine, mut rng) = (harness::directory(), harness::engine(), Rng::new());
    let (model, tensors) = model(&engine, directory.path(), &mut rng, 150);
    let data: BTreeMap<&str, &[u8]> = tensors.iter().map(|tensor| (tensor.declared.name.as_str(), &tensor.data[..])).collect();
    let right = |tensor: &Tensor| tensor.bytes() == data[tensor.name()];
    let before = engine.stats().buffers;
    let mut steps = 0;
    while steps < STEPS {
        let memory = model.table().largest() * (1 + rng.below(12));
        let mut stream = model.stream(&model.table().all(), &StreamOptions::new().memory(memory)).expect("a stream");
        let mut held: Vec<Tensor> = Vec::new();
        loop {
            steps += 1;
            match rng.below(8) {
                0..=3 => match stream.wait_next() {
                    Some(Ok(tensor)) => held.push(tensor),
                    Some(Err(error)) => {
                        assert_eq!(error.code(), "ERR_DEEPRING_BUDGET");
                        break;
                    }
                    None => break,
                },
                4 | 5 if !held.is_empty() => {
                    let at = rng.below(held.len() as u64) as usize;
                    assert!(right(&held.swap_remove(at)));
                }
                6 if !held.is_empty() => {
                    let at = rng.below(held.len() as u64) as usize;
                    if let Ok(kept) = held.swap_remove(at).keep() {
                        assert!(right(&kept));
                        held.push(kept);
                    }
                }
                _ if !held.is_empty() => {
                    let tensor = &held[rng.below(held.len() as u64) as usize];
                    assert!(right(tensor));
                    if rng.once_in(8) {
                        held.push(tensor.clone());
                    }
                }
                _ => {}
            }
            // What is in memory at once is what the budget allows, and the parts of pages in front of groups.
            if held.len() > 40 {
                held.drain(..20).for_each(|tensor| assert!(right(&tensor)));
            }
        }
        assert!(held.iter().all(right));
    }
    all_back(&engine, before);
}
