//! Objects through `object_store`: ranges, streams and puts of `DeepringStore`, beside `LocalFileSystem` (rival).
//!
//! Both run on the same runtime of tokio, with a thread for each processor, and neither keeps anything between two runs. The
//! rival gets its best: version 0.14, which merges ranges that touch, and which can flush.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use deepring::Engine;
use deepring_object_store::{DeepringStore, Durability};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};

use crate::arguments::Arguments;
use crate::meter::{Meter, with_extra};
use crate::random::next;
use crate::tiles::{PAGE_BYTES, Pattern, Tiles};

/// Tasks of the comparison of single ranges, and puts at once.
const TASKS: usize = 16;

/// Parts of a multipart upload at once.
const PARTS: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Deepring,
    Local,
}

const WHO: [(&str, Who); 2] = [("deepring", Who::Deepring), ("local", Who::Local)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// All ranges in one call.
    Ranges,
    /// One range a call, in several tasks.
    Range,
    Stream,
    /// The object in one piece of memory.
    Whole,
}

const READS: [(&str, Read); 4] = [("ranges", Read::Ranges), ("range", Read::Range), ("stream", Read::Stream), ("whole", Read::Whole)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    Put,
    Multipart,
}

const WRITES: [(&str, Write); 2] = [("put", Write::Put), ("multipart", Write::Multipart)];

/// A store on a folder.
struct Opened {
    store: Arc<dyn ObjectStore>,
    deepring: Option<DeepringStore>,
}

