//! Engines and processes that end.

use super::{LIMIT, data_file, occupy_blocking_threads};
use crate::harness::child::{alone, alone_ending};
use crate::harness::gate::Gate;
use crate::harness::{READ_WRITE, assert_same, builders, bytes, directory, engines, eventually, open, patient, task, within};
use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{Completed, Direct, Direction, Engine, ErrorKind, File, OpenOptions};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Counts how often it is settled.
#[derive(Default)]
struct SettleCount {
    settled: AtomicU32,
    kind: Mutex<Option<ErrorKind>>,
}

impl Completion for SettleCount {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        *self.kind.lock().expect("the kind") = outcome.result.err().map(|error| error.kind());
        self.settled.fetch_add(1, Ordering::AcqRel);
    }
    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn an_engine_dropped_with_thousands_queued_settles_each_request_once() {
    let place = directory();
    let path = data_file(place.path(), 16);
    for builder in builders() {
        let engine = builder.build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let memory = Box::leak(vec![0u8; 5 << 20].into_boxed_slice()).as_mut_ptr() as u64;
        let gate = Gate::close(&file);
        let completions: Vec<Arc<SettleCount>> = (0..20_000u64)
            .map(|index| {
                let completion = Arc::new(SettleCount::default());
                let len = if index % 100 == 0 { 4 << 20 } else { 4096 };
                let transfer = RawTransfer::new(Direction::Read, memory, len, index % 1000 * 4096).exact(true);
                let its = Arc::clone(&completion) as Arc<dyn Completion>;
                if index % 10 == 9 {
                    // SAFETY: the memory is leaked; reads into it race only with each other, and
                    // nothing reads the result.
                    unsafe { engine.submit_path(&path, false, 0o600, transfer, its) };
                } else {
                    // SAFETY: as above.
                    unsafe { file.submit(transfer, its) };
                }
                completion
            })
            .collect();
        engine.wake();
        drop(gate);
        std::thread::sleep(Duration::from_millis(2));
        let started = Instant::now();
        drop((file, engine));
        let took = started.elapsed();
        let mut canceled = 0;
        for completion in &completions {
            assert_eq!(completion.settled.load(Ordering::Acquire), 1, "settled once, before the drop returned");
            match *completion.kind.lock().expect("the kind") {
                None => {}
                Some(ErrorKind::Canceled) => canceled += 1,
                Some(other) => panic!("an operation ended as {other:?}"),
            }
        }
        assert!(canceled > 0, "nothing was left to cancel, so this run proved nothing");
        assert!(took < Duration::from_secs(10), "the drop took {took:?}");
    }
}

#[test]
fn an_operation_that_outlives_its_engine_still_settles() {
    let place = directory();
    let path = data_file(place.path(), 16);
    for builder in builders() {
        let engine = builder.queue_depth(1).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let ops: Vec<_> = (0..200u64).map(|index| file.read_at(vec![0; 70_000], index * 70_000)).collect();
        let sync = file.sync_all();
        drop(file);
        drop(engine);
        within(LIMIT, "operations of an engine that is gone", move || {
            for (index, op) in ops.into_iter().enumerate() {
                let Completed { buf, result } = op.wait();
                let buf = buf.expect("the buffer");
                match result {
                    Ok(_) => assert_same(&buf, &bytes(index as u64 * 70_000, 70_000, 1), "what was read"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Canceled, "{error}"),
                }
            }
            if let Err(error) = sync.wait() {
                assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
            }
        });
    }
}

/// Drops what it holds when it is settled, on a thread of the engine.
struct LastHolder {
    held: Mutex<Option<(File, Engine)>>,
    sender: Mutex<mpsc::Sender<String>>,
}

