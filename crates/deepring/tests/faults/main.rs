//! What the system refuses: every refusal is a typed error that names call, path, position and bytes done, the file is as it was or as far as
//! the error says, nothing is left behind, and the engine goes on working.
//!
//! Full, broken and read-only disks are loop devices in a mount namespace of their own, which needs root; without root those tests say that
//! they are skipped.

#[path = "../harness/mod.rs"]
mod harness;

use deepring::{Completed, Direct, Engine, Error, ErrorKind, OpenOptions};
use harness::child::{alone, become_nobody, limit, limit_for_now};
use harness::disk::{Loop, as_root, ext4_image, free_bytes, mount, other_disk, with_mounts};
use harness::{MODES, READ_WRITE, Slice, assert_file, assert_same, backends, bytes, directory, engines, open, skip, within};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Everything an error must say about a transfer.
#[track_caller]
fn check(error: &Error, code: &str, path: &Path, position: u64, requested: u64) {
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(error.path(), Some(path), "{error}");
    assert_eq!((error.position(), error.requested()), (Some(position), requested), "{error}");
    assert!(error.to_string().contains(path.to_str().expect("a readable path")), "{error}");
}

/// The engine still does what it is for.
#[track_caller]
fn check_usable(engine: &Engine, directory: &Path) {
    let path = directory.join("usable");
    engine.write_file(&path, bytes(0, 5000, 77)).wait().result.expect("a write after a failure");
    let (buf, _) = engine.read_file(&path, vec![0; 5000]).wait().ok().expect("a read after a failure");
    assert_same(&buf, &bytes(0, 5000, 77), "after a failure");
    std::fs::remove_file(&path).expect("the file");
    let stats = engine.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes), (0, 0, 0), "nothing is left hanging");
}

// ---- a full disk ----

/// A disk of 16 MiB, mounted.
fn small_disk(place: &Path, options: &[&str]) -> PathBuf {
    let (image, at) = (place.join("image"), place.join("disk"));
    ext4_image(&image, 16 << 20, options);
    let device = Loop::attach(&image);
    mount(&device.path, &at, "ext4", 0, "");
    at
}

/// The space a failed preallocation took is free again, but for what ext4 keeps: a file that ever had many extents keeps a block for them.
#[track_caller]
fn check_space_is_back(disk: &Path, free: u64) {
    let kept = free.saturating_sub(free_bytes(disk));
    assert!(kept <= 8192, "{kept} bytes of the space that was taken did not come back");
}

#[test]
fn a_disk_too_full_leaves_the_file_as_it_was() {
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
                    assert_eq!((error.transferred(), error.syscall()), (0, "fallocate"), "{error}");
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
                assert_eq!(free_bytes(&disk), empty, "without the file all is free");
                check_usable(&engine, &disk);
            }
        }
    });
}

#[test]
fn a_whole_file_that_does_not_fit_leaves_the_old_one() {
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
                // Only address space: the write fails before a byte of it is read.
                let buf = engine.buffer(1 << 30).expect("memory");
                let error = file.write_at(buf, position).wait().result.expect_err("a gigabyte does not fit on 400 MiB");
                check(&error, "ENOSPC", &path, position, 1 << 30);
                assert_eq!(error.transferred(), 0, "{error}");
                assert_file(&path, &old, "after a write that did not fit");
            }
            let kept = free.saturating_sub(free_bytes(&disk));
            assert!(kept <= 1 << 20, "{kind}: {kept} bytes of the space that was taken did not come back");
            drop(file);
            check_usable(&engine, &disk);
        }
    });
}

#[test]
fn xfs_too_full_leaves_the_file_as_it_was() {
    another_disk_too_full("xfs");
}

#[test]
fn btrfs_too_full_leaves_the_file_as_it_was() {
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
                // The preallocation that failed had the disk for a moment; a small write may not have found room then, but then it failed.
                assert_file(&path, &bytes(0, 8008, round), "the small writes");
            }
        }
    });
}

