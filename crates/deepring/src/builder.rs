//! [`EngineBuilder`]: the settings of an engine, their bounds and defaults, and the start of its
//! driver.

use crate::backend::BackendKind;
use crate::backend::start::start_backend;
use crate::backend::threads::THREADS;
use crate::blocking::BlockingPool;
use crate::config::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, Config, OFFLOAD_BYTES, WINDOW_BYTES_MIN, WindowMode};
use crate::deadlines::Deadlines;
use crate::driver::{Core, Driver};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::inbox::Inbox;
use crate::memory::Pool;
use crate::profile::Profiles;
use crate::share::Devices;
use crate::stats::Counters;
use crate::sync::mpsc;
use crate::sys::event::Event;
use crate::sys::process::{Process, watch_forks};
use crate::sys::thread;
use crate::unwind::contain;
use crate::windows::Windows;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex};

/// 4 MiB: the largest request common devices accept (`max_sectors_kb`), so the kernel need not
/// merge. Smaller blocks are no faster, and at 1 MiB a stream costs half as much CPU again.
const BLOCK_BYTES_DEFAULT: u64 = 4 << 20;
/// A window that is fixed: drives need little, 7 GB/s at 0.5 ms are 3.5 MB. Virtual drives need more,
/// because the host serves requests in turns: at 7 GB/s, 64 MiB wrote 4 % faster than 32 MiB.
const IN_FLIGHT_BYTES_FIXED: u64 = 64 << 20;
/// The bound of a window that is found: hosts were seen that wrote a tenth faster with it than with
/// 64 MiB.
const IN_FLIGHT_BYTES_DEFAULT: u64 = 256 << 20;
const MAX_QUEUED_DEFAULT: u64 = 1 << 20;
const QUEUE_DEPTH_MAX: u32 = 1 << 16;
/// The default of [`EngineBuilder::queue_depth`] on a device whose queue holds the usual 256
/// requests: half of them.
pub const QUEUE_DEPTH_DEFAULT: u32 = 128;
/// Enough for eight devices with the usual limit of 128 requests, all stuck: a device gets no more places than it
/// leaves free.
const RING_ENTRIES_MIN: u32 = 1024;
const RING_ENTRIES_MAX: u32 = 4096;
/// More block each other in the kernel before a drive has work for them.
const THREADS_MAX: usize = 256;
const BACKEND_VARIABLE: &str = "DEEPRING_BACKEND";

/// Builds an [`Engine`]. Every setting has a default that suits most drives.
///
/// ```
/// use deepring::Engine;
/// let engine = Engine::builder().queue_depth(32).block_bytes(1 << 20).build()?;
/// assert_eq!((engine.info().queue_depth, engine.info().block_bytes), (Some(32), 1 << 20));
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct EngineBuilder {
    queue_depth: Option<u32>,
    block_bytes: Option<u64>,
    in_flight_bytes: Option<u64>,
    window: Option<WindowMode>,
    max_queued: Option<u64>,
    backend: Option<BackendKind>,
    threads: Option<usize>,
    ignores_profiles: bool,
}

impl EngineBuilder {
    /// Blocks in flight per device at most, 1 to 65536. The default is half of the requests that the
    /// device's queue holds, which is also the limit.
    #[must_use]
    pub fn queue_depth(mut self, requests: u32) -> Self {
        self.queue_depth = Some(requests);
        self
    }

    /// The size of one block in bytes, 1 to 2^30, rounded up to a multiple of 4096. The default is
    /// 4 MiB, or [`in_flight_bytes`] if that is less.
    ///
    /// [`in_flight_bytes`]: EngineBuilder::in_flight_bytes
    #[must_use]
    pub fn block_bytes(mut self, bytes: u64) -> Self {
        self.block_bytes = Some(bytes);
        self
    }

