//! Promise: **bounded**. A device has so many requests and so many bytes in flight, whatever is queued; what is queued is small and holds no
//! descriptor; a queue that is full says so and gives the buffer back.

#[path = "../harness/mod.rs"]
mod harness;

use deepring::binding::Refill::{self, Sliding, WhenEmpty};
use deepring::binding::{Completion, EngineBinding, FileBinding, Handle, HandleLimits, Outcome, RawTransfer};
use deepring::{BackendKind, Completed, Direct, Direction, Engine, ErrorKind, File, IoBuf, IoBufMut, Op};
use harness::child::{alone, limit};
use harness::gate::Gate;
use harness::{Chance, MODES, assert_file, assert_same, backends, builders, bytes, directory, engines, open, patient, say, task, within};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(50);
const REFILLS: [Refill; 2] = [Sliding, WhenEmpty];

/// Counts completions, and lets somebody wait for them.
#[derive(Default)]
struct Tally {
    settled: Mutex<u64>,
    all: Condvar,
    canceled: AtomicU64,
    failed: AtomicU64,
}

impl Completion for Tally {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        match outcome.result {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Canceled => drop(self.canceled.fetch_add(1, Ordering::Relaxed)),
            Err(_) => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
        *self.settled.lock().expect("the count") += 1;
        self.all.notify_all();
    }
    fn canceled(&self) -> bool {
        false
    }
}

impl Tally {
    #[track_caller]
    fn wait_for(&self, count: u64) {
        let (limit, settled) = (patient(LIMIT), self.settled.lock().expect("the count"));
        let (settled, end) = self.all.wait_timeout_while(settled, limit, |settled| *settled < count).expect("the count");
        assert!(!end.timed_out(), "{} of {count} operations settled within {limit:?}", *settled);
        assert_eq!(*settled, count, "every operation settles once");
    }
}

/// Memory that outlives everything, for reads whose content nobody looks at.
fn lasting(len: usize) -> u64 {
    Box::leak(vec![0u8; len + 4096].into_boxed_slice()).as_mut_ptr().addr().next_multiple_of(4096) as u64
}

fn read_of(address: u64, len: u64, position: u64, handle: Option<&Arc<Handle>>) -> RawTransfer {
    RawTransfer { direction: Direction::Read, address, len, position, exact: true, handle: handle.map(Arc::clone) }
}

fn submit(file: &File, transfer: RawTransfer, tally: &Arc<Tally>) {
    // SAFETY: all callers pass memory from `lasting`, which is never freed; reads into the same place race only with each other, and nobody
    // looks at the result.
    unsafe { file.submit(transfer, Arc::clone(tally) as Arc<dyn Completion>) };
}

// ---- what is in flight ----

