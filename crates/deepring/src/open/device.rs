//! The device a file lives on, and the mount it was opened through: asked once, and shared.

use crate::sys::process::PerProcess;
use crate::sys::stat::{DeviceNumber, FileKind, Stat};
use crate::sys::{device, identity, mounts};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The queue assumed where there is no block device (tmpfs, network file systems).
const DEFAULT_QUEUE_REQUESTS: u32 = 256;
const DEFAULT_REQUEST_BYTES: u64 = 1 << 20;

/// Refused preallocations in a row after which a mount is not asked any more. One is not enough: a
/// file can be the reason.
const REFUSALS_MAX: u32 = 3;

/// For so long, what sysfs said about a queue counts. It changes: disks are attached under a number
/// that another one had, and administrators set `nr_requests`.
const FRESH: Duration = Duration::from_secs(1);

/// What limits are kept for: the queue that the requests of a file end up in.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// The disk's number. Where there is none, that of the file system.
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Requests its queue holds.
    pub(crate) requests: u32,
    /// Its largest request in bytes.
    pub(crate) request_bytes: u64,
    /// That of the file system that was opened. It names a device that has no serial number.
    pub(crate) file_system_uuid: Option<[u8; 16]>,
    /// Grows with each time that the queue was found changed.
    pub(crate) version: u64,
}

impl Device {
    fn is_same(&self, other: &Self) -> bool {
        (self.id, &self.name, self.requests, self.request_bytes) == (other.id, &other.name, other.requests, other.request_bytes)
    }
}

/// A mount, or a block device that was opened itself.
#[derive(Debug)]
pub(crate) struct Mount {
    /// What hangs together when it hangs.
    pub(crate) fate: u64,
    pub(crate) device: Arc<Device>,
    /// Preallocations that were refused since the last one that was not.
    refusals: AtomicU32,
}

impl Mount {
    /// Whether it is worth asking for preallocation.
    pub(crate) fn preallocates(&self) -> bool {
        self.refusals.load(Ordering::Relaxed) < REFUSALS_MAX
    }

    pub(crate) fn count_preallocation(&self, supported: bool) {
        if supported {
            self.refusals.store(0, Ordering::Relaxed);
        } else {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// By device and mount number, with the time when it was asked: asking sysfs takes longer than
/// opening a file.
type Mounts = BTreeMap<(u64, u64), (Instant, Arc<Mount>)>;

static MOUNTS: PerProcess<Mutex<Mounts>> = PerProcess::new();

/// Mounts that are remembered.
const MOUNTS_MAX: usize = 1024;

fn lock() -> MutexGuard<'static, Mounts> {
    MOUNTS.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mount of an open file. Blocks now and then.
pub(super) fn mount_of(fd: &OwnedFd, stat: &Stat) -> Arc<Mount> {
    let is_block_device = stat.kind == FileKind::BlockDevice;
    let number = if is_block_device { stat.node } else { stat.device };
    let mount = if is_block_device { None } else { stat.mount };
    let key = (number.id(), mount.unwrap_or(u64::MAX));
    let known = lock().get(&key).cloned();
    if let Some((when, mount)) = &known
        && when.elapsed() < FRESH
    {
        return Arc::clone(mount);
    }
    // Not under the lock: other opens go on while sysfs is read.
    let device = device_of(fd, number);
    let mount = match known {
        Some((_, mount)) if mount.device.is_same(&device) => mount,
        _ => Arc::new(Mount { fate: mount.unwrap_or(number.id()), device: Arc::new(device), refusals: AtomicU32::new(0) }),
    };
    let mut mounts = lock();
    if mounts.len() >= MOUNTS_MAX {
        mounts.clear();
    }
    mounts.insert(key, (Instant::now(), Arc::clone(&mount)));
    mount
}

fn device_of(fd: &OwnedFd, number: DeviceNumber) -> Device {
    static VERSIONS: AtomicU64 = AtomicU64::new(0);
    let version = VERSIONS.fetch_add(1, Ordering::Relaxed);
    let own = device::queue(number);
    // Subvolumes, overlays and others have numbers that no device has.
    let mounted = if own.is_some() { None } else { mounts::mount_of(fd) };
    let below = || mounted.as_ref().and_then(mounts::Mounted::block_device).and_then(device::queue);
    if let Some(queue) = own.or_else(below) {
        return Device {
            id: queue.number.id(),
            name: queue.name,
            requests: queue.requests,
            request_bytes: queue.request_bytes.max(4096),
            file_system_uuid: identity::file_system_uuid(fd),
            version,
        };
    }
    Device {
        id: mounted.map_or(number, |mounted| mounted.device).id(),
        name: format!("{}:{}", number.major, number.minor),
        requests: DEFAULT_QUEUE_REQUESTS,
        request_bytes: DEFAULT_REQUEST_BYTES,
        file_system_uuid: None,
        version,
    }
}
