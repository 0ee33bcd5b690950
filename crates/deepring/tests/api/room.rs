//! `File::allocate` and `File::punch_hole`.

use crate::harness::disk::{Loop, ext4_image, free_bytes, mount, with_mounts};
use crate::harness::{MODES, Rng, assert_file, assert_same, backends, byte, bytes, directory, engines, eventually, open, within};
use deepring::{Direct, Engine, ErrorKind, OpenOptions};
use std::future::Future;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

fn space(path: &Path) -> u64 {
    std::fs::metadata(path).expect("metadata").blocks() * 512
}

#[test]
fn allocating_gives_space_and_extends_the_file_and_changes_no_bytes() {
    let directory = directory();
    for engine in engines() {
        for direct in MODES {
            let path = directory.path().join("allocated");
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let file = open(&engine, &path, direct);
            file.allocate(1000, 2000).wait().expect("inside");
            assert_eq!(file.known_size(), 5000);
            file.allocate(4999, 2).wait().expect("across the end");
            assert_eq!((file.known_size(), file.stat().wait().expect("stat").size), (5001, 5001));
            file.allocate(1 << 20, (8 << 20) + 1).wait().expect("behind the end");
            let len = (9 << 20) + 1;
            assert_eq!((file.known_size(), file.stat().wait().expect("stat").size), (len, len));
            assert!(space(&path) >= 8 << 20, "{} bytes of space", space(&path));
            let mut expected = [bytes(0, 5000, 1), vec![0; len as usize - 5000]].concat();
            assert_file(&path, &expected, "nothing was written");
            let (read, receipt) = file.read_at(vec![1; 100], len - 7).wait().ok().expect("a read at the new end");
            assert_eq!((receipt.bytes, &read[..7]), (7, &[0; 7][..]));
            // Writes inside and beyond go on as always.
            file.write_at(bytes(5 << 20, 777, 1), 5 << 20).wait().ok().expect("a write inside");
            file.write_at(bytes(len - 5, 10, 1), len - 5).wait().ok().expect("a write across the end");
            expected.resize(len as usize + 5, 0);
            expected[5 << 20..(5 << 20) + 777].copy_from_slice(&bytes(5 << 20, 777, 1));
            expected[len as usize - 5..].copy_from_slice(&bytes(len - 5, 10, 1));
            assert_file(&path, &expected, "after writes");
        }
    }
}

#[test]
fn a_hole_reads_as_zeros_to_the_byte_and_the_length_stays() {
    let directory = directory();
    for engine in engines() {
        for direct in MODES {
            let path = directory.path().join("punched");
            let file = open(&engine, &path, direct);
            let mut model = bytes(0, (4 << 20) + 77, 2);
            file.write_at(model.clone(), 0).wait().ok().expect("a write");
            file.sync_all().wait().expect("a sync");
            let before = space(&path);
            // Inside a unit, across units, to the end, beyond it.
            for (start, end) in [(10, 20), (4000, 5000), (1 << 20, 3 << 20), ((4 << 20) - 1, (4 << 20) + 77), (1 << 30, 2 << 30)] {
                file.punch_hole(start, end - start).wait().expect("a hole");
                let len = model.len();
                model[(start as usize).min(len)..(end as usize).min(len)].fill(0);
                assert_file(&path, &model, "a hole");
                assert_eq!(file.known_size(), len as u64);
                let (read, _) = file.read_exact_at(vec![1; len], 0).wait().ok().expect("a read");
                assert_same(&read, &model, "as the engine reads it");
            }
            assert!(space(&path) <= before - (2 << 20), "{} of {before} bytes of space are left", space(&path));
            file.write_at(bytes(2 << 20, 5000, 2), 2 << 20).wait().ok().expect("a write into a hole");
            model[2 << 20..(2 << 20) + 5000].copy_from_slice(&bytes(2 << 20, 5000, 2));
            assert_file(&path, &model, "a hole that was filled");
            std::fs::remove_file(&path).expect("the file");
        }
    }
}

#[test]
fn a_write_in_flight_is_whole_before_a_hole_or_after_it() {
    const LEN: usize = 300_001;
    let directory = directory();
    for backend in backends() {
        // Block by block, so that a hole would find a write half done.
        let engine = Engine::builder().backend(backend).queue_depth(2).block_bytes(4096).build().expect("an engine");
        let path = directory.path().join("ordered");
        let _ = std::fs::remove_file(&path);
        within(LIMIT, "writes and holes", move || {
            let mut rng = Rng::new();
            let file = open(&engine, &path, Direct::Prefer);
            for round in 0..60u64 {
                let position = rng.below(9000);
                let punch = || file.punch_hole(position, LEN as u64);
                let write = || file.write_at(bytes(position, LEN, round), position);
                let (punched, written) = if rng.once_in(2) {
                    let punched = punch();
                    (punched, write())
                } else {
                    let written = write();
                    (punch(), written)
                };
                let other = file.write_at(bytes(1 << 20, LEN, round), 1 << 20);
                let grown = file.allocate(1 << 20, LEN as u64 + round);
                written.wait().ok().expect("a write");
                punched.wait().expect("a hole");
                other.wait().ok().expect("a write elsewhere");
                grown.wait().expect("room");
                let found = std::fs::read(&path).expect("the file");
                let part = &found[position as usize..position as usize + LEN];
                let first = part[0];
                let whole = if first == 0 { vec![0; LEN] } else { bytes(position, LEN, round) };
                assert_same(part, &whole, "a write and a hole");
                assert_same(&found[1 << 20..(1 << 20) + LEN], &bytes(1 << 20, LEN, round), "a write elsewhere");
                assert_eq!(found.len() as u64, (1 << 20) + LEN as u64 + round, "the length");
            }
        });
    }
}