#[test]
fn what_is_in_flight_never_exceeds_depth_or_bytes() {
    let place = directory();
    let path = place.path().join("file");
    let size = 4 << 20;
    std::fs::write(&path, bytes(0, size, 1)).expect("the file");
    let mut chance = Chance::new();
    // Depth, block, bytes: each the tight one in turn.
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
                    let len = 1 + chance.below(if reads.len() % 2 == 0 { 200_000 } else { 5000 });
                    let position = chance.below(size as u64 - len);
                    // What is read may be the old or the new bytes, and they are the same.
                    match chance.below(4) {
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
fn the_depth_that_is_allowed_is_used() {
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
        let memory = lasting(64 << 20);
        // 4 GiB into the same 64 MiB: enough to be under way for a while.
        for part in 0..64u64 {
            submit(&file, read_of(memory, 64 << 20, part << 26, None), &tally);
        }
        engine.wake();
        for _ in 0..20 {
            file.read_exact_at(vec![0; 4096], 0).wait().result.expect("a small read");
        }
        let done = *tally.settled.lock().expect("the count");
        assert!(done < 64, "twenty small reads waited until 4 GiB of large ones were done");
        tally.wait_for(64);
        assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
    }
}

/// Counts, whenever a small request settles, the large ones that have.
struct Passing {
    large: Arc<Tally>,
    seen: Mutex<Vec<u64>>,
}

impl Completion for Passing {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        outcome.result.expect("a small read");
        self.seen.lock().expect("the list").push(*self.large.settled.lock().expect("the count"));
    }
    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn small_and_large_requests_take_turns_when_places_become_free_one_by_one() {
    const LARGE: u64 = 8;
    const SMALL: usize = 20;
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
    for builder in builders() {
        let engine = builder.queue_depth(1).block_bytes(64 << 10).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let memory = lasting(8 << 20);
        let passing = Arc::new(Passing { large: Arc::default(), seen: Mutex::default() });
        let gate = Gate::close(&file);
        for _ in 0..LARGE {
            // 128 blocks each.
            submit(&file, read_of(memory, 8 << 20, 0, None), &passing.large);
        }
        for _ in 0..SMALL {
            // SAFETY: as in `submit`.
            unsafe { file.submit(read_of(memory, 4096, 0, None), Arc::clone(&passing) as Arc<dyn Completion>) };
        }
        drop(gate);
        engine.wake();
        harness::eventually(LIMIT, "every small read", || passing.seen.lock().expect("the list").len() == SMALL);
        assert_eq!(passing.seen.lock().expect("the list")[..], [0; SMALL], "large reads that were done when a small one was");
        passing.large.wait_for(LARGE);
        assert_eq!(passing.large.failed.load(Ordering::Relaxed), 0);
    }
}

// ---- what is queued ----

/// What a million queued requests may cost each, in bytes.
const QUEUED_BYTES_MAX: u64 = 512;
const MILLION: u64 = 1_000_000;

#[test]
fn a_million_queued_reads_take_at_most_512_bytes_each() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::File::create(&path).and_then(|file| file.set_len(1 << 30)).expect("the file");
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            let memory = lasting(4096);
            let tally = Arc::new(Tally::default());
            let gate = Gate::close(&file);
            let before = task::resident_and_new_peak();
            for index in 0..MILLION {
                submit(&file, read_of(memory, 4096, index % (1 << 18) * 4096, None), &tally);
            }
            assert_eq!(engine.stats().queued, MILLION);
            let backend = engine.info().backend;
            drop(gate);
            engine.wake();
            if backend == BackendKind::Uring {
                tally.wait_for(MILLION);
                assert_eq!(engine.stats().read_bytes, MILLION * 4096 + 1);
            } else {
                // On threads each takes a thread switch; that the queue is given up in good time is as interesting.
                drop((file, engine));
                tally.wait_for(MILLION);
            }
            assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
            let each = (task::peak() - before) / MILLION;
            say(&format!("{}: {each} bytes per queued request at the peak", backend.as_str()));
            assert!(each <= QUEUED_BYTES_MAX, "{backend:?}: {each} bytes per queued request");
        }
    });
}

/// Stands for 4 KiB of memory without owning any: all reads go to the same place.
struct Elsewhere(u64);

// SAFETY: the memory is from `lasting`, so it stays; reads into it race only with each other and nobody looks.
unsafe impl IoBuf for Elsewhere {
    fn as_ptr(&self) -> *const u8 {
        self.0 as *const u8
    }
    fn len(&self) -> usize {
        4096
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Elsewhere {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0 as *mut u8
    }
}

#[test]
fn operations_in_the_caller_s_hands_take_at_most_512_bytes_each() {
    alone(|| {
        const OPERATIONS: u64 = 300_000;
        let place = directory();
        let path = place.path().join("file");
        std::fs::File::create(&path).and_then(|file| file.set_len(1 << 30)).expect("the file");
        let engine = Engine::builder().build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let memory = lasting(4096);
        let gate = Gate::close(&file);
        let before = task::resident_and_new_peak();
        let ops: Vec<Op<Elsewhere>> = (0..OPERATIONS).map(|index| file.read_at(Elsewhere(memory), index % (1 << 18) * 4096)).collect();
        let each = (task::peak() - before) / OPERATIONS;
        say(&format!("{each} bytes per operation, its future included"));
        assert!(each <= QUEUED_BYTES_MAX, "{each} bytes per operation");
        drop(gate);
        drop((file, engine));
        let mut done = 0;
        for op in ops {
            match op.wait().result {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Canceled, "{error}"),
            }
        }
        say(&format!("{done} were done before the engine went"));
    });
}

