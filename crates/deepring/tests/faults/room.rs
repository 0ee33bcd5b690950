//! A length is no space: files with holes, clones, and the last bytes of a disk or of a limit.

use super::{check, check_usable, small_disk};
use crate::harness::child::{alone, limit};
use crate::harness::disk::{free_bytes, mount, other_disk, with_mounts};
use crate::harness::{MODES, assert_file, bytes, directory, engines, open, skip};
use deepring::{Completed, Direct, Engine, Error, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;

/// Every way to write `content` to the start of a file.
fn writes(engine: &Engine, path: &Path, content: &[u8]) -> Vec<(String, Option<Error>)> {
    let mut outcomes = Vec::new();
    for direct in MODES {
        let Completed { result, .. } = open(engine, path, direct).write_at(content.to_vec(), 0).wait();
        outcomes.push((format!("{direct:?}"), result.err()));
    }
    outcomes.push(("by path".into(), engine.write_file(path, content.to_vec()).wait().result.err()));
    outcomes
}

/// A file with `content` at its start, and a hole up to `len`.
fn sparse(path: &Path, content: &[u8], len: usize) -> Vec<u8> {
    std::fs::write(path, content).expect("the file");
    std::fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(len as u64)).expect("the file");
    let mut model = content.to_vec();
    model.resize(len, 0);
    model
}

/// Takes all space but `left` bytes.
fn fill(disk: &Path, left: u64) -> PathBuf {
    let filler = disk.join("filler");
    let file = std::fs::File::create(&filler).expect("the filler");
    for _ in 0..8 {
        let take = free_bytes(disk).saturating_sub(left);
        let size = file.metadata().expect("the filler").len();
        // SAFETY: no pointers.
        if take == 0 || unsafe { libc::fallocate(file.as_raw_fd(), 0, size as i64, take as i64) } != 0 {
            break;
        }
    }
    filler
}

#[track_caller]
fn assert_refused(disk: &Path, path: &Path, old: &[u8], content: &[u8]) {
    for engine in engines() {
        let free = free_bytes(disk);
        for (how, error) in writes(&engine, path, content) {
            let error = error.unwrap_or_else(|| panic!("{how}: more than fits was written"));
            check(&error, "ENOSPC", path, 0, content.len() as u64);
            assert_eq!(error.transferred(), 0, "{how}: {error}");
            assert_file(path, old, &how);
        }
        let kept = free.saturating_sub(free_bytes(disk));
        assert!(kept <= 64 << 10, "{kept} bytes were taken by writes that did not fit");
        check_usable(&engine, disk);
    }
}

#[test]
fn a_sparse_file_whose_holes_do_not_fit_keeps_its_bytes_and_takes_no_space() {
    with_mounts(|place| {
        let disk = small_disk(place, &["-b", "4096"]);
        let path = disk.join("file");
        let old = sparse(&path, &bytes(0, 2 * MIB, 1), 20 * MIB);
        assert_refused(&disk, &path, &old, &bytes(0, 20 * MIB, 2));
        // Across the end of the file: what lies beyond is given back.
        assert_refused(&disk, &path, &old, &bytes(0, 21 * MIB, 2));
        // What fits is written, also into the hole.
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            file.write_at(bytes(MIB as u64, 3 * MIB, 3), MIB as u64).wait().result.expect("a write that fits");
        }
    });
}

fn another_sparse_file(kind: &str) {
    with_mounts(|place| {
        let Some(disk) = other_disk(kind, place) else { return skip(&format!("there is no mkfs.{kind}")) };
        let path = disk.join("file");
        let old = sparse(&path, &bytes(0, 4 * MIB, 1), 24 * MIB);
        fill(&disk, 10 << 20);
        assert_refused(&disk, &path, &old, &bytes(0, 24 * MIB, 2));
        assert_refused(&disk, &path, &old, &bytes(0, 25 * MIB + 100, 2));
    });
}

#[test]
fn a_sparse_file_on_a_full_xfs_keeps_its_bytes() {
    another_sparse_file("xfs");
}

#[test]
fn a_sparse_file_on_a_full_btrfs_keeps_its_bytes() {
    another_sparse_file("btrfs");
}

#[test]
fn a_sparse_file_on_a_full_tmpfs_keeps_its_bytes() {
    with_mounts(|place| {
        let disk = place.join("memory");
        mount(Path::new("none"), &disk, "tmpfs", 0, "size=16m");
        let path = disk.join("file");
        let old = sparse(&path, &bytes(0, 2 * MIB, 1), 20 * MIB);
        assert_refused(&disk, &path, &old, &bytes(0, 20 * MIB, 2));
    });
}

/// A file that shares its space with another one.
fn clone(from: &Path, to: &Path) -> bool {
    const FICLONE: libc::Ioctl = 0x4004_9409;
    let (source, target) = (std::fs::File::open(from).expect("the source"), std::fs::File::create(to).expect("the clone"));
    // SAFETY: takes a descriptor.
    let cloned = unsafe { libc::ioctl(target.as_raw_fd(), FICLONE, source.as_raw_fd()) } == 0;
    target.sync_all().expect("a sync");
    cloned
}

