//! Opening a file, and what opening finds out about it: type, identity, device, and whether and how direct I/O works on it.
//!
//! Nothing is changed before everything is known: the file is opened without truncation, a FIFO without waiting for its other end, and what
//! was created is removed again if direct I/O is required and refused.

use crate::error::{Error, ErrorKind, Result};
use crate::inode::{Identity, Inode};
use crate::plan::Geometry;
use crate::sync::atomic::AtomicUsize;
use crate::sys::{Errno, device, file as sys};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether transfers may, should or must bypass the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direct {
    /// Always through the page cache.
    Never,
    /// Direct where the file allows it, else buffered; [`crate::File::direct`] tells.
    #[default]
    Prefer,
    /// Direct, or opening fails with [`ErrorKind::Direct`].
    Require,
}

/// How to open a file. Every switch is off by default, as in [`std::fs::OpenOptions`].
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "they mirror std::fs::OpenOptions")]
pub struct OpenOptions {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) create_new: bool,
    pub(crate) truncate: bool,
    pub(crate) direct: Direct,
    pub(crate) mode: u32,
    pub(crate) sync_directory: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// All off, direct I/O preferred, mode 0o666 less the umask.
    pub const fn new() -> Self {
        Self {
            read: false,
            write: false,
            create: false,
            create_new: false,
            truncate: false,
            direct: Direct::Prefer,
            mode: 0o666,
            sync_directory: false,
        }
    }

    /// Open for reading.
    #[must_use]
    pub const fn read(mut self, yes: bool) -> Self {
        self.read = yes;
        self
    }

    /// Open for writing. The file is opened for reading too where permissions allow it: unaligned edges are read before they are written.
    #[must_use]
    pub const fn write(mut self, yes: bool) -> Self {
        self.write = yes;
        self
    }

    /// Create the file if it does not exist. Needs `write`.
    #[must_use]
    pub const fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// Create the file, and fail with `EEXIST` if it exists. Needs `write`.
    #[must_use]
    pub const fn create_new(mut self, yes: bool) -> Self {
        self.create_new = yes;
        self
    }

    /// Cut the file to nothing. Needs `write`.
    #[must_use]
    pub const fn truncate(mut self, yes: bool) -> Self {
        self.truncate = yes;
        self
    }

    /// Whether to bypass the page cache; [`Direct::Prefer`] by default.
    #[must_use]
    pub const fn direct(mut self, direct: Direct) -> Self {
        self.direct = direct;
        self
    }

    /// Permission bits of a file that is created, less the process's umask.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// If the file is created, flush its directory, so that the name survives a crash.
    #[must_use]
    pub const fn sync_directory(mut self, yes: bool) -> Self {
        self.sync_directory = yes;
        self
    }
}

/// What was found out about direct I/O on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectSupport {
    /// Whether transfers can bypass the page cache.
    pub available: bool,
    /// Where the answer comes from, or why it is no.
    pub reason: String,
    /// File positions and lengths the device wants, in bytes; 1 for buffered files.
    pub offset_alignment: u32,
    /// Memory addresses the device wants, in bytes; 1 for buffered files.
    pub memory_alignment: u32,
}

impl DirectSupport {
    /// What direct transfers of a file that supports them must keep to.
    pub(crate) fn geometry(&self, is_block_device: bool) -> Geometry {
        let unit = u64::from(self.offset_alignment);
        let write_unit = unit.max(if is_block_device { 1 } else { WRITE_UNIT_MIN });
        Geometry { read_unit: unit, write_unit, memory: self.memory_alignment.into() }
    }

    /// As it is on this device. A loop device says that memory aligned to 512 bytes will do, whatever is below it. Where that is a disk with larger
    /// sectors, Linux 6.1 passes such memory on in pieces that are not whole sectors, and a plain `pwrite` fails with EIO.
    fn on(mut self, device: &Device) -> Self {
        if self.available && device.name.starts_with("loop") {
            self.memory_alignment = self.memory_alignment.max(self.offset_alignment);
        }
        self
    }

    /// The answer of `statx`; `None` if this kernel or file system has none.
    pub(crate) fn of_statx(stat: &libc::statx) -> Option<Self> {
        if stat.stx_mask & libc::STATX_DIOALIGN == 0 {
            return None;
        }
        if stat.stx_dio_offset_align == 0 || stat.stx_dio_mem_align == 0 {
            return Some(unsupported("statx says that this file has no direct I/O"));
        }
        Some(supported("statx", stat.stx_dio_mem_align, stat.stx_dio_offset_align))
    }

