//! `Engine::run_blocking`: the program's work on blocking threads of the engine.

use crate::harness::gate::Gate;
use crate::harness::{bytes, directory, engines, open, within};
use deepring::{Direct, ErrorKind};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_job_runs_on_a_blocking_thread_and_its_value_is_the_task_s() {
    for engine in engines() {
        within(LIMIT, "a job", move || {
            let caller = std::thread::current().id();
            let (thread, name) = engine.run_blocking(|| (std::thread::current().id(), thread_name())).wait().expect("a value");
            assert!(thread != caller && name.starts_with("deepring-help-"), "{name}");
        });
    }
}

fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[test]
fn a_job_that_does_not_end_keeps_neither_its_caller_nor_the_driver() {
    let place = directory();
    for engine in engines() {
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        within(LIMIT, "requests beside jobs that wait", move || {
            let file = open(&engine, &path, Direct::Prefer);
            // More than run at once.
            let (senders, tasks): (Vec<_>, Vec<_>) = (0..20)
                .map(|index| {
                    let (sender, receiver) = mpsc::channel::<()>();
                    (sender, engine.run_blocking(move || receiver.recv().map_or(index, |()| 0)))
                })
                .unzip();
            let (read, _) = file.read_exact_at(vec![0; 5000], 0).wait().ok().expect("a read");
            assert_eq!(read, bytes(0, 5000, 1));
            file.sync_all().wait().expect("a sync");
            assert_eq!(engine.run_blocking(|| 7).wait().expect("a job behind them"), 7);
            drop(senders);
            for (index, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.wait().expect("a value"), index);
            }
        });
    }
}

#[test]
fn a_job_can_wait_for_transfers_and_the_driver_can_stand_still_meanwhile() {
    let place = directory();
    for engine in engines() {
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        within(LIMIT, "a job that reads", move || {
            let file = open(&engine, &path, Direct::Prefer);
            let gate = Gate::close(&file);
            assert_eq!(engine.run_blocking(|| 7).wait().expect("a value"), 7);
            let clone = file.try_clone().expect("a clone");
            let reading = engine.run_blocking(move || clone.read_exact_at(vec![0; 5000], 0).wait().ok().map(|(read, _)| read));
            drop(gate);
            assert_eq!(reading.wait().expect("a value").expect("a read"), bytes(0, 5000, 1));
        });
    }
}

#[test]
fn a_job_that_panics_is_an_error_and_counted() {
    for engine in engines() {
        within(LIMIT, "a panic", move || {
            let task = engine.run_blocking(|| -> u8 { resume_unwind(Box::new("the program's code")) });
            let error = task.wait().expect_err("it panicked");
            assert_eq!((error.kind(), error.syscall(), engine.stats().panics), (ErrorKind::Panicked, "run_blocking", 1));
            assert_eq!(engine.run_blocking(|| 7).wait().expect("the next"), 7);
        });
    }
}

/// Set when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn the_end_of_an_engine_waits_for_its_jobs_and_then_none_is_accepted() {
    for engine in engines() {
        within(LIMIT, "the end", move || {
            let ended = Arc::new(AtomicBool::new(false));
            let late = Arc::clone(&ended);
            // Its task is dropped, which does not cancel it.
            drop(engine.run_blocking(move || {
                std::thread::sleep(Duration::from_millis(30));
                late.store(true, Ordering::SeqCst);
            }));
            engine.clone().close().wait().expect("the end");
            assert!(ended.load(Ordering::SeqCst), "the job has ended");
            let dropped = Arc::new(AtomicBool::new(false));
            let flag = Flag(Arc::clone(&dropped));
            let error = engine.run_blocking(move || drop(flag)).wait().expect_err("it is closed");
            assert_eq!((error.kind(), error.syscall()), (ErrorKind::Closed, "run_blocking"));
            assert!(dropped.load(Ordering::SeqCst), "what the job holds is dropped");
        });
    }
}
