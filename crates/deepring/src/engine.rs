//! [`Engine`]: one driver thread, its backend, a few helper threads and a pool of buffers.
//!
//! An engine is cheap to clone; clones and open files share it. When the last of them goes, intake closes, queued operations end as
//! cancelled, and the drop waits until the device has let go of everything.

use crate::backend::BackendKind;
use crate::backend::start::{BackendReport, start_backend};
use crate::blocking::BlockingPool;
use crate::completion::{Completion, Outcome, RawTransfer, Receipt};
use crate::config::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, Config, END_MAX, OFFLOAD_BYTES};
use crate::driver::request::{PathTarget, Submission, Target};
use crate::driver::{Core, Driver, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::file::File;
use crate::inbox::Inbox;
use crate::memory::{Buffer, IoBuf, IoBufMut, Pool};
use crate::op::{Op, Task, Transfer};
use crate::open::{self, DirectSupport, OpenOptions};
use crate::plan::Direction;
use crate::stats::{Counters, Stats, add, sub};
use crate::sync::mpsc;
use crate::sync::thread::JoinHandle;
use crate::sys::event::Event;
use crate::sys::thread;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// 4 MiB: what a device takes at once where it takes most (`max_sectors_kb`), so that the kernel need not merge. Smaller ones are no faster,
/// and at 1 MiB a stream costs half as much CPU again.
const BLOCK_BYTES_DEFAULT: u64 = 4 << 20;
/// Drives need little (7 GB/s at 0.5 ms: 3.5 MB), virtual ones more, since the host takes requests in turns: at 7 GB/s 64 MiB wrote 4 % faster
/// than 32. Small requests that come in between wait for what is in flight: 9 ms at that rate.
const IN_FLIGHT_BYTES_DEFAULT: u64 = 64 << 20;
const MAX_QUEUED_DEFAULT: u64 = 1 << 20;
const QUEUE_DEPTH_MAX: u32 = 1 << 16;
/// Requests in flight at a device whose queue holds the usual 256: half of them.
pub const QUEUE_DEPTH_DEFAULT: u32 = 128;
/// Ring entries if no queue depth is asked for: twice the usual limit of 128 device requests.
const RING_ENTRIES_DEFAULT: u32 = 256;
const RING_ENTRIES_MAX: u32 = 4096;
const BACKEND_VARIABLE: &str = "DEEPRING_BACKEND";

/// Builds an [`Engine`]. Every setting has a default that suits most drives.
#[derive(Debug, Clone, Default)]
pub struct EngineBuilder {
    queue_depth: Option<u32>,
    block_bytes: Option<u64>,
    in_flight_bytes: Option<u64>,
    max_queued: Option<u64>,
    backend: Option<BackendKind>,
}

impl EngineBuilder {
    /// Requests in flight per device, 1 to 65536; never more than half of what the device's queue holds, which is the default.
    #[must_use]
    pub fn queue_depth(mut self, requests: u32) -> Self {
        self.queue_depth = Some(requests);
        self
    }

    /// The size of one block in bytes, 4096 to 2^30, rounded up to a multiple of 4096. By default 4 MiB, or all the bytes that
    /// may be in flight if those are fewer.
    #[must_use]
    pub fn block_bytes(mut self, bytes: u64) -> Self {
        self.block_bytes = Some(bytes);
        self
    }

    /// Bytes in flight per device, at least one block; 64 MiB by default.
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: u64) -> Self {
        self.in_flight_bytes = Some(bytes);
        self
    }

    /// Operations accepted and not yet settled, at least 1; 2^20 by default. One more fails with [`ErrorKind::QueueFull`].
    #[must_use]
    pub fn max_queued(mut self, operations: u64) -> Self {
        self.max_queued = Some(operations);
        self
    }

    /// Insists on a backend. By default the environment variable `DEEPRING_BACKEND` (`uring` or `threads`) decides, and without it the
    /// ring is used if it proves to work.
    #[must_use]
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Starts the engine: its driver thread and its backend. Helper threads start when there is work for them.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a setting outside its range; the system's error if the backend that was insisted on is refused, or if no
    /// thread or descriptor can be had.
    pub fn build(self) -> Result<Engine> {
        let config = self.config()?;
        let (forced, by) = match self.backend {
            Some(backend) => (Some(backend), "the engine's options"),
            None => (backend_of(std::env::var_os(BACKEND_VARIABLE).as_deref())?, BACKEND_VARIABLE),
        };
        let entries = config.queue_depth.map_or(RING_ENTRIES_DEFAULT, |depth| (depth * 2).clamp(64, RING_ENTRIES_MAX));
        let event = Event::new().map_err(|errno| Error::os(errno, "eventfd"))?;
        let inbox = Arc::new(Inbox::new(event));
        let counters = Arc::new(Counters::default());
        let blocking = Arc::new(BlockingPool::default());
        let pool = Arc::new(Pool::new(Arc::clone(&counters), Arc::clone(&blocking)));
        // The ring belongs to the thread that sets it up, so the driver's thread does, and reports before it begins.
        let (report, started) = mpsc::channel();
        let driver = thread::spawn("deepring-driver".into(), move || {
            let (backend, backend_report) = match start_backend(inbox.doorbell(), entries, forced.map(|kind| (kind, by))) {
                Ok(started) => started,
                Err(error) => return drop(report.send(Err(error))),
            };
            let core = Core { inbox, blocking, pool, counters, report: Mutex::new(backend_report), config };
            let core = Arc::new(core);
            let (blocking, inbox) = (Arc::clone(&core.blocking), Arc::clone(&core.inbox));
            if report.send(Ok(Arc::clone(&core))).is_ok() {
                Driver::new(core, backend).run();
            }
            blocking.stop();
            inbox.end();
        })
        .map_err(|errno| Error::os(errno, "pthread_create"))?;
        let gone = |_| Error::new(ErrorKind::Closed, "build");
        let core = started.recv().map_err(gone)??;
        Ok(Engine { inner: Arc::new(Inner { core, driver: Mutex::new(Some(driver)) }) })
    }

    pub(crate) fn config(&self) -> Result<Config> {
        let invalid = |advice: &str| Error::new(ErrorKind::Invalid, "build").advise(advice);
        if self.queue_depth.is_some_and(|depth| !(1..=QUEUE_DEPTH_MAX).contains(&depth)) {
            return Err(invalid("queue_depth must be 1 to 65536"));
        }
        let max_queued = self.max_queued.unwrap_or(MAX_QUEUED_DEFAULT);
        let in_flight_bytes = self.in_flight_bytes.unwrap_or(IN_FLIGHT_BYTES_DEFAULT);
        if max_queued == 0 || in_flight_bytes == 0 {
            return Err(invalid("max_queued and in_flight_bytes must be positive"));
        }
        let block_bytes = self.block_bytes.unwrap_or(BLOCK_BYTES_DEFAULT.min(in_flight_bytes - in_flight_bytes % BLOCK_BYTES_MIN).max(1));
        if !(1..=BLOCK_BYTES_MAX).contains(&block_bytes) {
            return Err(invalid("block_bytes must be 1 to 2^30"));
        }
        let block_bytes = block_bytes.next_multiple_of(BLOCK_BYTES_MIN);
        let in_flight_bytes = in_flight_bytes.max(block_bytes);
        Ok(Config { queue_depth: self.queue_depth, block_bytes, in_flight_bytes, max_queued, offload_bytes: OFFLOAD_BYTES })
    }
}

