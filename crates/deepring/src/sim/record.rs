//! [`Record`]: what changed the names below a directory and what was flushed there, for tests that replay a power cut after
//! each call. The calls themselves go to the real file system.

use crate::sys::Errno;
use crate::sys::record::{Entry, Note};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A call that has succeeded. Paths are those that the files had then, relative to the directory of the record, which itself
/// is the empty path; what lies outside is absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// A file was created, empty.
    Create(PathBuf),
    /// The bytes and the metadata of a file were flushed.
    SyncFile(PathBuf),
    /// An entry got another name.
    Rename(PathBuf, PathBuf),
    /// The names in a directory were flushed.
    SyncDirectory(PathBuf),
    /// A directory was made.
    MakeDirectory(PathBuf),
    /// The file with the first name got the second one, too.
    Link(PathBuf, PathBuf),
    /// A name of a file was removed.
    RemoveFile(PathBuf),
    /// An empty directory was removed.
    RemoveDirectory(PathBuf),
}

/// The calls of [`Replacement`](crate::Replacement), [`Engine::sync_directory`](crate::Engine::sync_directory) and
/// [`Directory`](crate::Directory) below one directory, in the order in which they were made, until this is dropped. While
/// there is a record, the whole process makes these calls one after the other.
#[derive(Debug)]
pub struct Record(Arc<Book>);

#[derive(Debug)]
struct Book {
    directory: PathBuf,
    calls: Mutex<Vec<Recorded>>,
}

static BOOKS: Mutex<Vec<Arc<Book>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a record of what happens below a directory.
///
/// # Errors
/// The directory does not exist.
pub fn record(directory: impl AsRef<Path>) -> std::io::Result<Record> {
    let book = Arc::new(Book { directory: directory.as_ref().canonicalize()?, calls: Mutex::default() });
    lock(&BOOKS).push(Arc::clone(&book));
    Ok(Record(book))
}

impl Record {
    /// The calls up to now.
    #[must_use]
    pub fn calls(&self) -> Vec<Recorded> {
        lock(&self.0.calls).clone()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        lock(&BOOKS).retain(|book| !Arc::ptr_eq(book, &self.0));
    }
}

/// Makes a call. If it succeeds, every record that it concerns has it before the next call is made.
pub(crate) fn noted<T>(note: Note<'_>, make: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let books = lock(&BOOKS);
    if books.is_empty() {
        // Without a record, calls are made side by side.
        drop(books);
        return make();
    }
    make().inspect(|_| books.iter().for_each(|book| book.enter(note)))
}

impl Book {
    fn enter(&self, note: Note<'_>) {
        let (one, other) = match note {
            Note::SyncFile(fd) | Note::SyncDirectory(fd) => (path_of(fd), None),
            Note::Create(entry) | Note::MakeDirectory(entry) | Note::RemoveFile(entry) | Note::RemoveDirectory(entry) => {
                (path_of_entry(entry), None)
            }
            Note::Rename(from, to) | Note::Link(from, to) => (path_of_entry(from), Some(path_of_entry(to))),
        };
        let is_inside = |path: &PathBuf| path.starts_with(&self.directory);
        if !is_inside(&one) && !other.as_ref().is_some_and(is_inside) {
            return;
        }
        let (one, other) = (self.relative(one), self.relative(other.unwrap_or_default()));
        lock(&self.calls).push(match note {
            Note::Create(_) => Recorded::Create(one),
            Note::SyncFile(_) => Recorded::SyncFile(one),
            Note::Rename(..) => Recorded::Rename(one, other),
            Note::SyncDirectory(_) => Recorded::SyncDirectory(one),
            Note::MakeDirectory(_) => Recorded::MakeDirectory(one),
            Note::Link(..) => Recorded::Link(one, other),
            Note::RemoveFile(_) => Recorded::RemoveFile(one),
            Note::RemoveDirectory(_) => Recorded::RemoveDirectory(one),
        });
    }

    fn relative(&self, path: PathBuf) -> PathBuf {
        path.strip_prefix(&self.directory).map(Path::to_path_buf).unwrap_or(path)
    }
}

/// What the system calls an open file now. Without procfs there is no name, and nothing is below a directory.
fn path_of(fd: &OwnedFd) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

fn path_of_entry((directory, name): Entry<'_>) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    path_of(directory).join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}
