//! What exists at a path, for [`crate::Engine::path_info`].

use super::{OpenFile, OpenOptions, open};
use crate::error::{Error, Result};
use crate::sys::file as sys;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Opens what is at `path` to examine it, and names its file system. A directory is examined
/// through an unnamed file in it.
pub(crate) fn examine(path: &Arc<Path>) -> Result<(OpenFile, String)> {
    let looked = if path.is_dir() { open_unnamed(path) } else { open(path, &OpenOptions::new().read(true)) }?;
    let magic = sys::file_system(looked.fd()).map_err(|errno| Error::os(errno, "statfs").at(path))?;
    let name = FILE_SYSTEMS.iter().find(|&&(number, _)| number == magic).map(|&(_, name)| name);
    Ok((looked, name.map_or_else(|| format!("{magic:#x}"), str::to_owned)))
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
    (0x0bd0_0bd0, "lustre"),
];

fn open_unnamed(path: &Arc<Path>) -> Result<OpenFile> {
    let failed = |errno| Error::os(errno, "open").at(path);
    let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL))?;
    let fd = match sys::open_unnamed(&c_path) {
        // Kernels without the flag report the second.
        Err(libc::EOPNOTSUPP | libc::EISDIR) => return open_briefly(path),
        result => result.map_err(failed)?,
    };
    // Through procfs an unnamed file can be opened like any other.
    open(&Arc::from(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd()))), &OpenOptions::new().read(true).write(true))
}

/// For file systems without unnamed files (FUSE, NFS): a file that has a name for a moment.
fn open_briefly(directory: &Path) -> Result<OpenFile> {
    // Not of crate::sync: it orders no threads, and loom's atomics cannot be static.
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let name = format!(".deepring-{}-{}", std::process::id(), COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let path: Arc<Path> = directory.join(name).into();
    let file = open(&path, &OpenOptions::new().read(true).write(true).create_new(true).mode(0o600))?;
    if let Ok(c_path) = CString::new(path.as_os_str().as_bytes()) {
        // If it fails, another process has removed the file.
        let _ = sys::unlink(&c_path);
    }
    Ok(file)
}