/// What the environment asks for. A value that is neither backend is an error, also one that is no text.
pub(crate) fn backend_of(value: Option<&OsStr>) -> Result<Option<BackendKind>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let known = [BackendKind::Uring, BackendKind::Threads].into_iter().find(|kind| value == kind.as_str());
    let refusal = || {
        let value = value.to_string_lossy();
        Error::new(ErrorKind::Invalid, "build").advise(format!("{BACKEND_VARIABLE} is '{value}', not 'uring' or 'threads'"))
    };
    known.map(Some).ok_or_else(refusal)
}

/// Moves bytes between memory and files. See the [crate](crate) for what it promises.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.inbox.close();
        self.core.inbox.post(Message::Shutdown);
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A completion that drops the last engine runs on a thread the driver waits for, or on the driver: it must not wait in turn. The
        // driver drains all the same.
        if let Some(driver) = driver.filter(|_| !thread::is_ours()) {
            drop(driver.join());
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("info", &self.info()).finish()
    }
}

impl Engine {
    /// A builder with all defaults.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Opens a file. Blocks the calling thread.
    ///
    /// # Errors
    /// The system's errors with syscall `open`; [`ErrorKind::Unsupported`] for anything but regular files and block devices (a directory is
    /// `EISDIR`); [`ErrorKind::Direct`] if direct I/O is required and refused; [`ErrorKind::Invalid`] for contradictory options.
    pub fn open(&self, path: impl AsRef<Path>, options: OpenOptions) -> Result<File> {
        let file = open::open(&Arc::from(path.as_ref()), &options)?;
        Ok(File::new(self.clone(), Arc::new(file)))
    }

