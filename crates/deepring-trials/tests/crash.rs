//! The crash campaign in a short form, and the proof that it can fail. Needs root; without it these
//! tests are reported as skipped.
//!
//! The long form is `npm run crash -- --seed N --cycles M`.

#[path = "../../deepring/tests/harness/mod.rs"]
mod harness;

use deepring_trials::crash::{Campaign, Kind, PlantedBug, Saved, Summary};
use harness::{say, skip};

/// A planted bug must be found within this many crashes.
const PLANTED_CYCLES: u64 = 200;

/// One in a save, within this many: the name before the flush shows only if the journal is committed
/// between the two, and took up to 172.
#[cfg(feature = "planted")]
const PLANTED_CYCLES_OF_SAVES: u64 = 2000;

fn seed() -> u64 {
    let given = std::env::var("DEEPRING_TEST_SEED").ok().map(|seed| seed.parse().expect("DEEPRING_TEST_SEED is a number"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the time").as_nanos() as u64;
    given.unwrap_or(now)
}

fn run(kind: Kind, cycles: u64, only: Option<Saved>, bug: Option<PlantedBug>) -> Option<(u64, Summary)> {
    let campaign = Campaign { seed: seed(), cycles, kind, only, bug };
    say(&format!("seed {} (DEEPRING_TEST_SEED={0} repeats what was written, not when it crashed)", campaign.seed));
    let summary = campaign.run(&|_| {}).inspect_err(|why| skip(why)).ok()?;
    say(&format!("{summary:?}"));
    Some((campaign.seed, summary))
}

fn keeps_its_promises(kind: Kind, cycles: u64) {
    let Some((seed, summary)) = run(kind, cycles, None, None) else { return };
    assert_eq!(summary.violation, None, "seed {seed}");
    assert_eq!(summary.cycles, cycles);
    assert!(
        summary.kept > cycles && summary.saved > cycles / 4 && summary.lost > 0 && summary.failed > 0,
        "too little was kept, saved, lost or failed, so this run proved nothing: {summary:?}"
    );
}

#[test]
fn acknowledged_writes_survive_hundreds_of_crashes_of_ext4() {
    keeps_its_promises(Kind::Ext4, 250);
}

#[test]
fn acknowledged_writes_survive_crashes_of_xfs() {
    keeps_its_promises(Kind::Xfs, 60);
}

#[test]
fn a_writer_that_acknowledges_too_early_is_caught() {
    for bug in [PlantedBug::LeavesOutSync, PlantedBug::CountsLateWrites] {
        let Some((seed, summary)) = run(Kind::Ext4, PLANTED_CYCLES, Some(Saved::Files), Some(bug)) else {
            return;
        };
        assert!(summary.violation.is_some(), "seed {seed}: {bug:?} survived {PLANTED_CYCLES} crashes: {summary:?}");
    }
}

/// In a build of its own, so that everything else is tried as it ships.
#[cfg(feature = "planted")]
#[test]
fn a_save_that_omits_or_swaps_a_step_is_caught() {
    use deepring_trials::saves::PlantedBug::{ForgetsDirectorySync, ForgetsFileSync, IndexFirst, RenamesFirst};
    for bug in [ForgetsFileSync, ForgetsDirectorySync, RenamesFirst, IndexFirst] {
        is_caught(Saved::Files, &["model", "shards"], bug);
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_checkpoint_that_omits_or_swaps_a_step_is_caught() {
    use deepring_trials::saves::PlantedBug::{ForgetsDirectorySync, ForgetsFileSync, RenamesFirst};
    for bug in [ForgetsFileSync, ForgetsDirectorySync, RenamesFirst] {
        is_caught(Saved::Checkpoints, &["checkpoint", "joined"], bug);
    }
}

#[cfg(feature = "planted")]
fn is_caught(saved: Saved, streams: &[&str], bug: deepring_trials::saves::PlantedBug) {
    let Some((seed, summary)) = run(Kind::Ext4, PLANTED_CYCLES_OF_SAVES, Some(saved), Some(PlantedBug::OfSaves(bug))) else { return };
    let violation = summary.violation.map(|(_, what)| what);
    let is_of_saves = violation.as_ref().is_some_and(|what| streams.iter().any(|stream| what.starts_with(stream)));
    assert!(is_of_saves, "seed {seed}: {bug:?}, {PLANTED_CYCLES_OF_SAVES} crashes: {violation:?}");
}
