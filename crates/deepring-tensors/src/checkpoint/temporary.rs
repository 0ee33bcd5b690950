//! [`Temporary`]: the directory of a generation in progress, and who is at work in it.

use super::collect;
use super::commit::Step;
use super::names::{Entry, GENERATIONS_MAX, LOCK, Member};
use super::retention::Keep;
use super::scan;
use super::staging::Idle;
use super::token::Token;
use crate::error::{Error, Result};
use deepring::{Direct, Directory, Engine, FileLock, LockKind, ReplaceOptions, Replacement, Task};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A store, as its writers need it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) engine: Engine,
    pub(super) directory: Directory,
    pub(super) keep: Keep,
    pub(super) idle: Arc<Idle>,
}

/// The directory of a generation in progress. The first writer's goes with this value, unless it was published.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) place: Arc<Place>,
    pub(super) entry: Entry,
    pub(super) directory: Directory,
    /// Says that the writer lives.
    pub(super) lock: Mutex<Option<FileLock>>,
    pub(super) is_first: bool,
    pub(super) is_published: AtomicBool,
}

/// What is known before a directory is made or opened.
pub(super) struct Begun {
    pub(super) token: Token,
    pub(super) writer: u32,
    pub(super) directory: Directory,
    pub(super) lock: FileLock,
    pub(super) previous: Option<u64>,
}

/// Makes the directory of a generation. Blocks.
pub(super) fn begin(store: &Directory, writers: u32, reference: Option<u64>) -> Result<Begun> {
    let _held = collect::lock(store)?;
    let found = scan::look(store)?;
    let previous = found.generations.last().copied();
    let (number, id) = (found.next_number(), scan::new_id());
    if number >= GENERATIONS_MAX {
        return Err(Error::Argument("the numbers of the store are used up".into()));
    }
    let token = Token { number, id, writers, reference };
    let name = Entry::Temporary(number, id).to_string();
    let directory = store.make_directory(&name, 0o777)?;
    match directory.lock(Member::Lock(0).to_string(), LockKind::Exclusive, true) {
        Ok(lock) => Ok(Begun { token, writer: 0, directory, lock, previous }),
        Err(error) => {
            // The caller gets the error that made this necessary.
            let _ = store.remove_tree(&name);
            Err(error.into())
        }
    }
}

/// Opens the directory of a generation, as one of its writers. Blocks.
pub(super) fn join(store: &Directory, token: Token, writer: u32) -> Result<Begun> {
    let generation = token.number;
    let conflict = || Error::Conflict { generation, detail: format!("another has joined as writer {writer}") };
    let _held = collect::lock(store)?;
    let name = Entry::Temporary(generation, token.id).to_string();
    let directory = store.open_directory(name).map_err(|error| scan::no_generation(error, generation))?;
    if !scan::is_held(&directory, &Member::Lock(0).to_string())? {
        // Its first writer has ended.
        return Err(Error::NoGeneration { generation });
    }
    // Also one that has ended: what it left has the names that this one would use.
    let has_joined = |name: &str| Member::parse(name) == Some(Member::Lock(writer));
    if directory.names()?.iter().any(|name| name.to_str().is_some_and(has_joined)) {
        return Err(conflict());
    }
    let lock = directory.try_lock(Member::Lock(writer).to_string(), LockKind::Exclusive, true)?.ok_or_else(conflict)?;
    Ok(Begun { token, writer, directory, lock, previous: None })
}

impl Temporary {
    /// Where its files are by now.
    pub(super) fn path(&self) -> PathBuf {
        if !self.is_published.load(Ordering::Acquire) {
            return self.directory.path().to_owned();
        }
        self.place.directory.path().join(Entry::Generation(self.entry.number()).to_string())
    }