#[test]
fn without_preallocation_a_full_disk_says_how_far_it_came() {
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
                let done = error.transferred();
                assert!(done < 16 << 20, "{done} bytes on a disk of 16 MiB");
                let mut model = old;
                if done > 0 {
                    model.truncate(position as usize);
                    model.extend(bytes(position, done as usize, 2));
                    model.resize(model.len().max(3000), 0);
                }
                assert_file(&path, &model, &format!("{done} bytes arrived, {direct:?}"));
                drop(file);
                std::fs::remove_file(&path).expect("the file");
                check_usable(&engine, &disk);
                // What fits, fits, and is as long as it should be.
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

// ---- a disk that is read-only, or broken ----

#[test]
fn a_read_only_file_system_can_be_read_and_not_written() {
    with_mounts(|place| {
        let disk = small_disk(place, &[]);
        let path = disk.join("file");
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        mount(Path::new("none"), &disk, "none", libc::MS_REMOUNT | libc::MS_RDONLY, "");
        for engine in engines() {
            let error = engine.open(&path, READ_WRITE).expect_err("the file system is read-only");
            assert_eq!((error.code(), error.syscall(), error.path()), ("EROFS".into(), "open", Some(path.as_path())));
            let error = engine.open(disk.join("new"), READ_WRITE).expect_err("the file system is read-only");
            assert_eq!(error.code(), "EROFS");
            let error = engine.write_file(&path, vec![1; 10]).wait().result.expect_err("the file system is read-only");
            check(&error, "EROFS", &path, 0, 10);
            let (buf, _) = engine.read_file(&path, vec![0; 5000]).wait().ok().expect("reading");
            assert_same(&buf, &bytes(0, 5000, 1), "read from a read-only file system");
        }
    });
}

#[test]
fn a_disk_that_lost_its_second_half_gives_eio_and_says_where() {
    as_root(|| {
        const GOOD: usize = 5 << 20;
        let place = directory();
        let image = place.path().join("image");
        std::fs::write(&image, bytes(0, 8 << 20, 1)).expect("an image");
        let device = Loop::attach(&image);
        std::fs::OpenOptions::new().write(true).open(&image).and_then(|file| file.set_len(GOOD as u64)).expect("the cut");
        for backend in backends() {
            for block in [64 << 10, 1 << 20, 8 << 20] {
                let engine = Engine::builder().backend(backend).block_bytes(block).build().expect("an engine");
                let file = engine.open(&device.path, OpenOptions::new().read(true).direct(Direct::Require)).expect("the device");
                for offset in [0, 1] {
                    let Completed { buf, result } = file.read_exact_at(Slice::new(8 << 20, offset, 0), 0).wait();
                    let error = result.expect_err("the second half is gone");
                    check(&error, "EIO", &device.path, 0, 8 << 20);
                    let done = error.transferred() as usize;
                    // Whole blocks before the one that failed count; a bounced block counts whole or not at all.
                    let unit = if offset == 0 { block as usize } else { block.min(256 << 10) as usize };
                    assert!(done <= GOOD && done >= GOOD / unit * unit, "{done} bytes with blocks of {block}");
                    assert_same(&buf.expect("the buffer").content()[..done], &bytes(0, done, 1), "the good part");
                }
                let (buf, _) = file.read_exact_at(vec![0; GOOD - 100], 50).wait().ok().expect("the good part");
                assert_same(&buf, &bytes(50, GOOD - 100, 1), "the good part");
            }
        }
    });
}

#[test]
fn a_file_on_a_disk_that_lost_its_end_gives_eio() {
    with_mounts(|place| {
        let (image, disk) = (place.join("image"), place.join("disk"));
        ext4_image(&image, 32 << 20, &["-b", "4096", "-O", "^has_journal"]);
        let path = disk.join("file");
        {
            let device = Loop::attach(&image);
            mount(&device.path, &disk, "ext4", 0, "");
            std::fs::write(&path, bytes(0, 24 << 20, 1)).expect("the file");
            free_bytes(&disk); // writes everything out
            mount(Path::new("none"), &disk, "none", libc::MS_REMOUNT | libc::MS_RDONLY, "");
        }
        let plain = std::fs::File::open(&path).expect("the file");
        harness::disk::forget_pages(&plain);
        std::fs::OpenOptions::new().write(true).open(&image).and_then(|file| file.set_len(20 << 20)).expect("the cut");
        for engine in engines() {
            for direct in MODES {
                let file = engine.open(&path, OpenOptions::new().read(true).direct(direct)).expect("the file");
                let Completed { buf, result } = file.read_exact_at(vec![0; 24 << 20], 0).wait();
                let error = result.expect_err("the end is gone");
                check(&error, "EIO", &path, 0, 24 << 20);
                let done = error.transferred() as usize;
                assert_same(&buf.expect("the buffer")[..done], &bytes(0, done, 1), "what had been read");
                let error = engine.read_file(&path, vec![0; 24 << 20]).wait().result.expect_err("the end is gone");
                check(&error, "EIO", &path, 0, 24 << 20);
                file.read_exact_at(vec![0; 4096], 0).wait().result.expect("the start is there");
            }
        }
    });
}

#[test]
fn a_failed_sync_stays_failed_for_every_handle_and_engine() {
    with_mounts(|place| {
        // The disk's own disk is full: writes to the page cache succeed and cannot be written out.
        let memory = place.join("memory");
        mount(Path::new("none"), &memory, "tmpfs", 0, "size=6m");
        let (image, disk) = (memory.join("image"), place.join("disk"));
        ext4_image(&image, 64 << 20, &["-b", "4096", "-O", "^has_journal", "-E", "lazy_itable_init=1"]);
        let device = Loop::attach(&image);
        mount(&device.path, &disk, "ext4", 0, "");
        let path = disk.join("file");
        for (index, engine) in engines().into_iter().enumerate() {
            let path = path.with_extension(index.to_string());
            let (file, other) = (open(&engine, &path, Direct::Never), open(&engine, &path, Direct::Never));
            file.write_at(vec![1; 20 << 20], 0).wait().result.expect("a write to the page cache");
            let error = file.sync_data().wait().expect_err("the disk cannot keep it");
            let errno = error.errno().expect("a system error");
            assert!([libc::EIO, libc::ENOSPC].contains(&errno), "{error}");
            assert_eq!((error.kind(), error.syscall(), error.path()), (ErrorKind::Os(errno), "fdatasync", Some(path.as_path())));
            let late = Engine::builder().build().expect("an engine");
            for handle in [&file, &other, &open(&late, &path, Direct::Never)] {
                for task in [handle.sync_all(), handle.sync_data()] {
                    let error = task.wait().expect_err("the loss was told once by the kernel, and is told always by the engine");
                    assert_eq!(error.kind(), ErrorKind::SyncFailed(errno), "{error}");
                    assert_eq!((error.code(), error.path()), ("ERR_DEEPRING_SYNC_FAILED".into(), Some(path.as_path())));
                }
            }
            drop((file, other));
            let again = open(&engine, &path, Direct::Never);
            let error = again.sync_all().wait().expect_err("closing and opening heals nothing");
            assert_eq!(error.kind(), ErrorKind::SyncFailed(errno));
            let healthy = open(&engine, &place.join("healthy"), Direct::Never);
            healthy.sync_all().wait().expect("another file is not concerned");
        }
    });
}

// ---- limits of the process ----

#[test]
fn a_write_beyond_the_file_size_limit_is_efbig_and_not_the_end_of_the_process() {
    alone(|| {
        const FSIZE: u64 = 1 << 20;
        let place = directory();
        let path = place.path().join("file");
        let old = bytes(0, 4 << 20, 1);
        std::fs::write(&path, &old).expect("the file");
        let short = place.path().join("short");
        std::fs::write(&short, bytes(0, 3000, 1)).expect("the file");
        limit(libc::RLIMIT_FSIZE, FSIZE);
        for engine in engines() {
            for direct in MODES {
                let file = open(&engine, &short, direct);
                for (position, len) in [(0, 2 << 20), (3000, 2 << 20), (FSIZE, 1), (FSIZE - 1, 2), (FSIZE * 3, 4096)] {
                    let error = file.write_at(vec![1; len], position).wait().result.expect_err("beyond the limit");
                    check(&error, "EFBIG", &short, position, len as u64);
                    assert_eq!(error.transferred(), 0);
                    assert_file(&short, &bytes(0, 3000, 1), "after a write beyond the limit");
                }
                assert_eq!(file.set_len(FSIZE + 1).wait().expect_err("beyond the limit").code(), "EFBIG");
                // Inside a file that is longer already, the limit stops a write half-way.
                let file = open(&engine, &path, direct);
                let error = file.write_at(bytes(FSIZE / 2, FSIZE as usize, 1), FSIZE / 2).wait().result.expect_err("beyond the limit");
                check(&error, "EFBIG", &path, FSIZE / 2, FSIZE);
                assert!(error.transferred() <= FSIZE / 2, "{error}");
                assert_file(&path, &old, "the same bytes, as far as they came");
                let error = file.write_at(vec![9; 8192], 2 << 20).wait().result.expect_err("beyond the limit");
                assert_eq!((error.code(), error.transferred()), ("EFBIG".into(), 0));
                assert_file(&path, &old, "nothing was written beyond the limit");
                let error = engine.write_file(&short, vec![1; 2 << 20]).wait().result.expect_err("beyond the limit");
                check(&error, "EFBIG", &short, 0, 2 << 20);
                assert_file(&short, &bytes(0, 3000, 1), "after write_file beyond the limit");
            }
            check_usable(&engine, place.path());
        }
    });
}

#[test]
fn without_descriptors_opening_is_emfile_and_what_is_open_goes_on() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        let engines = engines();
        limit(libc::RLIMIT_NOFILE, 64);
        for engine in engines {
            let file = open(&engine, &path, Direct::Prefer);
            let mut hoard = Vec::new();
            while let Ok(taken) = std::fs::File::open("/dev/null") {
                hoard.push(taken);
            }
            let error = engine.open(&path, READ_WRITE).expect_err("no descriptor is left");
            assert_eq!((error.code(), error.syscall(), error.path()), ("EMFILE".into(), "open", Some(path.as_path())));
            let Completed { buf, result } = engine.read_file(&path, vec![3; 5000]).wait();
            check(&result.expect_err("no descriptor is left"), "EMFILE", &path, 0, 5000);
            assert_eq!(buf, Some(vec![3; 5000]));
            let (buf, _) = file.read_exact_at(vec![0; 5000], 0).wait().ok().expect("an open file");
            assert_same(&buf, &bytes(0, 5000, 1), "read without descriptors");
            drop(hoard);
            check_usable(&engine, place.path());
        }
    });
}

