//! [`FileLock`]: a lock on a file of a directory.

use super::{Directory, entry};
use crate::error::{Error, Result};
use crate::sys::file::Access;
use crate::sys::lock::Kind;
use crate::sys::{Errno, file, flock, stat};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often a file is opened again because its name has gone to another one meanwhile.
const OPENINGS_MAX: u32 = 1000;

/// What a [`FileLock`] keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Exclusive locks.
    Shared,
    /// Every other lock.
    Exclusive,
}

impl From<LockKind> for Kind {
    fn from(lock: LockKind) -> Self {
        match lock {
            LockKind::Shared => Self::Shared,
            LockKind::Exclusive => Self::Exclusive,
        }
    }
}

/// An advisory lock on a file (`flock`), by [`Directory::lock`] or [`Directory::try_lock`], or on a directory, by
/// [`Directory::lock_entries`]. It is released when the value is dropped, and when the process ends, however it ends. It stays
/// with the file when that, or its directory, is renamed or removed.
///
/// Each value is an owner of its own, also within a process. What a process forks keeps the lock while both live, until the
/// parent drops it; a drop in the child releases nothing.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct FileLock {
    file: OwnedFd,
    /// The process that took it.
    process: u32,
}

impl Directory {
    /// Locks a file, unless others hold a lock that keeps this one out: then there is none. With `create`, a file that is
    /// missing is created, empty. The lock is on the file that has the name when the call returns.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `open`: `ENOENT` without `create`, `ELOOP` of a link, `EACCES`, `EROFS`;
    /// with syscall `flock`: `ENOLCK`, `EOPNOTSUPP` if the file system has no locks, and on some file servers `EBADF` for an
    /// exclusive lock on a file that may not be written.
    pub fn try_lock(&self, name: impl AsRef<OsStr>, lock: LockKind, create: bool) -> Result<Option<FileLock>> {
        self.lock_by(name.as_ref(), lock, create, flock::try_lock)
    }

    /// As [`Directory::try_lock`], and waits until it has the lock. What waits cannot be canceled.
    ///
    /// # Errors
    /// Those of [`Directory::try_lock`].
    pub fn lock(&self, name: impl AsRef<OsStr>, lock: LockKind, create: bool) -> Result<FileLock> {
        let name = name.as_ref();
        let locked = self.lock_by(name, lock, create, |fd, kind| flock::lock(fd, kind).map(|()| true))?;
        locked.ok_or_else(|| self.failed(libc::EWOULDBLOCK, "flock", name))
    }

    /// Locks the directory itself, and waits until it has the lock. It keeps out others that lock it so, and nothing else: for
    /// programs that agree to change names in a directory one at a time. Reading and writing its files needs no lock.
    ///
    /// The lock goes with the directory when that is renamed or removed: a name that is looked up from this value is in the
    /// directory that is locked.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `open`: `ENOENT` if it was removed, `EACCES` if it may not be read; with
    /// syscall `flock`: `ENOLCK`, `EOPNOTSUPP`, and on some file servers `EBADF`, if the file system has no locks on directories.
    ///
    /// ```
    /// use deepring::{Directory, LockKind};
    /// # let place = tempfile::tempdir().unwrap();
    /// let directory = Directory::open(place.path())?;
    /// let lock = directory.lock_entries(LockKind::Exclusive)?;
    /// if directory.stat("epoch").is_err() {
    ///     std::fs::write(place.path().join("epoch"), b"1").unwrap(); // no other holder of the lock has done so
    /// }
    /// drop(lock);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn lock_entries(&self, lock: LockKind) -> Result<FileLock> {
        let failed = |errno, call| Error::os(errno, call).at(&self.path);
        let file = file::open_directory(Some(&self.fd), c".").map_err(|errno| failed(errno, "open"))?;
        flock::lock(&file, lock.into()).map_err(|errno| failed(errno, "flock"))?;
        Ok(FileLock { file, process: std::process::id() })
    }

    fn lock_by(
        &self,
        name: &OsStr,
        lock: LockKind,
        create: bool,
        take: impl Fn(&OwnedFd, Kind) -> std::result::Result<bool, Errno>,
    ) -> Result<Option<FileLock>> {
        let kind = lock.into();
        let entry = entry(name).map_err(|errno| self.failed(errno, "open", name))?;
        for _ in 0..OPENINGS_MAX {
            let file = match self.open_to_lock(&entry, kind, create) {
                // Another process has created it in this moment.
                Err(libc::EEXIST) => continue,
                opened => opened.map_err(|errno| self.failed(errno, "open", name))?,
            };
            let lock = FileLock { file, process: std::process::id() };
            if !take(&lock.file, kind).map_err(|errno| self.failed(errno, "flock", name))? {
                return Ok(None);
            }
            // A file that was removed meanwhile keeps out nobody who comes later.
            if stat::is_entry(&lock.file, &*self.fd, &entry) {
                return Ok(Some(lock));
            }
        }
        Err(self.failed(libc::ESTALE, "flock", name).advise("other processes go on replacing the file"))
    }

    fn open_to_lock(&self, entry: &CStr, kind: Kind, create: bool) -> std::result::Result<OwnedFd, Errno> {
        // File servers lock only what may be written. Elsewhere reading is enough.
        let access = if kind == Kind::Shared { Access::Read } else { Access::ReadWrite };
        match file::open_to_lock(&self.fd, entry, access, false) {
            Err(libc::ENOENT) if create => file::open_to_lock(&self.fd, entry, access, true),
            Err(libc::EACCES | libc::EPERM | libc::EROFS) if kind == Kind::Exclusive => {
                file::open_to_lock(&self.fd, entry, Access::Read, false)
            }
            opened => opened,
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Not by closing alone: a forked child can have a copy of the descriptor.
        if self.process == std::process::id() {
            flock::unlock(&self.file);
        }
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
