//! Versions of a model that are committed to a store of checkpoints, by one writer or by two that
//! share the tensors.
//!
//! A version is the step of its generation. It has the tensors of a saved version in the group
//! `main`, and in the group `frozen` some that change only with the epoch: these are written, or
//! taken over from the generation before, by links or by copies. What a generation must hold follows
//! from its step all the same.
//!
//! The store keeps two generations, and `meta` has the step of the one before. So after a cut both
//! must be there, whole. Now and then another thread collects while a commit is in progress.

use super::look::Finding;
use super::planted;
use super::version::Version;
use super::{PlantedBug, Saves, Stream};
use crate::harness::Rng;
use deepring::{Direct, Engine};
use deepring_tensors::checkpoint::{
    BeginOptions, Check, Checkpoint, CheckpointWriter, Checkpoints, JoinOptions, PutOptions, Reference, StoreOptions,
};
use deepring_tensors::{Declared, LoadOptions, Result, Safetensors, Source};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Generations that stay.
const KEPT: u32 = 2;

/// Of a store that a commit does not flush, as many can stay: removing one flushes it.
const UNFLUSHED_MAX: usize = 6;

/// The frozen tensors are the same in this many versions.
const EPOCH: u64 = 4;

/// Their group.
const FROZEN: &str = "frozen";

/// Copies of tensors that are not written yet.
const STAGING_BYTES: u64 = 8 << 20;

