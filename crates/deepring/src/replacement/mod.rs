//! [`Replacement`]: a new file that takes the place of an old one, whole or not at all. Nothing else in deepring replaces a
//! file.
//!
//! ```text
//!   replace ──► open the directory ──► create .NAME.PID-N.tmp ──► reserve       (the caller writes)
//!   commit  ──► writes have ended ──► mode of the old file ──► flush the file ──► rename ──► flush the directory
//! ```
//!
//! The order is the point. Before the rename, a failure and a power cut leave the old file as it was; a failure removes the
//! temporary file, a power cut or `kill -9` can leave it. The file is flushed before it gets the name, so whatever has the
//! name is whole. What fails after the rename is [`ErrorKind::Uncertain`]: the new file is there, but a power cut can bring
//! the old one back.
//!
//! All calls start from the descriptor of the directory, so that neither a directory that is moved nor another working
//! directory leads them elsewhere. They go through [`Calls`], whose record `replay` cuts at every point.

mod options;
mod place;
#[cfg(all(test, not(loom)))]
mod replay;

use crate::blocking::Line;
use crate::config::END_MAX;
use crate::directory::Directory;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{self, File};
use crate::file_stat::FileStat;
use crate::op::Task;
use crate::open::shortage::Patience;
use crate::open::{self, Direct, Name, OpenFile};
use crate::planted::{PlantedBug, planted};
use crate::stats::add;
use crate::sys::replace::{Calls, Kernel};
use crate::sys::stat::stat;
use crate::sys::{Errno, file as sys};
use crate::unwind::contain;
use place::Place;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

pub use options::{ReplaceOptions, TemporaryNames};

/// The mode of a temporary file that takes over that of an old one: until it has it, no other user can read what is written.
const PRIVATE: u32 = 0o600;

/// A new file that is being written, and takes the place of `path` when it is committed. Made by [`Engine::replace`].
///
/// Dropped, it is abandoned, without blocking: a blocking thread removes the temporary file. The drop of the last engine
/// waits for that. In a forked child nothing is removed.
#[must_use = "nothing is replaced without a commit"]
pub struct Replacement {
    file: File,
    // Declared behind the file: its engine is the last to go, when the removal has been queued.
    temporary: Temporary,
    options: ReplaceOptions,
}

