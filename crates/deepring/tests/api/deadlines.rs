//! Deadlines of reads and writes.

use crate::harness::{assert_file, backends, bytes, directory, open, within};
use deepring::{BackendKind, Direct, Engine, ErrorKind, ManyOptions, Piece, ReadOptions, WriteOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;

/// One block of 4 KiB after the other: what is queued stays queued for a while.
fn slow(backend: BackendKind) -> Engine {
    Engine::builder().backend(backend).queue_depth(1).block_bytes(4096).build().expect("an engine")
}

#[test]
fn what_is_queued_at_the_deadline_is_given_up_and_the_memory_is_free() {
    let directory = directory();
    for backend in backends() {
        let path = directory.path().join("late");
        std::fs::write(&path, bytes(0, 64 * MIB, 1)).expect("the file");
        within(LIMIT, "late requests", move || {
            let engine = slow(backend);
            let file = open(&engine, &path, Direct::Prefer);
            let deadline = Instant::now() + Duration::from_millis(40);
            let reads: Vec<_> = (0..64).map(|at| file.read_with(vec![0; MIB], at << 20, ReadOptions::new().deadline(deadline))).collect();
            let mut late = 0;
            for read in reads {
                let done = read.wait();
                let buf = done.buf.expect("the buffer comes back");
                assert_eq!(buf.len(), MIB);
                if let Err(error) = done.result {
                    assert_eq!((error.kind(), error.code().as_str()), (ErrorKind::TimedOut, "ERR_DEEPRING_TIMED_OUT"));
                    assert_eq!((error.syscall(), error.path(), error.requested()), ("read", Some(&*path), MIB as u64));
                    assert!(Instant::now() >= deadline, "too early");
                    let at = error.position().expect("a position");
                    let came = error.transferred() as usize;
                    assert!(buf[..came] == bytes(at, came, 1)[..], "what came before the deadline");
                    late += 1;
                }
            }
            assert!(late >= 32, "{late} of 64 MiB, in blocks of 4 KiB, took longer than 40 ms");
            let stats = engine.stats();
            assert_eq!((stats.queued, stats.in_flight), (0, 0));
        });
    }
}

#[test]
fn a_call_with_many_ranges_is_given_up_as_a_whole() {
    let directory = directory();
    for backend in backends() {
        let path = directory.path().join("many");
        std::fs::write(&path, bytes(0, 64 * MIB, 1)).expect("the file");
        within(LIMIT, "late calls", move || {
            let engine = slow(backend);
            let file = open(&engine, &path, Direct::Prefer);
            let ranges: Vec<_> = (0..16_000).map(|index| Piece::new(index as u64 * 4096, index * 4000, 4000)).collect();
            let options = |millis| ManyOptions::new().deadline(Instant::now() + Duration::from_millis(millis));
            for millis in [0, 40] {
                let read = file.read_scatter_with(vec![0; 16_000 * 4000], &ranges, options(millis)).wait();
                assert_eq!(read.result.expect_err("late").kind(), ErrorKind::TimedOut);
                assert!(read.buf.is_some());
                let written = file.write_gather_with(vec![0; 16_000 * 4000], &ranges, options(millis)).wait();
                assert_eq!(written.result.expect_err("late").kind(), ErrorKind::TimedOut);
            }
            assert_eq!((engine.stats().queued, engine.stats().in_flight), (0, 0));
            let in_time = file.read_scatter_with(vec![0; 4000], &ranges[..1], options(60_000)).wait();
            assert_eq!(in_time.result.expect("in time").bytes, 4000);
        });
    }
}

#[test]
fn a_request_that_ends_in_time_or_was_canceled_before_knows_nothing_of_its_deadline() {
    let directory = directory();
    for backend in backends() {
        let engine = slow(backend);
        let path = directory.path().join("in-time");
        let file = open(&engine, &path, Direct::Prefer);
        let soon = || Instant::now() + Duration::from_millis(300);
        let content = bytes(0, 10_000, 2);
        let (content, _) = file.write_with(content, 0, WriteOptions::new().deadline(soon())).wait().ok().expect("a write");
        let read = file.read_with(vec![0; 10_000], 0, ReadOptions::new().deadline(soon()));
        // It has ended long before it is asked for.
        std::thread::sleep(Duration::from_millis(400));
        assert!(read.wait().ok().expect("a read").0 == content);
        let write = file.write_with(vec![3; 64 * MIB], 1 << 20, WriteOptions::new().deadline(soon()));
        write.cancel();
        let error = write.wait().result.expect_err("it was canceled");
        assert_eq!(error.kind(), ErrorKind::Canceled);
    }
}

#[test]
fn a_deadline_that_has_passed_before_touches_nothing() {
    let directory = directory();
    for backend in backends() {
        let engine = slow(backend);
        let path = directory.path().join("before");
        std::fs::write(&path, bytes(0, 5000, 4)).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let late = WriteOptions::new().deadline(Instant::now());
        let done = file.write_with(Arc::<[u8]>::from(&[9u8; 9000][..]), 100, late).wait();
        assert_eq!(done.buf.expect("the buffer").len(), 9000);
        let error = done.result.expect_err("it is late");
        assert_eq!((error.kind(), error.position(), error.requested(), error.transferred()), (ErrorKind::TimedOut, Some(100), 9000, 0));
        assert_file(&path, &bytes(0, 5000, 4), "untouched");
    }
}

#[test]
fn a_write_that_is_given_up_leaves_old_bytes_new_ones_and_nothing_else() {
    let directory = directory();
    for backend in backends() {
        let engine = slow(backend);
        let path = directory.path().join("mixture");
        let (old, new) = (bytes(0, 16 * MIB, 5), bytes(0, 16 * MIB, 6));
        std::fs::write(&path, &old).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let options = WriteOptions::new().deadline(Instant::now() + Duration::from_millis(20));
        let error = file.write_with(new.clone(), 0, options).wait().result.expect_err("16 MiB in blocks of 4 KiB in 20 ms");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let came = error.transferred() as usize;
        let found = std::fs::read(&path).expect("the file");
        assert!(found[..came] == new[..came], "what was reported as written");
        let mixed = found.iter().zip(old.iter().zip(&new)).all(|(byte, (old, new))| byte == old || byte == new);
        assert!(mixed && found.len() == old.len(), "the rest");
    }
}

#[test]
fn ten_thousand_deadlines_take_one_thread() {
    let threads = || std::fs::read_dir("/proc/self/task").expect("/proc").count();
    let named = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("/proc").flatten();
        tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("deepring-timer"))).count()
    };
    let directory = directory();
    for backend in backends() {
        let engine = slow(backend);
        let path = directory.path().join("many");
        std::fs::write(&path, bytes(0, 4096, 7)).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let start = Instant::now() + Duration::from_secs(3600);
        let reads: Vec<_> = (0..10_000)
            .map(|index| file.read_with(vec![0; 16], 0, ReadOptions::new().deadline(start + Duration::from_millis(index))))
            .collect();
        assert!(named() <= 1, "{} of {} threads serve the timer", named(), threads());
        for read in reads {
            read.wait().result.expect("in time");
        }
    }
}
