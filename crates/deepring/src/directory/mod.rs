//! [`Directory`]: an open directory, and calls on its entries.
//!
//! Every call starts from the descriptor, so that neither a directory that is moved nor another working directory leads it
//! elsewhere, and names are single entries, so that no link in between does. [`entry`] is the one place that checks them.

mod lock;

use crate::error::{Error, Result};
use crate::file_stat::FileStat;
use crate::sys::replace::{Calls, Kernel};
use crate::sys::{Errno, directory as sys, file, stat};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

pub use lock::{FileLock, LockKind};

/// How deep [`Directory::remove_tree`] goes: a descriptor is open for each level.
const DEPTH_MAX: u32 = 64;

/// How often a directory is emptied into which others make entries meanwhile.
const EMPTIED_MAX: u32 = 64;

/// An open directory. Clones share its descriptor.
///
/// The calls block, as those of [`std::fs`] do; run them in [`Engine::run_blocking`](crate::Engine::run_blocking). They need
/// no engine, and work in a forked child, too.
///
/// A name is a single entry of the directory. An empty name, `.`, `..`, and one with a `/` or a NUL byte is `EINVAL` before
/// anything is called. A symbolic link that has the name is not followed, except by [`Directory::open`]. Errors carry the
/// path that the directory was opened with and the name, also if the directory has been moved since.
///
/// ```
/// use deepring::{Directory, LockKind};
/// # let place = tempfile::tempdir().unwrap();
/// # let path = place.path();
/// let models = Directory::open(path)?;
/// let draft = models.make_directory("draft", 0o777)?;
/// std::fs::write(draft.path().join("weights"), b"7777").unwrap();
/// let lock = draft.lock("in-progress", LockKind::Exclusive, true)?;
/// assert!(draft.try_lock("in-progress", LockKind::Shared, false)?.is_none());
///
/// draft.sync()?; // the names in it are safe
/// models.rename("draft", &models, "final")?; // all of it is there at once
/// models.sync()?; // and stays there
/// drop(lock);
///
/// assert_eq!(models.names()?, ["final"]);
/// let error = models.make_directory("final", 0o777).unwrap_err();
/// assert_eq!((error.code(), error.path()), ("EEXIST".into(), Some(&*path.join("final"))));
/// models.remove_tree("final")?;
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Clone)]
pub struct Directory {
    fd: Arc<OwnedFd>,
    path: Arc<Path>,
}

