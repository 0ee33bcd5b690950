//! What tells one file from another that has the same device, inode number and birth time.

use super::{check, retry};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest handle of any file system (`MAX_HANDLE_SZ`).
const HANDLE_BYTES_MAX: usize = 128;

/// Set once a sandbox was seen to refuse `name_to_handle_at`.
static HANDLES_REFUSED: AtomicBool = AtomicBool::new(false);

/// The kernel's `struct file_handle`, with room for the largest.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    content: [u8; HANDLE_BYTES_MAX],
}

/// The handle of an open file: what its file system itself knows it by. Two nodes of one file
/// system that are open at the same time never share one.
pub(crate) fn handle(fd: &impl AsRawFd) -> Option<Box<[u8]>> {
    handle_at(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH).map(|(handle, _)| handle)
}

/// The handle of a file whose file system lets none be opened by it (overlay). Of other file
/// systems it can be no more than the inode number.
pub(crate) fn overlay_handle(fd: &impl AsRawFd) -> Option<Box<[u8]>> {
    handle_at(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH | libc::AT_HANDLE_FID).map(|(handle, _)| handle)
}

/// The handle of the working directory and the number of its mount. While a descriptor of it is
/// open, no other directory has the same two.
pub(crate) fn working_directory_handle() -> Option<(Box<[u8]>, i32)> {
    handle_at(libc::AT_FDCWD, c".", 0)
}

fn handle_at(fd: RawFd, path: &CStr, flags: i32) -> Option<(Box<[u8]>, i32)> {
    if HANDLES_REFUSED.load(Ordering::Relaxed) {
        return None;
    }
    let mut handle = Handle { bytes: HANDLE_BYTES_MAX as u32, kind: 0, content: [0; HANDLE_BYTES_MAX] };
    let mut mount = 0i32;
    // SAFETY: a terminated string; the kernel writes at most `bytes` bytes of content, and a number.
    let call = || check(unsafe { libc::syscall(libc::SYS_name_to_handle_at, fd, path.as_ptr(), &raw mut handle, &raw mut mount, flags) });
    match retry(call) {
        Ok(_) => {
            let content = &handle.content[..HANDLE_BYTES_MAX.min(handle.bytes as usize)];
            Some((handle.kind.to_ne_bytes().iter().chain(content).copied().collect(), mount))
        }
        Err(errno) => {
            // Of a file system that has none, only that file system is asked in vain.
            if matches!(errno, libc::ENOSYS | libc::EPERM) || errno == libc::EACCES && flags == libc::AT_EMPTY_PATH {
                HANDLES_REFUSED.store(true, Ordering::Relaxed);
            }
            None
        }
    }
}

/// The generation of a file's inode number: another one each time the number is given out.
pub(crate) fn generation(fd: &impl AsRawFd) -> Option<u32> {
    const FS_IOC_GETVERSION: libc::Ioctl = 0x8008_7601_u32 as libc::Ioctl;
    // The kernel writes four bytes, though the number of the call says eight.
    let mut generation = [0u32; 2];
    // SAFETY: FS_IOC_GETVERSION writes no more than a long.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GETVERSION, generation.as_mut_ptr()) }.into()).ok()?;
    Some(generation[0])
}

/// The UUID of the file system of an open file, from Linux 6.9 on.
pub(crate) fn file_system_uuid(fd: &impl AsRawFd) -> Option<[u8; 16]> {
    const FS_IOC_GETFSUUID: libc::Ioctl = 0x8011_1500_u32 as libc::Ioctl;
    // The kernel's `struct fsuuid2`: a length, and as many bytes.
    let mut answer = [0u8; 17];
    // SAFETY: FS_IOC_GETFSUUID writes 17 bytes.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GETFSUUID, answer.as_mut_ptr()) }.into()).ok()?;
    let uuid = answer[1..].try_into().ok()?;
    (answer[0] == 16 && uuid != [0; 16]).then_some(uuid)
}

/// The sequence number of a block device: another one each time a disk is attached under its
/// device number.
pub(crate) fn disk_sequence(fd: &impl AsRawFd) -> Option<u64> {
    const BLKGETDISKSEQ: libc::Ioctl = 0x8008_1280_u32 as libc::Ioctl;
    let mut sequence = 0u64;
    // SAFETY: BLKGETDISKSEQ writes eight bytes.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), BLKGETDISKSEQ, &raw mut sequence) }.into()).ok()?;
    Some(sequence)
}
