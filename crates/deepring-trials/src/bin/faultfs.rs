//! Serves a fault file system until its standard input ends: see `deepring_trials::faultfs`.
//!
//! By hand, with faults typed in (`read 0..4096 1 errno 5`, `write 0..1000000 9 short`, `sync 0..1
//! 1 stall 2000`, `clear`, `triggered`):
//!
//!   cargo run -p deepring-trials --bin faultfs -- MOUNTPOINT BACKING [--direct]

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program")]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mountpoint, backing, direct) = match arguments.as_slice() {
        [mountpoint, backing] => (mountpoint, backing, false),
        [mountpoint, backing, flag] if flag == "--direct" => (mountpoint, backing, true),
        _ => {
            eprintln!("Usage: faultfs MOUNTPOINT BACKING [--direct]");
            return ExitCode::FAILURE;
        }
    };
    match deepring_trials::faultfs::serve(Path::new(mountpoint), backing.into(), direct) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
