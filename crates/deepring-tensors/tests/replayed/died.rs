//! A writer that has joined dies after each of its calls. Nothing that it did is lost, and the first writer goes on.
//!
//! Before its part is there, the commit fails and names it; after that, its part counts. In between there is nothing.

use crate::commits::{of_two, put_first, whole_generations, write_old, write_second};
use crate::disk::Before;
use crate::harness::{directory, engine, names_in};
use deepring::sim::{Recorded, record};
use deepring_tensors::Error;
use deepring_tensors::checkpoint::{BeginOptions, Checkpoints, PlantedBug, StoreOptions, plant};
use std::collections::BTreeMap;
use std::time::Duration;

/// What comes of the commit if the second writer dies after so many calls; `None`: it makes no more. An error: what is wrong.
fn died_after(calls: usize, bug: Option<PlantedBug>) -> Result<Option<bool>, String> {
    let (place, engine) = (directory(), engine());
    let store = Checkpoints::open(&engine, place.path(), StoreOptions::new()).wait().expect("a store");
    let old = write_old(&store);
    let first = store.begin(BeginOptions::new().writers(2).patience(Duration::ZERO)).wait().expect("a writer");
    let (before, record) = (Before::of(place.path()), record(place.path()).expect("a record"));
    plant(bug);
    write_second(&store, &first);
    plant(None);
    let made = record.calls();
    drop(record);
    if calls > made.len() {
        return Ok(None);
    }
    let has_part = made[..calls].iter().any(|call| matches!(call, Recorded::Rename(_, to) if to.ends_with("part-00001.json")));
    let replay = before.then(place.path(), made, "");
    // The directory becomes what it was then. The first writer has it open, and its lock in it.
    let name = names_in(place.path()).into_iter().find(|name| name.starts_with(".tmp-")).expect("a temporary directory");
    let (temporary, then) = (place.path().join(&name), directory());
    replay.after(calls, then.path());
    for name in names_in(&temporary).iter().filter(|name| *name != "lock-00000") {
        std::fs::remove_file(temporary.join(name)).expect("a file");
    }
    for file in names_in(&then.path().join(&name)).iter().filter(|name| *name != "lock-00000") {
        std::fs::copy(then.path().join(&name).join(file), temporary.join(file)).expect("a file");
    }
    put_first(&first);
    let ended = first.commit().wait();
    let is_right = match &ended {
        Ok(_) => has_part,
        Err(Error::Incomplete { generation: 2, writers }) => !has_part && writers == &[1],
        Err(_) => false,
    };
    if !is_right {
        return Err(format!("{ended:?} after {:?}", replay.calls[..calls].last()));
    }
    let expected = if has_part { vec![1, 2] } else { vec![1] };
    let found = whole_generations(&engine, place.path(), &BTreeMap::from([(1, old), (2, of_two())]))?;
    let names = names_in(place.path());
    if found != expected || names.iter().any(|name| name.starts_with(".tmp-")) {
        return Err(format!("generations {found:?} and {names:?}"));
    }
    Ok(Some(has_part))
}

/// Returns after how many calls the commit fails, and after how many it succeeds.
fn die_everywhere(bug: Option<PlantedBug>) -> Result<(usize, usize), String> {
    let (mut failed, mut succeeded) = (0, 0);
    for calls in 0.. {
        match died_after(calls, bug)? {
            None => break,
            Some(true) => succeeded += 1,
            Some(false) => failed += 1,
        }
    }
    Ok((failed, succeeded))
}

#[test]
fn a_writer_that_dies_is_named_before_its_part_is_there_and_counts_after_it() {
    let (failed, succeeded) = die_everywhere(None).expect("as it should be");
    assert!(failed > 5 && succeeded > 0, "{failed} failed, {succeeded} succeeded");
}

#[test]
fn a_part_that_is_there_before_its_data_is_found() {
    let what = die_everywhere(Some(PlantedBug::PartBeforeData)).expect_err("a bug");
    assert!(what.contains("part-00001.json"), "{what}");
}
