//! A process that puts, changes and flushes is killed at random moments, again and again.

use crate::child::{argument, spawn};
use crate::harness::{Rng, directory, engine, say};
use crate::model::{MIB, content, store};
use deepring_tensors::swap::{SwapOptions, SwapStore};
use deepring_tensors::{DType, Declared, Error, Source};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

const TEST: &str = "killed::a_process_that_is_killed_leaves_its_last_flush";
const NAMES: u64 = 8;
const ROUNDS: u32 = 16;

/// As long as some flushes take.
const ROUND_MS_MAX: u64 = 120;

fn options(is_durable: bool) -> SwapOptions {
    SwapOptions::new(MIB as u64).durable(is_durable).checksum(true)
}

fn len(nth: u64) -> usize {
    30_000 + nth as usize * 11_111
}

/// Steps: each brings every tensor to the number of the step, by a put or in place, then flushes.
fn as_child(arguments: &[String]) -> ! {
    let [place, durable] = arguments else { panic!("two arguments") };
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    let store = store(&engine(), &Path::new(place).join("store"), options(durable == "true"));
    let acknowledged = Path::new(place).join("acknowledged");
    let mut step = std::fs::read_to_string(&acknowledged).map_or(0, |text| text.parse().expect("a step"));
    loop {
        step += 1;
        for nth in 0..NAMES {
            let (name, bytes) = (nth.to_string(), content(&nth.to_string(), len(nth), step));
            if step.is_multiple_of(2) && store.state(&name).is_some() {
                let mut lease = store.get_mut(&name).wait().expect("a lease");
                lease.bytes_mut().expect("it writes").copy_from_slice(&bytes);
                lease.close(true).expect("accepted");
            } else {
                let declared = Declared { name, dtype: DType::U8, shape: vec![bytes.len() as u64] };
                store.put(Source { declared, data: bytes }).wait().expect("accepted");
            }
        }
        store.flush().wait().expect("flushed");
        std::fs::write(acknowledged.with_extension("new"), step.to_string()).expect("a file");
        std::fs::rename(acknowledged.with_extension("new"), &acknowledged).expect("a file");
    }
}

/// The step of a store, whose tensors are all of it.
fn step_of(store: &SwapStore, promised: u64) -> u64 {
    let step = (promised..promised + 2).find(|step| {
        let all = (0..NAMES).map(|nth| (nth, store.get(&nth.to_string()).wait()));
        all.into_iter().all(|(nth, lease)| match lease {
            Ok(lease) => lease.bytes() == content(&nth.to_string(), len(nth), *step),
            Err(Error::NotFound { .. }) => *step == 0,
            Err(error) => panic!("{error}"),
        })
    });
    step.unwrap_or_else(|| panic!("the store is of no one step; {promised} was acknowledged"))
}

#[test]
fn a_process_that_is_killed_leaves_its_last_flush() {
    if let Some(arguments) = argument(TEST) {
        as_child(&arguments);
    }
    let (engine, mut rng) = (engine(), Rng::new());
    for durable in [true, false] {
        let place = directory();
        let path = place.path().join("store");
        let (mut round, mut torn, mut before) = (0, 0, 0);
        while round < ROUNDS {
            let mut child = spawn(TEST, &[place.path().to_str().expect("UTF-8"), &durable.to_string()]);
            std::thread::sleep(Duration::from_millis(rng.below(ROUND_MS_MAX)));
            child.kill().expect("killed");
            child.wait().expect("its end");
            let promised = std::fs::read_to_string(place.path().join("acknowledged")).map_or(0, |text| text.parse().expect("a step"));
            match SwapStore::open(&engine, &path, options(durable)).wait() {
                Ok(store) => drop(step_of(&store, promised)),
                Err(Error::Torn { .. }) if !durable => torn += 1,
                // It was killed before there was a store.
                Err(Error::Io { .. } | Error::Torn { .. }) if promised == 0 => {}
                Err(error) => panic!("{error}"),
            }
            // A round counts if a flush has ended since the last one.
            round += u32::from(promised > before);
            before = promised;
        }
        say(&format!("{before} steps in {round} rounds, durable: {durable}, torn: {torn}"));
        assert_eq!(torn > 0, !durable);
    }
}