#[test]
fn five_thousand_queued_paths_need_few_descriptors() {
    alone(|| {
        const FILES: usize = 5000;
        limit(libc::RLIMIT_NOFILE, 256);
        let place = directory();
        let path = |index: usize| place.path().join(format!("{index}"));
        let content = |index: usize| bytes(0, 1 + index * 37 % 9000, index as u64);
        let creator = Engine::builder().build().expect("an engine");
        let writes: Vec<_> = (0..FILES).map(|index| creator.write_file(path(index), content(index))).collect();
        for (index, op) in writes.into_iter().enumerate() {
            op.wait().result.unwrap_or_else(|error| panic!("file {index}: {error}"));
        }
        for engine in engines() {
            let reads: Vec<_> = (0..FILES).map(|index| engine.read_file(path(index), vec![0; content(index).len()])).collect();
            for (index, op) in reads.into_iter().enumerate() {
                let Completed { buf, result } = op.wait();
                result.unwrap_or_else(|error| panic!("file {index}: {error}"));
                assert_same(&buf.expect("the buffer"), &content(index), &format!("file {index}"));
            }
        }
        drop(creator);
        harness::eventually(Duration::from_secs(5), "every descriptor given back", || task::descriptors() < 16);
    });
}

#[test]
fn a_file_by_path_is_closed_when_its_request_has_ended_whatever_else_goes_on() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::File::create(&path).and_then(|file| file.set_len(4 << 30)).expect("the file");
    for builder in builders() {
        let engine = builder.build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        // A million small blocks, one after the other: seconds of work.
        let handle = Arc::new(engine.handle(HandleLimits { queue_depth: 1, block_bytes: 4096, ..HandleLimits::default() }));
        let slow = Arc::new(Fickle { tally: Arc::new(Tally::default()), canceled: AtomicBool::new(false) });
        let memory = engine.buffer(4 << 30).expect("address space");
        let transfer = read_of(memory.as_ptr() as u64, 4 << 30, 0, Some(&handle));
        // SAFETY: the memory is kept until the read has settled, and nobody looks at it.
        unsafe { file.submit(transfer, Arc::clone(&slow) as Arc<dyn Completion>) };
        engine.wake();
        let small = place.path().join("small");
        engine.write_file(&small, bytes(0, 5000, 1)).wait().result.expect("a write by path");
        harness::eventually(Duration::from_secs(1), "the file written by path is closed", || !task::has_open(&small));
        assert_eq!(engine.stats().queued, 1, "the slow read is still going on");
        slow.canceled.store(true, Ordering::Release);
        engine.sweep();
        slow.tally.wait_for(1);
        drop(memory);
    }
}

#[test]
fn a_full_queue_says_so_and_gives_the_buffer_back() {
    let place = directory();
    let path = place.path().join("file");
    for builder in builders() {
        std::fs::write(&path, bytes(0, 20_000, 1)).expect("the file");
        let engine = builder.max_queued(4).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let tally = Arc::new(Tally::default());
        let memory = lasting(4096);
        let gate = Gate::close(&file);
        (0..4).for_each(|index| submit(&file, read_of(memory, 4096, index * 4096, None), &tally));
        assert_eq!(engine.stats().queued, 4);
        let refused = [
            file.read_exact_at(vec![9u8; 100], 0),
            file.write_at(vec![9u8; 100], 0),
            engine.read_file(&path, vec![9u8; 100]),
            engine.write_file(&path, vec![9u8; 100]),
        ];
        for op in refused {
            let Completed { buf, result } = op.wait();
            let error = result.expect_err("the queue is full");
            assert_eq!((error.kind(), error.code()), (ErrorKind::QueueFull, "ERR_DEEPRING_QUEUE_FULL".into()));
            assert_eq!((error.requested(), error.transferred(), error.path()), (100, 0, Some(path.as_path())));
            assert_eq!(buf, Some(vec![9; 100]), "the buffer comes back untouched");
        }
        drop(gate);
        tally.wait_for(4);
        assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
        let (buf, _) = file.read_exact_at(vec![0; 100], 50).wait().ok().expect("there is room again");
        assert_same(&buf, &bytes(50, 100, 1), "what was read");
    }
}

