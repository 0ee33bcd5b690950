//! A program can fork and start others while the engine is busy. Memory under transfer belongs to
//! the parent and stays so.
//!
//! After a fork both processes share their pages until one of them writes. If the kernel then gave
//! the parent the copy while a transfer was on its way to the original, the bytes would be lost.
//! Direct reads into a forking process once did this. The ring's own memory is not inherited.

mod harness;

use deepring::{Completed, Direct, Engine, ErrorKind, OpenOptions, ReplaceOptions};
use harness::child::alone;
use harness::{MODES, Slice, assert_file, assert_same, bytes, directory, engines, open, patient, within};
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const LEN: usize = 256 << 10;
const OPS: u64 = 24;

/// Forks a child that overwrites its copy of this memory and exits.
fn fork_and_scribble(memory: &[(usize, usize)]) -> libc::pid_t {
    // SAFETY: the child does only what is allowed after a fork: it writes to memory and exits
    // without cleaning up.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        for &(address, len) in memory {
            // SAFETY: the parent allocated the memory, and nothing else in the child uses the
            // child's copy.
            unsafe { std::ptr::write_bytes(address as *mut u8, 0x66, len) };
        }
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    child
}

fn wait_for(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: writes a local number.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child's exit status");
}

#[test]
fn a_forked_child_that_overwrites_its_copy_changes_no_transfer() {
    within(LIMIT, "forking during transfers", || {
        let place = directory();
        let (source, target) = (place.path().join("source"), place.path().join("target"));
        std::fs::write(&source, bytes(0, OPS as usize * LEN, 1)).expect("the file");
        for engine in engines() {
            for direct in MODES {
                for round in 0..8u64 {
                    std::fs::write(&target, b"").expect("the file");
                    let (from, to) = (open(&engine, &source, direct), open(&engine, &target, direct));
                    let mut memory = Vec::new();
                    let mut children = Vec::new();
                    let mut ops = Vec::new();
                    for index in 0..OPS {
                        let position = index * LEN as u64;
                        // At a page boundary, or at an odd address, which is copied.
                        let offset = usize::from(index % 3 == 0);
                        let (read, write) = (Slice::new(LEN, offset, 0), Slice::of(&bytes(position, LEN, 2 + round), offset));
                        memory.extend([&read, &write].map(|slice| (slice.content().as_ptr() as usize, LEN)));
                        ops.push((position, from.read_exact_at(read, position), to.write_at(write, position)));
                        if index % 6 == round % 6 {
                            children.push(fork_and_scribble(&memory));
                        }
                    }
                    for (position, read, write) in ops {
                        let (buf, _) = read.wait().ok().expect("a read");
                        assert!(buf.is_guarded());
                        assert_same(buf.content(), &bytes(position, LEN, 1), "read during a fork");
                        let Completed { buf, result } = write.wait();
                        result.expect("a write");
                        assert_same(buf.expect("the buffer").content(), &bytes(position, LEN, 2 + round), "the memory of a write");
                    }
                    children.into_iter().for_each(wait_for);
                    assert_file(&target, &bytes(0, OPS as usize * LEN, 2 + round), "written during a fork");
                }
            }
        }
    });
}

/// Forks a child that waits until it is killed, and so shares the parent's pages.
fn fork_and_wait() -> libc::pid_t {
    // SAFETY: the child makes only calls that are allowed after a fork.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: no pointers.
        unsafe { libc::sleep(30) };
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    child
}

/// After a fork, the first write of the parent gives it a copy of the page. A device that fills the
/// original fills a page that only the child still has.
#[test]
fn a_parent_that_writes_beside_the_memory_of_a_read_loses_none_of_its_bytes() {
    within(LIMIT, "forking during reads", || {
        let place = directory();
        let source = place.path().join("source");
        let len = 16 << 20;
        let content = bytes(0, len, 1);
        std::fs::write(&source, &content).expect("the file");
        for engine in engines() {
            for direct in MODES {
                let from = open(&engine, &source, direct);
                for offset in [0, 4, 16, 512, 2048] {
                    for pause in [0, 1, 4] {
                        // The last page is shared too.
                        let slice = Slice::new(len - 512, offset, 0);
                        let first = slice.content().as_ptr() as usize;
                        let read = from.read_exact_at(slice, 0);
                        std::thread::sleep(Duration::from_millis(pause));
                        let child = fork_and_wait();
                        for beside in [first - 1, first + len - 512] {
                            // SAFETY: the guards around the slice belong to the same vector, which
                            // the engine holds and does not access there.
                            let guard = unsafe { (beside as *const u8).read_volatile() };
                            // SAFETY: as above.
                            unsafe { (beside as *mut u8).write_volatile(guard) };
                        }
                        let (buf, _) = read.wait().ok().expect("a read");
                        assert!(buf.is_guarded());
                        assert_same(buf.content(), &content[..len - 512], "read while the parent wrote beside it");
                        // SAFETY: kills the child made above.
                        unsafe { libc::kill(child, libc::SIGKILL) };
                        let mut status = 0;
                        // SAFETY: writes a local number.
                        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                    }
                }
            }
        }
    });
}