impl Engine {
    /// Begins to replace the file at `path`, or to create it: makes a temporary file beside it, on a blocking thread. Write
    /// all of [`Replacement::file`], then [commit](Replacement::commit). Until then `path` is the old file, and programs that
    /// have it open keep it afterwards, too.
    ///
    /// The new file has the permission bits of the old one (the lower nine); its owner, access lists and extended attributes
    /// are those of any new file. A symbolic link is replaced itself, not what it leads to. Other names of a file (hard links)
    /// keep the old bytes. The temporary file is `.NAME.PID-N.tmp`, where a long name is cut; only a process that is killed, or
    /// a power failure, leaves one behind.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`] with syscall `open`: `EISDIR` for a directory, `ENOENT` if the directory of `path` is
    /// missing, `EACCES` and `EROFS` if nothing can be created there, `EEXIST` with
    /// [`keep_existing`](ReplaceOptions::keep_existing); with syscall `fallocate`: `ENOSPC`, `EDQUOT`, `EFBIG` if
    /// [`size`](ReplaceOptions::size) bytes cannot be reserved. [`ErrorKind::Unsupported`] for a device, a pipe or a socket. And
    /// those of [`Engine::open`]. After every one of them, `path` is as it was and no temporary file is left.
    ///
    /// ```
    /// use deepring::{Engine, ReplaceOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// # std::fs::write(&path, b"old").unwrap();
    /// let engine = Engine::builder().build()?;
    /// let replacement = engine.replace(&path, ReplaceOptions::new().size(5000)).wait()?; // or .await
    /// replacement.file().write_at(vec![7u8; 5000], 0).wait().ok()?;
    /// assert_eq!(std::fs::read(&path).unwrap(), b"old");
    /// replacement.commit().wait()?; // from here on it outlives a power failure
    /// assert_eq!(std::fs::read(&path).unwrap(), vec![7; 5000]);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn replace(&self, path: impl AsRef<Path>, options: ReplaceOptions) -> Task<Replacement> {
        self.replace_by(&Kernel, path.as_ref(), options)
    }

    /// Replaces the file at `path` by a small one of these bytes, one behind the other, in a single job on a blocking thread:
    /// through the page cache, which takes small files faster than the device does. What it does, and in which order, is what
    /// [`Engine::replace`], a write and [`Replacement::commit_when`] do, and so are `admit`, the value and the errors. Of the
    /// options, [`size`](ReplaceOptions::size) and [`direct`](ReplaceOptions::direct) do not count.
    ///
    /// Dropping the task does not cancel it.
    ///
    /// # Errors
    /// Of the task: those of [`Engine::replace`] and [`Replacement::commit_when`], and [`ErrorKind::Os`] with syscall `write`.
    ///
    /// ```
    /// use deepring::{Engine, ReplaceOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("epoch");
    /// let engine = Engine::builder().build()?;
    /// let replaced = engine.replace_with(&path, vec!["4", "2"], ReplaceOptions::new(), |_, _| Ok::<_, ()>(())).wait()?;
    /// assert_eq!(replaced.map(|stat| stat.size), Ok(2));
    /// assert_eq!(std::fs::read(&path).unwrap(), b"42");
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn replace_with<B: AsRef<[u8]> + Send + 'static, G, E: Send + 'static>(
        &self,
        path: impl AsRef<Path>,
        bytes: Vec<B>,
        options: ReplaceOptions,
        admit: impl FnOnce(&Directory, &FileStat) -> std::result::Result<G, E> + Send + 'static,
    ) -> Task<std::result::Result<FileStat, E>> {
        let (task, end) = Task::new();
        if let Err(error) = self.core().check_process("open") {
            end(Err(error));
            return task;
        }
        let name = Name::of(path.as_ref());
        let line = Line::of_path(&name.path);
        let options = options.size(0).direct(Direct::Never);
        // As in a commit.
        let steps = steps(&options);
        let begin = move |engine: &Self| begin(engine, &name, options, &Kernel).map_err(|error| error.at(&name.path));
        self.attempt(line, begin, Patience::new(), move |begun| {
            let replaced = begun.and_then(|replacement| replacement.finish_with(&bytes, &steps, admit));
            drop(bytes);
            end(replaced);
        });
        task
    }

    fn replace_by(&self, calls: &'static dyn Calls, path: &Path, options: ReplaceOptions) -> Task<Replacement> {
        let (task, end) = Task::new();
        if let Err(error) = self.core().check_process("open") {
            end(Err(error));
            return task;
        }
        let name = Name::of(path);
        let begin = move |engine: &Self| begin(engine, &name, options, calls).map_err(|error| error.at(&name.path));
        self.attempt(Line::of_path(path), begin, Patience::new(), end);
        task
    }

    /// Flushes a directory on a blocking thread, so that the names in it outlive a power failure: after
    /// [commits](Replacement::commit) that [leave it out](ReplaceOptions::sync_directory), or after other programs' renames.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`] with syscall `open` or `fsync`; `ENOTDIR` if it is no directory.
    ///
    /// ```
    /// use deepring::{Engine, ReplaceOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let directory = directory.path();
    /// let engine = Engine::builder().build()?;
    /// for shard in ["first", "second"] {
    ///     let options = ReplaceOptions::new().sync_directory(false);
    ///     let replacement = engine.replace(directory.join(shard), options).wait()?;
    ///     replacement.file().write_at(vec![7u8; 5000], 0).wait().ok()?;
    ///     replacement.commit().wait()?;
    /// }
    /// engine.sync_directory(directory).wait()?; // now both names are safe
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn sync_directory(&self, path: impl AsRef<Path>) -> Task<()> {
        self.sync_directory_by(&Kernel, path.as_ref())
    }

    fn sync_directory_by(&self, calls: &'static dyn Calls, path: &Path) -> Task<()> {
        let (task, end) = Task::new();
        if let Err(error) = self.core().check_process("fsync") {
            end(Err(error));
            return task;
        }
        let name = Name::of(path);
        let flush = move |engine: &Self| flush_directory(engine, &name, calls).map_err(|error| error.at(&name.path));
        self.attempt(Line::of_path(path), flush, Patience::new(), end);
        task
    }
}

/// Blocks.
fn flush_directory(engine: &Engine, name: &Name, calls: &dyn Calls) -> Result<()> {
    engine.core().check_open("fsync")?;
    let (start, path) = name.parts()?;
    let directory = call("open", sys::open_directory(start, &path))?;
    call("fsync", calls.sync_directory(&directory, &directory))
}