#[test]
fn without_memory_for_a_copy_a_request_fails_and_the_next_one_works() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        if !harness::is_direct(place.path()) {
            return skip("the test directory has no direct I/O");
        }
        std::fs::write(&path, bytes(0, 300_000, 1)).expect("the file");
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            file.read_at(vec![0; 1], 0).wait().result.expect("a first read");
            let buf = Slice::new(300_000, 1, 0);
            // Room for small things, but not for a slab of bounce blocks.
            limit_for_now(libc::RLIMIT_AS, harness::task::address_space() + (2 << 20));
            let Completed { buf, result } = file.read_exact_at(buf, 0).wait();
            let refused = engine.buffer(64 << 20).expect_err("no memory").code();
            limit_for_now(libc::RLIMIT_AS, libc::RLIM_INFINITY);
            let error = result.expect_err("no memory for the copy");
            check(&error, "ENOMEM", &path, 0, 300_000);
            assert_eq!(refused, "ENOMEM");
            let (buf, _) = file.read_exact_at(buf.expect("the buffer"), 0).wait().ok().expect("memory again");
            assert_same(buf.content(), &bytes(0, 300_000, 1), "what was read");
            check_usable(&engine, place.path());
        }
    });
}

#[test]
fn without_threads_to_be_had_an_engine_says_so_and_a_running_one_goes_on() {
    as_root(|| {
        alone(|| {
            let place = directory();
            std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).expect("permissions");
            let path = place.path().join("file");
            // Its driver runs; its helpers would start when there is work for them.
            let engines = engines();
            become_nobody();
            limit(libc::RLIMIT_NPROC, 1);
            let error = Engine::builder().build().expect_err("no thread can be had");
            assert_eq!((error.code(), error.syscall()), ("EAGAIN".into(), "pthread_create"));
            for engine in engines {
                let file = open(&engine, &path, Direct::Prefer);
                file.write_at(bytes(0, 70_001, 1), 0).wait().result.expect("a write");
                file.sync_all().wait().expect("sync");
                file.set_len(50_000).wait().expect("set_len");
                assert_eq!(file.stat().wait().expect("stat").size, 50_000);
                file.close().wait().expect("close");
                assert_file(&path, &bytes(0, 50_000, 1), "without helpers");
                check_usable(&engine, place.path());
            }
        });
    });
}

