//! Promise: **apart**. A file system that does not answer, or a disk that is frozen, stops no work
//! on any other, on either backend.
//!
//! Needs root: the file system that gets stuck is an ext4 on a loop device, frozen as for a
//! snapshot. Without it these tests are reported as skipped.

mod harness;

use deepring::{Direct, Engine, OpenOptions};
use harness::child::{alone, limit_for_now};
use harness::disk::{Loop, ext4_image, mount, with_mounts};
use harness::{READ_WRITE, bytes, engines, open, patient, say, within};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(8);

/// A frozen file system. Thaws when it is dropped.
struct Frozen(File);

impl Frozen {
    fn new(at: &Path) -> Self {
        const FIFREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
        let directory = File::open(at).expect("the mount point");
        // SAFETY: the kernel ignores the argument.
        let frozen = unsafe { libc::ioctl(directory.as_raw_fd(), FIFREEZE, 0) };
        assert_eq!(frozen, 0, "FIFREEZE: {}", std::io::Error::last_os_error());
        Self(directory)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        const FITHAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;
        // SAFETY: the kernel ignores the argument.
        unsafe { libc::ioctl(self.0.as_raw_fd(), FITHAW, 0) };
    }
}

/// Runs `body` for an engine of each kind, with a directory that can be frozen and one that is
/// not.
fn with_disk(body: impl Fn(&Engine, &Path, &Path) + Send + Sync) {
    with_mounts(|place| {
        let (image, at, elsewhere) = (place.join("image"), place.join("disk"), place.join("elsewhere"));
        ext4_image(&image, 128 << 20, &["-b", "4096"]);
        mount(&Loop::attach(&image).path, &at, "ext4", 0, "");
        std::fs::create_dir(&elsewhere).expect("a directory");
        for engine in engines() {
            say(&format!("{:?}", engine.info().backend));
            body(&engine, &at, &elsewhere);
        }
    });
}

/// Everything that an engine does, on a file system that is not frozen.
fn check_elsewhere(engine: &Engine, elsewhere: &Path) {
    let (engine, path) = (engine.clone(), elsewhere.join("healthy"));
    std::fs::write(&path, bytes(0, 1 << 20, 1)).expect("the file");
    let file = open(&engine, &path, Direct::Prefer);
    let longest = within(LIMIT, "work on another disk", move || {
        let mut longest = Duration::ZERO;
        let mut timed = |what: &str, work: &mut dyn FnMut()| {
            let started = Instant::now();
            work();
            say(&format!("{what}: {:?}", started.elapsed()));
            longest = longest.max(started.elapsed());
        };
        timed("read", &mut || {
            file.read_exact_at(vec![0; 4096], 8192).wait().result.expect("a read");
        });
        timed("open", &mut || drop(engine.open_async(&path, READ_WRITE).wait().expect("an open")));
        timed("stat", &mut || {
            file.stat().wait().expect("stat");
        });
        timed("write", &mut || {
            file.write_at(bytes(0, 4096, 1), 0).wait().result.expect("a write");
        });
        timed("edges", &mut || {
            file.write_at(bytes(10, 9000, 1), 10).wait().result.expect("a write");
        });
        timed("append", &mut || {
            file.write_at(bytes(0, 5000, 1), 1 << 20).wait().result.expect("an append");
        });
        timed("sync", &mut || file.sync_data().wait().expect("a sync"));
        timed("truncate", &mut || file.set_len(1 << 20).wait().expect("a truncation"));
        timed("read by path", &mut || {
            engine.read_file(&path, vec![0; 1 << 20]).wait().result.expect("a read by path");
        });
        timed("write by path", &mut || {
            engine.write_file(path.with_extension("new"), bytes(0, 70_001, 1)).wait().result.expect("a write by path");
        });
        longest
    });
    assert!(longest < patient(Duration::from_secs(2)), "work on another disk took {longest:?}");
}

fn files(engine: &Engine, at: &Path, count: usize) -> Vec<deepring::File> {
    (0..count).map(|index| open(engine, &at.join(format!("{index}")), Direct::Prefer)).collect()
}

/// Freezes the disk, starts writes on it, and checks that all goes on elsewhere. Thawed, they succeed.
fn write_while_frozen(engine: &Engine, at: &Path, elsewhere: &Path, start: impl FnOnce() -> Vec<deepring::Op<Vec<u8>>>) {
    let frozen = Frozen::new(at);
    let ops = start();
    std::thread::sleep(Duration::from_millis(100));
    check_elsewhere(engine, elsewhere);
    drop(frozen);
    for op in ops {
        op.wait().result.expect("a write once the disk is thawed");
    }
}

#[test]
fn appends_to_a_frozen_disk_stop_nothing_elsewhere() {
    with_disk(|engine, at, elsewhere| {
        for count in [4, 70] {
            let files = files(engine, at, count);
            write_while_frozen(engine, at, elsewhere, || files.iter().map(|file| file.write_at(bytes(0, 5000, 1), 0)).collect());
            for file in &files {
                file.set_len(0).wait().expect("a truncation");
            }
        }
    });
}

