//! Copies and renames: a second name for the same file, which no put ever writes to again. Where the file system has no
//! second names, or not for this file, the bytes are copied.

use crate::directories::open_made;
use crate::failure::{Failure, Kind, Use};
use crate::held::Held;
use crate::names::staged_link;
use crate::publish::Condition;
use crate::settings::Settings;
use crate::stats::add;
use crate::store::DeepringStore;
use deepring::{Directory, OpenOptions};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// What file systems say that have no second names, or not for this file: it is on another one, has as many as it can, or is
/// another user's.
const NO_LINK: [i32; 5] = [libc::EXDEV, libc::EMLINK, libc::EPERM, libc::EOPNOTSUPP, libc::ENOSYS];

/// What is done with what has the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Overwrite,
    Create,
}

/// How the file system was able to do it.
enum Done {
    Yes,
    /// It cannot: the bytes must be copied.
    Not,
}

/// An object that gets another name.
struct Source {
    /// Where its file is, links resolved.
    file: PathBuf,
    /// Where its name is.
    name: PathBuf,
    numbers: (u64, u64),
}

impl DeepringStore {
    /// Gives an object a second name.
    pub(crate) async fn copy_object(&self, from: &str, to: &str, target: Target) -> Result<(), Failure> {
        let (from, to) = (self.file_of(from)?, self.file_of(to)?);
        let (source, new) = (from.clone(), to.clone());
        let done = self.job(&from, move |store| store.link(&Source::find(&source)?, &new, target)).await;
        match done.map_err(|failure| self.count_lost(failure))? {
            Done::Yes => {}
            Done::Not => self.copy_bytes(&from, &to, target).await?,
        }
        add(&self.counters().copies, 1);
        Ok(())
    }

    /// Gives an object a new name instead of its old one.
    pub(crate) async fn rename_object(&self, from: &str, to: &str, target: Target) -> Result<(), Failure> {
        let (old, new) = (self.file_of(from)?, self.file_of(to)?);
        let (source, file) = (old.clone(), new.clone());
        let done = self.job(&old, move |store| store.move_name(&Source::find(&source)?, &file, target)).await;
        match done.map_err(|failure| self.count_lost(failure))? {
            Done::Yes => {}
            Done::Not => {
                self.copy_bytes(&old, &new, target).await?;
                self.remove(vec![from.to_owned()]).await.pop().unwrap_or(Ok(()))?;
            }
        }
        add(&self.counters().copies, 1);
        Ok(())
    }

    /// Blocks.
    fn link(&self, source: &Source, to: &Path, target: Target) -> Result<Done, Failure> {
        let settings = self.settings();
        let (from, to_directory) = self.prepare(source.file.as_path(), source, to)?;
        let (old, new) = (last(&source.file), last(to));
        let made = match target {
            Target::Create => {
                let held = Held::take(settings.locking, &[&to_directory], self.counters());
                let made = from.link(old, &to_directory, new);
                drop(held);
                made
            }
            Target::Overwrite => self.link_over(&from, old, &to_directory, new),
        };
        self.finish(made, &NO_LINK, source, to, &[&to_directory])
    }

    /// Takes a name from the object that has it, in one step. Blocks.
    fn link_over(&self, from: &Directory, old: &OsStr, to: &Directory, new: &OsStr) -> deepring::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let staged = loop {
            let staged = staged_link(process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
            match from.link(old, to, &staged) {
                // A process with this number has died and left it.
                Err(error) if error.errno() == Some(libc::EEXIST) => {}
                linked => break linked.map(|()| staged)?,
            }
        };
        let held = Held::take(self.settings().locking, &[to], self.counters());
        let renamed = to.rename_over(&staged, to, new);
        drop(held);
        // Two names of one file: then it was not renamed. Or it failed.
        let _ = to.remove_file(&staged);
        renamed
    }