/// Makes the temporary file. Blocks.
fn begin(engine: &Engine, name: &Name, options: ReplaceOptions, calls: &'static dyn Calls) -> Result<Replacement> {
    engine.core().check_open("open")?;
    let place = Place::of(name)?;
    let mode = place.old_mode(options.keep_existing, "open")?;
    let first_mode = if mode.is_some() { PRIVATE } else { options.mode };
    let (temporary, fd) = call("open", place.create(calls, options.names, first_mode))?;
    let opened = open::open_created(fd, &place.path, &options.open_options());
    match opened.and_then(|file| reserve(&file, options.size, calls).map(|()| engine.file_of(file))) {
        Ok(file) => {
            let created = Made { file: Arc::clone(file.open_file()), place, name: temporary, mode, calls };
            let temporary = Temporary { engine: engine.clone(), made: Some(Arc::new(created)) };
            Ok(Replacement { file, temporary, options })
        }
        Err(error) => {
            // The caller gets the error that made this necessary.
            let _ = calls.remove(&place.directory, &temporary);
            Err(error)
        }
    }
}

/// Gives a file that nothing else has open its length and, where the file system can reserve, its space.
fn reserve(file: &OpenFile, size: u64, calls: &dyn Calls) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    let failed = |errno| Err(Error::os(errno, "fallocate"));
    if size > END_MAX {
        return failed(libc::EFBIG);
    }
    let _end = file.inode.lock_end();
    match calls.allocate(file.fd(), size) {
        Ok(()) => file.inode.record_allocation(size),
        Err(errno @ (libc::ENOSPC | libc::EDQUOT | libc::EFBIG | libc::EIO)) => return failed(errno),
        Err(_) => {
            call("ftruncate", sys::truncate(file.fd(), size))?;
            file.inode.record_truncation(size);
        }
    }
    Ok(())
}

impl Replacement {
    /// The new file, open for reading and writing. Its [path](File::path) is that of the file it replaces.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path of the file that is replaced, as it was named.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Flushes the new file, once every write that was accepted before has ended, with the mode of the old one, and gives it no
    /// name yet. For files that are flushed side by side and named one after the other: a commit that is not
    /// [durable](ReplaceOptions::durable) then only gives the name, and what has it is whole. The times that
    /// [`stamp`](ReplaceOptions::stamp) sets are those of the commit.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`] with syscall `fchmod`, those of [`File::sync_all`], [`ErrorKind::Canceled`] and
    /// [`ErrorKind::Closed`] if the engine is closed. The temporary file stays.
    ///
    /// ```
    /// use deepring::{Engine, ReplaceOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let directory = directory.path();
    /// let engine = Engine::builder().build()?;
    /// let begin = |name: &str| {
    ///     let replacement = engine.replace(directory.join(name), ReplaceOptions::new().durable(false)).wait()?;
    ///     replacement.file().write_at(vec![7u8; 5000], 0).wait().ok()?;
    ///     Ok::<_, deepring::Error>(replacement)
    /// };
    /// let (weights, index) = (begin("weights")?, begin("index")?);
    /// let flushes = [weights.flush(), index.flush()]; // side by side
    /// flushes.into_iter().try_for_each(|flush| flush.wait())?;
    /// weights.commit().wait()?;
    /// index.commit().wait()?; // whoever sees the index finds the weights
    /// engine.sync_directory(directory).wait()?; // now both names are safe
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn flush(&self) -> Task<()> {
        let (task, end) = Task::new();
        if let Err(error) = self.file.check_open("fsync") {
            end(Err(error));
            return task;
        }
        // It is there until the replacement is consumed.
        let Some(made) = self.temporary.made.clone() else { return task };
        let keep = self.options.keep_existing;
        self.file.after_writes(move |instead| {
            let flushed = match instead {
                None if keep => made.perform(Step::SyncFile, keep),
                None => made.perform(Step::Mode, keep).and_then(|()| made.perform(Step::SyncFile, keep)),
                Some(kind) => Err(Error::new(kind, "fsync")),
            };
            let flushed = flushed.map_err(|error| error.at(&made.place.path));
            // A commit that follows closes the file.
            drop(made);
            end(flushed);
        });
        task
    }

