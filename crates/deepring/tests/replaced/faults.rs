//! Full, broken and read-only disks, limits and permissions: the old file stays, and nothing is left behind.

use super::harness::child::{alone, become_nobody, directory_for_all, forbid_on, limit};
use super::harness::disk::{Loop, as_root, ext4_image, free_bytes, mount, with_mounts};
use super::harness::{MODES, assert_file, bytes, directory, engines};
use super::{begin, names, replace};
use deepring::{Engine, ErrorKind, ReplaceOptions, Replacement};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const NEW: ReplaceOptions = ReplaceOptions::new();

/// The old file and nothing else is there.
#[track_caller]
fn assert_untouched(path: &Path, old: &[u8]) {
    assert_file(path, old, "the old file");
    let names: Vec<_> = names(path.parent().expect("a directory")).into_iter().filter(|name| name != "lost+found").collect();
    assert_eq!(names, [path.file_name().expect("a name")]);
}

/// Disks of 16 MiB.
fn full_disks(place: &Path) -> [PathBuf; 2] {
    let [memory, image, disk] = ["memory", "image", "disk"].map(|name| place.join(name));
    mount(Path::new("none"), &memory, "tmpfs", 0, "size=16m");
    ext4_image(&image, 16 << 20, &[]);
    let device = Loop::attach(&image);
    mount(&device.path, &disk, "ext4", 0, "");
    [memory, disk]
}

#[test]
fn a_disk_that_is_too_full_is_found_before_the_first_byte() {
    with_mounts(|place| {
        for disk in full_disks(place) {
            let path = disk.join("file");
            let old = bytes(0, 3000, 1);
            for engine in engines() {
                for direct in MODES {
                    std::fs::write(&path, &old).expect("the old file");
                    let free = free_bytes(&disk);
                    let error = engine.replace(&path, NEW.direct(direct).size(40 << 20)).wait().expect_err("40 MiB do not fit on 16");
                    assert_eq!((error.code().as_str(), error.syscall(), error.path()), ("ENOSPC", "fallocate", Some(path.as_path())));
                    assert_untouched(&path, &old);
                    assert!(free.saturating_sub(free_bytes(&disk)) <= 8192, "the space is back");
                    // Not reserved, it is found while writing.
                    let replacement = begin(&engine, &path, NEW.direct(direct));
                    let error = replacement.file().write_at(vec![7; 40 << 20], 0).wait().result.expect_err("40 MiB do not fit on 16");
                    assert_eq!((error.code().as_str(), error.path()), ("ENOSPC", Some(path.as_path())));
                    replacement.abandon().wait().expect("the end");
                    assert_untouched(&path, &old);
                    replace(&engine, &path, &bytes(0, 1 << 20, 2), NEW.direct(direct).size(1 << 20));
                    assert_untouched(&path, &bytes(0, 1 << 20, 2));
                }
            }
        }
    });
}

#[test]
fn a_file_system_that_cannot_reserve_replaces_files_all_the_same() {
    with_mounts(|place| {
        let (image, disk) = (place.join("image"), place.join("disk"));
        // ext4 without extents answers EOPNOTSUPP.
        ext4_image(&image, 32 << 20, &["-O", "^extent,^64bit,^metadata_csum"]);
        let device = Loop::attach(&image);
        mount(&device.path, &disk, "ext4", 0, "");
        let path = disk.join("file");
        for engine in engines() {
            for direct in MODES {
                for len in [1, 10_001, 3 << 20] {
                    replace(&engine, &path, &bytes(0, len, 1), NEW.direct(direct).size(len as u64));
                    assert_untouched(&path, &bytes(0, len, 1));
                }
            }
        }
    });
}

#[test]
fn a_file_beyond_the_limit_of_the_process_is_efbig() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        let old = bytes(0, 5000, 1);
        std::fs::write(&path, &old).expect("the old file");
        limit(libc::RLIMIT_FSIZE, 1 << 20);
        for engine in engines() {
            for size in [(1 << 20) + 1, u64::MAX] {
                let error = engine.replace(&path, NEW.size(size)).wait().expect_err("beyond the limit");
                assert_eq!((error.code().as_str(), error.syscall(), error.path()), ("EFBIG", "fallocate", Some(path.as_path())));
                assert_untouched(&path, &old);
            }
            let replacement = begin(&engine, &path, NEW.size(1 << 20));
            let error = replacement.file().write_at(vec![7; 10], 1 << 20).wait().result.expect_err("beyond the limit");
            assert_eq!(error.code(), "EFBIG");
            replacement.abandon().wait().expect("the end");
            assert_untouched(&path, &old);
        }
    });
}

#[test]
fn where_nothing_can_be_created_nothing_is_replaced() {
    with_mounts(|place| {
        let path = place.join("disk/file");
        let disk = path.parent().expect("a directory");
        mount(Path::new("none"), disk, "tmpfs", 0, "");
        std::fs::write(&path, b"old").expect("the old file");
        mount(Path::new("none"), disk, "none", libc::MS_REMOUNT | libc::MS_RDONLY, "");
        for engine in engines() {
            let error = engine.replace(&path, NEW).wait().expect_err("it is read-only");
            assert_eq!((error.code().as_str(), error.syscall(), error.path()), ("EROFS", "open", Some(path.as_path())));
            assert_untouched(&path, b"old");
        }
    });
}

