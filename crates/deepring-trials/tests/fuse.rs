//! File systems that misbehave, as network file systems do: the engine on a real FUSE mount whose
//! server fails, moves fewer bytes, interrupts, stalls and dies on demand.
//!
//! Mounting needs root and `/dev/fuse`; without them these tests are reported as skipped.

#[path = "../../deepring/tests/harness/mod.rs"]
mod harness;

use deepring::{BackendKind, Completed, Direct, Engine, Error, ErrorKind, File, OpenOptions};
use deepring_trials::faultfs::{Call, Effect, Fault, Mounted, unavailable};
use harness::disk::{forget_pages, with_mounts};
use harness::program::run_random;
use harness::{MODES, Slice, assert_file, assert_same, backends, builders, bytes, engines, eventually, open, patient, say, skip, within};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const STALL: Duration = Duration::from_secs(2);
const PROGRAMS: u32 = 8;

/// Whether all files bypass the kernel's cache, or only those that ask for it.
const MOUNTS: [bool; 2] = [true, false];

/// Runs a test on a mounted fault file system, once with and once without the kernel's cache.
/// `body` also gets a directory outside it.
fn with_faults(body: impl Fn(&mut Mounted, &Path) + Sync) {
    with_faults_on(&MOUNTS, body);
}

fn with_faults_on(mounts: &[bool], body: impl Fn(&mut Mounted, &Path) + Sync) {
    if let Some(why) = unavailable() {
        return skip(why);
    }
    with_mounts(|place| {
        let (backing, elsewhere) = (place.join("backing"), place.join("elsewhere"));
        for directory in [&backing, &elsewhere] {
            std::fs::create_dir(directory).expect("a directory");
        }
        for &direct in mounts {
            let at = place.join(format!("direct-{direct}"));
            std::fs::create_dir(&at).expect("a mount point");
            let mut mounted = Mounted::start(&at, &backing, direct).expect("a mounted file system");
            say(&format!("with the kernel's cache: {}", !direct));
            body(&mut mounted, &elsewhere);
        }
    });
}

fn io_error(call: Call, start: u64, errno: i32, times: u64) -> Fault {
    Fault { call, range: start..start + 1, times, effect: Effect::Errno(errno) }
}

/// Opens a file whose server takes whole sectors only, so that the ends of writes are padded. An empty file would not
/// show that.
#[track_caller]
fn open_padded(mounted: &mut Mounted, engine: &Engine, path: &Path) -> File {
    let len = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    assert!(len > 1, "the file is too short");
    mounted.inject(&Fault::always(Call::Read, Effect::Unaligned)).expect("the server");
    let file = open(engine, path, Direct::Prefer);
    assert_eq!((file.direct(), file.direct_support().offset_alignment), (true, 4096));
    mounted.clear().expect("the server");
    file
}

/// Everything an error must say about a transfer.
#[track_caller]
fn check(error: &Error, code: &str, path: &Path, position: u64, requested: u64) {
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(error.path(), Some(path), "{error}");
    assert_eq!((error.position(), error.requested()), (Some(position), requested), "{error}");
}

/// The engine still works, and nothing is in flight.
#[track_caller]
fn check_usable(engine: &Engine, directory: &Path) {
    let path = directory.join("usable");
    engine.write_file(&path, bytes(0, 70_001, 77)).wait().result.expect("a write after a failure");
    let (buf, _) = engine.read_file(&path, vec![0; 70_001]).wait().ok().expect("a read after a failure");
    assert_same(&buf, &bytes(0, 70_001, 77), "after a failure");
    std::fs::remove_file(&path).expect("the file");
    let stats = engine.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes), (0, 0, 0), "nothing is left in flight");
}

// ---- without faults ----

#[test]
fn random_programs_are_exact_on_a_file_system_in_user_space() {
    with_faults(|mounted, _| {
        for backend in backends() {
            for direct in MODES {
                run_random(PROGRAMS, backend, direct, &mounted.path().join("file"));
            }
        }
        assert_eq!(mounted.triggered().expect("the server"), 0, "no fault was asked for");
    });
}

