//! What the tests of this crate share: a directory on a disk, an engine, recognizable bytes, seeds.
//!
//! * `DEEPRING_TEST_DIR` names the directory to test in; without it the tests use one below `target/`.
//! * `DEEPRING_TEST_SEED` repeats a run: every random test prints its seed, which libtest shows if the test fails.

#![allow(dead_code, reason = "every test binary uses its own part of the harness")]

use deepring::Engine;
use deepring_tensors::{DType, Declared, SaveOptions, Source, save};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A fresh directory on a disk, removed when the value is dropped.
pub(crate) fn directory() -> TempDir {
    let default = || PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let parent = std::env::var_os("DEEPRING_TEST_DIR").map_or_else(default, PathBuf::from);
    std::fs::create_dir_all(&parent).expect("the test directory");
    tempfile::Builder::new().prefix("tensors-").tempdir_in(parent).expect("a temporary directory")
}

pub(crate) fn engine() -> Engine {
    Engine::builder().build().expect("an engine")
}

/// `len` bytes that depend on `salt` and on their place; none is zero.
pub(crate) fn bytes(len: usize, salt: u64) -> Vec<u8> {
    let byte = |at: usize| {
        let mixed = (at as u64 ^ salt.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 40) % 255) as u8 + 1
    };
    (0..len).map(byte).collect()
}

/// A tensor of this type and shape, with bytes that depend on its name.
pub(crate) fn source(name: &str, dtype: DType, shape: &[u64]) -> Source<Vec<u8>> {
    let declared = Declared { name: name.into(), dtype, shape: shape.into() };
    let len = declared.bytes().expect("whole bytes") as usize;
    let salt = name.bytes().fold(len as u64, |salt, byte| salt.wrapping_mul(31) + u64::from(byte));
    Source { declared, data: bytes(len, salt) }
}

/// Saves tensors in a new file of a directory.
pub(crate) fn saved(engine: &Engine, directory: &Path, name: &str, tensors: &[Source<Vec<u8>>], options: SaveOptions) -> PathBuf {
    let path = directory.join(name);
    save(engine, &path, tensors.to_vec(), options).wait().expect("saved");
    path
}

/// A file with this header and data, written without this crate.
pub(crate) fn raw_file(path: &Path, header: &str, data: &[u8]) {
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length, header.as_bytes(), data].concat()).expect("a file");
}

/// A line that libtest shows if the test fails.
#[allow(clippy::print_stdout, reason = "libtest captures this and shows it with a failure")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Reports that the running test cannot run here, directly to standard output, because libtest hides the output of tests that
/// pass. `scripts/count.ts` counts these lines.
pub(crate) fn skip(why: &str) {
    use std::io::Write;
    let test = std::thread::current().name().expect("libtest names the threads of its tests").to_owned();
    // If standard output is closed, there is nowhere to report it.
    let _ = std::io::stdout().write_all(format!("\nskipped: {test}: {why}\n").as_bytes());
}

/// Names of what a directory has, in their order.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A small generator of random numbers (splitmix64) that a seed repeats.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Seeded from the environment or the clock; prints the seed.
    pub(crate) fn new() -> Self {
        let given = std::env::var("DEEPRING_TEST_SEED").ok().map(|seed| seed.parse().expect("DEEPRING_TEST_SEED is a number"));
        let seed = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64));
        say(&format!("seed {seed} (DEEPRING_TEST_SEED={seed} repeats it)"));
        Self::of(seed)
    }

    /// Of this seed.
    pub(crate) fn of(seed: u64) -> Self {
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
