//! What is in a directory.

use super::{Errno, errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

/// Some names in a directory, at most `max`, without `.` and `..`.
pub(crate) fn list(directory: &OwnedFd, max: usize) -> Result<Vec<CString>, Errno> {
    // SAFETY: no pointers.
    let fd = super::check(unsafe { libc::fcntl(directory.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) }.into())?;
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
    while names.len() < max {
        // SAFETY: an open stream, used by this thread only.
        let entry = unsafe { libc::readdir(stream) };
        if entry.is_null() {
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
    Ok(names)
}
