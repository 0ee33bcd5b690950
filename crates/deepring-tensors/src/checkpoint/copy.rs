//! Copying a generation to another store: data first, then the parts, the manifest last, and one rename that makes it visible.

use super::checked::Checked;
use super::collect;
use super::commit::LAST;
use super::generation::{Checkpoint, DataFile, Inner};
use super::manifest::{MANIFEST_BYTES_MAX, Manifest};
use super::names::{Entry, INDEX, MANIFEST, Member};
use super::part::PART_BYTES_MAX;
use super::retention::Keep;
use super::scan;
use super::temporary::{Place, Temporary, taken, write_file};
use crate::error::{Error, Fault, Reason, Result};
use crate::index::INDEX_BYTES_MAX;
use crate::job::Job;
use crate::progress::OnProgress;
use crate::stream::MEMORY_BYTES;
use crate::tensors::Tensors;
use deepring::{Buffer, Directory, Engine, File, LockKind, ReplaceOptions, Replacement, Task, crc32c};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

impl Checkpoint {
    /// Copies the generation to another store, under the same number; a directory that is missing is created. The copy is there
    /// as a whole or not at all, as after a commit, and outlives a power failure when the job ends. All checksums are compared
    /// on the way. `on_progress` is called as [`LoadOptions::on_progress`](crate::LoadOptions::on_progress) says.
    ///
    /// The job fails with [`Error::Conflict`] if the other store has the number; with [`Error::Checksum`] and
    /// [`Error::Format`] if this one is damaged; with [`Error::Io`]. Nothing is left then.
    ///
    /// ```
    /// # use deepring_tensors::checkpoint::{CheckpointOptions, Checkpoints, StoreOptions};
    /// # use deepring_tensors::{DType, Declared, Source};
    /// # let (directory, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    /// # let engine = deepring::Engine::builder().build()?;
    /// # let store = Checkpoints::open(&engine, directory.path(), StoreOptions::new()).wait()?;
    /// # let declared = Declared { name: "bias".into(), dtype: DType::U8, shape: vec![3] };
    /// # let save = store.save(vec![Source { declared, data: vec![1u8, 2, 3] }], CheckpointOptions::new());
    /// # let number = save.wait()?.commit().wait()?.number;
    /// store.generation(number).wait()?.copy_to(backup.path(), None).wait()?;
    /// let copies = Checkpoints::open(&engine, backup.path(), StoreOptions::new()).wait()?;
    /// assert_eq!(copies.generation(number).wait()?.tensor("bias", None).wait()?.bytes(), [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn copy_to(&self, directory: impl AsRef<Path>, on_progress: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>) -> Job<Result<()>> {
        let (this, directory) = (self.clone(), directory.as_ref().to_owned());
        Job::new(async move { copy(&this, directory, on_progress).await })
    }
}

/// See [`Checkpoint::copy_to`].
async fn copy(checkpoint: &Checkpoint, to: PathBuf, on_progress: Option<OnProgress>) -> Result<()> {
    let (engine, number) = (checkpoint.engine(), checkpoint.number());
    let of = engine.clone();
    let temporary = engine.run_blocking(move || begin(&of, &to, number)).await??;
    let names = checkpoint.inner.files.iter().map(|file| temporary.directory.path().join(&file.name));
    let files = names.enumerate().collect();
    let copied = async {
        copy_files(checkpoint, files, on_progress).await?;
        copy_tables(engine, &checkpoint.inner, temporary.directory.path()).await?;
        for step in LAST {
            temporary.make(step).await?;
        }
        Ok::<_, Error>(())
    };
    let copied = copied.await;
    // What was not published is removed.
    let ended = engine.run_blocking(temporary.end()).await;
    copied?;
    ended?
}

