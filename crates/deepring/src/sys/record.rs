//! What a record of the changes of names and of flushes has to know of each call. It is kept only with the feature `sim`, by
//! `sim::record`; as it ships, the compiler removes it.

use super::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// A directory, and the name of an entry.
pub(crate) type Entry<'a> = (&'a OwnedFd, &'a CStr);

/// A call that is about to be made.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "only a record reads the fields"))]
pub(crate) enum Note<'a> {
    Create(Entry<'a>),
    SyncFile(&'a OwnedFd),
    Rename(Entry<'a>, Entry<'a>),
    SyncDirectory(&'a OwnedFd),
    MakeDirectory(Entry<'a>),
    Link(Entry<'a>, Entry<'a>),
    RemoveFile(Entry<'a>),
    RemoveDirectory(Entry<'a>),
}

/// Makes a call, which is noted if it succeeds.
#[cfg(not(feature = "sim"))]
pub(super) fn noted<T>(_: Note<'_>, make: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    make()
}

#[cfg(feature = "sim")]
pub(super) fn noted<T>(note: Note<'_>, make: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    crate::sim::noted(note, make)
}