    /// Bytes in flight per device at most, at least 1; 256 MiB by default, or 64 MiB if the window is
    /// fixed. Raised to one block if it is less.
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: u64) -> Self {
        self.in_flight_bytes = Some(bytes);
        self
    }

    /// Whether the engine finds out how much to have in flight, within [`in_flight_bytes`] and
    /// [`queue_depth`]; by default it does.
    ///
    /// ```
    /// use deepring::{Engine, WindowMode};
    /// let engine = Engine::builder().window(WindowMode::Fixed).in_flight_bytes(32 << 20).build()?;
    /// assert_eq!((engine.info().window, engine.info().in_flight_bytes), (WindowMode::Fixed, 32 << 20));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    ///
    /// [`in_flight_bytes`]: EngineBuilder::in_flight_bytes
    /// [`queue_depth`]: EngineBuilder::queue_depth
    #[must_use]
    pub fn window(mut self, mode: WindowMode) -> Self {
        self.window = Some(mode);
        self
    }

    /// Requests accepted and not yet settled, those in flight included: at least 1, 2^20 by
    /// default. One more fails with [`ErrorKind::QueueFull`].
    #[must_use]
    pub fn max_queued(mut self, operations: u64) -> Self {
        self.max_queued = Some(operations);
        self
    }

    /// Allows one backend only. By default the environment variable `DEEPRING_BACKEND` (`uring` or
    /// `threads`) decides. Without it, the ring is used if it proves to work, else threads.
    #[must_use]
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Threads of the backend of threads, for each file system: 1 to 256, by default 8. Each carries out one operation at a time.
    /// Eight keep a drive as busy as a ring does with large blocks; small ones at random positions gain from more. They also
    /// count beside a ring, for what it must not touch, and after it is lost.
    ///
    /// ```
    /// use deepring::{BackendKind, Engine};
    /// let engine = Engine::builder().backend(BackendKind::Threads).threads(32).build()?;
    /// assert_eq!(engine.info().threads, 32);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    #[must_use]
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = Some(count);
        self
    }

    /// Whether the search for windows begins where a profile of the device says, which
    /// `deepring tune` writes; by default it does. The environment variable `DEEPRING_PROFILE` names
    /// another file, or with `off` none. What was found is in [`Info::profile`](crate::Info::profile)
    /// and [`PathInfo::profile`](crate::PathInfo::profile).
    ///
    /// ```
    /// use deepring::Engine;
    /// let engine = Engine::builder().profile(false).build()?;
    /// assert_eq!(engine.info().profile.reason, "the engine's options say so");
    /// # Ok::<(), deepring::Error>(())
    /// ```
    #[must_use]
    pub fn profile(mut self, used: bool) -> Self {
        self.ignores_profiles = !used;
        self
    }

    /// Starts the engine: its driver thread and its backend. Blocking threads start when there is
    /// work for them.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a setting outside its range or an unknown `DEEPRING_BACKEND`, and if
    /// a window was asked for whose bound is less than a block that was.
    /// [`ErrorKind::Os`] if the only backend allowed is refused, or if no thread or descriptor is
    /// available.
    pub fn build(self) -> Result<Engine> {
        let config = self.config()?;
        let profiles = self.profiles();
        watch_forks().map_err(|errno| Error::os(errno, "pthread_atfork"))?;
        let (forced, by) = match self.backend {
            Some(backend) => (Some(backend), "the engine's options"),
            None => (backend_of(std::env::var_os(BACKEND_VARIABLE).as_deref())?, BACKEND_VARIABLE),
        };
        let entries = (config.queue_depth.unwrap_or(0) * 4).clamp(RING_ENTRIES_MIN, RING_ENTRIES_MAX);
        let event = Event::new().map_err(|errno| Error::os(errno, "eventfd"))?;
        let inbox = Arc::new(Inbox::new(event));
        let counters = Arc::new(Counters::default());
        let blocking = Arc::new(BlockingPool::default());
        let pool = Arc::new(Pool::new(Arc::clone(&counters), Arc::clone(&blocking), None));
        // A ring belongs to the thread that sets it up. So the driver's thread does that, and
        // reports the result before it begins.
        let (report, started) = mpsc::channel();
        let driver = thread::spawn("deepring-driver".into(), move || {
            let (backend, backend_report) = match start_backend(inbox.doorbell(), entries, config.threads, forced.map(|kind| (kind, by))) {
                Ok(started) => started,
                Err(error) => return drop(report.send(Err(error))),
            };
            let (process, devices) = (Process::current(), Devices::of_process());
            let (report_now, windows) = (Mutex::new(backend_report), Windows::default());
            let deadlines = Deadlines::new(inbox.doorbell(), &blocking);
            let core = Core {
                closing: Arc::default(),
                inbox,
                blocking,
                deadlines,
                pool,
                counters,
                report: report_now,
                config,
                process,
                devices,
                windows,
                profiles,
            };
            let core = Arc::new(core);
            let (blocking, inbox, closing) = (Arc::clone(&core.blocking), Arc::clone(&core.inbox), Arc::clone(&core.closing));
            if report.send(Ok(Arc::clone(&core))).is_ok() {
                contain(|| Driver::new(core, backend).run());
            }
            blocking.stop();
            inbox.end();
            closing.end();
        })
        .map_err(|errno| Error::os(errno, "pthread_create"))?;
        let gone = |_| Error::new(ErrorKind::Closed, "build");
        let core = started.recv().map_err(gone)??;
        Ok(Engine::new(core, Some(driver)))
    }

    fn profiles(&self) -> Profiles {
        if self.ignores_profiles {
            Profiles::off("the engine's options say so")
        } else if self.window == Some(WindowMode::Fixed) {
            Profiles::off("the window is fixed: nothing is searched for")
        } else {
            Profiles::of_environment()
        }
    }

    pub(crate) fn config(&self) -> Result<Config> {
        let invalid = |advice: &str| Error::new(ErrorKind::Invalid, "build").advise(advice);
        if self.queue_depth.is_some_and(|depth| !(1..=QUEUE_DEPTH_MAX).contains(&depth)) {
            return Err(invalid("queue_depth must be 1 to 65536"));
        }
        let threads = self.threads.unwrap_or(THREADS);
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(invalid("threads must be 1 to 256"));
        }
        let max_queued = self.max_queued.unwrap_or(MAX_QUEUED_DEFAULT);
        let window = self.window.unwrap_or_default();
        let default = if window == WindowMode::Auto { IN_FLIGHT_BYTES_DEFAULT } else { IN_FLIGHT_BYTES_FIXED };
        let in_flight_bytes = self.in_flight_bytes.unwrap_or(default);
        if max_queued == 0 || in_flight_bytes == 0 {
            return Err(invalid("max_queued and in_flight_bytes must be positive"));
        }
        let block_bytes = self.block_bytes.unwrap_or(BLOCK_BYTES_DEFAULT.min(in_flight_bytes - in_flight_bytes % BLOCK_BYTES_MIN).max(1));
        if !(1..=BLOCK_BYTES_MAX).contains(&block_bytes) {
            return Err(invalid("block_bytes must be 1 to 2^30"));
        }
        let block_bytes = block_bytes.next_multiple_of(BLOCK_BYTES_MIN);
        if self.window.is_some() && self.in_flight_bytes.is_some_and(|bytes| bytes < block_bytes) && self.block_bytes.is_some() {
            return Err(invalid("the window is bounded by in_flight_bytes, which is less than block_bytes"));
        }
        let in_flight_bytes = in_flight_bytes.max(block_bytes);
        Ok(Config {
            queue_depth: self.queue_depth,
            block_bytes,
            in_flight_bytes,
            window,
            window_bytes_min: WINDOW_BYTES_MIN,
            max_queued,
            threads,
            offload_bytes: OFFLOAD_BYTES,
        })
    }
}

/// The backend that the environment asks for. Empty is unset; any other value is an error,
/// including one that is not valid UTF-8.
pub(crate) fn backend_of(value: Option<&OsStr>) -> Result<Option<BackendKind>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let known = [BackendKind::Uring, BackendKind::Threads].into_iter().find(|kind| value == kind.as_str());
    let refusal = || {
        let value = value.to_string_lossy();
        Error::new(ErrorKind::Invalid, "build").advise(format!("{BACKEND_VARIABLE} is '{value}', not 'uring' or 'threads'"))
    };
    known.map(Some).ok_or_else(refusal)
}

impl Engine {
    /// A builder with all defaults.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_backend_in_the_environment_that_is_not_utf_8_is_refused_not_ignored() {
        let error = backend_of(Some(OsStr::from_bytes(b"uring\xff"))).expect_err("no backend");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(backend_of(Some(OsStr::new(""))).expect("nothing was asked for"), None);
        assert_eq!(backend_of(None).expect("nothing was asked for"), None);
    }
}