    /// Puts the new file in the place of the old one, once every write that was accepted before has ended: gives it the mode
    /// of the old file, flushes it, renames it, and flushes the directory, on a blocking thread. Then the file is closed,
    /// unless there are clones of it.
    ///
    /// Wait for the writes first: one that has failed does not stop the commit. Dropping the task does not cancel it.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Uncertain`] if only flushing the directory failed: the new file is in place. After every
    /// other error, the old file is as it was and the temporary one is gone: [`ErrorKind::Os`] with syscall `fchmod`, `fsync`
    /// or `rename` (`EEXIST` with [`keep_existing`](ReplaceOptions::keep_existing)), those of [`File::sync_all`],
    /// [`ErrorKind::Canceled`] and [`ErrorKind::Closed`] if the engine is closed.
    pub fn commit(self) -> Task<()> {
        let (task, end) = Task::new();
        let keep = self.options.keep_existing;
        self.commit_by(move |made, steps| made.commit(steps, keep), false, end);
        task
    }

    /// As [`Replacement::commit`], if `admit` agrees: it is called when everything but the names is done, on a blocking thread,
    /// with the directory in which the file takes its name, and with what the file system reports about the new file. What it
    /// returns is dropped as soon as the file has the name, so a lock that it takes is held for the moment in between, and not
    /// while anything is flushed. If it refuses, the old file stays and the temporary one is removed. The task's value is that
    /// report.
    ///
    /// `admit` may block; while it does for long, it counts as a job of
    /// [`Engine::run_blocking`](crate::Engine::run_blocking).
    ///
    /// # Errors
    /// Of the task: those of [`Replacement::commit`], and with syscall `statx` or `futimens`. What `admit` has refused with is in
    /// the value.
    ///
    /// ```
    /// use deepring::{Engine, LockKind, ReplaceOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("epoch");
    /// let engine = Engine::builder().build()?;
    /// let replace = |bytes: &'static [u8], size: Option<u64>| {
    ///     let replacement = engine.replace(&path, ReplaceOptions::new().stamp(true)).wait()?;
    ///     replacement.file().write_at(bytes, 0).wait().ok()?;
    ///     // Only if the file has the size that was seen before.
    ///     let admit = move |directory: &deepring::Directory, _: &deepring::FileStat| {
    ///         let lock = directory.lock_entries(LockKind::Exclusive).ok();
    ///         let found = directory.stat("epoch").ok().map(|stat| stat.size);
    ///         if found == size { Ok(lock) } else { Err(found) }
    ///     };
    ///     Ok::<_, deepring::Error>(replacement.commit_when(admit).wait()?.map(|stat| stat.size))
    /// };
    /// assert_eq!(replace(b"9", None)?, Ok(1));
    /// assert_eq!(replace(b"10", Some(1))?, Ok(2));
    /// assert_eq!(replace(b"10", Some(1))?, Err(Some(2)));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn commit_when<G, E: Send + 'static>(
        self,
        admit: impl FnOnce(&Directory, &FileStat) -> std::result::Result<G, E> + Send + 'static,
    ) -> Task<std::result::Result<FileStat, E>> {
        let (task, end) = Task::new();
        let keep = self.options.keep_existing;
        self.commit_by(move |made, steps| made.commit_when(steps, keep, admit), true, end);
        task
    }

    /// Writes and commits at once. Blocks.
    fn finish_with<B: AsRef<[u8]>, G, E>(
        self,
        bytes: &[B],
        steps: &[Step],
        admit: impl FnOnce(&Directory, &FileStat) -> std::result::Result<G, E>,
    ) -> Result<std::result::Result<FileStat, E>> {
        let Self { file, mut temporary, options } = self;
        let Some(made) = temporary.made.take() else { return Err(Error::new(ErrorKind::Canceled, "rename")) };
        let written = made.write(bytes).and_then(|()| file.check_open("rename"));
        let replaced = match written {
            Ok(()) => made.contained(file.engine(), |made| made.commit_when(steps, options.keep_existing, admit)),
            Err(error) => Err(made.give_up(error)),
        };
        // Closed before the task ends; the engine is the last to go.
        drop((made, file));
        replaced
    }

    /// Commits by this function, which gets the steps. Of one that can wait for other programs, `waits` is true.
    fn commit_by<T: Send + 'static>(
        self,
        commit: impl FnOnce(&Made, &[Step]) -> Result<T> + Send + 'static,
        waits: bool,
        end: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let Self { file, mut temporary, options } = self;
        // Here, and not where they are made: a planted bug is the calling thread's.
        let steps = steps(&options);
        if let Err(error) = file.check_open("rename") {
            return temporary.discard(move |_| end(Err(error)));
        }
        // It is there until the replacement is consumed, which happens here.
        let Some(made) = temporary.made.take() else { return };
        let engine = file.engine().clone();
        file.after_writes(move |instead| {
            let run = move |made: &Made| match instead {
                None => commit(made, &steps),
                Some(kind) => Err(made.give_up(Error::new(kind, "rename"))),
            };
            if !waits {
                let result = run(&made);
                // Closed before the task ends. The engine lives until then, though the caller may have no other clone.
                drop((made, engine));
                return end(result);
            }
            // Not here: what waits for another program must not keep flushes of this file system waiting.
            let running = engine.clone();
            engine.run_on(Line::CALLER, move || {
                let result = made.contained(&running, run);
                drop((made, running));
                end(result);
            });
        });
    }

    /// Removes the temporary file and leaves the old one as it is, on a blocking thread.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`] with syscall `unlink`; [`ErrorKind::Forked`].
    pub fn abandon(self) -> Task<()> {
        let (task, end) = Task::new();
        let Self { file, mut temporary, .. } = self;
        let engine = file.engine().clone();
        // Before the removal is queued: the last descriptor must be closed there, which can take long.
        drop(file);
        temporary.discard(move |removed| {
            drop(engine);
            end(removed);
        });
        task
    }
}

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replacement").field("path", &self.path()).field("options", &self.options).finish_non_exhaustive()
    }
}

