//! Locks that programs hold on their files, and file systems without locks.

use super::harness::child::{alone, forbid_command};
use super::harness::{assert_file, bytes, directory, open, patient};
use super::{part, start};
use deepring::{Direct, Engine, ErrorKind, OpenOptions};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// As durability.md states it.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Locks all positions of a file exclusively, from 0 to the end of all positions.
fn lock_whole(file: &File, command: libc::c_int) {
    let lock =
        libc::flock { l_type: libc::F_WRLCK as libc::c_short, l_whence: libc::SEEK_SET as libc::c_short, l_start: 0, l_len: 0, l_pid: 0 };
    // SAFETY: the call reads a local struct.
    let locked = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) };
    assert_eq!(locked, 0, "{}", std::io::Error::last_os_error());
}

fn read_write(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).expect("the file")
}

/// Plays the owner of a lock: until it is killed.
fn hold(part: &str, place: &str) {
    let file = read_write(Path::new(place));
    lock_whole(&file, if part == "posix" { libc::F_SETLK } else { libc::F_OFD_SETLK });
    std::fs::write(Path::new(place).with_extension("held"), b"").expect("the sign that it is held");
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// A process that holds a lock on the whole file. Killed when it is dropped.
struct Owner(Child);

impl Owner {
    fn start(part: &str, path: &Path) -> Self {
        let owner = Self(start(part, path, Stdio::null()));
        let held = path.with_extension("held");
        let started = Instant::now();
        while !held.exists() {
            assert!(started.elapsed() < patient(Duration::from_secs(30)), "the lock is not taken");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(held).expect("the sign");
        owner
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.kill().expect("the owner killed");
        self.0.wait().expect("the owner's end");
    }
}

#[test]
fn a_lock_that_this_process_holds_on_the_whole_file_is_no_obstacle() {
    // A POSIX lock goes when any descriptor of its file is closed, so nothing else may be at work.
    alone(|| {
        let place = directory();
        for (name, command) in [("posix", libc::F_SETLK), ("opening", libc::F_OFD_SETLK)] {
            let path = place.path().join(name);
            std::fs::write(&path, bytes(0, 9000, 1)).expect("the file");
            let engine = Engine::builder().build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let own = read_write(&path);
            lock_whole(&own, command);
            let started = Instant::now();
            for position in [100, 5000, 8999, 20_000] {
                file.write_at(bytes(position, 100, 2), position).wait().result.expect("a write");
            }
            file.set_len(20_050).wait().expect("set_len");
            assert!(started.elapsed() < patient(WAIT_MAX / 2), "{name}: waited {:?} for its own lock", started.elapsed());
            let mut found = Vec::new();
            own.try_clone().expect("a descriptor").read_to_end(&mut found).expect("the file");
            assert_eq!((found.len(), &found[20_000..]), (20_050, &bytes(20_000, 50, 2)[..]));
            assert_eq!(found[5000..5100], bytes(5000, 100, 2)[..]);
        }
    });
}

#[test]
fn a_lock_that_another_process_holds_for_ever_ends_in_an_error_that_names_it() {
    if let Some((part, place)) = part() {
        return hold(&part, &place);
    }
    let place = directory();
    let path = place.path().join("file");
    let elsewhere = place.path().join("elsewhere");
    for kind in ["posix", "opening"] {
        std::fs::write(&path, bytes(0, 8192, 1)).expect("the file");
        let engine = Engine::builder().build().expect("an engine");
        let owner = Owner::start(kind, &path);
        let file = open(&engine, &path, Direct::Prefer);
        let started = Instant::now();
        let edge = file.write_at(bytes(100, 1000, 2), 100);
        let growing = file.write_at(bytes(9000, 1000, 2), 9000);
        let canceled = file.write_at(bytes(200, 1000, 2), 200);
        let truncation = file.set_len(5);
        let other = open(&engine, &elsewhere, Direct::Prefer);
        other.write_at(bytes(7, 5000, 3), 7).wait().result.expect("a write to another file");
        assert!(started.elapsed() < patient(WAIT_MAX / 2), "another file waited {:?}", started.elapsed());
        canceled.cancel();
        let error = canceled.wait().result.expect_err("canceled");
        assert_eq!(error.kind(), ErrorKind::Canceled);
        assert!(started.elapsed() < patient(WAIT_MAX / 2), "a canceled write waited {:?}", started.elapsed());
        for op in [edge, growing] {
            let error = op.wait().result.expect_err("the lock is held");
            assert_eq!(error.kind(), ErrorKind::Locked(Some(owner.0.id())), "{error}");
            assert_eq!((error.code().as_str(), error.path()), ("ERR_DEEPRING_LOCKED", Some(path.as_path())));
            assert!(error.to_string().contains(&owner.0.id().to_string()), "{error}");
            assert!(started.elapsed() >= WAIT_MAX, "gave up after {:?}", started.elapsed());
        }
        assert_eq!(truncation.wait().expect_err("the lock is held").code(), "ERR_DEEPRING_LOCKED");
        assert_file(&path, &bytes(0, 8192, 1), "a file whose lock another process holds");
        drop(owner);
        file.write_at(bytes(9000, 1000, 2), 9000).wait().result.expect("a write after the owner's end");
        file.close().wait().expect("close");
    }
}

#[test]
fn a_lock_that_is_released_in_time_is_waited_for() {
    if let Some((part, place)) = part() {
        return hold(&part, &place);
    }
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 8192, 1)).expect("the file");
    let engine = Engine::builder().build().expect("an engine");
    let owner = Owner::start("posix", &path);
    let file = open(&engine, &path, Direct::Prefer);
    let ops: Vec<_> = (0..300u64).map(|index| file.write_at(bytes(index * 100, 100, 2), index * 100)).collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(owner);
    for op in ops {
        assert_eq!(op.wait().result.expect("a write").bytes, 100);
    }
    file.close().wait().expect("close");
    assert_file(&path, &bytes(0, 30_000, 2), "writes that waited");
}

#[test]
fn where_locks_are_refused_writes_go_on_and_the_file_says_so() {
    for errno in [libc::ENOLCK, libc::EOPNOTSUPP, libc::EINVAL, libc::EBADF, libc::EPERM] {
        let place = directory();
        let path = place.path().join("file");
        // Filters add up, so each error has a thread of its own.
        std::thread::spawn(move || {
            forbid_command(libc::SYS_fcntl, libc::F_OFD_SETLK as u32, errno);
            let engine = Engine::builder().build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            file.write_at(bytes(100, 9000, 2), 100).wait().result.expect("a write without locks");
            let locks = file.process_locks();
            assert!(!locks.available && locks.reason.contains(&errno.to_string()), "{locks:?}");
            let found = engine.path_info(&path).expect("path_info").process_locks;
            assert!(!found.available && found.reason.contains(&errno.to_string()), "{found:?}");
            file.close().wait().expect("close");
            assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 9100);
        })
        .join()
        .expect("the writes");
    }
}

#[test]
fn a_file_says_whether_it_is_locked_between_processes() {
    let place = directory();
    let path = place.path().join("file");
    let engine = Engine::builder().build().expect("an engine");
    let file = open(&engine, &path, Direct::Prefer);
    assert!(file.process_locks().available, "{:?}", file.process_locks());
    assert!(engine.path_info(&path).expect("path_info").process_locks.available);
    let reader = engine.open(&path, OpenOptions::new().read(true)).expect("the file");
    assert!(!reader.process_locks().available);
}
