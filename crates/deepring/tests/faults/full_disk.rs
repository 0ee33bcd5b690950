//! A full disk.

use super::{check, check_usable, small_disk};
use crate::harness::disk::{free_bytes, other_disk, with_mounts};
use crate::harness::{MODES, assert_file, assert_same, bytes, engines, open, skip};
use deepring::{Completed, Direct};
use std::path::Path;

/// The space taken by a failed preallocation is free again, except what ext4 keeps: a file that
/// once had many extents keeps a block for them.
#[track_caller]
fn check_space_is_back(disk: &Path, free: u64) {
    let kept = free.saturating_sub(free_bytes(disk));
    assert!(kept <= 8192, "{kept} bytes of the taken space were not freed");
}

#[test]
fn a_full_disk_leaves_the_file_unchanged() {
    with_mounts(|place| {
        let disk = small_disk(place, &["-b", "4096"]);
        let path = disk.join("file");
        let empty = free_bytes(&disk);
        for engine in engines() {
            for direct in MODES {
                let old = bytes(0, 3000, 1);
                std::fs::write(&path, &old).expect("the file");
                let file = open(&engine, &path, direct);
                let free = free_bytes(&disk);
                for position in [0, 2999, 3000, 5000, 1 << 20] {
                    let content = vec![7; 40 << 20];
                    let Completed { buf, result } = file.write_at(content, position).wait();
                    let error = result.expect_err("40 MiB do not fit on 16");
                    check(&error, "ENOSPC", &path, position, 40 << 20);
                    // Nothing is preallocated without direct I/O.
                    let call = if file.direct() { "fallocate" } else { "write" };
                    assert_eq!((error.transferred(), error.syscall()), (0, call), "{error}");
                    assert_eq!(buf.map(|buf| buf.len()), Some(40 << 20), "the buffer comes back");
                    assert_file(&path, &old, "after a write that did not fit");
                    assert_eq!(file.stat().wait().expect("stat").size, 3000);
                }
                check_space_is_back(&disk, free);
                file.write_at(vec![8; 100], 2950).wait().result.expect("a write that fits");
                let mut model = old;
                model.resize(3050, 8);
                model[2950..].fill(8);
                assert_file(&path, &model, "after a write that did fit");
                file.close().wait().expect("close");
                std::fs::remove_file(&path).expect("the file");
                assert_eq!(free_bytes(&disk), empty, "without the file all space is free");
                check_usable(&engine, &disk);
            }
        }
    });
}

#[test]
fn a_whole_file_write_that_does_not_fit_leaves_the_old_file() {
    with_mounts(|place| {
        // Blocks of 1 KiB, smaller than the engine's unit.
        let disk = small_disk(place, &["-b", "1024"]);
        let path = disk.join("file");
        for engine in engines() {
            for old in [0, 1000, 5000, 3 << 20] {
                let old = bytes(0, old, 1);
                std::fs::write(&path, &old).expect("the file");
                let free = free_bytes(&disk);
                let Completed { buf, result } = engine.write_file(&path, vec![7; 40 << 20]).wait();
                let error = result.expect_err("40 MiB do not fit on 16");
                check(&error, "ENOSPC", &path, 0, 40 << 20);
                assert_eq!((error.transferred(), buf.map(|buf| buf.len())), (0, Some(40 << 20)));
                assert_file(&path, &old, "the old file");
                check_space_is_back(&disk, free);
            }
            std::fs::remove_file(&path).expect("the file");
            let error = engine.write_file(&path, vec![7; 40 << 20]).wait().result.expect_err("40 MiB do not fit on 16");
            assert_eq!(error.code(), "ENOSPC");
            let len = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            assert_eq!(len, 0, "a file that was not there before holds nothing");
            drop(std::fs::remove_file(&path));
            check_usable(&engine, &disk);
        }
    });
}

fn another_disk_too_full(kind: &str) {
    with_mounts(|place| {
        let Some(disk) = other_disk(kind, place) else { return skip(&format!("there is no mkfs.{kind}")) };
        let path = disk.join("file");
        for engine in engines() {
            let old = bytes(0, 3000, 1);
            std::fs::write(&path, &old).expect("the file");
            let file = open(&engine, &path, Direct::Prefer);
            let free = free_bytes(&disk);
            for position in [0, 2999, 5000] {
                // Only address space: the write fails before any of its bytes is read.
                let buf = engine.buffer(1 << 30).expect("memory");
                let error = file.write_at(buf, position).wait().result.expect_err("a gigabyte does not fit on 400 MiB");
                check(&error, "ENOSPC", &path, position, 1 << 30);
                assert_eq!(error.transferred(), 0, "{error}");
                assert_file(&path, &old, "after a write that did not fit");
            }
            let kept = free.saturating_sub(free_bytes(&disk));
            assert!(kept <= 1 << 20, "{kind}: {kept} bytes of the taken space were not freed");
            drop(file);
            check_usable(&engine, &disk);
        }
    });
}

