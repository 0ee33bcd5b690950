//! The calls by which a new file is made beside an old one and takes its place.
//!
//! They go through one small seam, so that a test can record them in the order in which they are made, fail one of them, and
//! try out what each power cut leaves of the record.

use super::file::{self, Access, Change, Create};
use super::record::{Note, noted};
use super::{Errno, directory};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::OwnedFd;

/// See the module. Names are entries of the directory.
pub(crate) trait Calls: fmt::Debug + Send + Sync {
    /// Makes a file, open for reading and writing. `EEXIST` if the name is taken.
    fn create(&self, directory: &OwnedFd, name: &CStr, mode: u32) -> Result<OwnedFd, Errno>;

    /// Gives the file its space and this length.
    fn allocate(&self, file: &OwnedFd, bytes: u64) -> Result<(), Errno>;

    fn set_mode(&self, file: &OwnedFd, mode: u32) -> Result<(), Errno>;

    /// Flushes the bytes and the metadata of the file.
    fn sync(&self, file: &OwnedFd) -> Result<(), Errno>;

    /// Gives a file another name. With `keep`, `EEXIST` if that is taken.
    fn rename(&self, directory: &OwnedFd, from: &CStr, to: &CStr, keep: bool) -> Result<(), Errno>;

    /// Flushes the names in the directory. Where that cannot be done, because it may not be read or its file system has no
    /// such call, flushes the file system of `file`.
    fn sync_directory(&self, directory: &OwnedFd, file: &OwnedFd) -> Result<(), Errno>;

    fn remove(&self, directory: &OwnedFd, name: &CStr) -> Result<(), Errno>;
}

/// Makes the calls.
#[derive(Debug)]
pub(crate) struct Kernel;

impl Calls for Kernel {
    fn create(&self, directory: &OwnedFd, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
        noted(Note::Create((directory, name)), || file::open(Some(directory), name, Access::ReadWrite, Create::New(mode), true))
    }

    fn allocate(&self, file: &OwnedFd, bytes: u64) -> Result<(), Errno> {
        file::change_space(file, Change::Allocate, 0, bytes)
    }

    fn set_mode(&self, file: &OwnedFd, mode: u32) -> Result<(), Errno> {
        file::set_mode(file, mode)
    }

    fn sync(&self, file: &OwnedFd) -> Result<(), Errno> {
        noted(Note::SyncFile(file), || file::sync(file, false))
    }

    fn rename(&self, place: &OwnedFd, from: &CStr, to: &CStr, keep: bool) -> Result<(), Errno> {
        let rename = if keep { directory::rename_new } else { directory::rename };
        rename(place, from, place, to)
    }

    fn sync_directory(&self, directory: &OwnedFd, file: &OwnedFd) -> Result<(), Errno> {
        noted(Note::SyncDirectory(directory), || match file::sync(directory, false) {
            // A descriptor that only paths can start from; a file system that flushes no directories.
            Err(libc::EBADF | libc::EINVAL | libc::EOPNOTSUPP) => file::sync_file_system(file),
            result => result,
        })
    }

    fn remove(&self, directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        noted(Note::RemoveFile((directory, name)), || file::unlink(directory, name))
    }
}
