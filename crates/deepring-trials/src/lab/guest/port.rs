//! The serial port to the lab.

use super::super::protocol::{Lines, Report};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

/// The second serial port; the first one is the console.
const PATH: &str = "/dev/ttyS1";

/// Shared by all threads of the guest; no line interrupts another.
#[derive(Debug)]
pub(super) struct Port {
    out: Mutex<File>,
    received: Mutex<(File, Lines, VecDeque<String>)>,
}

impl Port {
    pub(super) fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(PATH)?;
        let mut mode = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: fills a local struct.
        if unsafe { libc::tcgetattr(file.as_raw_fd(), mode.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: filled in by the call above.
        let mut mode = unsafe { mode.assume_init() };
        // No echo, no translation of line ends.
        // SAFETY: changes a local struct.
        unsafe { libc::cfmakeraw(&raw mut mode) };
        // SAFETY: reads a local struct.
        if unsafe { libc::tcsetattr(file.as_raw_fd(), libc::TCSANOW, &raw const mode) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { received: Mutex::new((file.try_clone()?, Lines::default(), VecDeque::new())), out: Mutex::new(file) })
    }

    /// Sends a report, and returns when it has left the machine, so that the lab can know of it
    /// before anything that follows.
    pub(super) fn send(&self, report: &Report) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Without the port there is no way to report its loss.
        let _ = out.write_all(format!("{report}\n").as_bytes());
        // SAFETY: no pointers.
        unsafe { libc::tcdrain(out.as_raw_fd()) };
    }

    /// The next order; `None` when there are no more.
    pub(super) fn receive(&self) -> Option<String> {
        let (file, lines, waiting) = &mut *self.received.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = waiting.pop_front() {
                return Some(line);
            }
            let mut bytes = [0; 256];
            match file.read(&mut bytes) {
                Ok(count @ 1..) => waiting.extend(lines.take(&bytes[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
    }
}
