//! Power cuts: after each call of a commit, whatever was not flushed can be there or not.

use crate::commits::{How, Recorded, Tensors, recorded, whole_generations, write_old};
use crate::disk::{Before, Replay};
use crate::harness::{directory, engine, names_in, source};
use deepring::Engine;
use deepring::sim::record;
use deepring_tensors::DType;
use deepring_tensors::checkpoint::{CheckpointOptions, Checkpoints, PlantedBug, StoreOptions};
use std::collections::BTreeMap;
use std::path::Path;

/// Looks at every disk. Returns how many there are, or what is wrong with one.
fn cut_everywhere(Recorded { how, engine, replay, tensors, .. }: &Recorded) -> Result<usize, String> {
    let (mut before, mut after) = (0, 0);
    let disks = replay.cut_everywhere(|store, has_ended| {
        let found = whole_generations(engine, store, tensors)?;
        match found[..] {
            [1] if !has_ended => before += 1,
            [1, 2] => after += 1,
            [2] if *how == How::Retiring => after += 1,
            _ => return Err(format!("generations {found:?} are there")),
        }
        Ok(())
    })?;
    assert!(before > 0 && after > 0, "{before} disks have the generation before, and {after} the new one");
    Ok(disks)
}

#[test]
fn a_power_cut_at_any_point_leaves_a_generation_whole_or_absent_and_the_one_before() {
    for how in How::ALL {
        let recorded = recorded(how, None);
        let disks = cut_everywhere(&recorded).unwrap_or_else(|what| panic!("{how:?}: {what}"));
        assert!(recorded.replay.calls.len() > 15 && disks > 2, "{how:?}: {disks} disks of {:?}", recorded.replay.calls);
    }
}

#[test]
fn every_planted_bug_that_a_power_cut_can_show_is_found() {
    use PlantedBug as Bug;
    let found = |how, bug| cut_everywhere(&recorded(how, Some(bug))).expect_err("a bug");
    let mixed = |bug, after: &str| {
        let what = found(How::Alone, bug);
        assert!(what.starts_with("generation 2") && what.contains(after), "{bug:?}: {what}");
    };
    for bug in [Bug::ForgetsDataSync, Bug::ForgetsPartSync, Bug::ForgetsManifestSync, Bug::ForgetsIndexSync] {
        mixed(bug, "after Some(Rename(\".tmp-");
    }
    for bug in [Bug::ForgetsTemporarySync, Bug::SyncsTemporaryFirst, Bug::PublishesFirst] {
        mixed(bug, "after Some(Rename(\".tmp-");
    }
    for bug in [Bug::ForgetsStoreSync, Bug::SyncsStoreFirst] {
        let what = found(How::Alone, bug);
        assert!(what.starts_with("generations [1] are there"), "{bug:?}: {what}");
    }
    let what = found(How::Retiring, Bug::ForgetsRetiredSync);
    assert!(what.starts_with("generation 1 is a mixture"), "{what}");
}

/// The two that are left are shown by `died` and `alive`. The flushes that make a generation whole come before it has its name
/// in spite of them: the part is there early, but the first writer opens each file that it lists, and a file has its name when
/// it was flushed. And a power cut ends all writers, so that it does not matter whether one seemed to be alive.
#[test]
fn two_planted_bugs_cannot_be_shown_by_a_power_cut() {
    let cut: Vec<_> =
        PlantedBug::ALL.into_iter().filter(|bug| matches!(bug, PlantedBug::PartBeforeData | PlantedBug::UnlocksFirst)).collect();
    assert_eq!(cut.len(), 2);
    for bug in cut {
        for how in How::ALL {
            cut_everywhere(&recorded(how, Some(bug))).unwrap_or_else(|what| panic!("{how:?}, {bug:?}: {what}"));
        }
    }
}

/// Saves once more, and expects a number that was not used, and nothing else beside generations.
fn goes_on(store: &Path) {
    let engine = engine();
    let highest = names_in(store).iter().filter_map(|name| name.parse::<u64>().ok()).max();
    let opened = Checkpoints::open(&engine, store, StoreOptions::new().keep_all()).wait().expect("a store");
    let save = opened.save(vec![source("next", DType::U8, &[5])], CheckpointOptions::new());
    let number = save.wait().expect("captured").commit().wait().expect("a commit").number;
    assert!(highest.is_none_or(|highest| number > highest), "{number} after {highest:?}");
    let names = names_in(store);
    assert!(!names.iter().any(|name| name.starts_with(".tmp-") || name.starts_with(".trash-")), "{names:?}");
    assert_eq!(opened.list().wait().expect("a list").last(), Some(&number));
}

#[test]
fn after_a_cut_the_next_commit_goes_on_and_leaves_nothing_of_the_last() {
    for how in How::ALL {
        let Recorded { replay, .. } = recorded(how, None);
        for calls in 0..=replay.calls.len() {
            let (killed, cut) = (directory(), directory());
            replay.after(calls, killed.path());
            replay.safe_after(calls, cut.path());
            goes_on(killed.path());
            goes_on(cut.path());
        }
    }
}