#[test]
fn path_info_works_where_unnamed_files_are_not_supported() {
    with_faults(|mounted, _| {
        for engine in engines() {
            let info = engine.path_info(mounted.path()).expect("what is known of the directory");
            assert_eq!(info.file_system, "fuse");
            assert!(info.direct_io.available, "{info:?}");
            assert_eq!(std::fs::read_dir(mounted.path()).expect("the directory").count(), 0, "path_info left nothing behind");
        }
    });
}

#[test]
fn where_a_server_takes_any_bytes_nothing_is_padded_read_or_cut() {
    with_faults(|mounted, _| {
        let path = mounted.path().join("file");
        for engine in engines() {
            for old in [0, 3000] {
                std::fs::write(&path, bytes(0, old, 1)).expect("the file");
                let file = open(&engine, &path, Direct::Prefer);
                assert_eq!((file.direct(), file.direct_support().offset_alignment), (true, 1));
                // Any of these would fail now.
                for call in [Call::Read, Call::Allocate, Call::Truncate] {
                    mounted.inject(&Fault::always(call, Effect::Errno(libc::EIO))).expect("the server");
                }
                let triggered = mounted.triggered().expect("the server");
                for (position, len) in [(0, 1000), (1000, 5001), (6001, 1 << 20), (777, 3)] {
                    let (_, receipt) = file.write_at(Slice::of(&bytes(position, len, 2), 1), position).wait().ok().expect("a write");
                    assert!(receipt.direct && receipt.bounced == 0, "{receipt:?}");
                }
                assert_eq!(mounted.triggered().expect("the server"), triggered);
                mounted.clear().expect("the server");
                assert_file(&path, &bytes(0, 6001 + (1 << 20), 2), "written to the byte");
            }
        }
    });
}

/// As on a parallel file system: two processes, each of which knows only its own writes.
#[test]
fn a_server_that_takes_any_bytes_gets_no_byte_of_a_neighbor() {
    with_faults(|mounted, _| {
        let path = mounted.path().join("file");
        for engine in engines() {
            std::fs::write(&path, b"").expect("the file");
            let file = open(&engine, &path, Direct::Prefer);
            let other = std::fs::OpenOptions::new().write(true).open(&path).expect("another writer");
            let records: Vec<u64> = (0..200).collect();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for record in records.iter().filter(|record| *record % 2 == 1) {
                        other.write_all_at(&bytes(record * 777, 777, 3), record * 777).expect("its write");
                    }
                });
                for record in records.iter().filter(|record| *record % 2 == 0) {
                    file.write_at(bytes(record * 777, 777, 3), record * 777).wait().result.expect("our write");
                }
            });
            assert_file(&path, &bytes(0, 200 * 777, 3), "the records of both");
        }
    });
}

#[test]
fn a_server_that_refuses_unaligned_writes_only_makes_the_file_buffered() {
    with_faults_on(&[false], |mounted, _| {
        let path = mounted.path().join("file");
        mounted.inject(&Fault::always(Call::Write, Effect::Unaligned)).expect("the server");
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            file.write_at(bytes(0, 8192, 1), 0).wait().result.expect("an aligned write");
            assert!(file.direct());
            file.write_at(bytes(8192, 100, 1), 8192).wait().result.expect("an unaligned write");
            assert!(!file.direct());
            assert_file(&path, &bytes(0, 8292, 1), "direct and buffered");
            mounted.clear().expect("the server");
            std::fs::write(&path, b"").expect("the file");
            mounted.inject(&Fault::always(Call::Write, Effect::Unaligned)).expect("the server");
        }
    });
}

// ---- short transfers ----

#[test]
fn random_programs_are_exact_though_many_transfers_are_cut_short() {
    with_faults_on(&[true], |mounted, _| {
        for call in [Call::Read, Call::Write] {
            mounted.inject(&Fault::always(call, Effect::Short)).expect("the server");
        }
        for backend in backends() {
            run_random(PROGRAMS, backend, Direct::Prefer, &mounted.path().join("file"));
        }
        let triggered = mounted.triggered().expect("the server");
        assert!(triggered > 20, "{triggered} short transfers, so this run proved nothing");
    });
}

