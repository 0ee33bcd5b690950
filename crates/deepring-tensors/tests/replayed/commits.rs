//! Commits that are recorded, and what must be there of them.

use crate::disk::{Before, Replay};
use crate::harness::{directory, engine, source};
use deepring::Engine;
use deepring::sim::record;
use deepring_tensors::checkpoint::{
    BeginOptions, Check, Checkpoint, CheckpointWriter, Checkpoints, JoinOptions, PlantedBug, PutOptions, Reference, StoreOptions, plant,
};
use deepring_tensors::{DType, Declared, Safetensors, Source};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// How the second generation is made, after one of a single writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// By one writer, in two groups.
    Alone,
    /// The first generation goes.
    Retiring,
    /// By two writers, which share a tensor.
    Joined,
    /// With what the first generation has: a group that is linked, a tensor that is cloned or copied.
    Incremental,
}

impl How {
    pub(crate) const ALL: [Self; 4] = [Self::Alone, Self::Retiring, Self::Joined, Self::Incremental];

    fn keep(self) -> StoreOptions {
        if self == Self::Retiring { StoreOptions::new().keep_last(1) } else { StoreOptions::new().keep_all() }
    }
}

/// The tensors of a generation.
pub(crate) type Tensors = Vec<Source<Vec<u8>>>;

/// A commit and its record. The calls end when the caller knew that it had ended.
pub(crate) struct Recorded {
    pub(crate) how: How,
    pub(crate) engine: Engine,
    pub(crate) replay: Replay,
    /// The first generation and the second.
    pub(crate) tensors: BTreeMap<u64, Tensors>,
    _place: TempDir,
}

fn frozen() -> Tensors {
    vec![source("frozen.a", DType::F32, &[4096]), source("frozen.b", DType::U8, &[77])]
}

fn trained(salt: &str) -> Tensors {
    vec![
        source(&format!("{salt}.a"), DType::BF16, &[3, 100]),
        source(&format!("{salt}.b"), DType::U8, &[8192]),
        source(salt, DType::F64, &[]),
    ]
}

/// A tensor of 8 rows that two writers have.
fn split() -> Source<Vec<u8>> {
    source("split", DType::F32, &[8, 3])
}

/// Puts four rows of it.
fn put_half(writer: &CheckpointWriter, first: usize) {
    let declared = Declared { shape: vec![4, 3], ..split().declared };
    let data = split().data[first * 12..(first + 4) * 12].to_vec();
    let options = PutOptions::new().within([8, 3], [first as u64, 0]);
    writer.put(Source { declared, data }, options).wait().expect("put");
}

fn put(writer: &CheckpointWriter, tensors: impl IntoIterator<Item = Source<Vec<u8>>>) {
    tensors.into_iter().for_each(|tensor| drop(writer.put(tensor, PutOptions::new()).wait().expect("put")));
}

/// Joins as the second of two writers, with a piece and a tensor of its own.
pub(crate) fn write_second(store: &Checkpoints, first: &CheckpointWriter) {
    let second = store.join(&first.token(), 1, JoinOptions::new()).wait().expect("joined");
    put_half(&second, 4);
    put(&second, [source("second", DType::U8, &[300])]);
    second.commit().wait().expect("its part");
}

/// What the first of two writers puts.
pub(crate) fn put_first(first: &CheckpointWriter) {
    put_half(first, 0);
    put(first, [source("first", DType::U8, &[200])]);
}

/// The tensors of both.
pub(crate) fn of_two() -> Tensors {
    vec![split(), source("second", DType::U8, &[300]), source("first", DType::U8, &[200])]
}

/// A first generation.
pub(crate) fn write_old(store: &Checkpoints) -> Tensors {
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    writer.put_all(frozen(), "frozen").wait().expect("put");
    put(&writer, trained("old"));
    assert_eq!(writer.commit().wait().expect("a commit").number, 1);
    [frozen(), trained("old")].concat()
}

