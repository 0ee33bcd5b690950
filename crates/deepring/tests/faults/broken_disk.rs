//! A disk that is read-only or broken.

use super::{check, small_disk};
use crate::harness::disk::{Loop, as_root, ext4_image, forget_pages, free_bytes, mount, with_mounts};
use crate::harness::{MODES, READ_WRITE, Slice, assert_same, backends, bytes, directory, engines, open};
use deepring::{Completed, Direct, Engine, ErrorKind, OpenOptions};
use std::path::Path;

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
fn a_disk_that_lost_its_second_half_gives_eio_with_position_and_bytes() {
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
                    // Whole blocks before the failed one count. A bounced block counts whole or not
                    // at all.
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
        forget_pages(&plain);
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
        // The file system below the disk image is full: writes to the page cache succeed but cannot
        // be written out.
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
                    let error = task.wait().expect_err("the kernel reports the loss once, the engine every time");
                    assert_eq!(error.kind(), ErrorKind::SyncFailed(errno), "{error}");
                    assert_eq!((error.code(), error.path()), ("ERR_DEEPRING_SYNC_FAILED".into(), Some(path.as_path())));
                }
            }
            drop((file, other));
            let again = open(&engine, &path, Direct::Never);
            let error = again.sync_all().wait().expect_err("closing and opening does not clear the failure");
            assert_eq!(error.kind(), ErrorKind::SyncFailed(errno));
            let healthy = open(&engine, &place.join("healthy"), Direct::Never);
            healthy.sync_all().wait().expect("another file is not affected");
        }
    });
}
