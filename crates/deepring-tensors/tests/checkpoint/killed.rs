//! Three processes that write checkpoints together are killed at random moments, again and again.

use crate::child::{argument, spawn};
use crate::harness::{Rng, directory, engine, say, source};
use crate::model::{is_clean, store};
use deepring::Engine;
use deepring_tensors::checkpoint::{BeginOptions, Check, CheckpointWriter, Checkpoints, JoinOptions, PutOptions, Reference, StoreOptions};
use deepring_tensors::{DType, Declared, Error, Result, Source};
use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

const TEST: &str = "killed::processes_that_are_killed_leave_generations_that_are_whole";
const WRITERS: u32 = 3;
const ROUNDS: u32 = 12;

/// The generations that a store keeps by default.
const KEPT: usize = 3;

/// As long as some commits take on a machine that has nothing else to do. A round that saw none makes the next ones longer.
const ROUND_MS_MAX: u64 = 150;

/// A tensor of a step, of which every writer has a piece of two rows.
fn split(step: u64) -> Source<Vec<u8>> {
    source(&format!("split.{step}"), DType::F32, &[2 * u64::from(WRITERS), 500])
}

fn own(step: u64, writer: u32) -> Source<Vec<u8>> {
    source(&format!("own.{step}.{writer}"), DType::U8, &[10_000 + step])
}

fn put(writer: &CheckpointWriter, step: u64, number: u32) -> Result<()> {
    let Source { declared, data } = split(step);
    let rows = data.len() / WRITERS as usize;
    let piece = Declared { shape: vec![2, 500], ..declared };
    let data = data[rows * number as usize..][..rows].to_vec();
    let options = PutOptions::new().within([2 * u64::from(WRITERS), 500], [2 * u64::from(number), 0]);
    writer.put(Source { declared: piece, data }, options).wait()?;
    writer.put(own(step, number), PutOptions::new()).wait().map(drop)
}

/// Replaces a file, so that others read all of it.
fn write_file(path: &Path, text: &str) {
    std::fs::write(path.with_extension("new"), text).expect("a file");
    std::fs::rename(path.with_extension("new"), path).expect("a file");
}

/// The first writer: begins, passes the token on, commits, and goes on with the next step.
fn lead(engine: &Engine, place: &Path) -> Result<()> {
    let store = store(engine, &place.join("store"));
    let before = store.latest(Check::Sizes).wait()?.checkpoint;
    let step = before.and_then(|before| before.step()).map_or(1, |step| step + 1);
    let options = BeginOptions::new().step(step).writers(WRITERS).reference(Reference::Latest).patience(Duration::from_secs(1));
    let first = store.begin(options).wait()?;
    write_file(&place.join("token"), &format!("{step} {}", first.token()));
    put(&first, step, 0)?;
    if step > 1 {
        first.reference_group("frozen").wait()?;
    } else {
        first.put(source("frozen", DType::U8, &[5000]), PutOptions::new().group("frozen")).wait()?;
    }
    first.commit().wait()?;
    write_file(&place.join("acknowledged"), &step.to_string());
    Ok(())
}

/// Another writer: joins what was begun since.
fn follow(engine: &Engine, place: &Path, number: u32, last: &mut String) -> Result<()> {
    let text = std::fs::read_to_string(place.join("token")).unwrap_or_default();
    if text == *last {
        std::thread::sleep(Duration::from_millis(1));
        return Ok(());
    }
    last.clone_from(&text);
    let (step, token) = text.split_once(' ').expect("a step and a token");
    let step = step.parse().expect("a step");
    let writer = store(engine, &place.join("store")).join(&token.parse()?, number, JoinOptions::new()).wait()?;
    put(&writer, step, number)?;
    writer.commit().wait().map(drop)
}

/// Fails as others are killed, and goes on as long as the parent lives.
fn as_child(arguments: &[String]) -> ! {
    let [place, number] = arguments else { panic!("two arguments") };
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    let (engine, number, mut last) = (engine(), number.parse().expect("a number"), String::new());
    loop {
        let ended = if number == 0 { lead(&engine, Path::new(place)) } else { follow(&engine, Path::new(place), number, &mut last) };
        drop(ended);
    }
}

/// Checks every generation, and returns the steps.
fn check(store: &Checkpoints) -> Vec<u64> {
    let check = |number| {
        let checkpoint = match store.generation(number).wait() {
            Ok(checkpoint) => checkpoint,
            // The processes that live have committed since the list was made, and this one was not kept.
            Err(Error::NoGeneration { .. }) => {
                let newer = store.list().wait().expect("a list").into_iter().filter(|other| *other > number).count();
                assert!(newer >= KEPT, "generation {number} is missing, and {newer} are newer");
                return None;
            }
            Err(error) => panic!("generation {number}: {error}"),
        };
        let step = checkpoint.step().expect("a step");
        let mut expected: Vec<_> = (0..WRITERS).map(|writer| own(step, writer)).collect();
        expected.extend([split(step), source("frozen", DType::U8, &[5000])]);
        let loaded = checkpoint.load(&checkpoint.table().all()).wait().expect("loaded");
        assert_eq!(loaded.len(), expected.len(), "generation {number}");
        for Source { declared, data } in expected {
            assert!(loaded.get(&declared.name).expect("the tensor").bytes() == data, "generation {number}, {}", declared.name);
        }
        Some(step)
    };
    store.list().wait().expect("a list").into_iter().filter_map(check).collect()
}

fn start(place: &Path) -> impl Fn(u32) -> Child {
    move |number: u32| spawn(TEST, &[place.to_str().expect("UTF-8"), &number.to_string()])
}

#[test]
fn processes_that_are_killed_leave_generations_that_are_whole() {
    if let Some(arguments) = argument(TEST) {
        as_child(&arguments);
    }
    let (place, engine, mut rng) = (directory(), engine(), Rng::new());
    let path = place.path().join("store");
    let store = Checkpoints::open(&engine, &path, StoreOptions::new().create(true)).wait().expect("a store");
    let acknowledged = || std::fs::read_to_string(place.path().join("acknowledged")).map_or(0, |step| step.parse::<u64>().expect("a step"));
    let start = start(place.path());
    let mut children: Vec<Child> = (0..WRITERS).map(&start).collect();
    let (mut round, mut before, mut round_ms_max) = (0, 0, ROUND_MS_MAX);
    while round < ROUNDS {
        std::thread::sleep(Duration::from_millis(rng.below(round_ms_max)));
        let number = rng.below(WRITERS.into()) as usize;
        children[number].kill().expect("killed");
        children[number].wait().expect("its end");
        let promised = acknowledged();
        let steps = check(&store);
        assert!(steps.is_sorted() && steps.last().is_none_or(|step| *step >= promised), "{steps:?}, {promised} was acknowledged");
        assert!(!steps.is_empty() || promised == 0);
        children[number] = start(number as u32);
        // A round counts if a commit has ended since the last one.
        if promised > before {
            round += 1;
        } else {
            round_ms_max += ROUND_MS_MAX / 4;
        }
        before = promised;
    }
    for child in &mut children {
        child.kill().expect("killed");
        child.wait().expect("its end");
    }
    say(&format!("{before} steps in {ROUNDS} rounds"));
    let steps = check(&store);
    assert!(steps.last().is_some_and(|step| *step >= acknowledged()) && steps.len() <= KEPT + 1, "{steps:?}");
    store.collect().wait().expect("collected");
    assert!(is_clean(&path));
}