    /// The answer of `XFS_IOC_DIOINFO`; `None` if it says nothing.
    pub(crate) fn of_xfs(memory: u32, offset: u32) -> Option<Self> {
        (offset > 0 && memory > 0).then(|| supported("XFS_IOC_DIOINFO", memory, offset))
    }
}

/// The device a file lives on.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Requests its queue holds.
    pub(crate) requests: u32,
    /// Its largest request in bytes.
    pub(crate) request_bytes: u64,
}

/// The queue assumed where there is no block device to ask (tmpfs, overlay, network file systems).
const DEFAULT_QUEUE_REQUESTS: u32 = 256;
const DEFAULT_REQUEST_BYTES: u64 = 1 << 20;
/// Alignment assumed where nobody tells: the page, which every file system accepts.
const DEFAULT_ALIGNMENT: u32 = 4096;
/// Writes go in units of at least a page: the block of every common file system (smaller ones divide it).
const WRITE_UNIT_MIN: u64 = 4096;

/// An open descriptor with all that is known about it. Closed when the last reference goes, or earlier by [`OpenFile::close`].
pub(crate) struct OpenFile {
    fd: ManuallyDrop<OwnedFd>,
    closed: AtomicBool,
    pub(crate) path: Arc<Path>,
    pub(crate) inode: Arc<Inode>,
    pub(crate) device: Arc<Device>,
    pub(crate) support: DirectSupport,
    pub(crate) is_block_device: bool,
    required: bool,
    /// Still direct: cleared when the first operation is refused.
    direct: AtomicBool,
    /// Whether `RWF_NOWAIT` means something here.
    nowait: AtomicBool,
    /// Whether it must not be given to a ring: see [`blocks_submitters`].
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
        if self.is_block_device { sys::block_device_bytes(self.fd()) } else { Ok(sys::statx(self.fd())?.stx_size) }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // Whoever wants to know what close says calls it.
        drop(self.close());
    }
}

/// Opens `path` and finds out everything about it. Blocks.
pub(crate) fn open(path: &Arc<Path>, options: &OpenOptions) -> Result<OpenFile> {
    let failed = |errno, call| Error::os(errno, call).at(path);
    let invalid = |advice: &str| Error::new(ErrorKind::Invalid, "open").at(path).advise(advice);
    let Ok(c_path) = CString::new(path.as_os_str().as_bytes()) else { return Err(invalid("the path contains a NUL byte")) };
    if !options.read && !options.write {
        return Err(invalid("neither read nor write access is asked for"));
    }
    if !options.write && (options.create || options.create_new || options.truncate) {
        return Err(invalid("creating and truncating need write access"));
    }

    let Access { fd, created, write_only } = open_or_create(&c_path, options).map_err(|errno| failed(errno, "open"))?;
    let undo = |error| {
        if created {
            // The error to report is the one that made us undo.
            let _ = sys::unlink(&c_path);
        }
        error
    };
    let stat = sys::statx(&fd).map_err(|errno| undo(failed(errno, "statx")))?;
    let kind = u32::from(stat.stx_mode) & libc::S_IFMT;
    match kind {
        libc::S_IFREG | libc::S_IFBLK => {}
        libc::S_IFDIR => return Err(failed(libc::EISDIR, "open")),
        _ => return Err(Error::new(ErrorKind::Unsupported, "open").at(path)),
    }
    let is_block_device = kind == libc::S_IFBLK;
    let device = device_of(&stat, is_block_device);

    let support = match options.direct {
        Direct::Never => unsupported("not asked for"),
        _ if write_only => unsupported("the file may not be read, and direct writes must read the edges they modify"),
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

    let size = if is_block_device { sys::block_device_bytes(&fd) } else { Ok(stat.stx_size) };
    let size = size.map_err(|errno| undo(failed(errno, "ioctl")))?;
    let inode = Inode::of(identity(&stat, is_block_device), size);
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
    Ok(OpenFile {
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
        unsettled: AtomicUsize::new(0),
    })
}

/// What opening gave.
struct Access {
    fd: OwnedFd,
    /// By this call.
    created: bool,
    /// The permissions allow writing only.
    write_only: bool,
}

fn open_or_create(path: &std::ffi::CStr, options: &OpenOptions) -> std::result::Result<Access, Errno> {
    let access = if options.write { libc::O_RDWR } else { libc::O_RDONLY };
    let flags = access | libc::O_NONBLOCK | libc::O_NOCTTY;
    let existing = |fd| Access { fd, created: false, write_only: false };
    let create = || sys::open(path, flags | libc::O_CREAT | libc::O_EXCL, options.mode).map(|fd| Access { created: true, ..existing(fd) });
    if options.create_new {
        return create();
    }
    match sys::open(path, flags, 0) {
        Err(libc::ENOENT) if options.create => match create() {
            // Somebody else was faster, or it is a symbolic link to a file that does not exist: then the target is created.
            Err(libc::EEXIST) => sys::open(path, flags | libc::O_CREAT, options.mode).map(existing),
            result => result,
        },
        Err(libc::EACCES) if options.write && !options.read => {
            let fd = sys::open(path, flags & !libc::O_RDWR | libc::O_WRONLY, 0)?;
            Ok(Access { write_only: true, ..existing(fd) })
        }
        result => result.map(existing),
    }
}

fn identity(stat: &libc::statx, is_block_device: bool) -> Identity {
    if is_block_device {
        // All nodes of one device are the same bytes.
        let device = u64::from(stat.stx_rdev_major) << 32 | u64::from(stat.stx_rdev_minor);
        return Identity { device, number: u64::MAX, born_ns: 0 };
    }
    let born_ns = i128::from(stat.stx_btime.tv_sec) * 1_000_000_000 + i128::from(stat.stx_btime.tv_nsec);
    Identity { device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor), number: stat.stx_ino, born_ns }
}