#[test]
fn short_transfers_of_odd_lengths_are_resumed_and_counted() {
    with_faults_on(&[true], |mounted, _| {
        for call in [Call::Read, Call::Write] {
            mounted.inject(&Fault::always(call, Effect::Short)).expect("the server");
        }
        let path = mounted.path().join("file");
        for builder in builders() {
            let engine = builder.block_bytes(64 << 10).build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let triggered = mounted.triggered().expect("the server");
            let (_, written) = file.write_at(Slice::of(&bytes(0, 5_000_001, 1), 0), 0).wait().ok().expect("a write");
            let (buf, read) = file.read_exact_at(Slice::new(5_000_001, 0, 0), 0).wait().ok().expect("a read");
            assert_same(buf.content(), &bytes(0, 5_000_001, 1), "what was read");
            assert!(mounted.triggered().expect("the server") > triggered + 3, "too few faults, so this run proved nothing");
            assert!(written.resumed > 0 && read.resumed > 0, "{written:?} {read:?}");
            // Not the ring, which would resume by itself, at the wrong position.
            assert_eq!((written.backend, read.backend), (BackendKind::Threads, BackendKind::Threads));
            assert!(engine.stats().resumed >= u64::from(written.resumed + read.resumed));
            let error = file.read_exact_at(vec![0; 5000], 5_000_000).wait().result.expect_err("past the end");
            assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 1), "the end of the file is not a short read");
            file.close().wait().expect("close");
            std::fs::remove_file(&path).expect("the file");
        }
    });
}

// ---- errors ----

#[test]
fn an_error_at_one_position_reports_the_position_and_the_bytes_before_it() {
    const LEN: usize = 8 << 20;
    const BAD: u64 = (5 << 20) + 12_345;
    with_faults(|mounted, _| {
        let path = mounted.path().join("file");
        let content = bytes(0, LEN, 1);
        for engine in engines() {
            for direct in MODES {
                std::fs::write(&path, &content).expect("the file");
                let file = open(&engine, &path, direct);
                for (call, errno, code) in
                    [(Call::Read, libc::EIO, "EIO"), (Call::Read, libc::ESTALE, "ESTALE"), (Call::Write, libc::EIO, "EIO")]
                {
                    if call == Call::Write && !file.direct() {
                        // In the cache a write fails only when it is written out; see the syncs
                        // below.
                        continue;
                    }
                    let triggered = mounted.triggered().expect("the server");
                    forget_pages(&std::fs::File::open(&path).expect("the file"));
                    mounted.inject(&io_error(call, BAD, errno, u64::MAX)).expect("the server");
                    let slice = Slice::of(&bytes(0, LEN - 100, 1), 0);
                    let op = if call == Call::Read { file.read_exact_at(slice, 0) } else { file.write_at(slice, 0) };
                    let Completed { buf, result } = op.wait();
                    let error = result.expect_err("there is a bad place");
                    check(&error, code, &path, 0, (LEN - 100) as u64);
                    assert_eq!(error.syscall(), if call == Call::Read { "read" } else { "write" });
                    let done = error.transferred();
                    assert!((4 << 20..=BAD).contains(&done), "{done} bytes before a bad place at {BAD}");
                    let buf = buf.expect("the buffer comes back");
                    assert!(buf.is_guarded());
                    assert_same(&buf.content()[..done as usize], &content[..done as usize], "what had been moved");
                    // The bytes around the bad position can still be read and written.
                    file.read_exact_at(vec![0; 1 << 20], 6 << 20).wait().result.expect("a read behind it");
                    file.write_at(bytes(0, 1 << 20, 1), 0).wait().result.expect("a write before it");
                    assert!(mounted.triggered().expect("the server") > triggered, "no fault was triggered, so this run proved nothing");
                    mounted.clear().expect("the server");
                    check_usable(&engine, mounted.path());
                    assert_file(&path, &content, "the same bytes, as far as they arrived");
                }
            }
        }
    });
}

