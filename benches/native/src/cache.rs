//! Takes files out of the page cache and brings parts of them in, and verifies it.
//!
//! Before every run the file system is flushed, so that a run does not pay for the writes and
//! deletions of the run before, and the run's files leave the cache. A process that maps or locks a
//! page keeps it there, so the residue is counted with mincore and reported.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::arguments::Arguments;

const PAGE_BYTES: usize = 4096;

/// `path` is a file, or a folder whose files are evicted.
pub(crate) fn evict(arguments: &Arguments) -> Result<String, String> {
    let path = arguments.path("path")?;
    arguments.finish()?;
    let files = files(&path)?;
    flush(&path)?;
    for file in &files {
        advise(file)?;
    }
    let mut resident = resident(&files)?;
    if resident > 0 {
        // Only root can do this. For other users the residue is reported below.
        let _refused = fs::write("/proc/sys/vm/drop_caches", "1");
        resident = self::resident(&files)?;
    }
    let bytes: u64 = files.iter().filter_map(|file| fs::metadata(file).ok()).map(|metadata| metadata.len()).sum();
    Ok(format!(r#"{{"bytes":{bytes},"residentBytes":{resident}}}"#))
}

/// Reads every `step`-th stretch of a file into the page cache, and nothing else: with read-ahead, the kernel brings in more than
/// is read (8 MiB behind each stretch, where `read_ahead_kb` is 8192).
pub(crate) fn warm(arguments: &Arguments) -> Result<String, String> {
    let path = arguments.path("path")?;
    let (stretch, step) = (arguments.number("stretch")? as usize, arguments.number("step")? as usize);
    arguments.finish()?;
    let fail = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::open(&path).map_err(fail)?;
    // SAFETY: the descriptor is open for the length of the call.
    let status = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
    if status != 0 {
        return Err(fail(io::Error::from_raw_os_error(status)));
    }
    let bytes = file.metadata().map_err(fail)?.len();
    let mut piece = vec![0_u8; stretch];
    let mut expected = 0;
    for at in (0..bytes).step_by(stretch * step) {
        let len = stretch.min((bytes - at) as usize);
        file.read_exact_at(&mut piece[..len], at).map_err(fail)?;
        expected += len.next_multiple_of(PAGE_BYTES) as u64;
    }
    let resident = resident_bytes(&path)?;
    if resident.abs_diff(expected) > expected / 100 {
        return Err(format!("{}: {resident} bytes are in the page cache, not {expected}", path.display()));
    }
    Ok(format!(r#"{{"residentBytes":{resident}}}"#))
}

/// How much of a file is in the page cache.
pub(crate) fn count(arguments: &Arguments) -> Result<String, String> {
    let path = arguments.path("path")?;
    arguments.finish()?;
    Ok(format!(r#"{{"residentBytes":{}}}"#, resident(&files(&path)?)?))
}

fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let fail = |error: io::Error| format!("{}: {error}", path.display());
    if !fs::metadata(path).map_err(fail)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn flush(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // SAFETY: the descriptor is open for the length of the call.
    if unsafe { libc::syncfs(file.as_raw_fd()) } != 0 {
        return Err(format!("syncfs of {}: {}", path.display(), io::Error::last_os_error()));
    }
    Ok(())
}

fn advise(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // SAFETY: the descriptor is open for the length of the call.
    let status = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if status != 0 {
        return Err(format!("posix_fadvise of {}: {}", path.display(), io::Error::from_raw_os_error(status)));
    }
    Ok(())
}

fn resident(files: &[PathBuf]) -> Result<u64, String> {
    files.iter().map(|file| resident_bytes(file)).sum()
}

/// Bytes of a file that are in the page cache.
fn resident_bytes(path: &Path) -> Result<u64, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let bytes = file.metadata().map_err(|error| format!("{}: {error}", path.display()))?.len() as usize;
    if bytes == 0 {
        return Ok(0);
    }
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists; it
    // is never read through.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if map == libc::MAP_FAILED {
        return Err(format!("mmap of {}: {}", path.display(), io::Error::last_os_error()));
    }
    let mut pages = vec![0_u8; bytes.div_ceil(PAGE_BYTES)];
    // SAFETY: the mapping has `bytes` bytes and `pages` one byte for each of its pages.
    let status = unsafe { libc::mincore(map, bytes, pages.as_mut_ptr()) };
    let error = io::Error::last_os_error();
    // SAFETY: the mapping was made above and nothing refers to it.
    unsafe { libc::munmap(map, bytes) };
    if status != 0 {
        return Err(format!("mincore of {}: {error}", path.display()));
    }
    Ok(pages.iter().filter(|page| *page & 1 == 1).count() as u64 * PAGE_BYTES as u64)
}
