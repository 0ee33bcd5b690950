//! What is queued.

use super::{Cancelable, Tally, leaked, read_of, submit};
use crate::harness::child::{alone, limit};
use crate::harness::gate::Gate;
use crate::harness::{assert_same, builders, bytes, directory, engines, eventually, open, say, task};
use deepring::binding::{Completion, EngineBinding, FileBinding, HandleLimits};
use deepring::{BackendKind, Completed, Direct, Engine, ErrorKind, IoBuf, IoBufMut, Op};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The memory each of a million queued requests can take, in bytes.
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
            let memory = leaked(4096);
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
                // On threads each request takes a thread switch. Here it is as interesting that the
                // queue is canceled in good time.
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

/// Stands for 4 KiB of memory without owning it: all reads go to the same place.
struct SharedTarget(u64);

// SAFETY: memory from `leaked`, which is never freed; reads into it race only with each other, and
// nothing reads the result.
unsafe impl IoBuf for SharedTarget {
    fn as_ptr(&self) -> *const u8 {
        self.0 as *const u8
    }
    fn len(&self) -> usize {
        4096
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for SharedTarget {
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
        let memory = leaked(4096);
        let gate = Gate::close(&file);
        let before = task::resident_and_new_peak();
        let ops: Vec<Op<SharedTarget>> =
            (0..OPERATIONS).map(|index| file.read_at(SharedTarget(memory), index % (1 << 18) * 4096)).collect();
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
        say(&format!("{done} were done before the engine was dropped"));
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
        eventually(Duration::from_secs(5), "every descriptor given back", || task::descriptors() < 16);
    });
}

#[test]
fn a_file_opened_by_path_is_closed_when_its_request_ends() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::File::create(&path).and_then(|file| file.set_len(4 << 30)).expect("the file");
    for builder in builders() {
        let engine = builder.build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        // A million small blocks, one after the other: seconds of work.
        let handle = Arc::new(engine.handle(HandleLimits::new().queue_depth(1).block_bytes(4096)));
        let slow = Arc::new(Cancelable { tally: Arc::new(Tally::default()), canceled: AtomicBool::new(false) });
        let memory = engine.buffer(4 << 30).expect("address space");
        let transfer = read_of(memory.as_ptr() as u64, 4 << 30, 0, Some(&handle));
        // SAFETY: the memory is kept until the read has settled, and nothing reads it.
        unsafe { file.submit(transfer, Arc::clone(&slow) as Arc<dyn Completion>) };
        engine.wake();
        let small = place.path().join("small");
        engine.write_file(&small, bytes(0, 5000, 1)).wait().result.expect("a write by path");
        eventually(Duration::from_secs(1), "the file written by path is closed", || !task::has_open(&small));
        assert_eq!(engine.stats().queued, 1, "the slow read is still in flight");
        slow.canceled.store(true, Ordering::Release);
        engine.sweep();
        slow.tally.wait_for(1);
        drop(memory);
    }
}

#[test]
fn a_full_queue_is_an_error_that_returns_the_buffer() {
    let place = directory();
    let path = place.path().join("file");
    for builder in builders() {
        std::fs::write(&path, bytes(0, 20_000, 1)).expect("the file");
        let engine = builder.max_queued(4).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let tally = Arc::new(Tally::default());
        let memory = leaked(4096);
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
