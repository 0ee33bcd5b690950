//! [`Older`]: a generation whose bytes are taken over: what did not change since need not be written again.
//!
//! A group is taken over file by file: by a second name where the file system allows one more, else by a copy. A tensor is
//! copied into the files of its group: by sharing its blocks where the file system can, else through the engine, which
//! compares the checksums on the way.

use super::data::{Data, Whole};
use super::files::Within;
use super::manifest::Manifest;
use super::names::{Entry, Member};
use super::part::{CHUNK_BYTES, Part, PartFile};
use super::scan;
use crate::error::{Error, Fault, Reason, Result};
use crate::layout::{BLOCK_BYTES, Declared};
use crate::open::{OpenOptions, Safetensors};
use crate::save::chunks;
use crate::tensors::Tensors;
use deepring::{Directory, Engine, File, FileLock, LockKind, ReplaceOptions, crc32c};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are copied at once.
const COPIED_BYTES: u64 = 8 << 20;

/// Bytes that came from another generation, by how they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reused {
    /// Bytes of files that both generations have: they cost nothing.
    pub linked: u64,
    /// Bytes that share blocks of the file system with the other generation.
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
    number: u64,
    directory: Directory,
    parts: Vec<Part>,
    /// Keeps it from being collected.
    _lock: FileLock,
    files: Mutex<Option<Arc<Files>>>,
}

/// Its data files, open.
#[derive(Debug)]
struct Files {
    files: Vec<OldFile>,
    /// Where each tensor is: places among the files, and in their tables.
    places: HashMap<String, Vec<(usize, usize)>>,
}

#[derive(Debug)]
struct OldFile {
    listed: PartFile,
    group: String,
    tensors: Tensors,
    /// Of each tensor of its table: where its checksums begin.
    sums: Vec<usize>,
    /// Where the pieces are that it has.
    within: HashMap<String, Within>,
}

