//! Promise: **exact**, between writers. Direct writes work in whole units, so two writers of
//! neighboring bytes touch the same unit, and the last unit of a file reaches past its end. With
//! any two writers (two handles, two engines, two backends, one of them buffered), no acknowledged
//! byte is lost, the length is that of the bytes, and padding is never visible.

#[path = "../harness/mod.rs"]
mod harness;
mod padding;
mod pieces;
mod sync;
mod truncation;
mod watchers;

use deepring::{Direct, Engine, EngineBuilder, File};
use harness::{builders, open};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(50);

/// Handles that share a file, and how to open each.
struct Handles {
    name: &'static str,
    kinds: Vec<(Engine, Direct)>,
}

impl Handles {
    fn open(&self, path: &Path) -> Vec<File> {
        self.kinds.iter().map(|(engine, direct)| open(engine, path, *direct)).collect()
    }
}

const TWO_HANDLES: &str = "two handles of one engine";
const TWO_ENGINES: &str = "two engines";
const DIRECT_AND_BUFFERED: &str = "a direct and a buffered handle";

fn handle_sets() -> Vec<Handles> {
    handle_sets_with(|builder| builder)
}

/// As [`handle_sets`], on engines with these settings.
fn handle_sets_with(set: impl Fn(EngineBuilder) -> EngineBuilder) -> Vec<Handles> {
    let engines = || builders().into_iter().map(|builder| set(builder).build().expect("an engine"));
    let mut sets = Vec::new();
    for engine in engines() {
        let direct = (engine.clone(), Direct::Prefer);
        sets.push(Handles { name: TWO_HANDLES, kinds: vec![direct.clone(), direct.clone()] });
        sets.push(Handles { name: DIRECT_AND_BUFFERED, kinds: vec![direct, (engine, Direct::Never)] });
    }
    // One engine of each backend, or two of the one under test.
    let two = engines().chain(engines()).take(2);
    sets.push(Handles { name: TWO_ENGINES, kinds: two.map(|engine| (engine, Direct::Prefer)).collect() });
    sets
}

/// Small blocks, few at a time: a long write is still in flight when a short one has ended.
fn slow(builder: EngineBuilder) -> EngineBuilder {
    builder.block_bytes(4096).queue_depth(4)
}
