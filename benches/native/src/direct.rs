//! Files opened past the page cache, as the predecessor opened them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::aio::Direction;

/// Opens for direct I/O, and creates the file for a write. Never truncates, as the predecessor did
/// not.
pub(crate) fn open(path: &Path, direction: Direction) -> Result<File, String> {
    let writes = direction == Direction::Write;
    OpenOptions::new()
        .read(!writes)
        .write(writes)
        .create(writes)
        .mode(0o600)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map_err(|error| format!("{}: {error} (opened with O_DIRECT)", path.display()))
}

/// Writes all of `bytes`.
pub(crate) fn write_all(file: &File, bytes: &[u8], position: u64, path: &Path) -> Result<(), String> {
    file.write_all_at(bytes, position).map_err(|error| format!("{}: {error} while writing at {position}", path.display()))
}

/// Reads all of `bytes`.
pub(crate) fn read_all(file: &File, bytes: &mut [u8], position: u64, path: &Path) -> Result<(), String> {
    file.read_exact_at(bytes, position).map_err(|error| format!("{}: {error} while reading at {position}", path.display()))
}

/// Raises the soft limit of open files to the hard one: a rival that opens a thousand files at once
/// must not fail on a shell's limit.
pub(crate) fn raise_file_limit() -> Result<(), String> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills the structure it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(format!("getrlimit: {}", io::Error::last_os_error()));
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit reads the structure it is given.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(format!("setrlimit: {}", io::Error::last_os_error()));
    }
    Ok(())
}