impl Opened {
    fn of(who: Who, folder: &Path, durable: bool) -> Result<Self, String> {
        if who == Who::Local {
            let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| error.to_string())?.with_fsync(durable);
            return Ok(Self { store: Arc::new(store), deepring: None });
        }
        let engine = Engine::builder().build().map_err(|error| error.to_string())?;
        let durability = if durable { Durability::Synced } else { Durability::Cached };
        let store = DeepringStore::builder(&engine).prefix(folder).durability(durability).build().map_err(|error| error.to_string())?;
        Ok(Self { store: Arc::new(store.clone()), deepring: Some(store) })
    }

    /// The outcome of a run, with the bytes that were read for each that was asked for.
    fn json(&self, json: &str) -> String {
        let Some(stats) = self.deepring.as_ref().map(DeepringStore::stats) else { return json.to_owned() };
        if stats.bytes_wanted == 0 {
            json.to_owned()
        } else {
            with_extra(json, &[("overread", stats.bytes_read as f64 / stats.bytes_wanted as f64)])
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let threads = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_time().build().map_err(|error| error.to_string())
}

pub(crate) fn read(arguments: &Arguments) -> Result<String, String> {
    let (who, kind) = (arguments.choice("store", &WHO)?, arguments.choice("kind", &READS)?);
    let (count, length) = (arguments.number("count")?, arguments.number("length")?);
    let file = arguments.path("file")?;
    let bytes = arguments.number("bytes")?;
    let order = arguments.number("order")? as u32;
    let pattern = Pattern { origin: 0, seed: arguments.number("seed")? as u32 };
    let tiles = Tiles::open(&arguments.path("source")?)?;
    arguments.finish()?;

    let mut state = order;
    let mut position = || {
        state = next(state);
        u64::from(state) * (bytes / length) / (1 << 32) * length
    };
    let positions: Vec<u64> =
        if matches!(kind, Read::Ranges | Read::Range) { (0..count).map(|_| position()).collect() } else { Vec::new() };
    let (folder, location) = located(&file)?;
    let opened = Opened::of(who, &folder, false)?;
    let store = Arc::clone(&opened.store);
    let runtime = runtime()?;
    let fail = |error: object_store::Error| error.to_string();

    let meter = Meter::start()?;
    let (found, moved, operations): (Vec<(u64, Bytes)>, u64, u64) = runtime.block_on(async {
        match kind {
            Read::Ranges => {
                let ranges: Vec<_> = positions.iter().map(|&at| at..at + length).collect();
                let found = store.get_ranges(&location, &ranges).await.map_err(fail)?;
                let last = positions.last().copied().zip(found.last().cloned());
                Ok::<_, String>((last.into_iter().collect(), count * length, count))
            }
            Read::Range => {
                let read = |at: u64| {
                    let (store, location) = (Arc::clone(&store), location.clone());
                    tokio::spawn(async move { store.get_range(&location, at..at + length).await.map(|found| (at, found)) })
                };
                let mut reads = stream::iter(positions.iter().copied()).map(read).buffer_unordered(TASKS);
                let mut last = None;
                while let Some(ended) = reads.next().await {
                    last = Some(ended.map_err(|error| error.to_string())?.map_err(fail)?);
                }
                Ok((last.into_iter().collect(), count * length, count))
            }
            Read::Stream => {
                let mut chunks = store.get(&location).await.map_err(fail)?.into_stream();
                let (mut at, mut last) = (0, Vec::new());
                while let Some(chunk) = chunks.try_next().await.map_err(fail)? {
                    let start = at;
                    at += chunk.len() as u64;
                    last = vec![(start, chunk)];
                }
                Ok((last, at, 1))
            }
            Read::Whole => {
                let found = store.get(&location).await.map_err(fail)?.bytes().await.map_err(fail)?;
                Ok((vec![(0, found.clone())], found.len() as u64, 1))
            }
        }
    })?;
    let measured = meter.stop()?;
    for (position, found) in &found {
        let whole = found.len() / PAGE_BYTES * PAGE_BYTES;
        tiles.check(&found[..whole], pattern, *position)?;
    }
    Ok(opened.json(&measured.json(moved, operations, "object_store")))
}

pub(crate) fn write(arguments: &Arguments) -> Result<String, String> {
    let (who, kind) = (arguments.choice("store", &WHO)?, arguments.choice("kind", &WRITES)?);
    let durable = arguments.choice("durable", &crate::stream::SWITCH)?;
    let (count, length) = (arguments.number("count")?, arguments.number("length")?);
    let folder = arguments.path("folder")?;
    let pattern = Pattern { origin: 0, seed: arguments.number("seed")? as u32 };
    let tiles = Tiles::open(&arguments.path("source")?)?;
    arguments.finish()?;

    let mut content = vec![0u8; length as usize];
    tiles.fill(&mut content, pattern, 0);
    let content = Bytes::from(content);
    let opened = Opened::of(who, &folder, durable)?;
    let store = Arc::clone(&opened.store);
    let runtime = runtime()?;
    let fail = |error: object_store::Error| error.to_string();

    let meter = Meter::start()?;
    runtime.block_on(async {
        match kind {
            Write::Put => {
                let put = |number: u64| {
                    let (store, content) = (Arc::clone(&store), content.clone());
                    tokio::spawn(async move { store.put(&Location::from(format!("{number}")), content.into()).await })
                };
                let tasks = if length > 1 << 20 { 1 } else { TASKS };
                let mut puts = stream::iter(0..count).map(put).buffer_unordered(tasks);
                while let Some(ended) = puts.next().await {
                    ended.map_err(|error| error.to_string())?.map_err(fail)?;
                }
            }
            Write::Multipart => {
                let mut upload = store.put_multipart(&Location::from("0")).await.map_err(fail)?;
                let parts = stream::iter((0..count).map(|_| upload.put_part(content.clone().into())).collect::<Vec<_>>());
                let mut parts = parts.map(tokio::spawn).buffer_unordered(PARTS);
                while let Some(ended) = parts.next().await {
                    ended.map_err(|error| error.to_string())?.map_err(fail)?;
                }
                upload.complete().await.map_err(fail)?;
            }
        }
        Ok::<_, String>(())
    })?;
    let measured = meter.stop()?;
    let first = std::fs::read(folder.join("0")).map_err(|error| error.to_string())?;
    if !first.starts_with(&content) {
        return Err("the object has other bytes than were put".to_owned());
    }
    Ok(opened.json(&measured.json(count * length, count, "object_store")))
}

/// The folder of a file, and its name as an object.
fn located(file: &Path) -> Result<(PathBuf, Location), String> {
    let folder = file.parent().ok_or("the file has no folder")?;
    let name = file.file_name().and_then(|name| name.to_str()).ok_or("the file has no name")?;
    Ok((folder.to_owned(), Location::from(name)))
}
