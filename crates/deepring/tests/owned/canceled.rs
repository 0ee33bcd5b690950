//! Operations that are canceled.

use super::{LIMIT, data_file, occupy_blocking_threads, occupy_opening_threads};
use crate::harness::child::alone;
use crate::harness::gate::Gate;
use crate::harness::{assert_file, assert_same, builders, bytes, directory, engines, eventually, open, patient, within};
use deepring::binding::{EngineBinding, FileBinding};
use deepring::{Completed, Direct, ErrorKind, Op};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

#[test]
fn a_queued_operation_that_is_canceled_ends_and_does_nothing() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let old = bytes(0, 20_000, 1);
        std::fs::write(&path, &old).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let gate = Gate::close(&file);
        let writes: Vec<_> = (0..20u64).map(|index| file.write_at(vec![9; 3000], index * 2999)).collect();
        let reads: Vec<_> = (0..20).map(|_| file.read_exact_at(vec![7; 3000], 5)).collect();
        let new = place.path().join("new");
        let by_path = engine.write_file(&new, vec![9; 100]);
        writes.iter().for_each(Op::cancel);
        reads.iter().for_each(Op::cancel);
        by_path.cancel();
        drop(gate);
        for op in writes.into_iter().chain(reads) {
            let Completed { buf, result } = op.wait();
            let error = result.expect_err("it was canceled while it was queued");
            assert_eq!((error.kind(), error.transferred()), (ErrorKind::Canceled, 0), "{error}");
            assert_eq!((error.path(), error.requested()), (Some(path.as_path()), 3000));
            let buf = buf.expect("the buffer");
            assert!(buf.iter().all(|&byte| byte == 9) || buf.iter().all(|&byte| byte == 7), "the buffer is untouched");
        }
        assert_eq!(by_path.wait().result.expect_err("canceled").kind(), ErrorKind::Canceled);
        assert!(!new.exists(), "nothing was created");
        assert_file(&path, &old, "after writes that were canceled in the queue");
        let stats = engine.stats();
        assert_eq!((stats.canceled, stats.queued, stats.failed), (41, 0, 0));
    }
}

#[test]
fn an_operation_canceled_in_flight_reports_the_bytes_transferred() {
    const LEN: usize = 48 << 20;
    let place = directory();
    let path = place.path().join("file");
    let content = bytes(0, LEN, 2);
    for builder in builders() {
        let engine = builder.queue_depth(4).block_bytes(256 << 10).build().expect("an engine");
        let mut canceled = 0;
        for pause in [0, 200, 500, 1000, 2000, 4000, 8000] {
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let file = open(&engine, &path, Direct::Prefer);
            let op = file.write_at(content.clone(), 0);
            std::thread::sleep(Duration::from_micros(pause));
            op.cancel();
            let Completed { buf, result } = op.wait();
            assert_same(&buf.expect("the buffer"), &content, "a write leaves its memory alone");
            let done = match result {
                Ok(receipt) => receipt.bytes as usize,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
                    canceled += 1;
                    error.transferred() as usize
                }
            };
            let mut model = content[..done].to_vec();
            if done < 5000 {
                model.extend(bytes(done as u64, 5000 - done, 1));
            }
            assert_file(&path, &model, &format!("canceled after {pause} us, {done} bytes done"));
        }
        assert!(canceled > 0, "no cancellation came in time, so this run proved nothing");
        std::fs::write(&path, &content).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        for pause in [0, 1000, 3000] {
            let op = file.read_exact_at(vec![0; LEN], 0);
            std::thread::sleep(Duration::from_micros(pause));
            op.cancel();
            let Completed { buf, result } = op.wait();
            let done = match result {
                Ok(receipt) => receipt.bytes as usize,
                Err(error) => error.transferred() as usize,
            };
            assert_same(&buf.expect("the buffer")[..done], &content[..done], "what had been read");
        }
    }
}

#[test]
fn canceling_a_finished_operation_changes_nothing() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let op = file.read_exact_at(vec![0; 5000], 3);
        eventually(LIMIT, "the read is done", || format!("{op:?}") == "Op(done)");
        op.cancel();
        op.cancel();
        let (buf, _) = op.wait().ok().expect("a read that was done");
        assert_same(&buf, &bytes(3, 5000, 1), "what was read");
        assert_eq!(engine.stats().canceled, 0);
    }
}