#[test]
fn programs_started_during_transfers_disturb_nothing() {
    within(LIMIT, "starting programs during transfers", || {
        let place = directory();
        let path = place.path().join("file");
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            for round in 0..6u64 {
                let write = |index: u64| file.write_at(Slice::of(&bytes(index * LEN as u64, LEN, round), 0), index * LEN as u64);
                let ops: Vec<_> = (0..OPS).map(write).collect();
                for _ in 0..4 {
                    let output = Command::new("cat").arg("/proc/self/comm").output().expect("another program");
                    assert_eq!(output.stdout, b"cat\n");
                }
                for op in ops {
                    op.wait().result.expect("a write");
                }
                file.sync_data().wait().expect("sync");
                assert_file(&path, &bytes(0, OPS as usize * LEN, round), "written while other programs ran");
            }
            file.close().wait().expect("close");
        }
    });
}

/// Runs `body` in a forked child. Returns its exit status, or `None` if it did not end in time. The child calls more than
/// is allowed after a fork of a process with threads; what it calls is what is tested.
fn in_child(body: impl FnOnce() -> bool) -> Option<i32> {
    // SAFETY: the child runs the test's body and ends without cleaning up.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(!held)) };
    }
    let started = Instant::now();
    let mut status = 0;
    // SAFETY: writes a local number.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        if started.elapsed() > patient(Duration::from_secs(10)) {
            // SAFETY: ends our child.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // SAFETY: writes a local number.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(status)
}

