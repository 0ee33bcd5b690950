//! Prints the CRC-32C of files: `cargo run -p deepring --example checksum -- FILE...`.
//!
//! The files are read through engine memory at the speed of the drive. The next one is opened and begun
//! while the last is still read.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use deepring::{Engine, OpenOptions, Result, Task};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let paths: Vec<OsString> = std::env::args_os().skip(1).collect();
    if paths.is_empty() {
        eprintln!("usage: checksum FILE...");
        return ExitCode::from(2);
    }
    let mut code = ExitCode::SUCCESS;
    for (path, sum) in paths.iter().zip(checksums(&paths)) {
        match sum {
            Ok(crc) => println!("{crc:08x}  {}", Path::new(path).display()),
            Err(error) => {
                eprintln!("checksum: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// The checksum of each file.
pub(crate) fn checksums<P: AsRef<Path>>(paths: &[P]) -> Vec<Result<u32>> {
    let engine = match Engine::builder().build() {
        Ok(engine) => engine,
        Err(error) => return paths.iter().map(|_| Err(error.clone())).collect(),
    };
    // One file ahead: while it is opened and begun, the drive works on the other.
    let mut begun: Option<Result<Task<u32>>> = None;
    let mut sums = Vec::new();
    for path in paths {
        let next = engine.open(path, OpenOptions::new().read(true)).map(|file| file.checksum(..));
        sums.extend(begun.replace(next).map(|task| task.and_then(Task::wait)));
    }
    sums.extend(begun.map(|task| task.and_then(Task::wait)));
    sums
}
