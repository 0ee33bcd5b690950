//! [`Arrival`]: a generation that comes from elsewhere, file by file, and becomes visible as a whole.
//!
//! ```text
//!   receive ──► .tmp-NUMBER-ID/, named after the content; a lock in it
//!     ├─ has     a file that an arrival before has left is compared with its checksums, and kept
//!     └─ begin ──► write: chunks, compared before they are written ──► finish: all are there, flushed, named
//!   commit ──► one table of all headers ──► parts, index, manifest ──► the last steps of every commit
//! ```
//!
//! A file has its name only if all its bytes were compared and flushed. What an arrival leaves that has failed, was dropped or
//! died is a directory without a live lock: the next arrival of the same content goes on in it, and the next
//! [`collect`](super::Checkpoints::collect) or commit removes it.

use super::collect;
use super::commit::LAST;
use super::file_check::FileCheck;
use super::generation;
use super::leaving::index_of;
use super::listing::Listing;
use super::names::{Entry, INDEX, MANIFEST, Member};
use super::reuse::Reused;
use super::scan;
use super::store::Checkpoints;
use super::temporary::{Place, Temporary, perform};
use super::writer::Generation;
use crate::error::{Error, Fault, Reason, Result};
use crate::job::Job;
use deepring::{Directory, FileStat, IoBuf, LockKind, Op, OpenOptions, ReplaceOptions, Replacement};
use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are read at once of a file that is there, and how many such reads are ahead.
const READ_BYTES: u64 = 8 << 20;
const READS_AHEAD: usize = 4;

/// Of a file that is there, read first: more than the header of most.
const FIRST_BYTES: u64 = 256 << 10;