#[test]
fn an_engine_of_the_parent_gives_errors_in_a_forked_child_and_a_new_engine_works() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 64 << 20, 1)).expect("the file");
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            let is_forked = |kind: Option<ErrorKind>| kind == Some(ErrorKind::Forked);
            // Locks of the engine can be held, and requests are in flight, when the process forks.
            let busy = || (0..64u64).map(|index| file.read_at(vec![0u8; 1 << 20], index << 20)).collect::<Vec<_>>();
            let use_all = || {
                let kinds = [
                    file.read_at(vec![0u8; 4096], 0).wait().result.err().map(|error| error.kind()),
                    file.read_at(vec![0u8; 0], 0).wait().result.err().map(|error| error.kind()),
                    file.write_at(vec![0u8; 4096], 0).wait().result.err().map(|error| error.kind()),
                    engine.read_file(&path, vec![0u8; 4096]).wait().result.err().map(|error| error.kind()),
                    engine.write_file(&path, vec![0u8; 4096]).wait().result.err().map(|error| error.kind()),
                    engine.open(&path, OpenOptions::new().read(true)).err().map(|error| error.kind()),
                    engine.open_async(&path, OpenOptions::new().read(true)).wait().err().map(|error| error.kind()),
                    engine.buffer(5 << 20).err().map(|error| error.kind()),
                    engine.pooled_buffer(5000).err().map(|error| error.kind()),
                    engine.path_info(&path).err().map(|error| error.kind()),
                    file.stat().wait().err().map(|error| error.kind()),
                    file.sync_all().wait().err().map(|error| error.kind()),
                    file.set_len(0).wait().err().map(|error| error.kind()),
                    engine.run_blocking(|| ()).wait().err().map(|error| error.kind()),
                    engine.replace(&path, ReplaceOptions::new()).wait().err().map(|error| error.kind()),
                    engine.sync_directory(place.path()).wait().err().map(|error| error.kind()),
                ];
                let is_coded = file.sync_data().wait().expect_err("a sync").code() == "ERR_DEEPRING_FORKED";
                // Neither fails, neither hangs.
                drop((engine.stats(), engine.info(), file.known_size(), file.backend()));
                kinds.into_iter().all(is_forked) && is_coded
            };
            for _ in 0..10 {
                let ops = busy();
                assert_eq!(in_child(use_all), Some(0), "using the parent's engine");
                let ended = |op: deepring::Op<Vec<u8>>| op.wait().result.map_or_else(|error| is_forked(Some(error.kind())), |_| true);
                // In the child they are taken out of a copy of the parent's memory.
                // SAFETY: parent and child each use their own copy once.
                let copies = unsafe { ops.iter().map(|op| std::ptr::read(op)).collect::<Vec<_>>() };
                let copies = std::mem::ManuallyDrop::new(copies);
                let status = in_child(|| std::mem::ManuallyDrop::into_inner(copies).into_iter().all(ended));
                assert_eq!(status, Some(0), "waiting for operations of the parent");
                for (index, op) in ops.into_iter().enumerate() {
                    let (buf, _) = op.wait().ok().expect("a read of the parent");
                    assert_same(&buf, &bytes((index as u64) << 20, 1 << 20, 1), "read beside a fork");
                }
            }
            let buffers: Vec<_> = [5000, 5 << 20].iter().map(|&len| engine.buffer(len).expect("memory")).collect();
            let writing: Vec<_> = (0..8u64).map(|index| file.write_at(bytes(index * 5000, 5000, 1), index * 5000)).collect();
            let status = in_child(|| {
                let own = Engine::builder().build().expect("an engine of the child");
                let again = open(&own, &path, Direct::Prefer);
                // Ranges that the parent is writing, too.
                let (read, _) = again.read_exact_at(own.buffer(4096).expect("memory"), 1 << 20).wait().ok().expect("a read");
                assert_same(&read, &bytes(1 << 20, 4096, 1), "read by the child");
                again.write_at(bytes(0, 40_000, 1), 0).wait().result.expect("a write");
                again.sync_all().wait().expect("a sync");
                // The parent's things are dropped beside it.
                // SAFETY: the child uses its copy once.
                drop(unsafe { std::ptr::read(&raw const buffers) });
                // SAFETY: as above.
                drop(unsafe { std::ptr::read(&raw const file) });
                // SAFETY: as above.
                drop(unsafe { std::ptr::read(&raw const engine) });
                own.read_file(&path, vec![0u8; 64 << 20]).wait().result.is_ok()
            });
            assert_eq!(status, Some(0), "a new engine beside the parent's");
            for op in writing {
                assert_eq!(op.wait().result.expect("a write").bytes, 5000);
            }
            assert_file(&path, &bytes(0, 64 << 20, 1), "written beside a forked child");
            within(LIMIT, "dropping the engine in the parent", move || drop((buffers, file, engine)));
        }
    });
}

#[test]
fn a_forked_child_leaves_the_temporary_file_of_its_parent() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        for engine in engines() {
            std::fs::write(&path, b"old").expect("the old file");
            let begin = || engine.replace(&path, ReplaceOptions::new()).wait().expect("a temporary file");
            let replacements = [begin(), begin(), begin()];
            let count = || std::fs::read_dir(place.path()).expect("the directory").count();
            // SAFETY: parent and child each use their own copy once.
            let copies = unsafe { replacements.iter().map(|one| std::ptr::read(one)).collect::<Vec<_>>() };
            let copies = std::mem::ManuallyDrop::new(copies);
            let status = in_child(|| {
                let mut copies = std::mem::ManuallyDrop::into_inner(copies).into_iter();
                let kinds = [copies.next().expect("one").commit().wait(), copies.next().expect("one").abandon().wait()];
                drop(copies);
                kinds.into_iter().all(|kind| kind.is_err_and(|error| error.kind() == ErrorKind::Forked)) && count() == 4
            });
            assert_eq!((status, count()), (Some(0), 4));
            for replacement in replacements {
                replacement.file().write_at(bytes(0, 5000, 1), 0).wait().result.expect("a write");
                replacement.commit().wait().expect("a commit of the parent");
            }
            assert_file(&path, &bytes(0, 5000, 1), "replaced by the parent");
            assert_eq!(count(), 1);
        }
    });
}
