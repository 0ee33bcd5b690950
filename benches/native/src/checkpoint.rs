//! Checkpoints of a model through the crate `deepring-tensors`, and what they are held against.
//!
//! The tensors of a file are in memory, each on a page of its own, before the region begins. Everything that the region writes
//! is on the disk when it ends; that of a capture ends when the memory of the tensors is the program's again.

use std::path::{Path, PathBuf};

use deepring::{Engine, OpenOptions, SharedBuffer};
use deepring_tensors::checkpoint::{
    BeginOptions, Check, Checkpoint, CheckpointOptions, Checkpoints, JoinOptions, PutOptions, Reference, StoreOptions,
};
use deepring_tensors::{Declared, LoadOptions, Safetensors, Slice, Source, TensorMap};

use crate::arena::{Arena, Pages};
use crate::arguments::Arguments;
use crate::meter::{Measured, Meter, with_extra};
use crate::stream::SWITCH;
use crate::through::{Outcome, engine, failed, ran};
use crate::tiles::PAGE_BYTES;

/// Of ten tensors, how many do not change between two checkpoints.
const FROZEN_OF_TEN: usize = 9;

/// The writers of a checkpoint whose tensors are split, and its readers.
const SPLIT_WRITERS: u32 = 4;
const READERS: u64 = 2;

/// The group of tensors that do not change.
const FROZEN: &str = "frozen";

/// What is measured while tensors are in memory.
#[derive(Clone, Copy)]
enum Write {
    /// As many bytes by one write of the same memory, and a flush.
    Raw,
    /// The same bytes, copied by one thread to memory that was touched.
    Copy,
    /// One writer, or two on threads.
    Save(u32),
    /// Until the tensors are copied: the first time in a process, or later.
    Capture(bool),
    /// All of them, or one tenth and the rest taken over.
    Group(bool),
}

/// What is measured of a checkpoint on the disk.
#[derive(Clone, Copy)]
enum Read {
    Verify,
    Load,
    Reshard,
}

const WRITES: [(&str, Write); 8] = [
    ("raw", Write::Raw),
    ("copy", Write::Copy),
    ("one", Write::Save(1)),
    ("two", Write::Save(2)),
    ("first-capture", Write::Capture(true)),
    ("capture", Write::Capture(false)),
    ("full", Write::Group(false)),
    ("incremental", Write::Group(true)),
];

const READS: [(&str, Read); 3] = [("verify", Read::Verify), ("load", Read::Load), ("reshard", Read::Reshard)];

fn store(engine: &Engine, folder: &Path) -> Outcome<Checkpoints> {
    Checkpoints::open(engine, folder, StoreOptions::new().create(true).keep_all()).wait().map_err(failed)
}

/// The tensors of a file, in memory.
struct Model {
    tensors: Vec<Source<SharedBuffer>>,
    /// What they are in, each on a page of its own.
    memory: SharedBuffer,
    bytes: u64,
}

impl Model {
    fn open(engine: &Engine, path: &Path) -> Outcome<Self> {
        let model = Safetensors::open(engine, path).wait().map_err(failed)?;
        let table = model.table();
        let paged: usize = table.iter().map(|info| (info.len as usize).next_multiple_of(PAGE_BYTES)).sum();
        let mut memory = engine.buffer(paged.max(1)).map_err(failed)?;
        let loaded = model.load(&table.all()).wait().map_err(failed)?;
        let (mut places, mut at) = (Vec::with_capacity(table.len()), 0);
        for info in table.iter() {
            let bytes = loaded.get(info.name).ok_or("a tensor is missing")?;
            memory[at..at + info.len as usize].copy_from_slice(bytes.bytes());
            places.push(at..at + info.len as usize);
            at += (info.len as usize).next_multiple_of(PAGE_BYTES);
        }
        drop(loaded);
        // What the load has used goes, so that it serves nothing that is measured.
        engine.trim();
        let memory = memory.freeze();
        let tensors = table.iter().zip(places).map(|(info, place)| {
            let dtype = info.dtype.ok_or_else(|| format!("{} has an unknown type", info.name))?;
            let declared = Declared { name: info.name.to_owned(), dtype, shape: info.shape };
            Ok(Source { declared, data: memory.slice(place) })
        });
        let tensors = tensors.collect::<Outcome<_>>()?;
        Ok(Self { tensors, memory, bytes: table.bytes() })
    }

