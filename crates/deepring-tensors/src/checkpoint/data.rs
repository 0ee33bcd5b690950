//! [`Data`]: the data files of one writer.
//!
//! Tensors that are known together get a file with an exact layout. Single ones are appended to an open file of their group,
//! whose header has room for more:
//!
//! ```text
//!   put ──► room in an open file? ──no──► a new file, whose room for a header is twice that of the one before
//!    │ yes
//!    ├─ small, or of a size that fills no blocks ──► copied into a block of 4 MiB, which is written when it is full
//!    ├─ while staging lasts ───────────────────────► copied into blocks of its own, which are written behind the caller
//!    └─ else ──────────────────────────────────────► written from the caller's memory
//! ```
//!
//! What is copied waits for nothing: a file can be made, and its space reserved, after the caller has its memory back. Blocks
//! that are full before wait for their file. What fails behind the caller fails the calls that follow, and the commit.
//!
//! Tensors that fill whole blocks of the file system have files of their own, in which every one begins on a block. In every
//! file, the bytes have no holes: what has a place must be written, or the checkpoint has failed. Where the tensors are is
//! written in front of them at the end.

use super::agree::Listed;
use super::block::Bytes;
use super::files::{Class, DataFile, Extent, Failure, State, Within};
use super::names::Origin;
use super::part::{CHUNK_BYTES, Part, PartFile, SplitPiece, SplitTensor};
use super::staging::Staging;
use super::temporary::Temporary;
use crate::error::{Error, Result, quoted};
use crate::layout::{Declared, check_name};
use crate::progress::Progress;
use deepring::{Direct, Engine, ReplaceOptions, Replacement};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) engine: Engine,
    directory: PathBuf,
    pub(super) origin: Origin,
    direct: Direct,
    /// Whether the files are flushed. Off with a planted bug.
    pub(super) durable: bool,
    pub(super) staging: Arc<Staging>,
    state: Mutex<State>,
    progress: Mutex<Option<Progress>>,
    /// Goes with the last one that makes a file in it.
    _temporary: Arc<Temporary>,
}

impl Data {
    pub(super) fn new(temporary: &Arc<Temporary>, origin: Origin, direct: Direct, durable: bool, staging: Arc<Staging>) -> Arc<Self> {
        let (engine, directory) = (temporary.place.engine.clone(), temporary.directory.path().to_owned());
        let (state, progress) = (Mutex::default(), Mutex::default());
        Arc::new(Self { engine, directory, origin, direct, durable, staging, state, progress, _temporary: Arc::clone(temporary) })
    }

    /// Reports what is written from now on.
    pub(super) fn report(&self, progress: Progress) {
        *self.progress() = Some(progress);
    }

    /// All is done.
    pub(super) fn end_report(&self) {
        if let Some(progress) = self.progress().take() {
            progress.end();
        }
    }

