//! What all integration tests share: a directory on a disk, one engine per backend, recognizable
//! content, seeds, deadlines.
//!
//! * `DEEPRING_TEST_DIR` names the directory to test in; without it the tests use one below
//!   `target/`.
//! * `DEEPRING_BACKEND` restricts the tests to one backend; without it each test runs on both.
//! * `DEEPRING_TEST_SEED` repeats a run: every random test prints its seed, which libtest shows if
//!   the test fails.
//! * `DEEPRING_TEST_PATIENCE` multiplies every deadline, for emulated machines.

#![allow(dead_code, reason = "every test binary uses its own part of the harness")]

pub(crate) mod child;
pub(crate) mod contract;
pub(crate) mod disk;
pub(crate) mod gate;
pub(crate) mod polled;
pub(crate) mod program;
pub(crate) mod task;
pub(crate) mod trace;

use deepring::{BackendKind, Direct, Engine, EngineBuilder, File, IoBuf, IoBufMut, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

// ---- places ----

/// A fresh directory on a disk, removed when the value is dropped.
pub(crate) fn directory() -> TempDir {
    // Cargo passes its directory to integration tests only, not to programs.
    let default = || option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let parent = std::env::var_os("DEEPRING_TEST_DIR").map_or_else(default, PathBuf::from);
    std::fs::create_dir_all(&parent).expect("the test directory");
    tempfile::Builder::new().prefix("deepring-").tempdir_in(parent).expect("a temporary directory")
}

/// Whether files in this directory support direct I/O. Tests of direct I/O ask first.
pub(crate) fn is_direct(directory: &Path) -> bool {
    let engine = Engine::builder().build().expect("an engine");
    engine.path_info(directory).expect("the test directory").direct_io.available
}

// ---- engines ----

/// The backends to test: both, unless the environment names one.
pub(crate) fn backends() -> Vec<BackendKind> {
    match std::env::var("DEEPRING_BACKEND").as_deref() {
        Ok("uring") => vec![BackendKind::Uring],
        Ok("threads") => vec![BackendKind::Threads],
        _ => vec![BackendKind::Uring, BackendKind::Threads],
    }
}

/// A builder for each backend. In the tests `unpinned`, direct I/O counts as not pinning its pages.
pub(crate) fn builders() -> Vec<EngineBuilder> {
    // Not from /proc, which tests unmount.
    let program = std::env::args_os().next().map(std::path::PathBuf::from).expect("the test program");
    if program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("unpinned")) {
        deepring::binding::assume_unpinned();
    }
    backends().into_iter().map(|backend| Engine::builder().backend(backend)).collect()
}

/// An engine for each backend.
pub(crate) fn engines() -> Vec<Engine> {
    builders().into_iter().map(|builder| builder.build().expect("an engine")).collect()
}

/// Read and write access; creates the file if it is missing.
pub(crate) const READ_WRITE: OpenOptions = OpenOptions::new().read(true).write(true).create(true);

/// Direct where the directory supports it, and buffered.
pub(crate) const MODES: [Direct; 2] = [Direct::Prefer, Direct::Never];

/// An open file with read and write access.
pub(crate) fn open(engine: &Engine, path: &Path, direct: Direct) -> File {
    engine.open(path, READ_WRITE.direct(direct)).expect("an open file")
}

// ---- content ----

/// The byte that belongs at `position` of a file written with `salt`. Never zero, so it cannot be
/// mistaken for a hole.
pub(crate) fn byte(position: u64, salt: u64) -> u8 {
    let mixed = (position ^ salt.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 40) % 255) as u8 + 1
}

/// The bytes that belong at `position..position + len`.
pub(crate) fn bytes(position: u64, len: usize, salt: u64) -> Vec<u8> {
    (position..position + len as u64).map(|at| byte(at, salt)).collect()
}

/// Fails with the first difference rather than with megabytes of both.
#[track_caller]
pub(crate) fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    if found == expected {
        return;
    }
    let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
    let differing = found.iter().zip(expected).filter(|(a, b)| a != b).count();
    let around = |bytes: &[u8]| bytes[at.saturating_sub(4).min(bytes.len())..(at + 12).min(bytes.len())].to_vec();
    panic!(
        "{what}: {} bytes found, {} expected, {differing} differ; the first at {at}: found {:?}, expected {:?}",
        found.len(),
        expected.len(),
        around(found),
        around(expected)
    );
}

/// Asserts that the file holds exactly these bytes, as the rest of the system sees it.
#[track_caller]
pub(crate) fn assert_file(path: &Path, expected: &[u8], what: &str) {
    let len = std::fs::metadata(path).expect("metadata").len();
    assert_eq!(len, expected.len() as u64, "{what}: the file's length");
    assert_same(&std::fs::read(path).expect("the file"), expected, what);
}