    /// Those that do not change, and those that do: the same share of the tensors of each size.
    fn by_group(&self) -> (Vec<Source<SharedBuffer>>, Vec<Source<SharedBuffer>>) {
        let mut sorted = self.tensors.clone();
        sorted.sort_by_key(|source| std::cmp::Reverse(source.data.len()));
        let (mut frozen, mut trained) = (Vec::new(), Vec::new());
        for (nth, source) in sorted.into_iter().enumerate() {
            if nth % 10 < FROZEN_OF_TEN { &mut frozen } else { &mut trained }.push(source);
        }
        (frozen, trained)
    }
}

/// Writes checkpoints of a model, or does what they are held against.
pub(crate) fn write(arguments: &Arguments) -> Outcome<String> {
    let model = arguments.path("model")?;
    let folder = arguments.path("folder")?;
    let mode = arguments.choice("mode", &WRITES)?;
    let verifies = arguments.choice("verify", &SWITCH)?;
    arguments.finish()?;

    let engine = engine()?;
    let model = Model::open(&engine, &model)?;
    let measured = match mode {
        Write::Raw => raw(&engine, &model, &folder)?,
        Write::Copy => copy(&model)?,
        Write::Save(writers) => {
            let (store, meter) = (store(&engine, &folder)?, Meter::start()?);
            save(&store, &model, writers)?;
            meter.stop()?
        }
        Write::Capture(is_first) => capture(&store(&engine, &folder)?, &model, is_first)?,
        Write::Group(is_incremental) => groups(&store(&engine, &folder)?, &model, is_incremental)?,
    };
    if verifies && !matches!(mode, Write::Raw | Write::Copy) {
        compare(&newest(&store(&engine, &folder)?)?, &model)?;
    }
    Ok(measured.json(model.bytes, model.tensors.len() as u64, &ran(&engine)))
}

fn raw(engine: &Engine, model: &Model, folder: &Path) -> Outcome<Measured> {
    let data = model.memory.slice(0..model.bytes as usize);
    let meter = Meter::start()?;
    let file = engine.open(folder.join("raw"), OpenOptions::new().write(true).create(true)).map_err(failed)?;
    file.write_at(data, 0).wait().ok().map_err(failed)?;
    file.sync_all().wait().map_err(failed)?;
    meter.stop()
}

fn copy(model: &Model) -> Outcome<Measured> {
    let mut to = Arena::new(model.bytes as usize, Pages::Huge)?;
    let meter = Meter::start()?;
    let mut rest = to.bytes_mut();
    for source in &model.tensors {
        let (now, later) = rest.split_at_mut(source.data.len());
        now.copy_from_slice(&source.data);
        rest = later;
    }
    meter.stop()
}

/// One checkpoint, of so many writers, of which each has its share of the tensors.
fn save(store: &Checkpoints, model: &Model, writers: u32) -> Outcome<()> {
    if writers == 1 {
        let captured = store.save(model.tensors.clone(), CheckpointOptions::new()).wait().map_err(failed)?;
        return captured.commit().wait().map(drop).map_err(failed);
    }
    let first = store.begin(BeginOptions::new().writers(writers)).wait().map_err(failed)?;
    let token = first.token();
    let mut shares = vec![Vec::new(); writers as usize];
    for source in &model.tensors {
        let least = shares.iter_mut().min_by_key(|share: &&mut Vec<Source<SharedBuffer>>| bytes_of(share));
        least.ok_or("there are no writers")?.push(source.clone());
    }
    let own = shares.swap_remove(0);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..writers)
            .zip(shares)
            .map(|(writer, share)| {
                scope.spawn(move || {
                    let joined = store.join(&token, writer, JoinOptions::new()).wait().map_err(failed)?;
                    joined.put_all(share, "main").wait().map_err(failed)?;
                    joined.commit().wait().map(drop).map_err(failed)
                })
            })
            .collect();
        first.put_all(own, "main").wait().map_err(failed)?;
        first.commit().wait().map_err(failed)?;
        others.into_iter().try_for_each(|other| other.join().map_err(|_| "a writer has panicked".to_owned())?)
    })
}