    /// Opens a file on a helper thread, and hands it to `then` there.
    pub(crate) fn open_then(&self, path: impl AsRef<Path>, options: OpenOptions, then: impl FnOnce(Result<File>) + Send + 'static) {
        let (engine, path): (_, Arc<Path>) = (self.clone(), Arc::from(path.as_ref()));
        self.run_blocking(move || then(engine.open(path, options)));
    }

    /// Opens a file on a helper thread.
    pub fn open_async(&self, path: impl AsRef<Path>, options: OpenOptions) -> Task<File> {
        let (task, end) = Task::new();
        self.open_then(path, options, end);
        task
    }

    /// A zeroed, page-aligned buffer of `len` bytes. Large ones are fresh memory whose pages are faulted in by their first use.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn buffer(&self, len: usize) -> Result<Buffer> {
        self.core().pool.allocate(len, true)
    }

    /// A page-aligned buffer of `len` bytes from the pool, with old bytes of this process in it. Its pages are usually present already.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn pooled_buffer(&self, len: usize) -> Result<Buffer> {
        self.core().pool.allocate(len, false)
    }

    /// Reads a whole file by path: it must be exactly as long as the buffer. The file is opened when the request is admitted and
    /// closed when it has ended, so that any number may be queued.
    pub fn read_file<B: IoBufMut>(&self, path: impl AsRef<Path>, mut buf: B) -> Op<B> {
        let (address, len) = (buf.as_mut_ptr() as u64, buf.len() as u64);
        self.transfer_path(path.as_ref(), Direction::Read, address, len, buf)
    }

    /// Writes a whole file by path: creates it if need be, and leaves it exactly as long as the buffer. If the disk is too full, the file
    /// keeps its old length and bytes. Nothing is flushed; see [`File::sync_all`].
    pub fn write_file<B: IoBuf>(&self, path: impl AsRef<Path>, buf: B) -> Op<B> {
        let (address, len) = (buf.as_ptr() as u64, buf.len() as u64);
        self.transfer_path(path.as_ref(), Direction::Write, address, len, buf)
    }

    fn transfer_path<B: Send + 'static>(&self, path: &Path, direction: Direction, address: u64, len: u64, buf: B) -> Op<B> {
        let transfer = Transfer::new(buf);
        let raw = RawTransfer { direction, address, len, position: 0, exact: true, handle: None };
        let target = PathTarget { path: Arc::from(path), whole: true, mode: 0o666 };
        self.submit(Target::Path(Box::new(target)), raw, Arc::clone(&transfer) as Arc<dyn Completion>);
        self.core().inbox.wake();
        Op::new(transfer, Arc::clone(self.core().inbox.doorbell()))
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        self.core().counters.snapshot()
    }

    /// Which backend runs, why, and with what limits.
    pub fn info(&self) -> Info {
        let Core { config, report, .. } = &**self.core();
        let report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let BackendReport { kind, reason, flags, ring_entries } = report;
        Info {
            backend: kind,
            reason,
            kernel: thread::kernel_release(),
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

    // ---- inside the crate ----

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// Makes the driver look at what was submitted.
    pub(crate) fn wake(&self) {
        self.core().inbox.wake();
    }

    /// Runs a job that can block on a blocking thread.
    pub(crate) fn run_blocking(&self, job: impl FnOnce() + Send + 'static) {
        self.core().blocking.run(Box::new(job));
    }

    /// Accepts a transfer, or settles it at once with what is wrong with it. Does not wake the driver.
    pub(crate) fn submit(&self, target: Target, raw: RawTransfer, completion: Arc<dyn Completion>) {
        let counters = &self.core().counters;
        let RawTransfer { direction, address, len, position, exact, handle } = raw;
        let call = match direction {
            Direction::Read => "read",
            Direction::Write => "write",
        };
        let refuse = |kind: ErrorKind, target: &Target, completion: Arc<dyn Completion>, advice: &str| {
            let path = match target {
                Target::File(file) => &file.path,
                Target::Path(path) => &path.path,
            };
            let error = Error::new(kind, call).at(path).range(position, len, 0).advise(advice);
            completion.settle(Outcome { result: Err(error), memory_lost: false });
        };
        if position.checked_add(len).is_none_or(|end| end > END_MAX) {
            return refuse(ErrorKind::Os(libc::EFBIG), &target, completion, "the transfer would end beyond 2^63 bytes");
        }
        if let (0, Target::File(file)) = (len, &target) {
            let receipt = Receipt {
                bytes: 0,
                backend: self.info().backend,
                direct: file.is_direct(),
                blocks: 0,
                bounced: 0,
                resumed: 0,
                retried: 0,
                queue: Duration::ZERO,
                device: Duration::ZERO,
            };
            return completion.settle(Outcome { result: Ok(receipt), memory_lost: false });
        }
        if counters.queued.fetch_add(1, Ordering::Relaxed) >= self.core().config.max_queued {
            sub(&counters.queued, 1);
            add(&counters.failed, 1);
            return refuse(ErrorKind::QueueFull, &target, completion, "wait for some of them, or raise max_queued");
        }
        let accepted = match &target {
            Target::File(file) => {
                file.unsettled.fetch_add(1, Ordering::AcqRel);
                (direction == Direction::Write).then(|| file.inode.accept_write(position + len))
            }
            Target::Path(_) => None,
        };
        let accepted_at = Instant::now();
        let submission = Submission { completion, target, handle, direction, exact, address, len, position, accepted, accepted_at };
        // Intake closes only when the last engine goes, and `self` is one.
        let refused = self.core().inbox.push_quietly(Message::Submit(submission));
        debug_assert!(refused.is_ok());
    }
}

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
    /// Operations that may be accepted and unsettled at once.
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

#[cfg(feature = "sim")]
impl Engine {
    /// An engine whose driver the caller runs.
    pub(crate) fn simulated(core: Arc<Core>) -> Self {
        Self { inner: Arc::new(Inner { core, driver: Mutex::new(None) }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_backend_in_the_environment_that_is_no_text_is_refused_not_ignored() {
        let error = backend_of(Some(OsStr::from_bytes(b"uring\xff"))).expect_err("no backend");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(backend_of(Some(OsStr::new(""))).expect("nothing was asked for"), None);
        assert_eq!(backend_of(None).expect("nothing was asked for"), None);
    }
}
