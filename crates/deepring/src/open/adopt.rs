//! Descriptors that the program brings: a memfd, an unnamed file, one that another process has passed.
//!
//! The access mode is the descriptor's. It is used as it is, and `O_DIRECT` is set by `fcntl`, so the flags of its open file
//! description change. It is opened again through `/proc/self/fd` only where it cannot be used: one opened with `O_PATH`
//! moves no bytes, one with `O_APPEND` ignores positions, and a write-only one cannot read the edges of a direct write.

use super::lookup::Opened;
use super::{Name, OpenFile, OpenOptions, collect};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::file::{self as sys, Access, Create, Opening};
use crate::sys::stat::{FileKind, stat};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes a file of a descriptor. Blocks.
pub(crate) fn adopt(fd: OwnedFd, options: &OpenOptions) -> Result<OpenFile> {
    let (link, name) = name_of(&fd);
    let failed = |errno, call| Error::os(errno, call).at(&name.path);
    let invalid = |advice: &str| Error::new(ErrorKind::Invalid, "open").at(&name.path).advise(advice);
    if options.create || options.create_new || options.sync_directory {
        return Err(invalid("a descriptor is of a file that exists; nothing is created, and no directory is flushed"));
    }
    let opening = sys::opening(&fd).map_err(|errno| failed(errno, "fcntl"))?;
    let options = with_access(opening, *options).map_err(|refusal| match refusal {
        Refusal::Access(wanted) => failed(libc::EBADF, "open").advise(format!("the descriptor is not open for {wanted}")),
        Refusal::None => invalid("a descriptor without access needs options that request it"),
    })?;
    if options.truncate && !options.write {
        return Err(invalid("truncating needs write access"));
    }
    let kind = stat(&fd).map_err(|errno| failed(errno, "statx"))?.kind;
    // What cannot be used is refused later; opening it again could wait for ever.
    let is_usable = matches!(kind, FileKind::Regular | FileKind::BlockDevice);
    let again = |access| sys::open(None, &link, access, Create::No, true);
    let (fd, write_only) = match opening {
        Opening { access: Some(Access::Write), .. } if is_usable => match again(Access::ReadWrite) {
            Ok(fd) => (fd, false),
            // No permission to read, or no /proc.
            Err(_) if !opening.appends => (fd, true),
            Err(_) => (again(Access::Write).map_err(|errno| failed(errno, "open"))?, true),
        },
        Opening { access, appends } if is_usable && (access.is_none() || appends) => {
            let access = if options.write { Access::ReadWrite } else { Access::Read };
            (again(access).map_err(|errno| failed(errno, "open").advise("while opening the descriptor again through /proc"))?, false)
        }
        Opening { .. } => (fd, false),
    };
    collect(Opened { fd, created: false, write_only }, &name, &options)
}

/// The way to the file through its descriptor, and what the system calls it.
fn name_of(fd: &OwnedFd) -> (CString, Name) {
    let link = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
    let target = sys::read_link(fd, &link).ok().flatten();
    let path = target.as_ref().unwrap_or(&link).to_bytes();
    let name = Name::without_start(Path::new(OsStr::from_bytes(path)));
    (link, name)
}

/// Why the options do not suit a descriptor.
enum Refusal {
    /// It does not have this access.
    Access(&'static str),
    /// It has none, and the options request none.
    None,
}

/// The options with an access that the descriptor has: what they request, or all of it.
fn with_access(Opening { access, .. }: Opening, options: OpenOptions) -> std::result::Result<OpenOptions, Refusal> {
    let is_silent = !options.read && !options.write;
    let Some(access) = access else { return if is_silent { Err(Refusal::None) } else { Ok(options) } };
    let (reads, writes) = (access != Access::Write, access != Access::Read);
    if options.read && !reads {
        return Err(Refusal::Access("reading"));
    }
    if options.write && !writes {
        return Err(Refusal::Access("writing"));
    }
    Ok(if is_silent { options.read(reads).write(writes) } else { options })
}
