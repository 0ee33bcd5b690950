//! Operations, files and engines that are dropped.

use super::guarded::GuardedBuffers;
use super::{LIMIT, data_file};
use crate::harness::{Rng, builders, bytes, directory, engines, eventually, open};
use deepring::Direct;
use std::time::Duration;

#[test]
fn memory_of_dropped_operations_is_not_written_after_it_comes_back() {
    let place = directory();
    let path = data_file(place.path(), 32);
    for engine in engines() {
        let buffers = GuardedBuffers::default();
        let file = open(&engine, &path, Direct::Prefer);
        for round in 0..5u64 {
            for index in 0..32u64 {
                let op = file.read_at(buffers.guarded(1 << 20), index << 20);
                if (index + round) % 3 > 0 {
                    drop(op);
                } else {
                    op.cancel();
                    drop(op.wait());
                }
            }
        }
        eventually(LIMIT, "every buffer came back", || buffers.returned() == 5 * 32);
        assert_eq!(buffers.disturbed(), 0, "buffers written to after they came back");
        let stats = engine.stats();
        assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes, stats.leaked), (0, 0, 0, 0));
    }
}

#[test]
fn an_engine_dropped_with_operations_in_flight_returns_all_memory_first() {
    let place = directory();
    let path = data_file(place.path(), 32);
    for builder in builders() {
        for round in 0..4 {
            let buffers = GuardedBuffers::default();
            let engine = builder.clone().build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let ops: Vec<_> = (0..32u64).map(|index| file.read_at(buffers.guarded(1 << 20), index << 20)).collect();
            std::thread::sleep(Duration::from_micros(400 * round));
            drop(ops);
            drop(file);
            drop(engine);
            // Not `eventually`: a drop waits before it returns.
            assert_eq!(buffers.returned(), 32, "buffers not returned when the engine was dropped");
            assert_eq!(buffers.disturbed(), 0, "buffers written to after they came back");
        }
    }
}

#[test]
fn writes_dropped_with_their_engine_are_not_torn() {
    let place = directory();
    let path = place.path().join("file");
    let mut rng = Rng::new();
    for builder in builders() {
        for round in 0..20 {
            let old = bytes(0, 100_000, 1);
            std::fs::write(&path, &old).expect("the file");
            let engine = builder.clone().build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let mut position = 0;
            let mut pieces = Vec::new();
            for _ in 0..60 {
                let len = 1 + rng.below(8000) as usize;
                pieces.push((position, len));
                drop(file.write_at(bytes(position, len, 2), position));
                position += len as u64;
            }
            drop(file);
            drop(engine);
            let found = std::fs::read(&path).expect("the file");
            assert!(found.len() >= old.len() && found.len() as u64 <= position, "{} bytes", found.len());
            // Each piece is new up to some offset, and old (or a hole) from there on.
            for (position, len) in pieces {
                let (start, end) = ((position as usize).min(found.len()), (position as usize + len).min(found.len()));
                let new = bytes(position, len, 2);
                let done = found[start..end].iter().zip(&new).take_while(|(a, b)| a == b).count();
                let rest = start + done..end;
                let untouched = rest.clone().all(|at| found[at] == old.get(at).copied().unwrap_or(0));
                // A byte that is the same in both proves nothing either way.
                assert!(untouched, "round {round}: {len} bytes at {position} are torn after {done}");
            }
        }
    }
}

#[test]
fn engine_buffers_in_dropped_operations_return_to_the_pool() {
    let place = directory();
    let path = data_file(place.path(), 16);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        for len in [4096usize, 100_000, 1 << 20, 3 << 20] {
            for index in 0..40u64 {
                let buf = engine.pooled_buffer(len).expect("memory");
                drop(file.read_at(buf, index << 18));
            }
            let kept = engine.buffer(len).expect("memory").freeze();
            for index in 0..10 {
                drop(engine.write_file(place.path().join(format!("copy{index}")), kept.clone()));
            }
        }
        eventually(LIMIT, "every buffer is back in the pool", || {
            let stats = engine.stats();
            (stats.buffers, stats.buffer_bytes, stats.queued) == (0, 0, 0)
        });
    }
}

#[test]
fn a_buffer_outlives_its_engine() {
    for engine in engines() {
        let mut small = engine.buffer(5000).expect("memory");
        let mut large = engine.buffer(5 << 20).expect("memory");
        let shared = engine.buffer(100).expect("memory").freeze();
        drop(engine);
        small.fill(1);
        large.fill(2);
        assert!(small.iter().all(|&byte| byte == 1) && large.iter().all(|&byte| byte == 2) && shared.iter().all(|&byte| byte == 0));
    }
}
