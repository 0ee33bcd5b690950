//! Promise: what whole files need keeps the bytes of everyone: an append goes behind what is there, and a copy knows where the
//! bytes of its original are, and gets its mode and times.

mod harness;

use deepring::binding::FileBinding;
use deepring::{Direct, Engine, Error, ErrorKind, File, OpenOptions};
use harness::{MODES, assert_file, bytes, directory, engines, open};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, mpsc};

const MIB: usize = 1 << 20;

fn append(file: &File, content: &[u8]) -> Result<u64, Error> {
    let (sender, outcome) = mpsc::channel();
    let then = move |result| sender.send(result).expect("a receiver");
    // SAFETY: the memory is borrowed until the outcome has come.
    unsafe { file.append_then(content.as_ptr() as u64, content.len() as u64, Arc::default(), then) };
    outcome.recv().expect("an outcome")
}

#[test]
fn appends_go_behind_what_is_there_and_others_keep_what_they_have() {
    for engine in engines() {
        let place = directory();
        let path = place.path().join("log");
        let mut model = bytes(0, 5001, 1);
        std::fs::write(&path, &model).expect("a file");
        let file = open(&engine, &path, Direct::Never);
        let beside = open(&engine, &path, Direct::Prefer);
        for round in 0..6 {
            let piece = bytes(0, 1000 + round * 70_001, 2);
            assert_eq!(append(&file, &piece).expect("an append"), piece.len() as u64);
            model.extend_from_slice(&piece);
            // Another program, and an extending write of this one.
            std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .and_then(|mut other| std::io::Write::write_all(&mut other, b"other"))
                .expect("an append");
            model.extend_from_slice(b"other");
            let extension = bytes(0, 3333, 3);
            beside.write_at(extension.clone(), model.len() as u64).wait().result.expect("a write");
            model.extend_from_slice(&extension);
            assert_eq!(append(&file, &[]).expect("nothing"), 0);
        }
        assert_eq!((file.known_size(), file.stat().wait().expect("stat").size), (model.len() as u64, model.len() as u64));
        let read = beside.read_exact_at(vec![0u8; model.len()], 0).wait().ok().expect("a read").0;
        harness::assert_same(&read, &model, "read through another handle");
        assert_file(&path, &model, "on the disk");
    }
}

#[test]
fn an_append_that_cannot_be_reports_why() {
    let place = directory();
    let path = place.path().join("log");
    std::fs::write(&path, b"old").expect("a file");
    let engine = Engine::builder().build().expect("an engine");
    let file = engine.open(&path, OpenOptions::new().read(true)).expect("a file");
    let error = append(&file, b"new").expect_err("it is open for reading");
    assert_eq!((error.kind(), error.syscall(), error.transferred()), (ErrorKind::Os(libc::EBADF), "write", 0), "{error}");
    let closed = open(&engine, &path, Direct::Never);
    engine.close().wait().expect("a close");
    assert_eq!(append(&closed, b"new").expect_err("its engine is closed").kind(), ErrorKind::Closed);
    assert_file(&path, b"old", "afterwards");
}

#[test]
fn the_parts_that_are_not_holes_are_found() {
    for engine in engines() {
        for direct in MODES {
            let place = directory();
            let file = open(&engine, &place.path().join("sparse"), direct);
            file.set_len(64 * MIB as u64 + 1).wait().expect("a length");
            let ends = [(8 * MIB, 9 * MIB), (32 * MIB + 5, 32 * MIB + 4096)];
            for (start, end) in ends {
                file.write_at(bytes(start as u64, end - start, 1), start as u64).wait().result.expect("a write");
            }
            file.sync_all().wait().expect("a flush");
            let found = file.data_ranges(0..64 * MIB as u64 + 1).wait().expect("ranges");
            assert!(found.is_sorted_by(|one, next| one.end <= next.start), "{found:?}");
            for (start, end) in ends {
                let covers = |part: &std::ops::Range<u64>| part.start <= start as u64 && end as u64 <= part.end;
                assert!(found.iter().any(covers), "{start} to {end} in {found:?}");
            }
            let data: u64 = found.iter().map(|part| part.end - part.start).sum();
            assert!(data < 4 * MIB as u64, "holes count as data: {found:?}");
            // Cut to what was asked for.
            let inside = file.data_ranges(8 * MIB as u64 + 4096..8 * MIB as u64 + 8192).wait().expect("ranges");
            assert_eq!((inside.len(), &inside[0]), (1, &(8 * MIB as u64 + 4096..8 * MIB as u64 + 8192)));
            assert_eq!(file.data_ranges(60 * MIB as u64..61 * MIB as u64).wait().expect("ranges"), []);
            assert_eq!(file.data_ranges(5..5).wait().expect("ranges"), []);
        }
    }
}

#[test]
fn a_copy_gets_the_mode_and_the_times_to_the_nanosecond() {
    let place = directory();
    let (old, new) = (place.path().join("old"), place.path().join("new"));
    std::fs::write(&old, b"old").expect("a file");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o604)).expect("a mode");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    let times = std::fs::FileTimes::new().set_accessed(time).set_modified(time + std::time::Duration::from_nanos(1));
    std::fs::File::options().write(true).open(&old).and_then(|file| file.set_times(times)).expect("times");
    for engine in engines() {
        for mode in [false, true] {
            let _ = std::fs::remove_file(&new);
            let (from, to) = (open(&engine, &old, Direct::Prefer), open(&engine, &new, Direct::Prefer));
            let before = to.stat().wait().expect("stat").mode;
            let write = to.write_at(bytes(0, MIB, 1), 0);
            to.take_metadata(&from, mode).wait().expect("times");
            write.wait().result.expect("a write");
            let (theirs, own) = (from.stat().wait().expect("stat"), to.stat().wait().expect("stat"));
            assert_eq!((own.mtime_ns, own.mtime_ns % 1_000_000_000), (theirs.mtime_ns, 123_456_790));
            assert_eq!(own.mode & 0o777, if mode { 0o604 } else { before & 0o777 });
        }
    }
}
