//! Promise: **honest**. The engine reports what ran and why: which backend, direct or buffered,
//! with what limits, and what each request cost. What a caller requires is provided or refused,
//! never silently replaced.

mod harness;

use deepring::binding::FileBinding;
use deepring::{BackendKind, Direct, Engine, ErrorKind, OpenOptions, QUEUE_DEPTH_DEFAULT, WindowMode};
use harness::child::{alone, alone_with, become_nobody, directory_for_all, forbid, limit};
use harness::disk::as_root;
use harness::{
    MODES, Slice, assert_same, backends, builders, bytes, directory, engines, eventually, is_direct, open, patient, rings_count_as_locked,
    skip,
};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

// ---- the engine ----

#[test]
fn info_reports_backend_reason_and_limits() {
    for backend in backends() {
        let engine = Engine::builder()
            .backend(backend)
            .queue_depth(24)
            .block_bytes(100_000)
            .in_flight_bytes(5 << 20)
            .max_queued(1000)
            .build()
            .expect("an engine");
        let info = engine.info();
        assert_eq!((info.backend, info.queue_depth, info.max_queued), (backend, Some(24), 1000));
        assert_eq!((info.block_bytes, info.in_flight_bytes), (102_400, 5 << 20), "blocks are rounded up to whole pages");
        assert_eq!(info.reason, "asked for by the engine's options");
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc");
        assert_eq!(info.kernel, kernel.trim());
        assert_eq!(info.ring_entries > 0, backend == BackendKind::Uring);
        assert_eq!(info.flags.is_empty(), backend == BackendKind::Threads);
        assert!(info.ring_entries == 0 || info.ring_entries >= 24, "a ring of {} for a depth of 24", info.ring_entries);
        let plain = Engine::builder().backend(backend).build().expect("an engine").info();
        assert_eq!((plain.queue_depth, plain.block_bytes, plain.in_flight_bytes, plain.max_queued), (None, 4 << 20, 256 << 20, 1 << 20));
        assert_eq!(plain.memlock_bytes, memlock());
    }
    assert_eq!(QUEUE_DEPTH_DEFAULT, 128);
}

fn memlock() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/limits").expect("/proc");
    let line = text.lines().find(|line| line.starts_with("Max locked memory")).expect("the limit");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok())
}

#[test]
fn path_info_reports_device_depth_file_system_and_direct_support() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, b"something").expect("the file");
    let engine = Engine::builder().queue_depth(7).build().expect("an engine");
    let of_file = engine.path_info(&path).expect("a file");
    let of_directory = engine.path_info(place.path()).expect("a directory");
    for info in [&of_file, &of_directory] {
        assert!(!info.device.is_empty() && !info.file_system.is_empty() && !info.direct_io.reason.is_empty(), "{info:?}");
        assert!(info.queue_depth >= 1 && info.queue_depth <= 7 && info.device_requests >= info.queue_depth, "{info:?}");
        if info.direct_io.available {
            assert!(info.direct_io.offset_alignment.is_power_of_two() && info.direct_io.memory_alignment.is_power_of_two(), "{info:?}");
        }
    }
    assert_eq!(
        (&of_file.device, &of_file.file_system, &of_file.direct_io),
        (&of_directory.device, &of_directory.file_system, &of_directory.direct_io)
    );
    assert_eq!(std::fs::read_dir(place.path()).expect("the directory").count(), 1, "path_info left nothing behind");
    assert_eq!(engine.path_info(place.path().join("missing")).expect_err("missing").code(), "ENOENT");
    let memory = engine.path_info("/dev/shm");
    if let Ok(memory) = memory {
        assert_eq!((memory.file_system.as_str(), memory.direct_io.available, memory.direct_io.offset_alignment), ("tmpfs", false, 1));
    }
}

// ---- requests ----

