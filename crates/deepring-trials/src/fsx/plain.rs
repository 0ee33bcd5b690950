//! [`Plain`]: the file as the rest of the system sees it, through a descriptor unknown to the
//! engine.

use super::script::Range;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A buffered descriptor of the file.
pub(crate) struct Plain(File);

impl Plain {
    /// Creates the file, empty.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).map(Self)
    }

    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// The bytes of the range that exist.
    pub(crate) fn read(&self, range: Range) -> io::Result<Vec<u8>> {
        let mut found = vec![0; range.len as usize];
        let mut done = 0;
        while done < found.len() {
            match self.0.read_at(&mut found[done..], range.position + done as u64)? {
                0 => break,
                more => done += more,
            }
        }
        found.truncate(done);
        Ok(found)
    }

    /// Punches a hole.
    pub(crate) fn punch(&self, range: Range) -> io::Result<()> {
        self.fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, range)
    }

    /// Makes a range zero and keeps it allocated.
    pub(crate) fn zero(&self, range: Range, extend: bool) -> io::Result<()> {
        self.fallocate(libc::FALLOC_FL_ZERO_RANGE | if extend { 0 } else { libc::FALLOC_FL_KEEP_SIZE }, range)
    }

    fn fallocate(&self, mode: i32, range: Range) -> io::Result<()> {
        // SAFETY: no pointers.
        let refused = unsafe { libc::fallocate(self.0.as_raw_fd(), mode, range.position as i64, range.len as i64) };
        if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub(crate) fn set_len(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    /// Flushes everything and drops the cached pages, so that the next read goes to the disk.
    pub(crate) fn forget(&self) -> io::Result<()> {
        self.0.sync_all()?;
        crate::harness::disk::forget_pages(&self.0);
        Ok(())
    }
}