impl Older {
    /// Opens a generation. Blocks.
    pub(super) fn open(store: &Directory, number: u64) -> Result<Self> {
        let directory = store.open_directory(Entry::Generation(number).to_string()).map_err(|error| scan::no_generation(error, number))?;
        let missing = |error| scan::no_generation(error, number);
        let lock = directory.try_lock(super::names::MANIFEST, LockKind::Shared, false).map_err(missing)?;
        // Another process is about to remove it.
        let lock = lock.ok_or(Error::NoGeneration { generation: number })?;
        let manifest: Manifest = scan::manifest(&directory, number)?;
        let parts = scan::parts(&directory, &manifest)?;
        Ok(Self { number, directory, parts, _lock: lock, files: Mutex::default() })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// All of its data files.
    async fn files(&self, engine: &Engine) -> Result<Arc<Files>> {
        let known = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(files) = known {
            return Ok(files);
        }
        let (mut files, mut places) = (Vec::new(), HashMap::<String, Vec<_>>::new());
        for part in &self.parts {
            for (number, listed) in part.files.iter().enumerate() {
                let file = self.file(engine, part, number as u32, listed).await?;
                for (index, name) in file.tensors.table().names().enumerate() {
                    places.entry(name.to_owned()).or_default().push((files.len(), index));
                }
                files.push(file);
            }
        }
        let files = Arc::new(Files { files, places });
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&files));
        Ok(files)
    }

    async fn file(&self, engine: &Engine, part: &Part, number: u32, listed: &PartFile) -> Result<OldFile> {
        let path = self.directory.path().join(&listed.name);
        if part.chunk != CHUNK_BYTES {
            let detail =
                format!("its chunks have {} bytes, and those of this release {CHUNK_BYTES}: nothing can be taken over", part.chunk);
            return Err(Fault::new(Reason::Part, detail).at(&path));
        }
        let model = Safetensors::open_files(engine, vec![path.clone()], OpenOptions::new()).await?;
        let tensors = model.tensors().clone();
        let sums = listed.places(part.chunk, tensors.table().iter().map(|info| info.len)).map_err(|fault| fault.at(&path))?;
        let pieces = part.split.iter().filter_map(|tensor| {
            let piece = tensor.pieces.iter().find(|piece| piece.file == number)?;
            Some((tensor.name.clone(), Within { shape: tensor.shape.clone(), start: piece.start.clone() }))
        });
        let group = match Member::parse(&listed.name) {
            Some(Member::Data { group, .. }) => group.to_owned(),
            _ => String::new(),
        };
        Ok(OldFile { listed: listed.clone(), group, tensors, sums, within: pieces.collect() })
    }

    /// Takes over a whole group.
    pub(super) async fn take_group(self: &Arc<Self>, data: &Arc<Data>, to: &Directory, group: &str) -> Result<Reused> {
        let files = self.files(&data.engine).await?;
        let mut reused = Reused::default();
        let mut found = false;
        for old in files.files.iter().filter(|old| old.group == group) {
            found = true;
            let names: Vec<_> = old.tensors.table().names().map(|name| (name, old.within.contains_key(name))).collect();
            data.claim(&names)?;
            let name = data.name_for(group);
            let whole = Whole::new(data, &name);
            reused.add(whole.end(self.take_file(data, to, old, &name).await)?);
            let declared = old.tensors.table().iter().filter_map(|info| {
                let declared = Declared { name: info.name.to_owned(), dtype: info.dtype?, shape: info.shape.clone() };
                Some((declared, info.len, old.within.get(info.name).cloned()))
            });
            data.adopt(PartFile { name, ..old.listed.clone() }, group, declared.collect());
        }
        if found { Ok(reused) } else { Err(Error::NotFound { tensor: group.to_owned() }) }
    }

    async fn take_file(self: &Arc<Self>, data: &Arc<Data>, to: &Directory, old: &OldFile, name: &str) -> Result<Reused> {
        let (this, to, from, new) = (Arc::clone(self), to.clone(), old.listed.name.clone(), name.to_owned());
        let path = to.path().join(name);
        let linked = data.engine.run_blocking(move || this.directory.link(from, &to, new)).await?;
        match linked {
            Ok(()) => return Ok(Reused { linked: old.listed.bytes, ..Reused::default() }),
            // It has as many names as it can have, or the file system has no second ones, or is another.
            Err(error) if matches!(error.code().as_str(), "EMLINK" | "EPERM" | "EXDEV" | "EOPNOTSUPP") => {}
            Err(error) => return Err(error.into()),
        }
        self.copy_file(data, old, path).await?;
        Ok(Reused { copied: old.listed.bytes, ..Reused::default() })
    }

    async fn copy_file(&self, data: &Data, old: &OldFile, path: PathBuf) -> Result<()> {
        let options = ReplaceOptions::new().size(old.listed.bytes).keep_existing(true).sync_directory(false);
        let replacement = data.engine.replace(path, options).await?;
        let table = old.tensors.table();
        let start = table.iter().next().map_or(old.listed.bytes, |info| info.position);
        let (mut all, mut tensors) = (vec![(0, start, old.listed.header_crc)], vec![(0, None)]);
        for index in 0..table.len() {
            for chunk in old.chunks(index) {
                all.push(chunk);
                tensors.push((index, Some(())));
            }
        }
        let name = |nth: usize| tensors[nth].1.map(|()| table.info(tensors[nth].0).name.to_owned());
        let copied = copy(&data.engine, old, replacement.file(), 0, 0, &all, name).await;
        match copied {
            Ok(()) => Ok(replacement.commit().await?),
            Err(error) => {
                // The caller gets the error that made this necessary.
                let _ = replacement.abandon().await;
                Err(error)
            }
        }
    }

    /// Takes over one tensor: all pieces of it that are there.
    pub(super) async fn take_tensor(&self, data: &Arc<Data>, name: &str) -> Result<Reused> {
        let files = self.files(&data.engine).await?;
        let found = files.places.get(name).ok_or_else(|| Error::NotFound { tensor: name.to_owned() })?;
        let mut reused = Reused::default();
        for &(file, index) in found {
            let old = &files.files[file];
            let info = old.tensors.table().info(index);
            let unknown = || Error::Argument(format!("the element type {} is not known", info.dtype_name));
            let declared = Declared { name: name.to_owned(), dtype: info.dtype.ok_or_else(unknown)?, shape: info.shape.clone() };
            let placed = data.reserve(&declared, old.within.get(name), &old.group).await?;
            let whole = Whole::new(data, name);
            let chunks = old.chunks(index);
            let to = placed.replacement.file();
            let taken = if clone(old, to, info.position, placed.position, info.len).await {
                Ok(Reused { cloned: info.len, ..Reused::default() })
            } else {
                let copied = copy(&data.engine, old, to, info.position, placed.position, &chunks, |_| Some(name.to_owned())).await;
                copied.map(|()| Reused { copied: info.len, ..Reused::default() })
            };
            reused.add(whole.end(taken)?);
            let crcs: Vec<u32> = chunks.iter().map(|&(_, _, crc)| crc).collect();
            data.filled(&placed, info.len, &crcs);
        }
        Ok(reused)
    }
}

