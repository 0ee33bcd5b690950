//! Moving the end of a file: before a write that reaches past it, and after.
//!
//! Before: the space is preallocated (`fallocate` mode 0) to the end of the last unit, because writes past the end of a file are handed to a
//! worker thread and serialised, at half the speed and many times the CPU; and because a disk that is too full says so before a byte
//! has changed. A `fallocate` that fails may have taken all free space first, so it is undone. Where it is not supported, `ftruncate`
//! takes its place.
//!
//! After: the file is cut to the size it was promised. On failure that is the old size, or how far the request came.
//!
//! Both block, and run on helper threads, under the inode's end-of-file lock.

use crate::error::{Error, Result};
use crate::inode::Accepted;
use crate::open::OpenFile;
use crate::sys::{Errno, file as sys};

/// A request's claim on the end of the file, from [`begin`] to [`finish`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension {
    /// The promised size when the request began.
    pub(crate) promised: u64,
    /// See [`crate::inode::Inode::is_sole_extender`].
    pub(crate) ticket: u64,
}

/// Claims the end of the file and makes room for `position..end`. On failure the file is as it was.
pub(crate) fn begin(file: &OpenFile, position: u64, end: u64) -> std::result::Result<Extension, (Errno, &'static str)> {
    let inode = &file.inode;
    let _eof = inode.eof_lock();
    let measured = file.measure().map_err(|errno| (errno, "statx"))?;
    let unit = file.padding_unit();
    let start = position - position % unit;
    let inflated = end.next_multiple_of(unit);
    let (promised, ticket) = inode.begin_extending(measured, inflated);
    if end > promised
        && let Err(failure) = make_room(file, start, inflated, measured)
    {
        // Others may be writing past what was measured, if somebody else has cut the file under them.
        let kept = measured.max(inode.claimed_besides(end));
        // If even this fails, the error to report is still the first one; and what is too much stays ours, for the next who moves the end.
        let undone = match file.measure() {
            Ok(size) => size <= kept || sys::truncate(file.fd(), kept).is_ok(),
            Err(_) => false,
        };
        inode.end_extending(undone && kept <= promised);
        return Err(failure);
    }
    Ok(Extension { promised, ticket })
}

fn make_room(file: &OpenFile, start: u64, end: u64, measured: u64) -> std::result::Result<(), (Errno, &'static str)> {
    match sys::allocate(file.fd(), start, end - start) {
        Err(libc::EOPNOTSUPP | libc::ENOSYS) if end > measured => sys::truncate(file.fd(), end).map_err(|errno| (errno, "ftruncate")),
        Ok(()) | Err(libc::EOPNOTSUPP | libc::ENOSYS) => Ok(()),
        Err(errno) => Err((errno, "fallocate")),
    }
}

/// Gives up the claim: cuts off what was padded or preallocated beyond the size the file is to have. `reached` is the end of what was
/// written without a gap, 0 if nothing was; with `whole`, the file ends there.
pub(crate) fn finish(file: &OpenFile, reached: u64, accepted: Accepted, whole: bool) -> Result<()> {
    let _eof = file.inode.eof_lock();
    let trimmed = trim(file, reached, accepted, whole);
    file.inode.end_extending(trimmed.as_ref().is_ok_and(|clean| *clean));
    trimmed.map(drop)
}

/// Gives up the claim of a write that did not extend the file: another request may have left a trim to it.
pub(crate) fn abandon(file: &OpenFile, reached: u64, accepted: Accepted) -> Result<()> {
    let _eof = file.inode.eof_lock();
    if file.inode.is_left_inflated() {
        if trim(file, reached, accepted, false)? {
            file.inode.deflated();
        }
    } else {
        file.inode.size_after(reached, accepted, false);
    }
    Ok(())
}

/// Returns whether the file on disk is no larger than promised now.
fn trim(file: &OpenFile, reached: u64, accepted: Accepted, whole: bool) -> Result<bool> {
    let failed = |errno, call| Error::os(errno, call).at(&file.path);
    let (size, inflated) = file.inode.size_after(reached, accepted, whole);
    if file.is_block_device {
        return Ok(true);
    }
    let measured = file.measure().map_err(|errno| failed(errno, "statx"))?;
    // A file larger than we ever made it has been extended by another process: not ours to cut.
    let ours = measured <= inflated || whole;
    if measured > size && ours {
        sys::truncate(file.fd(), size).map_err(|errno| failed(errno, "ftruncate"))?;
    }
    Ok(!ours || measured.min(size) <= file.inode.size())
}