fn bytes_of(sources: &[Source<SharedBuffer>]) -> usize {
    sources.iter().map(|source| source.data.len()).sum()
}

/// How long the program waits for its memory. The checkpoint is committed behind the region.
fn capture(store: &Checkpoints, model: &Model, is_first: bool) -> Outcome<Measured> {
    let options = || CheckpointOptions::new().staging(model.bytes + model.bytes / 64);
    if !is_first {
        let before = store.save(model.tensors.clone(), options()).wait().map_err(failed)?;
        let number = before.commit().wait().map_err(failed)?.number;
        store.remove(number).wait().map_err(failed)?;
    }
    let tensors = model.tensors.clone();
    let meter = Meter::start()?;
    let captured = store.save(tensors, options()).wait().map_err(failed)?;
    let measured = meter.stop()?;
    captured.commit().wait().map_err(failed)?;
    Ok(measured)
}

/// A checkpoint whose tensors are in two groups, or the same with one group taken over from the one before.
fn groups(store: &Checkpoints, model: &Model, is_incremental: bool) -> Outcome<Measured> {
    let (frozen, trained) = model.by_group();
    if is_incremental {
        let before = store.begin(BeginOptions::new()).wait().map_err(failed)?;
        before.put_all(frozen.clone(), FROZEN).wait().map_err(failed)?;
        before.put_all(trained.clone(), "main").wait().map_err(failed)?;
        before.commit().wait().map_err(failed)?;
    }
    let meter = Meter::start()?;
    let writer = store.begin(BeginOptions::new().reference(Reference::Latest)).wait().map_err(failed)?;
    if is_incremental {
        writer.reference_group(FROZEN).wait().map_err(failed)?;
    } else {
        writer.put_all(frozen, FROZEN).wait().map_err(failed)?;
    }
    writer.put_all(trained, "main").wait().map_err(failed)?;
    writer.commit().wait().map_err(failed)?;
    meter.stop()
}

fn newest(store: &Checkpoints) -> Outcome<Checkpoint> {
    store.latest(Check::Sizes).wait().map_err(failed)?.checkpoint.ok_or_else(|| "there is no checkpoint".to_owned())
}

/// Whether a checkpoint has the tensors of a model.
fn compare(checkpoint: &Checkpoint, model: &Model) -> Outcome<()> {
    let loaded = checkpoint.load(&checkpoint.table().all()).wait().map_err(failed)?;
    let differs = |source: &&Source<SharedBuffer>| loaded.get(&source.declared.name).is_none_or(|found| *found.bytes() != *source.data);
    if checkpoint.table().len() != model.tensors.len() {
        return Err(format!("the checkpoint has {} tensors, not {}", checkpoint.table().len(), model.tensors.len()));
    }
    match model.tensors.iter().find(differs) {
        Some(source) => Err(format!("{} is not what was saved", source.declared.name)),
        None => Ok(()),
    }
}