/// One thing that a writer does.
enum Put {
    One(Source<Vec<u8>>, PutOptions),
    All(Vec<Source<Vec<u8>>>, &'static str),
    Take(String),
    TakeGroup,
}

/// The first version of the same epoch.
fn epoch(number: u64) -> u64 {
    number - number % EPOCH
}

fn frozen(saves: &Saves, number: u64) -> Vec<Source<Vec<u8>>> {
    let mut tensors = saves.version(epoch(number)).tensors();
    for tensor in &mut tensors {
        tensor.declared.name.insert_str(0, "frozen.");
    }
    tensors
}

fn open(saves: &Saves, engine: &Engine, options: StoreOptions) -> Result<Checkpoints> {
    Checkpoints::open(engine, &saves.folder, options).wait()
}

/// Commits a version.
pub(super) fn commit(saves: &Saves, engine: &Engine, number: u64, rng: &mut Rng, bug: Option<PlantedBug>) -> Result<()> {
    let trained = saves.version(number);
    let kept = StoreOptions::new().keep_last(KEPT);
    let store = if bug == Some(PlantedBug::ForgetsDirectorySync) {
        let store = open(saves, engine, StoreOptions::new().keep_all())?;
        if store.list().wait()?.len() > UNFLUSHED_MAX {
            open(saves, engine, kept)?.collect().wait()?;
        }
        store
    } else {
        open(saves, engine, kept)?
    };
    let before = store.latest(Check::Sizes).wait()?.checkpoint;
    let step = before.as_ref().and_then(Checkpoint::step);
    let reference = before.filter(|_| step.is_some_and(|step| epoch(step) == epoch(number))).map(|before| before.number());
    let writers = if saves.stream == Stream::Joined { 2 } else { 1 };
    let mut shares = shares(&trained, frozen(saves, number), writers, reference.is_some(), rng).into_iter();
    // Without a flush, only what is in the page cache is lost.
    let direct = if bug.is_some() || rng.once_in(3) { Direct::Never } else { Direct::Prefer };
    let staging = if rng.once_in(2) { STAGING_BYTES } else { 0 };
    let options = BeginOptions::new().step(number).writers(writers).staging(staging).direct(direct);
    let options = reference.map_or(options, |reference| options.reference(Reference::Generation(reference)));
    let (first, others) = planted::begins(bug, || {
        let first = store.begin(options).wait()?;
        let join = |writer| store.join(&first.token(), writer, JoinOptions::new().staging(staging).direct(direct)).wait();
        let others = (1..writers).map(join).collect::<Result<Vec<_>>>()?;
        Ok::<_, deepring_tensors::Error>((first, others))
    })?;
    first.set_meta(&step.map_or_else(|| "null".to_owned(), |step| step.to_string()))?;
    let (own, is_done, collects) = (shares.next().unwrap_or_default(), AtomicBool::new(false), rng.once_in(3));
    std::thread::scope(|scope| {
        let collector = collects.then(|| scope.spawn(|| collect_until(&store, &is_done)));
        let others: Vec<_> = others.into_iter().zip(shares).map(|(writer, share)| scope.spawn(move || work(writer, share))).collect();
        let first = work(first, own);
        is_done.store(true, Ordering::Release);
        let ended =
            others.into_iter().chain(collector).map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // Those who wait for another name its failure, and not their own.
        ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>().and(first)
    })
}

fn collect_until(store: &Checkpoints, is_done: &AtomicBool) -> Result<()> {
    while !is_done.load(Ordering::Acquire) {
        store.collect().wait()?;
    }
    Ok(())
}

/// Does a writer's share, and commits it.
fn work(writer: CheckpointWriter, share: Vec<Put>) -> Result<()> {
    for put in share {
        match put {
            Put::One(source, options) => drop(writer.put(source, options).wait()?),
            Put::All(sources, group) => drop(writer.put_all(sources, group).wait()?),
            Put::Take(name) => drop(writer.reference(name).wait()?),
            Put::TakeGroup => drop(writer.reference_group(FROZEN).wait()?),
        }
    }
    writer.commit().wait().map(drop)
}

/// What each writer does.
fn shares(trained: &Version, frozen: Vec<Source<Vec<u8>>>, writers: u32, has_reference: bool, rng: &mut Rng) -> Vec<Vec<Put>> {
    let mut shares: Vec<Vec<Put>> = (0..writers).map(|_| Vec::new()).collect();
    let mut whole: Vec<Vec<Source<Vec<u8>>>> = (0..writers).map(|_| Vec::new()).collect();
    for tensor in trained.tensors() {
        match halves(&tensor, rng) {
            Some(pieces) if writers > 1 && rng.once_in(2) => {
                shares.iter_mut().zip(pieces).for_each(|(share, (piece, options))| share.push(Put::One(piece, options)));
            }
            _ => whole[rng.below(writers.into()) as usize].push(tensor),
        }
    }
    for (share, whole) in shares.iter_mut().zip(whole) {
        if rng.once_in(2) {
            share.push(Put::All(whole, "main"));
        } else {
            share.extend(whole.into_iter().map(|tensor| Put::One(tensor, PutOptions::new())));
        }
    }
    let share = &mut shares[rng.below(writers.into()) as usize];
    match rng.below(3) {
        0 if has_reference => share.push(Put::TakeGroup),
        1 if has_reference => share.extend(frozen.into_iter().map(|tensor| Put::Take(tensor.declared.name))),
        _ => share.push(Put::All(frozen, FROZEN)),
    }
    shares
}

/// A tensor in two pieces of rows, if it has as many.
fn halves(tensor: &Source<Vec<u8>>, rng: &mut Rng) -> Option<[(Source<Vec<u8>>, PutOptions); 2]> {
    let Declared { name, dtype, shape } = &tensor.declared;
    let rows = *shape.first().filter(|&&rows| rows > 1)?;
    let cut = 1 + rng.below(rows - 1);
    let (front, back) = tensor.data.split_at(tensor.data.len() / rows as usize * cut as usize);
    let piece = |first: u64, rows: u64, data: &[u8]| {
        let (mut extents, mut start) = (shape.clone(), vec![0; shape.len()]);
        (extents[0], start[0]) = (rows, first);
        let declared = Declared { name: name.clone(), dtype: *dtype, shape: extents };
        (Source { declared, data: data.to_vec() }, PutOptions::new().within(shape.clone(), start))
    };
    Some([piece(0, cut, front), piece(cut, rows - cut, back)])
}

/// What is there, or what is wrong with it.
pub(super) fn find(saves: &Saves, engine: &Engine) -> std::result::Result<Finding, String> {
    let leftovers = leftovers(saves)?;
    if !saves.folder.is_dir() {
        return Ok(Finding { version: None, leftovers });
    }
    let failed = |error: deepring_tensors::Error| error.to_string();
    let store = open(saves, engine, StoreOptions::new()).map_err(failed)?;
    let generations = store.list().wait().map_err(failed)?;
    let (mut steps, mut before) = (Vec::new(), None);
    for &generation in &generations {
        let opened = store.generation(generation).wait().map_err(|error| format!("generation {generation} cannot be opened: {error}"))?;
        steps.push(whole(saves, &opened).map_err(|what| format!("generation {generation}: {what}"))?);
        before = opened.meta().parse().ok();
    }
    let latest = store.latest(Check::Sizes).wait().map_err(failed)?;
    let found = latest.checkpoint.map(|checkpoint| checkpoint.number());
    if found != generations.last().copied() || !latest.skipped.is_empty() {
        return Err(format!("the latest of {generations:?} is {found:?}, and {:?} are skipped", latest.skipped));
    }
    if !steps.is_sorted_by(|one, other| one < other) {
        return Err(format!("the generations {generations:?} have steps {steps:?}"));
    }
    let version = steps.pop();
    if before.is_some() && before != steps.pop() {
        return Err(format!("before version {version:?} came {before:?}, which is not there: {generations:?}"));
    }
    Ok(Finding { version, leftovers })
}

/// Removes what ended without a commit, and checks that nothing of it is left.
pub(super) fn tidy(saves: &Saves, engine: &Engine) -> std::result::Result<(), String> {
    let store = open(saves, engine, StoreOptions::new().keep_last(KEPT));
    store.and_then(|store| store.collect().wait()).map_err(|error| error.to_string())?;
    let left = leftovers(saves)?;
    if left.is_empty() { Ok(()) } else { Err(format!("{left:?} were not collected")) }
}

/// Generations in progress, and retired ones. Nothing else is beside generations.
fn leftovers(saves: &Saves) -> std::result::Result<Vec<PathBuf>, String> {
    let entries = match saves.folder.read_dir() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| error.to_string())?,
    };
    let mut leftovers = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".tmp-") || name.starts_with(".trash-") {
            leftovers.push(path);
        } else if name != ".lock" && (name.len() != 12 || name.parse::<u64>().is_err()) {
            return Err(format!("{name} is beside the generations, which no commit makes"));
        }
    }
    Ok(leftovers)
}

