//! fsx in a short form, and the proof that it can fail. The long form is `npm run fsx -- --seed N
//! --ops M`.

#[path = "../../deepring/tests/harness/mod.rs"]
mod harness;

use deepring_trials::fsx::{Campaign, Place, PlantedBug, Script, Source, Summary, names, with_places};
use harness::{Rng, directory, say, skip};

/// Some hundred operations on each place.
const OPERATIONS: u64 = 6_000;

/// A planted bug must be found within this many operations.
const PLANTED_OPERATIONS: u64 = 10_000;

/// A failure that depends on timing shows within this many operations: a replay ends with the first. It can be rare, for
/// instance if a read must not be overtaken by the write that was queued before it.
const REPLAYED_OPERATIONS: u64 = 20_000;

/// Without the bug, nothing fails in this many.
const CLEAN_OPERATIONS: u64 = 200;

/// The most operations that a shrunk script can have.
const SHORT_LEN_MAX: usize = 4;

fn assert_clean(summary: &Summary) {
    if let Some(violation) = &summary.violation {
        let (short, what) = &violation.short;
        panic!("on {}: {}\n{what}, after:\n{short}", violation.place, violation.what);
    }
}

#[test]
fn random_operations_on_every_file_system_agree_with_the_model() {
    let seed = Rng::new().next();
    let all: Vec<_> = names().into_iter().map(str::to_owned).collect();
    let campaign = Campaign { source: Source::Seed(seed), operations: OPERATIONS, bug: None };
    with_places(&all, |places, missing| {
        for (place, why) in missing {
            skip(&format!("{place}: {why}"));
        }
        let disk = directory();
        let places: Vec<_> = places.iter().cloned().chain([Place::at(disk.path())]).collect();
        let summary = campaign.run(&places, |_| {});
        assert_clean(&summary);
        assert!(summary.operations >= OPERATIONS && summary.scripts >= places.len() as u64, "{summary:?}");
    });
}

#[test]
fn every_planted_bug_is_caught_and_its_script_is_shrunk() {
    let disk = directory();
    for bug in PlantedBug::ALL {
        let campaign = Campaign { source: Source::Seed(1), operations: PLANTED_OPERATIONS, bug: Some(bug) };
        let summary = campaign.run(&[Place::at(disk.path())], |_| {});
        let Some(violation) = summary.violation else { panic!("{bug:?} survived {} operations", summary.operations) };
        let (short, what) = violation.short;
        say(&format!("{bug:?}: {what}\n{short}"));
        assert!((1..=SHORT_LEN_MAX).contains(&short.len()), "{bug:?} left {} operations:\n{short}", short.len());
        // The printed script, read again, shows the same bug sooner or later, and passes without
        // the bug.
        let printed: Script = short.to_string().parse().expect("a script");
        let replay = |bug, operations| Campaign { source: Source::Script(Box::new(printed.clone())), operations, bug };
        assert!(replay(Some(bug), REPLAYED_OPERATIONS).run(&[Place::at(disk.path())], |_| {}).violation.is_some(), "{bug:?}:\n{short}");
        assert_clean(&replay(None, CLEAN_OPERATIONS).run(&[Place::at(disk.path())], |_| {}));
    }
}

/// How each planted bug is described.
#[test]
fn misplaced_stale_and_missing_bytes_are_reported_as_such() {
    let script = "writers 1\nengine uring block 1048576 depth 0\nhandle engine 0 direct\nset-len 0 20000\n\
        write 0 at 0 len 20000 slice 0 waits\ncheck 0 plain-first\nwrite 0 at 5000 len 3000 slice 0 waits\n";
    let growing = script.replace("set-len 0 20000\n", "");
    let cases = [
        (PlantedBug::MisplacesBySector, script, "bytes that belong at 19487 of write #2"),
        (PlantedBug::SwallowsWrite, script, "found zeros; expected bytes of write #2"),
        (PlantedBug::DropsRange, script, "3 bytes are wrong, the last at 10002"),
        (PlantedBug::TrimsByte, &growing, "the file has 19999 bytes"),
    ];
    let disk = directory();
    for (bug, script, name) in cases {
        let source = Source::Script(Box::new(script.parse().expect("a script")));
        let campaign = Campaign { source, operations: 1, bug: Some(bug) };
        let violation = campaign.run(&[Place::at(disk.path())], |_| {}).violation.expect("a planted bug");
        assert!(violation.what.contains(name), "{bug:?}: {}", violation.what);
    }
}

/// What a write had padded counted as padding when the file had been made longer than that. From then on, reads ended at the
/// size that this process knew, though another program had appended.
#[test]
fn scripts_that_once_found_a_bug_find_none() {
    let script = "writers 1\nengine threads block 1048576 depth 0\nengine threads block 1048576 depth 0\nhandle engine 1 direct\n\
        handle engine 0 direct\nhandle engine 0 direct\nset-len 2 262144\nwrite 0 at 0 len 1 slice 0 waits\n\
        write 1 at 10 len 1 slice 0 waits\nzero at 262144 len 512 extend\ncheck 1 engine-first\n";
    let source = Source::Script(Box::new(script.parse().expect("a script")));
    let disk = directory();
    assert_clean(&Campaign { source, operations: 1000, bug: None }.run(&[Place::at(disk.path())], |_| {}));
}
