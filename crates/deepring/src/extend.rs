//! Moving the end of a file: before a write that reaches past it, and after. And room for writes inside it.
//!
//! Before: beyond the old end, space is reserved (`fallocate` mode 0) to the end of the last unit. The kernel hands writes
//! past the end of a file to one worker thread after the other, at half the speed and many times the CPU; and a disk that
//! is too full reports it before a byte has changed. A `fallocate` that fails can have taken all free space first, so it
//! is undone. Where it is not supported, `ftruncate` takes its place.
//!
//! Inside the old end nothing is reserved, because that could not be undone: a hole cannot be told from the bytes that
//! another writer puts there. What the write lacks is compared with the room instead. The same is done for files whose
//! writes end at the byte: nothing is padded or reserved there, and whoever follows the file sees it grow by what was
//! written.
//!
//! After: the file is cut to the size it was promised. On failure that is the old size, or how far the request came.
//!
//! Both block, and run on blocking threads, while they hold [`crate::inode::Inode::lock_end`].

use crate::error::{Error, Result};
use crate::inode::{Accepted, Extension, TrimTarget};
use crate::open::{OpenFile, Shortage};
use crate::planted::{PlantedBug, planted};
use crate::sys::file::{self as sys, Allocated};
use crate::sys::stat::{Stat, stat};
use crate::sys::{Errno, space};
use std::time::Instant;

/// A write that cannot begin: the error, the call that it stands for, and advice.
type Failure = (Errno, &'static str, Option<String>);

fn failed(errno: Errno, call: &'static str) -> Failure {
    (errno, call, None)
}

/// The error of a write for which there is no room.
pub(crate) fn error_of((errno, call, advice): Failure) -> Error {
    let error = Error::os(errno, call);
    if let Some(advice) = advice { error.advise(advice) } else { error }
}

/// Finds room for a write inside the file. Nothing is changed.
pub(crate) fn check_room(file: &OpenFile, position: u64, end: u64) -> std::result::Result<(), Failure> {
    let unit = file.padding_unit();
    let on_disk = stat(file.fd()).map_err(|errno| failed(errno, "statx"))?;
    check(file, &on_disk, position - position % unit, end.next_multiple_of(unit))
}

fn check(file: &OpenFile, on_disk: &Stat, start: u64, end: u64) -> std::result::Result<(), Failure> {
    file.space.check(file.fd(), on_disk, start, end).map_err(|Shortage { missing, available }| {
        let advice = format!("{missing} bytes or more have no space yet, and {available} are available");
        (libc::ENOSPC, "write", Some(advice))
    })
}

/// Claims the end of the file and makes room for `position..end`. On failure the file is as it was.
pub(crate) fn begin(file: &OpenFile, position: u64, end: u64) -> std::result::Result<Extension, Failure> {
    let inode = &file.inode;
    let _end = inode.lock_end();
    let on_disk = stat(file.fd()).map_err(|errno| failed(errno, "statx"))?;
    let unit = file.padding_unit();
    let padded_end = end.next_multiple_of(unit);
    let mut extension = inode.begin_extending(on_disk.size, padded_end);
    let old_end = extension.promised.min(on_disk.size);
    let range = Range { start: position - position % unit, old_end: old_end - old_end % unit, end, padded_end };
    match make_room(file, &on_disk, range) {
        Ok(exact) => extension.exact = exact,
        Err(Refusal { failure, left }) => {
            inode.end_extending(left.is_some_and(|left| left <= extension.promised));
            return Err(failure);
        }
    }
    if !file.reserves() && !file.is_direct_to_the_byte() {
        extension.ordered_from = on_disk.size;
    }
    if on_disk.has_holes() || range.start > range.old_end {
        inode.note_holes();
    }
    Ok(extension)
}

/// What a write covers. All but `end` are whole units.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    /// The size of the file when the write began.
    old_end: u64,
    end: u64,
    padded_end: u64,
}

/// Why a write cannot begin, and the size that the file was left with; `None` if that could not be put in order. What is
/// too much then stays padding, for the next request that moves the end.
struct Refusal {
    failure: Failure,
    left: Option<u64>,
}