/// One step of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Mode,
    Stamp,
    SyncFile,
    Rename,
    SyncDirectory,
}

/// The steps of a commit. Each has succeeded before the next begins.
fn steps(options: &ReplaceOptions) -> Vec<Step> {
    let mut steps = Vec::with_capacity(5);
    if !options.keep_existing {
        steps.push(Step::Mode);
    }
    if options.stamp {
        steps.push(Step::Stamp);
    }
    if options.durable && !planted(PlantedBug::ForgetsFileSync) {
        steps.push(Step::SyncFile);
    }
    steps.push(Step::Rename);
    if options.durable && options.sync_directory && !planted(PlantedBug::ForgetsDirectorySync) {
        steps.push(Step::SyncDirectory);
    }
    if planted(PlantedBug::RenamesFirst) {
        steps.sort_by_key(|&step| matches!(step, Step::SyncFile));
    }
    steps
}

/// The temporary file, which goes with this value unless it was taken out.
struct Temporary {
    engine: Engine,
    /// A flush has it, too.
    made: Option<Arc<Made>>,
}

/// A temporary file.
struct Made {
    file: Arc<OpenFile>,
    place: Place,
    /// Its name in the directory of the place.
    name: CString,
    /// That of the old file when this one was made.
    mode: Option<u32>,
    calls: &'static dyn Calls,
}

impl Temporary {
    /// Removes the file on a blocking thread, and passes the result to `then` there.
    fn discard(&mut self, then: impl FnOnce(Result<()>) + Send + 'static) {
        let Some(made) = self.made.take() else { return then(Ok(())) };
        if let Err(error) = self.engine.core().check_process("unlink") {
            // The file is the parent's.
            return then(Err(error.at(&made.place.path)));
        }
        self.engine.run_on(Line::Mount(made.file.fate), move || {
            let removed = made.remove();
            drop(made);
            then(removed);
        });
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A caller that needs the result calls `abandon`.
        self.discard(drop);
    }
}

impl Made {
    /// Writes a file that is empty, through the page cache. Blocks.
    fn write<B: AsRef<[u8]>>(&self, bytes: &[B]) -> Result<()> {
        let failed = |error: io::Error| Error::os(error.raw_os_error().unwrap_or(libc::EIO), "write");
        let plain = std::fs::File::from(self.file.fd().try_clone().map_err(failed)?);
        let mut end = 0;
        for part in bytes.iter().map(AsRef::as_ref) {
            plain.write_all_at(part, end).map_err(failed)?;
            end += part.len() as u64;
        }
        let _end = self.file.inode.lock_end();
        self.file.inode.record_allocation(end);
        Ok(())
    }

