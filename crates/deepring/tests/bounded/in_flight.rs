//! What is in flight at a device.

use super::{LIMIT, Tally, leaked, read_of, submit};
use crate::harness::child::alone;
use crate::harness::gate::Gate;
use crate::harness::{MODES, Rng, assert_file, assert_same, builders, bytes, directory, eventually, open};
use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome};
use deepring::{Direct, WindowMode};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};

#[test]
fn what_is_in_flight_never_exceeds_depth_or_bytes() {
    let place = directory();
    let path = place.path().join("file");
    let size = 4 << 20;
    std::fs::write(&path, bytes(0, size, 1)).expect("the file");
    let mut rng = Rng::new();
    // Depth, block, bytes: each is the tightest limit in turn.
    let limits = [
        (1, 4096, 1 << 20),
        (1, 1 << 20, 32 << 20),
        (3, 64 << 10, 32 << 20),
        (128, 4096, 4096),
        (128, 4096, 12_288),
        (128, 64 << 10, 100_000),
    ];
    for builder in builders() {
        for (depth, block, in_flight) in limits {
            let engine = builder.clone().queue_depth(depth).block_bytes(block).in_flight_bytes(in_flight).build().expect("an engine");
            let what = format!("{:?}, depth {depth}, blocks of {block}, {in_flight} bytes", engine.info().backend);
            for direct in MODES {
                let file = open(&engine, &path, direct);
                let mut reads = Vec::new();
                let mut writes = Vec::new();
                for _ in 0..70 {
                    let len = 1 + rng.below(if reads.len() % 2 == 0 { 200_000 } else { 5000 });
                    let position = rng.below(size as u64 - len);
                    // The old and the new bytes are the same, so a read can be checked in any
                    // order.
                    match rng.below(4) {
                        0 => writes.push(file.write_at(bytes(position, len as usize, 1), position)),
                        1 => reads.push((position, file.read_exact_at(vec![0; len as usize], position))),
                        _ => reads.push((position - position % 4096, file.read_exact_at(vec![0; 4096], position - position % 4096))),
                    }
                }
                for (position, op) in reads {
                    let (buf, _) = op.wait().ok().expect("a read");
                    assert_same(&buf, &bytes(position, buf.len(), 1), &what);
                }
                for op in writes {
                    op.wait().result.expect("a write");
                }
            }
            let stats = engine.stats();
            assert!(stats.in_flight_max <= u64::from(depth), "{what}: {} operations were in flight", stats.in_flight_max);
            assert!(stats.in_flight_bytes_max <= in_flight.max(block), "{what}: {} bytes were in flight", stats.in_flight_bytes_max);
            assert_eq!((stats.in_flight, stats.in_flight_bytes, stats.queued), (0, 0, 0), "{what}");
            assert!(stats.in_flight_max > 0);
        }
    }
    assert_file(&path, &bytes(0, size, 1), "written over with the same bytes");
}

#[test]
fn the_allowed_depth_is_reached() {
    // The engines of other tests would share the device.
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
        for builder in builders() {
            let engine = builder.queue_depth(16).block_bytes(64 << 10).build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            file.read_exact_at(engine.buffer(8 << 20).expect("memory"), 0).wait().result.expect("a read");
            let stats = engine.stats();
            assert_eq!(stats.in_flight_max, 16, "one request of 128 blocks fills a depth of 16");
        }
    });
}

#[test]
fn a_small_request_passes_a_large_one() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::File::create(&path).and_then(|file| file.set_len(4 << 30)).expect("the file");
    for builder in builders() {
        let engine = builder.queue_depth(8).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let tally = Arc::new(Tally::default());
        let memory = leaked(64 << 20);
        // 4 GiB into the same 64 MiB: enough to stay in flight for a while.
        for part in 0..64u64 {
            submit(&file, read_of(memory, 64 << 20, part << 26, None), &tally);
        }
        engine.wake();
        for _ in 0..20 {
            file.read_exact_at(vec![0; 4096], 0).wait().result.expect("a small read");
        }
        let done = *tally.settled.lock().expect("the count");
        assert!(done < 64, "twenty small reads waited for 4 GiB of large ones");
        tally.wait_for(64);
        assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
    }
}

/// Records, whenever a small request settles, how many large ones have settled.
struct SmallRead {
    large: Arc<Tally>,
    seen: Mutex<Vec<u64>>,
}

