//! What exists at a path, for [`crate::Engine::path_info`].

use super::device::{Device, mount_of};
use super::direct::unsupported;
use super::lookup::Opened;
use super::{DirectSupport, Name, OpenFile, OpenOptions, collect, open};
use crate::error::{Error, Result};
use crate::locks::{FileLocks, ProcessLocks};
use crate::sys::stat::{FileKind, kind_at, stat};
use crate::sys::{directory, file as sys};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Files of a directory that are tried before it is asked itself.
const TRIED_MAX: usize = 16;

/// What is known of a path.
pub(crate) struct Examined {
    pub(crate) device: Arc<Device>,
    pub(crate) file_system: String,
    pub(crate) support: DirectSupport,
    pub(crate) process_locks: ProcessLocks,
}

/// Examines what is at a path. A directory is examined through an unnamed file in it. Where none
/// can be made (it is read-only, full, or another user's), through a file that is there; else it is
/// asked itself.
pub(crate) fn examine(name: &Name) -> Result<Examined> {
    let (start, path) = name.parts()?;
    if kind_at(start, &path) != Ok(FileKind::Directory) {
        return through(&open(name, &OpenOptions::new().read(true))?);
    }
    let unnamed = match sys::open_unnamed(start, &path) {
        Ok(fd) => {
            let options = OpenOptions::new().read(true).write(true);
            collect(Opened { fd, created: false, write_only: false }, name, &options).inspect(OpenFile::try_write)
        }
        // Kernels without the flag report the second.
        Err(libc::EOPNOTSUPP | libc::EISDIR) => open_briefly(name),
        Err(errno) => Err(Error::os(errno, "open").at(&name.path)),
    };
    if let Ok(file) = unnamed {
        return through(&file);
    }
    let directory = sys::open_directory(start, &path).map_err(|errno| Error::os(errno, "open").at(&name.path))?;
    match any_file(&directory, name) {
        Some(file) => through(&file),
        None => of_directory(&directory, name),
    }
}

fn through(file: &OpenFile) -> Result<Examined> {
    let (device, support) = (Arc::clone(&file.device), file.support_found());
    let process_locks = FileLocks::probe(file.fd());
    Ok(Examined { device, file_system: file_system(file.fd(), &file.path)?, support, process_locks })
}

/// A file in the directory that can be read.
fn any_file(directory: &OwnedFd, name: &Name) -> Option<OpenFile> {
    let entries = directory::list(directory, TRIED_MAX).ok()?;
    let files = entries.into_iter().filter(|entry| kind_at(Some(directory), entry) == Ok(FileKind::Regular));
    files
        .map(|entry| name.with_path(&name.path.join(OsStr::from_bytes(entry.to_bytes()))))
        .find_map(|name| open(&name, &OpenOptions::new().read(true)).ok())
}

fn of_directory(fd: &OwnedFd, name: &Name) -> Result<Examined> {
    let failed = |errno, call| Error::os(errno, call).at(&name.path);
    let stat = stat(fd).map_err(|errno| failed(errno, "statx"))?;
    let device = Arc::clone(&mount_of(fd, &stat).device);
    let file_system = file_system(fd, &name.path)?;
    let support = unsupported("no file could be made or read here to try it");
    Ok(Examined { device, file_system, support, process_locks: FileLocks::probe(fd) })
}

fn file_system(fd: &OwnedFd, path: &Arc<Path>) -> Result<String> {
    let magic = sys::file_system(fd).map_err(|errno| Error::os(errno, "statfs").at(path))?;
    let name = FILE_SYSTEMS.iter().find(|&&(number, _)| number == magic).map(|&(_, name)| name);
    Ok(name.map_or_else(|| format!("{magic:#x}"), str::to_owned))
}

/// Magic numbers of common file systems, from statfs(2).
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
    (0xfe53_4d42, "smb2"),
    (0x517b, "smb"),
    (0x7371_7368, "squashfs"),
    (0xe0f5_e1e2, "erofs"),
    (0x9584_58f6, "hugetlbfs"),
    (0xca45_1a4e, "bcachefs"),
    (0x00c3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x5346_544e, "ntfs"),
    (0x7366_746e, "ntfs3"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x9660, "iso9660"),
    (0x1501_3346, "udf"),
    (0x28cd_3d45, "cramfs"),
    (0x3153_464a, "jfs"),
    (0x5265_4973, "reiserfs"),
    (0x3434, "nilfs"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x5a4f_4653, "zonefs"),
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x786f_4256, "vboxsf"),
    (0x6b41_4653, "afs"),
    (0x0bd0_0bd0, "lustre"),
];

/// For file systems without unnamed files (FUSE, NFS): a file that has a name for a moment.
fn open_briefly(directory: &Name) -> Result<OpenFile> {
    // Not of crate::sync: it orders no threads, and loom's atomics cannot be static.
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let brief = format!(".deepring-{}-{}", std::process::id(), COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let name = directory.with_path(&directory.path.join(brief));
    let file = open(&name, &OpenOptions::new().read(true).write(true).create_new(true).mode(0o600))?;
    if let Ok((start, path)) = name.parts() {
        // If it fails, another process has removed the file.
        super::lookup::remove(file.fd(), start, &path);
    }
    Ok(file)
}