impl Directory {
    /// Opens a directory. Links in the path are followed.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `open`: `ENOENT`, `ENOTDIR`, and `EACCES` if it may not be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = Arc::from(path.as_ref());
        let terminated = CString::new(Path::as_os_str(&path).as_bytes()).map_err(|_| libc::EINVAL);
        match terminated.and_then(|terminated| file::open_directory(None, &terminated)) {
            Ok(fd) => Ok(Self { fd: Arc::new(fd), path }),
            Err(errno) => Err(Error::os(errno, "open").at(&path)),
        }
    }

    /// The directory of a descriptor that is open already.
    pub(crate) fn of(fd: Arc<OwnedFd>, path: Arc<Path>) -> Self {
        Self { fd, path }
    }

    /// As it was named; of a directory that was opened from another, that one's path with the name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all entries, in the order of the file system, without `.` and `..`. An entry that is made or removed
    /// meanwhile can be there or not.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `readdir`.
    pub fn names(&self) -> Result<Vec<OsString>> {
        // A descriptor of its own has a position of its own.
        let listed = file::open_directory(Some(&self.fd), c".").and_then(|fd| sys::list(&fd, usize::MAX));
        let names = listed.map_err(|errno| Error::os(errno, "readdir").at(&self.path))?;
        Ok(names.into_iter().map(|name| OsString::from_vec(name.into_bytes())).collect())
    }

    /// Reads a small file: all of it, or its first `bytes_max` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `open`: `ENOENT`, `ELOOP` of a link, `EACCES`, `EMFILE`; with syscall
    /// `read`: `EISDIR`, `EIO`.
    ///
    /// ```
    /// # let place = tempfile::tempdir().unwrap();
    /// let directory = deepring::Directory::open(place.path())?;
    /// std::fs::write(place.path().join("epoch"), b"42").unwrap();
    /// assert_eq!(directory.read("epoch", 16)?, b"42");
    /// assert_eq!(directory.read("epoch", 1)?, b"4");
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn read(&self, name: impl AsRef<OsStr>, bytes_max: u64) -> Result<Vec<u8>> {
        let name = name.as_ref();
        let file = File::from(self.call("open", name, |entry| file::open_entry(&self.fd, entry))?);
        let mut bytes = Vec::new();
        let read = file.take(bytes_max).read_to_end(&mut bytes);
        read.map_err(|error| self.failed(error.raw_os_error().unwrap_or(libc::EIO), "read", name))?;
        Ok(bytes)
    }

    /// What the file system reports about what has the name. A link is followed.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `statx`: `ENOENT`, also of a link that leads nowhere, `ELOOP`, `EACCES`.
    ///
    /// ```
    /// # let place = tempfile::tempdir().unwrap();
    /// let directory = deepring::Directory::open(place.path())?;
    /// std::fs::write(place.path().join("epoch"), b"42").unwrap();
    /// assert_eq!(directory.stat("epoch")?.size, 2);
    /// assert_eq!(directory.stat("loss").unwrap_err().code(), "ENOENT");
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<FileStat> {
        let stat = self.call("statx", name.as_ref(), |entry| stat::stat_at(&self.fd, entry))?;
        Ok(FileStat::of(&stat, stat.size))
    }

    /// What the file system reports about the directory itself.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `statx`.
    pub fn own_stat(&self) -> Result<FileStat> {
        let stat = stat::stat(&*self.fd).map_err(|errno| Error::os(errno, "statx").at(&self.path))?;
        Ok(FileStat::of(&stat, stat.size))
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `open`: `ENOENT`, `ENOTDIR` also of a link, `EACCES`.
    pub fn open_directory(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        let fd = self.call("open", name, |entry| file::open_subdirectory(&self.fd, entry))?;
        Ok(Self { fd: Arc::new(fd), path: self.path.join(name).into() })
    }

    /// Makes a directory with this mode, less the umask, and opens it.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `mkdir`: `EEXIST` if anything has the name, `ENOSPC`, `EACCES`,
    /// `EROFS`, `ENAMETOOLONG`. And those of [`Directory::open_directory`], after which there is no new directory.
    pub fn make_directory(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self> {
        let name = name.as_ref();
        self.call("mkdir", name, |entry| sys::make(&self.fd, entry, mode))?;
        self.open_directory(name).inspect_err(|_| {
            // The caller gets the error that made this necessary.
            let _ = self.remove_directory(name);
        })
    }

    /// Gives an entry a new name, here or in another directory of the file system. Nothing is ever replaced.
    ///
    /// Where the file system has no call for that, a file gets its second name before it loses the first one, and a directory
    /// replaces an empty one that was made for it: a power failure in between leaves both names, or that empty directory.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `rename`: `EEXIST` if anything has the new name, `ENOENT`, `EXDEV`,
    /// `EINVAL` if a directory would come into itself, `ENOSPC`, `EACCES`. The path is that of the new name for `EEXIST`, else
    /// that of the old one.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: &Self, name: impl AsRef<OsStr>) -> Result<()> {
        self.call_two("rename", from.as_ref(), to, name.as_ref(), sys::rename_new)
    }

    /// Gives a file a new name, here or in another directory of the file system, and takes that name from the file that has
    /// it, if there is one. In between, the name is never free. For files that are whole already: what is written anew takes a
    /// name by [`Engine::replace`](crate::Engine::replace).
    ///
    /// If both names are of the same file (hard links), nothing happens: both stay.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `rename`: `ENOENT`, `EXDEV`, `EISDIR` if a directory has the new name,
    /// `ENOSPC`, `EACCES`. The path is that of the old name.
    ///
    /// ```
    /// # let place = tempfile::tempdir().unwrap();
    /// let directory = deepring::Directory::open(place.path())?;
    /// std::fs::write(place.path().join("new"), b"42").unwrap();
    /// std::fs::write(place.path().join("epoch"), b"41").unwrap();
    /// directory.rename_over("new", &directory, "epoch")?;
    /// assert_eq!((directory.names()?.len(), directory.read("epoch", 16)?), (1, b"42".to_vec()));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn rename_over(&self, from: impl AsRef<OsStr>, to: &Self, name: impl AsRef<OsStr>) -> Result<()> {
        self.call_two("rename", from.as_ref(), to, name.as_ref(), sys::rename)
    }

    /// Gives a file a second name, here or in another directory of the file system.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `link`: `EEXIST` if anything has the new name, `EMLINK` if the file
    /// has as many names as its file system allows, `EXDEV`, `EPERM` for a directory, or if the file system has no second
    /// names. Paths as in [`Directory::rename`].
    pub fn link(&self, from: impl AsRef<OsStr>, to: &Self, name: impl AsRef<OsStr>) -> Result<()> {
        self.call_two("link", from.as_ref(), to, name.as_ref(), sys::link)
    }

    /// Removes a file, or a link itself.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `unlink`: `ENOENT`, `EISDIR`, `EACCES`.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.call("unlink", name.as_ref(), |entry| Kernel.remove(&self.fd, entry))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `rmdir`: `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EACCES`.
    pub fn remove_directory(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.call("rmdir", name.as_ref(), |entry| sys::remove(&self.fd, entry))
    }

    /// Removes a directory and all that is in it, or a file. A link goes itself, never what it leads to. What others remove
    /// meanwhile is no error, and what they rename in it goes as well.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with the syscall and the path of the entry that failed, part of the others being
    /// gone: `ENOENT` if the name itself is missing, `EACCES`, `ENOTEMPTY` if others go on making entries, `ELOOP` if the
    /// directories are more than 64 deep.
    pub fn remove_tree(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.remove_levels(name.as_ref(), DEPTH_MAX)
    }

    fn remove_levels(&self, name: &OsStr, levels: u32) -> Result<()> {
        match self.remove_file(name) {
            // What POSIX says of a directory, and what Linux does.
            Err(error) if matches!(error.errno(), Some(libc::EISDIR | libc::EPERM)) => match self.open_directory(name) {
                Ok(directory) => self.remove_emptied(name, &directory, levels),
                // It is no directory, and may not be removed.
                Err(other) if other.errno() == Some(libc::ENOTDIR) => Err(error),
                Err(other) => Err(other),
            },
            removed => removed,
        }
    }

    /// Removes a directory of this name, and what is in it.
    fn remove_emptied(&self, name: &OsStr, directory: &Self, levels: u32) -> Result<()> {
        let mut emptied = 0;
        loop {
            self.empty(name, directory, levels)?;
            emptied += 1;
            match self.remove_directory(name) {
                // An entry was made meanwhile, or got another name.
                Err(error) if error.errno() == Some(libc::ENOTEMPTY) && emptied < EMPTIED_MAX => {}
                removed => return removed,
            }
        }
    }

    /// Removes what is in a directory of this name.
    fn empty(&self, name: &OsStr, directory: &Self, levels: u32) -> Result<()> {
        if levels == 0 {
            return Err(self.failed(libc::ELOOP, "unlink", name).advise("the directories are too deep to be removed"));
        }
        for inner in directory.names()? {
            match directory.remove_levels(&inner, levels - 1) {
                // Another process was faster.
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// Flushes the directory, so that the names in it outlive a power failure. Where the file system flushes no directories,
    /// all of it is flushed.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `fsync`.
    pub fn sync(&self) -> Result<()> {
        Kernel.sync_directory(&self.fd, &self.fd).map_err(|errno| Error::os(errno, "fsync").at(&self.path))
    }

    /// Makes a call on one entry.
    fn call<T>(&self, name: &'static str, of: &OsStr, call: impl FnOnce(&CStr) -> std::result::Result<T, Errno>) -> Result<T> {
        entry(of).and_then(|entry| call(&entry)).map_err(|errno| self.failed(errno, name, of))
    }

    /// Makes a call that gives an entry a name.
    fn call_two(
        &self,
        name: &'static str,
        old: &OsStr,
        to: &Self,
        new: &OsStr,
        call: impl FnOnce(&OwnedFd, &CStr, &OwnedFd, &CStr) -> std::result::Result<(), Errno>,
    ) -> Result<()> {
        let new_entry = entry(new).map_err(|errno| to.failed(errno, name, new))?;
        self.call(name, old, |entry| call(&self.fd, entry, &to.fd, &new_entry)).map_err(|error| match error.errno() {
            Some(libc::EEXIST) => to.failed(libc::EEXIST, name, new),
            _ => error,
        })
    }

    fn failed(&self, errno: Errno, call: &'static str, name: &OsStr) -> Error {
        Error::os(errno, call).at(&self.path.join(name).into())
    }
}

/// A name that is a single entry of a directory, whatever is there.
fn entry(name: &OsStr) -> std::result::Result<CString, Errno> {
    let bytes = name.as_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
        return Err(libc::EINVAL);
    }
    CString::new(bytes).map_err(|_| libc::EINVAL)
}

/// For system calls that it does not make. The descriptor is open for reading.
impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("path", &self.path).finish_non_exhaustive()
    }
}