    /// Makes one of the [last](super::commit::LAST) steps of a commit. The others are not the directory's. A failure of the
    /// last flush is [`Uncertain`](deepring::ErrorKind::Uncertain): the generation is there.
    pub(super) async fn make(&self, step: Step) -> Result<()> {
        let (store, directory, entry) = (self.place.directory.clone(), self.directory.clone(), self.entry);
        self.place.engine.run_blocking(move || perform(step, &store, &directory, entry)).await??;
        if step == Step::Publish {
            self.is_published.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// What ends it: removes the directory if it is the first writer's and no generation, then gives up the lock.
    pub(super) fn end(&self) -> impl FnOnce() -> Result<()> + Send + use<> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (store, name) = (self.place.directory.clone(), self.entry.to_string());
        let removes = self.is_first && lock.is_some() && !self.is_published.load(Ordering::Acquire);
        move || {
            let gone = if removes { store.remove_tree(name) } else { Ok(()) };
            drop(lock);
            match gone {
                // Another process has collected it.
                Err(error) if !scan::is_missing(&error) => Err(error.into()),
                _ => Ok(()),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.lock.get_mut().unwrap_or_else(PoisonError::into_inner).is_some() {
            // On a thread of the engine, whose end nothing waits for.
            drop(self.place.engine.run_blocking(self.end()));
        }
    }
}

/// Writers whose parts are not there.
pub(super) struct Missing {
    pub(super) writers: Vec<u32>,
    /// Of these: that will not come.
    pub(super) ended: Vec<u32>,
}

/// Looks for the parts of all writers. Blocks.
pub(super) fn missing(store: &Directory, directory: &Directory, writers: u32, has_patience: bool) -> Result<Missing> {
    let absent = || {
        let names = directory.names()?;
        let mut there = vec![false; writers as usize];
        for name in &names {
            if let Some(Member::Part(writer)) = name.to_str().and_then(Member::parse)
                && let Some(there) = there.get_mut(writer as usize)
            {
                *there = true;
            }
        }
        Ok::<Vec<u32>, Error>((0..writers).filter(|&writer| !there[writer as usize]).collect())
    };
    let before = absent()?;
    if before.is_empty() {
        return Ok(Missing { writers: before, ended: Vec::new() });
    }
    // While this is held, no writer is between making its lock and taking it.
    let _held = store.lock(LOCK, LockKind::Exclusive, true)?;
    let mut idle = Vec::new();
    for &writer in &before {
        match directory.try_lock(Member::Lock(writer).to_string(), LockKind::Exclusive, false) {
            Ok(Some(_)) => idle.push(writer),
            Err(error) if scan::is_missing(&error) && !has_patience => idle.push(writer),
            Err(error) if !scan::is_missing(&error) => return Err(error.into()),
            _ => {}
        }
    }
    // A writer gives up its lock when its part is there.
    let writers = absent()?;
    let ended = idle.into_iter().filter(|writer| writers.binary_search(writer).is_ok()).collect();
    Ok(Missing { writers, ended })
}

/// Performs one of the last steps of a commit. Blocks.
pub(super) fn perform(step: Step, store: &Directory, directory: &Directory, entry: Entry) -> Result<()> {
    match step {
        Step::SyncTemporary => Ok(directory.sync()?),
        Step::Publish => publish(store, entry),
        Step::SyncStore => Ok(store.sync().map_err(deepring::Error::into_uncertain)?),
        Step::Unlock => {
            unlock(directory);
            Ok(())
        }
        Step::SyncData | Step::WritePart | Step::AwaitParts | Step::WriteManifest => Ok(()),
    }
}

/// Gives a directory its number. This is the moment. Blocks.
fn publish(store: &Directory, entry: Entry) -> Result<()> {
    let generation = entry.number();
    match store.rename(entry.to_string(), store, Entry::Generation(generation).to_string()) {
        Err(error) if error.code() == "EEXIST" => Err(taken(generation)),
        renamed => Ok(renamed?),
    }
}

/// The error of a number that cannot be given.
pub(super) fn taken(generation: u64) -> Error {
    Error::Conflict { generation, detail: "something has the name of the generation".into() }
}

/// Removes the locks of a generation. What cannot be removed stays: nothing looks at it. Blocks.
fn unlock(directory: &Directory) {
    for name in directory.names().unwrap_or_default() {
        if matches!(name.to_str().and_then(Member::parse), Some(Member::Lock(_))) {
            let _ = directory.remove_file(name);
        }
    }
}

/// A small file that is written, and has no name yet.
#[derive(Debug)]
pub(super) struct Unnamed {
    file: Replacement,
    durable: bool,
}

/// What such a file is to be: its path, its bytes, and whether it is flushed.
pub(super) type Small = (PathBuf, Vec<u8>, bool);

impl Unnamed {
    /// Makes and writes files, side by side.
    pub(super) async fn write_all(engine: &Engine, files: Vec<Small>) -> Result<Vec<Self>> {
        let started = |(path, bytes, durable): Small| {
            // It is flushed before it is committed, which writes it at once. Past the cache, its end would be written for itself.
            let options = ReplaceOptions::new().size(bytes.len() as u64).keep_existing(true).sync_directory(false).durable(false);
            (engine.replace(path, options.direct(Direct::Never)), bytes, durable)
        };
        let begun: Vec<_> = files.into_iter().map(started).collect();
        let (mut made, mut failed) = (Vec::with_capacity(begun.len()), None);
        for (task, bytes, durable) in begun {
            match task.await {
                Ok(file) => made.push((file.file().write_at(bytes, 0), Self { file, durable })),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let mut written = Vec::with_capacity(made.len());
        for (write, file) in made {
            failed = failed.or(write.await.ok().err());
            written.push(file);
        }
        let Some(error) = failed else { return Ok(written) };
        for file in written {
            file.abandon().await;
        }
        Err(error.into())
    }

    /// Begins to flush it.
    pub(super) fn flush(&self) -> Option<Task<()>> {
        self.durable.then(|| self.file.flush())
    }

    /// Gives it its name.
    pub(super) async fn name(self) -> Result<()> {
        Ok(self.file.commit().await?)
    }

    /// Removes it.
    pub(super) async fn abandon(self) {
        // The caller has an error that made this necessary.
        let _ = self.file.abandon().await;
    }
}

/// Makes a small file, which is flushed before it has its name.
pub(super) async fn write_file(engine: &Engine, path: &Path, bytes: Vec<u8>) -> Result<()> {
    for file in Unnamed::write_all(engine, vec![(path.to_owned(), bytes, true)]).await? {
        if let Some(flush) = file.flush()
            && let Err(error) = flush.await
        {
            file.abandon().await;
            return Err(error.into());
        }
        file.name().await?;
    }
    Ok(())
}