#[test]
fn a_waiting_sync_can_be_canceled() {
    let place = directory();
    let path = place.path().join("file");
    // The write they wait for belongs to another engine, whose driver is held still.
    for (waiting, holding) in engines().into_iter().zip(engines().into_iter().rev()) {
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        let (file, other) = (open(&waiting, &path, Direct::Prefer), open(&holding, &path, Direct::Prefer));
        let gate = Gate::close(&other);
        let write = other.write_at(bytes(0, 100, 2), 0);
        let (canceled, (sender, receiver)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let its = sender.clone();
        file.sync_then(false, Arc::clone(&canceled), move |result| its.send(("sync", result)).expect("a listener"));
        assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err(), "the sync waits for the write");
        canceled.store(true, Ordering::Release);
        waiting.sweep();
        let (_, result) = receiver.recv_timeout(patient(LIMIT)).expect("the sync ends");
        assert_eq!(result.expect_err("it was canceled").kind(), ErrorKind::Canceled);
        drop(gate);
        write.wait().result.expect("the write goes on");
        file.sync_all().wait().expect("another sync");
        file.set_len(77).wait().expect("set_len");
        assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 77);
    }
}

/// An operation that uses a descriptor after it was closed uses whichever file got that number
/// next.
#[test]
fn a_close_waits_for_truncations_and_syncs_that_are_waiting() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        for (acting, holding) in engines().into_iter().zip(engines().into_iter().rev()) {
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let (file, other) = (open(&acting, &path, Direct::Prefer), open(&holding, &path, Direct::Prefer));
            // A write that has begun but cannot proceed, because no blocking thread makes room for
            // it.
            let stalled = occupy_blocking_threads(&holding, &path);
            let write = other.write_at(bytes(5000, 5000, 1), 5000);
            // The driver has seen the write once a read submitted after it is done.
            other.read_at(vec![0; 1], 0).wait().result.expect("a read");
            let truncation = file.set_len(77);
            let sync = file.sync_all();
            let close = file.close();
            std::thread::sleep(Duration::from_millis(50));
            // If the descriptor was closed, a file opened now can get its number.
            let victims: Vec<_> = (0..8).map(|index| place.path().join(format!("victim{index}"))).collect();
            let opened: Vec<_> = victims
                .iter()
                .map(|victim| {
                    std::fs::write(victim, bytes(0, 5000, 3)).expect("a victim");
                    std::fs::OpenOptions::new().read(true).write(true).open(victim).expect("a victim")
                })
                .collect();
            drop(stalled);
            write.wait().result.expect("the write");
            truncation.wait().expect("set_len");
            sync.wait().expect("sync");
            close.wait().expect("close");
            for victim in &victims {
                assert_file(victim, &bytes(0, 5000, 3), "an unrelated file");
            }
            assert_file(&path, &bytes(0, 77, 1), "the file itself");
            drop(opened);
        }
    });
}

#[test]
fn requests_waiting_for_another_engine_are_canceled_when_their_own_engine_is_dropped() {
    let place = directory();
    let path = place.path().join("file");
    for (leaving, holding) in engines().into_iter().zip(engines().into_iter().rev()) {
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        let (file, other) = (open(&leaving, &path, Direct::Prefer), open(&holding, &path, Direct::Prefer));
        let stalled = occupy_blocking_threads(&holding, &path);
        let write = other.write_at(bytes(5000, 5000, 1), 5000);
        // The driver has seen the write once a read submitted after it is done.
        other.read_at(vec![0; 1], 0).wait().result.expect("a read");
        let (truncation, sync) = (file.set_len(77), file.sync_all());
        let waiting = file.write_at(bytes(100, 10, 9), 100);
        let close = file.close();
        within(LIMIT, "dropping an engine whose requests wait for another engine", move || {
            drop(leaving);
            for task in [truncation, sync] {
                assert_eq!(task.wait().expect_err("its engine is gone").kind(), ErrorKind::Canceled);
            }
            assert_eq!(waiting.wait().result.expect_err("it waited for the truncation").kind(), ErrorKind::Canceled);
            close.wait().expect("a close is never canceled");
        });
        drop(stalled);
        write.wait().result.expect("the other engine's write");
        // The announced truncation is withdrawn: other writes can run.
        other.write_at(bytes(10_000, 100, 1), 10_000).wait().result.expect("a write");
        assert_file(&path, &bytes(0, 10_100, 1), "after one engine left");
    }
}

/// An empty write leaves no bytes to check, so only the engine knows that it never began.
#[test]
fn a_canceled_empty_whole_file_write_neither_runs_nor_succeeds() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let other = open(&engine, &path, Direct::Prefer);
        let stalled = occupy_opening_threads(&engine, &path);
        let write = engine.write_file(&path, Vec::new());
        // The driver has seen the write once a read submitted after it is done. The file cannot be
        // opened while the blocking threads are occupied.
        other.read_at(vec![0; 1], 0).wait().result.expect("a read");
        write.cancel();
        drop(stalled);
        assert_eq!(write.wait().result.expect_err("it was canceled").kind(), ErrorKind::Canceled);
        assert_eq!(std::fs::metadata(&path).expect("the file").len(), 1 << 20, "the file was truncated");
    }
}
