//! One error type for every failure, with fields instead of text to parse.
//!
//! An error names the call, the path, the position, the bytes requested and the bytes transferred.
//! `transferred` is always the contiguous prefix: bytes after it may or may not have reached the
//! file.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The system refused. The number is a positive `errno`.
    #[error("{}", os_text(*.0))]
    Os(i32),
    /// The file ended before the read was complete.
    #[error("end of file before the read was complete")]
    Eof,
    /// The file or the engine was closed before the request was accepted.
    #[error("already closed")]
    Closed,
    /// The request was canceled, or its engine shut down, before it finished.
    #[error("canceled before it finished")]
    Canceled,
    /// The deadline of the request passed before it finished.
    #[error("the deadline passed before it finished")]
    TimedOut,
    /// The engine already holds as many unsettled requests as `max_queued` allows.
    #[error("too many queued operations")]
    QueueFull,
    /// Direct I/O was required and is not available for the file.
    #[error("direct I/O was required and is not available")]
    Direct,
    /// The path is neither a regular file nor a block device.
    #[error("not a regular file or a block device")]
    Unsupported,
    /// The ring was lost while the request was in flight. The kernel can still use its memory,
    /// which is therefore never freed.
    #[error("the ring was lost while the operation was in flight")]
    Lost,
    /// The file's size differs from the buffer's.
    #[error("the file's size differs from the buffer's")]
    SizeMismatch,
    /// A verification found other bytes in the file than in memory; `position` is that of the first
    /// difference.
    #[error("the file differs from memory")]
    Mismatch,
    /// The bytes that were read have the CRC-32C `actual`, not the one that
    /// [`ReadOptions::expect`](crate::ReadOptions::expect) names. They are in the buffer.
    #[error("the checksum of the bytes is {actual:#010x}, not {expected:#010x}")]
    Checksum {
        /// What was asked for.
        expected: u32,
        /// What the bytes have.
        actual: u32,
    },
    /// An earlier `fsync` of this file failed, with this positive `errno`. Data written before it
    /// can be lost, and no later call may claim otherwise.
    #[error("an earlier fsync of this file failed: {}", os_text(*.0))]
    SyncFailed(i32),
    /// A file was replaced, or a directory got its name, and then flushing that name failed, with this positive `errno`. What
    /// is new is in place; after a power failure, what was there before can be back.
    #[error("the new name is there, but flushing its directory failed: {}", os_text(*.0))]
    Uncertain(i32),
    /// Another process holds a lock on the file that keeps this write out, or another copy of
    /// deepring does: this process, if it can be found.
    #[error("another process holds a lock on the file{}", owner_text(*.0))]
    Locked(Option<u32>),
    /// Two copies of deepring in this process have the file open, for example of different versions,
    /// and the file system has no locks to keep their writes apart.
    #[error("another copy of deepring in this process has the file open, and no lock keeps their writes apart")]
    TwoCopies,
    /// Two ranges of one call are read into the same memory, or written to the same bytes: the one that the error names, and
    /// this one.
    #[error("two ranges of one call overlap; the other one is range {0}")]
    Overlap(u32),
    /// An argument is outside its range.
    #[error("invalid argument")]
    Invalid,
    /// A panic on a thread of the engine ended the call, or ended the engine before the call. In
    /// the engine's own code this is a bug.
    #[error("a panic on a thread of the engine ended it")]
    Panicked,
    /// The engine belongs to the process that forked this one. Its threads exist only there.
    #[error("the engine belongs to the parent of this forked process")]
    Forked,
}

fn owner_text(process: Option<u32>) -> String {
    process.map_or_else(String::new, |process| format!(": process {process}"))
}

