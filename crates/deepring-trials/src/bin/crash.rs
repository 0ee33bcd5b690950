//! Crashes a file system under the engine, many times: see `deepring_trials::crash`.
//!
//!   npm run crash -- [--seed N] [--cycles M] [--fs ext4|xfs] [--only saves|checkpoints] [--planted BUG]
//!
//! BUG is `sync` or `late` in the writers. In saves and checkpoints it is `file-sync`,
//! `directory-sync`, `order` or, in saves, `index-first`, and the program needs the feature `planted`:
//!
//!   cargo run --release -p deepring-trials --features planted --bin crash -- --only saves --planted order

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program")]

use deepring_trials::crash::{Campaign, Kind, PlantedBug, Saved};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Cycles between two progress lines.
const PROGRESS_CYCLES: u64 = 500;

fn main() -> ExitCode {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let mut campaign = Campaign { seed, cycles: 5000, kind: Kind::Ext4, only: None, bug: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next();
        if set(&mut campaign, &name, value.as_deref()).is_none() {
            eprintln!(
                "Usage: crash [--seed N] [--cycles M] [--fs ext4|xfs] [--only saves|checkpoints] \
                 [--planted sync|late|file-sync|directory-sync|order|index-first]"
            );
            return ExitCode::FAILURE;
        }
    }
    let started = Instant::now();
    let summary = campaign.run(&|summary| {
        if summary.cycles % PROGRESS_CYCLES == 0 {
            eprintln!("{} cycles, {} acknowledged writes kept, {} others lost", summary.cycles, summary.kept, summary.lost);
        }
    });
    let summary = match summary {
        Ok(summary) => summary,
        Err(why) => {
            println!("skipped: crash: {why}");
            return ExitCode::FAILURE;
        }
    };
    if let Some((cycle, what)) = &summary.violation {
        eprintln!("cycle {cycle}: {what}");
    }
    println!(
        "crash: seed {}, {}: {} cycles, {} acknowledged writes kept, {} others lost, {} saves kept, {} files left over, {} requests failed, {} violations, {:.0} s",
        campaign.seed,
        campaign.kind.name(),
        summary.cycles,
        summary.kept,
        summary.lost,
        summary.saved,
        summary.leftovers,
        summary.failed,
        u32::from(summary.violation.is_some()),
        started.elapsed().as_secs_f64()
    );
    if summary.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn set(campaign: &mut Campaign, name: &str, value: Option<&str>) -> Option<()> {
    let value = value?;
    match name {
        "--seed" => campaign.seed = value.parse().ok()?,
        "--cycles" => campaign.cycles = value.parse().ok()?,
        "--fs" => campaign.kind = Kind::named(value)?,
        "--only" => campaign.only = Some(Saved::named(value)?),
        "--planted" => campaign.bug = Some(PlantedBug::named(value)?),
        _ => return None,
    }
    Some(())
}