/// Returns whether there was room for the bytes, and none for the padding.
fn make_room(file: &OpenFile, on_disk: &Stat, range: Range) -> std::result::Result<bool, Refusal> {
    let Range { start, old_end, end, padded_end } = range;
    let untouched = |failure| Refusal { failure, left: Some(on_disk.size) };
    if !file.reserves() {
        if end > on_disk.size && end > space::file_size_limit() {
            return Err(untouched(failed(libc::EFBIG, "write")));
        }
        return check(file, on_disk, start, end).map(|()| false).map_err(untouched);
    }
    let from = if planted(PlantedBug::ReservesInside) { start } else { start.max(old_end) };
    let inside = from.min(padded_end);
    let has_holes = on_disk.has_holes() || file.inode.has_holes();
    let is_checked = file.space.must_be_checked(inside - start, has_holes, Instant::now());
    if is_checked {
        check(file, on_disk, start, inside).map_err(untouched)?;
    }
    if from >= padded_end {
        return Ok(false);
    }
    let undone = |failure| Refusal { failure, left: undo(file, on_disk, end).ok() };
    let exact = match reserve(file, on_disk, from, padded_end, end) {
        Ok(()) => false,
        Err(failure) if is_full(&failure) && end < padded_end && !file.is_required() => {
            let left = undo(file, on_disk, end).ok();
            // To take all free space twice would disturb others twice.
            let fits = space::room(file.fd()).is_none_or(|room| end - from <= room.available);
            if left.is_none() || !fits {
                return Err(Refusal { failure, left });
            }
            reserve(file, on_disk, from, end, end).map_err(undone)?;
            true
        }
        Err(failure) => return Err(undone(failure)),
    };
    if is_checked {
        // What was reserved is not available to the rest.
        check(file, on_disk, start, inside).map_err(undone)?;
    }
    Ok(exact)
}

fn is_full(&(errno, ..): &Failure) -> bool {
    matches!(errno, libc::EFBIG | libc::ENOSPC | libc::EDQUOT)
}

/// Reserves `from..end` for a request up to `own_end`.
fn reserve(file: &OpenFile, on_disk: &Stat, from: u64, end: u64, own_end: u64) -> std::result::Result<(), Failure> {
    let allocated = if file.mount.preallocates() { sys::allocate(file.fd(), from, end - from) } else { Allocated::Unsupported };
    file.mount.count_preallocation(allocated != Allocated::Unsupported);
    match allocated {
        Allocated::Done => Ok(()),
        Allocated::Unsupported => {
            check(file, on_disk, from, end)?;
            // Another request can have grown the file since it was measured. Then this one grows it by its writes, too.
            let grows = end > on_disk.size && file.inode.claimed_by_others(own_end) <= end;
            if grows { sys::truncate(file.fd(), end).map_err(|errno| failed(errno, "ftruncate")) } else { Ok(()) }
        }
        Allocated::Failed(errno) => Err(failed(errno, "fallocate")),
    }
}

/// Takes back what [`reserve`] did for a request up to `end`; `before` is what the file was then. Returns the size that
/// was kept.
fn undo(file: &OpenFile, before: &Stat, end: u64) -> std::result::Result<u64, Errno> {
    // If another process has cut the file, other requests can be writing past what was measured.
    let kept = before.size.max(file.inode.claimed_by_others(end));
    let now = stat(file.fd())?;
    // Space can have been taken past the end without moving it.
    if now.size > kept || now.size == kept && now.blocks > before.blocks {
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
    if file.is_block_device || file.is_direct_to_the_byte() && !whole {
        // Nothing was padded. Past the bytes of a request that failed, another host's can follow.
        return Ok(true);
    }
    let measured = file.measure().map_err(|errno| failed(errno, "statx"))?;
    // A file longer than this process ever made it was extended by another process, which owns its end.
    // So was one whose end nothing shows to be this file's.
    let ours = measured <= padded_up_to && file.owns_end || whole;
    if measured > size && ours {
        sys::truncate(file.fd(), size).map_err(|errno| failed(errno, "ftruncate"))?;
    }
    Ok(!ours || measured.min(size) <= file.inode.size())
}
