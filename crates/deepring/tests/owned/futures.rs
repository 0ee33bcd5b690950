//! Operations polled as futures.

use super::guarded::GuardedBuffers;
use super::{LIMIT, data_file};
use crate::harness::gate::Gate;
use crate::harness::{READ_WRITE, assert_same, bytes, directory, engines, eventually, open, patient};
use deepring::{Batch, Completed, Direct, OpenOptions};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

/// Wakes a thread and counts the wakes.
struct CountingWaker {
    thread: Thread,
    woken: AtomicUsize,
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::AcqRel);
        self.thread.unpark();
    }
}

fn counting_waker() -> Arc<CountingWaker> {
    Arc::new(CountingWaker { thread: std::thread::current(), woken: AtomicUsize::new(0) })
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(counting_waker());
    let mut context = Context::from_waker(&waker);
    let deadline = Instant::now() + patient(LIMIT);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(Instant::now() < deadline, "a future was not woken");
        std::thread::park_timeout(patient(LIMIT));
    }
}

#[test]
fn operations_and_tasks_are_futures() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let path = &path;
        block_on(async {
            let file = engine.open_async(path, READ_WRITE.truncate(true)).await.expect("an open file");
            let writes: Vec<_> = (0..50u64).map(|index| file.write_at(bytes(index * 999, 999, 1), index * 999)).collect();
            for op in writes {
                op.await.result.expect("a write");
            }
            file.sync_all().await.expect("sync");
            let Completed { buf, result } = file.read_exact_at(engine.buffer(49_950).expect("memory"), 0).await;
            assert_eq!(result.expect("a read").bytes, 49_950);
            assert_same(&buf.expect("the buffer"), &bytes(0, 49_950, 1), "what was read");
            file.set_len(10).await.expect("set_len");
            assert_eq!(file.stat().await.expect("stat").size, 10);
            file.close().await.expect("close");
            let missing = engine.open_async(path.with_extension("missing"), OpenOptions::new().read(true)).await;
            assert_eq!(missing.expect_err("missing").code(), "ENOENT");
        });
    }
}

#[test]
fn only_the_last_waker_is_woken() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let gate = Gate::close(&file);
        let mut op = pin!(file.read_exact_at(vec![0; 4096], 0));
        let (first, last) = (counting_waker(), counting_waker());
        for counting in [&first, &last] {
            let waker = Waker::from(Arc::clone(counting));
            assert!(op.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(gate);
        eventually(LIMIT, "the last waker is woken", || last.woken.load(Ordering::Acquire) == 1);
        assert_eq!(first.woken.load(Ordering::Acquire), 0);
        let Poll::Ready(Completed { result, .. }) = op.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("woken, but not ready");
        };
        result.expect("a read");
    }
}

#[test]
fn a_future_dropped_after_a_poll_frees_its_buffer() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let buffers = GuardedBuffers::default();
        let file = open(&engine, &path, Direct::Prefer);
        for _ in 0..50 {
            let mut op = Box::pin(file.read_at(buffers.guarded(100_000), 3));
            let _ = op.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        eventually(LIMIT, "every buffer came back", || buffers.returned() == 50);
        assert_eq!(buffers.disturbed(), 0);
    }
}

#[test]
fn a_task_gets_the_outcomes_of_a_batch_as_they_end() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 1 << 20, 1)).expect("the file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let mut batch = Batch::new(&engine);
        for index in 0..200u64 {
            batch.read_exact_at(&file, vec![0; 1000], index * 1000);
        }
        block_on(async {
            let mut seen = [false; 200];
            while let Some((index, completed)) = batch.next().await {
                assert!(!std::mem::replace(&mut seen[index], true));
                assert_eq!(completed.ok().expect("a read").0, bytes(index as u64 * 1000, 1000, 1));
            }
            assert_eq!(seen, [true; 200]);
        });
    }
}
