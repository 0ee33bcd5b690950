//! [`Name`]: a path, with the directory that it starts from.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::{Errno, file as sys, identity, stat};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A path as it was meant when it was named: a relative one starts from the directory that was the
/// working directory then, whatever that directory is called by now and wherever the process has
/// gone since.
#[derive(Debug, Clone)]
pub struct Name {
    pub(crate) path: Arc<Path>,
    start: std::result::Result<Option<Arc<OwnedFd>>, Errno>,
}

impl Name {
    /// Does not block, unless the working directory's file system does.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        // The empty path names nothing, not the directory.
        let is_relative = path.is_relative() && !path.as_os_str().is_empty();
        let start = if is_relative { working_directory().map(Some) } else { Ok(None) };
        Self { path: Arc::from(path), start }
    }

    /// A path for errors alone.
    pub(super) fn without_start(path: &Path) -> Self {
        Self { path: Arc::from(path), start: Ok(None) }
    }

    /// Another path from the same start.
    pub(super) fn with_path(&self, path: &Path) -> Self {
        Self { path: Arc::from(path), start: self.start.clone() }
    }

    /// Where it starts, if not at the root, and the path for the system.
    pub(crate) fn parts(&self) -> Result<(Option<&OwnedFd>, CString)> {
        let Ok(path) = CString::new(self.path.as_os_str().as_bytes()) else {
            return Err(Error::new(ErrorKind::Invalid, "open").at(&self.path).advise("the path contains a NUL byte"));
        };
        match &self.start {
            Ok(start) => Ok((start.as_deref(), path)),
            Err(errno) => Err(Error::os(*errno, "open").at(&self.path).advise("the working directory cannot be opened")),
        }
    }
}

/// What shows that a directory is the one that a descriptor was opened for, while that is open.
#[derive(Debug, PartialEq, Eq)]
enum Evidence {
    Handle(Box<[u8]>, i32),
    /// On file systems without handles.
    Numbers(u64, u64),
}

/// The working directory as it was last used. Names share its descriptor, so that any number can be
/// queued, and the last of them closes it.
static CURRENT: Mutex<Option<(Evidence, Weak<OwnedFd>)>> = Mutex::new(None);

fn working_directory() -> std::result::Result<Arc<OwnedFd>, Errno> {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let evidence = evidence()?;
    if let Some((known, descriptor)) = &*current
        && let Some(descriptor) = descriptor.upgrade()
        && *known == evidence
    {
        return Ok(descriptor);
    }
    let descriptor = Arc::new(sys::open_place(None, c".")?);
    // A directory that was changed in between is another one: it is not remembered.
    *current = (self::evidence()? == evidence).then(|| (evidence, Arc::downgrade(&descriptor)));
    Ok(descriptor)
}

fn evidence() -> std::result::Result<Evidence, Errno> {
    if let Some((handle, mount)) = identity::working_directory_handle() {
        return Ok(Evidence::Handle(handle, mount));
    }
    stat::working_directory_numbers().map(|(device, number)| Evidence::Numbers(device, number))
}
