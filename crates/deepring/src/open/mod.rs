//! Opening a file, and what opening finds: type, identity, device, and whether and how direct I/O
//! works.
//!
//! Nothing changes before everything is known. The file is opened without truncation, and a FIFO
//! without waiting for its other end. A file that was created is removed again if direct I/O is
//! required and not available.

mod adopt;
mod cached;
mod device;
mod direct;
mod examine;
mod identity;
mod locked;
mod lookup;
mod name;
mod open_file;
mod options;
mod pins;
pub(crate) mod shortage;
mod space;

use crate::error::{Error, ErrorKind, Result};
use crate::inode::{Identity, Inode, Proof};
use crate::locks::FileLocks;
use crate::sync::atomic::AtomicUsize;
use crate::sys::file as sys;
use crate::sys::stat::{FileKind, Stat, stat};
pub(crate) use adopt::adopt;
use cached::Cached;
pub(crate) use device::Device;
use device::{Mount, mount_of};
pub use direct::DirectSupport;
use direct::{DIRECT, Found, direct_support, unsupported};
pub(crate) use examine::examine;
pub(crate) use locked::{BlockLock, NoLock};
pub(crate) use lookup::Entry;
use lookup::{Opened, open_or_create};
pub use name::Name;
pub(crate) use open_file::OpenFile;
pub use options::{Direct, OpenOptions};
use pins::Pages;
pub(crate) use pins::assume_unpinned;
pub(crate) use space::{Shortage, Space};
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, Mutex};

/// As [`open`], and waits if descriptors run short that path requests are about to give back.
pub(crate) fn open_patiently(name: &Name, options: &OpenOptions) -> Result<OpenFile> {
    shortage::patiently(|| open(name, options))
}

/// Opens a file and collects what the engine needs to know about it. Blocks.
pub(crate) fn open(name: &Name, options: &OpenOptions) -> Result<OpenFile> {
    let invalid = |advice: &str| Error::new(ErrorKind::Invalid, "open").at(&name.path).advise(advice);
    let (start, path) = name.parts()?;
    if !options.read && !options.write {
        return Err(invalid("the options request neither read nor write access"));
    }
    if !options.write && (options.create || options.create_new || options.truncate) {
        return Err(invalid("creating and truncating need write access"));
    }
    let opened = open_or_create(start, &path, options).map_err(|errno| Error::os(errno, "open").at(&name.path))?;
    collect(opened, name, options)
}

/// The same of a file that the caller has just created, and removes if this fails. Errors name `path`.
pub(crate) fn open_created(fd: OwnedFd, path: &Path, options: &OpenOptions) -> Result<OpenFile> {
    collect(Opened { fd, created: false, write_only: false }, &Name::without_start(path), options)
}

/// Collects what the engine needs to know about a file that was just opened.
fn collect(opened: Opened, name: &Name, options: &OpenOptions) -> Result<OpenFile> {
    let Opened { fd, created, write_only } = opened;
    let known = match look(&fd, name, options, write_only) {
        Ok(known) => known,
        Err(error) => {
            if created && let Ok((start, path)) = name.parts() {
                lookup::remove(&fd, start, &path);
            }
            // The caller gets the error that made this necessary.
            let _ = sys::close(fd);
            return Err(error);
        }
    };
    let Known { opened, is_block_device, support, judge, size, is_fuse, identity, mount, pages, locks, has_holes, cached } = known;
    let owns_end = identity.proof != Proof::None;
    let inode = Inode::of(identity, size);
    if has_holes {
        inode.note_holes();
    }
    if inode.end_hold().is_elsewhere(&locks, &fd) {
        inode.doubt_size();
    }
    let space = Space::of(&fd, options.write && !is_block_device);
    let file = OpenFile {
        pages,
        fd: ManuallyDrop::new(fd),
        cached: Mutex::new(cached),
        closed: AtomicBool::new(false),
        path: Arc::clone(&name.path),
        opened,
        inode,
        owns_end,
        device: Arc::clone(&mount.device),
        fate: mount.fate,
        mount,
        direct: AtomicBool::new(support.available),
        judge: AtomicU8::new(judge),
        support,
        is_block_device,
        locks,
        priority: options.priority,
        required: options.direct == Direct::Require,
        nowait: AtomicBool::new(true),
        blocks_submitters: is_fuse,
        space,
        unsettled: AtomicUsize::new(0),
    };
    if options.truncate && size > 0 && !is_block_device {
        let guard = file.inode.lock_end();
        sys::truncate(file.fd(), 0).map_err(|errno| Error::os(errno, "ftruncate").at(&name.path))?;
        file.inode.record_truncation(0);
        drop(guard);
    }
    if options.sync_directory {
        lookup::sync_directory(file.fd(), name)?;
    }
    Ok(file)
}