impl Completion for SmallRead {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        outcome.result.expect("a small read");
        self.seen.lock().expect("the list").push(*self.large.settled.lock().expect("the count"));
    }
    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn small_and_large_requests_take_turns_at_depth_one() {
    const LARGE: u64 = 8;
    const SMALL: usize = 20;
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
    for builder in builders() {
        let engine = builder.queue_depth(1).block_bytes(64 << 10).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let memory = leaked(8 << 20);
        let small = Arc::new(SmallRead { large: Arc::default(), seen: Mutex::default() });
        let gate = Gate::close(&file);
        for _ in 0..LARGE {
            // 128 blocks each.
            submit(&file, read_of(memory, 8 << 20, 0, None), &small.large);
        }
        for _ in 0..SMALL {
            // SAFETY: as in `submit`.
            unsafe { file.submit(read_of(memory, 4096, 0, None), Arc::clone(&small) as Arc<dyn Completion>) };
        }
        drop(gate);
        engine.wake();
        eventually(LIMIT, "every small read", || small.seen.lock().expect("the list").len() == SMALL);
        assert_eq!(small.seen.lock().expect("the list")[..], [0; SMALL], "large reads done when each small one settled");
        small.large.wait_for(LARGE);
        assert_eq!(small.large.failed.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn engines_of_one_process_have_together_what_a_device_may_have_in_flight() {
    // The engines of other tests would share the device.
    alone(|| {
        const LIMIT_BYTES: u64 = 256 << 10;
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
        for builder in builders() {
            let builder = builder.block_bytes(64 << 10).in_flight_bytes(LIMIT_BYTES);
            let engines: Vec<_> = (0..3).map(|_| builder.clone().build().expect("an engine")).collect();
            let files: Vec<_> = engines.iter().map(|engine| open(engine, &path, Direct::Prefer)).collect();
            let reads: Vec<_> = (0..12).map(|index| files[index % 3].read_exact_at(vec![0; 8 << 20], 0)).collect();
            let mut most = 0;
            eventually(LIMIT, "every read", || {
                // Not at one instant, so what moves from one engine to the next can count twice: that is one block.
                most = most.max(engines.iter().map(|engine| engine.stats().in_flight_bytes).sum::<u64>());
                engines.iter().all(|engine| engine.stats().queued == 0)
            });
            assert!(most > 0 && most <= LIMIT_BYTES + (64 << 10), "{most} bytes in flight of {LIMIT_BYTES}");
            for read in reads {
                let (buf, _) = read.wait().ok().expect("a read");
                assert_same(&buf, &bytes(0, 8 << 20, 1), "read beside other engines");
            }
        }
    });
}

#[test]
fn depth_counts_blocks_however_many_requests_the_device_makes_of_one() {
    // The engines of other tests would share the device.
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 32 << 20, 1)).expect("the file");
        for builder in builders() {
            let engine = builder.queue_depth(4).window(WindowMode::Fixed).build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            file.read_exact_at(engine.buffer(32 << 20).expect("memory"), 0).wait().result.expect("a read");
            assert_eq!(engine.stats().in_flight_max, 4, "eight blocks of 4 MiB fill a depth of 4");
        }
    });
}

/// A read that notes how much of a backlog has settled before it.
struct Mark {
    backlog: Arc<Tally>,
    settled: mpsc::Sender<u64>,
}

impl Completion for Mark {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        outcome.result.expect("a small read");
        let _ = self.settled.send(*self.backlog.settled.lock().expect("the count"));
    }

    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn a_read_of_another_file_does_not_wait_for_a_backlog() {
    alone(|| {
        let place = directory();
        let [large, other] = ["large", "other"].map(|name| place.path().join(name));
        std::fs::File::create(&large).and_then(|file| file.set_len(4 << 30)).expect("the file");
        std::fs::write(&other, bytes(0, 4096, 1)).expect("the file");
        for builder in builders() {
            for (len, count) in [(4 << 20, 256u64), (4096, 20_000)] {
                let engine = builder.clone().build().expect("an engine");
                let (file, other) = (open(&engine, &large, Direct::Prefer), open(&engine, &other, Direct::Prefer));
                let tally = Arc::new(Tally::default());
                let memory = leaked(4 << 20);
                for index in 0..count {
                    submit(&file, read_of(memory, len, index * len, None), &tally);
                }
                // Counted where it settles: this thread can be late.
                let (sender, settled) = mpsc::channel();
                let mark = Arc::new(Mark { backlog: Arc::clone(&tally), settled: sender });
                // SAFETY: memory that is never freed and that nothing reads.
                unsafe { other.submit(read_of(leaked(4096), 4096, 0, None), mark) };
                engine.wake();
                let done = settled.recv().expect("a small read");
                assert!(done < count / 2, "a read waited for {done} of {count} of another file");
                tally.wait_for(count);
            }
        }
    });
}