#[test]
fn a_receipt_reports_copied_bytes_and_whether_the_page_cache_was_bypassed() {
    const LEN: usize = 6 << 20;
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, LEN, 1)).expect("the file");
    let direct_here = is_direct(place.path());
    for builder in builders() {
        // A window that is searched for can make blocks smaller.
        let engine = builder.window(WindowMode::Fixed).build().expect("an engine");
        for direct in MODES {
            let file = open(&engine, &path, direct);
            let bypasses = direct_here && direct == Direct::Prefer;
            assert_eq!(file.direct(), bypasses);
            assert_eq!(file.direct_support().available, bypasses);
            let aligned = engine.buffer(LEN).expect("memory");
            let (aligned, receipt) = file.read_exact_at(aligned, 0).wait().ok().expect("a read");
            assert_eq!((receipt.bytes, receipt.bounced, receipt.blocks, receipt.direct), (LEN as u64, 0, 2, bypasses), "{receipt:?}");
            assert_eq!((receipt.backend, receipt.resumed), (engine.info().backend, 0));
            assert!(receipt.device > Duration::ZERO);
            let (_, receipt) = file.write_at(aligned, 0).wait().ok().expect("a write");
            assert_eq!((receipt.bytes, receipt.bounced, receipt.direct), (LEN as u64, 0, bypasses), "{receipt:?}");
            // Memory at an odd address is copied in full, and only if the page cache is bypassed.
            let (_, receipt) = file.read_exact_at(Slice::new(LEN, 1, 0), 0).wait().ok().expect("a read");
            assert_eq!(receipt.bounced, if bypasses { LEN as u64 } else { 0 }, "{receipt:?}");
            // At an odd position only the edges are copied.
            let (buf, receipt) = file.read_exact_at(Slice::new(LEN - 200, 100, 0), 100).wait().ok().expect("a read");
            assert_same(buf.content(), &bytes(100, LEN - 200, 1), "what was read");
            let edges = 1..=2 * 4096;
            assert!(if bypasses { edges.contains(&receipt.bounced) } else { receipt.bounced == 0 }, "{receipt:?}");
            // A file that ends inside the request is not a resumption; the receipt counts the bytes
            // that exist.
            let (_, receipt) = file.read_at(vec![0; 10_000], LEN as u64 - 700).wait().ok().expect("a read");
            assert_eq!(receipt.bytes, 700);
        }
    }
}

#[test]
fn stats_count_every_request_and_every_byte() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        for index in 0..10u64 {
            file.write_at(bytes(index * 1000, 1000, 1), index * 1000).wait().result.expect("a write");
        }
        for index in 0..5u64 {
            file.read_exact_at(vec![0; 2000], index * 2000).wait().result.expect("a read");
        }
        file.read_exact_at(vec![0; 10], 10_000).wait().result.expect_err("past the end");
        let (buf, _) = engine.read_file(&path, engine.buffer(10_000).expect("memory")).wait().ok().expect("read_file");
        let stats = engine.stats();
        assert_eq!((stats.submitted, stats.completed, stats.failed, stats.canceled), (17, 16, 1, 0));
        assert_eq!((stats.written_bytes, stats.read_bytes), (10_000, 20_000));
        assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes), (0, 0, 0));
        assert!(stats.in_flight_max >= 1);
        assert_eq!(stats.latency.count, 16);
        let latency = &stats.latency;
        let order = [latency.min_us, latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
        assert!(order.is_sorted(), "{latency:?}");
        assert_eq!((stats.buffers, stats.buffer_bytes), (1, buf.len().next_multiple_of(4096) as u64), "only what is handed out");
        drop(buf);
        assert_eq!((engine.stats().buffers, engine.stats().buffer_bytes), (0, 0));
        std::fs::remove_file(&path).expect("the file");
    }
}

#[test]
fn bounce_blocks_are_not_counted_as_buffers_handed_out() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 4 << 20, 1)).expect("the file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let op = file.read_exact_at(Slice::new(4 << 20, 1, 0), 0);
        let mut most = 0;
        while format!("{op:?}") == "Op(pending)" {
            most = most.max(engine.stats().buffers);
        }
        op.wait().result.expect("a read");
        assert_eq!(most, 0, "no buffer was handed out");
    }
}

#[test]
fn an_error_states_everything_in_one_line() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let error = file.read_exact_at(vec![0; 1000], 4500).wait().result.expect_err("past the end");
        let expected =
            format!("ERR_DEEPRING_EOF: end of file before the read was complete, read '{}' at 4500: 500 of 1000 bytes", path.display());
        assert_eq!(error.to_string(), expected);
        assert_eq!((error.errno(), error.syscall()), (None, "read"));
    }
}

// ---- verification ----