/// The version of a generation, if all of it is that version.
fn whole(saves: &Saves, checkpoint: &Checkpoint) -> std::result::Result<u64, String> {
    let number = checkpoint.step().ok_or("it has no step")?;
    let expected = [saves.version(number).tensors(), frozen(saves, number)].concat();
    let table = checkpoint.table();
    if table.len() != expected.len() {
        return Err(format!("version {number} has {} tensors, not {}", table.len(), expected.len()));
    }
    // The bytes are compared here, and their checksums below.
    let loaded = checkpoint.load_with(&table.all(), LoadOptions::new().verify(false)).wait();
    let loaded = loaded.map_err(|error| format!("version {number} does not load: {error}"))?;
    for Source { declared: Declared { name, dtype, shape }, data } in &expected {
        let tensor = loaded.get(name).ok_or_else(|| format!("version {number} has no tensor {name}"))?;
        let found: Vec<u64> = tensor.shape().iter().map(|&extent| extent as u64).collect();
        if tensor.dtype() != Some(*dtype) || found != *shape {
            return Err(format!("version {number}: tensor {name} is {:?} {found:?}, not {dtype:?} {shape:?}", tensor.dtype()));
        }
        if tensor.bytes() != data {
            return Err(format!("version {number}: tensor {name} has other bytes"));
        }
    }
    let verified = checkpoint.verify(None).wait().map_err(|error| format!("version {number} cannot be verified: {error}"))?;
    if !verified.is_whole() || verified.verified != table.len() as u64 {
        return Err(format!("version {number} has other checksums: {verified:?}"));
    }
    if table.iter().all(|info| info.pieces == 1) {
        // Other readers know it as a model.
        let path = saves.folder.join(format!("{:012}", checkpoint.number()));
        let model =
            Safetensors::open(checkpoint.engine(), path).wait().map_err(|error| format!("version {number} is no model: {error}"))?;
        if model.table().len() != table.len() {
            return Err(format!("version {number} has {} tensors in its index", model.table().len()));
        }
    }
    Ok(number)
}