/// Makes a directory in the other store, unless that has the number. Blocks.
fn begin(engine: &Engine, to: &Path, number: u64) -> Result<Temporary> {
    // The working directory can change later.
    let to = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
    let store = scan::create(&to)?;
    let _held = collect::lock(&store)?;
    if scan::look(&store)?.generations.binary_search(&number).is_ok() {
        return Err(taken(number));
    }
    let entry = Entry::Temporary(number, scan::new_id());
    let directory = store.make_directory(entry.to_string(), 0o777)?;
    let lock = directory.lock(Member::Lock(0).to_string(), LockKind::Exclusive, true);
    let place =
        Arc::new(Place { engine: engine.clone(), directory: store.clone(), keep: Keep { last: None, every: None }, idle: Arc::default() });
    match lock {
        Ok(lock) => {
            let (lock, is_published) = (Mutex::new(Some(lock)), AtomicBool::new(false));
            Ok(Temporary { place, entry, directory, lock, is_first: true, is_published })
        }
        Err(error) => {
            let _ = store.remove_tree(entry.to_string());
            Err(error.into())
        }
    }
}

/// Copies data files under these names, in their order; they are flushed when this ends.
pub(super) async fn copy_files(checkpoint: &Checkpoint, files: Vec<(usize, PathBuf)>, on_progress: Option<OnProgress>) -> Result<()> {
    let tensors = checkpoint.tensors();
    let numbers: Vec<usize> = files.iter().map(|&(number, _)| number).collect();
    let summed = move |of: &Tensors| numbers.iter().flat_map(|&number| of.summed_in(number)).collect();
    let mut checked = Checked::new(tensors, summed, MEMORY_BYTES, on_progress).await?;
    // A flush takes long, and the next file need not wait for it.
    let mut commits: Vec<Task<()>> = Vec::new();
    for (number, to) in files {
        let file = &checkpoint.inner.files[number];
        let options = ReplaceOptions::new().size(file.bytes).keep_existing(true).sync_directory(false);
        let replacement = tensors.engine().replace(to, options).await?;
        copy_header(&tensors.inner.files[number], file, &replacement).await?;
        checked.write(number, 0, replacement.file(), 0).await?;
        commits.push(replacement.commit());
    }
    for commit in commits {
        commit.await?;
    }
    checked.end();
    Ok(())
}

async fn copy_header(from: &File, file: &DataFile, to: &Replacement) -> Result<()> {
    let engine = from.engine();
    let (header, _): (Buffer, _) = from.read_exact_at(engine.pooled_buffer(file.header.bytes as usize)?, 0).await.ok()?;
    let sum = move || {
        let crc = crc32c(&header);
        (header, crc)
    };
    let (header, crc) = engine.run_blocking(sum).await?;
    if crc != file.header.expected {
        let detail = format!("the checksum of its header is {crc:#010x}, and the part lists {:#010x}", file.header.expected);
        return Err(Fault::new(Reason::Part, detail).at(from.path()));
    }
    to.file().write_at(header, 0).await.ok()?;
    Ok(())
}

/// Copies the parts, the index if there is one, and the manifest.
async fn copy_tables(engine: &Engine, of: &Inner, to: &Path) -> Result<()> {
    let parts = (0..of.manifest.parts.len() as u32).map(|writer| Member::Part(writer).to_string());
    for name in parts.chain([INDEX.to_owned(), MANIFEST.to_owned()]) {
        let (directory, manifest, from) = (of.directory.clone(), of.manifest.clone(), name.clone());
        let Some(bytes) = engine.run_blocking(move || read(&directory, &from, &manifest)).await?? else { continue };
        write_file(engine, &to.join(name), bytes).await?;
    }
    Ok(())
}

/// Reads a table of a generation, which must still be what it was. `None`: there is no index. Blocks.
pub(super) fn read(directory: &Directory, name: &str, manifest: &Manifest) -> Result<Option<Vec<u8>>> {
    let at = |fault: Fault| fault.at(&directory.path().join(name));
    if name == INDEX {
        return match directory.read(name, INDEX_BYTES_MAX) {
            Err(error) if scan::is_missing(&error) => Ok(None),
            read => Ok(Some(read?)),
        };
    }
    if let Some(Member::Part(writer)) = Member::parse(name) {
        let bytes = scan::read(directory, name, PART_BYTES_MAX, Reason::Part)?;
        return manifest.part(writer, &bytes).map_err(at).map(|_| Some(bytes));
    }
    let bytes = scan::read(directory, name, MANIFEST_BYTES_MAX, Reason::Manifest)?;
    if Manifest::parse(&bytes, manifest.generation).map_err(at)? != *manifest {
        return Err(at(Fault::new(Reason::Manifest, "it has changed since it was opened")));
    }
    Ok(Some(bytes))
}