#[test]
fn a_full_xfs_leaves_the_file_unchanged() {
    another_disk_too_full("xfs");
}

#[test]
fn a_full_btrfs_leaves_the_file_unchanged() {
    another_disk_too_full("btrfs");
}

#[test]
fn a_write_that_does_not_fit_does_not_disturb_one_that_does() {
    with_mounts(|place| {
        let disk = small_disk(place, &["-b", "4096"]);
        let path = disk.join("file");
        for engine in engines() {
            for round in 0..12u64 {
                std::fs::write(&path, b"").expect("the file");
                let files = [open(&engine, &path, Direct::Prefer), open(&engine, &path, Direct::Prefer)];
                let huge = files[0].write_at(vec![7; 40 << 20], 10_000 + round);
                let small: Vec<_> = (0..8).map(|index| files[1].write_at(bytes(index * 1001, 1001, round), index * 1001)).collect();
                let error = huge.wait().result.expect_err("40 MiB do not fit on 16");
                assert_eq!(error.code(), "ENOSPC", "{error}");
                for op in small {
                    op.wait().result.expect("a write that fits");
                }
                // While the failed preallocation held the space, a small write can have found no
                // room. Then it failed above.
                assert_file(&path, &bytes(0, 8008, round), "the small writes");
            }
        }
    });
}

#[test]
fn without_preallocation_a_write_that_does_not_fit_leaves_the_file_unchanged_too() {
    with_mounts(|place| {
        // Files without extents cannot be preallocated.
        let disk = small_disk(place, &["-b", "4096", "-O", "^extent,^64bit"]);
        let path = disk.join("file");
        for engine in engines() {
            for direct in MODES {
                let old = bytes(0, 3000, 1);
                std::fs::write(&path, &old).expect("the file");
                let file = open(&engine, &path, direct);
                let position = 2000u64;
                let content = bytes(position, 40 << 20, 2);
                let error = file.write_at(content, position).wait().result.expect_err("40 MiB do not fit on 16");
                check(&error, "ENOSPC", &path, position, 40 << 20);
                assert_eq!(error.transferred(), 0, "{error}");
                assert_file(&path, &old, &format!("after a write that did not fit, {direct:?}"));
                drop(file);
                std::fs::remove_file(&path).expect("the file");
                check_usable(&engine, &disk);
                // A write that fits succeeds, and the file has the right length.
                let file = open(&engine, &path, direct);
                for (position, len) in [(0, 5000), (5000, 123), (100_001, 1_000_000)] {
                    file.write_at(bytes(position, len, 3), position).wait().result.expect("a write that fits");
                    assert_eq!(std::fs::metadata(&path).expect("metadata").len(), position + len as u64);
                }
                let found = std::fs::read(&path).expect("the file");
                assert_same(&found[..5123], &bytes(0, 5123, 3), "without preallocation");
                assert!(found[5123..100_001].iter().all(|&byte| byte == 0));
                assert_same(&found[100_001..], &bytes(100_001, 1_000_000, 3), "without preallocation");
                drop(file);
                std::fs::remove_file(&path).expect("the file");
            }
        }
    });
}

#[test]
fn writes_that_race_for_the_room_report_the_bytes_that_arrived() {
    with_mounts(|place| {
        // Each fits alone, and nothing can be reserved.
        let disk = small_disk(place, &["-b", "4096", "-O", "^extent,^64bit"]);
        for engine in engines() {
            for direct in MODES {
                let paths = [disk.join("first"), disk.join("second")];
                let files = paths.each_ref().map(|path| open(&engine, path, direct));
                let writes = [0, 1].map(|index| files[index].write_at(bytes(0, 9 << 20, index as u64), 0));
                let mut failed = 0;
                for (index, write) in writes.into_iter().enumerate() {
                    let done = match write.wait().result {
                        Ok(receipt) => receipt.bytes,
                        Err(error) => {
                            check(&error, "ENOSPC", &paths[index], 0, 9 << 20);
                            failed += 1;
                            error.transferred()
                        }
                    };
                    assert_file(&paths[index], &bytes(0, done as usize, index as u64), "the bytes that arrived");
                }
                assert!(failed > 0, "18 MiB do not fit on 16");
                drop(files);
                for path in &paths {
                    std::fs::remove_file(path).expect("the file");
                }
                check_usable(&engine, &disk);
            }
        }
    });
}
