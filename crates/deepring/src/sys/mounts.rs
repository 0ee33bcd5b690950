//! What `/proc` reports about the mount that a file was opened through.

use super::stat::DeviceNumber;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A line of `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// The device number of the whole file system. The files of a subvolume can have another one.
    pub(crate) device: DeviceNumber,
    /// What is mounted: a block device, if the file system is on one.
    source: PathBuf,
    /// Of an overlay: the directory that is written to.
    upper: Option<PathBuf>,
}

/// The mount of an open file; `None` without `/proc`. A thread can have mounts of its own.
pub(crate) fn mount_of(fd: &impl AsRawFd) -> Option<Mounted> {
    let number = number_of(fd.as_raw_fd())?;
    let table = std::fs::read("/proc/thread-self/mountinfo").ok()?;
    table.split(|&byte| byte == b'\n').find_map(|line| Mounted::parse(line, number))
}

fn number_of(fd: RawFd) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

impl Mounted {
    /// Parses a line if it is that of the mount `number`.
    fn parse(line: &[u8], number: u64) -> Option<Self> {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let text = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_owned);
        (text(fields.first()?)?.parse() == Ok(number)).then_some(())?;
        let separator = fields.iter().position(|field| *field == b"-")?;
        let options = fields.get(separator + 3).copied().unwrap_or_default();
        let upper = options.split(|&byte| byte == b',').find_map(|option| option.strip_prefix(b"upperdir="));
        Some(Self {
            device: DeviceNumber::parse(&text(fields.get(2)?)?)?,
            source: unescape(fields.get(separator + 2)?),
            upper: upper.map(unescape),
        })
    }

    /// The block device below it, or the device of its upper directory.
    pub(crate) fn block_device(&self) -> Option<DeviceNumber> {
        let number = |dev: u64| DeviceNumber { major: libc::major(dev), minor: libc::minor(dev) };
        let upper = self.upper.as_deref().and_then(|upper| std::fs::metadata(upper).ok()).map(|upper| number(upper.dev()));
        let block_device = |source: &Path| {
            let found = std::fs::metadata(source).ok()?;
            found.file_type().is_block_device().then(|| number(found.rdev()))
        };
        upper.or_else(|| self.source.is_absolute().then(|| block_device(&self.source)).flatten())
    }
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_mount_is_found_and_read() {
        let line = br"36 35 0:44 /sub /mnt\040two rw,noatime shared:1 master:2 - btrfs /dev/loop\0403 rw,subvol=/sub";
        let mounted = Mounted::parse(line, 36).expect("a mount");
        assert_eq!(mounted.device, DeviceNumber { major: 0, minor: 44 });
        assert_eq!((mounted.source.as_path(), mounted.upper), (Path::new("/dev/loop 3"), None));
        assert!(Mounted::parse(line, 35).is_none());
    }

    #[test]
    fn an_overlay_names_the_directory_that_is_written_to() {
        let line = b"9 1 0:50 / /merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w";
        assert_eq!(Mounted::parse(line, 9).expect("a mount").upper, Some("/u".into()));
        assert!(Mounted::parse(b"9 1 0:50 / /merged", 9).is_none());
    }
}