impl Completion for LastHolder {
    fn settle(self: Arc<Self>, _: Outcome) {
        drop(self.held.lock().expect("what it holds").take());
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.sender.lock().expect("the sender").send(name).expect("a listener");
    }
    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn an_engine_can_be_dropped_by_its_own_completion() {
    alone(|| {
        let place = directory();
        let path = data_file(place.path(), 4);
        for builder in builders() {
            let engine = builder.build().expect("an engine");
            // By the completion of a transfer, on the driver's thread, with more requests behind
            // it.
            let (sender, receiver) = mpsc::channel();
            let file = open(&engine, &path, Direct::Prefer);
            let memory = Box::leak(vec![0u8; 4096].into_boxed_slice()).as_mut_ptr() as u64;
            let transfer = RawTransfer::new(Direction::Read, memory, 4096, 0).exact(true);
            let behind: Vec<_> = (0..100).map(|_| file.read_at(vec![0; 100_000], 7)).collect();
            let second = open(&engine, &path, Direct::Prefer);
            let holder = LastHolder { held: Mutex::new(None), sender: Mutex::new(sender) };
            let holder = Arc::new(holder);
            *holder.held.lock().expect("what it holds") = Some((second, engine.clone()));
            // SAFETY: the memory is leaked and nothing else uses it.
            unsafe { file.submit(transfer, holder) };
            file.engine().wake();
            drop((file, engine));
            receiver.recv_timeout(patient(LIMIT)).expect("the completion, and a drop that does not wait for itself");
            for op in behind {
                if let Err(error) = op.wait().result {
                    assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
                }
            }
            eventually(LIMIT, "the engine's threads have ended", || task::ours().is_empty());
        }
        for builder in builders() {
            let engine = builder.build().expect("an engine");
            // By the callback of an open, on a blocking thread.
            let (sender, receiver) = mpsc::channel();
            let kept = engine.clone();
            engine.open_then(&path, OpenOptions::new().read(true), move |file| {
                drop(file);
                drop(kept);
                sender.send(()).expect("a listener");
            });
            drop(engine);
            receiver.recv_timeout(patient(LIMIT)).expect("the callback, and a drop that does not wait for itself");
            eventually(LIMIT, "the engine's threads have ended", || task::ours().is_empty());
        }
    });
}

#[test]
fn engines_leave_neither_threads_nor_descriptors_behind() {
    alone(|| {
        let place = directory();
        let path = data_file(place.path(), 4);
        let threads = task::all().len();
        // Counts what the first engine creates for good, but not a thread that is about to end: a
        // joined thread is listed a little longer.
        drop(engines());
        eventually(LIMIT, "the first engines' threads are gone", || task::all().len() == threads);
        let descriptors = task::descriptors();
        let mut kept = Vec::new();
        for round in 0..10u64 {
            for engine in engines() {
                let file = open(&engine, &path, Direct::Prefer);
                // An operation that the caller keeps holds neither the file open nor the engine
                // alive.
                kept.push(file.read_at(vec![0; 10], round));
                drop(file.stat());
                let other = engine.open_async(&path, READ_WRITE);
                drop(file.read_at(vec![0; 1 << 20], round));
                drop(file.write_at(bytes(10, 100, 1), 10));
                drop(engine.read_file(&path, vec![0; 4 << 20]));
                drop(file.sync_all());
                if round % 2 == 0 {
                    drop(file.close());
                }
                drop(other);
            }
        }
        eventually(LIMIT, "all threads are gone", || task::all().len() == threads);
        eventually(Duration::from_secs(5), "all files are closed", || !task::has_open(&path));
        drop(kept);
        eventually(Duration::from_secs(5), "all descriptors are gone", || task::descriptors() == descriptors);
    });
}

#[test]
fn a_started_program_inherits_no_descriptor() {
    let place = directory();
    let path = data_file(place.path(), 1);
    let engines = engines();
    let _files: Vec<_> = engines.iter().map(|engine| open(engine, &path, Direct::Prefer)).collect();
    let listed = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("ls");
    let listed = String::from_utf8_lossy(&listed.stdout);
    for ours in ["io_uring", "eventfd", "data"] {
        assert!(!listed.contains(ours), "a descriptor was inherited: {listed}");
    }
}

#[test]
fn a_process_can_exit_with_operations_in_flight() {
    alone_ending(|| {
        let place = std::mem::ManuallyDrop::new(directory());
        // Removed while it is open, because the process ends before it could be removed.
        let path = data_file(place.path(), 32);
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            for index in 0..64u64 {
                std::mem::forget(file.read_at(vec![0; 1 << 20], (index % 32) << 20));
                std::mem::forget(file.write_at(bytes(0, 5000, 1), index * 4999));
            }
            std::mem::forget((file, engine));
        }
        std::fs::remove_dir_all(place.path()).expect("the directory");
    });
}

#[test]
fn an_operation_kept_after_its_engine_keeps_no_file_open() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for builder in builders() {
        let engine = builder.build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let op = file.read_at(vec![0; 10], 0);
        let stalled = occupy_blocking_threads(&engine, &path);
        // It runs only after the driver has ended.
        let stat = file.stat();
        let ending = std::thread::spawn(move || drop((file, engine)));
        std::thread::sleep(Duration::from_millis(50));
        drop(stalled);
        ending.join().expect("the engine has ended");
        stat.wait().expect("stat");
        assert!(!task::has_open(&path), "the file is still open after its engine has ended");
        drop(op);
    }
}
