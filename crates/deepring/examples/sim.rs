//! Simulates the engine under every fault, for any number of operations.
//!
//! `cargo run --release -p deepring --features sim --example sim -- --seed 1 --ops 1000000`
//!
//! Ends with one line, `sim: seed S, N operations, R runs, V violations`, and exits with 1 if there
//! was a violation. A violation is printed with its seed; `--seed S --ops 1 --trace` replays it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the output of a command")]

use deepring::sim::{Campaign, PlantedBug};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "Usage: sim [--seed N] [--ops N] [--dir PATH] [--trace] [--planted NAME]";

fn main() -> ExitCode {
    match campaign(std::env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn campaign(mut arguments: impl Iterator<Item = String>) -> Result<bool, Box<dyn std::error::Error>> {
    let mut campaign = Campaign { seed: 1, operations: 1_000_000, directory: memory(), bug: None, traced: false };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} requires a value"));
        match argument.as_str() {
            "--seed" => campaign.seed = value()?.parse()?,
            "--ops" => campaign.operations = value()?.replace('_', "").parse()?,
            "--dir" => campaign.directory = value()?.into(),
            "--trace" => campaign.traced = true,
            "--planted" => {
                let name = value()?;
                let found = PlantedBug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
                campaign.bug =
                    Some(found.ok_or_else(|| format!("{name} is not a planted bug; the planted bugs are {:?}", PlantedBug::ALL))?);
            }
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let space = tempfile::Builder::new().prefix("deepring-sim-").tempdir_in(&campaign.directory)?;
    campaign.directory = space.path().into();
    let (begun, mut reported) = (Instant::now(), Instant::now());
    let summary = campaign.run(|so_far| {
        if reported.elapsed() >= Duration::from_secs(10) {
            reported = Instant::now();
            eprintln!("sim: {} operations, {} runs, {:.0} s", so_far.operations, so_far.runs, begun.elapsed().as_secs_f64());
        }
    })?;
    println!(
        "sim: {} device operations, {} MiB, {} faults, {} lost rings, fingerprint {:016x}, {:.1} s",
        summary.device_operations,
        summary.moved_bytes >> 20,
        summary.faults,
        summary.lost_rings,
        summary.fingerprint,
        begun.elapsed().as_secs_f64()
    );
    if let Some(violation) = &summary.violation {
        violation.trace.iter().for_each(|event| println!("  {event}"));
        println!("sim: {}", violation.profile);
        println!("sim: VIOLATION in the run with seed {}: {}", violation.seed, violation.what);
        println!("sim: replay with --seed {} --ops 1 --trace", violation.seed);
    }
    let violations = u32::from(summary.violation.is_some());
    println!("sim: seed {}, {} operations, {} runs, {violations} violations", campaign.seed, summary.operations, summary.runs);
    Ok(summary.violation.is_none())
}

/// A memory file system is fastest, and the simulation needs no disk.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
