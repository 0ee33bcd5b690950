//! What a copy of a file needs beside its bytes: where they are, and the mode and times of the original.

use super::File;
use crate::blocking::Line;
use crate::error::{Error, Result};
use crate::op::Task;
use crate::sys::stat::stat;
use crate::sys::{file as sys, space};
use std::ops::Range;
use std::sync::Arc;

/// The most ranges of one call.
const RANGES_MAX: usize = 4096;

impl File {
    /// The parts of a range that are not holes, in their order: at most 4096 of them, so ask again from the end of the last if
    /// there are as many. What lies between them reads as zeros. Space that was never written counts as a hole. Where a file
    /// system does not know of holes, all is one part.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `lseek`; [`ErrorKind::Forked`](crate::ErrorKind::Forked).
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("sparse.bin");
    /// let engine = deepring::Engine::builder().build()?;
    /// let file = engine.open(&path, deepring::OpenOptions::new().read(true).write(true).create(true))?;
    /// file.set_len(8 << 20).wait()?;
    /// file.write_at(vec![7u8; 4096], 4 << 20).wait().ok()?;
    /// let data = file.data_ranges(0..8 << 20).wait()?;
    /// assert!(data.iter().any(|part| part.contains(&(4 << 20))));
    /// assert!(data.iter().map(|part| part.end - part.start).sum::<u64>() <= 8 << 20);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn data_ranges(&self, range: Range<u64>) -> Task<Vec<Range<u64>>> {
        let (task, then) = Task::new();
        if let Err(error) = self.check_open("lseek") {
            then(Err(error));
            return task;
        }
        let (file, using) = (Arc::clone(&self.file), self.using());
        self.engine.run_on(Line::Mount(file.fate), move || {
            let found = find_data(file.fd(), range).map_err(|errno| Error::os(errno, "lseek").at(&file.path));
            drop(using);
            then(found);
        });
        task
    }

    /// Gives this file the permission bits, if `mode` is true, and the times of access and change of another one, once every
    /// write to this one that was accepted before has ended.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Os`](crate::ErrorKind::Os) with syscall `statx`, `fchmod` or `futimens`; those of
    /// [`File::sync_all`] that are no failure of the flush.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    /// # std::fs::write(&old, b"bytes").unwrap();
    /// let engine = deepring::Engine::builder().build()?;
    /// let from = engine.open(&old, deepring::OpenOptions::new().read(true))?;
    /// let to = engine.open(&new, deepring::OpenOptions::new().write(true).create(true))?;
    /// to.take_metadata(&from, true).wait()?;
    /// assert_eq!(to.stat().wait()?.mtime_ns, from.stat().wait()?.mtime_ns);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn take_metadata(&self, from: &Self, mode: bool) -> Task<()> {
        let (task, then) = Task::new();
        if let Err(error) = self.check_open("futimens").and_then(|()| from.check_open("statx")) {
            then(Err(error));
            return task;
        }
        let (file, source, using) = (Arc::clone(&self.file), Arc::clone(&from.file), from.using());
        self.after_writes(move |instead| {
            let taken = match instead {
                Some(kind) => Err(Error::new(kind, "futimens").at(&file.path)),
                None => take(&file, &source, mode),
            };
            drop((using, source));
            then(taken);
        });
        task
    }
}

fn find_data(fd: &impl std::os::fd::AsRawFd, range: Range<u64>) -> std::result::Result<Vec<Range<u64>>, i32> {
    let mut found = Vec::new();
    let mut from = range.start;
    while from < range.end && found.len() < RANGES_MAX {
        match space::next_data(fd, from) {
            Ok(Some(extent)) if extent.start < range.end => {
                found.push(extent.start..extent.end.min(range.end));
                from = extent.end;
            }
            Ok(_) => break,
            // No call for it: everything counts as data.
            Err(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | libc::ESPIPE) if found.is_empty() => {
                found.push(range);
                break;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

fn take(file: &crate::open::OpenFile, from: &crate::open::OpenFile, mode: bool) -> Result<()> {
    let original = stat(from.fd()).map_err(|errno| Error::os(errno, "statx").at(&from.path))?;
    let failed = |errno, call| Error::os(errno, call).at(&file.path);
    if mode {
        sys::set_mode(file.fd(), original.mode & 0o7777).map_err(|errno| failed(errno, "fchmod"))?;
    }
    sys::set_times(file.fd(), original.atime_ns, original.mtime_ns).map_err(|errno| failed(errno, "futimens"))
}