// ---- a handle's own limits ----

#[test]
fn a_handle_s_depth_holds_for_all_its_requests_together() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
    for builder in builders() {
        for (queue_depth, refill, single_submit) in
            [(1, Sliding, false), (1, WhenEmpty, true), (3, Sliding, true), (4, WhenEmpty, false), (7, Sliding, false), (0, Sliding, true)]
        {
            let engine = builder.clone().queue_depth(64).build().expect("an engine");
            let limits = HandleLimits { queue_depth, block_bytes: 60_000, single_submit, refill };
            let handle = Arc::new(engine.handle(limits));
            assert_eq!(handle.limits().block_bytes, 61_440, "rounded up to whole pages");
            let file = open(&engine, &path, Direct::Prefer);
            let tally = Arc::new(Tally::default());
            let memory = lasting(8 << 20);
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
}

#[test]
fn a_handle_s_block_is_no_way_around_the_engine_s_bytes() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
    for builder in builders() {
        let engine = builder.block_bytes(64 << 10).in_flight_bytes(1 << 20).build().expect("an engine");
        let handle = Arc::new(engine.handle(HandleLimits { block_bytes: 4 << 20, ..HandleLimits::default() }));
        let file = open(&engine, &path, Direct::Prefer);
        let tally = Arc::new(Tally::default());
        submit(&file, read_of(lasting(8 << 20), 8 << 20, 0, Some(&handle)), &tally);
        engine.wake();
        tally.wait_for(1);
        let most = engine.stats().in_flight_bytes_max;
        assert!(most <= 1 << 20, "{most} bytes were in flight, although the engine allows 1 MiB");
    }
}

#[test]
fn a_handle_does_not_slow_down_requests_without_it() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
    for builder in builders() {
        let engine = builder.block_bytes(64 << 10).queue_depth(32).build().expect("an engine");
        let handle = Arc::new(engine.handle(HandleLimits { queue_depth: 1, ..HandleLimits::default() }));
        let file = open(&engine, &path, Direct::Prefer);
        let tally = Arc::new(Tally::default());
        let memory = lasting(16 << 20);
        submit(&file, read_of(memory, 8 << 20, 0, Some(&handle)), &tally);
        submit(&file, read_of(memory + (8 << 20), 8 << 20, 0, None), &tally);
        engine.wake();
        tally.wait_for(2);
        assert_eq!(engine.stats().in_flight_max, 32, "the request without a handle fills the device");
    }
}

