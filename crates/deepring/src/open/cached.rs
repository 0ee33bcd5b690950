//! [`Cached`]: a second descriptor of a file, for reads through the page cache, and whether a range is in it.
//!
//! A file that is opened with [`Direct::Auto`](super::Direct::Auto) is read from the page cache where all of a block is
//! there, and past it elsewhere. Whether transfers are direct is a property of a descriptor, so it takes two.

use crate::sys::cache;
use crate::sys::file::{self as sys, Access, Create};
use crate::sys::stat::Stat;
use crate::sys::thread;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// See the module.
#[derive(Debug)]
pub(crate) struct Cached {
    fd: OwnedFd,
    /// The pages of a file of an overlay are those of a file below it.
    through_mapping: bool,
}

impl Cached {
    /// A second descriptor of a file that is read direct.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn of(fd: &OwnedFd, stat: &Stat) -> Result<Self, &'static str> {
        let link = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| "it has no name")?;
        // Of other people's files the kernel does not tell the truth, because it would tell what they do.
        if !thread::owns(stat.uid) && !sys::may_write(&link) {
            return Err("the page cache of a file is shown to its owner and to who may write to it");
        }
        let fd = sys::open(None, &link, Access::Read, Create::No, false).map_err(|_| "there is no /proc to open it again")?;
        let through_mapping = sys::file_system(&fd) == Ok(sys::OVERLAY_MAGIC);
        Ok(Self { fd, through_mapping })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether all of a range, which ends in the file, is in the page cache.
    pub(crate) fn holds(&self, position: u64, len: u64) -> bool {
        len > 0 && cache::is_all_cached(&self.fd, position, len, self.through_mapping)
    }
}