    fn progress(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write has ended.
    pub(super) fn written(&self, file: usize, parts: &[Bytes], crcs: &[u32]) {
        self.lock().written(file, parts, crcs);
        if let Some(progress) = &mut *self.progress() {
            progress.advance(parts.iter().map(|part| part.len).sum());
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if it has failed before.
    pub(super) fn check(&self) -> Result<()> {
        self.lock().failure.clone().map_or(Ok(()), |failure| Err(failure.error()))
    }

    /// Takes names, all or none: of whole tensors, or of pieces.
    pub(super) fn claim(&self, names: &[(&str, bool)]) -> Result<()> {
        names.iter().try_for_each(|(name, _)| check_name(name))?;
        let mut state = self.lock();
        let is_taken = |&&(name, is_piece): &&(&str, bool)| state.names.get(name).is_some_and(|&other| !(other && is_piece));
        if let Some((name, _)) = names.iter().find(is_taken) {
            return Err(Error::Argument(format!("two tensors have the name {}", quoted(name))));
        }
        state.names.extend(names.iter().map(|&(name, is_piece)| (name.to_owned(), is_piece)));
        Ok(())
    }

    /// How a file is made: it is new, it is flushed before it is named, and its name is flushed with all others.
    fn options(&self, size: u64) -> ReplaceOptions {
        ReplaceOptions::new().size(size).keep_existing(true).sync_directory(false).durable(false).direct(self.direct)
    }

    /// Makes a file, unless that is done, and writes what has waited for it. Blocks.
    fn make(&self, number: usize) -> Result<Arc<Replacement>> {
        let (making, name, size) = {
            let file = &self.lock().files[number];
            (Arc::clone(&file.making), file.name.clone(), file.size)
        };
        let _making = making.lock().unwrap_or_else(PoisonError::into_inner);
        let made = self.lock().files[number].replacement.clone();
        let replacement = match made {
            Some(replacement) => replacement,
            None => Arc::new(self.engine.replace(self.directory.join(&name), self.options(size)).wait()?),
        };
        let mut state = self.lock();
        state.files[number].replacement = Some(Arc::clone(&replacement));
        state.write_waiting(number);
        state.write_header(number, &self.engine)?;
        Ok(replacement)
    }

    /// The file of this number, which is made if need be.
    pub(super) async fn made(self: &Arc<Self>, number: usize) -> Result<Arc<Replacement>> {
        let made = self.lock().files[number].replacement.clone();
        if let Some(replacement) = made {
            return Ok(replacement);
        }
        let data = Arc::clone(self);
        self.engine.run_blocking(move || data.make(number)).await?
    }

    /// Makes a file and writes what waits for it, behind the caller. If that fails, the checkpoint has failed.
    pub(super) fn write_behind(self: &Arc<Self>, number: usize) {
        let data = Arc::clone(self);
        let task = self.engine.run_blocking(move || {
            if let Err(error) = data.make(number) {
                data.lock().failure.get_or_insert(Failure::of(&error));
            }
        });
        self.lock().behind.push(task);
    }

    /// A name for a file that is linked or copied into the directory.
    pub(super) fn name_for(&self, group: &str) -> String {
        self.lock().next_name(self.origin.writer, group)
    }

    /// Adds a file of another generation that has this name now, with its tensors.
    pub(super) fn adopt(&self, file: PartFile, group: &str, tensors: Vec<(Declared, Option<Within>)>) -> Result<()> {
        let (mut declared, mut extents) = (Vec::with_capacity(tensors.len()), Vec::with_capacity(tensors.len()));
        for (tensor, within) in tensors {
            extents.push(Extent { begin: 0, len: tensor.bytes()?, within, sums: Vec::new() });
            declared.push(tensor);
        }
        let mut adopted = DataFile::new(file.name.clone(), group.to_owned(), Class::Rest, 0);
        (adopted.declared, adopted.extents) = (declared, extents);
        (adopted.end, adopted.is_full, adopted.header_crc) = (file.bytes, true, Some(file.header_crc));
        adopted.adopted = Some(file);
        self.lock().files.push(adopted);
        Ok(())
    }

    /// The tables of what was written. All headers must be.
    pub(super) fn part(&self) -> Part {
        let state = self.lock();
        let mut split: BTreeMap<&str, SplitTensor> = BTreeMap::new();
        let mut files = Vec::with_capacity(state.files.len());
        for (number, file) in state.files.iter().enumerate() {
            for (declared, extent) in file.declared.iter().zip(&file.extents) {
                let Some(Within { shape, start }) = &extent.within else { continue };
                let tensor = split.entry(&declared.name).or_insert_with(|| SplitTensor {
                    name: declared.name.clone(),
                    shape: shape.clone(),
                    pieces: Vec::new(),
                });
                tensor.pieces.push(SplitPiece { file: number as u32, start: start.clone(), shape: declared.shape.clone() });
            }
            files.push(file.adopted.clone().unwrap_or_else(|| PartFile {
                name: file.name.clone(),
                bytes: file.end,
                origin: self.origin,
                header_crc: file.header_crc.unwrap_or_default(),
                crcs: file.extents.iter().flat_map(Extent::crcs).collect(),
            }));
        }
        Part { id: self.origin.id, writer: self.origin.writer, chunk: CHUNK_BYTES, files, split: split.into_values().collect() }
    }

    /// All tensors, and where they are.
    pub(super) fn listed(&self) -> Vec<Listed> {
        let state = self.lock();
        let listed = state.files.iter().flat_map(|file| {
            file.declared.iter().zip(&file.extents).map(|(Declared { name, dtype, shape }, extent)| Listed {
                name: name.clone(),
                dtype: Some(*dtype),
                shape: shape.clone(),
                bytes: extent.len,
                within: extent.within.clone(),
                writer: self.origin.writer,
                file: file.name.clone(),
            })
        });
        listed.collect()
    }
}

/// A tensor that has a place. If this is dropped before it has ended, the file has a hole, and the checkpoint has failed.
pub(super) struct Whole<'d> {
    data: &'d Data,
    name: String,
    has_ended: bool,
}

impl<'d> Whole<'d> {
    pub(super) fn new(data: &'d Data, name: &str) -> Self {
        Self { data, name: name.to_owned(), has_ended: false }
    }

    /// It was written, or the checkpoint has failed with this error.
    pub(super) fn end<T>(mut self, result: Result<T>) -> Result<T> {
        self.has_ended = true;
        if let Err(error) = &result {
            self.data.lock().failure.get_or_insert(Failure::of(error));
        }
        result
    }
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let name = std::mem::take(&mut self.name);
            self.data.lock().failure.get_or_insert(Failure::Dropped(name));
        }
    }
}