#[test]
fn a_refused_preallocation_leaves_the_file_and_an_unsupported_one_is_skipped() {
    with_faults(|mounted, _| {
        let path = mounted.path().join("file");
        for engine in engines() {
            for _ in 0..2 {
                std::fs::write(&path, bytes(0, 3000, 1)).expect("the file");
                let file = open_padded(mounted, &engine, &path);
                mounted.inject(&Fault::always(Call::Allocate, Effect::Errno(libc::EDQUOT))).expect("the server");
                let error = file.write_at(bytes(2000, 10_000, 1), 2000).wait().result.expect_err("no room");
                check(&error, "EDQUOT", &path, 2000, 10_000);
                assert_eq!((error.syscall(), error.transferred()), ("fallocate", 0));
                assert_file(&path, &bytes(0, 3000, 1), "after a write without room");
                mounted.clear().expect("the server");
                file.write_at(bytes(2000, 10_000, 1), 2000).wait().result.expect("room");
                assert_file(&path, &bytes(0, 12_000, 1), "with room");
            }
        }
        for call in [Call::Read, Call::Write] {
            mounted.inject(&Fault::always(call, Effect::Unaligned)).expect("the server");
        }
        mounted.inject(&Fault::always(Call::Allocate, Effect::Errno(libc::EOPNOTSUPP))).expect("the server");
        for backend in backends() {
            run_random(PROGRAMS, backend, Direct::Prefer, &path);
        }
        assert!(mounted.triggered().expect("the server") > 0, "no fault was triggered, so this run proved nothing");
    });
}

#[test]
fn a_failed_trim_is_reported_and_repaired_by_the_next_write() {
    with_faults(|mounted, _| {
        let path = mounted.path().join("file");
        for engine in engines() {
            std::fs::write(&path, b"??").expect("the file");
            let file = open_padded(mounted, &engine, &path);
            mounted.inject(&Fault::always(Call::Truncate, Effect::Errno(libc::EIO))).expect("the server");
            let error = file.write_at(bytes(0, 5001, 1), 0).wait().result.expect_err("the padding stays");
            check(&error, "EIO", &path, 0, 5001);
            assert_eq!(error.syscall(), "ftruncate");
            assert_eq!(file.stat().wait().expect("stat").size, 5001, "the padding is not visible");
            let error = file.read_exact_at(vec![0; 5002], 0).wait().result.expect_err("there is nothing more");
            assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 5001));
            mounted.clear().expect("the server");
            file.write_at(bytes(5001, 13, 1), 5001).wait().result.expect("a write");
            assert_file(&path, &bytes(0, 5014, 1), "after the next write");
        }
    });
}

#[test]
fn a_sync_that_failed_once_stays_failed() {
    with_faults(|mounted, _| {
        for (index, engine) in engines().into_iter().enumerate() {
            let path = mounted.path().join(format!("file-{index}"));
            let file = open(&engine, &path, Direct::Prefer);
            file.write_at(bytes(0, 5000, 1), 0).wait().result.expect("a write");
            file.sync_data().wait().expect("a healthy sync");
            mounted.inject(&io_error(Call::Sync, 0, libc::EIO, 1)).expect("the server");
            let error = file.sync_data().wait().expect_err("the server could not");
            assert_eq!((error.code(), error.path()), ("EIO".into(), Some(path.as_path())));
            // The server would now report success, although its losses are unknown.
            let error = open(&engine, &path, Direct::Prefer).sync_all().wait().expect_err("the failure stays");
            assert_eq!(error.kind(), ErrorKind::SyncFailed(libc::EIO));
            check_usable(&engine, mounted.path());
        }
    });
}

#[test]
fn a_closed_file_is_measured_again_even_after_a_failed_sync() {
    with_faults(|mounted, _| {
        for (index, engine) in engines().into_iter().enumerate() {
            let path = mounted.path().join(format!("file-{index}"));
            // The worst end: padded, and with a failure that is remembered until the process ends.
            std::fs::write(&path, b"??").expect("the file");
            let file = open_padded(mounted, &engine, &path);
            for call in [Call::Truncate, Call::Sync] {
                mounted.inject(&Fault::always(call, Effect::Errno(libc::EIO))).expect("the server");
            }
            file.write_at(bytes(0, 5001, 1), 0).wait().result.expect_err("the padding stays");
            file.sync_all().wait().expect_err("the server could not");
            file.close().wait().expect("close");
            mounted.clear().expect("the server");
            // Another process rewrites it, no larger than the padding.
            std::fs::write(&path, bytes(0, 8000, 2)).expect("the file");
            let file = open(&engine, &path, Direct::Prefer);
            assert_eq!(file.stat().wait().expect("stat").size, 8000);
            let (buf, _) = file.read_exact_at(vec![0; 8000], 0).wait().ok().expect("all that is there");
            assert_same(&buf, &bytes(0, 8000, 2), "what another process wrote");
            file.write_at(bytes(6000, 10, 3), 6000).wait().result.expect("a write");
            let model = [bytes(0, 6000, 2), bytes(6000, 10, 3), bytes(6010, 1990, 2)].concat();
            assert_file(&path, &model, "after a write into what another process wrote");
            // The server can have given the number to another file, so the failure ended with its
            // last opening. (On other file systems, see `a_failed_sync_stays_failed` in `faults`.)
            file.sync_all().wait().expect("a sync of what was opened since");
        }
    });
}

