//! A training in another process, which is killed in each of its phases: what is found then is a step that was flushed, or the
//! checkpoint of one.

use crate::child::{argument, spawn};
use crate::harness::{Rng, directory, engine, say};
use crate::model::{Model, compute_lease, groups, memory};
use deepring::Engine;
use deepring_tensors::checkpoint::{BeginOptions, Check, Checkpoint, Checkpoints, StoreOptions};
use deepring_tensors::swap::{Depth, Group, OptimizerOptions, OptimizerSwapper, Parts, Write};
use deepring_tensors::{DType, Error, Result};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::time::Duration;

const TEST: &str = "killed::a_training_that_is_killed_goes_on_from_a_whole_step";

/// Where a kill comes, at the earliest.
const PHASES: [&str; 7] = ["gradient", "read", "compute", "behind", "flush", "snapshot", "commit"];

/// Kills in each phase.
const ROUNDS: u64 = 4;

/// The clock is a group, too: how many steps were made.
fn trained() -> Vec<Group> {
    let mut all = groups();
    all.push(Group::new("clock", 1).dtype(DType::U64).states(["unused"]));
    all
}

fn open(engine: &Engine, place: &Path, durable: bool, create: bool) -> Result<OptimizerSwapper> {
    let groups = trained();
    let options = OptimizerOptions::new(groups.clone()).depth(Depth::Groups(2)).memory(memory(&groups, 2));
    OptimizerSwapper::open(engine, place.join("swap"), options.durable(durable).create(create)).wait()
}

fn store(engine: &Engine, place: &Path) -> Checkpoints {
    Checkpoints::open(engine, place.join("checkpoints"), StoreOptions::new().create(true)).wait().expect("a store")
}

fn newest(store: &Checkpoints) -> Option<Checkpoint> {
    store.latest(Check::Sizes).wait().expect("a store").checkpoint
}

/// The model after this many steps.
fn model(steps: u64) -> Model {
    let mut model = Model::new(groups());
    (0..steps).for_each(|_| model.step());
    model
}

fn clock(swapper: &OptimizerSwapper) -> u64 {
    let mut step = swapper.step_over(["clock"]).expect("a step");
    let mut lease = step.wait_next().expect("a group").expect("read");
    u64::from_le_bytes((&*lease.parts().param).try_into().expect("eight bytes"))
}

/// Checks that a swapper has just one step, and returns which.
fn check(swapper: &OptimizerSwapper) -> u64 {
    let steps = clock(swapper);
    let model = model(steps);
    let mut begun = swapper.step_over(model.groups.iter().map(|group| group.name.as_str())).expect("a step");
    for nth in 0..model.groups.len() {
        let mut lease = begun.wait_next().expect("a group").expect("read");
        assert!(model.is_same(nth, &mut lease), "group {} is not that of step {steps}", lease.name());
    }
    steps
}

fn begin(swapper: &OptimizerSwapper) {
    let mut first = Model::new(trained());
    first.parts[8][0].fill(0);
    first.initialize(swapper);
}

/// Trains until it is killed. Says in which phase it is, and which step was flushed.
fn as_child(arguments: &[String]) -> ! {
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    let [place, durable, phase] = arguments else { panic!("three arguments") };
    let (place, durable, engine) = (Path::new(place), durable == "true", engine());
    let store = store(&engine, place);
    let swapper = open(&engine, place, durable, false).expect("opened");
    let mut rng = Rng::new();
    let mut model = model(clock(&swapper));
    let mut made = 0;
    loop {
        let at = |now: &str| {
            if now == phase && made > 0 {
                say(&format!("at {now}"));
                std::io::stdout().flush().expect("printed");
            }
        };
        at("gradient");
        model.put_gradients(&swapper, &mut rng, 20_000);
        at("read");
        let mut step = swapper.step().expect("a step");
        let mut nth = 0;
        while let Some(lease) = step.wait_next() {
            let mut lease = lease.expect("read");
            if lease.name() == "clock" {
                let Parts { param, .. } = lease.parts();
                param.copy_from_slice(&(model.steps + 1).to_le_bytes());
            } else {
                compute_lease(&mut lease);
            }
            if nth == 4 {
                at("compute");
            }
            lease.close(Write::All).expect("closed");
            if nth == 4 {
                at("behind");
            }
            nth += 1;
        }
        drop(step);
        model.steps += 1;
        at("flush");
        swapper.flush().wait().expect("flushed");
        say(&format!("flushed {}", model.steps));
        at("snapshot");
        let writer = store.begin(BeginOptions::new().step(model.steps)).wait().expect("begun");
        swapper.snapshot(&writer).wait().expect("a snapshot");
        at("commit");
        writer.commit().wait().expect("committed");
        made += 1;
    }
}

#[test]
fn a_training_that_is_killed_goes_on_from_a_whole_step() {
    if let Some(arguments) = argument(TEST) {
        as_child(&arguments);
    }
    let (engine, mut rng) = (engine(), Rng::new());
    for durable in [true, false] {
        let place = directory();
        let swapper = open(&engine, place.path(), durable, true).expect("a swapper");
        begin(&swapper);
        swapper.close().wait().expect("closed");
        let (mut torn, mut steps) = (0, 0);
        for phase in PHASES.iter().flat_map(|phase| (0..ROUNDS).map(move |_| *phase)) {
            let flushed = kill(place.path(), durable, phase, Duration::from_micros(rng.below(4000)));
            let store = store(&engine, place.path());
            let saved = newest(&store);
            let swapper = match open(&engine, place.path(), durable, false) {
                Ok(swapper) => {
                    steps = check(&swapper);
                    assert!(steps == flushed || steps == flushed + 1, "{phase}: step {steps}, and {flushed} was flushed");
                    swapper
                }
                Err(Error::Torn { .. }) if !durable => {
                    torn += 1;
                    let swapper = open(&engine, place.path(), durable, true).expect("a new one");
                    let saved = saved.as_ref().expect("one was committed");
                    swapper.restore(saved).wait().expect("restored");
                    steps = check(&swapper);
                    assert_eq!(Some(steps), saved.step());
                    assert!(steps + 1 >= flushed, "{phase}: the checkpoint is of step {steps}, and {flushed} was flushed");
                    swapper
                }
                Err(error) => panic!("{phase}: {error}"),
            };
            swapper.close().wait().expect("closed");
        }
        assert_eq!(torn > 0, !durable, "{torn} were torn");
        say(&format!("durable {durable}: {steps} steps, {torn} times torn"));
    }
}

/// Runs a training, kills it in this phase, and returns the last step that it has flushed.
fn kill(place: &Path, durable: bool, phase: &str, delay: Duration) -> u64 {
    let mut child = spawn(TEST, &[place.to_str().expect("UTF-8"), if durable { "true" } else { "false" }, phase]);
    let mut lines = BufReader::new(child.stdout.take().expect("the child's output")).lines().map_while(std::result::Result::ok);
    let (mut flushed, mut is_there) = (0, false);
    let mut read = |line: &str| {
        if let Some((_, step)) = line.split_once("flushed ") {
            flushed = step.parse().expect("a step");
        }
    };
    for line in lines.by_ref() {
        read(&line);
        if line.contains(&format!("at {phase}")) {
            is_there = true;
            break;
        }
    }
    assert!(is_there, "the child has ended before it was at {phase}");
    std::thread::sleep(delay);
    child.kill().expect("killed");
    child.wait().expect("its end");
    // What it said before its end.
    for line in lines {
        read(&line);
    }
    flushed
}
