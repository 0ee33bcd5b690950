//! Memory that shows if it is written to after it came back.

use super::data_file;
use crate::harness::{directory, is_direct, skip};
use deepring::{IoBuf, IoBufMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than any transfer takes to reach memory once it was started.
const AFTERMATH: Duration = Duration::from_millis(250);

const CANARY: u8 = 0xc5;

/// The buffers that came back. Each was filled with canaries when its owner dropped it, and is
/// never freed, so that a late write shows.
#[derive(Clone, Default)]
pub(super) struct GuardedBuffers(Arc<Mutex<Vec<(usize, usize)>>>);

/// A buffer that joins its [`GuardedBuffers`] when it is dropped.
pub(super) struct Guarded {
    address: usize,
    len: usize,
    buffers: GuardedBuffers,
}

impl GuardedBuffers {
    pub(super) fn guarded(&self, len: usize) -> Guarded {
        let space = Box::leak(vec![0u8; len + 4096].into_boxed_slice());
        Guarded { address: space.as_mut_ptr().expose_provenance().next_multiple_of(4096), len, buffers: self.clone() }
    }

    pub(super) fn returned(&self) -> usize {
        self.0.lock().expect("the buffers").len()
    }

    /// How many buffers were written to after they came back.
    pub(super) fn disturbed(&self) -> usize {
        std::thread::sleep(AFTERMATH);
        let returned = self.0.lock().expect("the buffers");
        let intact = |&&(address, len): &&(usize, usize)| {
            // SAFETY: leaked memory of that length. A write by the kernel could race with this
            // read, which is what the tests look for.
            let memory = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(address), len) };
            memory.iter().all(|&byte| byte == CANARY)
        };
        returned.iter().filter(|buffer| !intact(buffer)).count()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: leaked memory of that length that belongs to this value, unless the engine
        // returned it too early.
        unsafe { std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(self.address), CANARY, self.len) };
        self.buffers.0.lock().expect("the buffers").push((self.address, self.len));
    }
}

// SAFETY: leaked memory stays in place, and belongs to this value alone.
unsafe impl IoBuf for Guarded {
    fn as_ptr(&self) -> *const u8 {
        std::ptr::with_exposed_provenance(self.address)
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Guarded {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }
}

/// `struct iocb` of `<linux/aio_abi.h>`.
#[repr(C)]
struct Iocb {
    data: u64,
    key: [u32; 2],
    opcode: u16,
    priority: i16,
    fd: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    rest: [u64; 2],
}

/// The planted bug that the other tests of this promise look for. Reads go to the kernel without
/// the engine (Linux's older asynchronous calls), and their memory comes back at once.
#[test]
fn the_canaries_detect_a_buffer_that_is_returned_too_early() {
    let place = directory();
    if !is_direct(place.path()) {
        return skip("the test directory has no direct I/O");
    }
    let path = data_file(place.path(), 32);
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).expect("the file");
    // If other work delays this thread, the reads can finish before the memory comes back. Then try
    // again.
    let detected = (0..20).any(|_| return_too_early(&file) > 0);
    assert!(detected, "no buffer was seen to be written to after it came back");
}

/// Starts reads into 32 buffers, returns the buffers, and counts those that were written to
/// afterwards.
fn return_too_early(file: &std::fs::File) -> usize {
    let mut context = 0u64;
    // SAFETY: the kernel writes one word.
    let made = unsafe { libc::syscall(libc::SYS_io_setup, 32, &raw mut context) };
    assert_eq!(made, 0, "io_setup: {}", std::io::Error::last_os_error());
    let buffers = GuardedBuffers::default();
    let memory: Vec<Guarded> = (0..32).map(|_| buffers.guarded(1 << 20)).collect();
    let mut blocks: Vec<Iocb> = memory
        .iter()
        .zip(0i64..)
        .map(|(buffer, index)| Iocb {
            data: 0,
            key: [0; 2],
            opcode: 0, // IOCB_CMD_PREAD
            priority: 0,
            fd: file.as_raw_fd() as u32,
            buf: buffer.address as u64,
            nbytes: 1 << 20,
            offset: index << 20,
            rest: [0; 2],
        })
        .collect();
    let pointers: Vec<*mut Iocb> = blocks.iter_mut().map(std::ptr::from_mut).collect();
    // SAFETY: an array of valid control blocks over leaked memory.
    let submitted = unsafe { libc::syscall(libc::SYS_io_submit, context, pointers.len(), pointers.as_ptr()) };
    drop(memory);
    assert!(submitted > 0, "io_submit: {}", std::io::Error::last_os_error());
    let disturbed = buffers.disturbed();
    // SAFETY: the context was created above; this waits for the remaining reads.
    unsafe { libc::syscall(libc::SYS_io_destroy, context) };
    disturbed
}
