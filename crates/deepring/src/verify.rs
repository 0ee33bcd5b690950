//! An independent check of what was written: another descriptor, plain `preadv2`, no ring, no
//! planner, no driver.
//!
//! Reads bypass the page cache where the file allows it, so that they reach the device and leave no
//! page behind (a later direct write to a cached range would be slow). Where it does not, the
//! cached pages are dropped afterwards.

use crate::error::{Error, ErrorKind, Result};
use crate::memory::Pool;
use crate::open::{self, Name, OpenFile, OpenOptions};
use crate::sys::file as sys;
use std::path::Path;
use std::sync::Arc;

/// Bytes compared per read.
const CHUNK_BYTES: u64 = 1 << 20;

/// Compares memory with the file of this name.
///
/// # Safety
/// `address..address + len` is readable and unchanged during the call.
pub(crate) unsafe fn compare_path(name: &Name, pool: &Arc<Pool>, address: u64, len: u64, position: u64) -> Result<()> {
    let file = open::open(name, &OpenOptions::new().read(true))?;
    // SAFETY: passed on from the caller of this function.
    unsafe { compare(&file, &name.path, pool, address, len, position) }
}

/// Compares memory with an open file: through a descriptor of its own where `/proc` gives one, else
/// through the one that it has. Either way it is the same file, even if its name now belongs to
/// another one.
///
/// # Safety
/// As for [`compare_path`].
pub(crate) unsafe fn compare_file(file: &OpenFile, pool: &Arc<Pool>, address: u64, len: u64, position: u64) -> Result<()> {
    let by_descriptor = Name::of(Path::new(&format!("/proc/self/fd/{}", file.raw())));
    let own = open::open(&by_descriptor, &OpenOptions::new().read(true)).ok();
    // SAFETY: passed on from the caller of this function.
    unsafe { compare(own.as_ref().unwrap_or(file), &file.path, pool, address, len, position) }
}

/// Errors name `path`.
///
/// # Safety
/// As for [`compare_path`].
unsafe fn compare(file: &OpenFile, path: &Arc<Path>, pool: &Arc<Pool>, address: u64, len: u64, position: u64) -> Result<()> {
    let mut space = pool.allocate(CHUNK_BYTES as usize, false)?;
    let compared = (|| {
        let mut done = 0;
        while done < len {
            let start = position + done;
            let aligned = start - start % file.geometry().read_unit;
            let got = read_chunk(file, &mut space, aligned).map_err(|errno| Error::os(errno, "read"))?;
            let skip = start - aligned;
            let fresh = got.saturating_sub(skip).min(len - done);
            let at_end = |position, transferred| Error::new(ErrorKind::Mismatch, "verify").range(position, len, transferred);
            if fresh == 0 {
                return Err(at_end(start, done).advise("the file ends here"));
            }
            let found = &space[skip as usize..(skip + fresh) as usize];
            // SAFETY: inside the range that the caller guarantees.
            let expected = unsafe { std::slice::from_raw_parts((address + done) as *const u8, fresh as usize) };
            if found != expected {
                let differs = found.iter().zip(expected).position(|(found, expected)| found != expected).unwrap_or(0) as u64;
                return Err(at_end(start + differs, done + differs));
            }
            done += fresh;
        }
        Ok(())
    })();
    if !file.is_direct() {
        sys::drop_cache(file.fd());
    }
    compared.map_err(|error: Error| error.at(path))
}

/// Fills the chunk from `aligned`, as far as the file reaches. Returns the bytes read.
fn read_chunk(file: &OpenFile, space: &mut [u8], aligned: u64) -> std::result::Result<u64, i32> {
    let unit = file.geometry().read_unit;
    let mut done = 0;
    loop {
        let from = done - done % unit;
        let (address, len) = (space.as_mut_ptr() as u64 + from, space.len() as u64 - from);
        // SAFETY: the rest of `space`, which is exclusively borrowed.
        let result = unsafe { sys::read_at(file.raw(), address, len as u32, aligned + from, 0) };
        match result {
            negative if negative == -libc::EINTR => {}
            negative if negative < 0 => return Err(-negative),
            moved => {
                let reached = from + moved as u64;
                if reached <= done || reached == space.len() as u64 {
                    return Ok(reached.max(done));
                }
                done = reached;
            }
        }
    }
}