#[test]
fn writes_that_share_a_handle_and_a_unit_never_stall() {
    let place = directory();
    let path = place.path().join("file");
    for builder in builders() {
        let path = path.clone();
        within(LIMIT, "writes under a narrow handle", move || {
            let mut chance = Chance::new();
            let engine = builder.queue_depth(8).block_bytes(4096).build().expect("an engine");
            for round in 0..40u64 {
                std::fs::write(&path, b"").expect("the file");
                let files = [open(&engine, &path, Direct::Prefer), open(&engine, &path, Direct::Prefer)];
                let handles: Vec<Arc<Handle>> = (1..=2)
                    .map(|queue_depth| HandleLimits {
                        queue_depth,
                        refill: REFILLS[usize::from(round % 2 == 0)],
                        single_submit: round % 3 == 0,
                        ..HandleLimits::default()
                    })
                    .map(|limits| Arc::new(engine.handle(limits)))
                    .collect();
                let tally = Arc::new(Tally::default());
                let end = 60_000;
                let content = bytes(0, end, round).leak().as_ptr() as u64;
                let mut position = 0;
                let mut writes = 0;
                while position < end as u64 {
                    let len = (1 + chance.below(5000)).min(end as u64 - position);
                    let handle = Some(chance.pick(&handles)).filter(|_| writes % 5 > 0).map(Arc::clone);
                    let transfer =
                        RawTransfer { direction: Direction::Write, address: content + position, len, position, exact: true, handle };
                    // SAFETY: the content is never freed and never written.
                    unsafe { chance.pick(&files).submit(transfer, Arc::clone(&tally) as Arc<dyn Completion>) };
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

/// As [`Tally`], and given up on from the outside.
struct Fickle {
    tally: Arc<Tally>,
    canceled: AtomicBool,
}

impl Completion for Fickle {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        Arc::clone(&self.tally).settle(outcome);
    }
    fn canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }
}

#[test]
fn requests_that_are_cancelled_leave_their_place_in_a_handle_s_line() {
    const REQUESTS: u64 = 24;
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 4 << 20, 1)).expect("the file");
    let mut chance = Chance::new();
    for builder in builders() {
        for round in 0..12u32 {
            let engine = builder.clone().block_bytes(64 << 10).build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let limits =
                HandleLimits { queue_depth: 1 + round % 3, refill: REFILLS[usize::from(round % 2 == 0)], ..HandleLimits::default() };
            let handle = Arc::new(engine.handle(limits));
            let tally = Arc::new(Tally::default());
            let memory = lasting(512 << 10);
            let requests: Vec<Arc<Fickle>> = (0..REQUESTS)
                .map(|index| {
                    let fickle = Arc::new(Fickle { tally: Arc::clone(&tally), canceled: AtomicBool::new(false) });
                    let transfer = read_of(memory, 512 << 10, (index % 8) << 19, Some(&handle));
                    // SAFETY: memory from `lasting`, and nobody looks at what is read.
                    unsafe { file.submit(transfer, Arc::clone(&fickle) as Arc<dyn Completion>) };
                    fickle
                })
                .collect();
            engine.wake();
            for fickle in &requests {
                if chance.once_in(2) {
                    fickle.canceled.store(true, Ordering::Release);
                    engine.sweep();
                }
                if chance.once_in(10) {
                    std::thread::sleep(Duration::from_micros(chance.below(500)));
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
fn a_request_that_meets_the_end_of_its_file_leaves_its_place_in_a_handle_s_line() {
    const REQUESTS: u64 = 8;
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 10_000, 1)).expect("the file");
    let memory = lasting(512 << 10);
    for builder in builders() {
        for refill in REFILLS {
            let engine = builder.clone().block_bytes(64 << 10).build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let handle = Arc::new(engine.handle(HandleLimits { queue_depth: 1, refill, ..HandleLimits::default() }));
            let tally = Arc::new(Tally::default());
            for _ in 0..REQUESTS {
                // The first of eight blocks meets the end, while the request is first in line for the second.
                let transfer = RawTransfer { exact: false, ..read_of(memory, 512 << 10, 0, Some(&handle)) };
                // SAFETY: memory from `lasting`, and nobody looks at what is read.
                unsafe { file.submit(transfer, Arc::clone(&tally) as Arc<dyn Completion>) };
            }
            engine.wake();
            tally.wait_for(REQUESTS);
            assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
        }
    }
}

// ---- settings ----

#[test]
fn settings_outside_their_range_are_refused() {
    let builder = Engine::builder;
    for refused in [
        builder().queue_depth(0),
        builder().queue_depth(65_537),
        builder().queue_depth(u32::MAX),
        builder().block_bytes(0),
        builder().block_bytes((1 << 30) + 1),
        builder().block_bytes(u64::MAX),
        builder().in_flight_bytes(0),
        builder().max_queued(0),
    ] {
        let error = refused.clone().build().expect_err("outside its range");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{refused:?}: {error}");
    }
    for backend in backends() {
        for accepted in [
            builder().queue_depth(65_536),
            builder().queue_depth(1),
            builder().block_bytes(1),
            builder().block_bytes(1 << 30),
            builder().in_flight_bytes(1),
            builder().in_flight_bytes(u64::MAX),
            builder().max_queued(u64::MAX),
        ] {
            drop(accepted.clone().backend(backend).build().unwrap_or_else(|error| panic!("{accepted:?}: {error}")));
        }
    }
}

#[test]
fn memory_nobody_can_have_is_refused() {
    for engine in engines() {
        for len in [usize::MAX, usize::MAX / 2, 1 << 50] {
            let error = engine.buffer(len).expect_err("so much memory");
            assert_eq!(error.code(), "ENOMEM", "{error}");
            assert_eq!(engine.pooled_buffer(len).expect_err("so much memory").code(), "ENOMEM");
        }
        assert_eq!(engine.stats().buffers, 0);
    }
}
