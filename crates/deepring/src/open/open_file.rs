//! [`OpenFile`]: a descriptor and what is known about its file.

use super::cached::Cached;
use super::device::{Device, Mount};
use super::direct::{BUFFERED, DIRECT, DirectSupport, THROUGH_CACHE, UNKNOWN, unsupported, went_past_cache, write_zeros};
use super::pins::{self, Pages};
use super::space::Space;
use crate::error::{Error, Result};
use crate::inode::Inode;
use crate::locks::FileLocks;
use crate::plan::{Direction, Geometry};
use crate::planted::{PlantedBug, planted};
use crate::priority::Priority;
use crate::sync::atomic::AtomicUsize;
use crate::sys::stat::{Stat, stat};
use crate::sys::{Errno, file as sys};
use crate::trace;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// An open descriptor and what is known about its file. Closed with the last reference, or earlier
/// by [`OpenFile::close`].
#[allow(clippy::struct_excessive_bools, reason = "independent facts about a file")]
pub(crate) struct OpenFile {
    pub(super) fd: ManuallyDrop<OwnedFd>,
    /// For reads of what is in the page cache. Closed with `fd`.
    pub(super) cached: Mutex<Option<Cached>>,
    pub(super) closed: AtomicBool,
    pub(crate) path: Arc<Path>,
    /// What the kernel said when it was opened.
    pub(crate) opened: Stat,
    pub(crate) inode: Arc<Inode>,
    /// Whether what is known of its end is known of this very file. Else nothing is padded,
    /// preallocated or cut.
    pub(crate) owns_end: bool,
    /// What limits are kept for.
    pub(crate) device: Arc<Device>,
    /// What gets stuck together: the mount, or the block device that was opened.
    pub(crate) fate: u64,
    pub(crate) mount: Arc<Mount>,
    pub(crate) support: DirectSupport,
    pub(crate) is_block_device: bool,
    /// Between copies of the engine.
    pub(crate) locks: FileLocks,
    /// The class of its requests that name none.
    pub(crate) priority: Priority,
    pub(super) pages: Pages,
    pub(super) required: bool,
    /// Whether transfers are direct now: cleared when the first direct operation is refused.
    pub(super) direct: AtomicBool,
    /// See [`OpenFile::went_direct`].
    pub(super) judge: AtomicU8,
    /// Whether the file system supports `RWF_NOWAIT`.
    pub(super) nowait: AtomicBool,
    /// Whether a ring must not get it: see [`super::blocks_submitters`].
    pub(crate) blocks_submitters: bool,
    pub(crate) space: Space,
    /// Requests accepted and not yet settled.
    pub(crate) unsettled: AtomicUsize,
}

impl OpenFile {
    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The descriptor, for system calls on blocking threads.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The descriptor to read a range with that is in the page cache, all of it, if this file is read so and nothing is
    /// being written to it: what is written direct and what is in the page cache are not mixed.
    pub(crate) fn cached(&self, position: u64, len: u64) -> Option<RawFd> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cached.as_ref().filter(|_| self.is_direct() && !self.inode.is_written())?;
        let end = (position + len).min(self.inode.size());
        cached.holds(position, end.saturating_sub(position)).then(|| cached.raw())
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    pub(crate) fn geometry(&self) -> Geometry {
        if self.is_direct() { self.support.geometry(self.is_block_device) } else { Geometry::BUFFERED }
    }

    /// The unit that the end of a write can be padded to. It is the unit of direct I/O even after a
    /// downgrade, because an edge that is written now can have been planned before.
    pub(crate) fn padding_unit(&self) -> u64 {
        if self.support.available { self.support.geometry(self.is_block_device).write_unit } else { Geometry::BUFFERED.write_unit }
    }

    /// Whether space is reserved for a write past the end of the file. Where writes end at the byte, nothing is: the
    /// file grows by the writes alone.
    pub(crate) fn reserves(&self) -> bool {
        self.padding_unit() > 1
    }

    /// Whether direct I/O works at any position and length: on network file systems, and those of servers.
    pub(crate) fn is_direct_to_the_byte(&self) -> bool {
        self.support.available && !self.reserves()
    }

    /// Whether it must stay direct.
    pub(crate) fn is_required(&self) -> bool {
        self.required
    }

    /// See [`crate::plan::Span::whole_pages`].
    pub(crate) fn whole_pages(&self, direction: Direction, address: u64, len: u64) -> Option<u64> {
        let shared = self.pages == Pages::NotPinned && self.support.available && !planted(PlantedBug::SharesPages);
        if shared { pins::whole_pages(direction, address, len) } else { None }
    }

    pub(crate) fn nowait(&self) -> bool {
        self.nowait.load(Ordering::Relaxed)
    }

    pub(crate) fn forget_nowait(&self) {
        self.nowait.store(false, Ordering::Relaxed);
    }

    /// Called when a direct operation was refused: makes the file buffered, unless direct I/O is
    /// required. Returns whether it did.
    pub(crate) fn downgrade(&self) -> bool {
        let downgraded = !self.required && self.direct.swap(false, Ordering::Relaxed) && sys::set_direct(self.fd(), false).is_ok();
        if downgraded {
            trace::became_buffered(&self.path);
        }
        downgraded
    }

    /// Whether a direct write that is done went past the page cache. Where only a trial read has
    /// shown that direct I/O works, the first write of the opening is judged by the cache, and the
    /// answer holds for those that follow. Asks the kernel once.
    pub(crate) fn went_direct(&self, position: u64, len: u64) -> bool {
        if self.judge.load(Ordering::Relaxed) == UNKNOWN {
            let answer = if went_past_cache(self.fd(), position, len) { DIRECT } else { BUFFERED };
            self.judge.store(answer, Ordering::Relaxed);
        }
        self.judge.load(Ordering::Relaxed) == DIRECT
    }

    /// What was found about direct I/O, the first write included.
    pub(super) fn support_found(&self) -> DirectSupport {
        if self.judge.load(Ordering::Relaxed) == BUFFERED { unsupported(THROUGH_CACHE) } else { self.support.clone() }
    }

    /// Judges direct writes by one of its own: for an unnamed file that nothing else is in.
    pub(super) fn try_write(&self) {
        let unit = self.padding_unit();
        if self.judge.load(Ordering::Relaxed) == UNKNOWN && write_zeros(self.fd(), unit) {
            self.went_direct(0, unit);
        }
    }

    /// Closes the descriptor and reports the result of `close`. No operation may be in flight or
    /// follow.
    pub(crate) fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        drop(self.cached.lock().unwrap_or_else(PoisonError::into_inner).take());
        // SAFETY: `closed` was false and is true now, so no other call takes the descriptor out,
        // and `raw` is not used after a close.
        let fd = unsafe { std::ptr::read(&raw const *self.fd) };
        let Some(fd) = self.inode.end_hold().keep(fd) else { return Ok(()) };
        let started = Instant::now();
        let closed = sys::close(fd);
        trace::closed(&self.path, started.elapsed());
        closed.map_err(|errno| Error::os(errno, "close").at(&self.path))
    }

    /// The size on disk, or of the device.
    pub(crate) fn measure(&self) -> std::result::Result<u64, Errno> {
        if self.is_block_device { sys::block_device_bytes(self.fd()) } else { Ok(stat(self.fd())?.size) }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // A caller that needs the result calls close itself.
        drop(self.close());
    }
}
