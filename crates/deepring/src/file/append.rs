//! Bytes put behind the end of a file, wherever that is when they are written.
//!
//! The kernel finds the end: each call carries `RWF_APPEND`, so that programs that append at the same time, with or without
//! deepring, do not overwrite each other. It runs as a truncation does: no write of this process is at work, and no other copy
//! of the engine moves the end of the file. So the end is where it seems to be, without padding behind it.

use super::File;
use crate::driver::Barrier;
use crate::error::{Error, Result};
use crate::open::OpenFile;
use crate::sys::stat::stat;
use crate::sys::{file as sys, transfer};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The most bytes that the kernel takes in one call.
const CALL_BYTES_MAX: u64 = 0x7fff_f000;

const CALL: &str = "write";

impl File {
    /// Appends `len` bytes of memory, and passes their number to `then`. `canceled` as for [`File::sync_then`]; an append that
    /// has begun is not canceled. The file must be open for writing, and through the page cache.
    ///
    /// # Safety
    /// `address..address + len` stays valid, in place and unchanged until `then` was called.
    pub(crate) unsafe fn append_then(
        &self,
        address: u64,
        len: u64,
        canceled: Arc<AtomicBool>,
        then: impl FnOnce(Result<u64>) + Send + 'static,
    ) {
        if let Err(error) = self.check_open(CALL) {
            return then(Err(error));
        }
        let file = Arc::clone(&self.file);
        self.control(Barrier::Truncate, canceled, move |instead| {
            then(match instead {
                Some(kind) => Err(Error::new(kind, CALL).at(&file.path)),
                // SAFETY: passed on from the caller of this function.
                None => unsafe { append_alone(&file, address, len) },
            });
        });
    }
}

/// The append itself, while nothing else writes the file or moves its end.
///
/// # Safety
/// As [`File::append_then`].
unsafe fn append_alone(file: &OpenFile, address: u64, len: u64) -> Result<u64> {
    let _end = file.inode.lock_end();
    let failed = |errno, call| Error::os(errno, call).at(&file.path);
    let size = || stat(file.fd()).map(|stat| stat.size).map_err(|errno| failed(errno, "statx"));
    let before = size()?;
    // Another process can have appended.
    file.inode.adopt_measured_if_quiet(before);
    let promised = file.inode.size();
    // Padding can have been left behind the end, for a write that has not begun. It goes, as in a truncation.
    if before > promised {
        sys::truncate(file.fd(), promised).map_err(|errno| failed(errno, "ftruncate"))?;
    }
    let mut done = 0;
    let mut refusal = None;
    while done < len {
        let part = (len - done).min(CALL_BYTES_MAX) as u32;
        // SAFETY: passed on from the caller of this function.
        let written = unsafe { append_once(file, address + done, part) };
        match written {
            Ok(0) => refusal = Some(libc::EIO),
            Ok(bytes) => done += u64::from(bytes),
            Err(libc::EINTR) => continue,
            Err(errno) => refusal = Some(errno),
        }
        if refusal.is_some() {
            break;
        }
    }
    // What came before a failure is in the file.
    if done > 0 {
        file.inode.record_allocation(size()?);
    }
    match refusal {
        Some(errno) => Err(failed(errno, CALL).range(promised, len, done)),
        None => Ok(done),
    }
}

/// One call.
///
/// # Safety
/// As [`File::append_then`].
unsafe fn append_once(file: &OpenFile, address: u64, len: u32) -> std::result::Result<u32, i32> {
    // SAFETY: passed on from the caller of this function.
    let mut written = unsafe { transfer::write_at(file.raw(), address, len, 0, libc::RWF_APPEND) };
    if written == -libc::EOPNOTSUPP {
        // A kernel or a sandbox without the flag: the end is where it was measured, for all who append by deepring.
        let end = stat(file.fd())?.size;
        // SAFETY: as above.
        written = unsafe { transfer::write_at(file.raw(), address, len, end, 0) };
    }
    u32::try_from(written).map_err(|_| -written)
}