#[test]
fn verification_finds_the_first_byte_that_differs() {
    let place = directory();
    let path = place.path().join("file");
    let content = bytes(0, 3_000_001, 1);
    for engine in engines() {
        for direct in MODES {
            std::fs::write(&path, &content).expect("the file");
            let file = open(&engine, &path, direct);
            let verify = |memory: &[u8], position: u64| {
                let (sender, receiver) = std::sync::mpsc::channel();
                // SAFETY: the memory is borrowed until the answer arrives, and nothing changes it.
                unsafe {
                    file.verify_then(memory.as_ptr() as u64, memory.len() as u64, position, move |result| {
                        sender.send(result).expect("a listener");
                    });
                };
                receiver.recv_timeout(patient(LIMIT)).expect("an answer")
            };
            verify(&content, 0).expect("they are the same");
            verify(&content[12_345..2_000_000], 12_345).expect("they are the same");
            for wrong in [0usize, 4095, 4096, 1_048_575, 1_048_576, 3_000_000] {
                let mut damaged = content.clone();
                damaged[wrong] ^= 1;
                let error = verify(&damaged, 0).expect_err("one byte differs");
                assert_eq!((error.kind(), error.position()), (ErrorKind::Mismatch, Some(wrong as u64)), "{error}");
            }
            let longer = bytes(0, 3_000_002, 1);
            let error = verify(&longer, 0).expect_err("the file is shorter");
            assert_eq!((error.kind(), error.position()), (ErrorKind::Mismatch, Some(3_000_001)), "{error}");
        }
    }
}

// ---- which backend, and why ----

fn check_works(engine: &Engine, place: &Path) {
    let path = place.join("works");
    let (_, receipt) = engine.write_file(&path, bytes(0, 70_001, 1)).wait().ok().expect("a write");
    assert_eq!(receipt.backend, engine.info().backend);
    let (buf, receipt) = engine.read_file(&path, vec![0; 70_001]).wait().ok().expect("a read");
    assert_eq!(receipt.backend, engine.info().backend);
    assert_same(&buf, &bytes(0, 70_001, 1), "what was written");
}

#[test]
fn the_requested_backend_is_the_one_that_runs() {
    let place = directory();
    for (backend, builder) in backends().into_iter().zip(builders()) {
        let engine = builder.build().expect("an engine");
        assert_eq!(engine.info().backend, backend);
        assert_eq!(backend.as_str(), if backend == BackendKind::Uring { "uring" } else { "threads" });
        check_works(&engine, place.path());
    }
}

#[test]
fn the_environment_chooses_the_backend_unless_the_options_do() {
    alone_with(
        |command| {
            command.env("DEEPRING_BACKEND", "threads");
        },
        || {
            let place = directory();
            let info = Engine::builder().build().expect("an engine").info();
            assert_eq!((info.backend, info.reason.as_str()), (BackendKind::Threads, "asked for by DEEPRING_BACKEND"));
            check_works(&Engine::builder().build().expect("an engine"), place.path());
            if let Ok(engine) = Engine::builder().backend(BackendKind::Uring).build() {
                let info = engine.info();
                assert_eq!((info.backend, info.reason.as_str()), (BackendKind::Uring, "asked for by the engine's options"));
            }
        },
    );
}

#[test]
fn an_unknown_backend_in_the_environment_is_an_error() {
    alone_with(
        |command| {
            command.env("DEEPRING_BACKEND", "io_uring");
        },
        || {
            let error = Engine::builder().build().expect_err("there is no such backend");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let text = error.to_string();
            assert!(text.contains("DEEPRING_BACKEND") && text.contains("io_uring") && text.contains("threads"), "{text}");
            drop(Engine::builder().backend(BackendKind::Threads).build().expect("options come before the environment"));
        },
    );
}

#[test]
fn an_empty_environment_variable_counts_as_unset() {
    alone_with(
        |command| {
            command.env("DEEPRING_BACKEND", "");
        },
        || {
            let info = Engine::builder().build().expect("an engine").info();
            assert!(!info.reason.contains("DEEPRING_BACKEND"), "{}", info.reason);
        },
    );
}

/// In a process where a system call of the ring is forbidden: threads take over and the reason says
/// why. Requiring the ring is an error.
fn refused_ring(call: libc::c_long, errno: i32, code: &str, words: &'static [&'static str]) {
    let code = code.to_owned();
    alone_with(
        |command| {
            command.env_remove("DEEPRING_BACKEND");
        },
        || {
            let place = directory();
            forbid(call, errno, false);
            let engine = Engine::builder().build().expect("threads take over");
            let info = engine.info();
            assert_eq!((info.backend, info.ring_entries), (BackendKind::Threads, 0), "{}", info.reason);
            for word in words {
                assert!(info.reason.contains(word), "'{word}' is missing in: {}", info.reason);
            }
            check_works(&engine, place.path());
            let error = Engine::builder().backend(BackendKind::Uring).build().expect_err("the ring is forbidden");
            assert_eq!(error.code(), code, "{error}");
            let line = error.to_string();
            for word in words {
                assert!(line.contains(word), "'{word}' is missing in: {line}");
            }
            // The thread of a driver that could not start has ended, too.
            drop(engine);
            eventually(LIMIT, "no thread is left", || harness::task::ours().is_empty());
        },
    );
}

