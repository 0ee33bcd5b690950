//! The drive lab: `npm run lab -- [--cuts N] [--seed N]
//! [--only suite|faults|planted|cuts|saves|checkpoints|puts] [--suite WORD]`.
//!
//! Without `--only` it runs everything: the engine's tests on the emulated drive, drives that fail
//! and stall, the planted bugs, which leave out a sync and must be caught, N power cuts (200), and
//! as many while models are saved, while checkpoints are committed and while objects are put.
//! The last line is the summary. It exits with 1 if anything was lost, mixed, or not caught.

use deepring::{Directory, FileLock, LockKind};
use deepring_trials::lab::campaign::{CutSummary, Target};
use deepring_trials::lab::initramfs::Purpose;
use deepring_trials::lab::{Artifacts, campaign, faults, initramfs, packages, say, suite};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Enough cuts to claim that the engine survives power cuts.
const CUTS_DEFAULT: u64 = 200;

/// The parts that `--only` selects.
const PARTS: [&str; 7] = ["suite", "faults", "planted", "cuts", "saves", "checkpoints", "puts"];

/// A part that cuts the power, in words.
struct Cuts {
    part: &'static str,
    target: Target,
    during: &'static str,
    acknowledge: &'static str,
    /// What can be left beside the generations.
    leave: Option<&'static str>,
}

const CUTS: [Cuts; 4] = [
    Cuts { part: "cuts", target: Target::COMMITS, during: "writes", acknowledge: "generations", leave: None },
    Cuts { part: "saves", target: Target::SAVES, during: "saves", acknowledge: "versions", leave: Some("files") },
    Cuts { part: "checkpoints", target: Target::CHECKPOINTS, during: "commits", acknowledge: "generations", leave: Some("directories") },
    Cuts { part: "puts", target: Target::PUTS, during: "puts", acknowledge: "objects", leave: None },
];

struct Options {
    seed: u64,
    cuts: u64,
    only: Option<String>,
    word: Option<String>,
}

fn options() -> Result<Options, String> {
    // A random seed without another crate: the system seeds the hasher of a new map.
    let mut options = Options { seed: RandomState::new().hash_one(0) >> 16, cuts: CUTS_DEFAULT, only: None, word: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{option} {value}: not a number"));
        match option.as_str() {
            "--seed" => options.seed = number()?,
            "--cuts" => options.cuts = number()?,
            "--suite" => options.word = Some(value),
            "--only" if PARTS.contains(&value.as_str()) => options.only = Some(value),
            _ => return Err(format!("{option} {value}: the options are --seed N, --cuts N, --suite WORD, --only {}", PARTS.join("|"))),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options().map_err(io::Error::other).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("lab: failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Where drives, guests and logs are.
fn folder() -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/lab");
    std::fs::create_dir_all(&folder)?;
    folder.canonicalize()
}

/// Keeps other labs out of the folder: each would find what the other has written on its drives.
fn lock() -> io::Result<FileLock> {
    let folder = Directory::open(folder()?)?;
    let lock = folder.try_lock("lock", LockKind::Exclusive, true)?;
    lock.ok_or_else(|| io::Error::other(format!("another lab is running in {}", folder.path().display())))
}

fn build_artifacts(purpose: Purpose) -> io::Result<Artifacts> {
    if !cfg!(target_arch = "x86_64") {
        return Err(io::Error::other("the lab's virtual machine and its guest are x86_64; run the lab on an x86_64 host"));
    }
    packages::require_programs()?;
    let folder = folder()?;
    let (kernel, modules) = packages::kernel(&folder)?;
    say("building the drive and the guest");
    let plugin = initramfs::build_plugin(&folder)?;
    let (initramfs, suite) = initramfs::build(&folder, &modules, purpose)?;
    Ok(Artifacts { folder, kernel, initramfs, plugin, suite })
}

fn run(options: &Options) -> io::Result<bool> {
    let _lock = lock()?;
    let &Options { seed, cuts, .. } = options;
    let selected = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    let started = Instant::now();
    let mut passed = true;
    let mut parts = vec![format!("lab: seed {seed}")];
    if selected("suite") {
        let summary = suite::run(&build_artifacts(Purpose::Suite)?, options.word.as_deref())?;
        passed &= summary.failed == 0 && summary.passed > 0;
        parts.push(format!("suite {} passed {} failed {} skipped", summary.passed, summary.failed, summary.skipped));
    }
    if selected("faults") {
        let summary = faults::run(&build_artifacts(Purpose::Trials)?, seed)?;
        parts.push(format!("{} typed errors, a stall of {} ms survived", summary.errors, summary.stall_ms));
    }
    if selected("planted") {
        let artifacts = build_artifacts(Purpose::Planted)?;
        let mut caught = 0;
        for bug in campaign::PLANTED {
            let (left_out, stream) = bug;
            let cuts = campaign::run_planted(&artifacts, seed, bug)?;
            let how = cuts.map_or_else(|| "NOT CAUGHT".to_owned(), |cuts| format!("caught after {cuts} cuts"));
            say(&format!("planted: {stream} without {left_out}: {how}"));
            caught += u64::from(cuts.is_some());
        }
        passed &= caught == campaign::PLANTED.len() as u64;
        parts.push(format!("{caught} of {} planted bugs caught", campaign::PLANTED.len()));
    }
    for Cuts { part, target, during, acknowledge, leave } in CUTS.iter().filter(|cuts| selected(cuts.part)) {
        let CutSummary { cuts: done, acknowledged, leftovers, verdict } = cut(seed, *target, cuts)?;
        passed &= verdict.is_good() && acknowledged > 0;
        let (lost, mixed) = (verdict.lost.len(), verdict.mixed.len());
        let left = leave.map_or_else(String::new, |leave| format!(", {leftovers} {leave} left over"));
        parts.push(format!(
            "{part}: {done} cuts during {during}, {acknowledged} acknowledged {acknowledge}, {lost} lost, {mixed} mixed{left}"
        ));
    }
    say(&format!("{} ({:.0} s)", parts.join(", "), started.elapsed().as_secs_f64()));
    Ok(passed)
}

/// Half of the cuts with each sector size, on separate drives.
fn cut(seed: u64, target: Target, cuts: u64) -> io::Result<CutSummary> {
    let artifacts = build_artifacts(Purpose::Trials)?;
    let (began, mut total) = (Instant::now(), CutSummary::default());
    for (sector_bytes, cuts) in [(512, cuts.div_ceil(2)), (4096, cuts / 2)] {
        let CutSummary { cuts, acknowledged, leftovers, verdict } =
            campaign::run(&artifacts, seed ^ u64::from(sector_bytes), target, sector_bytes, cuts)?;
        total.cuts += cuts;
        total.acknowledged += acknowledged;
        total.leftovers += leftovers;
        total.verdict.lost.extend(verdict.lost);
        total.verdict.mixed.extend(verdict.mixed);
    }
    say(&format!("{:.1} s a cut", began.elapsed().as_secs_f64() / total.cuts.max(1) as f64));
    Ok(total)
}
