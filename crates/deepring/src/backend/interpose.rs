//! The one place where a test takes the kernel's part in a blocking transfer.
//!
//! A simulation and a loom model bring their own device. Each installs it on the thread that it
//! runs on, and `threads::transfer` asks here before it makes the system call. In any other build
//! the answer is the constant `None`, and the compiler removes the question. The other calls that a
//! simulation can fail are in `sys::fault`, which knows nothing of device operations.

#[cfg(any(feature = "sim", all(loom, test)))]
mod installed {
    use crate::backend::DeviceOp;
    use std::cell::Cell;

    /// Carries one operation out. Returns bytes, or a negative error number.
    pub(crate) type Transfer = fn(&DeviceOp) -> i32;

    thread_local! {
        static TRANSFER: Cell<Option<Transfer>> = const { Cell::new(None) };
    }

    /// Puts a device in the kernel's place on this thread, or takes it away.
    pub(crate) fn install(transfer: Option<Transfer>) {
        TRANSFER.set(transfer);
    }

    /// The result of the installed device; `None` if there is none on this thread.
    pub(crate) fn transfer(op: &DeviceOp) -> Option<i32> {
        TRANSFER.get().map(|transfer| transfer(op))
    }
}

#[cfg(any(feature = "sim", all(loom, test)))]
pub(crate) use installed::{install, transfer};

/// Only the kernel transfers in shipping builds.
#[cfg(not(any(feature = "sim", all(loom, test))))]
pub(crate) const fn transfer(_: &super::DeviceOp) -> Option<i32> {
    None
}
