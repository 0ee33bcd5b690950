//! [`Version`]: what tells one version of an object from every other: the inode, the time of the put in nanoseconds, and the
//! size.
//!
//! The time is not the kernel's, which stands still for milliseconds, while a file of the same length can get the inode that
//! its predecessor has just given back. Every put sets it itself, and no two puts of a process set the same.

use deepring::FileStat;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Times that are whole multiples of this come from a file system that keeps no fine ones. (One in ten million others does so
/// by chance.)
const COARSE_NS: i128 = 10_000_000;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    inode: u64,
    time_ns: i128,
    size: u64,
}

impl Version {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self { inode: stat.ino, time_ns: stat.mtime_ns, size: stat.size }
    }

    /// The same of what std has found.
    pub(crate) fn of_metadata(found: &Metadata) -> Self {
        let time_ns = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        Self { inode: found.ino(), time_ns, size: found.len() }
    }

    /// The time of the put in nanoseconds since 1970.
    pub(crate) fn time_ns(&self) -> i128 {
        self.time_ns
    }

    /// Whether an `ETag` names it, in quotation marks or not.
    pub(crate) fn has(&self, tag: &str) -> bool {
        let tag = tag.trim();
        tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag) == self.to_string()
    }

    /// Whether its file system can give the same time to two puts.
    pub(crate) fn is_coarse(&self) -> bool {
        self.time_ns % COARSE_NS == 0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.inode, self.time_ns, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn a_tag_names_one_version_with_and_without_quotation_marks() {
        let version = Version { inode: 0x1f, time_ns: 0x1234_5678_9abc_def1, size: 10 };
        assert_eq!(version.to_string(), "1f-123456789abcdef1-a");
        for tag in ["1f-123456789abcdef1-a", "\"1f-123456789abcdef1-a\"", " \"1f-123456789abcdef1-a\" "] {
            assert!(version.has(tag), "{tag}");
        }
        for tag in ["", "*", "\"1f-123456789abcdef1-b\"", "W/\"1f-123456789abcdef1-a\"", "\"1f-123456789abcdef1-a"] {
            assert!(!version.has(tag), "{tag}");
        }
        assert!(!version.is_coarse());
        assert!(Version { time_ns: 1_700_000_000_000_000_000, ..version }.is_coarse());
    }
}