fn a_clone_on_a_full_disk(kind: &str) {
    with_mounts(|place| {
        let Some(disk) = other_disk(kind, place) else { return skip(&format!("there is no mkfs.{kind}")) };
        let (base, path) = (disk.join("base"), disk.join("file"));
        let old = bytes(0, 24 * MIB, 1);
        std::fs::write(&base, &old).and_then(|()| std::fs::File::open(&base)?.sync_all()).expect("the file");
        if !clone(&base, &path) {
            return skip(&format!("{kind} does not clone here"));
        }
        fill(&disk, 10 << 20);
        assert_refused(&disk, &path, &old, &bytes(0, 24 * MIB, 2));
    });
}

#[test]
fn a_clone_on_a_full_xfs_keeps_its_bytes() {
    a_clone_on_a_full_disk("xfs");
}

#[test]
fn a_clone_on_a_full_btrfs_keeps_its_bytes() {
    a_clone_on_a_full_disk("btrfs");
}

#[test]
fn space_that_a_file_has_already_is_used_on_a_full_disk() {
    with_mounts(|place| {
        let disk = small_disk(place, &["-b", "4096"]);
        let path = disk.join("file");
        for engine in engines() {
            // Allocated but never written, in two parts with a hole between them.
            let file = std::fs::File::create(&path).expect("the file");
            for start in [0, 6 << 20] {
                // SAFETY: no pointers.
                assert_eq!(unsafe { libc::fallocate(file.as_raw_fd(), 0, start, 4 << 20) }, 0);
            }
            let filler = fill(&disk, 0);
            for (position, len) in [(0, 4 * MIB), (6 << 20, 4 * MIB), (100, 3 * MIB)] {
                for direct in MODES {
                    let write = open(&engine, &path, direct).write_at(bytes(position, len, 1), position);
                    write.wait().result.expect("no space is lacking");
                }
            }
            let error = open(&engine, &path, Direct::Prefer).write_at(vec![1; 2 * MIB], 4 << 20).wait().result.expect_err("a hole");
            assert_eq!((error.code().as_ref(), error.transferred()), ("ENOSPC", 0), "{error}");
            std::fs::remove_file(filler).and_then(|()| std::fs::remove_file(&path)).expect("the files");
        }
    });
}

#[test]
fn a_file_that_was_given_its_length_in_this_process_has_holes_too() {
    with_mounts(|place| {
        let disk = small_disk(place, &["-b", "4096"]);
        let path = disk.join("file");
        for engine in engines() {
            for direct in MODES {
                std::fs::write(&path, bytes(0, 3000, 1)).expect("the file");
                let file = open(&engine, &path, direct);
                file.set_len(20 << 20).wait().expect("set_len");
                let mut old = bytes(0, 3000, 1);
                old.resize(20 << 20, 0);
                let error = file.write_at(vec![7; 19 << 20], 1 << 20).wait().result.expect_err("19 MiB do not fit on 16");
                check(&error, "ENOSPC", &path, 1 << 20, 19 << 20);
                assert_eq!(error.transferred(), 0, "{error}");
                assert_file(&path, &old, "after a write that did not fit");
                file.close().wait().expect("close");
                std::fs::remove_file(&path).expect("the file");
            }
        }
    });
}

/// Writes of bytes that fit where the padding does not.
fn write_to_the_byte(file: &File, path: &Path, len: usize) {
    let (head, tail) = (len / 3, len - len / 3);
    file.write_at(bytes(0, head, 1), 0).wait().result.expect("the first bytes");
    file.write_at(bytes(head as u64, tail, 1), head as u64).wait().result.expect("the last bytes");
    assert_file(path, &bytes(0, len, 1), "written to the byte");
    file.write_at(bytes(len as u64 - 7, 7, 1), len as u64 - 7).wait().result.expect("the last bytes again");
    assert_file(path, &bytes(0, len, 1), "written to the byte, again");
}

#[test]
fn a_file_as_long_as_the_limit_allows_is_written() {
    alone(|| {
        const LEN: usize = 10_000;
        let place = directory();
        let path = place.path().join("file");
        limit(libc::RLIMIT_FSIZE, LEN as u64);
        for engine in engines() {
            for direct in MODES {
                write_to_the_byte(&open(&engine, &path, direct), &path, LEN);
                std::fs::remove_file(&path).expect("the file");
            }
            engine.write_file(&path, bytes(0, LEN, 2)).wait().result.expect("as long as the limit");
            assert_file(&path, &bytes(0, LEN, 2), "by path");
            let error = engine.write_file(&path, bytes(0, LEN + 1, 3)).wait().result.expect_err("longer than the limit");
            assert_eq!((error.code().as_ref(), error.transferred()), ("EFBIG", 0));
            assert_file(&path, &bytes(0, LEN, 2), "after a write beyond the limit");
            std::fs::remove_file(&path).expect("the file");
        }
    });
}

#[test]
fn the_last_blocks_of_a_disk_are_written_where_the_padding_does_not_fit() {
    with_mounts(|place| {
        // Blocks of 1 KiB, smaller than the engine's unit.
        let disk = small_disk(place, &["-b", "1024"]);
        let path = disk.join("file");
        for engine in engines() {
            for direct in MODES {
                std::fs::write(&path, b"").expect("the file");
                let filler = fill(&disk, 2048);
                write_to_the_byte(&open(&engine, &path, direct), &path, 1500);
                std::fs::write(&path, b"").expect("the file");
                engine.write_file(&path, bytes(0, 2048, 2)).wait().result.expect("two blocks");
                assert_file(&path, &bytes(0, 2048, 2), "by path");
                std::fs::remove_file(filler).and_then(|()| std::fs::remove_file(&path)).expect("the files");
            }
        }
    });
}
