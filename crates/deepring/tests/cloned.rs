//! Promise: a range that is cloned has the bytes of its source and nothing around it changes, and where a file system cannot do
//! it, the error says so and the file is as it was.

mod harness;

use deepring::{Direct, Engine, Error, ErrorKind, File};
use harness::disk::{ext4_image, free_bytes, mount, other_disk, with_mounts};
use harness::{MODES, assert_file, bytes, directory, engines, open, skip};
use std::path::Path;

const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;

fn clone(to: &File, position: usize, from: &File, start: usize, end: usize) -> Result<(), Error> {
    to.clone_range(position as u64, from, start as u64..end as u64).wait()
}

#[track_caller]
fn refused(result: Result<(), Error>, errno: i32) {
    let error = result.expect_err("a failure");
    assert_eq!((error.kind(), error.syscall()), (ErrorKind::Os(errno), "ficlonerange"), "{error}");
}

/// Writes at the same time come before the clone or after it, each of them whole.
fn runs_alone(engine: &Engine, disk: &Path, direct: Direct) {
    const WRITES: usize = 4;
    let content = bytes(0, WRITES * MIB, 4);
    let path = disk.join("busy");
    let from = open(engine, &disk.join("another"), direct);
    from.write_at(content.clone(), 0).wait().result.expect("a write");
    for round in 0..8 {
        let to = open(engine, &path, direct);
        let piece = bytes(0, MIB + 9, 5);
        let mut writes: Vec<_> = (0..WRITES).map(|index| to.write_at(piece.clone(), (index * MIB) as u64)).collect();
        let cloned = to.clone_range(0, &from, 0..content.len() as u64);
        writes.extend((0..WRITES).map(|index| to.write_at(piece.clone(), (index * MIB) as u64)));
        for write in writes {
            write.wait().result.expect("a write");
        }
        cloned.wait().expect("a clone");
        let found = std::fs::read(&path).expect("the file");
        assert_eq!(found.len(), WRITES * MIB + 9, "round {round}");
        for start in (0..WRITES * MIB).step_by(MIB) {
            // Without what the write before it shares.
            let part = &found[start + 9..start + MIB];
            assert!(part == &content[start + 9..start + MIB] || part == &piece[9..MIB], "a mixture at {start}, round {round}");
        }
        drop(to);
        std::fs::remove_file(&path).expect("the file");
    }
}

/// Everything that a file system with clones does, on this one.
fn clones(engine: &Engine, disk: &Path, direct: Direct) {
    let (old, new) = (disk.join("old"), disk.join("new"));
    let tail = 1000;
    let content = bytes(0, 4 * MIB + tail, 1);
    std::fs::write(&old, &content).and_then(|()| std::fs::File::open(&old)?.sync_all()).expect("the source");
    let _ = std::fs::remove_file(&new);
    let (from, to) = (open(engine, &old, direct), open(engine, &new, direct));
    let mut model = bytes(0, 2 * MIB + 5, 2);
    to.write_at(model.clone(), 0).wait().result.expect("a write");

    // Inside, without moving the end.
    clone(&to, MIB, &from, 3 * MIB, 3 * MIB + BLOCK).expect("a clone");
    model[MIB..MIB + BLOCK].copy_from_slice(&content[3 * MIB..3 * MIB + BLOCK]);
    assert_file(&new, &model, "cloned inside");

    // Not in whole blocks: refused, and nothing has changed.
    refused(clone(&to, MIB, &from, 1, 1 + BLOCK), libc::EINVAL);
    refused(clone(&to, MIB + 1, &from, 0, BLOCK), libc::EINVAL);
    refused(clone(&to, 8 * MIB, &from, 0, BLOCK + 1), libc::EINVAL);
    refused(clone(&to, 8 * MIB, &from, 4 * MIB, 5 * MIB), libc::EINVAL);
    assert_file(&new, &model, "after clones that were refused");
    assert_eq!(to.known_size(), model.len() as u64);

    // Beyond the end, up to the end of the source.
    clone(&to, 3 * MIB, &from, 2 * MIB, content.len()).expect("a clone");
    model.resize(3 * MIB, 0);
    model.extend_from_slice(&content[2 * MIB..]);
    assert_eq!((to.known_size(), to.stat().wait().expect("stat").size), (model.len() as u64, model.len() as u64));
    assert_file(&new, &model, "cloned beyond the end");

    // What is read and written afterwards, also in parts of blocks, is the file's own.
    let read = to.read_exact_at(vec![0u8; model.len() - 7], 7).wait().ok().expect("a read").0;
    harness::assert_same(&read, &model[7..], "read through the engine");
    let over = bytes(0, MIB + 13, 3);
    to.write_at(over.clone(), (3 * MIB + 77) as u64).wait().result.expect("a write");
    model[3 * MIB + 77..3 * MIB + 77 + over.len()].copy_from_slice(&over);
    assert_file(&new, &model, "written after the clone");
    assert_file(&old, &content, "the source");

    // A range of the file itself, elsewhere; onto itself is refused.
    clone(&to, 8 * MIB, &to, MIB, 2 * MIB).expect("a clone of its own");
    model.resize(8 * MIB, 0);
    model.extend_from_within(MIB..2 * MIB);
    assert_file(&new, &model, "cloned from itself");
    refused(clone(&to, MIB, &to, MIB, 2 * MIB), libc::EINVAL);
}

