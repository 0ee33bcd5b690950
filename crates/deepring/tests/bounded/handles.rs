//! The limits of a handle.

use super::{Cancelable, LIMIT, REFILLS, Tally, leaked, read_of, submit};
use crate::harness::child::alone;
use crate::harness::{Rng, assert_file, builders, bytes, directory, open, within};
use deepring::binding::Refill::{Sliding, WhenEmpty};
use deepring::binding::{Completion, EngineBinding, FileBinding, Handle, HandleLimits, RawTransfer};
use deepring::{Direct, Direction};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_handle_s_depth_limits_all_its_requests_together() {
    // The engines of other tests would share the device.
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
        for builder in builders() {
            for (queue_depth, refill, single_submit) in [
                (1, Sliding, false),
                (1, WhenEmpty, true),
                (3, Sliding, true),
                (4, WhenEmpty, false),
                (7, Sliding, false),
                (0, Sliding, true),
            ] {
                let engine = builder.clone().queue_depth(64).build().expect("an engine");
                let limits = HandleLimits::new().queue_depth(queue_depth).block_bytes(60_000).single_submit(single_submit).refill(refill);
                let handle = Arc::new(engine.handle(limits));
                assert_eq!(handle.limits().block_bytes, 61_440, "rounded up to whole pages");
                let file = open(&engine, &path, Direct::Prefer);
                let tally = Arc::new(Tally::default());
                let memory = leaked(8 << 20);
                for part in 0..8u64 {
                    submit(&file, read_of(memory + (part << 20), 1 << 20, part << 20, Some(&handle)), &tally);
                }
                engine.wake();
                tally.wait_for(8);
                assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
                let most = engine.stats().in_flight_max;
                let allowed = if queue_depth == 0 { 64 } else { u64::from(queue_depth) };
                assert!(most <= allowed, "{limits:?}: {most} blocks were in flight");
                assert!(queue_depth == 0 || most == allowed, "{limits:?}: only {most} blocks were ever in flight");
            }
        }
    });
}

#[test]
fn a_handle_s_block_size_cannot_exceed_the_engine_s_bytes_in_flight() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
    for builder in builders() {
        let engine = builder.block_bytes(64 << 10).in_flight_bytes(1 << 20).build().expect("an engine");
        let handle = Arc::new(engine.handle(HandleLimits::new().block_bytes(4 << 20)));
        let file = open(&engine, &path, Direct::Prefer);
        let tally = Arc::new(Tally::default());
        submit(&file, read_of(leaked(8 << 20), 8 << 20, 0, Some(&handle)), &tally);
        engine.wake();
        tally.wait_for(1);
        let most = engine.stats().in_flight_bytes_max;
        assert!(most <= 1 << 20, "{most} bytes were in flight, although the engine allows 1 MiB");
    }
}

#[test]
fn a_handle_does_not_slow_down_requests_without_it() {
    // The engines of other tests would share the device.
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
        for builder in builders() {
            let engine = builder.block_bytes(64 << 10).queue_depth(32).build().expect("an engine");
            let handle = Arc::new(engine.handle(HandleLimits::new().queue_depth(1)));
            let file = open(&engine, &path, Direct::Prefer);
            let tally = Arc::new(Tally::default());
            let memory = leaked(16 << 20);
            submit(&file, read_of(memory, 8 << 20, 0, Some(&handle)), &tally);
            submit(&file, read_of(memory + (8 << 20), 8 << 20, 0, None), &tally);
            engine.wake();
            tally.wait_for(2);
            assert_eq!(engine.stats().in_flight_max, 32, "the request without a handle fills the device");
        }
    });
}