// ---- permissions ----

#[test]
fn a_file_that_may_not_be_opened_is_eacces_and_untouched() {
    as_root(|| {
        alone(|| {
            let place = directory();
            let path = place.path().join("secret");
            std::fs::write(&path, b"secret").expect("the file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("permissions");
            std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("permissions");
            let plain = std::fs::File::open(&path).expect("the file");
            become_nobody();
            for engine in engines() {
                for options in [OpenOptions::new().read(true), OpenOptions::new().write(true), READ_WRITE.truncate(true)] {
                    let error = engine.open(&path, options).expect_err("somebody else's file");
                    assert_eq!((error.code(), error.syscall(), error.path()), ("EACCES".into(), "open", Some(path.as_path())));
                }
                let error = engine.open(place.path().join("new"), READ_WRITE).expect_err("somebody else's directory");
                assert_eq!(error.code(), "EACCES");
                check(&engine.read_file(&path, vec![0; 6]).wait().result.expect_err("refused"), "EACCES", &path, 0, 6);
                check(&engine.write_file(&path, vec![0; 6]).wait().result.expect_err("refused"), "EACCES", &path, 0, 6);
                let mut content = [0; 7];
                assert_eq!(plain.read_at(&mut content, 0).expect("the file"), 6);
                assert_eq!(&content[..6], b"secret");
            }
        });
    });
}

#[test]
fn a_file_that_may_only_be_written_can_be_written_anywhere() {
    as_root(|| {
        alone(|| {
            let place = directory();
            std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("permissions");
            let path = place.path().join("drop");
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o222)).expect("permissions");
            let plain = std::fs::File::open(&path).expect("the file");
            become_nobody();
            let mut model = bytes(0, 5000, 1);
            for (salt, engine) in engines().into_iter().enumerate() {
                let file = engine.open(&path, OpenOptions::new().write(true)).expect("it may be written");
                for (position, len) in [(100, 200), (4096, 4096), (9001, 13)] {
                    let content = bytes(position, len, salt as u64);
                    file.write_at(content.clone(), position).wait().result.expect("it may be written anywhere");
                    model.resize(model.len().max(position as usize + len), 0);
                    model[position as usize..position as usize + len].copy_from_slice(&content);
                    let mut found = vec![0; model.len() + 1];
                    let len = plain.read_at(&mut found, 0).expect("the file");
                    assert_same(&found[..len], &model, "written without reading");
                }
                let error = file.read_at(vec![0; 10], 0).wait().result.expect_err("it may not be read");
                assert_eq!(error.code(), "EBADF");
            }
        });
    });
}

