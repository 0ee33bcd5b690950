//! Space that a file shares with another one. It is given to it as a truncation is made: no write of this process is at work,
//! and no other copy of the engine moves the end of the file or writes a unit of the range in part.

use super::File;
use super::control::control;
use crate::config::END_MAX;
use crate::driver::Barrier;
use crate::error::{Error, Result};
use crate::op::Task;
use crate::open::OpenFile;
use crate::sys::stat::stat;
use crate::sys::{file as sys, space};
use std::ops::Range;
use std::sync::Arc;

const CALL: &str = "ficlonerange";

impl File {
    /// Puts a range of another file, or of this one, at `position`, without copying: both share its space until either is
    /// written there. The file is extended to the end of the range if it is shorter. Waits until no write of this process is
    /// in progress on this file; wait for those to `from` before.
    ///
    /// XFS, Btrfs and a few more can do it, within one file system, in whole blocks (as a rule of 4096 bytes): `position` and
    /// both ends of the range are multiples of a block, or the range ends where `from` ends, and lands at the end of this file
    /// or beyond. A file system that cannot is reported by its error; then copy.
    ///
    /// If it fails, the file has its old length; parts of the range inside can have got their new bytes.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `ficlonerange`: `EOPNOTSUPP` if the file system or the kernel has no such
    /// call; `EXDEV` if the files are on two file systems; `EINVAL` if the range is not in whole blocks, goes beyond the end of
    /// `from`, or overlaps its new place; `EBADF` if this file is not open for writing, or `from` not for reading; `EFBIG`,
    /// `ENOSPC`. And those of [`File::set_len`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let (old, new) = (directory.path().join("step-1"), directory.path().join("step-2"));
    /// # std::fs::write(&old, vec![7u8; 1 << 20]).unwrap();
    /// let engine = deepring::Engine::builder().build()?;
    /// let from = engine.open(&old, deepring::OpenOptions::new().read(true))?;
    /// let to = engine.open(&new, deepring::OpenOptions::new().read(true).write(true).create(true))?;
    /// match to.clone_range(0, &from, 0..1 << 20).wait() {
    ///     Ok(()) => assert_eq!(std::fs::read(&new).unwrap(), vec![7; 1 << 20]),
    ///     Err(error) => assert_eq!(error.code(), "EOPNOTSUPP"), // copy it
    /// }
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn clone_range(&self, position: u64, from: &Self, range: Range<u64>) -> Task<()> {
        let (task, then) = Task::new();
        if let Err(error) = self.check_open(CALL).and_then(|()| from.check_open(CALL)) {
            then(Err(error));
            return task;
        }
        let length = range.end.checked_sub(range.start);
        let end = length.and_then(|length| position.checked_add(length));
        let refused = match (length, end) {
            (None, _) => Some(libc::EINVAL),
            (_, None) => Some(libc::EFBIG),
            (Some(_), Some(end)) if end.max(range.end) > END_MAX => Some(libc::EFBIG),
            // For the kernel that would be all that follows.
            (Some(0), _) => {
                then(Ok(()));
                return task;
            }
            _ => None,
        };
        if let Some(errno) = refused {
            then(Err(Error::os(errno, CALL).at(&self.file.path)));
            return task;
        }
        let (file, source, using) = (Arc::clone(&self.file), Arc::clone(&from.file), from.using());
        let bytes = end.map(|end| position..end);
        control(&self.engine, &self.file, Barrier::Truncate, Arc::default(), bytes, move |instead| {
            let result = match instead {
                Some(kind) => Err(Error::new(kind, CALL).at(&file.path)),
                None => clone_alone(&file, position, &source, &range),
            };
            // Whoever waited for the task can close the source.
            drop((using, source));
            then(result);
        });
        task
    }
}

/// The clone itself, while nothing else writes the file or moves its end.
fn clone_alone(file: &OpenFile, position: u64, from: &OpenFile, range: &Range<u64>) -> Result<()> {
    let failed = |errno, call| Error::os(errno, call).at(&file.path);
    if file.is_block_device || from.is_block_device {
        return Err(failed(libc::EINVAL, CALL));
    }
    let _end = file.inode.lock_end();
    let size = || stat(file.fd()).map(|stat| stat.size).map_err(|errno| failed(errno, "statx"));
    let truncate = |bytes| sys::truncate(file.fd(), bytes).map_err(|errno| failed(errno, "ftruncate"));
    let before = size()?;
    // Reads in flight can return what another process has appended, up to the new size.
    file.inode.adopt_measured_if_quiet(before);
    let promised = file.inode.size();
    // Padding can have been left behind the end, for a write that has not begun. It goes, as in a truncation: what ends
    // inside a block must end at the end of the file or beyond.
    if before > promised {
        truncate(promised)?;
    }
    let (bytes, end) = (range.end - range.start, position + (range.end - range.start));
    let cloned = space::clone_range(file.fd(), position, from.fd(), range.start, bytes).map_err(|errno| failed(errno, CALL));
    // Its holes are those of the source, and what is shared needs new space when it is written.
    file.inode.note_holes();
    if cloned.is_ok() && end > promised {
        file.inode.record_allocation(end);
    }
    if cloned.is_err() && end > promised && size()? > promised {
        // The caller gets the error that made this necessary.
        let _ = truncate(promised);
    }
    cloned
}
