//! What an engine reports about itself and about a path: [`Info`] and [`PathInfo`].

use crate::backend::BackendKind;
use crate::backend::start::BackendReport;
use crate::engine::Engine;
use crate::error::Result;
use crate::open::{self, DirectSupport};
use crate::sys::thread;
use std::path::Path;
use std::sync::Arc;

/// See [`Engine::info`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Info {
    /// The backend that runs.
    pub backend: BackendKind,
    /// Why this one, in words a person can act on.
    pub reason: String,
    /// The kernel's release.
    pub kernel: String,
    /// The ring's set-up flags that the kernel granted.
    pub flags: Vec<&'static str>,
    /// The ring's size; 0 without a ring.
    pub ring_entries: u32,
    /// The locked-memory limit in bytes; `None` if unlimited.
    pub memlock_bytes: Option<u64>,
    /// Requests in flight per device, if a limit was asked for; else half of what each device's queue holds.
    pub queue_depth: Option<u32>,
    /// The size of one block in bytes.
    pub block_bytes: u64,
    /// Bytes in flight per device.
    pub in_flight_bytes: u64,
    /// Requests that may be accepted and not yet settled at once, those in flight included.
    pub max_queued: u64,
}

/// See [`Engine::path_info`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PathInfo {
    /// The device, such as `nvme0n1`; `major:minor` where it has no name.
    pub device: String,
    /// Requests the device's queue holds.
    pub device_requests: u32,
    /// Requests this engine will have in flight there.
    pub queue_depth: u32,
    /// The file system's magic number as text, by name where it is a common one.
    pub file_system: String,
    /// Whether and how direct I/O works.
    pub direct_io: DirectSupport,
}

impl Engine {
    /// Which backend runs, why, and with what limits.
    pub fn info(&self) -> Info {
        let config = &self.core().config;
        let BackendReport { kind, reason, flags, ring_entries } = self.core().report();
        Info {
            backend: kind,
            reason,
            kernel: thread::kernel_release().to_owned(),
            flags,
            ring_entries,
            memlock_bytes: thread::memlock_bytes(),
            queue_depth: config.queue_depth,
            block_bytes: config.block_bytes,
            in_flight_bytes: config.in_flight_bytes,
            max_queued: config.max_queued,
        }
    }

    /// What this engine finds at `path`, a file or a directory: device, file system, direct I/O. Blocks. In a directory, an unnamed
    /// temporary file is opened to find out, which needs write permission.
    ///
    /// # Errors
    /// Those of [`Engine::open`].
    pub fn path_info(&self, path: impl AsRef<Path>) -> Result<PathInfo> {
        let path: Arc<Path> = Arc::from(path.as_ref());
        let (file, file_system) = open::examine(&path)?;
        let device_requests = file.device.requests;
        let effective = self.core().config.queue_depth.unwrap_or(u32::MAX).min((device_requests / 2).max(1));
        Ok(PathInfo {
            device: file.device.name.clone(),
            device_requests,
            queue_depth: effective,
            file_system,
            direct_io: file.support.clone(),
        })
    }
}
