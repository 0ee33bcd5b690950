//! One blocking transfer of a descriptor.

use super::{Errno, errno};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// `RWF_NOWAIT`: fail with `EAGAIN` rather than block the submitter.
pub(crate) const NOWAIT: i32 = libc::RWF_NOWAIT;

/// Set once a sandbox or an old kernel was seen to refuse the calls that take flags.
static FLAGS_REFUSED: AtomicBool = AtomicBool::new(false);

/// One `preadv2`. Returns what the kernel returned: bytes, or a negative error number.
///
/// # Safety
/// `address..address + len` is writable memory that stays in place during the call, and that
/// nothing else accesses during it.
pub(crate) unsafe fn read_at(fd: RawFd, address: u64, len: u32, position: u64, flags: i32) -> i32 {
    let vector = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len as usize };
    let (low, high) = halves(position);
    let newer = || {
        // SAFETY: one vector over memory that the caller guarantees.
        unsafe { libc::syscall(libc::SYS_preadv2, fd, &raw const vector, 1, low, high, flags) }
    };
    let older = || {
        // SAFETY: memory that the caller guarantees.
        unsafe { libc::pread(fd, vector.iov_base, vector.iov_len, position as libc::off_t) as libc::c_long }
    };
    transfer(newer, older, flags)
}

/// One `pwritev2`. Returns what the kernel returned: bytes, or a negative error number.
///
/// # Safety
/// `address..address + len` is readable memory that stays in place during the call, and that
/// nothing else writes to during it.
pub(crate) unsafe fn write_at(fd: RawFd, address: u64, len: u32, position: u64, flags: i32) -> i32 {
    let vector = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len as usize };
    let (low, high) = halves(position);
    let newer = || {
        // SAFETY: one vector over memory that the caller guarantees.
        unsafe { libc::syscall(libc::SYS_pwritev2, fd, &raw const vector, 1, low, high, flags) }
    };
    let older = || {
        // SAFETY: memory that the caller guarantees.
        unsafe { libc::pwrite(fd, vector.iov_base, vector.iov_len, position as libc::off_t) as libc::c_long }
    };
    transfer(newer, older, flags)
}

/// Makes the newer call, and the older one if that is refused. What says something of the transfer
/// is never repeated.
fn transfer(newer: impl Fn() -> libc::c_long, older: impl Fn() -> libc::c_long, flags: i32) -> i32 {
    let result = |done: libc::c_long| if done < 0 { -errno() } else { done as i32 };
    if !FLAGS_REFUSED.load(Ordering::Relaxed) {
        let done = result(newer());
        if done >= 0 || !can_be_refusal(-done) {
            return done;
        }
        if flags != 0 {
            // As a file that knows no such flag: it is repeated without.
            return if -done == libc::EINVAL { done } else { -libc::EOPNOTSUPP };
        }
        let again = result(older());
        if again >= 0 && matches!(-done, libc::ENOSYS | libc::EPERM) {
            FLAGS_REFUSED.store(true, Ordering::Relaxed);
        }
        return again;
    }
    if flags == 0 { result(older()) } else { -libc::EOPNOTSUPP }
}

/// Whether this number can come from a sandbox or an old kernel, and not from the device.
fn can_be_refusal(errno: Errno) -> bool {
    const ANSWERS: [Errno; 13] = [
        libc::EINTR,
        libc::EAGAIN,
        libc::EIO,
        libc::ENOSPC,
        libc::EDQUOT,
        libc::EFBIG,
        libc::EBADF,
        libc::EFAULT,
        libc::EROFS,
        libc::ESTALE,
        libc::EREMOTEIO,
        libc::ETIMEDOUT,
        libc::ENOTCONN,
    ];
    !ANSWERS.contains(&errno)
}

/// The kernel takes the position as two registers; on 64-bit machines the first holds all of it.
fn halves(position: u64) -> (libc::c_ulong, libc::c_ulong) {
    (position as libc::c_ulong, (position >> 32) as libc::c_ulong)
}
