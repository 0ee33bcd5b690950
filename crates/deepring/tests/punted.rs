//! Which writes would block the submitter, and are *punted*: given to a thread. A punted write costs
//! many times the CPU and loses its place among the others. A ring would punt to its few kernel
//! workers, which all files share, so the engine punts to threads of the file system instead. It
//! arranges its writes so that none is punted, and where it cannot, `Stats::punted` counts them.
//! The kernel's own tracepoint confirms that no write reaches the kernel's workers.
//!
//! | 64 operations of 64 KiB | ext4, direct |
//! |---|---|
//! | reading data, a hole, preallocated space | 0 |
//! | writing over data, or a new file of any length, at any place | 0 |
//! | appending odd pieces | the first block of each; the read of it before, by the kernel |
//! | filling a hole | 64 |
//! | writing over what is in the page cache | 64 |
//! | writing through the page cache | 64 |
//!
//! The write that moves the end of a file has the file to itself, and other writes that arrive
//! during it are punted. So the rows with 0 are written by one request, or by one after the other.
//!
//! This holds since Linux 6.3. Before, ext4 locked a file exclusively when preallocated space was
//! written.
//!
//! Needs root (a file system and a trace). Without it these tests are reported as skipped.

mod harness;

use deepring::{BackendKind, Direct, Engine, File};
use harness::disk::{Loop, ext4_image, forget_pages, mount, other_disk, with_mounts};
use harness::trace::Trace;
use harness::{Slice, assert_file, backends, bytes, kernel_is_before, open, say, skip};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const LEN: usize = 64 << 10;
const OPS: usize = 64;

struct TracedEngine<'a> {
    trace: &'a Trace,
    engine: Engine,
    path: PathBuf,
}

impl TracedEngine<'_> {
    /// A file of data or holes with nothing of it in the page cache.
    fn file(&self, make: impl FnOnce(&std::fs::File)) {
        drop(std::fs::remove_file(&self.path));
        let file = std::fs::File::create(&self.path).expect("the file");
        make(&file);
        file.sync_all().expect("sync");
        forget_pages(&file);
    }

    fn data(&self) {
        // Longer than what is written over it, at any of the positions.
        self.file(|file| std::os::unix::fs::FileExt::write_all_at(file, &bytes(0, (OPS + 1) * LEN, 1), 0).expect("data"));
    }

    /// Runs all operations at once. Returns how many the kernel punted, how many of those ran one
    /// after the other, and how many the engine counted.
    fn run(&self, what: &str, direct: Direct, each: impl Fn(&File)) -> (usize, usize, usize) {
        let file = open(&self.engine, &self.path, direct);
        let before = self.engine.stats().punted;
        drop(self.trace.take());
        each(&file);
        let punts = self.trace.take();
        let counted = (self.engine.stats().punted - before) as usize;
        file.close().wait().expect("close");
        let hashed = punts.iter().filter(|punt| punt.hashed).count();
        say(&format!("{what}: {} punted, {hashed} of them one after the other, {counted} counted", punts.len()));
        (punts.len(), hashed, counted)
    }

    fn reads(&self, what: &str) -> (usize, usize, usize) {
        self.run(what, Direct::Prefer, |file| {
            let ops: Vec<_> = (0..OPS).map(|index| file.read_exact_at(Slice::new(LEN, 0, 0), (index * LEN) as u64)).collect();
            for op in ops {
                op.wait().result.expect("a read");
            }
        })
    }

    /// A new file, one piece after the other.
    fn appends(&self, len: usize) -> (usize, usize, usize) {
        self.file(|_| {});
        let seen = self.run(&format!("appending pieces of {len} bytes"), Direct::Prefer, |file| {
            for position in (0..OPS).map(|index| (index * len) as u64) {
                file.write_at(Slice::of(&bytes(position, len, 2), 0), position).wait().result.expect("a write");
            }
        });
        assert_file(&self.path, &bytes(0, OPS * len, 2), "appended");
        seen
    }

    fn writes(&self, what: &str, direct: Direct, shift: u64) -> (usize, usize, usize) {
        self.run(what, direct, |file| {
            let piece = |index| (index * LEN) as u64 + shift;
            let write = |index| file.write_at(Slice::of(&bytes(piece(index), LEN, 2), 0), piece(index));
            let ops: Vec<_> = (0..OPS).map(write).collect();
            for op in ops {
                op.wait().result.expect("a write");
            }
        })
    }
}

