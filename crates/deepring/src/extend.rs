//! Moving the end of a file: before a write that reaches past it, and after.
//!
//! Before: the space is preallocated (`fallocate` mode 0) to the end of the last unit. The kernel hands writes past the
//! end of a file to one worker thread after the other, at half the speed and many times the CPU; and a disk that is too
//! full reports it before a byte has changed. A `fallocate` that fails can have taken all free space first, so it is
//! undone. Where it is not supported, `ftruncate` takes its place.
//!
//! After: the file is cut to the size it was promised. On failure that is the old size, or how far the request came.
//!
//! Both block, and run on blocking threads, while they hold [`crate::inode::Inode::lock_end`].

use crate::error::{Error, Result};
use crate::inode::{Accepted, Extension, TrimTarget};
use crate::open::OpenFile;
use crate::sys::{Errno, file as sys};

/// A system call that failed, and its name.
type Failure = (Errno, &'static str);

/// Claims the end of the file and makes room for `position..end`. On failure the file is as it was.
pub(crate) fn begin(file: &OpenFile, position: u64, end: u64) -> std::result::Result<Extension, Failure> {
    let inode = &file.inode;
    let _end = inode.lock_end();
    let measured = file.measure().map_err(|errno| (errno, "statx"))?;
    let unit = file.padding_unit();
    let start = position - position % unit;
    let padded_end = end.next_multiple_of(unit);
    let extension = inode.begin_extending(measured, padded_end);
    if end > extension.promised
        && let Err(failure) = make_room(file, start, padded_end, measured)
    {
        let clean = undo(file, measured, end).is_ok_and(|kept| kept <= extension.promised);
        inode.end_extending(clean);
        // Even if it could not be undone, the error to report is the first one. What is too much stays padding, for the
        // next request that moves the end.
        return Err(failure);
    }
    Ok(extension)
}

fn make_room(file: &OpenFile, start: u64, end: u64, measured: u64) -> std::result::Result<(), Failure> {
    match sys::allocate(file.fd(), start, end - start) {
        Err(libc::EOPNOTSUPP | libc::ENOSYS) if end > measured => sys::truncate(file.fd(), end).map_err(|errno| (errno, "ftruncate")),
        Ok(()) | Err(libc::EOPNOTSUPP | libc::ENOSYS) => Ok(()),
        Err(errno) => Err((errno, "fallocate")),
    }
}

/// Takes back what a failed [`make_room`] for a request up to `end` did. Returns the size that was kept.
fn undo(file: &OpenFile, measured: u64, end: u64) -> std::result::Result<u64, Errno> {
    // If another process has cut the file, other requests can be writing past what was measured.
    let kept = measured.max(file.inode.claimed_by_others(end));
    if file.measure()? > kept {
        sys::truncate(file.fd(), kept)?;
    }
    Ok(kept)
}

/// Gives up the claim: cuts off what was padded or preallocated beyond the size the file is to have. `reached` is the
/// end of what was written without a gap, 0 if nothing was; with `whole`, the file ends there.
pub(crate) fn finish(file: &OpenFile, reached: u64, accepted: Accepted, whole: bool) -> Result<()> {
    let _end = file.inode.lock_end();
    let trimmed = trim(file, reached, accepted, whole);
    file.inode.end_extending(trimmed.as_ref().is_ok_and(|clean| *clean));
    trimmed.map(drop)
}

/// Gives up the claim of a write that did not extend the file: another request can have left a trim to it.
pub(crate) fn abandon(file: &OpenFile, reached: u64, accepted: Accepted) -> Result<()> {
    let _end = file.inode.lock_end();
    if file.inode.is_left_padded() {
        if trim(file, reached, accepted, false)? {
            file.inode.mark_clean();
        }
    } else {
        file.inode.release_end(reached, accepted, false);
    }
    Ok(())
}

/// Returns whether the file on disk is no longer than promised now.
fn trim(file: &OpenFile, reached: u64, accepted: Accepted, whole: bool) -> Result<bool> {
    let failed = |errno, call| Error::os(errno, call).at(&file.path);
    let TrimTarget { size, padded_up_to } = file.inode.release_end(reached, accepted, whole);
    if file.is_block_device {
        return Ok(true);
    }
    let measured = file.measure().map_err(|errno| failed(errno, "statx"))?;
    // A file longer than this process ever made it was extended by another process, which owns its end.
    let ours = measured <= padded_up_to || whole;
    if measured > size && ours {
        sys::truncate(file.fd(), size).map_err(|errno| failed(errno, "ftruncate"))?;
    }
    Ok(!ours || measured.min(size) <= file.inode.size())
}
