//! What opening finds out about the identity of a file.

use crate::inode::{Identity, Numbers, Proof};
use crate::sys::file as sys;
use crate::sys::identity as evidence;
use crate::sys::stat::{FileKind, Stat};
use std::os::fd::OwnedFd;

/// `is_fuse`: a server in user space gives out numbers and handles as it likes.
pub(super) fn identity(fd: &OwnedFd, stat: &Stat, is_fuse: bool) -> Identity {
    if stat.kind == FileKind::BlockDevice {
        // All nodes of one device are the same bytes.
        let numbers = Numbers { device: stat.node.id(), number: u64::MAX, born_ns: 0 };
        let sequence = evidence::disk_sequence(fd).map(|sequence| Proof::Lasting(Box::new(sequence.to_ne_bytes())));
        return Identity { numbers, proof: sequence.unwrap_or_else(|| Proof::WhileOpen(Box::default())) };
    }
    let numbers = Numbers { device: stat.device.id(), number: stat.number, born_ns: stat.birthtime_ns };
    Identity { numbers, proof: proof(fd, stat, is_fuse) }
}

fn proof(fd: &OwnedFd, stat: &Stat, is_fuse: bool) -> Proof {
    if let Some(handle) = evidence::handle(fd) {
        // The nodes of a server's open files have different handles. When one is closed, the next
        // file can get its handle, and so can a file of the server's next run.
        return if is_fuse { Proof::WhileOpen(handle) } else { Proof::Lasting(handle) };
    }
    if is_fuse {
        return Proof::None;
    }
    let file_system = sys::file_system(fd);
    if file_system == Ok(sys::OVERLAY_MAGIC)
        && let Some(handle) = evidence::overlay_handle(fd)
    {
        return Proof::Lasting(handle);
    }
    if let Some(generation) = evidence::generation(fd) {
        return Proof::Lasting(Box::new(generation.to_ne_bytes()));
    }
    // While a file is open, no other one there has its number and its birth time.
    let is_local = stat.birthtime_ns != 0 && file_system.is_ok_and(|magic| sys::LOCAL_MAGICS.contains(&magic));
    if is_local { Proof::WhileOpen(Box::default()) } else { Proof::None }
}