#[test]
fn interruptions_are_retried_and_endless_ones_are_an_error() {
    with_faults(|mounted, _| {
        let path = mounted.path().join("file");
        for engine in engines() {
            std::fs::write(&path, bytes(0, 100_000, 1)).expect("the file");
            let file = open_padded(mounted, &engine, &path);
            let triggered = mounted.triggered().expect("the server");
            for call in [Call::Read, Call::Write, Call::Sync, Call::Allocate, Call::Truncate] {
                mounted.inject(&Fault { call, range: 0..u64::MAX, times: 5, effect: Effect::Errno(libc::EINTR) }).expect("the server");
            }
            let (_, receipt) = file.write_at(bytes(500, 110_000, 2), 500).wait().ok().expect("a write among interruptions");
            assert!(receipt.retried > 0 || !file.direct(), "{receipt:?}");
            file.sync_data().wait().expect("a sync among interruptions");
            let (buf, _) = file.read_exact_at(vec![0; 110_000], 500).wait().ok().expect("a read among interruptions");
            assert_same(&buf, &bytes(500, 110_000, 2), "among interruptions");
            assert!(mounted.triggered().expect("the server") >= triggered + 20, "no fault was triggered, so this run proved nothing");
            mounted.clear().expect("the server");
            mounted.inject(&Fault::always(Call::Read, Effect::Errno(libc::EINTR))).expect("the server");
            let error = file.read_exact_at(vec![0; 4096], 0).wait().result.expect_err("interruptions without end");
            check(&error, "EINTR", &path, 0, 4096);
            mounted.clear().expect("the server");
            check_usable(&engine, mounted.path());
        }
    });
}

// ---- two copies of the engine ----

/// What another version of deepring in this process would leave in the memory file that all of them
/// find, if it had this file open. Returns the memory file and where the entry is.
fn enter_as_another_copy(path: &Path) -> (std::fs::File, u64) {
    const SLOT: u64 = 4000;
    let is_table = |path: &Path| std::fs::read_link(path).is_ok_and(|link| link == Path::new("/memfd:deepring-open-files-1 (deleted)"));
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("procfs").flatten().map(|entry| entry.path());
    let table = descriptors.filter(|path| is_table(path)).min().expect("the table");
    let table = std::fs::File::options().read(true).write(true).open(table).expect("the table");
    let metadata = std::fs::metadata(path).expect("metadata");
    let device = u64::from(libc::major(metadata.dev())) << 32 | u64::from(libc::minor(metadata.dev()));
    let at = 8 + SLOT * 24;
    for (position, value) in [(at + 8, device), (at + 16, metadata.ino()), (at, 99), (0, 2)] {
        table.write_all_at(&value.to_ne_bytes(), position).expect("the table");
    }
    (table, at)
}

#[test]
fn without_locks_a_file_that_another_copy_in_the_process_has_open_refuses_unaligned_and_extending_writes() {
    with_faults(|mounted, _| {
        for (index, engine) in engines().into_iter().enumerate() {
            let path = mounted.path().join(format!("file-{index}"));
            std::fs::write(&path, bytes(0, 20_000, 1)).expect("the file");
            let file = open_padded(mounted, &engine, &path);
            assert!(!file.process_locks().available, "{:?}", file.process_locks());
            file.write_at(bytes(100, 100, 2), 100).wait().result.expect("no other copy is there");
            let (table, at) = enter_as_another_copy(&path);
            for (position, len) in [(1, 10), (4096, 5000), (30_000, 100), (20_480, 4096)] {
                let error = file.write_at(bytes(position, len, 3), position).wait().result.expect_err("another copy is there");
                assert_eq!((error.code().as_str(), error.kind()), ("ERR_DEEPRING_TWO_COPIES", ErrorKind::TwoCopies));
            }
            assert_eq!(file.set_len(5).wait().expect_err("another copy is there").kind(), ErrorKind::TwoCopies);
            file.write_at(bytes(4096, 8192, 1), 4096).wait().result.expect("whole units inside the file");
            let beside = open(&engine, &mounted.path().join(format!("beside-{index}")), Direct::Prefer);
            beside.write_at(bytes(1, 5000, 3), 1).wait().result.expect("another file");
            let model = [bytes(0, 100, 1), bytes(100, 100, 2), bytes(200, 3896, 1)].concat();
            assert_same(&std::fs::read(&path).expect("the file")[..4096], &model, "nothing was written");
            table.write_all_at(&0u64.to_ne_bytes(), at).expect("the table");
            file.write_at(bytes(200, 30_000, 2), 200).wait().result.expect("the other copy is gone");
        }
    });
}