#[test]
fn without_the_right_to_write_the_directory_nothing_is_replaced() {
    as_root(|| {
        alone(|| {
            let place = directory_for_all(0o755);
            let path = place.path().join("file");
            std::fs::write(&path, b"old").expect("the old file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("permissions");
            become_nobody();
            for engine in engines() {
                let error = engine.replace(&path, NEW).wait().expect_err("another user's directory");
                assert_eq!((error.code().as_str(), error.syscall(), error.path()), ("EACCES", "open", Some(path.as_path())));
                assert_untouched(&path, b"old");
            }
        });
    });
}

#[test]
fn a_directory_that_can_be_written_and_not_read_is_flushed_with_its_file_system() {
    as_root(|| {
        alone(|| {
            // Writable and searchable for all, readable for none.
            let place = directory_for_all(0o733);
            let path = place.path().join("file");
            become_nobody();
            for (salt, engine) in (1..).zip(engines()) {
                assert!(std::fs::read_dir(place.path()).is_err(), "it cannot be read");
                replace(&engine, &path, &bytes(0, 5000, salt), NEW);
                assert_file(&path, &bytes(0, 5000, salt), "the new file");
                assert_eq!(engine.sync_directory(place.path()).wait().expect_err("it cannot be read").code(), "EACCES");
            }
        });
    });
}

#[test]
fn without_descriptors_nothing_is_left_behind() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, b"old").expect("the old file");
        let engines = engines();
        limit(libc::RLIMIT_NOFILE, 64);
        for engine in engines {
            let mut hoard = Vec::new();
            while let Ok(taken) = std::fs::File::open("/dev/null") {
                hoard.push(taken);
            }
            // None for the first step, then none for the second, and so on.
            for free in 0..=3 {
                match engine.replace(&path, NEW).wait() {
                    Ok(replacement) => replacement.abandon().wait().expect("the end"),
                    Err(error) => assert_eq!((error.code().as_str(), error.path()), ("EMFILE", Some(path.as_path())), "{free} free"),
                }
                hoard.pop();
            }
            drop(hoard);
            replace(&engine, &path, b"old", NEW);
            assert_untouched(&path, b"old");
        }
    });
}

/// The descriptor of the directory that the replacement has open: the only one of this process.
fn directory_of(replacement: &Replacement) -> u32 {
    let directory = replacement.path().parent().expect("a directory");
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let found = entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == directory));
    let numbers: Vec<_> = found.map(|entry| entry.file_name().to_string_lossy().parse().expect("a number")).collect();
    let [number] = numbers[..] else { panic!("{numbers:?}") };
    number
}

#[test]
fn if_the_directory_cannot_be_flushed_the_commit_is_uncertain_and_the_new_file_is_there() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, b"old").expect("the old file");
        let engine = Engine::builder().build().expect("an engine");
        let replacement = begin(&engine, &path, NEW);
        replacement.file().write_at(bytes(0, 5000, 2), 0).wait().result.expect("a write");
        forbid_on(libc::SYS_fsync, directory_of(&replacement), libc::EIO);
        let error = replacement.commit().wait().expect_err("the directory cannot be flushed");
        assert_eq!((error.kind(), error.code().as_str()), (ErrorKind::Uncertain(libc::EIO), "ERR_DEEPRING_UNCERTAIN"));
        assert_eq!((error.errno(), error.syscall(), error.path()), (Some(libc::EIO), "fsync", Some(path.as_path())));
        assert_untouched(&path, &bytes(0, 5000, 2));
    });
}

#[test]
fn if_the_file_cannot_be_flushed_the_old_one_stays() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, b"old").expect("the old file");
        let engine = Engine::builder().build().expect("an engine");
        let replacement = begin(&engine, &path, NEW);
        replacement.file().write_at(bytes(0, 5000, 2), 0).wait().result.expect("a write");
        forbid_on(libc::SYS_fsync, replacement.file().as_raw_fd() as u32, libc::EIO);
        let error = replacement.commit().wait().expect_err("the file cannot be flushed");
        assert_eq!((error.kind(), error.syscall(), error.path()), (ErrorKind::Os(libc::EIO), "fsync", Some(path.as_path())));
        assert_untouched(&path, b"old");
    });
}

#[test]
fn a_file_whose_flush_has_failed_once_is_not_committed() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, b"old").expect("the old file");
        let engine = Engine::builder().build().expect("an engine");
        let replacement = begin(&engine, &path, NEW);
        replacement.file().write_at(bytes(0, 5000, 2), 0).wait().result.expect("a write");
        // Only the cheaper flush fails: the one of the commit would succeed, as it does after the kernel has reported a loss.
        forbid_on(libc::SYS_fdatasync, replacement.file().as_raw_fd() as u32, libc::EIO);
        replacement.file().sync_data().wait().expect_err("the file cannot be flushed");
        let error = replacement.commit().wait().expect_err("it has failed before");
        assert_eq!((error.kind(), error.syscall()), (ErrorKind::SyncFailed(libc::EIO), "fsync"));
        assert_untouched(&path, b"old");
    });
}
