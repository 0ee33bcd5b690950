//! What the directory of a store has. Everything here blocks.

use super::manifest::{MANIFEST_BYTES_MAX, Manifest};
use super::names::{Entry, Id, MANIFEST, Member, PINS};
use super::part::{PART_BYTES_MAX, Part};
use crate::error::{Error, Fault, Reason, Result};
use deepring::{Directory, LockKind};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

/// The names of a store. What is named otherwise is no business of ours.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In ascending order.
    pub(super) generations: Vec<u64>,
    pub(super) temporaries: Vec<Entry>,
    pub(super) trash: Vec<Entry>,
    pub(super) pins: BTreeSet<u64>,
}

/// Opens the directory of a store. If it is missing, it is made, with those above it, so that none of them is gone after a
/// power cut.
pub(super) fn create(path: &Path) -> Result<Directory> {
    match Directory::open(path) {
        Err(error) if is_missing(&error) => {}
        opened => return Ok(opened?),
    }
    let Some(parent) = path.parent() else { return Ok(Directory::open(path)?) };
    let parent = create(parent)?;
    // A path can have `..` in it.
    let Some(name) = path.file_name() else { return Ok(Directory::open(path)?) };
    match parent.make_directory(name, 0o777) {
        // Another process was faster.
        Err(error) if error.code() == "EEXIST" => {}
        made => drop(made?),
    }
    parent.sync()?;
    Ok(Directory::open(path)?)
}

/// Looks into a store.
pub(super) fn look(store: &Directory) -> Result<Found> {
    let mut found = Found::default();
    for name in store.names()? {
        match name.to_str().and_then(Entry::parse) {
            Some(Entry::Generation(number)) => found.generations.push(number),
            Some(entry @ Entry::Temporary(..)) => found.temporaries.push(entry),
            Some(entry @ Entry::Trash(..)) => found.trash.push(entry),
            None => {}
        }
    }
    found.generations.sort_unstable();
    found.pins = pins(store)?;
    Ok(found)
}

/// The generations that are pinned.
fn pins(store: &Directory) -> Result<BTreeSet<u64>> {
    let names = match store.open_directory(PINS) {
        Ok(pins) => pins.names()?,
        Err(error) if is_missing(&error) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let pinned = |entry| matches!(entry, Entry::Generation(_)).then(|| entry.number());
    Ok(names.iter().filter_map(|name| name.to_str().and_then(Entry::parse).and_then(pinned)).collect())
}

impl Found {
    /// A number that was never used. Numbers only grow.
    pub(super) fn next_number(&self) -> u64 {
        let others = self.temporaries.iter().chain(&self.trash).map(|entry| entry.number());
        self.generations.iter().copied().chain(others).max().map_or(1, |number| number + 1)
    }
}

/// Whether a writer is at work in a directory: one of its locks is held.
pub(super) fn is_alive(store: &Directory, entry: Entry) -> Result<bool> {
    let directory = match store.open_directory(entry.to_string()) {
        Ok(directory) => directory,
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    for name in directory.names()? {
        let is_lock = name.to_str().and_then(Member::parse).is_some_and(|member| matches!(member, Member::Lock(_)));
        if is_lock && is_held(&directory, &name.to_string_lossy())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether another holds a lock on this file.
pub(super) fn is_held(directory: &Directory, name: &str) -> Result<bool> {
    match directory.try_lock(name, LockKind::Exclusive, false) {
        Ok(lock) => Ok(lock.is_none()),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The manifest of a generation.
pub(super) fn manifest(directory: &Directory, number: u64) -> Result<Manifest> {
    let path = directory.path().join(MANIFEST);
    let bytes = read(&path, MANIFEST_BYTES_MAX, Reason::Manifest)?;
    Manifest::parse(&bytes, number).map_err(|fault| fault.at(&path))
}

/// All parts of a generation.
pub(super) fn parts(directory: &Directory, manifest: &Manifest) -> Result<Vec<Part>> {
    let parts = (0..manifest.parts.len() as u32).map(|writer| {
        let path = directory.path().join(Member::Part(writer).to_string());
        let bytes = read(&path, PART_BYTES_MAX, Reason::Part)?;
        manifest.part(writer, &bytes).map_err(|fault| fault.at(&path))
    });
    parts.collect()
}

/// Checks that the parts of a generation are whole, and that every data file is there in its size.
pub(super) fn check_sizes(directory: &Directory, manifest: &Manifest) -> Result<()> {
    for file in parts(directory, manifest)?.iter().flat_map(|part| &part.files) {
        check_size(&directory.path().join(&file.name), file.bytes)?;
    }
    Ok(())
}

/// Checks that a data file has the bytes that its part lists.
pub(super) fn check_size(path: &Path, bytes: u64) -> Result<()> {
    let found = std::fs::metadata(path).map_err(|_| Fault::new(Reason::Part, "the part lists a file that is not there").at(path))?;
    if found.len() == bytes {
        return Ok(());
    }
    Err(Fault::new(Reason::Truncated, format!("the file has {} bytes, and the part lists {bytes}", found.len())).at(path))
}

/// Reads a small file.
pub(super) fn read(path: &Path, bytes_max: u64, reason: Reason) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more, so that a file that is too long is seen to be.
    let read = std::fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
    read.map_err(|error| Fault::new(reason, format!("it cannot be read: {error}")).at(path))?;
    Ok(bytes)
}

/// Whether there is nothing of this name.
pub(super) fn is_missing(error: &deepring::Error) -> bool {
    error.code() == "ENOENT"
}

/// What tells an attempt from all others.
pub(super) fn new_id() -> Id {
    use std::hash::{BuildHasher as _, RandomState};
    use std::time::SystemTime;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let half = |nth: u8| u128::from(RandomState::new().hash_one((std::process::id(), now, nth)));
    Id(half(0) << 64 | half(1))
}

/// The error of a generation whose directory is missing.
pub(super) fn no_generation(error: deepring::Error, generation: u64) -> Error {
    if is_missing(&error) { Error::NoGeneration { generation } } else { error.into() }
}
