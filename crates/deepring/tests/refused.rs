//! `io_uring` refused, before an engine starts or while it runs: the replacement reports why, and
//! does everything the ring does.
//!
//! Each test runs in a child process, because a system-call filter cannot be removed.

mod harness;

use deepring::{BackendKind, Completed, Direct, Engine, ErrorKind};
use harness::child::{again, alone_with, become_nobody, directory_for_all, forbid, limit};
use harness::disk::as_root;
use harness::{Slice, assert_same, backends, bytes, contract, directory, eventually, open, rings_count_as_locked, skip, within};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

const SETUP: libc::c_long = libc::SYS_io_uring_setup;
const ENTER: libc::c_long = libc::SYS_io_uring_enter;
const REGISTER: libc::c_long = libc::SYS_io_uring_register;

/// Runs `body` in a child process whose environment names no backend.
fn alone(body: impl FnOnce(&Path)) {
    if !backends().contains(&BackendKind::Uring) {
        return skip("DEEPRING_BACKEND names the other backend");
    }
    let prepare = |command: &mut std::process::Command| {
        command.env_remove("DEEPRING_BACKEND");
    };
    alone_with(prepare, || body(directory().path()));
}

fn engine() -> Engine {
    Engine::builder().build().expect("an engine on any backend")
}

/// Asserts that the engine runs on threads, that its reason contains these words, and that it keeps
/// the contract.
#[track_caller]
fn check_threads(engine: &Engine, words: &[&str], place: &Path) {
    let info = engine.info();
    assert_eq!((info.backend, info.ring_entries, info.flags.len()), (BackendKind::Threads, 0, 0), "{}", info.reason);
    for word in words {
        assert!(info.reason.contains(word), "'{word}' is missing in: {}", info.reason);
    }
    contract::assert_kept(engine, place);
}

#[track_caller]
fn check_ring(engine: &Engine, place: &Path) {
    let info = engine.info();
    assert_eq!(info.backend, BackendKind::Uring, "{}", info.reason);
    contract::assert_kept(engine, place);
}

// ---- before an engine starts ----

#[test]
fn when_seccomp_forbids_setup_threads_keep_the_contract() {
    alone(|place| {
        forbid(SETUP, libc::EPERM, false);
        check_threads(&engine(), &["io_uring_setup", "seccomp"], place);
    });
}

#[test]
fn when_the_kernel_has_no_setup_threads_keep_the_contract() {
    alone(|place| {
        forbid(SETUP, libc::ENOSYS, false);
        check_threads(&engine(), &["io_uring_setup", "not available", "5.6"], place);
    });
}

#[test]
fn when_seccomp_forbids_enter_threads_keep_the_contract() {
    alone(|place| {
        forbid(ENTER, libc::EPERM, false);
        check_threads(&engine(), &["io_uring_enter", "seccomp"], place);
    });
}

#[test]
fn when_the_kernel_has_no_enter_threads_keep_the_contract() {
    alone(|place| {
        forbid(ENTER, libc::ENOSYS, false);
        check_threads(&engine(), &["io_uring_enter", "not available"], place);
        eventually(LIMIT, "no thread is left", || harness::task::ours().is_empty());
    });
}

#[test]
fn when_seccomp_forbids_register_the_ring_keeps_the_contract() {
    alone(|place| {
        forbid(REGISTER, libc::EPERM, false);
        check_ring(&engine(), place);
    });
}

#[test]
fn when_the_kernel_has_no_register_the_ring_keeps_the_contract() {
    alone(|place| {
        forbid(REGISTER, libc::ENOSYS, false);
        check_ring(&engine(), place);
    });
}

#[test]
fn threads_requested_by_the_environment_keep_the_contract() {
    let prepare = |command: &mut std::process::Command| {
        command.env("DEEPRING_BACKEND", "threads");
    };
    alone_with(prepare, || check_threads(&engine(), &["DEEPRING_BACKEND"], directory().path()));
}

// ---- memory for the ring ----

/// Runs `body` as an ordinary user who can lock this much memory, in a directory of that user.
fn as_nobody(memlock_bytes: u64, body: impl FnOnce(&Path)) {
    // Memory that one process of a user locks is missing for the user's other processes.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    as_root(|| {
        alone(|_| {
            let place = directory_for_all(0o777);
            limit(libc::RLIMIT_MEMLOCK, memlock_bytes);
            become_nobody();
            body(place.path());
        });
    });
}

#[test]
fn an_ordinary_user_with_eight_megabytes_gets_the_requested_ring() {
    as_nobody(8 << 20, |place| {
        let engine = engine();
        let info = engine.info();
        assert_eq!(info.memlock_bytes, Some(8 << 20));
        check_ring(&engine, place);
        drop(engine);
        let deep = Engine::builder().queue_depth(4096).build().expect("an engine");
        assert!(deep.info().ring_entries >= 4096, "a ring of {} entries", deep.info().ring_entries);
        // Buffers are not registered, so they are not charged, however many there are.
        let buffers: Vec<_> = (0..8).map(|_| deep.buffer(8 << 20).expect("memory")).collect();
        drop(buffers);
    });
}

