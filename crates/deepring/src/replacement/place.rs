//! [`Place`]: the name that is taken over, in its directory, and the names of temporary files beside it.

use super::options::TemporaryNames;
use crate::error::{Error, ErrorKind, Result};
use crate::open::{Entry, Name};
use crate::sys::replace::Calls;
use crate::sys::stat::{Named, named};
use crate::sys::{Errno, file as sys};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names that are tried for a temporary file. Each is free unless another process with this number has died and left it.
const NAMES_MAX: u32 = 10_000;

/// The number in the next temporary file's name.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A name in a directory that is kept open: it stays this directory, whatever it is called by now.
pub(super) struct Place {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) name: CString,
    /// As the caller named it, for errors.
    pub(super) path: Arc<Path>,
}

impl Place {
    /// Where a path leads. A link at its end is not followed.
    pub(super) fn of(name: &Name) -> Result<Self> {
        let failed = |errno| Error::os(errno, "open");
        let (start, path) = name.parts()?;
        if path.is_empty() {
            return Err(failed(libc::ENOENT));
        }
        let Entry { directory, name: last } = Entry::of(start, &path).map_err(failed)?;
        // Opened before anything else is done: what is needed to flush it must not fail at the end.
        let directory = match sys::open_directory(Some(&directory), c".") {
            // It can be written without the right to read it.
            Err(libc::EACCES | libc::EPERM) => directory,
            opened => opened.map_err(failed)?,
        };
        Ok(Self { directory: Arc::new(directory), name: last, path: Arc::clone(&name.path) })
    }

    /// The permission bits of the file that is replaced, if there is one. Refuses what is not to be replaced, in the name of
    /// this call.
    pub(super) fn old_mode(&self, keep_existing: bool, call: &'static str) -> Result<Option<u32>> {
        let failed = |errno| Err(Error::os(errno, call));
        match named(&self.directory, &self.name) {
            Ok(Named::Nothing) => Ok(None),
            Ok(_) if keep_existing => failed(libc::EEXIST),
            // Those of set-user-ID and their like are not taken over: any write takes them from a file, too.
            Ok(Named::Regular(mode)) => Ok(Some(mode & 0o777)),
            Ok(Named::Link) => Ok(None),
            Ok(Named::Directory) => failed(libc::EISDIR),
            Ok(Named::Other) => {
                let advice = "a device, a pipe or a socket is not replaced by a file";
                Err(Error::new(ErrorKind::Unsupported, call).advise(advice))
            }
            Err(errno) => failed(errno),
        }
    }

    /// Makes a file with a name of its own.
    pub(super) fn create(&self, calls: &dyn Calls, names: TemporaryNames, mode: u32) -> std::result::Result<(CString, OwnedFd), Errno> {
        let most = sys::name_bytes_max(&self.directory);
        for _ in 0..NAMES_MAX {
            let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
            let name = match names {
                TemporaryNames::Hidden => temporary_name(&self.name, process, number, most)?,
                TemporaryNames::Numbered => CString::new(format!(".deepring-{process}-{number}#0")).map_err(|_| libc::EINVAL)?,
            };
            match calls.create(&self.directory, &name, mode) {
                Err(libc::EEXIST) => {}
                created => return created.map(|file| (name, file)),
            }
        }
        Err(libc::EEXIST)
    }
}

/// `.NAME.PROCESS-NUMBER.tmp`, of at most `most` bytes: the name is cut if need be, though not inside a character.
fn temporary_name(name: &CStr, process: u32, number: u64, most: usize) -> std::result::Result<CString, Errno> {
    let name = name.to_bytes();
    let ending = format!(".{process}-{number}.tmp");
    let mut len = most.saturating_sub(ending.len() + 1).min(name.len());
    while len > 0 && name.get(len).is_some_and(|byte| byte & 0xc0 == 0x80) {
        len -= 1;
    }
    CString::new([b".", &name[..len], ending.as_bytes()].concat()).map_err(|_| libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::temporary_name;
    use std::ffi::CString;

    fn name(of: &str, most: usize) -> String {
        let name = temporary_name(&CString::new(of).expect("no NUL"), 4711, 23, most).expect("a name");
        name.into_string().expect("whole characters")
    }

    #[test]
    fn a_temporary_name_is_hidden_unique_and_fits() {
        assert_eq!(name("model.bin", 255), ".model.bin.4711-23.tmp");
        assert_eq!(name("model.bin", 22), ".model.bin.4711-23.tmp");
        assert_eq!(name("model.bin", 21), ".model.bi.4711-23.tmp");
        assert_eq!(name("model.bin", 5), "..4711-23.tmp");
        assert_eq!(name(&"x".repeat(255), 255), format!(".{}.4711-23.tmp", "x".repeat(242)));
    }

    #[test]
    fn a_name_is_not_cut_inside_a_character() {
        let whole = "é".repeat(127);
        for most in 13..=255 {
            let name = name(&whole, most);
            assert!(name.len() <= most && name.len() + 2 > most, "{name} of {most} bytes");
        }
    }
}