#[test]
fn a_ring_forbidden_by_seccomp_is_reported_as_such() {
    refused_ring(libc::SYS_io_uring_setup, libc::EPERM, "EPERM", &["io_uring_setup", "seccomp", "allow"]);
}

#[test]
fn a_kernel_without_rings_is_reported_as_such() {
    refused_ring(libc::SYS_io_uring_setup, libc::ENOSYS, "ENOSYS", &["io_uring_setup", "not available", "5.6"]);
}

#[test]
fn a_ring_that_can_be_created_but_not_used_counts_as_unavailable() {
    refused_ring(libc::SYS_io_uring_enter, libc::EPERM, "EPERM", &["io_uring_enter", "seccomp"]);
}

#[test]
fn a_ring_works_without_io_uring_register() {
    if !backends().contains(&BackendKind::Uring) {
        return skip("DEEPRING_BACKEND names the other backend");
    }
    alone(|| {
        let place = directory();
        forbid(libc::SYS_io_uring_register, libc::EPERM, false);
        let engine = Engine::builder().backend(BackendKind::Uring).build().expect("a ring without extras");
        check_works(&engine, place.path());
    });
}

#[test]
fn a_small_memlock_limit_gives_a_smaller_ring_and_zero_gives_threads() {
    if !backends().contains(&BackendKind::Uring) {
        return skip("DEEPRING_BACKEND names the other backend");
    }
    if !rings_count_as_locked() {
        return;
    }
    as_root(|| {
        alone_with(
            |command| {
                command.env_remove("DEEPRING_BACKEND");
            },
            || {
                let place = directory_for_all(0o777);
                limit(libc::RLIMIT_MEMLOCK, 64 << 10);
                become_nobody();
                let engine = Engine::builder().queue_depth(4096).build().expect("an engine");
                let info = engine.info();
                assert_eq!(info.memlock_bytes, Some(64 << 10));
                assert_eq!(info.backend, BackendKind::Uring, "{}", info.reason);
                assert!((16..4096).contains(&info.ring_entries), "a ring of {} entries", info.ring_entries);
                check_works(&engine, place.path());
                drop(engine);
                limit(libc::RLIMIT_MEMLOCK, 0);
                let engine = Engine::builder().build().expect("threads take over");
                let info = engine.info();
                assert_eq!(info.backend, BackendKind::Threads);
                assert!(info.reason.contains("ulimit -l") && info.reason.contains("0 KiB"), "{}", info.reason);
                check_works(&engine, place.path());
            },
        );
    });
}

// ---- direct or not ----

#[test]
fn required_direct_io_is_used_where_the_directory_supports_it() {
    let place = directory();
    if !is_direct(place.path()) {
        return skip("the test directory has no direct I/O");
    }
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 100_000, 1)).expect("the file");
    for engine in engines() {
        let file = engine.open(&path, OpenOptions::new().read(true).direct(Direct::Require)).expect("direct I/O");
        assert!(file.direct());
        let plain = std::fs::File::open(&path).expect("the file");
        plain.sync_all().expect("sync");
        harness::disk::forget_pages(&plain);
        // Populated memory, because btrfs reads into absent pages through the cache.
        let mut buf = engine.buffer(100_000).expect("memory");
        buf.populate();
        let (buf, receipt) = file.read_exact_at(buf, 0).wait().ok().expect("a read");
        assert!(receipt.direct);
        assert_same(&buf, &bytes(0, 100_000, 1), "what was read");
        assert_eq!(cached_pages(&plain, 100_000), 0, "the page cache was bypassed");
        // This check can fail: a buffered read leaves pages.
        let file = engine.open(&path, OpenOptions::new().read(true).direct(Direct::Never)).expect("the file");
        file.read_exact_at(buf, 0).wait().result.expect("a read");
        assert!(cached_pages(&plain, 100_000) > 0, "a buffered read leaves pages");
    }
}

/// How many pages of the file are in the page cache.
fn cached_pages(file: &std::fs::File, len: usize) -> usize {
    use std::os::fd::AsRawFd;
    // SAFETY: a fresh mapping that is never dereferenced.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    assert_ne!(map, libc::MAP_FAILED);
    let mut resident = vec![0u8; len.div_ceil(4096)];
    // SAFETY: the mapping is `len` bytes long, and the vector has a byte for each of its pages.
    assert_eq!(unsafe { libc::mincore(map, len, resident.as_mut_ptr()) }, 0);
    // SAFETY: mapped above, and nothing refers to it.
    assert_eq!(unsafe { libc::munmap(map, len) }, 0);
    resident.iter().filter(|&&page| page & 1 == 1).count()
}
