//! What the directory of a store has. Everything here blocks.

use super::manifest::{MANIFEST_BYTES_MAX, Manifest};
use super::names::{Entry, Id, MANIFEST, Member, PINS};
use super::part::{PART_BYTES_MAX, Part, PartFile};
use crate::error::{Error, Fault, Reason, Result};
use deepring::{Directory, LockKind};
use std::collections::BTreeSet;
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
pub(crate) fn create(path: &Path) -> Result<Directory> {
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

/// Opens the directory of a generation.
pub(super) fn open(store: &Directory, number: u64) -> Result<Directory> {
    let name = Entry::Generation(number).to_string();
    match store.open_directory(&name) {
        Err(error) if error.code() == "ENOTDIR" => {
            Err(Fault::new(Reason::Manifest, "what has the name of a generation is not a directory").at(&store.path().join(name)))
        }
        opened => opened.map_err(|error| no_generation(error, number)),
    }
}

/// The manifest of a generation.
pub(super) fn manifest(directory: &Directory, number: u64) -> Result<Manifest> {
    let bytes = read(directory, MANIFEST, MANIFEST_BYTES_MAX, Reason::Manifest)?;
    Manifest::parse(&bytes, number).map_err(|fault| fault.at(&directory.path().join(MANIFEST)))
}

/// All parts of a generation.
pub(super) fn parts(directory: &Directory, manifest: &Manifest) -> Result<Vec<Part>> {
    let parts = (0..manifest.parts.len() as u32).map(|writer| {
        let name = Member::Part(writer).to_string();
        let bytes = read(directory, &name, PART_BYTES_MAX, Reason::Part)?;
        manifest.part(writer, &bytes).map_err(|fault| fault.at(&directory.path().join(name)))
    });
    parts.collect()
}

/// Whether the parts of a generation are whole, and every data file is there in its size.
pub(super) fn is_whole(directory: &Directory, manifest: &Manifest) -> bool {
    let has_size = |file: &PartFile| std::fs::metadata(directory.path().join(&file.name)).is_ok_and(|found| found.len() == file.bytes);
    parts(directory, manifest).is_ok_and(|parts| parts.iter().flat_map(|part| &part.files).all(has_size))
}

/// Reads a table of a generation. That it is missing, or is no file, is damage; any other failure is not.
pub(super) fn read(directory: &Directory, name: &str, bytes_max: u64, reason: Reason) -> Result<Vec<u8>> {
    // One more, so that a file that is too long is seen to be.
    directory.read(name, bytes_max + 1).map_err(|error| damaged(error, reason))
}

/// The error of what a generation should have, and has not as a file.
pub(super) fn damaged(error: deepring::Error, reason: Reason) -> Error {
    let what = match error.code().as_str() {
        "ENOENT" => "it is not there",
        "ELOOP" => "it is a link",
        "EISDIR" => "it is a directory",
        "ERR_DEEPRING_UNSUPPORTED" => "it is not a file",
        _ => return error.into(),
    };
    let path = error.path().unwrap_or(Path::new("")).to_owned();
    Fault::new(reason, what).at(&path)
}

/// Whether there is nothing of this name.
pub(crate) fn is_missing(error: &deepring::Error) -> bool {
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
