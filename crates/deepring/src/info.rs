//! What an engine reports about itself and about a path: [`Info`] and [`PathInfo`].

use crate::backend::BackendKind;
use crate::backend::start::BackendReport;
use crate::config::WindowMode;
use crate::driver::first_window;
use crate::engine::Engine;
use crate::error::Result;
use crate::locks::ProcessLocks;
use crate::open::{self, DirectSupport, Name};
use crate::profile::ProfileInfo;
use crate::sys::{memory, thread};
use crate::windows::DeviceWindow;
use std::path::Path;

pub use crate::sys::memory::HugePages;

/// See [`Engine::info`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Info {
    /// The backend that runs now: threads after a ring was lost.
    pub backend: BackendKind,
    /// Why this backend, in words that a person can act on.
    pub reason: String,
    /// The kernel's release, such as `6.18.44`.
    pub kernel: String,
    /// The set-up flags of the ring that the kernel granted, without their prefix `IORING_SETUP_`;
    /// none without a ring.
    pub flags: Vec<&'static str>,
    /// The submission entries of the ring; 0 without a ring.
    pub ring_entries: u32,
    /// The limit on locked memory (`ulimit -l`) in bytes; `None` if there is none.
    pub memlock_bytes: Option<u64>,
    /// Whether memory is backed by transparent huge pages, as it was when this process first asked:
    /// on them a block is one request at the device.
    pub huge_pages: HugePages,
    /// Blocks in flight per device at most, if a bound was set; `None` stands for half of what each
    /// device's queue holds.
    pub queue_depth: Option<u32>,
    /// The size of one block in bytes.
    pub block_bytes: u64,
    /// The bound on bytes in flight per device.
    pub in_flight_bytes: u64,
    /// Whether the engine finds its windows within these bounds.
    pub window: WindowMode,
    /// The limit on requests accepted and not yet settled, those in flight included.
    pub max_queued: u64,
    /// Threads for each file system, where threads move the bytes.
    pub threads: usize,
    /// Where profiles of devices are looked for, and whether one was used.
    pub profile: ProfileInfo,
}

/// See [`Engine::path_info`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PathInfo {
    /// The name of the device, such as `nvme0n1`; `major:minor` if it has none.
    pub device: String,
    /// Requests that the device's queue holds.
    pub device_requests: u32,
    /// Blocks that this engine has in flight there at most.
    pub queue_depth: u32,
    /// What this engine keeps in flight there, as it found out; before it has used the device, what it
    /// begins with.
    pub window: DeviceWindow,
    /// The name of the file system, such as `ext4`; its magic number in hexadecimal if it is not a
    /// common one.
    pub file_system: String,
    /// Whether and how direct I/O works there.
    pub direct_io: DirectSupport,
    /// Whether writes of several processes to one file are kept in order there.
    pub process_locks: ProcessLocks,
    /// The profile of the device. Once the engine has used the device: the one that it found then.
    pub profile: ProfileInfo,
}

impl Engine {
    /// Which backend runs, why, and with what limits. Blocks no longer than a lock does.
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
            huge_pages: memory::huge_pages(),
            queue_depth: config.queue_depth,
            block_bytes: config.block_bytes,
            in_flight_bytes: config.in_flight_bytes,
            window: config.window,
            max_queued: config.max_queued,
            threads: config.threads,
            profile: self.core().profiles.summary(),
        }
    }

    /// What this engine finds at `path`, a file or a directory: device, file system, direct I/O.
    /// Blocks. In a directory it tries direct I/O with an unnamed temporary file; where none can be
    /// made, with a file that is there.
    ///
    /// # Errors
    /// Those of [`Engine::open`].
    pub fn path_info(&self, path: impl AsRef<Path>) -> Result<PathInfo> {
        self.info_of(&Name::of(path.as_ref()))
    }

    pub(crate) fn info_of(&self, name: &Name) -> Result<PathInfo> {
        self.core().check_process("open")?;
        let found = open::examine(name)?;
        let device_requests = found.device.requests;
        let core = self.core();
        let (profile, seeds) = match core.profiles.of(found.device.id) {
            Some(profile) => (profile, None),
            None => core.profiles.look(&found.device),
        };
        Ok(PathInfo {
            device: found.device.name.clone(),
            device_requests,
            queue_depth: core.config.device_blocks(device_requests),
            window: core.windows.of(found.device.id).unwrap_or_else(|| first_window(&core.config, &found.device, seeds)),
            file_system: found.file_system,
            direct_io: found.support,
            process_locks: found.process_locks,
            profile,
        })
    }
}
