//! From a name to a descriptor, and to the directory in which the file is.

use super::name::Name;
use super::options::OpenOptions;
use crate::error::{Error, Result};
use crate::sys::Errno;
use crate::sys::file::{self as sys, Access, Create};
use crate::sys::stat::{FileKind, is_entry, kind_at};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// Symbolic links that are followed from one name, as in the kernel.
const LINKS_MAX: usize = 40;

/// A descriptor, and how it was obtained.
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    /// By this call.
    pub(super) created: bool,
    /// The permissions allow no reading.
    pub(super) write_only: bool,
}

pub(super) fn open_or_create(start: Option<&OwnedFd>, path: &CStr, options: &OpenOptions) -> std::result::Result<Opened, Errno> {
    let access = if options.write { Access::ReadWrite } else { Access::Read };
    if options.create_new {
        return create(start, path, access, options.mode);
    }
    let opened = match existing(start, path, access) {
        Err(libc::ENOENT) if options.create => match create(start, path, access, options.mode) {
            // Another process was faster. Or it is a symbolic link to a file that does not exist:
            // then the target is created.
            Err(libc::EEXIST) => create_through_links(start, path, access, options.mode),
            result => result,
        },
        result => result,
    };
    match opened {
        Err(libc::EACCES) if options.write && !options.read => {
            existing(start, path, Access::Write).map(|opened| Opened { write_only: true, ..opened })
        }
        result => result,
    }
}

fn create(start: Option<&OwnedFd>, path: &CStr, access: Access, mode: u32) -> std::result::Result<Opened, Errno> {
    let fd = sys::open(start, path, access, Create::New(mode), true)?;
    Ok(Opened { fd, created: true, write_only: false })
}

/// Opens what exists. Of a file or a block device, it waits for what opening needs: until a file
/// server has given a lease back, or a file is back from tape. What can keep an opening waiting for
/// ever, such as a FIFO, is not waited for. (A FIFO that takes a file's place between the two calls
/// holds a blocking thread, nothing else.)
fn existing(start: Option<&OwnedFd>, path: &CStr, access: Access) -> std::result::Result<Opened, Errno> {
    let waits = match kind_at(start, path) {
        Ok(kind) => matches!(kind, FileKind::Regular | FileKind::BlockDevice),
        Err(libc::ENOENT) => return Err(libc::ENOENT),
        // For opening to decide.
        Err(_) => false,
    };
    let fd = sys::open(start, path, access, Create::No, waits)?;
    Ok(Opened { fd, created: false, write_only: false })
}

/// As `O_CREAT` does, but only a call that creates the file says so.
fn create_through_links(start: Option<&OwnedFd>, path: &CStr, access: Access, mode: u32) -> std::result::Result<Opened, Errno> {
    let mut entry = Entry::of(start, path)?;
    for _ in 0..LINKS_MAX {
        match create(Some(&entry.directory), &entry.name, access, mode) {
            Err(libc::EEXIST) => {}
            result => return result,
        }
        match existing(Some(&entry.directory), &entry.name, access) {
            Err(libc::ENOENT) => {}
            result => return result,
        }
        entry = entry.followed()?.unwrap_or(entry);
    }
    Err(libc::ELOOP)
}

/// A name in a directory.
pub(crate) struct Entry {
    pub(crate) directory: OwnedFd,
    pub(crate) name: CString,
}

impl Entry {
    /// The last part of a path, in its directory. No link at the end is followed.
    pub(crate) fn of(start: Option<&OwnedFd>, path: &CStr) -> std::result::Result<Self, Errno> {
        let bytes = path.to_bytes();
        let slash = bytes.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = match slash {
            None => (&b"."[..], bytes),
            Some(0) => (&b"/"[..], &bytes[1..]),
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
        };
        if name.is_empty() {
            // As the kernel says of a file that is to be created under such a name.
            return Err(libc::EISDIR);
        }
        let terminated = |bytes| CString::new(bytes).map_err(|_| libc::EINVAL);
        Ok(Self { directory: sys::open_place(start, &terminated(parent)?)?, name: terminated(name)? })
    }

