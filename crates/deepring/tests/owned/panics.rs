//! The program's code on threads of the engine: wakers, completions, callbacks and the `Drop` of buffers may panic or take
//! long. No other request suffers from that.

use super::guarded::GuardedBuffers;
use super::{LIMIT, data_file};
use crate::harness::{bytes, directory, engines, eventually, open, within};
use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{Direct, Direction, Engine, File, IoBuf, IoBufMut, OpenOptions};
use std::future::Future;
use std::panic::resume_unwind;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

/// Panics without a report on standard error.
pub(super) fn explode() -> ! {
    resume_unwind(Box::new("the program's code"))
}

/// A waker that panics when it is called.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        explode();
    }
}

/// A buffer whose `Drop` does something.
struct Dropping {
    space: Vec<u8>,
    then: fn(),
}

impl Drop for Dropping {
    fn drop(&mut self) {
        (self.then)();
    }
}

// SAFETY: the vector's heap block stays in place while the value moves.
unsafe impl IoBuf for Dropping {
    fn as_ptr(&self) -> *const u8 {
        self.space.as_ptr()
    }
    fn len(&self) -> usize {
        self.space.len()
    }
}

// SAFETY: the vector is owned.
unsafe impl IoBufMut for Dropping {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.space.as_mut_ptr()
    }
}

/// The engine serves requests of all kinds.
fn assert_alive(engine: &Engine, file: &File, path: &Path) {
    let (engine, path, read) = (engine.clone(), path.to_owned(), file.read_exact_at(vec![0; 4096], 0));
    within(LIMIT, "other requests", move || {
        assert_eq!(read.wait().ok().expect("a read").0, bytes(0, 4096, 1));
        let opened = engine.open_async(&path, OpenOptions::new().read(true)).wait().expect("an open");
        opened.stat().wait().expect("a stat");
        opened.sync_all().wait().expect("a sync");
        opened.close().wait().expect("a close");
    });
}

#[test]
fn a_waker_that_panics_frees_no_memory_that_the_device_uses() {
    let place = directory();
    let path = data_file(place.path(), 32);
    let waker = Waker::from(Arc::new(Bomb));
    for engine in engines() {
        let buffers = GuardedBuffers::default();
        let file = open(&engine, &path, Direct::Prefer);
        let mut panics = 0;
        for _ in 0..4 {
            for index in 0..32u64 {
                drop(file.read_at(buffers.guarded(1 << 20), index << 20));
                let mut small = pin!(file.read_at(vec![0; 512], 0));
                panics += u64::from(small.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        assert_alive(&engine, &file, &path);
        eventually(LIMIT, "every buffer came back", || buffers.returned() == 4 * 32);
        assert_eq!(buffers.disturbed(), 0, "buffers written to after they came back");
        // An operation that is dropped while it is settled calls no waker, or calls it in vain.
        let stats = engine.stats();
        assert!(stats.panics > 0 && stats.panics <= panics, "{stats:?}");
        assert_eq!((stats.queued, stats.in_flight, stats.leaked), (0, 0, 0));
        within(LIMIT, "dropping the engine", move || drop((file, engine)));
    }
}

#[test]
fn a_buffer_that_panics_when_it_is_dropped_is_counted() {
    let place = directory();
    let path = data_file(place.path(), 4);
    let waker = Waker::from(Arc::new(Bomb));
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        for index in 0..32u64 {
            let op = file.read_at(Dropping { space: vec![0; 4096], then: || explode() }, index << 12);
            if index % 2 == 0 {
                let mut op = Box::pin(op);
                // With a waker that panics, too: two panics for one outcome.
                let _ = op.as_mut().poll(&mut Context::from_waker(&waker));
                std::mem::forget(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(op))));
            } else {
                std::mem::forget(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(op))));
            }
        }
        assert_alive(&engine, &file, &path);
        assert!(engine.stats().panics > 0);
        within(LIMIT, "dropping the engine", move || drop((file, engine)));
    }
}

/// A completion that panics in both of its methods.
struct Exploding(mpsc::Sender<()>);

impl Completion for Exploding {
    fn settle(self: Arc<Self>, _: Outcome) {
        self.0.send(()).expect("a listener");
        explode();
    }
    fn canceled(&self) -> bool {
        explode();
    }
}

#[test]
fn a_completion_that_panics_is_settled_once() {
    let place = directory();
    let path = data_file(place.path(), 4);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let memory = Box::leak(vec![0u8; 1 << 20].into_boxed_slice()).as_mut_ptr() as u64;
        let (sender, receiver) = mpsc::channel();
        for index in 0..100u64 {
            let transfer = RawTransfer::new(Direction::Read, memory, 4096, index << 12).exact(true);
            // SAFETY: the memory is leaked, and nothing reads it.
            unsafe { file.submit(transfer, Arc::new(Exploding(sender.clone()))) };
        }
        engine.wake();
        engine.sweep();
        drop(sender);
        assert_alive(&engine, &file, &path);
        within(LIMIT, "dropping the engine", move || drop((file, engine)));
        assert_eq!(receiver.iter().count(), 100);
    }
}

#[test]
fn jobs_and_callbacks_that_panic_do_not_use_up_the_blocking_threads() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        for _ in 0..8 {
            drop(engine.run_blocking(|| explode()));
            engine.open_then(&path, OpenOptions::new().read(true), |_| explode());
            file.stat_then(|_| explode());
            file.sync_then(false, Arc::default(), |_| explode());
            file.set_len_then(1 << 20, Arc::default(), |_| explode());
            open(&engine, &path, Direct::Never).close_then(|_| explode());
        }
        assert_alive(&engine, &file, &path);
        eventually(LIMIT, "every panic was counted", || engine.stats().panics == 48);
        within(LIMIT, "dropping the engine", move || drop((file, engine)));
    }
}

#[test]
fn dropping_what_takes_long_stops_no_other_request() {
    const LONG: Duration = Duration::from_millis(1500);
    let place = directory();
    let path = data_file(place.path(), 4);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        drop(file.read_at(Dropping { space: vec![0; 4096], then: || std::thread::sleep(LONG) }, 0));
        drop(file.read_at(vec![0u8; 512 << 20], 0));
        let started = Instant::now();
        let mut longest = Duration::ZERO;
        while started.elapsed() < LONG {
            let begun = Instant::now();
            file.read_exact_at(vec![0; 512], 0).wait().result.expect("a read");
            longest = longest.max(begun.elapsed());
        }
        assert!(longest < LONG / 2, "a read of 512 bytes took {longest:?}");
    }
}
