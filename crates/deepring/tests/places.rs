//! The random programs of `exact` on other file systems and disks, and on files with several names:
//! the bytes are the same everywhere.
//!
//! Most of them are loop devices in their own mount namespaces, which needs root. Without root
//! those tests are reported as skipped.

mod harness;

use deepring::{Direct, Engine, ErrorKind, OpenOptions};
use harness::disk::{Loop, ext4_image, mount, mount_overlay, other_disk_with_blocks, with_mounts};
use harness::program::run_random;
use harness::{READ_WRITE, Slice, assert_file, assert_same, backends, bytes, directory, engines, is_direct, open, skip};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PROGRAMS: u32 = 10;

fn random_programs_at(directory: &Path) {
    for backend in backends() {
        run_random(PROGRAMS, backend, Direct::Prefer, &directory.join("file"));
    }
}

/// An ext4 disk of 64 MiB, made with these options on a device with blocks of this size.
fn disk(place: &Path, device_block: u32, make: &[&str], options: &str) -> PathBuf {
    let (image, at) = (place.join("image"), place.join("disk"));
    ext4_image(&image, 64 << 20, make);
    let device = Loop::attach_with_blocks(&image, device_block);
    mount(&device.path, &at, "ext4", 0, options);
    at
}

#[test]
fn random_programs_are_exact_on_a_disk_with_blocks_of_four_kilobytes() {
    with_mounts(|place| {
        let disk = disk(place, 4096, &["-b", "4096"], "");
        let engine = Engine::builder().build().expect("an engine");
        assert_eq!(engine.path_info(&disk).expect("the disk").direct_io.offset_alignment, 4096);
        random_programs_at(&disk);
    });
}

#[test]
fn a_loop_device_uses_the_memory_alignment_of_the_disk_below_it() {
    with_mounts(|place| {
        let (image, at) = (place.join("image"), place.join("disk"));
        ext4_image(&image, 64 << 20, &["-b", "4096"]);
        let below = Loop::attach_with_blocks(&image, 4096);
        let device = Loop::attach_with_blocks(&below.path, 4096);
        device.bypass_cache().expect("direct I/O on the disk below");
        mount(&device.path, &at, "ext4", 0, "");
        let content = bytes(0, 100_000, 1);
        for engine in engines() {
            let support = engine.path_info(&at).expect("the disk").direct_io;
            assert_eq!((support.offset_alignment, support.memory_alignment), (4096, 4096), "{support:?}");
            for (memory, position) in [(512, 0), (0, 512), (3584, 0), (16, 16), (2560, 4096)] {
                let file = open(&engine, &at.join("file"), Direct::Require);
                let (_, receipt) = file.write_at(Slice::of(&content, memory), position).wait().ok().expect("a write");
                assert!(receipt.direct);
                let (read, _) = file.read_exact_at(Slice::new(content.len(), memory, 0), position).wait().ok().expect("a read");
                assert_same(read.content(), &content, "what was read");
                file.close().wait().expect("close");
            }
        }
    });
}

#[test]
fn random_programs_are_exact_on_a_file_system_with_blocks_smaller_than_a_page() {
    with_mounts(|place| {
        let disk = disk(place, 512, &["-b", "1024"], "");
        assert!(is_direct(&disk));
        random_programs_at(&disk);
    });
}

#[test]
fn random_programs_are_exact_on_a_file_system_that_cannot_preallocate() {
    with_mounts(|place| {
        let disk = disk(place, 512, &["-b", "4096", "-O", "^extent,^64bit"], "");
        assert!(is_direct(&disk));
        random_programs_at(&disk);
    });
}

#[test]
fn random_programs_are_exact_on_a_file_system_that_keeps_small_files_in_inodes() {
    with_mounts(|place| {
        random_programs_at(&disk(place, 512, &["-b", "4096", "-I", "1024", "-O", "inline_data"], ""));
    });
}