#[test]
fn a_file_opened_for_reading_cannot_be_changed() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let file = engine.open(&path, OpenOptions::new().read(true).direct(direct)).expect("the file");
            for (position, len) in [(0, 4096), (100, 10), (4990, 20), (100_000, 1)] {
                let Completed { buf, result } = file.write_at(vec![9; len], position).wait();
                let error = result.expect_err("opened for reading");
                check(&error, "EBADF", &path, position, len as u64);
                assert_eq!((error.transferred(), buf), (0, Some(vec![9; len])));
                assert_file(&path, &bytes(0, 5000, 1), "a file opened for reading");
            }
            assert!(file.set_len(3).wait().is_err());
            assert_file(&path, &bytes(0, 5000, 1), "a file opened for reading");
            file.sync_all().wait().expect("reading handles can sync");
            check_usable(&engine, place.path());
        }
    }
}

// ---- what is no file ----

#[test]
fn directories_pipes_and_devices_are_refused_at_once() {
    let place = directory();
    let pipe = place.path().join("pipe");
    let name = std::ffi::CString::new(pipe.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: a terminated string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let place_path = place.path().to_path_buf();
    within(LIMIT, "refusing what is no file", move || {
        for engine in engines() {
            for options in [OpenOptions::new().read(true), OpenOptions::new().write(true), READ_WRITE] {
                let error = engine.open(&place_path, options).expect_err("a directory");
                assert_eq!((error.code(), error.path()), ("EISDIR".into(), Some(place_path.as_path())), "{options:?}");
                for path in [pipe.as_path(), Path::new("/dev/null"), Path::new("/dev/zero")] {
                    let error = engine.open(path, options).expect_err("not a file");
                    assert_eq!((error.kind(), error.path()), (ErrorKind::Unsupported, Some(path)), "{options:?}");
                    assert_eq!(error.code(), "ERR_DEEPRING_UNSUPPORTED");
                }
            }
            check(&engine.read_file(&place_path, vec![0; 9]).wait().result.expect_err("a directory"), "EISDIR", &place_path, 0, 9);
            check(&engine.write_file(&place_path, vec![0; 9]).wait().result.expect_err("a directory"), "EISDIR", &place_path, 0, 9);
            for path in [pipe.as_path(), Path::new("/dev/null")] {
                for op in [engine.read_file(path, vec![0; 9]), engine.write_file(path, vec![0; 9])] {
                    assert_eq!(op.wait().result.expect_err("not a file").kind(), ErrorKind::Unsupported);
                }
            }
        }
    });
}

#[test]
fn paths_that_name_nothing_are_refused_and_nothing_is_created() {
    let place = directory();
    let names = |bytes: &[u8]| place.path().join(OsStr::from_bytes(bytes));
    for engine in engines() {
        let missing = names(b"missing");
        let error = engine.open(&missing, OpenOptions::new().read(true).write(true)).expect_err("missing");
        assert_eq!((error.code(), error.syscall(), error.path()), ("ENOENT".into(), "open", Some(missing.as_path())));
        assert_eq!(engine.open(names(b"no/such/directory"), READ_WRITE).expect_err("missing").code(), "ENOENT");
        assert_eq!(engine.open("", READ_WRITE).expect_err("no path").code(), "ENOENT");
        let long = names(&[b'x'; 300]);
        assert_eq!(engine.open(&long, READ_WRITE).expect_err("too long").code(), "ENAMETOOLONG");
        let nul = names(b"a\0b");
        assert_eq!(engine.open(&nul, READ_WRITE).expect_err("a NUL byte").kind(), ErrorKind::Invalid);
        assert_eq!(engine.read_file(&nul, vec![0; 3]).wait().result.expect_err("a NUL byte").kind(), ErrorKind::Invalid);
        assert_eq!(engine.write_file(&nul, vec![0; 3]).wait().result.expect_err("a NUL byte").kind(), ErrorKind::Invalid);
        let under_file = names(b"file");
        std::fs::write(&under_file, b"").expect("the file");
        assert_eq!(engine.open(under_file.join("below"), READ_WRITE).expect_err("a file is no directory").code(), "ENOTDIR");
        std::fs::remove_file(&under_file).expect("the file");
        assert_eq!(std::fs::read_dir(place.path()).expect("the directory").count(), 0, "nothing was created");
    }
}

#[test]
fn creating_what_exists_is_eexist_and_leaves_it() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        std::fs::write(&path, b"old").expect("the file");
        let error = engine.open(&path, OpenOptions::new().write(true).create_new(true)).expect_err("it exists");
        assert_eq!((error.code(), error.syscall()), ("EEXIST".into(), "open"));
        assert_file(&path, b"old", "what existed");
        std::fs::remove_file(&path).expect("the file");
        let file = engine.open(&path, OpenOptions::new().write(true).create_new(true).mode(0o640)).expect("a new file");
        assert_eq!(file.stat().wait().expect("stat").mode & 0o777, 0o640 & !umask());
    }
}