#[test]
fn overwrites_on_a_frozen_disk_stop_nothing_elsewhere() {
    with_disk(|engine, at, elsewhere| {
        let path = at.join("whole");
        std::fs::write(&path, bytes(0, 4 << 20, 1)).expect("the file");
        File::open(&path).and_then(|file| file.sync_all()).expect("sync");
        let file = open(engine, &path, Direct::Prefer);
        for count in [8, 300] {
            let write = |index: u64| file.write_at(bytes(index * 4096, 4096, 1), index * 4096);
            write_while_frozen(engine, at, elsewhere, || (0..count).map(write).collect());
        }
    });
}

#[test]
fn requests_by_path_on_a_frozen_disk_stop_none_elsewhere() {
    with_disk(|engine, at, elsewhere| {
        let backend = engine.info().backend;
        let paths: Vec<_> = (0..400).map(|index| at.join(format!("{backend:?}-{index}"))).collect();
        for path in &paths[..200] {
            std::fs::write(path, b"old").expect("a file");
        }
        // Half of them can be opened, and their writes hang; the opens of the others hang.
        write_while_frozen(engine, at, elsewhere, || paths.iter().map(|path| engine.write_file(path, bytes(0, 5000, 1))).collect());
    });
}

#[test]
fn requests_by_path_on_a_frozen_disk_that_took_the_last_descriptors_stop_none_elsewhere_once_there_are_more() {
    alone(|| {
        with_disk(|engine, at, elsewhere| {
            const FEW: usize = 4;
            let backend = engine.info().backend;
            let paths: Vec<_> = (0..20).map(|index| at.join(format!("{backend:?}-few-{index}"))).collect();
            for path in &paths {
                std::fs::write(path, b"old").expect("a file");
            }
            let path = elsewhere.join("file");
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            // What the engine needs for itself is open.
            engine.read_file(&path, vec![0; 5000]).wait().result.expect("a read by path");
            let frozen = Frozen::new(at);
            limit_for_now(libc::RLIMIT_NOFILE, 200);
            let mut hoard = Vec::new();
            while let Ok(taken) = File::open("/dev/null") {
                hoard.push(taken);
            }
            hoard.truncate(hoard.len() - FEW);
            let ops: Vec<_> = paths.iter().map(|path| engine.write_file(path, bytes(0, 5000, 1))).collect();
            std::thread::sleep(Duration::from_millis(200));
            let op = engine.read_file(&path, vec![0; 5000]);
            drop(hoard);
            within(LIMIT, "a read elsewhere", move || op.wait().result.expect("a read by path"));
            drop(frozen);
            for op in ops {
                op.wait().result.expect("a write once the disk is thawed");
            }
        });
    });
}

#[test]
fn two_hundred_opens_that_hang_delay_no_other_open() {
    with_disk(|engine, at, elsewhere| {
        let path = elsewhere.join("healthy");
        std::fs::write(&path, bytes(0, 4096, 1)).expect("the file");
        let create = |path: PathBuf| engine.open_async(path, OpenOptions::new().write(true).create(true));
        let backend = engine.info().backend;
        for index in 0..200 {
            std::fs::create_dir_all(at.join(format!("{backend:?}/{index}"))).expect("a directory");
        }
        for nested in [false, true] {
            let frozen = Frozen::new(at);
            let name = |index| if nested { format!("{backend:?}/{index}/new") } else { format!("{backend:?}-{index}") };
            let opens: Vec<_> = (0..200).map(|index| create(at.join(name(index)))).collect();
            for pause in [0, 20, 500] {
                std::thread::sleep(Duration::from_millis(pause));
                let (engine, path) = (engine.clone(), path.clone());
                let took = within(LIMIT, "an open elsewhere", move || {
                    let started = Instant::now();
                    drop(engine.open_async(&path, READ_WRITE).wait().expect("an open"));
                    started.elapsed()
                });
                say(&format!("each in a directory of its own: {nested}; {pause} ms later an open elsewhere took {took:?}"));
                assert!(took < patient(Duration::from_millis(400)), "an open elsewhere took {took:?}");
            }
            check_elsewhere(engine, elsewhere);
            drop(frozen);
            for open in opens {
                open.wait().expect("an open once the disk is thawed");
            }
        }
    });
}

#[test]
fn flushes_that_take_long_delay_no_open_of_the_same_disk() {
    with_disk(|engine, at, elsewhere| {
        let files = files(engine, at, 64);
        for file in &files {
            file.write_at(bytes(0, 4096, 1), 0).wait().result.expect("a write");
        }
        let syncs: Vec<_> = files.iter().map(deepring::File::sync_all).collect();
        let opens: Vec<_> = (0..16).map(|index| engine.open_async(at.join(format!("{index}")), READ_WRITE)).collect();
        for open in opens {
            open.wait().expect("an open");
        }
        check_elsewhere(engine, elsewhere);
        for sync in syncs {
            sync.wait().expect("a sync");
        }
    });
}
