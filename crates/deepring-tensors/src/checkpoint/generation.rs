//! [`Checkpoint`]: a generation that is open, all of whose tables agree.
//!
//! 1. A shared lock on the manifest keeps the generation from being removed while it is open.
//! 2. The manifest, then the part of each writer: size, seal, number, and whose it is.
//! 3. The data files, 64 at once: each is there in its size, its header has its checksum and says who wrote it.
//! 4. One table of all tensors: each name once, and pieces that cover their tensor. See [`join`].
//!
//! Nothing depends on where the directory is, or on the identity of its files, so a copy of it is as good.

use super::join::{self, Found, Place};
use super::manifest::Manifest;
use super::names::{MANIFEST, Member, Origin};
use super::part::{Part, PartFile};
use super::scan;
use crate::error::{Error, Fault, Reason, Result, quoted};
use crate::header::Header;
use crate::open::{self, CheckHeader, OpenOptions};
use crate::tensors::{HeaderSum, Stated, Tensors};
use crate::verify::Damage;
use deepring::{Directory, Engine, FileLock, LockKind, crc32c};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How much of a generation is looked at before it counts as whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Check {
    /// The manifest, the parts, the size of every file, and every header.
    #[default]
    Sizes,
    /// Every byte: all is read.
    All,
}

/// A generation of a store, open for reading. What can be done with its tensors is in [`Tensors`]: a tensor that several
/// writers have split is one tensor again, under its own name and in its whole shape. Loads and streams
/// [verify](crate::LoadOptions::verify) unless they are not to.
///
/// While it is open, it is not removed. Clones share it.
///
/// ```
/// use deepring_tensors::checkpoint::{Check, CheckpointOptions, Checkpoints, StoreOptions};
/// # use deepring_tensors::{DType, Declared, Source};
/// # let directory = tempfile::tempdir().unwrap();
/// let engine = deepring::Engine::builder().build()?;
/// let store = Checkpoints::open(&engine, directory.path(), StoreOptions::new()).wait()?;
/// # let declared = Declared { name: "bias".into(), dtype: DType::U8, shape: vec![3] };
/// # let save = store.save(vec![Source { declared, data: vec![1u8, 2, 3] }], CheckpointOptions::new().step(7));
/// # save.wait()?.commit().wait()?;
/// let latest = store.latest(Check::Sizes).wait()?;
/// for skipped in &latest.skipped {
///     println!("generation {} is damaged: {}", skipped.generation, skipped.reason);
/// }
/// let checkpoint = latest.checkpoint.expect("one that is whole");
/// println!("step {:?}, meta {}", checkpoint.step(), checkpoint.meta());
/// assert_eq!(checkpoint.tensor("bias", None).wait()?.bytes(), [1, 2, 3]);
/// assert!(checkpoint.verify(None).wait()?.is_whole());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    tensors: Tensors,
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) directory: Directory,
    pub(super) manifest: Manifest,
    /// The data files, in the order of the table.
    pub(super) files: Vec<DataFile>,
    _lock: FileLock,
}

/// A data file.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    origin: Origin,
    pub(super) header: HeaderSum,
}

impl Deref for Checkpoint {
    type Target = Tensors;

    fn deref(&self) -> &Tensors {
        &self.tensors
    }
}

impl Checkpoint {
    /// The tensors, apart from what is said about them.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Its number in the store.
    pub fn number(&self) -> u64 {
        self.inner.manifest.generation
    }

    /// The step that it was saved at, if that was said.
    pub fn step(&self) -> Option<u64> {
        self.inner.manifest.step
    }

    /// What the program said about it: JSON, `null` if it said nothing.
    pub fn meta(&self) -> &str {
        &self.inner.manifest.meta
    }

    /// When it was committed, by the clock of the machine that did it.
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.inner.manifest.created_ms)
    }
}

/// A generation that was opened, and the tables of its writers.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) checkpoint: Checkpoint,
    pub(super) parts: Vec<Part>,
}

impl Opened {
    /// Opens the generation of this number.
    pub(super) async fn open(engine: &Engine, store: &Directory, number: u64, check: Check) -> Result<Self> {
        let store = store.clone();
        let (directory, lock, manifest, parts) = engine.run_blocking(move || look(&store, number)).await??;
        let (tensors, data, parts) = read(engine, &directory, parts).await?;
        let checkpoint = Checkpoint { tensors, inner: Arc::new(Inner { directory, manifest, files: data, _lock: lock }) };
        if check == Check::All {
            let found = checkpoint.verify(None).await?;
            if let Some(damage) = found.damaged.into_iter().next() {
                return Err(damaged(damage));
            }
        }
        Ok(Self { checkpoint, parts })
    }
}