fn on(kind: &str) {
    with_mounts(|place| {
        let Some(disk) = other_disk(kind, place) else { return skip(&format!("there is no mkfs.{kind}")) };
        if !can_clone(&disk) {
            return skip(&format!("{kind} does not clone here"));
        }
        for engine in engines() {
            for direct in MODES {
                clones(&engine, &disk, direct);
                runs_alone(&engine, &disk, direct);
            }
        }
    });
}

/// Asks the system, not deepring.
fn can_clone(disk: &Path) -> bool {
    use std::os::fd::AsRawFd;
    const FICLONE: libc::Ioctl = 0x4004_9409;
    let (source, target) = (disk.join("source"), disk.join("target"));
    std::fs::write(&source, [7; BLOCK]).expect("a file");
    let (from, to) = (std::fs::File::open(&source).expect("it"), std::fs::File::create(&target).expect("a file"));
    // SAFETY: takes a descriptor.
    unsafe { libc::ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) == 0 }
}

#[test]
fn xfs_clones_ranges() {
    on("xfs");
}

#[test]
fn btrfs_clones_ranges() {
    on("btrfs");
}

#[test]
fn a_clone_takes_no_space() {
    with_mounts(|place| {
        let Some(disk) = other_disk("xfs", place) else { return skip("there is no mkfs.xfs") };
        if !can_clone(&disk) {
            return skip("xfs does not clone here");
        }
        let engine = Engine::builder().build().expect("an engine");
        let (from, to) = (open(&engine, &disk.join("old"), Direct::Prefer), open(&engine, &disk.join("new"), Direct::Prefer));
        from.write_at(bytes(0, 32 * MIB, 1), 0).wait().result.expect("a write");
        from.sync_all().wait().expect("a flush");
        let free = free_bytes(&disk);
        clone(&to, 0, &from, 0, 32 * MIB).expect("a clone");
        to.sync_all().wait().expect("a flush");
        assert!(free.saturating_sub(free_bytes(&disk)) < MIB as u64, "it took space");
    });
}

#[test]
fn files_of_two_file_systems_share_nothing() {
    with_mounts(|place| {
        let disk = place.join("disk");
        let image = place.join("ext4-image");
        ext4_image(&image, 64 << 20, &[]);
        let device = harness::disk::Loop::attach(&image);
        mount(&device.path, &disk, "ext4", 0, "");
        let memory = place.join("memory");
        mount(Path::new("none"), &memory, "tmpfs", 0, "");
        let engine = Engine::builder().build().expect("an engine");
        let (from, to) = (open(&engine, &memory.join("old"), Direct::Prefer), open(&engine, &disk.join("new"), Direct::Prefer));
        from.write_at(bytes(0, MIB, 1), 0).wait().result.expect("a write");
        refused(clone(&to, 0, &from, 0, MIB), libc::EXDEV);
        let beside = open(&engine, &disk.join("old"), Direct::Prefer);
        beside.write_at(bytes(0, MIB, 1), 0).wait().result.expect("a write");
        refused(clone(&to, 0, &beside, 0, MIB), libc::EOPNOTSUPP);
        assert_file(&disk.join("new"), &[], "after clones that were refused");
    });
}

#[test]
fn ranges_that_cannot_be_are_refused_and_empty_ones_are_done() {
    let place = directory();
    let engine = Engine::builder().build().expect("an engine");
    let (from, to) = (open(&engine, &place.path().join("old"), Direct::Never), open(&engine, &place.path().join("new"), Direct::Never));
    from.write_at(bytes(0, MIB, 1), 0).wait().result.expect("a write");
    to.clone_range(0, &from, 4096..4096).wait().expect("nothing to do");
    assert_eq!(to.known_size(), 0, "an empty range is not all that follows");
    let backwards = std::ops::Range { start: 8192, end: 4096 };
    refused(to.clone_range(0, &from, backwards).wait(), libc::EINVAL);
    refused(to.clone_range(u64::MAX, &from, 0..4096).wait(), libc::EFBIG);
    refused(to.clone_range(0, &from, 0..u64::MAX).wait(), libc::EFBIG);
    refused(to.clone_range(1 << 63, &from, 0..4096).wait(), libc::EFBIG);
    let other = Engine::builder().build().expect("an engine");
    let elsewhere = open(&other, &place.path().join("old"), Direct::Never);
    other.close().wait().expect("a close");
    assert_eq!(to.clone_range(0, &elsewhere, 0..4096).wait().expect_err("its engine is closed").kind(), ErrorKind::Closed);
}