/// A generation that arrives from elsewhere. Made by [`Checkpoints::receive`]. Nothing of it is visible before its
/// [commit](Arrival::commit). Dropped, it leaves its files for an arrival of the same content that comes later, or for
/// [`collect`](Checkpoints::collect).
///
/// ```
/// use deepring_tensors::checkpoint::{CheckpointOptions, Checkpoints, StoreOptions};
/// # use deepring_tensors::{DType, Declared, Source};
/// # let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
/// # let engine = deepring::Engine::builder().build()?;
/// # let from = Checkpoints::open(&engine, there.path(), StoreOptions::new()).wait()?;
/// # let declared = Declared { name: "bias".into(), dtype: DType::U8, shape: vec![3] };
/// # let save = from.save(vec![Source { declared, data: vec![1u8, 2, 3] }], CheckpointOptions::new());
/// # let number = save.wait()?.commit().wait()?.number;
/// # let there = there.path().join(format!("{number:012}"));
/// let listing = from.generation(number).wait()?.listing().wait()?;
/// let store = Checkpoints::open(&engine, here.path(), StoreOptions::new()).wait()?;
/// let arrival = store.receive(&listing).wait()?.expect("the store does not have it");
/// for (index, listed) in listing.files().iter().enumerate() {
///     if !arrival.has(index).wait()? {
///         let bytes = std::fs::read(there.join(&listed.name))?; // from wherever it is
///         let check = listing.check(index, &bytes[..listing.header_bytes(index, &bytes)? as usize])?;
///         let file = arrival.begin(index, &check).wait()?;
///         file.write(0, vec![bytes]).wait()?; // the whole of it, or pieces in any order
///         file.finish().wait()?;
///     }
/// }
/// arrival.commit().wait()?; // from here on it outlives a power failure
/// assert_eq!(store.generation(number).wait()?.tensor("bias", None).wait()?.bytes(), [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Arrival {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    temporary: Temporary,
    listing: Listing,
    /// The files that have their names.
    has: Mutex<Vec<bool>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // At once, and not by a thread of the engine: an arrival that follows goes on in this directory.
        drop(self.temporary.lock.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Checkpoints {
    /// Begins to take over a generation that comes from elsewhere, under its number. `None`: the store has it already.
    ///
    /// The job fails with [`Error::Conflict`] if the store has another generation of this number, or the same one is arriving
    /// already; with [`Error::Io`].
    pub fn receive(&self, listing: &Listing) -> Job<Result<Option<Arrival>>> {
        let (this, listing) = (self.clone(), listing.clone());
        Job::new(async move {
            let place = Arc::clone(this.place()?);
            let engine = place.engine.clone();
            let begun = engine.run_blocking(move || begin(&place, listing)).await??;
            Ok(begun.map(|inner| Arrival { inner: Arc::new(inner) }))
        })
    }
}

/// Makes the directory of an arrival, or finds the one that an arrival before has left. Blocks.
fn begin(place: &Arc<Place>, listing: Listing) -> Result<Option<Inner>> {
    let (store, number) = (&place.directory, listing.generation());
    let conflict = |detail: &str| Error::Conflict { generation: number, detail: detail.into() };
    let _held = collect::lock(store)?;
    if scan::look(store)?.generations.binary_search(&number).is_ok() {
        let found = scan::open(store, number).and_then(|directory| scan::manifest(&directory, number));
        return match found {
            Ok(found) if found == listing.manifest => Ok(None),
            Ok(_) | Err(Error::Format { .. }) => Err(conflict("the store has another generation of this number")),
            Err(error) => Err(error),
        };
    }
    let entry = Entry::Temporary(number, listing.manifest.id);
    let directory = match store.make_directory(entry.to_string(), 0o777) {
        Err(error) if error.code() == "EEXIST" => store.open_directory(entry.to_string())?,
        made => made?,
    };
    // While the store is locked, nothing else looks whether this is held.
    let lock = directory.try_lock(Member::Lock(0).to_string(), LockKind::Exclusive, true)?;
    let lock = lock.ok_or_else(|| conflict("it is arriving already"))?;
    let temporary = Temporary {
        place: Arc::clone(place),
        entry,
        directory,
        lock: Mutex::new(Some(lock)),
        // It goes with the next collection, not with this value.
        is_first: false,
        is_published: AtomicBool::new(false),
    };
    let inner = Inner { has: Mutex::new(vec![false; listing.files().len()]), temporary, listing };
    clear(&inner.temporary.directory, &inner.listing)?;
    Ok(Some(inner))
}

/// Removes what an arrival before has left, but for data files that have their names. Blocks.
fn clear(directory: &Directory, listing: &Listing) -> Result<()> {
    let kept: HashSet<&str> = listing.files().iter().map(|file| file.name.as_str()).collect();
    for name in directory.names()? {
        let is_kept = name.to_str().is_some_and(|name| kept.contains(name) || Member::parse(name) == Some(Member::Lock(0)));
        if !is_kept {
            remove(directory, &name)?;
        }
    }
    Ok(())
}

/// Removes a file. One that was dropped meanwhile can be removed by a thread of the engine, too.
fn remove(directory: &Directory, name: impl AsRef<std::ffi::OsStr>) -> Result<()> {
    match directory.remove_file(name) {
        Err(error) if !scan::is_missing(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

impl Arrival {
    /// What arrives.
    pub fn listing(&self) -> &Listing {
        &self.inner.listing
    }

    /// Whether a data file is there, which an arrival before has left. All its bytes are read and compared. One that is not
    /// right is removed.
    ///
    /// The job fails with [`Error::Io`].
    ///
    /// # Panics
    /// If there is no file of this index, like indexing.
    pub fn has(&self, file: usize) -> Job<Result<bool>> {
        assert!(file < self.listing().files().len(), "there is no file {file}");
        let inner = Arc::clone(&self.inner);
        Job::new(async move {
            if inner.lock()[file] {
                return Ok(true);
            }
            match inner.compare(file).await {
                Ok(()) => {
                    inner.lock()[file] = true;
                    Ok(true)
                }
                Err(Error::Io { error, .. }) if scan::is_missing(&error) => Ok(false),
                Err(Error::Format { .. } | Error::Checksum { .. }) => {
                    let name = inner.listing.files()[file].name.clone();
                    let (engine, of) = (inner.temporary.place.engine.clone(), Arc::clone(&inner));
                    engine.run_blocking(move || remove(&of.temporary.directory, &name)).await??;
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Begins a data file, and reserves its room. `check` is of this file.
    ///
    /// The job fails with [`Error::Io`]: `EEXIST` if it [is there](Arrival::has), `ENOSPC`; with [`Error::Argument`] if the check
    /// is of another file.
    ///
    /// # Panics
    /// If there is no file of this index, like indexing.
    pub fn begin(&self, file: usize, check: &FileCheck) -> Job<Result<ArrivingFile>> {
        let listed = &self.listing().files()[file];
        let is_same = check.path().file_name().is_some_and(|name| name == listed.name.as_str()) && check.bytes() == listed.bytes;
        let (inner, check) = (Arc::clone(&self.inner), check.clone());
        Job::new(async move {
            if !is_same {
                return Err(Error::Argument(format!("the check is of another file: '{}'", check.path().display())));
            }
            let options = ReplaceOptions::new().size(check.bytes()).keep_existing(true).sync_directory(false);
            let replacement = inner.temporary.place.engine.replace(inner.path_of(file), options).await?;
            let came = Mutex::new(vec![false; check.spans()]);
            Ok(ArrivingFile { arriving: Arc::new(Arriving { arrival: inner, number: file, check, replacement, came }) })
        })
    }

    /// Makes the generation visible, in the steps of every commit. All data files must be there.
    ///
    /// The job fails with [`Error::Argument`] if one is not; with [`Error::Format`] if the files do not make one model; with
    /// [`Error::Conflict`] if something else has taken the number meanwhile; with [`Error::Io`].
    pub fn commit(self) -> Job<Result<Generation>> {
        Job::new(async move {
            let Self { inner } = self;
            let Inner { temporary, listing, .. } = &*inner;
            if let Some(missing) = inner.lock().iter().position(|&has| !has) {
                return Err(Error::Argument(format!("{} has not arrived", listing.files()[missing].name)));
            }
            let engine = &temporary.place.engine;
            let (tensors, _, parts) = generation::read(engine, &temporary.directory, listing.parts.clone()).await?;
            let index = index_of(&parts, &tensors);
            drop(tensors);
            for (name, text) in listing.parts() {
                inner.write(name, text.to_vec()).await?;
            }
            if let Some(index) = index {
                inner.write(INDEX, index).await?;
            }
            inner.write(MANIFEST, listing.manifest().to_vec()).await?;
            let of = Arc::clone(&inner);
            // In one job, which has the lock until it ends: also if what waits for it is dropped.
            let last = move || {
                let Temporary { place, directory, entry, .. } = &of.temporary;
                LAST.into_iter().try_for_each(|step| perform(step, &place.directory, directory, *entry))
            };
            engine.run_blocking(last).await??;
            let files = listing.files().len() as u32;
            Ok(Generation { number: listing.generation(), bytes: listing.bytes(), files, reused: Reused::default() })
        })
    }

    /// Gives up, and removes what has arrived.
    ///
    /// The job fails with [`Error::Argument`] if a file is still being written; with [`Error::Io`].
    pub fn abandon(self) -> Job<Result<()>> {
        Job::new(async move {
            let Some(inner) = Arc::into_inner(self.inner) else { return Err(Error::Argument("a file has not ended".into())) };
            let engine = inner.temporary.place.engine.clone();
            let gone = move || match inner.temporary.place.directory.remove_tree(inner.temporary.entry.to_string()) {
                Err(error) if !scan::is_missing(&error) => Err(error.into()),
                _ => Ok(()),
            };
            engine.run_blocking(gone).await?
        })
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.has.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path_of(&self, file: usize) -> PathBuf {
        self.temporary.directory.path().join(&self.listing.files()[file].name)
    }

    /// Makes a small file, which is flushed before it has its name.
    async fn write(self: &Arc<Self>, name: &str, text: Vec<u8>) -> Result<()> {
        let (directory, of) = (&self.temporary.directory, Arc::clone(self));
        let options = ReplaceOptions::new().keep_existing(true).sync_directory(false);
        // As in `finish`, no other arrival begins before the file has its name.
        let held = move |_: &Directory, _: &FileStat| Ok::<_, Infallible>(of);
        let Ok(_) = self.temporary.place.engine.replace_with(directory.path().join(name), vec![text], options, held).await?;
        Ok(())
    }

    /// Reads a file, and compares it with its checksums.
    async fn compare(&self, number: usize) -> Result<()> {
        let (engine, path) = (&self.temporary.place.engine, self.path_of(number));
        let wrong = |detail: String| Fault::new(Reason::Truncated, detail).at(&path);
        let file = engine.open_async(&path, OpenOptions::new().read(true)).await?;
        let (size, expected) = (file.stat_at_open().size, self.listing.files()[number].bytes);
        if size != expected {
            return Err(wrong(format!("the file has {size} bytes, and the part lists {expected}")));
        }
        let (first, _) = file.read_buffer_at(0, size.min(FIRST_BYTES) as usize).await.ok()?;
        let header_bytes = self.listing.header_bytes(number, &first)?;
        let header = if header_bytes <= first.len() as u64 { first } else { file.read_buffer_at(0, header_bytes as usize).await.ok()?.0 };
        let text = header.get(..header_bytes as usize).ok_or_else(|| wrong("the file became shorter".into()))?;
        let mut run = self.listing.check_at(number, text, &path)?.run(0)?;
        run.update(text)?;
        let mut ranges = (header_bytes..size).step_by(READ_BYTES as usize).map(|at| at..size.min(at + READ_BYTES));
        let mut reads: VecDeque<(Range<u64>, Op<deepring::Buffer>)> = VecDeque::new();
        loop {
            while reads.len() < READS_AHEAD
                && let Some(range) = ranges.next()
            {
                let read = file.read_buffer_at(range.start, (range.end - range.start) as usize);
                reads.push_back((range, read));
            }
            let Some((range, read)) = reads.pop_front() else { break };
            let (bytes, receipt) = read.await.ok()?;
            if receipt.bytes < range.end - range.start {
                return Err(wrong("the file became shorter".into()));
            }
            run.update(&bytes)?;
        }
        run.end()
    }
}

/// A data file that arrives. Made by [`Arrival::begin`]; an example is with [`Arrival`]. Dropped, it is removed.
#[must_use = "the file has no name before it is finished"]
pub struct ArrivingFile {
    arriving: Arc<Arriving>,
}

impl fmt::Debug for ArrivingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrivingFile").field("path", &self.arriving.replacement.path()).finish_non_exhaustive()
    }
}

struct Arriving {
    replacement: Replacement,
    number: usize,
    check: FileCheck,
    /// Which checksums belong to bytes that are written.
    came: Mutex<Vec<bool>>,
    // Declared behind the file, which goes first.
    arrival: Arc<Inner>,
}

impl ArrivingFile {
    /// Compares bytes with their checksums, and writes them. They begin at 0 or where a chunk does, and end where one does:
    /// see [`FileCheck::pieces`]. Calls can come in any order, and at once.
    ///
    /// The job fails with [`Error::Checksum`] or [`Error::Format`] if the bytes are not right, and writes none of them then; with
    /// [`Error::Argument`] for another position; with [`Error::Io`].
    pub fn write<B: IoBuf + AsRef<[u8]>>(&self, position: u64, bytes: Vec<B>) -> Job<Result<()>> {
        let arriving = Arc::clone(&self.arriving);
        Job::new(async move {
            let mut run = arriving.check.run(position)?;
            let first = run.next();
            bytes.iter().try_for_each(|bytes| run.update(bytes.as_ref()))?;
            let end = run.next();
            run.end()?;
            arriving.replacement.file().write_vectored(bytes, position).await.ok()?;
            arriving.came.lock().unwrap_or_else(PoisonError::into_inner)[first..end].fill(true);
            Ok(())
        })
    }

    /// Flushes the file, and gives it its name.
    ///
    /// The job fails with [`Error::Argument`] if bytes have not come, or a write has not ended; with [`Error::Io`].
    pub fn finish(self) -> Job<Result<()>> {
        Job::new(async move {
            let Some(Arriving { replacement, number, check, came, arrival }) = Arc::into_inner(self.arriving) else {
                return Err(Error::Argument("a write has not ended".into()));
            };
            if came.into_inner().unwrap_or_else(PoisonError::into_inner).contains(&false) {
                return Err(Error::Argument(format!("bytes of '{}' have not come", check.path().display())));
            }
            let of = Arc::clone(&arrival);
            // Dropping this does not stop the commit. Until the file has its name, no other arrival begins.
            let Ok(_) = replacement.commit_when(move |_, _| Ok::<_, Infallible>(of)).await?;
            arrival.lock()[number] = true;
            Ok(())
        })
    }
}