// ---- time ----

#[test]
fn a_stalled_request_delays_no_other_request() {
    with_faults(|mounted, elsewhere| {
        let path = mounted.path().join("file");
        std::fs::write(&path, bytes(0, 1 << 20, 1)).expect("the file");
        std::fs::write(elsewhere.join("file"), bytes(0, 1 << 20, 1)).expect("the file");
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            let other = open(&engine, &elsewhere.join("file"), Direct::Prefer);
            mounted.inject(&Fault { call: Call::Read, range: 0..1, times: 1, effect: Effect::Stall(STALL) }).expect("the server");
            mounted.inject(&Fault { call: Call::Sync, range: 0..1, times: 1, effect: Effect::Stall(STALL) }).expect("the server");
            let started = Instant::now();
            let stalled = file.read_exact_at(vec![0; 4096], 0);
            let sync = file.sync_all();
            eventually(LIMIT, "the stall", || engine.stats().in_flight > 0);
            for index in 1..50u64 {
                let position = index * 8192;
                for handle in [&file, &other] {
                    let (buf, _) = handle.read_exact_at(vec![0; 4096], position).wait().ok().expect("a read during a stall");
                    assert_same(&buf, &bytes(position, 4096, 1), "during a stall");
                }
            }
            let took = started.elapsed();
            assert!(took < STALL, "the others waited as well: {took:?}");
            let (buf, _) = stalled.wait().ok().expect("the read that stalled");
            assert_same(&buf, &bytes(0, 4096, 1), "after a stall");
            sync.wait().expect("the sync that stalled");
            assert!(started.elapsed() >= STALL, "nothing stalled, so this run proved nothing");
            check_usable(&engine, elsewhere);
        }
    });
}

/// Two file systems do not answer: they stop neither a third nor a disk.
#[test]
fn stalled_file_systems_stop_no_other() {
    if let Some(why) = unavailable() {
        return skip(why);
    }
    with_mounts(|place| {
        let disk = place.join("file");
        std::fs::write(&disk, bytes(0, 1 << 20, 1)).expect("the file");
        for (round, engine) in engines().into_iter().enumerate() {
            let mut mounts = [0, 1, 2].map(|index| {
                let [backing, at] = ["backing", "at"].map(|name| place.join(format!("{name}-{round}-{index}")));
                std::fs::create_dir(&backing).expect("a directory");
                std::fs::create_dir(&at).expect("a mount point");
                let mounted = Mounted::start(&at, &backing, true).expect("a mounted file system");
                std::fs::write(at.join("file"), bytes(0, 1 << 20, 1)).expect("the file");
                mounted
            });
            let files: Vec<_> = mounts.iter().map(|mounted| open(&engine, &mounted.path().join("file"), Direct::Prefer)).collect();
            for mounted in &mut mounts[..2] {
                for call in [Call::Read, Call::Allocate, Call::Sync] {
                    mounted.inject(&Fault::always(call, Effect::Stall(Duration::from_secs(600)))).expect("the server");
                }
            }
            let mut reads = Vec::new();
            let mut others = Vec::new();
            for file in &files[..2] {
                reads.extend((0..200u64).map(|index| file.read_exact_at(vec![0; 4096], index * 4096)));
                others.extend((0..70u64).map(|index| file.write_at(bytes(0, 4096, 1), (1 << 20) + index * 4096)));
            }
            let syncs: Vec<_> = files[..2].iter().map(deepring::File::sync_data).collect();
            std::thread::sleep(Duration::from_millis(200));
            for (path, what) in [(mounts[2].path().join("file"), "a file system in user space"), (disk.clone(), "a disk")] {
                let elsewhere = engine.clone();
                let took = within(LIMIT, what, move || {
                    let started = Instant::now();
                    let file = elsewhere.open_async(&path, OpenOptions::new().read(true).write(true)).wait().expect("an open");
                    file.read_exact_at(vec![0; 4096], 8192).wait().result.expect("a read");
                    file.write_at(bytes(100, 5000, 1), 100).wait().result.expect("a write");
                    file.write_at(bytes(0, 5000, 1), 1 << 20).wait().result.expect("an append");
                    file.stat().wait().expect("stat");
                    file.sync_data().wait().expect("a sync");
                    file.set_len(1 << 20).wait().expect("a truncation");
                    started.elapsed()
                });
                say(&format!("{:?}: work on {what} took {took:?}", engine.info().backend));
                assert!(took < patient(STALL), "work on {what} took {took:?}");
            }
            for mounted in &mut mounts {
                mounted.kill().expect("the server killed");
            }
            // Whatever was at a server that is gone has ended.
            reads.into_iter().chain(others).for_each(|op| drop(op.wait()));
            for sync in syncs {
                drop(sync.wait());
            }
        }
    });
}

