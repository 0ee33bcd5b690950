//! Runs a test binary of the engine, and counts its results as `scripts/count.ts` does.

use super::super::initramfs::SUITE;
use super::super::protocol::{Ran, Report};
use super::DATA;
use super::port::Port;
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Factor for the deadlines of tests on an emulated processor.
const PATIENCE: &str = "8";

pub(super) fn run(port: &Port, name: &str, without: &[String]) -> Result<(), String> {
    let mut command = Command::new(format!("/{SUITE}/{name}"));
    // As many tests at a time as there are cores. Excluded tests are given by their full names.
    command.args(["--test-threads=2", "--exact"]).args(without.iter().flat_map(|test| ["--skip", test]));
    command.env("PATH", "/bin").env("DEEPRING_TEST_DIR", format!("{DATA}/suite")).env("DEEPRING_TEST_PATIENCE", PATIENCE);
    command.stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    // The whole output goes to the console, which the lab keeps. A failure to write it is not a
    // failed test.
    let _ = io::stdout().write_all(text.as_bytes());
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["test", "result:", _, count, "passed;", failures, "failed;", ignored, "ignored;", ..] => {
                let number = |word: &str| word.parse::<u64>().unwrap_or(0);
                passed += number(count);
                failed += number(failures);
                skipped += number(ignored);
            }
            ["skipped:", ref words @ ..] => {
                port.send(&Report::Note(format!("{name}: skipped: {}", words.join(" "))));
                (passed, skipped) = (passed.saturating_sub(1), skipped + 1);
            }
            ["test", broken, "...", "FAILED"] => port.send(&Report::Note(format!("{name}: failed: {broken}"))),
            _ => {}
        }
    }
    if !output.status.success() && failed == 0 {
        port.send(&Report::Note(format!("{name} ended with {}", output.status)));
        failed = 1;
    }
    port.send(&Report::Ran(Ran { name: name.to_owned(), passed, failed, skipped }));
    Ok(())
}