/// What was found out before anything was changed.
struct Known {
    opened: Stat,
    is_block_device: bool,
    support: DirectSupport,
    /// See [`OpenFile::went_direct`].
    judge: u8,
    size: u64,
    is_fuse: bool,
    identity: Identity,
    mount: Arc<Mount>,
    pages: Pages,
    locks: FileLocks,
    has_holes: bool,
    cached: Option<Cached>,
}

fn look(fd: &OwnedFd, name: &Name, options: &OpenOptions, write_only: bool) -> Result<Known> {
    let failed = |errno, call| Error::os(errno, call).at(&name.path);
    let stat = stat(fd).map_err(|errno| failed(errno, "statx"))?;
    let is_block_device = match stat.kind {
        FileKind::Regular => false,
        FileKind::BlockDevice => true,
        FileKind::Directory => return Err(failed(libc::EISDIR, "open")),
        FileKind::Other => return Err(Error::new(ErrorKind::Unsupported, "open").at(&name.path)),
    };
    let size = if is_block_device { sys::block_device_bytes(fd) } else { Ok(stat.size) };
    let size = size.map_err(|errno| failed(errno, "ioctl"))?;
    let mount = mount_of(fd, &stat);
    let is_fuse = blocks_submitters(fd, &stat);
    let identity = identity::identity(fd, &stat, is_fuse);

    let buffered = |reason: &str| Found { support: unsupported(reason), judge: DIRECT };
    let Found { support, judge } = match options.direct {
        Direct::Never => buffered("the open options rule it out"),
        _ if write_only => buffered("no read permission; a direct write must read the blocks it only partly overwrites"),
        Direct::Prefer | Direct::Require | Direct::Auto => direct_support(fd, &stat, size, options.write),
    };
    let pads = options.write && !is_block_device && support.geometry(is_block_device).write_unit > 1;
    let support = if pads && support.available && identity.proof == Proof::None {
        unsupported("nothing tells this file from another with the same number, so a write must not pad it")
    } else {
        support.on(&mount.device)
    };
    let support = match sys::set_direct(fd, support.available) {
        Ok(()) => support,
        Err(errno) if !support.available => return Err(failed(errno, "fcntl")),
        Err(_) => {
            sys::set_direct(fd, false).map_err(|errno| failed(errno, "fcntl"))?;
            unsupported("the file system refuses O_DIRECT")
        }
    };
    if options.direct == Direct::Require && !support.available {
        return Err(Error::new(ErrorKind::Direct, "open").at(&name.path).advise(support.reason));
    }
    let (support, cached) = match options.direct {
        Direct::Auto if support.available && !is_block_device && !is_fuse => match Cached::of(fd, &stat) {
            Ok(cached) => (support, Some(cached)),
            Err(why) => (DirectSupport { reason: format!("{}; the page cache is not used: {why}", support.reason), ..support }, None),
        },
        _ => (support, None),
    };
    let pages = if support.available { Pages::of(fd, &stat) } else { Pages::NotPinned };
    let locks = locks(fd, &stat, options, &support, write_only);
    Ok(Known {
        opened: stat,
        is_block_device,
        support,
        judge,
        size,
        is_fuse,
        identity,
        mount,
        pages,
        locks,
        has_holes: stat.has_holes(),
        cached,
    })
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

/// The locks between copies of the engine that writes of this opening need.
fn locks(fd: &OwnedFd, stat: &Stat, options: &OpenOptions, support: &DirectSupport, write_only: bool) -> FileLocks {
    if !options.write {
        return FileLocks::none("the file is open for reading only");
    }
    if stat.kind == FileKind::BlockDevice {
        return FileLocks::none("a block device has one node or many, and locks belong to a node");
    }
    // Another opening can be direct although this one is not.
    let never_direct = DirectSupport::of_stat(stat).is_some_and(|support| !support.available);
    let not_asked = (options.direct == Direct::Never || write_only) && !never_direct;
    let has_units = if support.available { support.geometry(false).write_unit > 1 } else { not_asked };
    FileLocks::of(fd, stat, has_units, !write_only)
}
