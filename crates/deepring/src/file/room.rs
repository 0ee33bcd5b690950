//! Space for a range of a file before it is written, and space given back.
//!
//! Both run as a truncation does: no write of this process is at work, and no other copy of the engine moves the end of the
//! file or writes a unit of the range in part.

use super::File;
use super::control::control;
use crate::config::END_MAX;
use crate::driver::Barrier;
use crate::error::{Error, ErrorKind, Result};
use crate::op::Task;
use crate::open::OpenFile;
use crate::sys::file::{self as sys, Change};
use crate::sys::stat::stat;
use std::sync::Arc;

impl File {
    /// Gives `length` bytes from `position` on their space on the disk, so that writes there do not
    /// find it full, and lie together. The file is extended to their end if it is shorter; what
    /// was not written reads as zeros. Waits until no write of this process is in progress on it.
    ///
    /// If it fails, the file has its old length; parts of the range inside that can have got their
    /// space.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`] with syscall `fallocate`: `ENOSPC`, `EFBIG`, `EBADF` if the file
    /// is not open for writing, `EOPNOTSUPP` if its file system has no such call. And those of
    /// [`File::set_len`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("checkpoint.bin");
    /// let engine = deepring::Engine::builder().build()?;
    /// let file = engine.open(&path, deepring::OpenOptions::new().write(true).create(true))?;
    /// file.allocate(0, 10 << 20).wait()?;
    /// let stat = file.stat().wait()?;
    /// assert_eq!((stat.size, stat.blocks * 512 >= 10 << 20), (10 << 20, true));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn allocate(&self, position: u64, length: u64) -> Task<()> {
        self.change_space(Change::Allocate, position, length)
    }

    /// Gives the space of `length` bytes from `position` on back to the file system. They read as
    /// zeros; the length of the file stays. Waits until no write of this process is in progress on it.
    /// A read in flight can return old bytes, zeros, or some of each.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`] with syscall `fallocate`: `EBADF` if the file is not open for
    /// writing, `EOPNOTSUPP` if its file system has no holes. And those of [`File::set_len`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.bin");
    /// # let options = deepring::OpenOptions::new().read(true).write(true).create(true);
    /// let engine = deepring::Engine::builder().build()?;
    /// let file = engine.open(&path, options)?;
    /// file.write_at(vec![7u8; 1 << 20], 0).wait().ok()?;
    /// file.punch_hole(1000, 500_000).wait()?;
    /// let (read, _) = file.read_exact_at(vec![1u8; 1 << 20], 0).wait().ok()?;
    /// assert_eq!((read[999], read[1000], read[500_999], read[501_000]), (7, 0, 0, 7));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn punch_hole(&self, position: u64, length: u64) -> Task<()> {
        self.change_space(Change::PunchHole, position, length)
    }

    fn change_space(&self, change: Change, position: u64, length: u64) -> Task<()> {
        let (task, then) = Task::new();
        let failed = |kind| Error::new(kind, "fallocate").at(&self.file.path);
        if let Err(error) = self.check_open("fallocate") {
            then(Err(error));
            return task;
        }
        if position.checked_add(length).is_none_or(|end| end > END_MAX) {
            then(Err(failed(ErrorKind::Os(libc::EFBIG)).advise("the range would end beyond 2^63 bytes")));
            return task;
        }
        if length == 0 {
            then(Ok(()));
            return task;
        }
        let file = Arc::clone(&self.file);
        let bytes = Some(position..position + length);
        control(&self.engine, &self.file, Barrier::Truncate, Arc::default(), bytes, move |instead| {
            then(match instead {
                Some(kind) => Err(Error::new(kind, "fallocate").at(&file.path)),
                None => change_alone(&file, change, position, length),
            });
        });
        task
    }
}

/// The change itself, while nothing else writes the file or moves its end.
fn change_alone(file: &OpenFile, change: Change, position: u64, length: u64) -> Result<()> {
    let failed = |errno, call| Error::os(errno, call).at(&file.path);
    let _end = file.inode.lock_end();
    let before = if file.is_block_device { None } else { Some(stat(file.fd()).map_err(|errno| failed(errno, "statx"))?.size) };
    // Reads in flight can return what another process has appended, up to the new size.
    if let Some(before) = before {
        file.inode.adopt_measured_if_quiet(before);
    }
    let end = position + length;
    let changed = sys::change_space(file.fd(), change, position, length).map_err(|errno| failed(errno, "fallocate"));
    let Some(before) = before else { return changed };
    if change == Change::PunchHole {
        file.inode.note_holes();
        return changed;
    }
    if changed.is_err() {
        if end > before {
            // What it took before it failed lies past the end, moved or not. The caller gets the error that made this
            // necessary.
            let _ = sys::truncate(file.fd(), before);
        }
        return changed;
    }
    if end > file.inode.size() {
        // Padding can have been left behind the end, for a write that has not begun. It goes, as in a truncation.
        if before > end {
            sys::truncate(file.fd(), end).map_err(|errno| failed(errno, "ftruncate"))?;
        }
        if position > before {
            file.inode.note_holes();
        }
        file.inode.record_allocation(end);
    }
    Ok(())
}