/// Runs a test with a ring and a trace on its own disk.
fn with_trace(disk: impl FnOnce(&Path) -> Option<PathBuf> + Send, body: impl FnOnce(TracedEngine<'_>) + Send) {
    if !backends().contains(&BackendKind::Uring) {
        return skip("DEEPRING_BACKEND names the other backend");
    }
    with_mounts(|place| {
        let Some(trace) = Trace::start(&place.join("trace")) else {
            return skip("this kernel has no tracefs, or no tracepoints of io_uring in it");
        };
        let Some(disk) = disk(place) else { return skip("there is no mkfs for it") };
        let engine = Engine::builder().backend(BackendKind::Uring).build().expect("an engine");
        body(TracedEngine { trace: &trace, engine, path: disk.join("file") });
    });
}

/// Runs a test of the table above.
fn with_table(body: impl FnOnce(TracedEngine<'_>) + Send) {
    if kernel_is_before(6, 3) {
        return skip("before Linux 6.3 ext4 locks a file exclusively when preallocated space is written");
    }
    with_trace(|place| Some(ext4(place)), body);
}

fn ext4(place: &Path) -> PathBuf {
    let (image, at) = (place.join("image"), place.join("disk"));
    ext4_image(&image, 128 << 20, &["-b", "4096"]);
    let device = Loop::attach(&image);
    mount(&device.path, &at, "ext4", 0, "");
    at
}

const NONE: (usize, usize, usize) = (0, 0, 0);

#[test]
fn on_ext4_reads_overwrites_and_new_files_are_not_punted() {
    with_table(|traced| {
        traced.data();
        assert_eq!(traced.reads("reading data"), NONE);
        traced.file(|file| file.set_len((OPS * LEN) as u64).expect("a hole"));
        assert_eq!(traced.reads("reading a hole"), NONE);
        traced.file(|file| {
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, (OPS * LEN) as i64) }, 0);
        });
        assert_eq!(traced.reads("reading preallocated space"), NONE);
        assert_eq!(traced.writes("writing into preallocated space", Direct::Prefer, 0), NONE);
        traced.data();
        assert_eq!(traced.writes("writing over data", Direct::Prefer, 0), NONE);
        traced.data();
        assert_eq!(traced.writes("writing over data at an odd position", Direct::Prefer, 512), NONE);
        assert_eq!(traced.appends(LEN), NONE);
        traced.file(|_| {});
        let written = traced.run("writing a new file at once", Direct::Prefer, |file| {
            file.write_at(Slice::of(&bytes(0, OPS * LEN, 2), 0), 0).wait().result.expect("a write");
        });
        assert_eq!(written, NONE);
        assert_file(&traced.path, &bytes(0, OPS * LEN, 2), "written without worker threads");
    });
}

#[test]
fn on_ext4_every_punted_write_is_counted() {
    with_table(|traced| {
        traced.file(|file| file.set_len((OPS * LEN) as u64).expect("a hole"));
        let blocking = (0, 0, OPS);
        assert_eq!(traced.writes("filling a hole", Direct::Prefer, 0), blocking);
        // Trimming the padding leaves the last block in the page cache: the read of it for the next
        // append is left to the kernel's workers, and the write of it to a thread.
        assert_eq!(traced.appends(LEN - 700), (OPS - 1, 0, OPS - 1));
        traced.data();
        drop(std::fs::read(&traced.path).expect("the file, into the page cache"));
        assert_eq!(traced.writes("writing over what is in the page cache", Direct::Prefer, 0), blocking);
        traced.data();
        assert_eq!(traced.writes("writing through the page cache", Direct::Never, 0), blocking);
        traced.file(|_| {});
        assert_eq!(traced.writes("writing a new file through the page cache", Direct::Never, 0), blocking);
    });
}

fn every_punt_is_counted_on(kind: &'static str) {
    let disk = move |place: &Path| other_disk(kind, place);
    with_trace(disk, |traced| {
        traced.data();
        let over = traced.writes("writing over data", Direct::Prefer, 0);
        traced.file(|_| {});
        let new = traced.writes("writing a new file", Direct::Prefer, 0);
        traced.file(|file| file.set_len((OPS * LEN) as u64).expect("a hole"));
        let hole = traced.writes("filling a hole", Direct::Prefer, 0);
        traced.data();
        let buffered = traced.writes("writing through the page cache", Direct::Never, 0);
        for (workers, _, _) in [over, new, hole, buffered] {
            assert_eq!(workers, 0, "operations reached the kernel's workers");
        }
        assert!(hole.2 > 0, "nothing was punted, so this run proved nothing");
    });
}

#[test]
fn on_xfs_every_punted_write_is_counted() {
    every_punt_is_counted_on("xfs");
}

#[test]
fn on_btrfs_every_punted_write_is_counted() {
    every_punt_is_counted_on("btrfs");
}