/// Opens the data files of these parts in a directory, and joins what they have into one table.
pub(super) async fn read(engine: &Engine, directory: &Directory, parts: Vec<Part>) -> Result<(Tensors, Vec<DataFile>, Vec<Part>)> {
    let mut data: Vec<DataFile> = parts.iter().flat_map(|part| &part.files).map(DataFile::new).collect();
    let paths: Vec<PathBuf> = data.iter().map(|file| directory.path().join(&file.name)).collect();
    let expected = data.clone();
    let check_header: CheckHeader = Arc::new(move |number, text, header, size| expected[number].check(text, header, size));
    let opened = open::read_parts(engine, &paths, OpenOptions::new(), |_| None, Some(check_header)).await.map_err(missing)?;
    let (mut handles, mut found) = (Vec::with_capacity(opened.len()), Vec::with_capacity(opened.len()));
    for ((opened, path), file) in opened.into_iter().zip(paths).zip(&mut data) {
        file.header.bytes = opened.start;
        handles.push(opened.file);
        found.push(Found { path, header: opened.header, start: opened.start });
    }
    let of = directory.clone();
    let join = move || {
        let paths: Vec<PathBuf> = found.iter().map(|found| found.path.clone()).collect();
        let joined = join::join(&parts, found).map_err(|wrong| match wrong.place {
            Place::Manifest => wrong.fault.at(&of.path().join(MANIFEST)),
            Place::Part(writer) => wrong.fault.at(&of.path().join(Member::Part(writer).to_string())),
            Place::Data(file) => wrong.fault.at(&paths[file]),
        });
        joined.map(|joined| (joined, parts))
    };
    let ((table, sums), parts) = engine.run_blocking(join).await??;
    let stated = Stated { sums, headers: data.iter().map(|file| Some(file.header)).collect(), verify: true };
    Ok((Tensors::new(engine, table, handles, stated), data, parts))
}

/// Locks a generation, and reads its manifest and its parts. Blocks.
fn look(store: &Directory, number: u64) -> Result<(Directory, FileLock, Manifest, Vec<Part>)> {
    let directory = scan::open(store, number)?;
    // Another process has it for a moment, to see whether it is locked, or to remove it.
    let locked = directory.lock(MANIFEST, LockKind::Shared, false);
    // It can have become trash before. From here on it stays.
    scan::open(store, number)?;
    let lock = locked.map_err(|error| scan::damaged(error, Reason::Manifest))?;
    let manifest = scan::manifest(&directory, number)?;
    let parts = scan::parts(&directory, &manifest)?;
    Ok((directory, lock, manifest, parts))
}

impl DataFile {
    /// As a part lists it: where its data begins is not known yet.
    pub(super) fn new(listed: &PartFile) -> Self {
        let PartFile { name, bytes, origin, header_crc, .. } = listed;
        let header = HeaderSum { bytes: 0, place: None, expected: *header_crc };
        Self { name: name.clone(), bytes: *bytes, origin: *origin, header }
    }

    /// Checks that a file, whose header can be read, is this one.
    pub(super) fn check(&self, text: &[u8], header: &Header, size: u64) -> std::result::Result<(), Fault> {
        let (origin, listed) = (header.metadata.get("deepring"), self.origin.to_string());
        if origin != Some(&listed) {
            let found = origin.map_or("nothing".into(), quoted);
            let detail = format!("its header says {found}, and the part lists {listed}: it is a file of another generation or writer");
            return Err(Fault::new(Reason::Identity, detail));
        }
        if size != self.bytes {
            return Err(Fault::new(Reason::Truncated, format!("the file has {size} bytes, and the part lists {}", self.bytes)));
        }
        let (crc, expected) = (crc32c(text), self.header.expected);
        if crc != expected {
            return Err(Fault::new(
                Reason::Part,
                format!("the checksum of its header is {crc:#010x}, and the part lists {expected:#010x}"),
            ));
        }
        Ok(())
    }
}

/// A file that is listed and not there makes the generation damaged, like one that is wrong.
fn missing(error: Error) -> Error {
    match error {
        Error::Io { error, .. } => scan::damaged(error, Reason::Part),
        other => other,
    }
}

/// The error of the first damage. A header that has changed since it was opened has the name of no tensor.
fn damaged(damage: Damage) -> Error {
    let Damage { tensor, path, position, expected, actual, .. } = damage;
    match tensor {
        Some(tensor) => Error::Checksum { tensor, path, position, expected, actual },
        None => Fault::new(Reason::Part, format!("the checksum of its header is {actual:#010x}, not {expected:#010x}")).at(&path),
    }
}