/// Makes a checkpoint for those that read: its tensors whole, or each cut into rows of four writers where it has so many.
pub(crate) fn make(arguments: &Arguments) -> Outcome<String> {
    let path = arguments.path("model")?;
    let folder = arguments.path("folder")?;
    let is_split = arguments.choice("split", &SWITCH)?;
    arguments.finish()?;

    let engine = engine()?;
    let model = Model::open(&engine, &path)?;
    let store = store(&engine, &folder)?;
    if is_split {
        save_split(&store, &model)?;
    } else {
        save(&store, &model, 1)?;
    }
    let checkpoint = newest(&store)?;
    compare(&checkpoint, &model)?;
    Ok(format!(r#"{{"bytes":{},"number":{}}}"#, model.bytes, checkpoint.number()))
}

fn save_split(store: &Checkpoints, model: &Model) -> Outcome<()> {
    let first = store.begin(BeginOptions::new().writers(SPLIT_WRITERS)).wait().map_err(failed)?;
    let token = first.token();
    let mut writers = vec![first];
    for writer in 1..SPLIT_WRITERS {
        writers.push(store.join(&token, writer, JoinOptions::new()).wait().map_err(failed)?);
    }
    for Source { declared, data } in &model.tensors {
        let rows = declared.shape.first().copied().unwrap_or(0);
        if rows < SPLIT_WRITERS.into() {
            writers[0].put(Source { declared: declared.clone(), data: data.clone() }, PutOptions::new()).wait().map_err(failed)?;
            continue;
        }
        let row_bytes = data.len() as u64 / rows;
        for (nth, writer) in (0..).zip(&writers) {
            let (from, end) = (rows * nth / u64::from(SPLIT_WRITERS), rows * (nth + 1) / u64::from(SPLIT_WRITERS));
            let (mut piece, mut start) = (declared.clone(), vec![0; declared.shape.len()]);
            (piece.shape[0], start[0]) = (end - from, from);
            let source = Source { declared: piece, data: data.slice((from * row_bytes) as usize..(end * row_bytes) as usize) };
            writer.put(source, PutOptions::new().within(declared.shape.clone(), start)).wait().map_err(failed)?;
        }
    }
    // The first one waits for the parts of the others.
    for writer in writers.into_iter().rev() {
        writer.commit().wait().map_err(failed)?;
    }
    Ok(())
}

/// Reads a checkpoint. The region begins when it is open, as for all that load.
pub(crate) fn read(arguments: &Arguments) -> Outcome<String> {
    let folder: PathBuf = arguments.path("folder")?;
    let mode = arguments.choice("mode", &READS)?;
    arguments.finish()?;

    let engine = engine()?;
    let checkpoint = newest(&store(&engine, &folder)?)?;
    let bytes = checkpoint.table().bytes();
    let all = checkpoint.table().all();
    let (measured, bounced) = match mode {
        Read::Verify => {
            let meter = Meter::start()?;
            let found = checkpoint.verify(None).wait().map_err(failed)?;
            let measured = meter.stop()?;
            if !found.is_whole() {
                return Err(format!("the checkpoint is damaged: {:?}", found.damaged.first()));
            }
            (measured, 0)
        }
        Read::Load => {
            let meter = Meter::start()?;
            let loaded = checkpoint.load(&all).wait().map_err(failed)?;
            (meter.stop()?, loaded.receipt().bounced)
        }
        Read::Reshard => {
            let halves: Vec<LoadOptions> = (0..READERS).map(|reader| half(&checkpoint, reader)).collect();
            let meter = Meter::start()?;
            let loaded: Outcome<Vec<TensorMap>> = std::thread::scope(|scope| {
                let load = |options| scope.spawn(|| checkpoint.load_with(&checkpoint.table().all(), options).wait());
                let readers: Vec<_> = halves.into_iter().map(load).collect();
                readers.into_iter().map(|reader| reader.join().map_err(|_| "a reader has panicked".to_owned())?.map_err(failed)).collect()
            });
            let (loaded, measured) = (loaded?, meter.stop()?);
            let found: u64 = loaded.iter().map(|map| map.receipt().bytes).sum();
            if found < bytes {
                return Err(format!("{found} bytes of {bytes} were loaded"));
            }
            (measured, loaded.iter().map(|map| map.receipt().bounced).sum())
        }
    };
    let json = measured.json(bytes, checkpoint.table().len() as u64, &ran(&engine));
    Ok(with_extra(&json, &[("bounced", bounced as f64)]))
}

/// Of each tensor with rows, the share of one reader.
fn half(checkpoint: &Checkpoint, reader: u64) -> LoadOptions {
    checkpoint.table().iter().filter(|info| info.shape.first().is_some_and(|&rows| rows >= READERS)).fold(
        LoadOptions::new(),
        |options, info| {
            let rows = info.shape[0];
            options.slice(info.name, Slice::new([Some(rows * reader / READERS..rows * (reader + 1) / READERS)]))
        },
    )
}
