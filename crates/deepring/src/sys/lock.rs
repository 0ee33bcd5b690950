//! Open-file-description locks: advisory locks on byte ranges that belong to one opening of a file.
//!
//! They exclude other processes, and other openings in this process. POSIX locks of any process
//! conflict with them, those of this one too. None of these calls waits.

use super::fault::{self, Call};
use super::{Errno, check};
use std::fmt::Write;
use std::os::fd::AsRawFd;

/// What a lock keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Exclusive locks. The descriptor must allow reading.
    Shared,
    /// Every other lock. The descriptor must allow writing.
    Exclusive,
}

/// The ends of a range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A lock that another opening holds, or a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) start: u64,
    /// The process, if the lock is a POSIX lock and the process is visible here. A lock of an
    /// opening has no process.
    pub(crate) process: Option<u32>,
}

/// Takes a lock. Returns whether nothing conflicts with it.
pub(crate) fn try_lock(fd: &impl AsRawFd, kind: Kind, range: Range) -> Result<bool, Errno> {
    match fault::refuse(Call::Lock, fd.as_raw_fd()).and_then(|()| set(fd, kind_number(kind), range)) {
        Ok(()) => Ok(true),
        Err(libc::EAGAIN | libc::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Releases what this opening holds in the range.
pub(crate) fn unlock(fd: &impl AsRawFd, range: Range) {
    // It cannot fail: splitting one lock into two takes memory, but these ranges are whole locks.
    let _ = set(fd, libc::F_UNLCK, range);
}

/// The first lock of others that conflicts with a lock of this kind.
pub(crate) fn conflict(fd: &impl AsRawFd, kind: Kind, range: Range) -> Result<Option<Foreign>, Errno> {
    let mut lock = describe(kind_number(kind), range);
    // SAFETY: the call reads and fills a local struct.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) }.into())?;
    let process = u32::try_from(lock.l_pid).ok().filter(|&process| process > 0);
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(Foreign { start: lock.l_start as u64, process }))
}

fn kind_number(kind: Kind) -> i32 {
    match kind {
        Kind::Shared => libc::F_RDLCK,
        Kind::Exclusive => libc::F_WRLCK,
    }
}

fn describe(kind: i32, range: Range) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: range.start as libc::off_t,
        l_len: (range.end - range.start) as libc::off_t,
        // Required: this is what makes the lock one of the opening.
        l_pid: 0,
    }
}

fn set(fd: &impl AsRawFd, kind: i32, range: Range) -> Result<(), Errno> {
    let lock = describe(kind, range);
    // SAFETY: the call reads a local struct.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }.into()).map(drop)
}

/// A process that holds a lock of an opening on the file `number` that covers `at`, found in
/// procfs. Blocks: it reads the descriptors of one process, or of every process that this one may
/// examine.
pub(crate) fn process_with_lock(number: u64, at: u64, process: Option<u32>) -> Option<u32> {
    let mut path = String::new();
    let mut holds = |process: u32| {
        path.clear();
        // A string takes what is written to it.
        let _ = write!(path, "/proc/{process}/fdinfo");
        let descriptors = std::fs::read_dir(&path).into_iter().flatten().flatten();
        descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(|text| has_lock(&text, number, at))
    };
    if let Some(process) = process {
        return holds(process).then_some(process);
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|&process| holds(process))
}

/// Whether a file of `/proc/PID/fdinfo` lists such a lock. Such a line reads
/// `lock: 1: OFDLCK  ADVISORY  WRITE -1 fe:01:1837 0 EOF`.
fn has_lock(text: &str, number: u64, at: u64) -> bool {
    text.lines().filter_map(|line| line.strip_prefix("lock:")).any(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "OFDLCK").skip(4);
        let inode = words.next().and_then(|word| word.rsplit(':').next()?.parse().ok());
        let start = words.next().and_then(|word| word.parse::<u64>().ok());
        let end = words.next().map(|word| word.parse::<u64>().unwrap_or(u64::MAX));
        inode == Some(number) && start.is_some_and(|start| start <= at) && end.is_some_and(|end| at <= end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range { start: 1 << 62, end: (1 << 62) + 4096 };

    #[test]
    fn two_openings_exclude_each_other_and_the_owner_is_found() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let other = std::fs::OpenOptions::new().read(true).write(true).open(file.path()).expect("the file");
        assert_eq!(try_lock(file.as_file(), Kind::Exclusive, RANGE), Ok(true));
        assert_eq!(try_lock(&other, Kind::Exclusive, RANGE), Ok(false));
        assert_eq!(try_lock(&other, Kind::Shared, RANGE), Ok(false));
        assert_eq!(conflict(&other, Kind::Shared, RANGE), Ok(Some(Foreign { start: RANGE.start, process: None })));
        assert_eq!(conflict(file.as_file(), Kind::Exclusive, RANGE), Ok(None), "an opening does not stand in its own way");
        let number = std::os::unix::fs::MetadataExt::ino(&other.metadata().expect("metadata"));
        let own = std::process::id();
        assert_eq!(process_with_lock(number, RANGE.start + 1, Some(own)), Some(own));
        assert_eq!(process_with_lock(number, RANGE.end, Some(own)), None);
        unlock(file.as_file(), RANGE);
        assert_eq!(try_lock(&other, Kind::Exclusive, RANGE), Ok(true));
    }

    #[test]
    fn a_posix_lock_of_this_process_is_reported_with_its_number() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut whole = describe(libc::F_WRLCK, Range { start: 0, end: 0 });
        // SAFETY: the call reads a local struct.
        let locked = unsafe { libc::fcntl(file.as_file().as_raw_fd(), libc::F_SETLK, &raw mut whole) };
        assert_eq!(locked, 0);
        assert_eq!(try_lock(file.as_file(), Kind::Exclusive, RANGE), Ok(false), "it reaches to the end of all positions");
        let foreign = conflict(file.as_file(), Kind::Exclusive, RANGE).expect("an answer").expect("the lock");
        assert_eq!(foreign, Foreign { start: 0, process: Some(std::process::id()) });
    }

    #[test]
    fn locks_are_found_in_procfs() {
        let text = "pos:\t0\nflags:\t0100002\nlock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:01:1837 4611686018427387904 4611686018427391999\n\
                    lock:\t2: POSIX  ADVISORY  READ 12 fe:01:1837 0 EOF\n";
        assert!(has_lock(text, 1837, 1 << 62) && has_lock(text, 1837, (1 << 62) + 4095));
        assert!(!has_lock(text, 1837, 0) && !has_lock(text, 1838, 1 << 62) && !has_lock(text, 1837, (1 << 62) + 4096));
        assert!(has_lock("lock:\t1: OFDLCK  ADVISORY  READ  -1 00:1c:7 0 EOF", 7, u64::MAX >> 1));
    }
}