/// Part of a vector that starts at any address, as a binding or a caller with a slice would pass
/// it. The bytes around it are guards.
#[derive(Debug)]
pub(crate) struct Slice {
    space: Vec<u8>,
    start: usize,
    len: usize,
}

const GUARD: u8 = 0xa5;
const GUARD_BYTES: usize = 64;

impl Slice {
    /// `len` bytes of `fill`, at an address that is `offset` more than a multiple of 4096.
    pub(crate) fn new(len: usize, offset: usize, fill: u8) -> Self {
        let mut space = vec![GUARD; len + 4096 + offset + 2 * GUARD_BYTES];
        let base = space.as_ptr() as usize + GUARD_BYTES;
        let start = base.next_multiple_of(4096) + offset - space.as_ptr() as usize;
        space[start..start + len].fill(fill);
        Self { space, start, len }
    }

    pub(crate) fn of(content: &[u8], offset: usize) -> Self {
        let mut slice = Self::new(content.len(), offset, 0);
        slice.space[slice.start..slice.start + content.len()].copy_from_slice(content);
        slice
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.space[self.start..self.start + self.len]
    }

    /// Whether nothing was written outside the slice.
    pub(crate) fn is_guarded(&self) -> bool {
        let (before, after) = (&self.space[..self.start], &self.space[self.start + self.len..]);
        before.iter().chain(after).all(|&byte| byte == GUARD)
    }
}

// SAFETY: the vector's heap block stays in place while the value moves, and the range lies inside
// it.
unsafe impl IoBuf for Slice {
    fn as_ptr(&self) -> *const u8 {
        self.content().as_ptr()
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: the vector is owned, so nothing else reads or writes it.
unsafe impl IoBufMut for Slice {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.space[self.start..].as_mut_ptr()
    }
}

// ---- random numbers ----

/// A small generator of random numbers (splitmix64) that a seed repeats.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Seeded from the environment or the clock; prints the seed.
    pub(crate) fn new() -> Self {
        let given = std::env::var("DEEPRING_TEST_SEED").ok().map(|seed| seed.parse().expect("DEEPRING_TEST_SEED is a number"));
        let seed = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64));
        say(&format!("seed {seed} (DEEPRING_TEST_SEED={seed} repeats it)"));
        Self(seed)
    }

    /// Always the same numbers for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.below(end as u64 + 1) as usize);
        }
    }
}

// ---- time ----

/// A deadline for an ordinary machine, scaled to this one.
pub(crate) fn patient(limit: Duration) -> Duration {
    let patience = std::env::var("DEEPRING_TEST_PATIENCE");
    limit * patience.map_or(1, |text| text.parse().expect("DEEPRING_TEST_PATIENCE is a whole number"))
}

/// Runs `body` and fails if it does not end in time: a hang becomes a failure with a name instead
/// of a suite that never ends.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(limit: Duration, what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let limit = patient(limit);
    let (ended, end) = sync_channel(1);
    let thread = std::thread::spawn(move || {
        let value = body();
        // The receiver is gone if the limit has passed, and then the test has already failed.
        let _ = ended.send(());
        value
    });
    assert_ne!(end.recv_timeout(limit), Err(RecvTimeoutError::Timeout), "{what} did not end within {limit:?}");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Polls until the condition holds, for at most `limit`.
#[track_caller]
pub(crate) fn eventually(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let limit = patient(limit);
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what} did not hold within {limit:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// ---- reports ----

/// A line that libtest shows if the test fails.
#[allow(clippy::print_stdout, reason = "libtest captures this and shows it with a failure")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Whether the running kernel is older than this. For tests that depend on what the kernel itself
/// does.
pub(crate) fn kernel_is_before(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc");
    let mut numbers = release.split(['.', '-']).map(|word| word.trim().parse::<u32>());
    let (running_major, running_minor) = (numbers.next().expect("a release"), numbers.next().expect("a release"));
    (running_major.expect("a number"), running_minor.expect("a number")) < (major, minor)
}

/// Whether rings count as locked memory here. If not, reports the test as skipped.
pub(crate) fn rings_count_as_locked() -> bool {
    let counted = !kernel_is_before(6, 14);
    if !counted {
        skip("before Linux 6.14 the memory of rings did not count as locked");
    }
    counted
}

/// The name of the running test, as libtest prints it: libtest names each test's thread after the
/// test. Other threads must be given that name, or take it from the test's own thread.
pub(crate) fn test_name() -> String {
    std::thread::current().name().expect("libtest names the threads of its tests").to_owned()
}

/// Reports that the running test cannot run here, directly to standard output, because libtest
/// hides the output of tests that pass. `scripts/count.ts` counts these lines.
pub(crate) fn skip(why: &str) {
    let line = format!("\nskipped: {}: {why}\n", test_name());
    // If standard output is closed, there is nowhere to report it.
    let _ = std::io::stdout().write_all(line.as_bytes());
}
