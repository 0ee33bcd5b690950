//! Saving a model in several files of a directory, with an index.
//!
//! 1. Every file gets a name that is not in use, and is written and flushed under it. Nobody reads it yet.
//! 2. The directory is flushed, so that the names survive a power cut.
//! 3. The index replaces the old one. **This is the moment**: before it, the old model is there, after it, the new one.
//! 4. What only the old index named is removed.

use crate::error::Result;
use crate::index::{self, INDEX_BYTES_MAX};
use crate::job::Job;
use crate::layout::{Declared, check_names};
use crate::progress::Progress;
use crate::save::{SaveOptions, SaveReceipt, Source, fill, split};
use crate::written::{Files, Written};
use deepring::{Engine, IoBuf, ReplaceOptions};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// The name of an index, as the big libraries look for it.
const INDEX: &str = "model.safetensors.index.json";

/// Saves tensors as several files of at most `shard_bytes` of data, unless a tensor is larger, in a directory that exists.
/// Files and index have the names that other libraries look for. A model that the directory has is replaced as a whole: a
/// crash at any moment leaves the old one or the new one, and perhaps files that no index names.
///
/// The job fails as that of [`save`](crate::save()).
pub fn save_sharded<B: IoBuf>(
    engine: &Engine,
    directory: impl AsRef<Path>,
    tensors: Vec<Source<B>>,
    shard_bytes: u64,
    options: SaveOptions,
) -> Job<Result<SaveReceipt>> {
    let (engine, directory) = (engine.clone(), directory.as_ref().to_owned());
    Job::new(async move { write(&engine, &directory, tensors, shard_bytes, options).await?.commit().await })
}

/// Writes tensors into files that no index names yet, and their index, which does not have its name yet.
pub(crate) async fn write<B: IoBuf>(
    engine: &Engine,
    directory: &Path,
    tensors: Vec<Source<B>>,
    shard_bytes: u64,
    options: SaveOptions,
) -> Result<Written<SaveReceipt>> {
    let (declared, data) = split(tensors)?;
    let shards = shards_of(&declared, shard_bytes)?;
    let looked_at = directory.to_owned();
    let old = engine.run_blocking(move || Old::look(&looked_at)).await?;
    let names = old.free_names(shards.len());
    let mut files = Files::new(engine, directory, old.without(&names));
    let written = write_files(engine, directory, &declared, data, &shards, &names, &options, &mut files).await;
    let (receipt, progress) = match written {
        Ok(written) => written,
        Err(error) => {
            // The caller gets the error that made this necessary.
            let _ = files.remove().await;
            return Err(error);
        }
    };
    let total = declared.iter().filter_map(|tensor| tensor.bytes().ok()).sum();
    let tensors = shards.iter().zip(&names).flat_map(|(shard, name)| declared[shard.clone()].iter().map(move |tensor| (tensor, name)));
    let json = index_text(total, tensors.map(|(tensor, name)| (tensor.name.as_str(), name.as_str())));
    let replacement = engine.replace(directory.join(INDEX), ReplaceOptions::new().size(json.len() as u64).durable(options.durable)).await?;
    if let Err(error) = replacement.file().write_at(json, 0).await.ok() {
        // The caller gets the error that made this necessary.
        let _ = replacement.abandon().await;
        return Err(error.into());
    }
    Ok(Written { replacement, files: Some(files), receipt, progress })
}

/// Writes all files under their names.
#[expect(clippy::too_many_arguments, reason = "one caller, which has taken them apart")]
async fn write_files<B: IoBuf>(
    engine: &Engine,
    directory: &Path,
    declared: &[Declared],
    data: Vec<B>,
    shards: &[Range<usize>],
    names: &[String],
    options: &SaveOptions,
    files: &mut Files,
) -> Result<(SaveReceipt, Progress)> {
    let layouts = shards.iter().map(|shard| options.layout(&declared[shard.clone()])).collect::<Result<Vec<_>>>()?;
    let mut progress = Progress::new(options.on_progress.clone(), layouts.iter().map(|layout| layout.size).sum());
    let mut receipt = SaveReceipt::NONE;
    let mut data = data.into_iter();
    for ((layout, shard), name) in layouts.into_iter().zip(shards).zip(names) {
        let how = options.replace(layout.size).sync_directory(false).keep_existing(true);
        let file = engine.replace(directory.join(name), how).await?;
        let part = match fill(file.file(), layout, data.by_ref().take(shard.len()).collect(), options.checksums, &mut progress).await {
            Ok(part) => part,
            Err(error) => {
                let _ = file.abandon().await;
                return Err(error);
            }
        };
        files.add(name.clone());
        file.commit().await?;
        receipt.merge(&part);
    }
    if options.durable {
        engine.sync_directory(directory).await?;
    }
    Ok((receipt, progress))
}

/// Which tensors each file has: as many in their order as fit.
pub(crate) fn shards_of(declared: &[Declared], shard_bytes: u64) -> Result<Vec<Range<usize>>> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (index, tensor) in declared.iter().enumerate() {
        let len = tensor.bytes()?;
        if index > start && bytes.saturating_add(len) > shard_bytes {
            shards.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(len);
    }
    shards.push(start..declared.len());
    check_names(declared)?;
    Ok(shards)
}

/// The index of a model: its bytes, and the file of each tensor.
pub(crate) fn index_text<'t>(total: u64, files: impl Iterator<Item = (&'t str, &'t str)>) -> Vec<u8> {
    let map: serde_json::Map<String, serde_json::Value> = files.map(|(name, file)| (name.to_owned(), file.into())).collect();
    let json = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": map });
    format!("{json:#}\n").into_bytes()
}

/// What a directory has before.
struct Old {
    /// All names in it.
    names: BTreeSet<String>,
    /// Files that its index names.
    shards: BTreeSet<String>,
}

impl Old {
    /// Looks. Blocks. A directory that cannot be listed has no names; writing into it then fails, or finds a name in use.
    fn look(directory: &Path) -> Self {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let path = directory.join(INDEX);
        let small = std::fs::metadata(&path).is_ok_and(|found| found.len() <= INDEX_BYTES_MAX);
        let json = if small { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        // An index that cannot be read names nothing that could be removed.
        let shards = index::parse(&json).map(|index| index.numbers.into_keys().collect()).unwrap_or_default();
        Self { names, shards }
    }

    /// Names for new files: the usual ones if the directory has no index and none of them, else with a mark of their own.
    fn free_names(&self, count: usize) -> Vec<String> {
        let marks = std::iter::once(None).chain((0u32..).map(Some));
        let names = |mark: Option<u32>| -> Vec<String> {
            let mark = mark.map_or_else(String::new, |mark| format!("{:08x}-", mark_of(mark)));
            (1..=count).map(|number| format!("model-{mark}{number:05}-of-{count:05}.safetensors")).collect()
        };
        let free = |names: &Vec<String>| names.iter().all(|name| !self.names.contains(name));
        let usual = !self.names.contains(INDEX);
        // The marks end with the first that is free.
        marks.filter(|mark| usual || mark.is_some()).map(names).find(free).unwrap_or_default()
    }

    /// What only the old index named, beside these new files.
    fn without(self, new: &[String]) -> Vec<String> {
        self.shards.into_iter().filter(|name| !new.contains(name)).collect()
    }
}

/// Eight digits that two processes at once do not share by chance.
fn mark_of(attempt: u32) -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::process::id(), attempt)) as u32
}