#[test]
fn random_programs_are_exact_on_a_file_system_that_journals_data() {
    with_mounts(|place| {
        let disk = disk(place, 512, &["-b", "4096"], "data=journal");
        for engine in engines() {
            let file = open(&engine, &disk.join("file"), Direct::Prefer);
            assert!(!file.direct(), "{:?}", file.direct_support());
            assert!(file.direct_support().reason.contains("no direct I/O"), "{:?}", file.direct_support());
            let (_, receipt) = file.write_at(bytes(0, 5000, 1), 0).wait().ok().expect("a write");
            assert!(!receipt.direct);
        }
        random_programs_at(&disk);
    });
}

#[test]
fn random_programs_are_exact_on_a_disk_with_sectors_smaller_than_the_blocks() {
    with_mounts(|place| {
        let disk = disk(place, 512, &["-b", "4096"], "");
        let engine = Engine::builder().build().expect("an engine");
        assert_eq!(engine.path_info(&disk).expect("the disk").direct_io.offset_alignment, 512);
        random_programs_at(&disk);
    });
}

fn on_another(kind: &str, device_block: u32) {
    with_mounts(|place| {
        let Some(disk) = other_disk_with_blocks(kind, &[], device_block, place) else {
            return skip(&format!("there is no mkfs.{kind}"));
        };
        let info = Engine::builder().build().expect("an engine").path_info(&disk).expect("the disk");
        assert_eq!((info.file_system.as_str(), info.direct_io.available), (kind, true), "{info:?}");
        if kind == "xfs" {
            assert_eq!(info.direct_io.offset_alignment, device_block, "{info:?}");
        }
        random_programs_at(&disk);
    });
}

#[test]
fn random_programs_are_exact_on_xfs() {
    on_another("xfs", 512);
}

#[test]
fn random_programs_are_exact_on_xfs_with_sectors_of_four_kilobytes() {
    on_another("xfs", 4096);
}

/// A program that writes behind the end of a file through the page cache makes XFS set space aside past it. Another one
/// then moves the end into that space. The kernel refuses direct reads that go past the block in which the file ends.
#[test]
fn a_read_past_the_end_into_space_that_xfs_has_set_aside_meets_the_end() {
    const WRITTEN: u64 = 180_224;
    const END: u64 = 237_569;
    with_mounts(|place| {
        let Some(disk) = other_disk_with_blocks("xfs", &[], 4096, place) else { return skip("there is no mkfs.xfs") };
        for engine in engines() {
            let path = disk.join(format!("{:?}", engine.info().backend));
            let other = std::fs::File::create_new(&path).expect("the file");
            other.set_len(WRITTEN).expect("the file");
            other.write_all_at(&bytes(0, 18_748, 1), WRITTEN).expect("the other program's write");
            // SAFETY: no pointers.
            let zeroed = unsafe { libc::fallocate(other.as_raw_fd(), libc::FALLOC_FL_ZERO_RANGE, END as i64 - 1, 1) };
            assert_eq!((zeroed, other.metadata().expect("the file").len()), (0, END));
            let file = open(&engine, &path, Direct::Require);
            let (read, receipt) = file.read_at(vec![1; 5000], END - 1).wait().ok().expect("a read past the end");
            assert_eq!((receipt.bytes, read[0], receipt.direct), (1, 0, true), "{receipt:?}");
            if receipt.retried == 0 {
                return skip("this kernel does not refuse such a read");
            }
            let error = file.read_exact_at(vec![1; 5000], END - 1).wait().result.expect_err("the end of the file");
            assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 1), "{error}");
            let (read, _) = file.read_at(vec![1; END as usize + 100_000], 0).wait().ok().expect("a read of the whole file");
            assert_same(&read[WRITTEN as usize..][..18_748], &bytes(0, 18_748, 1), "what the other program wrote");
        }
    });
}

#[test]
fn random_programs_are_exact_on_btrfs() {
    on_another("btrfs", 512);
}

