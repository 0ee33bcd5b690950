//! Removing what is not needed any more. Everything here blocks.
//!
//! A generation is retired by a rename, which is flushed, before its files are removed: a crash in between leaves trash, which
//! the next call removes. The age of anything never counts, only locks do.

use super::names::{Entry, LOCK, MANIFEST};
use super::retention::{Candidate, Keep, retired};
use super::scan::{self, Found};
use crate::error::{Error, Result};
use deepring::{Directory, FileLock, LockKind};
use std::os::unix::fs::MetadataExt as _;

/// What a call of [`Checkpoints::collect`](super::Checkpoints::collect) has removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Collected {
    /// The generations that were retired, in ascending order.
    pub generations: Vec<u64>,
    /// Directories of writers that have ended without a commit.
    pub temporaries: u64,
    /// Bytes of files that no other generation has.
    pub bytes: u64,
}

/// Holds other processes off while this one looks at a store, and changes it by names alone.
pub(super) fn lock(store: &Directory) -> Result<FileLock> {
    Ok(store.lock(LOCK, LockKind::Exclusive, true)?)
}

/// Removes generations that need not stay, and what writers have left. `flushes` is off with a planted bug.
pub(super) fn collect(store: &Directory, keep: Keep, flushes: bool) -> Result<Collected> {
    let mut collected = Collected::default();
    let held = lock(store)?;
    let found = scan::look(store)?;
    for number in retired(&candidates(store, &found, keep), keep) {
        if retire(store, number)? {
            collected.generations.push(number);
        }
    }
    let mut trash = found.trash;
    for entry in found.temporaries {
        if !scan::is_alive(store, entry)? {
            let to = Entry::Trash(entry.number(), scan::new_id());
            match store.rename(entry.to_string(), store, to.to_string()) {
                // Its writer has published or removed it meanwhile: it holds no lock on the store.
                Err(error) if scan::is_missing(&error) => continue,
                renamed => renamed?,
            }
            trash.push(to);
            collected.temporaries += 1;
        }
    }
    if !collected.generations.is_empty() {
        // No file of a generation goes while a power cut could bring its name back.
        if flushes {
            store.sync()?;
        }
        trash = scan::look(store)?.trash;
    }
    // The files can be large: others need not wait.
    drop(held);
    for entry in trash {
        collected.bytes += remove(store, entry)?;
    }
    Ok(collected)
}

/// Removes one generation, whatever is to stay.
pub(super) fn remove_generation(store: &Directory, number: u64) -> Result<()> {
    let held = lock(store)?;
    let found = scan::look(store)?;
    let conflict = |detail: &str| Error::Conflict { generation: number, detail: detail.into() };
    if found.generations.binary_search(&number).is_err() {
        return Err(Error::NoGeneration { generation: number });
    }
    if found.pins.contains(&number) {
        return Err(conflict("it is pinned"));
    }
    if !retire(store, number)? {
        return Err(conflict("a reader has it open"));
    }
    store.sync()?;
    let trash = scan::look(store)?.trash;
    drop(held);
    for entry in trash {
        remove(store, entry)?;
    }
    Ok(())
}

/// What is known of each generation.
fn candidates(store: &Directory, found: &Found, keep: Keep) -> Vec<Candidate> {
    let last = keep.last.unwrap_or(u32::MAX).max(1);
    let mut newer_valid = 0;
    let newest_first = found.generations.iter().rev().map(|&number| {
        let opened = store.open_directory(Entry::Generation(number).to_string()).ok();
        let is_needed = newer_valid < last;
        // Below those that stay as the newest, nothing depends on whether it is whole.
        let manifest = opened.as_ref().filter(|_| is_needed || keep.every.is_some()).and_then(|at| scan::manifest(at, number).ok());
        let valid = is_needed && opened.as_ref().zip(manifest.as_ref()).is_some_and(|(at, manifest)| scan::is_whole(at, manifest));
        newer_valid += u32::from(valid);
        // What cannot be looked at counts as locked.
        let locked = opened.is_none_or(|at| scan::is_held(&at, MANIFEST).unwrap_or(true));
        Candidate { number, step: manifest.and_then(|manifest| manifest.step), valid, pinned: found.pins.contains(&number), locked }
    });
    newest_first.collect()
}

/// Makes a generation trash, unless a reader has it.
fn retire(store: &Directory, number: u64) -> Result<bool> {
    let name = Entry::Generation(number).to_string();
    let directory = store.open_directory(&name)?;
    // Held until it has gone: a reader that comes now finds it locked.
    let _lock = match directory.try_lock(MANIFEST, LockKind::Exclusive, false) {
        Ok(Some(lock)) => Some(lock),
        Ok(None) => return Ok(false),
        Err(error) if scan::is_missing(&error) => None,
        Err(error) => return Err(error.into()),
    };
    store.rename(&name, store, Entry::Trash(number, scan::new_id()).to_string())?;
    Ok(true)
}

/// Removes trash. Returns the bytes that this has freed.
fn remove(store: &Directory, entry: Entry) -> Result<u64> {
    let name = entry.to_string();
    let files = std::fs::read_dir(store.path().join(&name)).into_iter().flatten().flatten();
    let sole = files.filter_map(|file| file.metadata().ok()).filter(|file| file.is_file() && file.nlink() == 1);
    let bytes = sole.map(|file| file.len()).sum();
    match store.remove_tree(&name) {
        // Another process was faster.
        Err(error) if scan::is_missing(&error) => Ok(0),
        removed => Ok(removed.map(|()| bytes)?),
    }
}
