//! The kernel's old asynchronous I/O (`io_setup`, `io_submit`, `io_getevents`) by raw system calls.
//!
//! No libaio: that library only wraps the same three calls, and a benchmark that needs an extra
//! package gets skipped. Structures follow `include/uapi/linux/aio_abi.h` for little-endian
//! machines.

use std::io;
use std::os::fd::RawFd;

/// `struct iocb`: one transfer to queue.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// Comes back in the event; here the block's length in bytes.
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    address: u64,
    bytes: u64,
    position: i64,
    reserved: u64,
    flags: u32,
    event_file: u32,
}

/// `struct io_event`: one completed transfer.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Event {
    /// What the block's `data` was.
    data: u64,
    object: u64,
    /// Bytes moved, or a negative errno.
    result: i64,
    result2: i64,
}

/// Whether bytes go to memory or to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Block {
    pub(crate) fn idle() -> Self {
        Self {
            data: 0,
            key: 0,
            rw_flags: 0,
            opcode: 0,
            priority: 0,
            file: 0,
            address: 0,
            bytes: 0,
            position: 0,
            reserved: 0,
            flags: 0,
            event_file: 0,
        }
    }

    /// # Safety
    /// The memory at `address` must stay mapped and unused by others until the block's event has
    /// been reaped. The code that submits the block relies on this promise.
    pub(crate) unsafe fn transfer(direction: Direction, file: RawFd, address: usize, bytes: usize, position: u64) -> Self {
        const PREAD: u16 = 0;
        const PWRITE: u16 = 1;
        Self {
            data: bytes as u64,
            opcode: if direction == Direction::Read { PREAD } else { PWRITE },
            file: file as u32,
            address: address as u64,
            bytes: bytes as u64,
            position: position as i64,
            ..Self::idle()
        }
    }
}

impl Event {
    /// Checks that all bytes of the block moved. The predecessor never checked, but a failure must
    /// not count as speed.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.result == self.data as i64 {
            return Ok(());
        }
        if self.result < 0 {
            return Err(format!("a block failed: {}", io::Error::from_raw_os_error(-self.result as i32)));
        }
        Err(format!("a block of {} bytes moved {}", self.data, self.result))
    }
}

/// One `aio_context_t`.
pub(crate) struct Context {
    id: libc::c_ulong,
}

impl Context {
    pub(crate) fn new(depth: usize) -> Result<Self, String> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: the kernel writes one context number to `id`, which lives through the call.
        let status = unsafe { libc::syscall(libc::SYS_io_setup, depth as libc::c_uint, &raw mut id) };
        if status < 0 {
            return Err(format!("io_setup({depth}): {} (see /proc/sys/fs/aio-max-nr)", io::Error::last_os_error()));
        }
        Ok(Self { id })
    }

    /// Queues all of `blocks`, in as many calls as the kernel needs.
    pub(crate) fn submit(&self, blocks: &mut [Block], pointers: &mut Vec<*mut Block>) -> Result<(), String> {
        pointers.clear();
        pointers.extend(blocks.iter_mut().map(std::ptr::from_mut));
        let mut submitted = 0;
        while submitted < pointers.len() {
            let rest = &mut pointers[submitted..];
            // SAFETY: `rest` points at initialized blocks that outlive the call, and the kernel
            // copies them before it returns. The caller of `Block::transfer` promised that the
            // memory they name stays valid.
            let status = unsafe { libc::syscall(libc::SYS_io_submit, self.id, rest.len() as libc::c_long, rest.as_mut_ptr()) };
            if status <= 0 {
                return Err(format!("io_submit of {} blocks: {}", rest.len(), io::Error::last_os_error()));
            }
            submitted += status as usize;
        }
        Ok(())
    }

    /// Waits for at least `least` events, takes at most `events.len()`, and checks each.
    pub(crate) fn reap(&self, least: usize, events: &mut [Event]) -> Result<usize, String> {
        loop {
            // SAFETY: the kernel writes at most `events.len()` events into the slice; no timeout is
            // passed.
            let status = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.id,
                    least as libc::c_long,
                    events.len() as libc::c_long,
                    events.as_mut_ptr(),
                    std::ptr::null_mut::<libc::timespec>(),
                )
            };
            if status >= 0 {
                let count = status as usize;
                events[..count].iter().try_for_each(Event::check)?;
                return Ok(count);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(format!("io_getevents: {error}"));
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context was made by io_setup and is destroyed once; the kernel waits here for
        // what is still in flight.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Block>(), 64);
        assert_eq!(size_of::<Event>(), 32);
    }

    #[test]
    fn a_short_or_failed_block_is_an_error() {
        let event = |result| Event { data: 4096, result, ..Event::default() };
        assert!(event(4096).check().is_ok());
        assert!(event(512).check().is_err());
        assert!(event(-5).check().is_err());
    }
}
