//! [`Failure`]: why a call has failed, without a version of `object_store`. What a caller can branch on is its kind.

use std::error::Error;
use std::io;
use std::path::Path;

/// Which error of `object_store` it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    NotFound,
    AlreadyExists,
    Precondition,
    Denied,
    NotSupported,
    Other,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// The file.
    pub(crate) path: String,
    pub(crate) source: Box<dyn Error + Send + Sync>,
}

/// What a call does with a file: it decides what an error of the system means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Something that must be there.
    Finds,
    /// Something that need not be there.
    Makes,
}

impl Failure {
    pub(crate) fn new(kind: Kind, path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, path: path.display().to_string(), source: source.into() }
    }

    /// That of the engine.
    pub(crate) fn of(error: deepring::Error, path: &Path, used: Use) -> Self {
        let kind = if error.kind() == deepring::ErrorKind::Unsupported && used == Use::Finds {
            // A pipe or a socket is no object.
            Kind::NotFound
        } else {
            // Once something got its name, no number means any more what it says.
            let uncertain = matches!(error.kind(), deepring::ErrorKind::Uncertain(_));
            error.errno().filter(|_| !uncertain).map_or(Kind::Other, |errno| kind_of(errno, used))
        };
        Self::new(kind, path, error)
    }

    /// That of a call of std.
    pub(crate) fn of_io(error: io::Error, path: &Path, used: Use) -> Self {
        Self::new(error.raw_os_error().map_or(Kind::Other, |errno| kind_of(errno, used)), path, error)
    }
}

/// What a number means for an object. A directory is no object, and a name that the file system cannot have names none.
fn kind_of(errno: i32, used: Use) -> Kind {
    match errno {
        libc::ENOENT => Kind::NotFound,
        libc::ENOTDIR | libc::EISDIR | libc::ENAMETOOLONG | libc::ELOOP if used == Use::Finds => Kind::NotFound,
        libc::EEXIST => Kind::AlreadyExists,
        libc::EACCES | libc::EPERM | libc::EROFS => Kind::Denied,
        _ => Kind::Other,
    }
}
