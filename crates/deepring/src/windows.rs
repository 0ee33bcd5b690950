//! The windows that an engine has found at its devices, as it reports them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an engine has in flight at a device at most, as it found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceWindow {
    /// The name of the device, such as `nvme0n1`.
    pub device: String,
    /// Of reads.
    pub read: WindowSize,
    /// Of writes.
    pub write: WindowSize,
}

/// One window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowSize {
    /// Bytes in flight while one file or handle has the device alone: the fewest with which the
    /// device is within 2 % of its best rate.
    pub bytes: u64,
    /// Bytes in flight while several share it: the fewest with which it is within 5 %.
    pub shared_bytes: u64,
    /// Blocks of requests of at most 64 KiB in flight.
    pub blocks: u32,
}

impl DeviceWindow {
    pub(crate) fn new(device: &str, read: WindowSize, write: WindowSize) -> Self {
        Self { device: device.to_owned(), read, write }
    }
}

impl WindowSize {
    pub(crate) fn new(bytes: u64, shared_bytes: u64, blocks: u32) -> Self {
        Self { bytes, shared_bytes, blocks }
    }
}

/// Where a driver writes the windows of one device.
pub(crate) struct WindowBoard {
    id: u64,
    device: String,
    numbers: [AtomicU64; 6],
}

impl WindowBoard {
    pub(crate) fn set(&self, read: WindowSize, write: WindowSize) {
        let numbers = [read, write].map(|size| [size.bytes, size.shared_bytes, size.blocks.into()]);
        for (place, number) in self.numbers.iter().zip(numbers.as_flattened()) {
            place.store(*number, Ordering::Relaxed);
        }
    }

    fn get(&self) -> DeviceWindow {
        let number = |index: usize| self.numbers[index].load(Ordering::Relaxed);
        let size = |from: usize| WindowSize { bytes: number(from), shared_bytes: number(from + 1), blocks: number(from + 2) as u32 };
        DeviceWindow { device: self.device.clone(), read: size(0), write: size(3) }
    }
}

/// The windows of all devices of an engine.
#[derive(Default)]
pub(crate) struct Windows(Mutex<Vec<Arc<WindowBoard>>>);

impl Windows {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<WindowBoard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for the device with this number.
    pub(crate) fn add(&self, id: u64, device: &str) -> Arc<WindowBoard> {
        let board = Arc::new(WindowBoard { id, device: device.to_owned(), numbers: Default::default() });
        self.lock().push(Arc::clone(&board));
        board
    }

    /// All, in the order in which the devices were first used.
    pub(crate) fn all(&self) -> Vec<DeviceWindow> {
        self.lock().iter().map(|board| board.get()).collect()
    }

    /// Of the device with this number, if the engine has used it.
    pub(crate) fn of(&self, id: u64) -> Option<DeviceWindow> {
        self.lock().iter().find(|board| board.id == id).map(|board| board.get())
    }
}