#[test]
fn an_engine_dropped_during_a_stall_waits_and_returns_every_buffer() {
    with_faults(|mounted, _| {
        let path = mounted.path().join("file");
        std::fs::write(&path, bytes(0, 1 << 20, 1)).expect("the file");
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            mounted.inject(&Fault { call: Call::Read, range: 0..1, times: 1, effect: Effect::Stall(STALL) }).expect("the server");
            let started = Instant::now();
            let stalled = file.read_exact_at(vec![0; 4096], 0);
            eventually(LIMIT, "the stall", || engine.stats().in_flight > 0);
            let queued: Vec<_> = (0..1000).map(|_| file.read_exact_at(vec![0; 65_536], 0)).collect();
            drop(file);
            within(LIMIT, "dropping an engine during a stall", move || drop(engine));
            assert!(started.elapsed() >= STALL, "the engine did not wait for what the kernel still had");
            let Completed { buf, result } = stalled.wait();
            assert_same(&buf.expect("the buffer"), &bytes(0, 4096, 1), "after a stall");
            result.expect("the read that was in flight");
            for op in queued {
                let Completed { buf, result } = op.wait();
                assert_eq!(buf.map(|buf| buf.len()), Some(65_536), "the buffer comes back");
                assert!(result.map_or_else(|error| error.kind() == ErrorKind::Canceled, |receipt| receipt.bytes == 65_536));
            }
        }
    });
}

// ---- a dead server ----

#[test]
fn a_server_that_dies_with_requests_in_flight_causes_errors_and_no_hang() {
    if let Some(why) = unavailable() {
        return skip(why);
    }
    with_mounts(|place| {
        let (backing, elsewhere) = (place.join("backing"), place.join("elsewhere"));
        for directory in [&backing, &elsewhere] {
            std::fs::create_dir(directory).expect("a directory");
        }
        for (index, engine) in engines().into_iter().enumerate() {
            for direct in MOUNTS {
                let at = place.join(format!("{index}-{direct}"));
                std::fs::create_dir(&at).expect("a mount point");
                let mut mounted = Mounted::start(&at, &backing, direct).expect("a mounted file system");
                die_in_flight(&engine, &mut mounted, &elsewhere);
            }
        }
    });
}

