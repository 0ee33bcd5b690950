//! [`Older`]: a generation whose bytes are taken over: what did not change since need not be written again.
//!
//! It is opened as for reading, so it stays until the writer has ended. A group is taken over file by file: by a second name where the file system allows one more, else by a copy. A tensor is
//! copied into the files of its group: by sharing its blocks where the file system can, else through the engine, which
//! compares the checksums on the way.

use super::checked::Checked;
use super::copy::copy_files;
use super::data::{Data, Whole};
use super::files::Within;
use super::generation::{Check, Checkpoint, Opened};
use super::latest;
use super::names::Member;
use super::options::Reference;
use super::part::{CHUNK_BYTES, Part, PartFile};
use super::temporary::Place;
use crate::error::{Error, Fault, Reason, Result};
use crate::layout::{BLOCK_BYTES, Declared};
use crate::sums::Summed;
use deepring::{Directory, File};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Memory that copying a tensor takes.
const COPY_BYTES: u64 = 32 << 20;

/// Bytes that came from another generation, or from the file of a swap store or a swapper, by how they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reused {
    /// Bytes of files that both generations have: they cost nothing.
    pub linked: u64,
    /// Bytes that share blocks of the file system with the other file.
    pub cloned: u64,
    /// Bytes that were read and written.
    pub copied: u64,
}

impl Reused {
    pub(super) fn add(&mut self, other: Self) {
        self.linked += other.linked;
        self.cloned += other.cloned;
        self.copied += other.copied;
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Older {
    checkpoint: Checkpoint,
    parts: Vec<Part>,
}

/// A data file, and what the part of its writer lists in it.
struct OldFile<'o> {
    /// Its place among all files, and among those of the part.
    number: usize,
    own: u32,
    part: &'o Part,
    listed: &'o PartFile,
}

/// Bytes of a tensor in a file: all of it, or a piece.
struct Stored {
    file: usize,
    position: u64,
    declared: Declared,
    within: Option<Within>,
    summed: Vec<Summed>,
}

impl Older {
    /// Opens a generation.
    pub(super) async fn open(place: &Place, reference: Reference) -> Result<Option<Arc<Self>>> {
        let Place { engine, directory, .. } = place;
        let opened = match reference {
            Reference::Generation(number) => Some(Opened::open(engine, directory, number, Check::Sizes).await?),
            Reference::Latest => latest::newest(engine, directory, Check::Sizes).await?.0,
        };
        Ok(opened.map(|Opened { checkpoint, parts }| Arc::new(Self { checkpoint, parts })))
    }

    pub(super) fn number(&self) -> u64 {
        self.checkpoint.number()
    }

    /// All data files.
    fn files(&self) -> impl Iterator<Item = OldFile<'_>> {
        let all = self.parts.iter().flat_map(|part| (0..).zip(&part.files).map(move |(own, listed)| (own, part, listed)));
        all.enumerate().map(|(number, (own, part, listed))| OldFile { number, own, part, listed })
    }

    /// Its checksums become those of the new generation.
    fn check_chunk(&self, file: usize) -> Result<()> {
        let tensors = self.checkpoint.tensors();
        let chunk = tensors.inner.stated.sums.chunk_bytes(file);
        if chunk == CHUNK_BYTES {
            return Ok(());
        }
        let detail = format!("its chunks have {chunk} bytes, and those of this release {CHUNK_BYTES}: nothing can be taken over");
        Err(Fault::new(Reason::Part, detail).at(tensors.path(file)))
    }

    /// Takes over a whole group.
    pub(super) async fn take_group(&self, data: &Data, to: &Directory, group: &str) -> Result<Reused> {
        let mut reused = Reused::default();
        let mut found = false;
        for old in self.files().filter(|old| group_of(&old.listed.name) == group) {
            found = true;
            self.check_chunk(old.number)?;
            let tensors = self.tensors_of(&old)?;
            data.claim(&tensors.iter().map(|(declared, within)| (declared.name.as_str(), within.is_some())).collect::<Vec<_>>())?;
            let name = data.name_for(group);
            let whole = Whole::new(data, &name);
            reused.add(whole.end(self.take_file(data, to, &old, &name).await)?);
            data.adopt(PartFile { name, ..old.listed.clone() }, group, tensors)?;
        }
        if found { Ok(reused) } else { Err(Error::NotFound { tensor: group.to_owned() }) }
    }

    /// The tensors of a file, and where those are that are pieces.
    fn tensors_of(&self, old: &OldFile<'_>) -> Result<Vec<(Declared, Option<Within>)>> {
        let table = self.checkpoint.table();
        let declared = |index: usize, shape: Vec<u64>| {
            let info = table.info(index);
            let dtype = info.dtype.ok_or_else(|| unknown(info.dtype_name))?;
            Ok::<_, Error>(Declared { name: info.name.to_owned(), dtype, shape })
        };
        let mut tensors = Vec::new();
        let mut pieces = BTreeMap::new();
        for tensor in &old.part.split {
            if let Some(piece) = tensor.pieces.iter().find(|piece| piece.file == old.own) {
                pieces.insert(tensor.name.as_str(), (piece, &tensor.shape));
            }
        }
        // The table has a tensor in pieces in the place of one of them.
        for index in table.files[old.number].tensors.clone() {
            let info = table.info(index);
            if !pieces.contains_key(info.name) {
                tensors.push((declared(index, info.shape)?, None));
            }
        }
        for (name, (piece, shape)) in pieces {
            let within = Within { shape: shape.clone(), start: piece.start.clone() };
            tensors.push((declared(table.index_of(name)?, piece.shape.clone())?, Some(within)));
        }
        Ok(tensors)
    }

