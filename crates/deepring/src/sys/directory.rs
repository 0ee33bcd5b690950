//! Calls on the entries of a directory: they start from its descriptor, and follow no link in the last place.

use super::record::{Note, noted};
use super::stat::{Named, named};
use super::{Errno, check, errno, file};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

/// Some names in a directory, at most `max`, without `.` and `..`. They are read through the descriptor: a second list
/// goes on where the first one ended.
pub(crate) fn list(directory: &OwnedFd, max: usize) -> Result<Vec<CString>, Errno> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::fcntl(directory.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) }.into())?;
    // SAFETY: the descriptor was just created and has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: an open descriptor.
    let stream = unsafe { libc::fdopendir(fd.as_raw_fd()) };
    if stream.is_null() {
        return Err(errno());
    }
    // The stream owns it now.
    let _ = fd.into_raw_fd();
    let mut names = Vec::new();
    let mut ended = Ok(());
    while names.len() < max {
        clear_errno();
        // SAFETY: an open stream, used by this thread only.
        let entry = unsafe { libc::readdir(stream) };
        if entry.is_null() {
            ended = match errno() {
                0 => Ok(()),
                errno => Err(errno),
            };
            break;
        }
        // SAFETY: the entry is valid until the next call on the stream.
        let name = unsafe { &(*entry).d_name };
        // SAFETY: the name is terminated.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    // SAFETY: the stream is open, and not used afterwards.
    unsafe { libc::closedir(stream) };
    ended.map(|()| names)
}

/// The end of a directory and a failure look the same, but for this number.
fn clear_errno() {
    // SAFETY: no arguments; the number of this thread.
    let number = unsafe { libc::__errno_location() };
    // SAFETY: it is valid as long as the thread.
    unsafe { *number = 0 };
}

pub(crate) fn make(directory: &OwnedFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    noted(Note::MakeDirectory((directory, name)), || mkdir(directory, name, mode))
}

/// Gives a file a second name. A link gets it itself, not what it leads to.
pub(crate) fn link(from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> Result<(), Errno> {
    noted(Note::Link((from, name), (to, new)), || linkat(from, name, to, new))
}

/// Takes the new name from a file, or from a directory that is empty.
pub(crate) fn rename(from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> Result<(), Errno> {
    noted(Note::Rename((from, name), (to, new)), || renameat(from, name, to, new))
}

/// Takes the new name from nothing: `EEXIST` if there is a file or a directory that has it.
pub(crate) fn rename_new(from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> Result<(), Errno> {
    noted(Note::Rename((from, name), (to, new)), || rename_alone(from, name, to, new))
}

/// Removes an empty directory.
pub(crate) fn remove(directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    noted(Note::RemoveDirectory((directory, name)), || rmdir(directory, name))
}

fn rename_alone(from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> Result<(), Errno> {
    let (from_raw, to_raw) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: terminated strings.
    let renamed = unsafe { libc::syscall(libc::SYS_renameat2, from_raw, name.as_ptr(), to_raw, new.as_ptr(), libc::RENAME_NOREPLACE) };
    match check(renamed) {
        Ok(_) => Ok(()),
        Err(errno @ (libc::EEXIST | libc::ENOENT | libc::EXDEV | libc::EIO | libc::ENOSPC | libc::EDQUOT)) => Err(errno),
        // The kernel, the file system or a sandbox has no such call; what the older ones say counts.
        Err(_) if named(from, name) == Ok(Named::Directory) => rename_directory(from, name, to, new),
        Err(_) => {
            linkat(from, name, to, new)?;
            // The file has its new name. If it keeps the old one as well, nothing is lost.
            let _ = file::unlink(from, name);
            Ok(())
        }
    }
}

/// Claims the new name by an empty directory, which only one process can make, and puts the directory in its place. What is
/// interrupted in between leaves the empty one.
fn rename_directory(from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> Result<(), Errno> {
    mkdir(to, new, 0o700)?;
    renameat(from, name, to, new).map_err(|errno| {
        // It goes only if it is still empty. The caller gets the error that made this necessary.
        let _ = rmdir(to, new);
        // Another process has put something into it, or in its place.
        if matches!(errno, libc::ENOTEMPTY | libc::ENOTDIR) { libc::EEXIST } else { errno }
    })
}

fn mkdir(directory: &OwnedFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: a terminated string.
    check(unsafe { libc::mkdirat(directory.as_raw_fd(), name.as_ptr(), mode) }.into()).map(drop)
}

fn linkat(from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> Result<(), Errno> {
    // SAFETY: terminated strings.
    check(unsafe { libc::linkat(from.as_raw_fd(), name.as_ptr(), to.as_raw_fd(), new.as_ptr(), 0) }.into()).map(drop)
}

fn renameat(from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> Result<(), Errno> {
    // SAFETY: terminated strings.
    check(unsafe { libc::renameat(from.as_raw_fd(), name.as_ptr(), to.as_raw_fd(), new.as_ptr()) }.into()).map(drop)
}

fn rmdir(directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: a terminated string.
    check(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) }.into()).map(drop)
}