fn die_in_flight(engine: &Engine, mounted: &mut Mounted, elsewhere: &Path) {
    const LEN: usize = 65_536;
    let backend = engine.info().backend;
    let path = mounted.path().join("file");
    std::fs::write(&path, bytes(0, 4 << 20, 1)).expect("the file");
    let file = open(engine, &path, Direct::Prefer);
    for call in [Call::Read, Call::Write] {
        mounted.inject(&Fault::always(call, Effect::Stall(Duration::from_secs(600)))).expect("the server");
    }
    let ops: Vec<_> = (0..40u64)
        .map(|index| {
            let slice = Slice::of(&bytes(index << 16, LEN, 1), 0);
            if index % 2 == 0 { file.read_exact_at(slice, index << 16) } else { file.write_at(slice, index << 16) }
        })
        .collect();
    let sync = file.sync_all();
    let triggered = mounted.triggered().expect("the server");
    eventually(LIMIT, "requests at the server", || mounted.triggered().expect("the server") > triggered || engine.stats().in_flight >= 4);
    std::thread::sleep(Duration::from_millis(50));
    assert!(mounted.triggered().expect("the server") > 0, "no fault was triggered, so this run proved nothing");
    let killed = Instant::now();
    mounted.kill().expect("the server killed");
    for op in ops {
        let Completed { buf, result } = op.wait();
        let buf = buf.expect("the buffer comes back from the dead server");
        assert!(buf.is_guarded());
        let error = result.expect_err("there is no server");
        let gone = ["ENOTCONN", "ECONNABORTED", "EIO"];
        assert!(gone.contains(&error.code().as_str()), "{error}");
        assert_eq!((error.path(), error.requested()), (Some(path.as_path()), LEN as u64), "{error}");
    }
    let error = sync.wait().expect_err("there is no server");
    assert!(error.errno().is_some(), "{error}");
    assert!(killed.elapsed() < LIMIT);
    // Later requests are refused, and the engine continues to work.
    let error = file.read_exact_at(vec![0; 10], 0).wait().result.expect_err("there is no server");
    assert!(error.errno().is_some(), "{error}");
    let error = engine.open(&path, OpenOptions::new().read(true)).expect_err("there is no server");
    assert_eq!((error.code(), error.syscall()), ("ENOTCONN".into(), "open"));
    // The kernel decides whether a close reaches a server that is gone. It must end in any case.
    drop(file.close().wait());
    check_usable(engine, elsewhere);
    assert_eq!(engine.info().backend, backend, "a dead server costs no ring");
}

// ---- close ----

#[test]
fn the_error_of_close_is_the_error_of_a_request_by_path() {
    with_faults_on(&[true], |mounted, _| {
        for engine in engines() {
            let path = mounted.path().join("file");
            for (errno, code) in [(libc::EIO, "EIO"), (libc::ENOSPC, "ENOSPC"), (libc::EDQUOT, "EDQUOT")] {
                // Not once only: a process that another test starts has copies of our descriptors for a moment.
                mounted.inject(&Fault::always(Call::Close, Effect::Errno(errno))).expect("the server");
                let error = engine.write_file(&path, bytes(0, 70_001, 1)).wait().result.expect_err("a close that fails");
                check(&error, code, &path, 0, 70_001);
                assert_eq!((error.syscall(), error.transferred()), ("close", 70_001));
                let Completed { buf, result } = engine.read_file(&path, vec![0; 70_001]).wait();
                check(&result.expect_err("a close that fails"), code, &path, 0, 70_001);
                assert_same(&buf.expect("the buffer"), &bytes(0, 70_001, 1), "read before the close failed");
                mounted.clear().expect("the server");
            }
            // The first failure is the one reported.
            mounted.inject(&io_error(Call::Write, 0, libc::EIO, 1)).expect("the server");
            mounted.inject(&Fault::always(Call::Close, Effect::Errno(libc::ENOSPC))).expect("the server");
            let error = engine.write_file(&path, bytes(0, 70_001, 1)).wait().result.expect_err("a write that fails");
            check(&error, "EIO", &path, 0, 70_001);
            mounted.clear().expect("the server");
            check_usable(&engine, mounted.path());
            std::fs::remove_file(&path).expect("the file");
        }
    });
}

#[test]
fn a_close_that_stalls_delays_only_its_own_request() {
    with_faults_on(&[true], |mounted, elsewhere| {
        for engine in engines() {
            let slow = mounted.path().join("slow");
            std::fs::write(&slow, bytes(0, 5000, 1)).expect("the file");
            mounted.inject(&Fault::always(Call::Close, Effect::Stall(STALL))).expect("the server");
            let started = Instant::now();
            let stalled = engine.read_file(&slow, vec![0; 5000]);
            for index in 0..40u64 {
                let path = elsewhere.join(format!("{index}"));
                engine.write_file(&path, bytes(0, 5000, index)).wait().result.expect("a write elsewhere");
            }
            assert!(started.elapsed() < STALL, "others took {:?}", started.elapsed());
            stalled.wait().result.expect("a read whose close stalls");
            assert!(started.elapsed() >= STALL, "it settled before its file was closed");
            mounted.clear().expect("the server");
        }
    });
}