#[test]
fn an_ordinary_user_with_little_memory_gets_rings_until_it_is_used_up_then_threads() {
    if !rings_count_as_locked() {
        return;
    }
    as_nobody(64 << 10, |place| {
        // The kernel frees the memory locked by the rings of other processes some time after those
        // have ended.
        let mut first = engine();
        eventually(LIMIT, "a ring is available", || {
            first = engine();
            first.info().backend == BackendKind::Uring
        });
        check_ring(&first, place);
        // Rings of the same user share the limit.
        let mut others = Vec::new();
        while others.len() < 64 {
            let engine = engine();
            let backend = engine.info().backend;
            others.push(engine);
            if backend == BackendKind::Threads {
                break;
            }
        }
        let last = others.pop().expect("an engine");
        check_threads(&last, &["memory", "64 KiB", "ulimit -l"], place);
        contract::assert_kept(&first, place);
        // Memory that is freed becomes available again.
        drop((last, others));
        eventually(LIMIT, "a ring is available again", || engine().info().backend == BackendKind::Uring);
    });
}

#[test]
fn an_ordinary_user_without_lockable_memory_gets_threads() {
    if !rings_count_as_locked() {
        return;
    }
    as_nobody(0, |place| {
        check_threads(&engine(), &["memory", "0 KiB", "ulimit -l"], place);
    });
}

// ---- while an engine runs ----

#[test]
fn a_running_engine_needs_neither_setup_nor_register() {
    alone(|place| {
        let running = engine();
        check_ring(&running, place);
        forbid(SETUP, libc::EPERM, true);
        forbid(REGISTER, libc::ENOSYS, true);
        check_ring(&running, place);
        check_threads(&engine(), &["io_uring_setup", "seccomp"], place);
    });
}

/// Takes the ring away from an engine with reads in it, and asserts the outcome of both.
fn lose_ring_in_flight(errno: i32) {
    const LEN: usize = 1 << 20;
    alone(|place| {
        let path = place.join("data");
        std::fs::write(&path, bytes(0, 64 << 20, 1)).expect("the file");
        let engine = engine();
        let file = open(&engine, &path, Direct::Prefer);
        // Before the first read: a slow processor allocates memory more slowly than a drive reads,
        // and nothing would be in flight.
        let slices: Vec<_> = (0..64).map(|_| Slice::new(LEN, 0, 0)).collect();
        let mut ops = Vec::new();
        for (index, slice) in (0u64..).zip(slices) {
            ops.push(file.read_exact_at(slice, index << 20));
            if index == 40 {
                forbid(ENTER, errno, true);
            }
        }
        let mut lost = 0;
        for (index, op) in (0u64..).zip(ops) {
            let Completed { buf, result } = op.wait();
            match result {
                Ok(_) => assert_same(buf.expect("the buffer").content(), &bytes(index << 20, LEN, 1), "what was read"),
                Err(error) => {
                    assert_eq!((error.kind(), error.position()), (ErrorKind::Lost, Some(index << 20)), "{error}");
                    assert!(buf.is_none(), "memory the kernel can still write to does not come back");
                    lost += 1;
                }
            }
        }
        if lost == 0 {
            again("the reads ended before the ring was lost");
        }
        let stats = engine.stats();
        assert!(stats.leaked >= lost && stats.leaked_bytes >= lost, "{stats:?}");
        assert_eq!(stats.failed, lost, "{stats:?}");
        file.close().wait().expect("close");
        check_threads(&engine, &["lost", &format!("error {errno}")], place);
        assert_eq!(engine.stats().leaked, stats.leaked, "nothing more is lost on threads");
        within(LIMIT, "dropping an engine whose ring was lost", move || drop(engine));
    });
}

#[test]
fn a_ring_forbidden_in_flight_loses_only_what_was_in_it_and_threads_keep_the_contract() {
    lose_ring_in_flight(libc::EPERM);
}

#[test]
fn a_ring_whose_call_vanishes_in_flight_loses_only_what_was_in_it_and_threads_keep_the_contract() {
    lose_ring_in_flight(libc::ENOSYS);
}

#[test]
fn a_ring_forbidden_while_idle_loses_at_most_the_next_request() {
    alone(|place| {
        let path = place.join("data");
        std::fs::write(&path, bytes(0, 10_000, 1)).expect("the file");
        let engine = engine();
        let file = open(&engine, &path, Direct::Prefer);
        file.read_exact_at(vec![0; 10_000], 0).wait().result.expect("a read");
        forbid(ENTER, libc::EPERM, true);
        if let Err(error) = file.read_exact_at(vec![0; 10_000], 0).wait().result {
            assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        }
        let (buf, _) = file.read_exact_at(vec![0; 10_000], 0).wait().ok().expect("a read on threads");
        assert_same(&buf, &bytes(0, 10_000, 1), "what was read");
        file.close().wait().expect("close");
        check_threads(&engine, &["lost"], place);
    });
}