fn os_text(errno: i32) -> String {
    // std appends " (os error N)"; here the number is a separate field.
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A failed operation.
///
/// ```
/// use deepring::{Engine, OpenOptions, ErrorKind};
/// let engine = Engine::builder().build()?;
/// let error = engine.open("/no/such/file", OpenOptions::new().read(true)).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Os(2));
/// assert_eq!((error.code(), error.syscall()), ("ENOENT".into(), "open"));
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Error(Box<Fields>);

#[derive(Debug, Clone)]
struct Fields {
    kind: ErrorKind,
    syscall: &'static str,
    path: Option<Arc<Path>>,
    position: Option<u64>,
    requested: u64,
    transferred: u64,
    index: Option<u32>,
    advice: Option<String>,
}

/// The result of every fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, syscall: &'static str) -> Self {
        Self(Box::new(Fields { kind, syscall, path: None, position: None, requested: 0, transferred: 0, index: None, advice: None }))
    }

    pub(crate) fn os(errno: i32, syscall: &'static str) -> Self {
        Self::new(ErrorKind::Os(errno), syscall)
    }

    /// The same failure of another kind.
    #[must_use]
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same failure, of a flush after something got its new name: [`ErrorKind::Uncertain`]. For what becomes visible by
    /// [`Directory::rename`](crate::Directory::rename) and stays by [`Directory::sync`](crate::Directory::sync).
    #[must_use]
    pub fn into_uncertain(self) -> Self {
        let errno = self.errno().unwrap_or(libc::EIO);
        self.with_kind(ErrorKind::Uncertain(errno))
    }

    #[must_use]
    pub(crate) fn at(mut self, path: &Arc<Path>) -> Self {
        self.0.path = Some(Arc::clone(path));
        self
    }

    #[must_use]
    pub(crate) fn range(mut self, position: u64, requested: u64, transferred: u64) -> Self {
        self.0.position = Some(position);
        self.0.requested = requested;
        self.0.transferred = transferred;
        self
    }

    /// Of a call with many ranges: which one.
    #[must_use]
    pub(crate) fn of_range(mut self, index: u32) -> Self {
        self.0.index = Some(index);
        self
    }

    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A stable name: that of the `errno` (`ENOSPC`) for system errors, `ERR_DEEPRING_*` for the
    /// engine's own.
    pub fn code(&self) -> String {
        match self.0.kind {
            ErrorKind::Os(errno) => errno_name(errno).map_or_else(|| format!("E{errno}"), str::to_owned),
            ErrorKind::Eof => "ERR_DEEPRING_EOF".into(),
            ErrorKind::Closed => "ERR_DEEPRING_CLOSED".into(),
            ErrorKind::Canceled => "ERR_DEEPRING_CANCELED".into(),
            ErrorKind::TimedOut => "ERR_DEEPRING_TIMED_OUT".into(),
            ErrorKind::QueueFull => "ERR_DEEPRING_QUEUE_FULL".into(),
            ErrorKind::Direct => "ERR_DEEPRING_DIRECT".into(),
            ErrorKind::Unsupported => "ERR_DEEPRING_UNSUPPORTED".into(),
            ErrorKind::Lost => "ERR_DEEPRING_LOST".into(),
            ErrorKind::SizeMismatch => "ERR_DEEPRING_SIZE_MISMATCH".into(),
            ErrorKind::Mismatch => "ERR_DEEPRING_MISMATCH".into(),
            ErrorKind::Checksum { .. } => "ERR_DEEPRING_CHECKSUM".into(),
            ErrorKind::SyncFailed(_) => "ERR_DEEPRING_SYNC_FAILED".into(),
            ErrorKind::Uncertain(_) => "ERR_DEEPRING_UNCERTAIN".into(),
            ErrorKind::Locked(_) => "ERR_DEEPRING_LOCKED".into(),
            ErrorKind::TwoCopies => "ERR_DEEPRING_TWO_COPIES".into(),
            ErrorKind::Overlap(_) => "ERR_DEEPRING_OVERLAP".into(),
            ErrorKind::Invalid => "ERR_DEEPRING_INVALID".into(),
            ErrorKind::Panicked => "ERR_DEEPRING_PANICKED".into(),
            ErrorKind::Forked => "ERR_DEEPRING_FORKED".into(),
        }
    }

    /// What happened and, if it is known, what to do about it; without the fields.
    pub fn sentence(&self) -> String {
        match &self.0.advice {
            Some(advice) => format!("{} ({advice})", self.0.kind),
            None => self.0.kind.to_string(),
        }
    }

    /// The positive `errno` of the failure, if the system caused it.
    pub fn errno(&self) -> Option<i32> {
        match self.0.kind {
            ErrorKind::Os(errno) | ErrorKind::SyncFailed(errno) | ErrorKind::Uncertain(errno) => Some(errno),
            _ => None,
        }
    }

    /// The system call that failed, such as `read` or `fallocate`, or the engine's own call, such
    /// as `build`.
    pub fn syscall(&self) -> &'static str {
        self.0.syscall
    }

    /// The file's path, if one is known.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The position in the file, in bytes: where the request began, or the first difference that a
    /// verification found. `None` if the call has no position.
    pub fn position(&self) -> Option<u64> {
        self.0.position
    }

    /// The bytes requested; 0 if the call moves none.
    pub fn requested(&self) -> u64 {
        self.0.requested
    }

    /// The bytes moved, counted from the start of the request without a gap.
    pub fn transferred(&self) -> u64 {
        self.0.transferred
    }

    /// Of a call with many ranges: the index of the one that failed, whose position and bytes the others are.
    pub fn index(&self) -> Option<u32> {
        self.0.index
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        write!(f, "{}: {}, {}", self.code(), e.kind, e.syscall)?;
        if let Some(path) = &e.path {
            write!(f, " '{}'", path.display())?;
        }
        if let Some(index) = e.index {
            write!(f, ", range {index}")?;
        }
        if let Some(position) = e.position {
            write!(f, " at {position}: {} of {} bytes", e.transferred, e.requested)?;
        }
        if let Some(advice) = &e.advice {
            write!(f, " ({advice})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// For programs whose functions return [`io::Result`]. The kind says what a program can branch on; the
/// error itself stays reachable through [`io::Error::get_ref`] and [`io::Error::downcast`].
///
/// A canceled request does not become [`io::ErrorKind::Interrupted`], nor a full queue
/// [`io::ErrorKind::WouldBlock`]: programs repeat those calls at once, or wait for a readiness that
/// never comes. [`io::Error::raw_os_error`] is `None`; [`Error::errno`] has the number.
///
/// ```
/// use deepring::{Engine, Error, OpenOptions};
/// use std::io;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("weights.bin");
/// # std::fs::write(&path, [7u8; 1000])?;
/// fn header(path: &std::path::Path) -> io::Result<Vec<u8>> {
///     let engine = Engine::builder().build()?;
///     let file = engine.open(path, OpenOptions::new().read(true))?;
///     let (header, _) = file.read_exact_at(vec![0u8; 4096], 0).wait().ok()?;
///     Ok(header)
/// }
/// let error = header(&path).unwrap_err();
/// assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
/// let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("ours");
/// assert_eq!((inner.code().as_str(), inner.transferred()), ("ERR_DEEPRING_EOF", 1000));
/// # Ok::<(), io::Error>(())
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind().io_kind(), error)
    }
}