    /// Blocks.
    fn move_name(&self, source: &Source, to: &Path, target: Target) -> Result<Done, Failure> {
        let settings = self.settings();
        let (from, to_directory) = self.prepare(source.name.as_path(), source, to)?;
        let (old, new) = (last(&source.name), last(to));
        let held = Held::take(settings.locking, &[&from, &to_directory], self.counters());
        let made = if target == Target::Create {
            from.rename(old, &to_directory, new)
        } else if source.name != to && fs::metadata(to).is_ok_and(|found| (found.dev(), found.ino()) == source.numbers) {
            // Two names of one file: renaming one over the other does nothing.
            from.remove_file(old)
        } else {
            from.rename_over(old, &to_directory, new)
        };
        drop(held);
        self.finish(made, &[libc::EXDEV], source, to, &[&to_directory, &from])
    }

    /// Opens both directories, and flushes the object: what put it may not have.
    fn prepare(&self, old: &Path, source: &Source, to: &Path) -> Result<(Directory, Directory), Failure> {
        let synced = self.settings().is_synced();
        if synced {
            let flushed = File::open(&source.file).and_then(|file| file.sync_all());
            flushed.map_err(|error| Failure::of_io(error, &source.file, Use::Finds))?;
        }
        let from = Directory::open(above(old)).map_err(|error| Failure::of(error, old, Use::Finds))?;
        let to = open_made(above(to), synced).map_err(|error| Failure::of(error, to, Use::Makes))?;
        Ok((from, to))
    }

    /// Flushes the directories if the name was given, else says what that means: with a number of `unable`, that the bytes must
    /// be copied.
    fn finish(
        &self,
        made: deepring::Result<()>,
        unable: &[i32],
        source: &Source,
        to: &Path,
        changed: &[&Directory],
    ) -> Result<Done, Failure> {
        if let Err(error) = made {
            return match error.errno() {
                Some(errno) if unable.contains(&errno) => Ok(Done::Not),
                Some(libc::ENOENT) => Err(Failure::of(error, &source.name, Use::Finds)),
                _ => Err(Failure::of(error, to, Use::Makes)),
            };
        }
        if self.settings().is_synced() {
            for directory in changed {
                directory.sync().map_err(|error| Failure::of(error.into_uncertain(), to, Use::Makes))?;
            }
        }
        Ok(Done::Yes)
    }

    /// Copies the bytes of an object, a chunk at a time.
    async fn copy_bytes(&self, from: &Path, to: &Path, target: Target) -> Result<(), Failure> {
        let Settings { direct, chunk, .. } = *self.settings();
        let source = self.engine().open_async(from, OpenOptions::new().read(true).direct(direct)).await;
        let source = source.map_err(|error| Failure::of(error, from, Use::Finds))?;
        let size = source.stat_at_open().size;
        let condition = if target == Target::Create { Condition::Absent } else { Condition::None };
        let replacement = self.begin(to, size, &condition).await?;
        for part in crate::ranges::chunks(0..size, chunk) {
            let copied = async {
                let buffer = source.read_buffer_at(part.start, (part.end - part.start) as usize).await.ok();
                let (buffer, receipt) = buffer.map_err(|error| Failure::of(error, from, Use::Finds))?;
                if receipt.bytes < part.end - part.start {
                    return Err(Failure::new(Kind::Other, from, "the object became shorter while it was copied"));
                }
                let written = replacement.file().write_at(buffer, part.start).await.ok();
                written.map(drop).map_err(|error| Failure::of(error, to, Use::Makes))
            };
            if let Err(failure) = copied.await {
                return Err(self.abandon(replacement, failure).await);
            }
        }
        self.commit(replacement, to, condition).await.map(drop)
    }
}

impl Source {
    /// Blocks.
    fn find(name: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::of_io(error, name, Use::Finds);
        let found = fs::metadata(name).map_err(failed)?;
        if !found.is_file() {
            return Err(Failure::new(Kind::NotFound, name, "there is a directory, or something else that is no file"));
        }
        // A second name of a link would be one of the link itself.
        let is_link = fs::symlink_metadata(name).map_err(failed)?.is_symlink();
        let file = if is_link { fs::canonicalize(name).map_err(failed)? } else { name.to_owned() };
        Ok(Self { file, name: name.to_owned(), numbers: (found.dev(), found.ino()) })
    }
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn last(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}
