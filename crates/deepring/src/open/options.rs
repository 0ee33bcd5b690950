//! [`OpenOptions`]: how to open a file.

use crate::priority::Priority;

/// Whether transfers bypass the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Direct {
    /// Always through the page cache.
    Never,
    /// Direct where the file allows it, else buffered. [`crate::File::direct`] reports which.
    #[default]
    Prefer,
    /// Direct, or opening fails with [`crate::ErrorKind::Direct`].
    Require,
    /// As `Prefer`, but blocks of reads that are in the page cache, all of them, are copied from there. For files that other
    /// programs read, too, or that are read again and again and fit into memory. While a write to the file is in progress,
    /// reads are direct.
    Auto,
}

/// How to open a file. Every switch is off by default, as in [`std::fs::OpenOptions`].
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "they mirror std::fs::OpenOptions")]
pub struct OpenOptions {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) create_new: bool,
    pub(crate) truncate: bool,
    pub(crate) direct: Direct,
    pub(crate) mode: u32,
    pub(crate) sync_directory: bool,
    pub(crate) priority: Priority,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// All off, direct I/O preferred, mode 0o666 less the umask.
    pub const fn new() -> Self {
        Self {
            read: false,
            write: false,
            create: false,
            create_new: false,
            truncate: false,
            direct: Direct::Prefer,
            mode: 0o666,
            sync_directory: false,
            priority: Priority::Throughput,
        }
    }

    /// Open for reading.
    #[must_use]
    pub const fn read(mut self, yes: bool) -> Self {
        self.read = yes;
        self
    }

    /// Open for writing. The file is opened for reading too if permissions allow it, because
    /// unaligned edges are read before they are written. Without read permission the file is
    /// buffered.
    #[must_use]
    pub const fn write(mut self, yes: bool) -> Self {
        self.write = yes;
        self
    }

    /// Create the file if it does not exist. Needs `write`.
    #[must_use]
    pub const fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// Create the file, and fail with `EEXIST` if it exists. Needs `write`.
    #[must_use]
    pub const fn create_new(mut self, yes: bool) -> Self {
        self.create_new = yes;
        self
    }

    /// Truncate the file to no bytes. Needs `write`.
    #[must_use]
    pub const fn truncate(mut self, yes: bool) -> Self {
        self.truncate = yes;
        self
    }

    /// Whether to bypass the page cache; [`Direct::Prefer`] by default.
    #[must_use]
    pub const fn direct(mut self, direct: Direct) -> Self {
        self.direct = direct;
        self
    }

    /// Permission bits of a file that is created, less the process's umask.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Flush the directory in which the file is created or found, so that the name survives a
    /// crash. A failure is an error of opening.
    #[must_use]
    pub const fn sync_directory(mut self, yes: bool) -> Self {
        self.sync_directory = yes;
        self
    }

    /// The class of requests on the file that name none themselves, nor by their handle;
    /// [`Priority::Throughput`] by default.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}