#[test]
fn writes_that_share_a_handle_and_a_unit_never_stall() {
    let place = directory();
    let path = place.path().join("file");
    for builder in builders() {
        let path = path.clone();
        within(LIMIT, "writes under a narrow handle", move || {
            let mut rng = Rng::new();
            let engine = builder.queue_depth(8).block_bytes(4096).build().expect("an engine");
            for round in 0..40u64 {
                std::fs::write(&path, b"").expect("the file");
                let files = [open(&engine, &path, Direct::Prefer), open(&engine, &path, Direct::Prefer)];
                let handles: Vec<Arc<Handle>> = (1..=2)
                    .map(|queue_depth| {
                        HandleLimits::new()
                            .queue_depth(queue_depth)
                            .refill(REFILLS[usize::from(round % 2 == 0)])
                            .single_submit(round % 3 == 0)
                    })
                    .map(|limits| Arc::new(engine.handle(limits)))
                    .collect();
                let tally = Arc::new(Tally::default());
                let end = 60_000;
                let content = bytes(0, end, round).leak().as_ptr() as u64;
                let mut position = 0;
                let mut writes = 0;
                while position < end as u64 {
                    let len = (1 + rng.below(5000)).min(end as u64 - position);
                    let handle = Some(rng.pick(&handles)).filter(|_| writes % 5 > 0).map(Arc::clone);
                    let transfer = RawTransfer::new(Direction::Write, content + position, len, position).exact(true).handle(handle);
                    // SAFETY: the content is never freed and never written.
                    unsafe { rng.pick(&files).submit(transfer, Arc::clone(&tally) as Arc<dyn Completion>) };
                    position += len;
                    writes += 1;
                }
                engine.wake();
                tally.wait_for(writes);
                assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
                assert_file(&path, &bytes(0, end, round), &format!("round {round}"));
            }
        });
    }
}

#[test]
fn canceled_requests_leave_their_handle_s_queue() {
    const REQUESTS: u64 = 24;
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 4 << 20, 1)).expect("the file");
    let mut rng = Rng::new();
    for builder in builders() {
        for round in 0..12u32 {
            let engine = builder.clone().block_bytes(64 << 10).build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let limits = HandleLimits::new().queue_depth(1 + round % 3).refill(REFILLS[usize::from(round % 2 == 0)]);
            let handle = Arc::new(engine.handle(limits));
            let tally = Arc::new(Tally::default());
            let memory = leaked(512 << 10);
            let requests: Vec<Arc<Cancelable>> = (0..REQUESTS)
                .map(|index| {
                    let request = Arc::new(Cancelable { tally: Arc::clone(&tally), canceled: AtomicBool::new(false) });
                    let transfer = read_of(memory, 512 << 10, (index % 8) << 19, Some(&handle));
                    // SAFETY: memory from `leaked`, and nothing reads the result.
                    unsafe { file.submit(transfer, Arc::clone(&request) as Arc<dyn Completion>) };
                    request
                })
                .collect();
            engine.wake();
            for request in &requests {
                if rng.once_in(2) {
                    request.canceled.store(true, Ordering::Release);
                    engine.sweep();
                }
                if rng.once_in(10) {
                    std::thread::sleep(Duration::from_micros(rng.below(500)));
                }
            }
            if round % 4 == 3 {
                drop((file, engine));
            }
            tally.wait_for(REQUESTS);
            assert_eq!(tally.failed.load(Ordering::Relaxed), 0, "{limits:?}");
        }
    }
}

#[test]
fn a_request_that_reaches_the_end_of_its_file_leaves_its_handle_s_queue() {
    const REQUESTS: u64 = 8;
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 10_000, 1)).expect("the file");
    let memory = leaked(512 << 10);
    for builder in builders() {
        for refill in REFILLS {
            let engine = builder.clone().block_bytes(64 << 10).build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let handle = Arc::new(engine.handle(HandleLimits::new().queue_depth(1).refill(refill)));
            let tally = Arc::new(Tally::default());
            for _ in 0..REQUESTS {
                // The first of eight blocks reaches the end of the file while the request is first
                // in line for the second.
                let transfer = read_of(memory, 512 << 10, 0, Some(&handle)).exact(false);
                // SAFETY: memory from `leaked`, and nothing reads the result.
                unsafe { file.submit(transfer, Arc::clone(&tally) as Arc<dyn Completion>) };
            }
            engine.wake();
            tally.wait_for(REQUESTS);
            assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
        }
    }
}