#[test]
fn appends_and_allocations_at_once_leave_the_length_that_the_last_of_them_made() {
    const EACH: usize = 4001;
    let directory = directory();
    for engine in engines() {
        for direct in MODES {
            let path = directory.path().join("growing");
            let _ = std::fs::remove_file(&path);
            let file = open(&engine, &path, direct);
            let appends: Vec<_> = (0..200u64).map(|index| file.write_at(bytes(index * 4001, EACH, 3), index * 4001)).collect();
            let grown: Vec<_> = (1..20u64).map(|index| file.allocate(index * 40_000, 1234)).collect();
            for append in appends {
                append.wait().ok().expect("an append");
            }
            for grown in grown {
                grown.wait().expect("room");
            }
            assert_file(&path, &bytes(0, 200 * EACH, 3), "appends are longer than all allocations");
            file.allocate(0, 1_000_003).wait().expect("room");
            assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 1_000_003);
        }
    }
}

#[test]
fn what_cannot_be_is_an_error_and_nothing_is_changed() {
    let directory = directory();
    for engine in engines() {
        let path = directory.path().join("refused");
        std::fs::write(&path, bytes(0, 5000, 4)).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        file.allocate(1 << 40, 0).wait().expect("nothing");
        file.punch_hole(0, 0).wait().expect("nothing");
        for task in [file.allocate(u64::MAX, 1), file.punch_hole(1, u64::MAX), file.allocate(1 << 62, 1 << 61)] {
            let error = task.wait().expect_err("too far");
            assert_eq!((error.code().as_str(), error.syscall(), error.path()), ("EFBIG", "fallocate", Some(&*path)));
        }
        let reader = engine.open(&path, OpenOptions::new().read(true)).expect("the file");
        for task in [reader.allocate(0, 10_000), reader.punch_hole(0, 100)] {
            assert_eq!(task.wait().expect_err("it is read only").kind(), ErrorKind::Os(libc::EBADF));
        }
        assert_file(&path, &bytes(0, 5000, 4), "nothing was changed");
        assert_eq!(file.known_size(), 5000);
    }
}

#[test]
fn an_allocation_that_does_not_fit_leaves_the_length_and_takes_nothing_past_the_end() {
    with_mounts(|place| {
        let (image, disk) = (place.join("image"), place.join("disk"));
        ext4_image(&image, 32 << 20, &["-b", "4096"]);
        let device = Loop::attach(&image);
        mount(&device.path, &disk, "ext4", 0, "");
        for engine in engines() {
            let path = disk.join("file");
            std::fs::write(&path, bytes(0, 5000, 5)).expect("the file");
            let file = open(&engine, &path, Direct::Prefer);
            let free = free_bytes(&disk);
            let error = file.allocate(3000, 60 << 20).wait().expect_err("60 MiB on 32");
            assert_eq!((error.code().as_str(), error.syscall()), ("ENOSPC", "fallocate"));
            assert_file(&path, &bytes(0, 5000, 5), "the file");
            let lost = free.saturating_sub(free_bytes(&disk));
            assert!(lost <= 8192, "{lost} bytes stay taken");
            file.allocate(3000, 1 << 20).wait().expect("1 MiB");
            assert_eq!(file.known_size(), 3000 + (1 << 20));
            file.close().wait().expect("close");
            std::fs::remove_file(&path).expect("the file");
        }
    });
}

/// A lock as another process has it while it writes a unit in part: see `locks`.
fn lock_unit(file: &std::fs::File, kind: libc::c_int, position: i64) {
    const BYTES: i64 = 1 << 62;
    // SAFETY: plain numbers; zero is a valid value of each.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    (lock.l_start, lock.l_len) = (BYTES + position, 4096);
    // SAFETY: reads a local struct.
    let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_hole_in_part_of_a_unit_waits_for_a_copy_that_writes_the_unit() {
    let directory = directory();
    for engine in engines() {
        let path = directory.path().join("locked");
        std::fs::write(&path, bytes(0, 40_000, 6)).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        if !file.process_locks().available || !file.direct() {
            crate::harness::skip("it needs locks and direct I/O");
            return;
        }
        let other = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("the file");
        lock_unit(&other, libc::F_WRLCK, 8192);
        file.punch_hole(16_384, 4096).wait().expect("whole units elsewhere");
        file.punch_hole(16_384, 100).wait().expect("a part of another unit");
        let mut waiting = pin!(file.punch_hole(8000, 300));
        std::thread::sleep(Duration::from_millis(50));
        let mut poll = || waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(poll(), Poll::Pending));
        assert_eq!(std::fs::read(&path).expect("the file")[8000], byte(8000, 6), "it has not begun");
        lock_unit(&other, libc::F_UNLCK, 8192);
        eventually(LIMIT, "the hole", || matches!(poll(), Poll::Ready(Ok(()))));
        let mut expected = bytes(0, 40_000, 6);
        expected[8000..8300].fill(0);
        expected[16_384..20_480].fill(0);
        assert_file(&path, &expected, "the holes");
        // The lock is gone: another copy can take it.
        lock_unit(&other, libc::F_WRLCK, 8192);
    }
}