    /// Where it leads, if it is a symbolic link.
    fn followed(&self) -> std::result::Result<Option<Self>, Errno> {
        match sys::read_link(&self.directory, &self.name)? {
            Some(target) => Self::of(Some(&self.directory), &target).map(Some),
            None => Ok(None),
        }
    }

    /// The entry that is this very file, found through links. `None` if it has been moved.
    fn of_file(fd: &OwnedFd, start: Option<&OwnedFd>, path: &CStr) -> Option<Self> {
        let mut entry = Self::of(start, path).ok()?;
        for _ in 0..LINKS_MAX {
            if is_entry(fd, &entry.directory, &entry.name) {
                return Some(entry);
            }
            entry = entry.followed().ok()??;
        }
        None
    }
}

/// Removes the name of a file that was just created. If another file has the name by now, that
/// stays.
pub(super) fn remove(fd: &OwnedFd, start: Option<&OwnedFd>, path: &CStr) {
    if let Some(Entry { directory, name }) = Entry::of_file(fd, start, path) {
        // The caller gets the error that made this necessary.
        let _ = sys::unlink(&directory, &name);
    }
}

/// Flushes the directory in which the file is. If that cannot be found or opened, the whole file
/// system.
pub(super) fn sync_directory(fd: &OwnedFd, name: &Name) -> Result<()> {
    let (start, path) = name.parts()?;
    let entry = Entry::of_file(fd, start, &path);
    let flushed = match entry.map(|entry| sys::open_directory(Some(&entry.directory), c".")) {
        Some(Ok(directory)) => sys::sync(&directory, false).map_err(|errno| (errno, "fsync")),
        None | Some(Err(libc::EACCES | libc::EPERM)) => sys::sync_file_system(fd).map_err(|errno| (errno, "syncfs")),
        Some(Err(errno)) => Err((errno, "open")),
    };
    flushed.map_err(|(errno, call)| Error::os(errno, call).at(&name.path).advise("while flushing the directory of the file"))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn terminated(path: &Path) -> CString {
        CString::new(path.as_os_str().as_bytes()).expect("no NUL")
    }

    fn open_at(path: &Path) -> Opened {
        let options = OpenOptions::new().write(true).create(true);
        open_or_create(None, &terminated(path), &options).expect("a file")
    }

    #[test]
    fn a_file_is_found_in_the_directory_in_which_it_is() {
        let place = tempfile::tempdir().expect("a directory");
        let [links, blobs] = ["links", "blobs"].map(|name| place.path().join(name));
        std::fs::create_dir(&links).expect("a directory");
        std::fs::create_dir(&blobs).expect("a directory");
        std::os::unix::fs::symlink("../links/second", links.join("first")).expect("a link");
        std::os::unix::fs::symlink(blobs.join("hash"), links.join("second")).expect("a link");
        for created in [true, false] {
            let opened = open_at(&links.join("first"));
            assert_eq!(opened.created, created);
            let entry = Entry::of_file(&opened.fd, None, &terminated(&links.join("first"))).expect("the entry");
            assert_eq!(entry.name.as_c_str(), c"hash");
            let directory = sys::open_place(None, &terminated(&blobs)).expect("the directory");
            assert!(is_entry(&entry.directory, &directory, c"."), "it is in `blobs`");
        }
    }

    #[test]
    fn a_created_file_is_removed_only_if_the_name_is_still_its_own() {
        let place = tempfile::tempdir().expect("a directory");
        let (path, moved) = (place.path().join("file"), place.path().join("moved"));
        let Opened { fd, .. } = open_at(&path);
        std::fs::rename(&path, &moved).expect("a rename");
        std::fs::write(&path, b"another process's").expect("another file");
        remove(&fd, None, &terminated(&path));
        assert!(path.exists() && moved.exists(), "nothing is removed");
        remove(&fd, None, &terminated(&moved));
        assert!(path.exists() && !moved.exists(), "its own name is removed");
    }
}
