//! Swap stores whose writes and calls are recorded and then cut off after each of them, by a power cut, with every disk that it
//! can leave. Needs the feature `sim`.
//!
//! Each planted bug of a store must be found: see [`PlantedBug`](deepring_tensors::swap::PlantedBug).

#[path = "../harness/mod.rs"]
mod harness;

mod disk;

use deepring_tensors::swap::{PlantedBug, SwapOptions, SwapStore, plant};
use deepring_tensors::{DType, Declared, Error, Source};
use disk::{Step, Tape};
use harness::{bytes, directory, engine, say};
use std::collections::BTreeMap;
use std::path::Path;

/// The tensors that a flush has: a length and a number of each.
type Flushed = BTreeMap<&'static str, (usize, u64)>;

/// More than a page, so that half of one can be there.
const LEN: usize = 12_000;

fn options(is_durable: bool) -> SwapOptions {
    SwapOptions::new(1 << 20).durable(is_durable)
}

/// What a program does to its store, which marks on the tape when a flush begins and ends.
struct Program<'t> {
    store: SwapStore,
    tape: &'t Tape,
    now: Flushed,
}

impl Program<'_> {
    fn put(&mut self, name: &'static str, len: usize, number: u64) {
        let declared = Declared { name: name.into(), dtype: DType::U8, shape: vec![len as u64] };
        self.store.put(Source { declared, data: bytes(len, number) }).wait().expect("accepted");
        // One after the other, so that the tape is the same each time.
        self.store.evict(name).wait().expect("written");
        self.now.insert(name, (len, number));
    }

    fn change(&mut self, name: &'static str, number: u64) {
        let mut lease = self.store.get_mut(name).wait().expect("a lease");
        let len = lease.bytes().len();
        lease.bytes_mut().expect("it writes").copy_from_slice(&bytes(len, number));
        lease.close(true).expect("accepted");
        self.store.evict(name).wait().expect("written");
        self.now.insert(name, (len, number));
    }

    fn remove(&mut self, name: &'static str) {
        self.store.remove(name).wait().expect("removed");
        self.now.remove(name);
    }

    fn flush(&self) {
        self.tape.mark(Step::Begins(self.now.clone()));
        self.store.flush().wait().expect("flushed");
        self.tape.mark(Step::Ended(self.now.clone()));
    }
}

/// Versions in the place of others, new ones, smaller ones and none.
fn run(place: &Path, is_durable: bool) -> Tape {
    let engine = engine();
    let path = place.join("store");
    let tape = Tape::begin(place);
    let store = SwapStore::open(&engine, &path, options(is_durable).create(true)).wait().expect("a store");
    let mut program = Program { store, tape: &tape, now: Flushed::new() };
    program.flush();
    program.put("x", LEN, 1);
    program.put("y", LEN, 2);
    program.flush();
    program.change("x", 3);
    program.put("z", 5000, 4);
    program.flush();
    program.remove("y");
    program.put("x", 4096, 5);
    program.put("w", LEN, 6);
    program.flush();
    program.put("w", LEN, 7);
    program.put("w", LEN, 8);
    program.change("z", 9);
    drop(program);
    tape.end();
    tape
}

/// Whether a store has just these tensors.
fn has(store: &SwapStore, flushed: &Flushed) -> bool {
    let is_same =
        |(name, (len, number)): (&&str, &(usize, u64))| store.get(name).wait().is_ok_and(|lease| lease.bytes() == bytes(*len, *number));
    store.names() == flushed.keys().copied().collect::<Vec<_>>() && flushed.iter().all(is_same)
}

/// Looks at every disk. Returns how many there are, or what is wrong with one.
fn look(tape: &Tape, is_durable: bool) -> Result<usize, String> {
    let engine = engine();
    tape.cut_everywhere(|path, possible, was_written| match SwapStore::open(&engine, path, options(is_durable)).wait() {
        Ok(store) if possible.iter().any(|flushed| has(&store, flushed)) => Ok(()),
        Ok(store) => Err(format!("{:?} is there, not one of {possible:?}", store.names())),
        Err(Error::Torn { .. }) if !is_durable && was_written => Ok(()),
        Err(error) => Err(format!("{error}, not one of {possible:?}")),
    })
}

#[test]
fn after_a_power_cut_the_store_is_that_of_a_flush_or_torn() {
    for is_durable in [true, false] {
        let place = directory();
        let disks = look(&run(place.path(), is_durable), is_durable).expect("every disk is right");
        say(&format!("{disks} disks, durable: {is_durable}"));
        assert!(disks > 100, "{disks} disks are too few to prove anything");
    }
}

#[test]
fn every_planted_bug_is_found() {
    for bug in PlantedBug::OF_CRASHES {
        let found = [true, false].into_iter().find_map(|is_durable| {
            let place = directory();
            plant(Some(bug));
            let tape = run(place.path(), is_durable);
            plant(None);
            look(&tape, is_durable).err()
        });
        say(&format!("{bug:?}: {}", found.unwrap_or_else(|| panic!("{bug:?} was not found"))));
    }
}