    /// Blocks.
    fn commit(&self, steps: &[Step], keep_existing: bool) -> Result<()> {
        let mut is_renamed = false;
        for &step in steps {
            match self.perform(step, keep_existing) {
                Ok(()) => is_renamed |= step == Step::Rename,
                Err(error) if is_renamed => return Err(error.into_uncertain().at(&self.place.path)),
                Err(error) => return Err(self.give_up(error)),
            }
        }
        Ok(())
    }

    /// Runs a commit with code of the caller's in it: if that panics, nothing is left.
    fn contained<T>(&self, engine: &Engine, commit: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        contain(|| commit(self)).unwrap_or_else(|| {
            add(&engine.core().counters.panics, 1);
            Err(self.give_up(Error::new(ErrorKind::Panicked, "rename")))
        })
    }

    /// As [`Self::commit`], with what admits the new file before it takes its name. Blocks.
    fn commit_when<G, E>(
        &self,
        steps: &[Step],
        keep_existing: bool,
        admit: impl FnOnce(&Directory, &FileStat) -> std::result::Result<G, E>,
    ) -> Result<std::result::Result<FileStat, E>> {
        let rename = steps.iter().position(|&step| step == Step::Rename).unwrap_or(steps.len());
        let (before, after) = steps.split_at(rename);
        let renaming = &after[..after.len().min(1)];
        for &step in before {
            self.perform(step, keep_existing).map_err(|error| self.give_up(error))?;
        }
        let found = call("statx", stat(self.file.fd())).map_err(|error| self.give_up(error))?;
        let found = FileStat::of(&found, found.size);
        let place = self.place.path.parent().unwrap_or(&self.place.path);
        match admit(&Directory::of(Arc::clone(&self.place.directory), place.into()), &found) {
            Err(refusal) => {
                // The caller knows why.
                let _ = self.remove();
                return Ok(Err(refusal));
            }
            Ok(guard) => {
                let renamed = self.commit(renaming, keep_existing);
                drop(guard);
                renamed?;
            }
        }
        for &step in &after[renaming.len()..] {
            self.perform(step, keep_existing).map_err(|error| error.into_uncertain().at(&self.place.path))?;
        }
        Ok(Ok(found))
    }

    fn perform(&self, step: Step, keep_existing: bool) -> Result<()> {
        let Self { file, place, name, calls, .. } = self;
        match step {
            Step::Mode => self.take_over_mode(place.old_mode(false, "rename")?.or(self.mode)),
            Step::Stamp => {
                let now = moment();
                call("futimens", sys::set_times(file.fd(), now, now))
            }
            Step::SyncFile => file::flush(file, "fsync", |fd| calls.sync(fd)),
            Step::Rename => call("rename", calls.rename(&place.directory, name, &place.name, keep_existing)),
            Step::SyncDirectory => call("fsync", calls.sync_directory(&place.directory, file.fd())),
        }
    }

    /// Gives the file this mode, unless it has it: where a file system has one mode for all files, it cannot be set.
    fn take_over_mode(&self, mode: Option<u32>) -> Result<()> {
        let Some(mode) = mode else { return Ok(()) };
        let has = call("statx", stat(self.file.fd()))?.mode & 0o777;
        if has == mode { Ok(()) } else { call("fchmod", self.calls.set_mode(self.file.fd(), mode)) }
    }

    /// Removes the file because of this error.
    fn give_up(&self, error: Error) -> Error {
        // The caller gets the error that made this necessary.
        let _ = self.remove();
        error.at(&self.place.path)
    }

    fn remove(&self) -> Result<()> {
        match self.calls.remove(&self.place.directory, &self.name) {
            // Another program has cleaned up.
            Ok(()) | Err(libc::ENOENT) => Ok(()),
            Err(errno) => Err(Error::os(errno, "unlink").at(&self.place.path)),
        }
    }
}

/// The time in nanoseconds since 1970, later than each time before: also where the clock is coarse, or was set back.
fn moment() -> i128 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let later = |last: u64| now.max(last + 1);
    let (Ok(last) | Err(last)) = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(later(last)));
    later(last).into()
}

/// Names the call that has failed.
fn call<T>(name: &'static str, result: std::result::Result<T, Errno>) -> Result<T> {
    result.map_err(|errno| Error::os(errno, name))
}
