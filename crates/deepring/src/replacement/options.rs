//! [`ReplaceOptions`]: how to replace a file.

use crate::open::{Direct, OpenOptions};
use crate::priority::Priority;

/// What temporary files are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TemporaryNames {
    /// `.NAME.PID-N.tmp`, where a long name is cut.
    #[default]
    Hidden,
    /// `.deepring-PID-N#0`: for directories of object stores, which keep a `#` with digits behind it for files in progress and do
    /// not list them.
    Numbered,
}

/// How to replace a file; see [`Engine::replace`](crate::Engine::replace).
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches, as those of OpenOptions")]
pub struct ReplaceOptions {
    pub(super) size: u64,
    pub(super) durable: bool,
    pub(super) sync_directory: bool,
    pub(super) keep_existing: bool,
    pub(super) stamp: bool,
    pub(super) names: TemporaryNames,
    pub(super) mode: u32,
    pub(super) direct: Direct,
    pub(super) priority: Priority,
}

impl Default for ReplaceOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplaceOptions {
    /// Nothing reserved, durable, direct I/O preferred; of a file that did not exist, mode 0o666 less the umask.
    pub const fn new() -> Self {
        Self {
            size: 0,
            durable: true,
            sync_directory: true,
            keep_existing: false,
            stamp: false,
            names: TemporaryNames::Hidden,
            mode: 0o666,
            direct: Direct::Prefer,
            priority: Priority::Throughput,
        }
    }

    /// The length of the new file in bytes, if it is known; 0 by default. The file has this length from the beginning, and its
    /// space on the disk: a disk that is too full is found before the first byte is written. On file systems that cannot
    /// reserve, only the length is set. If less is written after all, cut the file with
    /// [`File::set_len`](crate::File::set_len).
    #[must_use]
    pub const fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Whether a commit that succeeded outlives a power failure; on by default. Off leaves out both flushes and nothing else:
    /// the name still changes at once for all programs, but after a power failure the file can be a mixture, or empty.
    #[must_use]
    pub const fn durable(mut self, yes: bool) -> Self {
        self.durable = yes;
        self
    }

    /// Whether a durable commit flushes the directory; on by default. Off is for many files in one directory: call
    /// [`Engine::sync_directory`](crate::Engine::sync_directory) once after the last. Until then a power failure can bring the
    /// old file back, whole.
    #[must_use]
    pub const fn sync_directory(mut self, yes: bool) -> Self {
        self.sync_directory = yes;
        self
    }

    /// Whether a file that exists is kept, and replacing it fails with `EEXIST`; off by default. It is looked for at the
    /// beginning, and the commit takes the name only if it is free then.
    #[must_use]
    pub const fn keep_existing(mut self, yes: bool) -> Self {
        self.keep_existing = yes;
        self
    }

    /// Whether a commit sets the file's times to that of the clock in nanoseconds, instead of the kernel's, which stands still for
    /// milliseconds; off by default. No two commits of a process set the same time, so that number of inode and time name one
    /// version of a file, where the file system keeps nanoseconds. See [`Replacement::commit_when`](crate::Replacement::commit_when).
    #[must_use]
    pub const fn stamp(mut self, yes: bool) -> Self {
        self.stamp = yes;
        self
    }

    /// What the temporary file is called; [`TemporaryNames::Hidden`] by default.
    #[must_use]
    pub const fn temporary_names(mut self, names: TemporaryNames) -> Self {
        self.names = names;
        self
    }

    /// Permission bits of the new file, less the process's umask, if there is no old file whose bits it takes over.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Whether transfers bypass the page cache; [`Direct::Prefer`] by default.
    #[must_use]
    pub const fn direct(mut self, direct: Direct) -> Self {
        self.direct = direct;
        self
    }

    /// The class of requests on the file that name none themselves; [`Priority::Throughput`] by default.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How the new file is opened.
    pub(super) fn open_options(&self) -> OpenOptions {
        OpenOptions::new().read(true).write(true).direct(self.direct).priority(self.priority)
    }
}