impl ErrorKind {
    /// What std has for it.
    fn io_kind(self) -> io::ErrorKind {
        match self {
            Self::Os(errno) | Self::SyncFailed(errno) | Self::Uncertain(errno) => io::Error::from_raw_os_error(errno).kind(),
            Self::Eof => io::ErrorKind::UnexpectedEof,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::QueueFull | Self::Locked(_) | Self::TwoCopies => io::ErrorKind::ResourceBusy,
            Self::Direct | Self::Unsupported => io::ErrorKind::Unsupported,
            Self::SizeMismatch | Self::Mismatch | Self::Checksum { .. } => io::ErrorKind::InvalidData,
            Self::Overlap(_) | Self::Invalid => io::ErrorKind::InvalidInput,
            Self::Closed | Self::Canceled | Self::Lost | Self::Panicked | Self::Forked => io::ErrorKind::Other,
        }
    }
}

/// The name of an `errno` that a file operation can meet.
fn errno_name(errno: i32) -> Option<&'static str> {
    macro_rules! names {
        ($($name:ident)*) => {
            match errno { $(libc::$name => Some(stringify!($name)),)* _ => None }
        };
    }
    names!(EPERM ENOENT EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL
        ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP
        EOVERFLOW EOPNOTSUPP ENOTCONN ETIMEDOUT ECONNABORTED EHOSTDOWN ESTALE EDQUOT ECANCELED EUCLEAN EREMOTEIO ENOMEDIUM EKEYEXPIRED EHWPOISON
        EILSEQ EBADMSG ESHUTDOWN ENODATA ENOLINK EBADE ETIME ETOOMANYREFS)
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorKind};
    use std::io;

    #[test]
    fn an_error_becomes_one_of_std_that_programs_branch_on_and_keeps_its_fields() {
        let rows = [
            (ErrorKind::Os(libc::ENOSPC), io::ErrorKind::StorageFull),
            (ErrorKind::Os(libc::ENOENT), io::ErrorKind::NotFound),
            (ErrorKind::Os(libc::EACCES), io::ErrorKind::PermissionDenied),
            (ErrorKind::SyncFailed(libc::EDQUOT), io::ErrorKind::QuotaExceeded),
            (ErrorKind::Uncertain(libc::ENOSPC), io::ErrorKind::StorageFull),
            (ErrorKind::Eof, io::ErrorKind::UnexpectedEof),
            (ErrorKind::QueueFull, io::ErrorKind::ResourceBusy),
            (ErrorKind::Locked(Some(1)), io::ErrorKind::ResourceBusy),
            (ErrorKind::Direct, io::ErrorKind::Unsupported),
            (ErrorKind::Mismatch, io::ErrorKind::InvalidData),
            (ErrorKind::Invalid, io::ErrorKind::InvalidInput),
            (ErrorKind::TimedOut, io::ErrorKind::TimedOut),
            (ErrorKind::Canceled, io::ErrorKind::Other),
        ];
        for (kind, expected) in rows {
            let error = io::Error::from(Error::new(kind, "write").range(5, 10, 3));
            assert_eq!(error.kind(), expected, "{kind:?}");
            let inner = error.downcast::<Error>().expect("the error itself");
            assert_eq!((inner.kind(), inner.position(), inner.requested(), inner.transferred()), (kind, Some(5), 10, 3));
        }
    }

    #[test]
    fn every_error_of_a_block_device_has_a_name() {
        // The errors that a block device can report (`blk_errors` in block/blk-core.c).
        let errors = [
            libc::EOPNOTSUPP,
            libc::ETIMEDOUT,
            libc::ENOSPC,
            libc::ENOLINK,
            libc::EREMOTEIO,
            libc::EBADE,
            libc::ENODATA,
            libc::EILSEQ,
            libc::ENOMEM,
            libc::EBUSY,
            libc::EAGAIN,
            libc::ENODEV,
            libc::ETOOMANYREFS,
            libc::EOVERFLOW,
            libc::ETIME,
            libc::EIO,
        ];
        for errno in errors {
            let code = Error::os(errno, "read").code();
            assert!(code[1..].parse::<i32>().is_err(), "{code} is a number, not a name");
        }
    }
}