/// Makes the second generation.
fn write_new(store: &Checkpoints, how: How) -> Tensors {
    let writers = if how == How::Joined { 2 } else { 1 };
    let options = BeginOptions::new().writers(writers);
    let options = if how == How::Incremental { options.reference(Reference::Latest) } else { options };
    let writer = store.begin(options).wait().expect("a writer");
    let tensors = match how {
        How::Joined => {
            write_second(store, &writer);
            put_first(&writer);
            of_two()
        }
        How::Incremental => {
            let linked = writer.reference_group("frozen").wait().expect("taken over").linked;
            assert!(linked > 0, "nothing was linked");
            let taken = trained("old");
            for tensor in &taken {
                writer.reference(tensor.declared.name.clone()).wait().expect("taken over");
            }
            put(&writer, trained("new"));
            [frozen(), taken, trained("new")].concat()
        }
        How::Alone | How::Retiring => {
            writer.put_all(frozen(), "frozen").wait().expect("put");
            put(&writer, trained("new"));
            [frozen(), trained("new")].concat()
        }
    };
    assert_eq!(writer.commit().wait().expect("a commit").number, 2);
    tensors
}

/// Records the commit of a second generation, with this bug.
pub(crate) fn recorded(how: How, bug: Option<PlantedBug>) -> Recorded {
    let (place, engine) = (directory(), engine());
    let store = Checkpoints::open(&engine, place.path(), how.keep()).wait().expect("a store");
    let old = write_old(&store);
    let (before, record) = (Before::of(place.path()), record(place.path()).expect("a record"));
    plant(bug);
    let new = write_new(&store, how);
    plant(None);
    let replay = before.then(place.path(), record.calls(), "");
    Recorded { how, engine, replay, tensors: BTreeMap::from([(1, old), (2, new)]), _place: place }
}

/// Checks that a store has generations that are whole, and nothing else that a reader could take for one. Returns their numbers.
pub(crate) fn whole_generations(engine: &Engine, directory: &Path, tensors: &BTreeMap<u64, Tensors>) -> Result<Vec<u64>, String> {
    let store = Checkpoints::open(engine, directory, StoreOptions::new().keep_all()).wait().expect("a store");
    let generations = store.list().wait().expect("a list");
    for &number in &generations {
        let checkpoint = store.generation(number).wait().map_err(|error| format!("generation {number} is a mixture: {error}"))?;
        let expected = tensors.get(&number).ok_or_else(|| format!("generation {number} was never made"))?;
        is_whole(&checkpoint, &directory.join(format!("{number:012}")), expected).map_err(|what| format!("generation {number}: {what}"))?;
    }
    let latest = store.latest(Check::All).wait().expect("a look");
    assert_eq!(latest.checkpoint.map(|checkpoint| checkpoint.number()), generations.last().copied(), "all are whole");
    Ok(generations)
}

/// Checks that a generation has just these tensors, and is a model for other readers if none is in pieces.
fn is_whole(checkpoint: &Checkpoint, path: &Path, expected: &[Source<Vec<u8>>]) -> Result<(), String> {
    let table = checkpoint.table();
    let loaded = checkpoint.load(&table.all()).wait().map_err(|error| error.to_string())?;
    let is_there = |Source { declared, data }: &Source<Vec<u8>>| {
        loaded.get(&declared.name).is_some_and(|tensor| tensor.bytes() == data && tensor.dtype() == Some(declared.dtype))
    };
    if table.len() != expected.len() || !expected.iter().all(is_there) {
        return Err("it has other tensors".into());
    }
    if !checkpoint.verify(None).wait().map_err(|error| error.to_string())?.is_whole() {
        return Err("it is damaged".into());
    }
    if table.iter().all(|info| info.pieces == 1) {
        let model = Safetensors::open(checkpoint.engine(), path).wait().map_err(|error| format!("it is no model: {error}"))?;
        if model.table().len() != table.len() {
            return Err("its index has other tensors".into());
        }
    }
    Ok(())
}