/// Looks at every disk that a power cut can leave: the only generation is whole, or absent if the call had not ended. Some have
/// it, and some have not.
fn whole_or_absent(replay: &Replay, engine: &Engine, tensors: &BTreeMap<u64, Tensors>, which: &str) {
    let (mut absent, mut there) = (0, 0);
    let disks = replay.cut_everywhere(|store, has_ended| {
        match whole_generations(engine, store, tensors)?[..] {
            [] if !has_ended => absent += 1,
            [1] => there += 1,
            ref found => return Err(format!("generations {found:?} are there")),
        }
        Ok(())
    });
    assert!(disks.is_ok() && absent > 0 && there > 0, "{disks:?}, {absent} without it, {there} with it, {which}");
}

#[test]
fn a_copy_in_another_store_is_whole_or_absent() {
    let (place, engine) = (directory(), engine());
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    let store = Checkpoints::open(&engine, &from, StoreOptions::new().create(true)).wait().expect("a store");
    let tensors = BTreeMap::from([(1, write_old(&store))]);
    std::fs::create_dir(&to).expect("a directory");
    let (before, record) = (Before::of(&to), record(&to).expect("a record"));
    store.generation(1).wait().expect("a generation").copy_to(&to, None).wait().expect("copied");
    let replay = before.then(&to, record.calls(), "");
    whole_or_absent(&replay, &engine, &tensors, "copied");
}

/// Takes a generation over from another directory. `files`: how many, if it does not come to its end.
fn receive(from: &Checkpoints, place: &Path, to: &Checkpoints, files: Option<usize>) {
    let listing = from.generation(1).wait().expect("a generation").listing().wait().expect("a listing");
    let arrival = to.receive(&listing).wait().expect("begun").expect("it is not there");
    for (number, file) in listing.files().iter().enumerate().take(files.unwrap_or(usize::MAX)) {
        if arrival.has(number).wait().expect("a look") {
            continue;
        }
        let bytes = std::fs::read(place.join("000000000001").join(&file.name)).expect("a file");
        let header_bytes = listing.header_bytes(number, &bytes).expect("a header") as usize;
        let check = listing.check(number, &bytes[..header_bytes]).expect("a header");
        let arriving = arrival.begin(number, &check).wait().expect("begun");
        arriving.write(0, vec![bytes]).wait().expect("written");
        arriving.finish().wait().expect("a file");
    }
    if files.is_none() {
        assert_eq!(arrival.commit().wait().expect("a commit").number, 1);
    }
}

#[test]
fn a_generation_that_arrives_is_whole_or_absent() {
    for is_resumed in [false, true] {
        let (place, other, engine) = (directory(), directory(), engine());
        let from = Checkpoints::open(&engine, other.path(), StoreOptions::new()).wait().expect("a store");
        let tensors = BTreeMap::from([(1, write_old(&from))]);
        let to = Checkpoints::open(&engine, place.path(), StoreOptions::new()).wait().expect("a store");
        let (before, record) = (Before::of(place.path()), record(place.path()).expect("a record"));
        if is_resumed {
            receive(&from, other.path(), &to, Some(2));
        }
        receive(&from, other.path(), &to, None);
        let replay = before.then(place.path(), record.calls(), "");
        whole_or_absent(&replay, &engine, &tensors, &format!("resumed: {is_resumed}"));
        for calls in 0..=replay.calls.len() {
            let (killed, cut) = (directory(), directory());
            replay.after(calls, killed.path());
            replay.safe_after(calls, cut.path());
            for left in [killed.path(), cut.path()] {
                let to = Checkpoints::open(&engine, left, StoreOptions::new()).wait().expect("a store");
                if to.list().wait().expect("a list").is_empty() {
                    receive(&from, other.path(), &to, None);
                }
                assert_eq!(whole_generations(&engine, left, &tensors), Ok(vec![1]), "after {calls} calls");
                goes_on(left);
            }
        }
    }
}

#[test]
fn a_store_that_was_created_for_it_is_there_after_the_first_commit() {
    for is_copied in [false, true] {
        let (place, engine) = (directory(), engine());
        let other = directory();
        let source = Checkpoints::open(&engine, other.path(), StoreOptions::new()).wait().expect("a store");
        let tensors = BTreeMap::from([(1, write_old(&source))]);
        let (before, record) = (Before::of(place.path()), record(place.path()).expect("a record"));
        let path = place.path().join("runs/first");
        if is_copied {
            source.generation(1).wait().expect("a generation").copy_to(&path, None).wait().expect("copied");
        } else {
            write_old(&Checkpoints::open(&engine, &path, StoreOptions::new().create(true)).wait().expect("a store"));
        }
        let replay = before.then(place.path(), record.calls(), "runs/first");
        let looked = replay.cut_everywhere(|store, has_ended| match whole_generations(&engine, store, &tensors)?[..] {
            [] if !has_ended => Ok(()),
            [1] => Ok(()),
            ref found => Err(format!("generations {found:?} are there")),
        });
        assert!(looked.is_ok(), "copied: {is_copied}: {looked:?}");
    }
}
