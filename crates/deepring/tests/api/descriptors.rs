//! `try_clone`, `AsFd`, `open_fd`.

use crate::harness::{MODES, assert_file, assert_same, backends, bytes, directory, engines, is_direct, open, within};
use deepring::{Direct, Engine, ErrorKind, File, OpenOptions};
use std::ffi::CString;
use std::fs::OpenOptions as StdOptions;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Descriptors of this process that are open on a path.
fn descriptors(path: &Path) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path)).count()
}

/// A descriptor of a place. Not by `custom_flags`, which on musl loses `O_PATH`: it is a part of `O_ACCMODE` there.
fn place(path: &Path) -> OwnedFd {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: the path is valid, and ends with a zero.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nothing else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn a_clone_outlives_the_close_of_its_original_and_the_last_close_closes() {
    let directory = directory();
    for engine in engines() {
        let path = directory.path().join("cloned");
        let file = open(&engine, &path, Direct::Prefer);
        let clones: Vec<File> = (0..3).map(|_| file.try_clone().expect("a clone")).collect();
        assert_eq!(descriptors(&path), 1, "they share a descriptor");
        file.write_at(bytes(0, 5000, 1), 0).wait().ok().expect("a write");
        file.close().wait().expect("the close of one");
        for (index, clone) in clones.into_iter().enumerate() {
            assert_eq!(descriptors(&path), 1);
            assert_eq!(clone.as_fd().as_raw_fd(), clone.as_raw_fd());
            let at = 5000 + 100 * index as u64;
            clone.write_at(bytes(at, 100, 1), at).wait().ok().expect("a write through a clone");
            // One is dropped, not closed.
            if index == 1 { drop(clone) } else { clone.close().wait().expect("a close") }
        }
        assert_eq!(descriptors(&path), 0);
        assert_file(&path, &bytes(0, 5300, 1), "what all of them wrote");
        std::fs::remove_file(&path).expect("the file");
    }
}

#[test]
fn closing_a_clone_waits_for_the_writes_that_were_accepted_before_and_for_no_others() {
    let directory = directory();
    for backend in backends() {
        let engine = Engine::builder().backend(backend).queue_depth(1).block_bytes(4096).build().expect("an engine");
        let path = directory.path().join("cloned");
        within(LIMIT, "closing a clone", move || {
            let file = open(&engine, &path, Direct::Prefer);
            let clone = file.try_clone().expect("a clone");
            let write = clone.write_at(bytes(0, 1 << 20, 2), 0);
            let closing = clone.close();
            let later: Vec<_> = (0..100).map(|index| file.write_at(bytes(index << 20, 1 << 20, 2), index << 20)).collect();
            closing.wait().expect("the close of a clone");
            assert_ne!(engine.stats().queued, 0, "later writes go on");
            assert_file_starts(&path, &bytes(0, 1 << 20, 2));
            write.wait().ok().expect("the write through the clone");
            drop(later);
            file.close().wait().expect("the last close");
        });
    }
}

fn assert_file_starts(path: &Path, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    std::fs::File::open(path).and_then(|file| file.read_exact_at(&mut found, 0)).expect("the file");
    assert_same(&found, expected, "the file");
}

#[test]
fn a_descriptor_serves_other_system_calls_while_the_file_is_open() {
    let directory = directory();
    for engine in engines() {
        let path = directory.path().join("lent");
        let file = open(&engine, &path, Direct::Prefer);
        file.write_at(bytes(0, 5000, 3), 0).wait().ok().expect("a write");
        let own = std::fs::File::from(file.as_fd().try_clone_to_owned().expect("a duplicate"));
        file.close().wait().expect("a close");
        assert_eq!(own.metadata().expect("metadata").len(), 5000);
    }
}

/// Writes and reads through a file, and compares with what the system sees.
fn assert_works(file: &File, path: &Path, what: &str) {
    file.write_at(bytes(0, 10_001, 4), 0).wait().ok().expect("a write");
    file.write_at(bytes(5000, 100, 5), 5000).wait().ok().expect("a write inside");
    let expected = [bytes(0, 5000, 4), bytes(5000, 100, 5), bytes(5100, 4901, 4)].concat();
    assert_file(path, &expected, what);
    let (read, receipt) = file.read_at(vec![0; 20_000], 1).wait().ok().expect("a read");
    assert_eq!(receipt.bytes, 10_000);
    assert_same(&read[..10_000], &expected[1..], what);
}

#[test]
fn a_descriptor_of_the_program_becomes_a_file_that_is_direct_where_one_by_path_is() {
    let directory = directory();
    for engine in engines() {
        for direct in MODES {
            let path = directory.path().join("brought");
            let own = StdOptions::new().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
            let file = engine.open_fd(own, OpenOptions::new().direct(direct)).expect("a file of the engine");
            assert_eq!(file.direct(), direct == Direct::Prefer && is_direct(directory.path()), "{}", file.direct_support().reason);
            assert_eq!(file.path(), path);
            assert_eq!(descriptors(&path), 1, "the descriptor itself is used");
            assert_works(&file, &path, "by a descriptor");
            file.close().wait().expect("a close");
            assert_eq!(descriptors(&path), 0);
        }
    }
}

#[test]
fn a_file_without_a_name_gets_one_after_it_was_written() {
    let directory = directory();
    for engine in engines() {
        let unnamed = StdOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(directory.path()).expect("a file");
        let file = engine.open_fd(unnamed, OpenOptions::new()).expect("a file of the engine");
        file.write_at(bytes(0, 9999, 6), 0).wait().ok().expect("a write");
        file.sync_all().wait().expect("a sync");
        let path = directory.path().join("named");
        let terminated = |path: &str| std::ffi::CString::new(path).expect("no NUL");
        let link = terminated(&format!("/proc/self/fd/{}", file.as_raw_fd()));
        let name = terminated(path.to_str().expect("UTF-8"));
        // SAFETY: two terminated strings.
        let linked = unsafe { libc::linkat(libc::AT_FDCWD, link.as_ptr(), libc::AT_FDCWD, name.as_ptr(), libc::AT_SYMLINK_FOLLOW) };
        assert_eq!(linked, 0, "{}", std::io::Error::last_os_error());
        assert_file(&path, &bytes(0, 9999, 6), "a file that got its name at last");
        std::fs::remove_file(&path).expect("the file");
    }
}

fn memfd() -> OwnedFd {
    // By its number, because the oldest glibc that is linked with has no function for it.
    // SAFETY: a terminated string.
    let raw = unsafe { libc::syscall(libc::SYS_memfd_create, c"weights".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(raw >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: just created, with no other owner.
    unsafe { OwnedFd::from_raw_fd(raw as i32) }
}

#[test]
fn memory_behind_a_descriptor_is_a_file_and_never_direct() {
    for engine in engines() {
        let file = engine.open_fd(memfd(), OpenOptions::new()).expect("a file of the engine");
        assert!(!file.direct());
        assert!(file.path().to_string_lossy().contains("memfd:weights"), "{:?}", file.path());
        file.write_at(bytes(0, 9999, 7), 0).wait().ok().expect("a write");
        let (read, _) = file.read_exact_at(vec![0; 9999], 0).wait().ok().expect("a read");
        assert_same(&read, &bytes(0, 9999, 7), "a memfd");
        let error = engine.open_fd(memfd(), OpenOptions::new().direct(Direct::Require)).expect_err("memory is not direct");
        assert_eq!(error.kind(), ErrorKind::Direct);
    }
}

#[test]
fn what_cannot_be_used_as_it_is_is_opened_again() {
    let directory = directory();
    let path = directory.path().join("again");
    let both = OpenOptions::new().read(true).write(true);
    for engine in engines() {
        std::fs::write(&path, b"").expect("a file");
        let appending = StdOptions::new().read(true).append(true).open(&path).expect("a file");
        let shared = appending.try_clone().expect("a duplicate");
        let file = engine.open_fd(appending, both).expect("a file of the engine");
        assert_works(&file, &path, "opened for appending");
        // The duplicate still appends: its flags were left alone.
        let len = std::fs::metadata(&path).expect("metadata").len();
        (&shared).write_all(b"end").expect("an append");
        assert_eq!(std::fs::metadata(&path).expect("metadata").len(), len + 3);

        std::fs::write(&path, b"").expect("a file");
        let writing = StdOptions::new().write(true).open(&path).expect("a file");
        let file = engine.open_fd(writing, OpenOptions::new().write(true)).expect("a file of the engine");
        assert_eq!(file.direct(), is_direct(directory.path()), "{}", file.direct_support().reason);
        assert_works(&file, &path, "opened for writing only");

        std::fs::write(&path, b"").expect("a file");
        let file = engine.open_fd(place(&path), both).expect("a file of the engine");
        assert_works(&file, &path, "opened as a place");
    }
}

#[test]
fn a_descriptor_that_does_not_suit_is_refused_and_closed() {
    let directory = directory();
    let path = directory.path().join("refused");
    std::fs::write(&path, b"bytes").expect("a file");
    let engine = Engine::builder().build().expect("an engine");
    let refused = |fd: OwnedFd, options: OpenOptions| engine.open_fd(fd, options).expect_err("refused").kind();
    let reading = || OwnedFd::from(std::fs::File::open(&path).expect("a file"));
    let writing = || OwnedFd::from(StdOptions::new().write(true).open(&path).expect("a file"));
    assert_eq!(refused(reading(), OpenOptions::new().write(true)), ErrorKind::Os(libc::EBADF));
    assert_eq!(refused(writing(), OpenOptions::new().read(true)), ErrorKind::Os(libc::EBADF));
    assert_eq!(refused(reading(), OpenOptions::new().read(true).truncate(true)), ErrorKind::Invalid);
    assert_eq!(refused(place(&path), OpenOptions::new()), ErrorKind::Invalid);
    let creating = [OpenOptions::new().create(true), OpenOptions::new().create_new(true), OpenOptions::new().sync_directory(true)];
    for options in creating {
        assert_eq!(refused(writing(), options.write(true)), ErrorKind::Invalid);
    }
    assert_eq!(descriptors(&path), 0);
    assert_file(&path, b"bytes", "nothing was touched");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    assert_eq!(refused(reader.into(), OpenOptions::new()), ErrorKind::Unsupported);
    assert_eq!(refused(writer.into(), OpenOptions::new()), ErrorKind::Unsupported);
    let here = OwnedFd::from(std::fs::File::open(directory.path()).expect("a directory"));
    assert_eq!(refused(here, OpenOptions::new()), ErrorKind::Os(libc::EISDIR));
}
