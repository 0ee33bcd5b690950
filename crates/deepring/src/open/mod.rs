//! Opening a file, and what opening finds: type, identity, device, and whether and how direct I/O
//! works.
//!
//! Nothing changes before everything is known. The file is opened without truncation, and a FIFO
//! without waiting for its other end. A file that was created is removed again if direct I/O is
//! required and not available.

mod device;
mod direct;
mod examine;
mod open_file;
mod options;
mod pins;
pub(crate) mod shortage;
mod space;

use crate::error::{Error, ErrorKind, Result};
use crate::inode::{Identity, Inode};
use crate::sync::atomic::AtomicUsize;
use crate::sys::Errno;
use crate::sys::file::{self as sys, Access, Create};
use crate::sys::stat::{FileKind, Stat, stat};
use device::device_of;
pub use direct::DirectSupport;
use direct::{direct_support, unsupported};
pub(crate) use examine::examine;
pub(crate) use open_file::OpenFile;
pub use options::{Direct, OpenOptions};
use pins::Pages;
pub(crate) use pins::assume_unpinned;
pub(crate) use space::{Shortage, Space};
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// As [`open`], and waits if descriptors run short that path requests are about to give back.
pub(crate) fn open_patiently(path: &Arc<Path>, options: &OpenOptions) -> Result<OpenFile> {
    shortage::patiently(|| open(path, options))
}

/// Opens `path` and collects what the engine needs to know about it. Blocks.
pub(crate) fn open(path: &Arc<Path>, options: &OpenOptions) -> Result<OpenFile> {
    let failed = |errno, call| Error::os(errno, call).at(path);
    let invalid = |advice: &str| Error::new(ErrorKind::Invalid, "open").at(path).advise(advice);
    let Ok(c_path) = CString::new(path.as_os_str().as_bytes()) else { return Err(invalid("the path contains a NUL byte")) };
    if !options.read && !options.write {
        return Err(invalid("the options request neither read nor write access"));
    }
    if !options.write && (options.create || options.create_new || options.truncate) {
        return Err(invalid("creating and truncating need write access"));
    }

    let Opened { fd, created, write_only } = open_or_create(&c_path, options).map_err(|errno| failed(errno, "open"))?;
    let undo = |error| {
        if created {
            // The caller gets the error that made this necessary.
            let _ = sys::unlink(&c_path);
        }
        error
    };
    let stat = stat(&fd).map_err(|errno| undo(failed(errno, "statx")))?;
    let is_block_device = match stat.kind {
        FileKind::Regular => false,
        FileKind::BlockDevice => true,
        FileKind::Directory => return Err(failed(libc::EISDIR, "open")),
        FileKind::Other => return Err(Error::new(ErrorKind::Unsupported, "open").at(path)),
    };
    let device = device_of(if is_block_device { stat.node } else { stat.device });

    let support = match options.direct {
        Direct::Never => unsupported("the open options rule it out"),
        _ if write_only => unsupported("no read permission; a direct write must read the blocks it only partly overwrites"),
        Direct::Prefer | Direct::Require => direct_support(&fd, &stat, is_block_device).on(&device),
    };
    let switched = sys::set_direct(&fd, support.available);
    let support = match switched {
        Ok(()) => support,
        Err(errno) if !support.available => return Err(undo(failed(errno, "fcntl"))),
        Err(_) => {
            sys::set_direct(&fd, false).map_err(|errno| undo(failed(errno, "fcntl")))?;
            unsupported("the file system refuses O_DIRECT")
        }
    };
    if options.direct == Direct::Require && !support.available {
        return Err(undo(Error::new(ErrorKind::Direct, "open").at(path).advise(support.reason)));
    }

    let size = if is_block_device { sys::block_device_bytes(&fd) } else { Ok(stat.size) };
    let size = size.map_err(|errno| undo(failed(errno, "ioctl")))?;
    let inode = Inode::of(identity(&stat), size);
    if stat.has_holes() {
        inode.note_holes();
    }
    if options.truncate && size > 0 && !is_block_device {
        let guard = inode.lock_end();
        sys::truncate(&fd, 0).map_err(|errno| failed(errno, "ftruncate"))?;
        inode.record_truncation(0);
        drop(guard);
    }
    if created && options.sync_directory {
        sync_parent(path)?;
    }
    let blocks_submitters = blocks_submitters(&fd, &stat);
    let space = Space::of(&fd, options.write && !is_block_device);
    Ok(OpenFile {
        pages: if support.available { Pages::of(&fd, &stat) } else { Pages::NotPinned },
        fd: ManuallyDrop::new(fd),
        closed: AtomicBool::new(false),
        path: Arc::clone(path),
        inode,
        device,
        direct: AtomicBool::new(support.available),
        support,
        is_block_device,
        required: options.direct == Direct::Require,
        nowait: AtomicBool::new(true),
        blocks_submitters,
        space,
        unsettled: AtomicUsize::new(0),
    })
}

/// A descriptor, and how it was obtained.
struct Opened {
    fd: OwnedFd,
    /// By this call.
    created: bool,
    /// The permissions allow no reading.
    write_only: bool,
}

fn open_or_create(path: &std::ffi::CStr, options: &OpenOptions) -> std::result::Result<Opened, Errno> {
    let access = if options.write { Access::ReadWrite } else { Access::Read };
    let existing = |fd| Opened { fd, created: false, write_only: false };
    let create = || sys::open(path, access, Create::New(options.mode)).map(|fd| Opened { created: true, ..existing(fd) });
    if options.create_new {
        return create();
    }
    match sys::open(path, access, Create::No) {
        Err(libc::ENOENT) if options.create => match create() {
            // Another process was faster. Or it is a symbolic link to a file that does not exist:
            // then the target is created.
            Err(libc::EEXIST) => sys::open(path, access, Create::IfMissing(options.mode)).map(existing),
            result => result,
        },
        Err(libc::EACCES) if options.write && !options.read => {
            let fd = sys::open(path, Access::Write, Create::No)?;
            Ok(Opened { write_only: true, ..existing(fd) })
        }
        result => result.map(existing),
    }
}

fn identity(stat: &Stat) -> Identity {
    if stat.kind == FileKind::BlockDevice {
        // All nodes of one device are the same bytes.
        return Identity { device: stat.node.id(), number: u64::MAX, born_ns: 0 };
    }
    Identity { device: stat.device.id(), number: stat.number, born_ns: stat.birthtime_ns }
}

/// Whether a ring would carry out transfers on the thread that submits them, however long they
/// take.
///
/// A file in user space (FUSE, virtiofs) can be polled and always reports that it is ready.
/// `io_uring` (6.18) takes that for a promise not to block, but the server can be slow without
/// limit. Besides, if such a transfer stops early, at the end of a file for example, the ring goes
/// on by itself from the position where it began: it reports too many bytes, and they are those of
/// another place. `IOSQE_ASYNC` helps against the first, not against the second.
fn blocks_submitters(fd: &OwnedFd, stat: &Stat) -> bool {
    // A file system whose statx reports direct I/O is another one, and need not be asked.
    stat.direct.is_none() && sys::file_system(fd) == Ok(sys::FUSE_MAGIC)
}

fn sync_parent(path: &Arc<Path>) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |errno, call| Error::os(errno, call).at(path).advise("while flushing the directory of the new file");
    let parent = CString::new(parent.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL, "open"))?;
    let directory = sys::open_directory(&parent).map_err(|errno| failed(errno, "open"))?;
    sys::sync(&directory, false).map_err(|errno| failed(errno, "fsync"))
}