    async fn take_file(&self, data: &Data, to: &Directory, old: &OldFile<'_>, name: &str) -> Result<Reused> {
        let (from, old_name, place, new) = (self.checkpoint.inner.directory.clone(), old.listed.name.clone(), to.clone(), name.to_owned());
        let linked = data.engine.run_blocking(move || from.link(old_name, &place, new)).await?;
        match linked {
            Ok(()) => return Ok(Reused { linked: old.listed.bytes, ..Reused::default() }),
            // It has as many names as it can have, or the file system has no second ones, or is another.
            Err(error) if matches!(error.code().as_str(), "EMLINK" | "EPERM" | "EXDEV" | "EOPNOTSUPP") => {}
            Err(error) => return Err(error.into()),
        }
        copy_files(&self.checkpoint, vec![(old.number, to.path().join(name))], None).await?;
        Ok(Reused { copied: old.listed.bytes, ..Reused::default() })
    }

    /// Takes over one tensor: all pieces of it that have bytes.
    pub(super) async fn take_tensor(&self, data: &Arc<Data>, name: &str) -> Result<Reused> {
        let tensors = self.checkpoint.tensors();
        let mut reused = Reused::default();
        for Stored { file, position, declared, within, summed } in self.stored(name)? {
            self.check_chunk(file)?;
            let (from, len) = (&tensors.inner.files[file], declared.bytes()?);
            let crcs: Vec<u32> = summed.iter().map(|summed| tensors.inner.stated.sums.get(summed.sum)).collect();
            let placed = data.reserve(&declared, within.as_ref(), group_of(&self.checkpoint.inner.files[file].name))?;
            let whole = Whole::new(data, name);
            let taken = async {
                let replacement = data.made(placed.file).await?;
                let to = replacement.file();
                if clone(from, to, position, placed.position, len).await {
                    return Ok(Reused { cloned: len, ..Reused::default() });
                }
                Checked::new(tensors, |_| summed, COPY_BYTES, None).await?.write(file, position, to, placed.position).await?;
                Ok::<_, Error>(Reused { copied: len, ..Reused::default() })
            };
            reused.add(whole.end(taken.await)?);
            data.filled(&placed, len, &crcs);
        }
        Ok(reused)
    }

    /// Where the bytes of a tensor are.
    fn stored(&self, name: &str) -> Result<Vec<Stored>> {
        let (table, sums) = (self.checkpoint.table(), &self.checkpoint.tensors().inner.stated.sums);
        let index = table.index_of(name)?;
        let info = table.info(index);
        let dtype = info.dtype.ok_or_else(|| unknown(info.dtype_name))?;
        let declared = |shape: Vec<u64>| Declared { name: name.to_owned(), dtype, shape };
        let Some(tiles) = table.split.of(index as u32) else {
            let (file, position) = (table.file_of(index), info.position);
            let summed = sums.summed(sums.of_tensor(index), index as u32, file, position, info.len).collect();
            return Ok(vec![Stored { file, position, declared: declared(info.shape), within: None, summed }]);
        };
        let stored = tiles.map(|number| {
            let tile = table.split.tile(number);
            let (file, position) = (tile.file as usize, tile.position);
            let within = Some(Within { shape: info.shape.clone(), start: tile.start.to_vec() });
            let summed = sums.summed(sums.of_tile(number), index as u32, file, position, tile.len).collect();
            Stored { file, position, declared: declared(tile.shape.to_vec()), within, summed }
        });
        Ok(stored.collect())
    }
}

fn unknown(dtype: &str) -> Error {
    Error::Argument(format!("the element type {dtype} is not known"))
}

/// The group of a data file.
fn group_of(name: &str) -> &str {
    match Member::parse(name) {
        Some(Member::Data { group, .. }) => group,
        _ => "",
    }
}

/// Whether bytes that begin here fill blocks, which two files can share.
pub(super) fn can_clone(position: u64, len: u64) -> bool {
    len > 0 && position.is_multiple_of(BLOCK_BYTES) && len.is_multiple_of(BLOCK_BYTES)
}

/// Shares blocks, if the file system can, and both places are on blocks. False: the bytes have to be copied.
pub(super) async fn clone(from: &File, to: &File, from_position: u64, to_position: u64, len: u64) -> bool {
    if !can_clone(from_position, len) || !can_clone(to_position, len) {
        return false;
    }
    to.clone_range(to_position, from, from_position..from_position + len).await.is_ok()
}
