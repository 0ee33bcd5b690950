//! [`Engine`]: one driver thread, its backend, a few blocking threads and a pool of memory.
//!
//! An engine is cheap to clone; clones and open files share it. When the last of them is dropped,
//! intake closes, queued requests settle as canceled, and the drop waits until the device is done
//! with everything in flight.
//!
//! **Fork.** An engine works in the process that built it. In a forked child, every call ends with
//! [`ErrorKind::Forked`] and no drop waits; the bytes of its [`Buffer`]s are not there, and must not
//! be touched. An engine that the child builds works.

use crate::backend::BackendKind;
use crate::blocking::Line;
use crate::completion::{Completion, RawTransfer};
use crate::driver::request::{PathTarget, Target};
use crate::driver::{Core, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::file::File;
use crate::intake::{self, Kind};
use crate::memory::{Buffer, IoBuf, IoBufMut};
use crate::op::{Op, Task, Transfer};
use crate::open::shortage::{self, Patience};
use crate::open::{self, Name, OpenFile, OpenOptions};
use crate::plan::Direction;
use crate::stats::{Stats, add};
use crate::sync::thread::JoinHandle;
use crate::sys::thread;
use crate::trace;
use crate::unwind::contain;
use std::mem;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Moves bytes between memory and files. The [crate] documentation lists what it promises.
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
        if self.core.is_forked() {
            // The driver is the parent's, and so is what it holds.
            return mem::forget(self.driver.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
        self.core.inbox.close();
        self.core.inbox.post(Message::Shutdown);
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A completion that drops the last engine runs on the driver, or on a thread that the
        // driver waits for. It must not wait for the driver, which drains in any case.
        if let Some(driver) = driver.filter(|_| !thread::is_ours()) {
            drop(driver.join());
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("backend", &self.core().backend()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens a file. Blocks the calling thread.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] if the system refuses; a directory is `EISDIR`. [`ErrorKind::Unsupported`]
    /// for anything else but a regular file or a block device. [`ErrorKind::Direct`] if direct I/O
    /// is required and not available. [`ErrorKind::Invalid`] for contradictory options.
    pub fn open(&self, path: impl AsRef<Path>, options: OpenOptions) -> Result<File> {
        self.open_named(&Name::of(path.as_ref()), &options)
    }

    fn open_named(&self, name: &Name, options: &OpenOptions) -> Result<File> {
        self.core().check_open("open").map_err(|error| error.at(&name.path))?;
        Ok(self.file_of(open::open_patiently(name, options)?))
    }

    /// Makes a file of a descriptor that the program has: of a memfd, of a file without a name
    /// (`O_TMPFILE`), of one that another process has passed. Its access is that of the descriptor, or
    /// what the options request of it; direct I/O is used where it works, as in [`Engine::open`].
    /// Blocks the calling thread.
    ///
    /// The descriptor is the engine's from now on. `O_DIRECT` is set on it and its other status flags
    /// are cleared, so its open file description must not be shared: with a duplicate that others use,
    /// or with a process that has passed it and goes on writing. One opened with `O_PATH` or
    /// `O_APPEND`, and a write-only one, is opened again through `/proc/self/fd` instead.
    ///
    /// # Errors
    /// As [`Engine::open`]; the descriptor is closed then. `EBADF` if it does not have the access that
    /// the options request. [`ErrorKind::Invalid`] if they ask to create anything.
    ///
    /// ```
    /// use deepring::{Engine, OpenOptions};
    /// use std::os::unix::fs::OpenOptionsExt;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # fn open(directory: &std::path::Path) -> std::io::Result<std::fs::File> {
    /// let unnamed = std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(directory)?;
    /// # Ok(unnamed)
    /// # }
    /// # let unnamed = open(directory.path()).unwrap_or_else(|_| tempfile::tempfile().unwrap());
    /// let engine = Engine::builder().build()?;
    /// let scratch = engine.open_fd(unnamed, OpenOptions::new())?;
    /// scratch.write_at(vec![7u8; 10_000], 0).wait().ok()?;
    /// let (_, receipt) = scratch.read_at(vec![0u8; 20_000], 5000).wait().ok()?;
    /// assert_eq!(receipt.bytes, 5000);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn open_fd(&self, fd: impl Into<OwnedFd>, options: OpenOptions) -> Result<File> {
        self.core().check_open("open")?;
        Ok(self.file_of(open::adopt(fd.into(), &options)?))
    }

    pub(crate) fn file_of(&self, file: OpenFile) -> File {
        trace::opened(&file.path, file.is_direct(), &file.support.reason);
        File::new(self.clone(), Arc::new(file))
    }

    /// Opens a file on a blocking thread, and passes it to `then` there.
    pub(crate) fn open_then(&self, path: impl AsRef<Path>, options: OpenOptions, then: impl FnOnce(Result<File>) + Send + 'static) {
        if let Err(error) = self.core().check_process("open") {
            return then(Err(error));
        }
        let name = Name::of(path.as_ref());
        self.attempt(Line::of_path(&name.path), move |engine| engine.open_named(&name, &options), Patience::new(), then);
    }

    /// Opens something on a blocking thread, and passes it to `then` there. If descriptors run short, goes to the end of the
    /// line: the thread may be needed to close other files.
    pub(crate) fn attempt<T: 'static>(
        &self,
        line: Line,
        open: impl Fn(&Self) -> Result<T> + Send + 'static,
        mut patience: Patience,
        then: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let engine = self.clone();
        self.run_on(line, move || match open(&engine) {
            Err(error) if patience.allows(&error) => {
                shortage::pause();
                engine.attempt(line, open, patience, then);
            }
            opened => {
                // Before the caller goes on, whose clones are the last ones then: their drop waits for the engine's end.
                drop(engine);
                then(opened);
            }
        });
    }

    /// Opens a file without blocking the caller. The task's errors are those of [`Engine::open`].
    pub fn open_async(&self, path: impl AsRef<Path>, options: OpenOptions) -> Task<File> {
        let (task, end) = Task::new();
        self.open_then(path, options, end);
        task
    }

    /// Runs a job on a blocking thread of the engine, and returns at once: for calls that can block and for work that would
    /// keep the caller's thread busy. The job may wait for transfers of the engine. It may wait for tasks, too, but hundreds
    /// of jobs that do so at once would take the threads that those tasks need.
    ///
    /// Four such jobs run at once, and one more for each that has taken longer than 100 ms. Dropping the task does not cancel
    /// its job. A job that was accepted runs: the end of the engine waits for it.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Panicked`] if the job panicked, which is counted ([`Stats::panics`]);
    /// [`ErrorKind::Closed`] on a closed engine and [`ErrorKind::Forked`], with the job dropped.
    ///
    /// ```
    /// let engine = deepring::Engine::builder().build()?;
    /// let sum = engine.run_blocking(|| (1..=1_000_000u64).sum::<u64>());
    /// assert_eq!(sum.wait()?, 500_000_500_000); // or .await
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn run_blocking<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Task<T> {
        let (task, end) = Task::new();
        if let Err(error) = self.core().check_open("run_blocking") {
            end(Err(error));
            return task;
        }
        let counters = Arc::clone(&self.core().counters);
        self.run_on(Line::CALLER, move || {
            // Counted before the task ends, so that one who waited for it sees the count.
            let ended = contain(job).ok_or_else(|| {
                add(&counters.panics, 1);
                Error::new(ErrorKind::Panicked, "run_blocking")
            });
            end(ended);
        });
        task
    }

    /// A zeroed, page-aligned buffer of `len` bytes. Beyond 1 MiB its pages are fresh ones, which are
    /// faulted in by their first use; see [`Buffer::populate`].
    ///
    /// # Errors
    /// `ENOMEM` if the system has no memory left.
    pub fn buffer(&self, len: usize) -> Result<Buffer> {
        self.core().check_process("mmap")?;
        self.core().pool.allocate(len, true)
    }

    /// A page-aligned buffer of `len` bytes from the pool, with old bytes of this process in it.
    /// Its pages are usually present already.
    ///
    /// # Errors
    /// `ENOMEM` if the system has no memory left.
    pub fn pooled_buffer(&self, len: usize) -> Result<Buffer> {
        self.core().check_process("mmap")?;
        self.core().pool.allocate(len, false)
    }

    /// Gives the memory that is kept for reuse back to the system, see [`Stats::pooled_bytes`]. For a
    /// program that has passed its peak; the next buffers cost page faults again. Blocks for a few
    /// milliseconds per GiB on huge pages.
    pub fn trim(&self) {
        self.core().pool.trim();
    }

    /// Reads a whole file by path. The file is opened when the request is admitted and closed before
    /// it settles, so any number of requests can be queued without a descriptor each.
    ///
    /// The result can be an error of [`Engine::open`], [`File::read_exact_at`] or [`File::close`], and
    /// [`ErrorKind::SizeMismatch`] unless the file is exactly as long as the buffer.
    pub fn read_file<B: IoBufMut>(&self, path: impl AsRef<Path>, mut buf: B) -> Op<B> {
        let (address, len) = (buf.as_mut_ptr() as u64, buf.room() as u64);
        self.transfer_path(path.as_ref(), Direction::Read, address, len, Transfer::reading(buf, len, self.core()))
    }

    /// Writes a whole file by path. The file is created if it is missing, with mode 0o666 less the
    /// umask, and is exactly as long as the buffer afterwards. If the disk is too full, the file
    /// keeps its old length and bytes. Nothing is flushed; see [`File::sync_all`].
    ///
    /// The result can be an error of [`Engine::open`], of [`File::write_at`] or of [`File::close`].
    pub fn write_file<B: IoBuf>(&self, path: impl AsRef<Path>, buf: B) -> Op<B> {
        let (address, len) = (buf.as_ptr() as u64, buf.len() as u64);
        self.transfer_path(path.as_ref(), Direction::Write, address, len, Transfer::new(buf, len, self.core()))
    }

    fn transfer_path<B: Send + 'static>(&self, path: &Path, direction: Direction, address: u64, len: u64, transfer: Transfer<B>) -> Op<B> {
        let transfer = Arc::new(transfer);
        let raw = RawTransfer::new(direction, address, len, 0).exact(true);
        let target = PathTarget { name: Name::of(path), whole: true, mode: 0o666 };
        self.submit(Target::Path(Box::new(target)), raw, Arc::clone(&transfer) as Arc<dyn Completion>);
        self.core().inbox.wake();
        Op::new(transfer, Arc::clone(self.core().inbox.doorbell()))
    }

    /// Ends the engine, for all its clones and files, without blocking the caller: intake closes, what
    /// is queued settles as canceled, and the task ends when everything at the device is done and the
    /// engine's threads have finished their work. From now on every call but [`File::close`] is an
    /// error of kind [`ErrorKind::Closed`]. Dropping the last clone does the same, and waits.
    ///
    /// A write that was accepted and has not ended can be canceled in the middle: wait for writes
    /// first. A device that never answers keeps the task, as it would keep the drop.
    ///
    /// # Errors
    /// Of the task: [`ErrorKind::Forked`].
    ///
    /// ```
    /// use deepring::{Engine, ErrorKind, OpenOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// # std::fs::write(&path, [7u8; 1000]).unwrap();
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().read(true))?;
    /// let read = file.read_at(vec![0u8; 1000], 0);
    /// engine.close().wait()?; // or .await
    /// let ended = read.wait(); // it has ended: read, or canceled
    /// assert_eq!(ended.buf.map(|buf| buf.len()), Some(1000));
    /// assert_eq!(file.read_at(vec![0u8; 1000], 0).wait().result.unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn close(self) -> Task<()> {
        let (task, then) = Task::new();
        if let Err(error) = self.core().check_process("close") {
            then(Err(error));
            return task;
        }
        let core = Arc::clone(self.core());
        core.closing.request();
        core.inbox.close();
        core.inbox.post(Message::Shutdown);
        core.closing.when_ended(Box::new(move || {
            // The last engine must not be dropped by the caller, who would wait for the driver.
            drop(self);
            then(Ok(()));
        }));
        task
    }

    /// A snapshot of the counters. Does not block.
    pub fn stats(&self) -> Stats {
        Stats { windows: self.core().windows.all(), ..self.core().counters.snapshot() }
    }

    // ---- inside the crate ----

    /// An engine whose driver runs on this thread. Without one, the caller runs the driver.
    pub(crate) fn new(core: Arc<Core>, driver: Option<JoinHandle<()>>) -> Self {
        Self { inner: Arc::new(Inner { core, driver: Mutex::new(driver) }) }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// Makes the driver look at what was submitted.
    pub(crate) fn wake(&self) {
        self.core().inbox.wake();
    }

    /// What moves the bytes of this file now: a ring never gets a file that blocks its submitter.
    pub(crate) fn backend_of(&self, file: &OpenFile) -> BackendKind {
        self.core().backend_of(file)
    }

    /// Runs a job that can block on a blocking thread.
    pub(crate) fn run_on(&self, line: Line, job: impl FnOnce() + Send + 'static) {
        if self.core().is_forked() {
            return job();
        }
        let counters = Arc::clone(&self.core().counters);
        self.core().blocking.run(
            line,
            Box::new(move || {
                if contain(job).is_none() {
                    add(&counters.panics, 1);
                }
            }),
        );
    }

    /// See [`intake::submit`].
    pub(crate) fn submit(&self, target: Target, raw: RawTransfer, completion: Arc<dyn Completion>) {
        intake::submit(self.core(), target, raw, Kind::Plain, completion);
    }
}