fn umask() -> u32 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:")).expect("the umask");
    u32::from_str_radix(line.trim(), 8).expect("octal")
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let place = directory();
    let path = place.path().join("file");
    let engine = Engine::builder().build().expect("an engine");
    let read = OpenOptions::new().read(true);
    for options in [OpenOptions::new(), OpenOptions::new().create(true), read.create(true), read.create_new(true), read.truncate(true)] {
        assert_eq!(engine.open(&path, options).expect_err("contradictory").kind(), ErrorKind::Invalid, "{options:?}");
        assert!(!path.exists());
    }
}

// ---- direct I/O that cannot be had ----

#[test]
fn requiring_direct_io_in_memory_fails_and_leaves_nothing_behind() {
    let Ok(place) = tempfile::tempdir_in("/dev/shm") else {
        return skip("there is no /dev/shm");
    };
    let path = place.path().join("file");
    for engine in engines() {
        let error = engine.open(&path, READ_WRITE.direct(Direct::Require)).expect_err("tmpfs has no direct I/O");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Direct, "ERR_DEEPRING_DIRECT".into()));
        assert!(error.to_string().contains("memory"), "the reason is told: {error}");
        assert!(!path.exists(), "the file that was created is gone");
        std::fs::write(&path, b"old").expect("the file");
        engine.open(&path, READ_WRITE.truncate(true).direct(Direct::Require)).expect_err("tmpfs has no direct I/O");
        assert_file(&path, b"old", "a file that is refused is not truncated");
        let file = engine.open(&path, READ_WRITE.direct(Direct::Prefer)).expect("buffered will do");
        assert!(!file.direct());
        let (_, receipt) = file.write_at(bytes(0, 10_000, 1), 3).wait().ok().expect("a write");
        assert!(!receipt.direct);
        let mut model = b"old".to_vec();
        model.extend(bytes(0, 10_000, 1));
        assert_file(&path, &model, "in memory");
        drop(file);
        std::fs::remove_file(&path).expect("the file");
    }
}

