//! The simulation in a short form, and the proof that it can fail.
//!
//! The long form is `npm run sim -- --seed N --ops M`. A seed that it reports is added to [`SEEDS`]
//! together with the fix.

use deepring::sim::{Campaign, PlantedBug, Summary};
use std::path::Path;
use tempfile::TempDir;

/// The campaign of one test, long enough to meet every kind of fault.
const OPERATIONS: u64 = 40_000;

/// A planted bug must be found within this many operations.
const PLANTED_OPERATIONS: u64 = 100_000;

/// Seeds that once found a bug, and find it again without its fix.
const SEEDS: &[(u64, &str)] = &[
    (1, "an empty write by path preallocated space"),
    (35, "a copy of bytes read by a blocking thread waited until something else woke the driver"),
    (41, "an operation that was direct failed with EINVAL after its file had been downgraded to buffered I/O"),
    (141, "an empty write left a claim on the end 0"),
    (66, "two short reads of an edge were taken for the end of the file, and zeros replaced a neighbor's bytes"),
    (1009, "a read that failed reported padding as transferred"),
    (400_004_488, "requests by path waited for files where nothing answers, because descriptors once ran short"),
    (400_015_384, "a read past the end that the kernel refused failed, because the file had been cut and had grown since"),
    (400_035_756, "a read past the end that the kernel refused failed, because the file had been cut before it reached the device"),
    (789, "short reads hid that a file ended before its known end"),
    (30_013_589, "an edge planned for direct I/O left its padding behind after the file had been downgraded to buffered I/O"),
    (20_323_990, "interruptions of a write counted against its short transfers"),
    (20_272_508, "space that could be neither allocated nor freed counted as claimed from then on"),
    (5_001_781, "a file that was to grow by ftruncate was cut, because another request had grown it since it was measured"),
    (500_622, "a driver that unwound ended a write that had not begun twice"),
    (700_601, "a driver that unwound withdrew a truncation that it had not announced"),
    (803_107, "a driver that unwound settled a request while a blocking thread still had its memory"),
    (40_004_310, "a trim truncated a write inside a file that another process had truncated"),
    (300_009_664, "two classes that were owed something kept each other out"),
];

/// The simulation does its own direct I/O, so memory serves as well as a disk, and is faster.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("deepring-sim-").tempdir_in(parent).expect("a directory in memory")
}

fn simulate(seed: u64, operations: u64, bug: Option<PlantedBug>) -> Summary {
    let place = place();
    let campaign = Campaign { seed, operations, directory: place.path().into(), bug, traced: false };
    campaign.run(|_| {}).expect("a directory that can be used")
}

#[track_caller]
fn assert_clean(summary: &Summary) {
    if let Some(violation) = &summary.violation {
        panic!("seed {} (replay: npm run sim -- --seed {0} --ops 1 --trace): {}", violation.seed, violation.what);
    }
}

#[test]
fn a_campaign_with_all_faults_finds_no_violation() {
    let seed = std::env::var("DEEPRING_TEST_SEED").map_or(1, |seed| seed.parse().expect("DEEPRING_TEST_SEED is a number"));
    let summary = simulate(seed, OPERATIONS, None);
    assert_clean(&summary);
    assert!(summary.operations >= OPERATIONS, "{summary:?}");
    assert!(summary.faults > 0 && summary.lost_rings > 0, "faults must be injected: {summary:?}");
}

#[test]
fn seeds_that_once_found_a_bug_find_none() {
    for &(seed, bug) in SEEDS {
        let violation = simulate(seed, 1, None).violation;
        assert!(violation.is_none(), "seed {seed}, which once found that {bug}: {violation:?}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    let [first, second] = [(); 2].map(|()| simulate(77, 3_000, None));
    assert_eq!(first.fingerprint, second.fingerprint);
    assert_eq!((first.operations, first.device_operations), (second.operations, second.device_operations));
    assert_ne!(first.fingerprint, simulate(78, 3_000, None).fingerprint);
}

#[test]
#[allow(clippy::print_stdout, reason = "libtest shows it with a failure, or when asked")]
fn every_planted_bug_is_caught() {
    for bug in PlantedBug::ALL {
        // From several seeds, so that it is not luck.
        for seed in [1, 10_001, 20_001] {
            let summary = simulate(seed, PLANTED_OPERATIONS, Some(bug));
            let Some(violation) = summary.violation else { panic!("{bug:?} survived {} operations", summary.operations) };
            assert!(violation.operation <= PLANTED_OPERATIONS, "{bug:?} was caught late: {violation:?}");
            println!("{bug:?}: caught at operation {} (seed {}): {}", violation.operation, violation.seed, violation.what);
        }
    }
}