impl OldFile {
    fn file(&self) -> &File {
        &self.tensors.inner.files[0]
    }

    /// Position, length and checksum of the chunks of a tensor.
    fn chunks(&self, index: usize) -> Vec<(u64, u64, u32)> {
        let info = self.tensors.table().info(index);
        let sums = self.listed.crcs[self.sums[index]..].iter();
        chunks(info.len, CHUNK_BYTES).zip(sums).map(|((at, len), &crc)| (info.position + at, len, crc)).collect()
    }
}

/// Shares blocks, if the file system can, and both places are on blocks. False: the bytes have to be copied.
async fn clone(old: &OldFile, to: &File, from_position: u64, to_position: u64, len: u64) -> bool {
    let whole = [from_position, to_position, len].iter().all(|number| number.is_multiple_of(BLOCK_BYTES));
    if !whole || len == 0 {
        return false;
    }
    to.clone_range(to_position, old.file(), from_position..from_position + len).await.is_ok()
}

/// Copies chunks that follow one another, and compares their checksums. The byte at `from` of the old file goes to `to` of
/// the new one. `name` has the tensor of a chunk.
async fn copy(
    engine: &Engine,
    old: &OldFile,
    new: &File,
    from: u64,
    to: u64,
    all: &[(u64, u64, u32)],
    name: impl Fn(usize) -> Option<String>,
) -> Result<()> {
    let mut first = 0;
    while first < all.len() {
        let position = all[first].0;
        let (mut end, mut next) = (position + all[first].1, first + 1);
        while next < all.len() && all[next].0 == end && end + all[next].1 - position <= COPIED_BYTES {
            end += all[next].1;
            next += 1;
        }
        let buffer = engine.pooled_buffer((end - position) as usize)?;
        let (buffer, _) =
            old.file().read_exact_at(buffer, position).await.ok().map_err(|error| Error::io(error, name(first).as_deref()))?;
        let wanted = all[first..next].to_vec();
        let compare = move || {
            let wrong = wanted.iter().enumerate().find_map(|(nth, &(at, len, expected))| {
                let actual = crc32c(&buffer[(at - position) as usize..][..len as usize]);
                (actual != expected).then_some((nth, at, expected, actual))
            });
            (buffer, wrong)
        };
        let (buffer, wrong) = engine.run_blocking(compare).await?;
        if let Some((nth, position, expected, actual)) = wrong {
            let (tensor, path) = (name(first + nth).unwrap_or_default(), old.file().path().to_owned());
            return Err(Error::Checksum { tensor, path, position, expected, actual });
        }
        let written = new.write_at(buffer, position - from + to).await.ok();
        written.map_err(|error| Error::io(error, name(first).as_deref()))?;
        first = next;
    }
    Ok(())
}
