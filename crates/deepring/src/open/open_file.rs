//! [`OpenFile`]: a descriptor and what is known about its file.

use super::device::Device;
use super::direct::DirectSupport;
use crate::error::{Error, Result};
use crate::inode::Inode;
use crate::plan::Geometry;
use crate::sync::atomic::AtomicUsize;
use crate::sys::stat::stat;
use crate::sys::{Errno, file as sys};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An open descriptor with all that is known about it. Closed when the last reference goes, or earlier by [`OpenFile::close`].
pub(crate) struct OpenFile {
    pub(super) fd: ManuallyDrop<OwnedFd>,
    pub(super) closed: AtomicBool,
    pub(crate) path: Arc<Path>,
    pub(crate) inode: Arc<Inode>,
    pub(crate) device: Arc<Device>,
    pub(crate) support: DirectSupport,
    pub(crate) is_block_device: bool,
    pub(super) required: bool,
    /// Still direct: cleared when the first operation is refused.
    pub(super) direct: AtomicBool,
    /// Whether `RWF_NOWAIT` means something here.
    pub(super) nowait: AtomicBool,
    /// Whether it must not be given to a ring: see [`super::blocks_submitters`].
    pub(crate) blocks_submitters: bool,
    /// Requests accepted and not yet settled.
    pub(crate) unsettled: AtomicUsize,
}

impl OpenFile {
    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The descriptor, for system calls on helper threads.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    pub(crate) fn geometry(&self) -> Geometry {
        if self.is_direct() { self.support.geometry(self.is_block_device) } else { Geometry::BUFFERED }
    }

    /// How far beyond its last byte a write may reach: in whole units of direct I/O even if the file has gone on buffered meanwhile, because the
    /// edge that is written now may have been planned before.
    pub(crate) fn padding_unit(&self) -> u64 {
        if self.support.available { self.support.geometry(self.is_block_device).write_unit } else { Geometry::BUFFERED.write_unit }
    }

    pub(crate) fn nowait(&self) -> bool {
        self.nowait.load(Ordering::Relaxed)
    }

    pub(crate) fn forget_nowait(&self) {
        self.nowait.store(false, Ordering::Relaxed);
    }

    /// After direct I/O was refused by an operation: go on buffered, unless direct was required. Returns whether that helps.
    pub(crate) fn downgrade(&self) -> bool {
        !self.required && self.direct.swap(false, Ordering::Relaxed) && sys::set_direct(self.fd(), false).is_ok()
    }

    /// Closes the descriptor and tells what `close` said. No operation may be in flight or follow.
    pub(crate) fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // SAFETY: `closed` was false and is true now, so nobody else takes the descriptor out, and `raw` is not used after a close.
        let fd = unsafe { std::ptr::read(&raw const *self.fd) };
        sys::close(fd).map_err(|errno| Error::os(errno, "close").at(&self.path))
    }

    /// The size on disk, or of the device.
    pub(crate) fn measure(&self) -> std::result::Result<u64, Errno> {
        if self.is_block_device { sys::block_device_bytes(self.fd()) } else { Ok(stat(self.fd())?.size) }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // Whoever wants to know what close says calls it.
        drop(self.close());
    }
}