/// Devices seen so far: asking sysfs takes longer than opening a file.
static DEVICES: Mutex<BTreeMap<u64, Arc<Device>>> = Mutex::new(BTreeMap::new());

fn device_of(stat: &libc::statx, is_block_device: bool) -> Arc<Device> {
    let (major, minor) =
        if is_block_device { (stat.stx_rdev_major, stat.stx_rdev_minor) } else { (stat.stx_dev_major, stat.stx_dev_minor) };
    let id = u64::from(major) << 32 | u64::from(minor);
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let device = devices.entry(id).or_insert_with(|| {
        let queue = device::queue(major, minor);
        Arc::new(Device {
            id,
            name: queue.as_ref().map_or_else(|| format!("{major}:{minor}"), |queue| queue.name.clone()),
            requests: queue.as_ref().map_or(DEFAULT_QUEUE_REQUESTS, |queue| queue.requests),
            request_bytes: queue.as_ref().map_or(DEFAULT_REQUEST_BYTES, |queue| queue.request_bytes).max(4096),
        })
    });
    Arc::clone(device)
}

/// Whether a ring would carry out transfers on the thread that submits them, however long they take. A file in user space (FUSE, virtiofs) can be
/// polled and always says that it is ready, which `io_uring` (6.18) takes for a promise not to block, while the server may be as slow as it
/// likes. And where such a transfer is cut short, at the end of a file for one, the ring goes on by itself from the position where it began:
/// it reports too much, and the bytes are those of another place. `IOSQE_ASYNC` helps against the first, not against the second.
fn blocks_submitters(fd: &OwnedFd, stat: &libc::statx) -> bool {
    // Where statx knows about direct I/O it is another file system; that saves asking.
    stat.stx_mask & libc::STATX_DIOALIGN == 0 && sys::file_system(fd) == Ok(sys::FUSE_MAGIC)
}

fn unsupported(reason: impl Into<String>) -> DirectSupport {
    DirectSupport { available: false, reason: reason.into(), offset_alignment: 1, memory_alignment: 1 }
}

/// Yes, unless the alignment is one that no device has: the planner counts on powers of two.
fn supported(reason: &str, memory: u32, offset: u32) -> DirectSupport {
    if [memory, offset].iter().any(|alignment| !alignment.is_power_of_two() || *alignment > device::ALIGNMENT_MAX) {
        return unsupported(format!("{reason} asks for {offset} bytes in the file and {memory} in memory, which cannot be planned for"));
    }
    DirectSupport { available: true, reason: reason.into(), offset_alignment: offset, memory_alignment: memory }
}

/// Finds the alignment: from `statx`, else from XFS, else the page size or logical block, confirmed by one real read.
fn direct_support(fd: &OwnedFd, stat: &libc::statx, is_block_device: bool) -> DirectSupport {
    if let Some(answer) = DirectSupport::of_statx(stat) {
        return answer;
    }
    // These accept O_DIRECT and copy through the page cache all the same.
    if let Ok(sys::TMPFS_MAGIC | sys::RAMFS_MAGIC) = sys::file_system(fd) {
        return unsupported("the file lives in memory (tmpfs)");
    }
    if let Ok((memory, offset)) = sys::xfs_alignment(fd)
        && let Some(answer) = DirectSupport::of_xfs(memory, offset)
    {
        return answer;
    }
    let logical =
        if is_block_device { device::queue(stat.stx_rdev_major, stat.stx_rdev_minor).map(|queue| queue.logical_block) } else { None };
    let alignment = logical.unwrap_or(DEFAULT_ALIGNMENT);
    if let Err(errno) = sys::set_direct(fd, true) {
        return unsupported(format!("the file system refuses O_DIRECT (error {errno})"));
    }
    match trial_read(fd, alignment) {
        Ok(()) => supported("a trial read", alignment, alignment),
        Err(errno) => unsupported(format!("a trial read failed with error {errno}")),
    }
}

