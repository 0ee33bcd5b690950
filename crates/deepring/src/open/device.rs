//! The device a file lives on: asked once, and shared by all files on it.

use crate::sys::device;
use crate::sys::process::PerProcess;
use crate::sys::stat::DeviceNumber;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The queue assumed where there is no block device (tmpfs, overlay, network file systems).
const DEFAULT_QUEUE_REQUESTS: u32 = 256;
const DEFAULT_REQUEST_BYTES: u64 = 1 << 20;

/// The device a file lives on.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Requests its queue holds.
    pub(crate) requests: u32,
    /// Its largest request in bytes.
    pub(crate) request_bytes: u64,
}

/// Devices seen so far: asking sysfs takes longer than opening a file.
static DEVICES: PerProcess<Mutex<BTreeMap<u64, Arc<Device>>>> = PerProcess::new();

fn devices() -> MutexGuard<'static, BTreeMap<u64, Arc<Device>>> {
    DEVICES.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// The device of this number. Blocks the first time.
pub(super) fn device_of(number: DeviceNumber) -> Arc<Device> {
    let id = number.id();
    if let Some(device) = devices().get(&id) {
        return Arc::clone(device);
    }
    // Not under the lock: opens on other devices go on while sysfs is read.
    let queue = device::queue(number);
    let device = Device {
        id,
        name: queue.as_ref().map_or_else(|| format!("{}:{}", number.major, number.minor), |queue| queue.name.clone()),
        requests: queue.as_ref().map_or(DEFAULT_QUEUE_REQUESTS, |queue| queue.requests),
        request_bytes: queue.as_ref().map_or(DEFAULT_REQUEST_BYTES, |queue| queue.request_bytes).max(4096),
    };
    Arc::clone(devices().entry(id).or_insert_with(|| Arc::new(device)))
}