// ---- links and devices ----

#[test]
fn a_symbolic_link_is_followed() {
    let place = directory();
    let (path, link) = (place.path().join("file"), place.path().join("link"));
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    for engine in engines() {
        drop(std::fs::remove_file(&path));
        assert_eq!(engine.open(&link, OpenOptions::new().read(true)).expect_err("it leads nowhere").code(), "ENOENT");
        // As open(2) with O_CREAT and std::fs do: the target is created.
        let file = engine.open(&link, READ_WRITE).expect("the link's target");
        file.write_at(bytes(0, 5000, 1), 0).wait().result.expect("a write");
        assert_file(&path, &bytes(0, 5000, 1), "through the link");
        std::fs::remove_file(&path).expect("the file");
        engine.write_file(&link, bytes(0, 700, 2)).wait().result.expect("write_file through a link");
        assert_file(&path, &bytes(0, 700, 2), "through the link");
        assert!(link.symlink_metadata().expect("the link").is_symlink(), "the link is still one");
        let (buf, _) = engine.read_file(&link, vec![0; 700]).wait().ok().expect("read_file through a link");
        assert_same(&buf, &bytes(0, 700, 2), "through the link");
        let round = place.path().join("round");
        drop(std::os::unix::fs::symlink(&round, &round));
        assert_eq!(engine.open(&round, READ_WRITE).expect_err("a loop").code(), "ELOOP");
    }
}

#[test]
fn a_block_device_is_read_and_written_to_its_last_byte() {
    as_root(|| {
        const SIZE: u64 = 4 << 20;
        let place = directory();
        let image = place.path().join("image");
        std::fs::write(&image, bytes(0, SIZE as usize, 1)).expect("an image");
        let device = Loop::attach(&image);
        let mut model = bytes(0, SIZE as usize, 1);
        for (salt, engine) in engines().into_iter().enumerate() {
            for direct in MODES {
                let options = OpenOptions::new().read(true).write(true).direct(direct);
                let file = engine.open(&device.path, options).expect("the device");
                assert_eq!(file.direct(), direct == Direct::Prefer, "{:?}", file.direct_support());
                assert_eq!(file.stat().wait().expect("stat").size, SIZE);
                for (position, len) in
                    [(0, 4096), (5, 100), (511, 2), (4095, 70_001), (1_000_003, 300_007), (SIZE - 1, 1), (SIZE - 5000, 5000)]
                {
                    let content = bytes(position, len, 2 + salt as u64);
                    file.write_at(content.clone(), position).wait().result.expect("a write");
                    model[position as usize..position as usize + len].copy_from_slice(&content);
                    let from = position.saturating_sub(700);
                    let len = (len + 1400).min((SIZE - from) as usize);
                    let (buf, _) = file.read_exact_at(vec![0; len], from).wait().ok().expect("a read");
                    assert_same(&buf, &model[from as usize..from as usize + len], "the device");
                }
                let error = file.read_exact_at(vec![0; 100], SIZE - 30).wait().result.expect_err("past the end");
                assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 30));
                let error = file.write_at(vec![9; 5000], SIZE - 3000).wait().result.expect_err("past the end");
                check(&error, "ENOSPC", &device.path, SIZE - 3000, 5000);
                assert!(error.transferred() <= 3000, "{error}");
                let done = error.transferred() as usize;
                let start = SIZE as usize - 3000;
                let (buf, _) = file.read_exact_at(vec![0; 3000], start as u64).wait().ok().expect("a read");
                assert_same(&buf[..done], &vec![9; done], "what was written before the end");
                model[start..].copy_from_slice(&buf);
                file.write_at(model[start..].to_vec(), start as u64).wait().result.expect("a write");
                file.sync_all().wait().expect("sync");
                assert!(file.set_len(10).wait().is_err(), "a device cannot be cut");
                file.close().wait().expect("close");
                assert_same(&std::fs::read(&device.path).expect("the device"), &model, "the device as others see it");
            }
        }
    });
}