/// Reads one aligned unit at the start of the file. An empty file proves nothing and is believed.
fn trial_read(fd: &OwnedFd, alignment: u32) -> std::result::Result<(), Errno> {
    let mut space = vec![0u8; alignment as usize * 2];
    let address = (space.as_mut_ptr() as u64).next_multiple_of(alignment.into());
    // SAFETY: the aligned unit lies inside `space`, which is local and outlives the call.
    let result = unsafe { sys::read_at(fd.as_raw_fd(), address, alignment, 0, 0) };
    // A file open for writing only cannot be read; that says nothing about direct I/O.
    if result >= 0 || result == -libc::EBADF { Ok(()) } else { Err(-result) }
}

/// Opens what is at `path` just to look at it, and names its file system. A directory is looked at through an unnamed file in it.
pub(crate) fn examine(path: &Arc<Path>) -> Result<(OpenFile, String)> {
    let looked = if path.is_dir() { open_unnamed(path) } else { open(path, &OpenOptions::new().read(true)) }?;
    let magic = sys::file_system(looked.fd()).map_err(|errno| Error::os(errno, "statfs").at(path))?;
    let name = FILE_SYSTEMS.iter().find(|&&(number, _)| number == magic).map(|&(_, name)| name);
    Ok((looked, name.map_or_else(|| format!("{magic:#x}"), str::to_owned)))
}

/// Magic numbers of the file systems people ask about, from statfs(2).
const FILE_SYSTEMS: &[(i64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (sys::TMPFS_MAGIC, "tmpfs"),
    (sys::RAMFS_MAGIC, "ramfs"),
    (0x794c_7630, "overlay"),
    (sys::FUSE_MAGIC, "fuse"),
    (0x6969, "nfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0xff53_4d42, "cifs"),
    (0x0bd0_0bd0, "lustre"),
];

fn open_unnamed(path: &Arc<Path>) -> Result<OpenFile> {
    let failed = |errno| Error::os(errno, "open").at(path);
    let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL))?;
    let fd = match sys::open(&c_path, libc::O_TMPFILE | libc::O_RDWR, 0o600) {
        // The second is what kernels say that do not know the flag.
        Err(libc::EOPNOTSUPP | libc::EISDIR) => return open_briefly(path),
        result => result.map_err(failed)?,
    };
    // Through procfs an unnamed file can be opened like any other.
    open(&Arc::from(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd()))), &OpenOptions::new().read(true).write(true))
}

/// For file systems without unnamed files (FUSE, NFS): a file that has a name for a moment.
fn open_briefly(directory: &Path) -> Result<OpenFile> {
    // A number, no meeting of threads: models need not know it, and cannot have it in a static.
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let name = format!(".deepring-{}-{}", std::process::id(), COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let path: Arc<Path> = directory.join(name).into();
    let file = open(&path, &OpenOptions::new().read(true).write(true).create_new(true).mode(0o600))?;
    if let Ok(c_path) = CString::new(path.as_os_str().as_bytes()) {
        // Whoever was faster has done the same.
        let _ = sys::unlink(&c_path);
    }
    Ok(file)
}

fn sync_parent(path: &Arc<Path>) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |errno, call| Error::os(errno, call).at(path).advise("flushing the directory of the new file");
    let parent = CString::new(parent.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL, "open"))?;
    let directory = sys::open(&parent, libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(|errno| failed(errno, "open"))?;
    sys::sync(&directory, false).map_err(|errno| failed(errno, "fsync"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alignment_that_no_device_has_means_buffered_and_says_so() {
        for (memory, offset) in [(512, 3), (3, 512), (512, 1 << 20), (1 << 31, 512)] {
            let support = DirectSupport::of_xfs(memory, offset).expect("an answer");
            assert!(!support.available && support.reason.contains("cannot be planned for"), "{support:?}");
        }
        assert!(DirectSupport::of_xfs(4, 65536).is_some_and(|support| support.available));
        assert!(DirectSupport::of_xfs(0, 0).is_none());
    }
}
