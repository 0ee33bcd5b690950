//! Promise: **exact**, between writers. Direct writes work in whole units, so two writers of neighbouring bytes touch the same unit, and the
//! last unit of a file reaches past its end. Whoever they are (two handles, two engines, two backends, one of them buffered): no byte that
//! was acknowledged is lost, the length is that of the bytes, and nobody is ever shown padding.

#[path = "../harness/mod.rs"]
mod harness;
mod padding;
mod pieces;
mod sync;
mod truncation;

use deepring::{Direct, Engine, EngineBuilder, File};
use harness::{builders, open};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(50);

/// Who shares a file: a name, and the handles to open on it.
type Crew = (&'static str, Vec<(Engine, Direct)>);

fn crews() -> Vec<Crew> {
    crews_with(|builder| builder)
}

/// Crews of engines with settings of their own.
fn crews_with(set: impl Fn(EngineBuilder) -> EngineBuilder) -> Vec<Crew> {
    let engines = || builders().into_iter().map(|builder| set(builder).build().expect("an engine"));
    let mut crews = Vec::new();
    for engine in engines() {
        crews.push(("two handles of one engine", vec![(engine.clone(), Direct::Prefer), (engine.clone(), Direct::Prefer)]));
        crews.push(("a direct and a buffered handle", vec![(engine.clone(), Direct::Prefer), (engine, Direct::Never)]));
    }
    // One of each backend, or two of the one that is tested.
    let two = engines().chain(engines()).take(2);
    crews.push(("two engines", two.map(|engine| (engine, Direct::Prefer)).collect()));
    crews
}

fn files(crew: &Crew, path: &Path) -> Vec<File> {
    crew.1.iter().map(|(engine, direct)| open(engine, path, *direct)).collect()
}

/// Small blocks, few at a time: a long write is still at work when a short one has ended.
fn slow(builder: EngineBuilder) -> EngineBuilder {
    builder.block_bytes(4096).queue_depth(4)
}