#[test]
fn random_programs_are_exact_on_btrfs_with_sectors_of_four_kilobytes() {
    on_another("btrfs", 4096);
}

#[test]
fn random_programs_are_exact_on_an_overlay() {
    with_mounts(|place| {
        let (at, lower) = (place.join("overlay"), place.join("lower/below"));
        std::fs::create_dir(place.join("lower")).expect("a directory");
        std::fs::write(&lower, bytes(0, 100_000, 1)).expect("a file in the lower layer");
        mount_overlay(place, &at);
        random_programs_at(&at);
        // The first write to a file of the lower layer copies it up. From then on its name refers
        // to the copy.
        for engine in engines() {
            let path = at.join("below");
            let reader = engine.open(&path, OpenOptions::new().read(true)).expect("the file");
            let mut model = std::fs::read(&path).expect("the file");
            let writer = open(&engine, &path, Direct::Prefer);
            for (position, len) in [(50, 100), (99_990, 5000), (7, 1)] {
                let content = bytes(position, len, 2);
                writer.write_at(content.clone(), position).wait().result.expect("a write");
                model.resize(model.len().max(position as usize + len), 0);
                model[position as usize..position as usize + len].copy_from_slice(&content);
            }
            assert_file(&path, &model, "after copying up");
            reader.read_exact_at(vec![0; 1000], 0).wait().result.expect("the old file can still be read");
            assert_file(&lower, &bytes(0, 100_000, 1), "the lower layer");
        }
    });
}

#[test]
fn random_programs_are_exact_in_memory() {
    let Ok(place) = tempfile::tempdir_in("/dev/shm") else { return skip("there is no /dev/shm") };
    random_programs_at(place.path());
}

// ---- names ----

#[test]
fn two_names_of_one_file_are_one_file() {
    let place = directory();
    let names = [place.path().join("one"), place.path().join("other")];
    for engine in engines() {
        for round in 0..40u64 {
            std::fs::write(&names[0], b"").expect("the file");
            drop(std::fs::hard_link(&names[0], &names[1]));
            let files = names.each_ref().map(|name| open(&engine, name, Direct::Prefer));
            let ops: Vec<_> =
                (0..20u64).map(|index| files[index as usize % 2].write_at(bytes(index * 777, 777, round), index * 777)).collect();
            for op in ops {
                op.wait().result.expect("a write");
            }
            assert_file(&names[1], &bytes(0, 20 * 777, round), "written under two names");
        }
    }
}

#[test]
fn an_unlinked_file_and_a_new_file_of_the_same_name_are_separate() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for _ in 0..20 {
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let old = open(&engine, &path, Direct::Prefer);
            std::fs::remove_file(&path).expect("the name");
            let new = open(&engine, &path, Direct::Prefer);
            new.write_at(bytes(0, 300, 2), 0).wait().result.expect("a write");
            old.write_at(bytes(5000, 300, 1), 5000).wait().result.expect("a write to a file without a name");
            assert_file(&path, &bytes(0, 300, 2), "the new file");
            assert_eq!(old.stat().wait().expect("stat").size, 5300);
            let (buf, _) = old.read_exact_at(vec![0; 5300], 0).wait().ok().expect("a read");
            harness::assert_same(&buf, &bytes(0, 5300, 1), "the old file");
        }
    }
}

#[test]
fn opening_with_sync_directory_creates_and_opens_files() {
    let place = directory();
    for engine in engines() {
        let path = place.path().join("new");
        let file = engine.open(&path, READ_WRITE.sync_directory(true)).expect("a new file, and its directory flushed");
        file.write_at(bytes(0, 100, 1), 0).wait().result.expect("a write");
        assert_file(&path, &bytes(0, 100, 1), "the new file");
        drop(engine.open(&path, READ_WRITE.sync_directory(true)).expect("a file that exists"));
        std::fs::remove_file(&path).expect("the file");
    }
}
