//! [`File`]: an open file of an engine.

mod append;
mod cloned;
mod control;
mod copied;
mod room;

pub(crate) use control::{flush, stat};

use crate::backend::BackendKind;
use crate::completion::{Completion, Outcome, RawTransfer};
use crate::driver::request::Target;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::file_stat::FileStat;
use crate::handle::Handle;
use crate::locks::ProcessLocks;
use crate::memory::{Buffer, IoBuf, IoBufMut};
use crate::op::{Completed, Op, Task, Transfer};
use crate::open::{DirectSupport, OpenFile};
use crate::options::{ReadOptions, WriteOptions};
use crate::plan::Direction;
use crate::priority::Priority;
use crate::read_buffer::{ReadBuffer, Receiver, Then};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// An open file. Dropping it closes the descriptor when the last request on it has ended: then on a
/// blocking thread, or in the drop if there is none. [`File::close`] never blocks, and reports the
/// result.
///
/// Requests on overlapping ranges are unordered unless one has ended before the other starts. A
/// failed transfer is an error of kind [`Os`], [`Eof`], [`Canceled`], [`QueueFull`] or [`Lost`],
/// which carries the position and the bytes moved before it.
///
/// [`Os`]: crate::ErrorKind::Os
/// [`Eof`]: crate::ErrorKind::Eof
/// [`Canceled`]: crate::ErrorKind::Canceled
/// [`QueueFull`]: crate::ErrorKind::QueueFull
/// [`Lost`]: crate::ErrorKind::Lost
///
/// ```
/// use deepring::{Completed, Engine, OpenOptions};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("layer0.bin");
/// let engine = Engine::builder().build()?;
/// let file = engine.open(&path, OpenOptions::new().read(true).write(true).create(true))?;
/// let weights = vec![7u8; 100_000];
/// let (weights, receipt) = file.write_at(weights, 0).wait().ok()?;
/// assert_eq!(receipt.bytes, 100_000);
/// let Completed { buf, result } = file.read_exact_at(engine.buffer(100_000)?, 0).wait();
/// result?;
/// assert_eq!(buf.as_deref(), Some(&weights[..]));
/// file.sync_all().wait()?;
/// file.close().wait()?;
/// # Ok::<(), deepring::Error>(())
/// ```
#[expect(clippy::struct_field_names, reason = "it is the open file")]
pub struct File {
    engine: Engine,
    pub(crate) file: Arc<OpenFile>,
    /// One for each `File` of this descriptor: the last one closes it.
    clones: Arc<()>,
}

impl File {
    pub(crate) fn new(engine: Engine, file: Arc<OpenFile>) -> Self {
        Self { engine, file, clones: Arc::default() }
    }

    /// Another `File` of the same descriptor, with everything that was found out about it. No system
    /// call is made. Each can be closed or dropped by itself; the descriptor is closed by the last.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Forked`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("layer0.bin");
    /// # std::fs::write(&path, vec![7u8; 5000]).unwrap();
    /// let engine = deepring::Engine::builder().build()?;
    /// let file = engine.open(&path, deepring::OpenOptions::new().read(true))?;
    /// let clone = file.try_clone()?;
    /// file.close().wait()?;
    /// let (_, receipt) = clone.read_at(vec![0u8; 5000], 0).wait().ok()?;
    /// assert_eq!(receipt.bytes, 5000);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<Self> {
        self.check_process("try_clone")?;
        let (engine, file, clones) = (self.engine.clone(), Arc::clone(&self.file), Arc::clone(&self.clones));
        Ok(Self { engine, file, clones })
    }

    /// Reads from `position` until the buffer is full or the file ends; the receipt says how many
    /// bytes came.
    pub fn read_at<B: IoBufMut>(&self, buf: B, position: u64) -> Op<B> {
        self.read_with(buf, position, ReadOptions::new())
    }

    /// Reads from `position` until the buffer is full. The end of the file before that is an error
    /// of kind [`crate::ErrorKind::Eof`].
    pub fn read_exact_at<B: IoBufMut>(&self, buf: B, position: u64) -> Op<B> {
        self.read_with(buf, position, ReadOptions::new().exact(true))
    }

    /// Reads as the options say. [`File::read_at`] and [`File::read_exact_at`] are shorthands.
    pub fn read_with<B: IoBufMut>(&self, mut buf: B, position: u64, options: ReadOptions) -> Op<B> {
        let ReadOptions { exact, handle, priority, deadline, checksum } = options;
        let (address, len) = (buf.as_mut_ptr() as u64, buf.room() as u64);
        let raw = RawTransfer::new(Direction::Read, address, len, position);
        let raw = raw.exact(exact).handle(handle).priority(priority).checksum(checksum);
        self.transfer(Transfer::reading(buf, len, self.engine.core()), raw, deadline)
    }

    /// Reads from `position` until `length` bytes have come or the file ends, into a buffer that comes
    /// with the outcome. Cheaper than [`File::read_at`] into [`Engine::buffer`](crate::Engine::buffer):
    /// memory that the engine has kept is taken as it is, and only what the read leaves is zeroed. If
    /// the read fails or is canceled, there is no buffer.
    ///
    /// The result can also be `ENOMEM`.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("layer0.bin");
    /// # std::fs::write(&path, vec![7u8; 5000]).unwrap();
    /// let engine = deepring::Engine::builder().build()?;
    /// let file = engine.open(&path, deepring::OpenOptions::new().read(true))?;
    /// let (layer, receipt) = file.read_buffer_at(4000, 2000).wait().ok()?;
    /// assert_eq!((receipt.bytes, layer.len(), layer[999], layer[1000]), (1000, 2000, 7, 0));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn read_buffer_at(&self, position: u64, length: usize) -> Op<Buffer> {
        let transfer = Transfer::without_buffer();
        self.submit_buffer(position, length, None, Arc::clone(&transfer));
        self.engine.wake();
        Op::new(transfer, Arc::clone(self.engine.core().inbox.doorbell()))
    }

    /// Submits a read that brings its own memory, without waking the driver.
    fn submit_buffer(&self, position: u64, length: usize, handle: Option<Arc<Handle>>, receiver: impl Receiver) {
        let core = self.engine.core();
        let allocated = core.check_process("read").and_then(|()| core.pool.allocate(length, false));
        let buffer = match allocated {
            Ok(buffer) => buffer,
            Err(error) => {
                let error = error.at(&self.file.path).range(position, length as u64, 0);
                return receiver.receive(Completed { buf: None, result: Err(error) });
            }
        };
        self.read_into(position, buffer, handle, receiver);
    }

    /// Submits a read into a buffer that has old bytes in it.
    pub(crate) fn read_into(&self, position: u64, buffer: Buffer, handle: Option<Arc<Handle>>, receiver: impl Receiver) {
        let len = buffer.len() as u64;
        let (address, read) = ReadBuffer::new(buffer, receiver, &self.file, self.engine.core());
        let raw = RawTransfer::new(Direction::Read, address, len, position).handle(handle);
        self.engine.submit(Target::File(Arc::clone(&self.file)), raw, read);
    }

    /// Writes the whole buffer at `position`, and extends the file if the write ends beyond it. The
    /// file's length is exact afterwards, whatever the alignment. Nothing is flushed; see
    /// [`File::sync_all`].
    pub fn write_at<B: IoBuf>(&self, buf: B, position: u64) -> Op<B> {
        self.write_with(buf, position, WriteOptions::new())
    }

    /// Writes as the options say. [`File::write_at`] is a shorthand.
    pub fn write_with<B: IoBuf>(&self, buf: B, position: u64, options: WriteOptions) -> Op<B> {
        let WriteOptions { handle, priority, deadline, checksum } = options;
        let (address, len) = (buf.as_ptr() as u64, buf.len() as u64);
        let raw = RawTransfer::new(Direction::Write, address, len, position);
        let raw = raw.handle(handle).priority(priority).checksum(checksum);
        self.transfer(Transfer::new(buf, len, self.engine.core()), raw, deadline)
    }

    fn transfer<B: Send + 'static>(&self, transfer: Transfer<B>, raw: RawTransfer, deadline: Option<Instant>) -> Op<B> {
        let (transfer, late) = self.until(transfer, deadline, raw.direction);
        if let Some(error) = late {
            Arc::clone(&transfer).settle(Outcome::failed(error.range(raw.position, raw.len, 0)));
        } else {
            self.engine.submit(Target::File(Arc::clone(&self.file)), raw, Arc::clone(&transfer) as Arc<dyn Completion>);
            self.engine.wake();
        }
        Op::new(transfer, Arc::clone(self.engine.core().inbox.doorbell()))
    }

    /// The transfer with its deadline, and an error if that has passed.
    pub(crate) fn until<B: Send + 'static>(
        &self,
        transfer: Transfer<B>,
        deadline: Option<Instant>,
        direction: Direction,
    ) -> (Arc<Transfer<B>>, Option<Error>) {
        let core = self.engine.core();
        match deadline {
            Some(at) if at <= Instant::now() => {
                let error = Error::new(ErrorKind::TimedOut, direction.call_name()).at(&self.file.path);
                (Arc::new(transfer), Some(error))
            }
            // A forked child must not touch the deadlines, and refuses every transfer.
            Some(at) if !core.is_forked() => (Arc::new(transfer.until(core.deadlines.watch(at))), None),
            _ => (Arc::new(transfer), None),
        }
    }

    /// Flushes to the device the data and metadata of every write to this file that was accepted
    /// before the call, by any handle or engine of the process. A [`File::set_len`] that has not
    /// finished, and writes by path whose file is not open yet, are not covered: wait for them
    /// first.
    ///
    /// # Errors of the task
    /// [`crate::ErrorKind::Os`] if the flush failed. That is final: the kernel reports a lost write once,
    /// so every later sync of this file by this process fails with [`crate::ErrorKind::SyncFailed`].
    pub fn sync_all(&self) -> Task<()> {
        let (task, end) = Task::new();
        self.sync_then(false, Arc::default(), end);
        task
    }

    /// As [`File::sync_all`], without metadata that reading the data back does not need.
    pub fn sync_data(&self) -> Task<()> {
        let (task, end) = Task::new();
        self.sync_then(true, Arc::default(), end);
        task
    }

    /// Truncates or extends the file to `size` bytes. Waits until no write of this process is in
    /// progress on it.
    ///
    /// # Errors of the task
    /// [`crate::ErrorKind::Os`] with syscall `ftruncate`.
    pub fn set_len(&self, size: u64) -> Task<()> {
        let (task, end) = Task::new();
        self.set_len_then(size, Arc::default(), end);
        task
    }

    /// What the file system reports about the file. The size does not count padding that a write of
    /// this process will trim.
    ///
    /// # Errors of the task
    /// [`crate::ErrorKind::Os`] with syscall `statx`.
    pub fn stat(&self) -> Task<FileStat> {
        let (task, end) = Task::new();
        self.stat_then(end);
        task
    }

    /// What the file system reported when the file was opened. No system call is made; of a block device, the size is 0.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("layer0.bin");
    /// # std::fs::write(&path, vec![7u8; 5000]).unwrap();
    /// let engine = deepring::Engine::builder().build()?;
    /// let file = engine.open(&path, deepring::OpenOptions::new().read(true))?;
    /// assert_eq!(file.stat_at_open(), file.stat().wait()?);
    /// assert_eq!(file.stat_at_open().size, 5000);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn stat_at_open(&self) -> FileStat {
        FileStat::of(&self.file.opened, self.file.opened.size)
    }

    /// Waits for every request on this file, then closes it. While there are other clones, the
    /// descriptor stays open: then this waits for the writes that were accepted before, and ends.
    ///
    /// # Errors of the task
    /// [`crate::ErrorKind::Os`] with syscall `close`: on network file systems, a write error can appear
    /// there.
    pub fn close(self) -> Task<()> {
        let (task, end) = Task::new();
        self.close_then(end);
        task
    }

    /// Whether transfers bypass the page cache now. Without [`crate::Direct::Require`], this
    /// becomes false when the file system refuses a direct transfer, or when the first write turns
    /// out to be in the page cache.
    pub fn direct(&self) -> bool {
        self.file.is_direct()
    }

    /// The class of its requests that name none: [`OpenOptions::priority`](crate::OpenOptions::priority).
    pub fn priority(&self) -> Priority {
        self.file.priority
    }

    /// Whether unaligned and extending writes to this file keep out those of other processes, and of
    /// other copies of deepring in this one. Can become false at the first write, if the file system
    /// refuses locks then.
    pub fn process_locks(&self) -> ProcessLocks {
        self.file.locks.describe()
    }

    /// What moves this file's bytes now: threads if its file system blocks the submitter of a
    /// request, as FUSE does, else the engine's current backend. A lost ring is replaced by
    /// threads.
    ///
    /// ```
    /// use deepring::{BackendKind, Engine, OpenOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// let engine = Engine::builder().backend(BackendKind::Threads).build()?;
    /// let file = engine.open(&path, OpenOptions::new().write(true).create(true))?;
    /// let (_, receipt) = file.write_at(vec![7u8; 4096], 0).wait().ok()?;
    /// assert_eq!((file.backend(), receipt.backend), (BackendKind::Threads, BackendKind::Threads));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn backend(&self) -> BackendKind {
        self.engine.backend_of(&self.file)
    }

    /// What was found about direct I/O when the file was opened.
    pub fn direct_support(&self) -> &DirectSupport {
        &self.file.support
    }

    /// The same inside the crate.
    pub(crate) fn open_file(&self) -> &Arc<OpenFile> {
        &self.file
    }

    /// The path that it was opened with; of a descriptor, what the system calls it; of a
    /// [`Replacement`](crate::Replacement), that of the file it will replace.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The engine it belongs to.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The size in bytes when the file was opened, or as this process has changed it since. Does
    /// not ask the file system; see [`File::stat`].
    pub fn known_size(&self) -> u64 {
        self.file.inode.size()
    }
}

/// For system calls that the engine does not make, such as `flock` or `ioctl`. The descriptor can have
/// `O_DIRECT` set: transfers through it must then be aligned. Do not change its flags. While an
/// extending write is in flight, the file can be longer than promised; see [`File::stat`].
///
/// ```
/// use std::os::fd::AsFd;
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("layer0.bin");
/// # std::fs::write(&path, vec![7u8; 5000]).unwrap();
/// let engine = deepring::Engine::builder().build()?;
/// let file = engine.open(&path, deepring::OpenOptions::new().read(true))?;
/// let passed_on = file.as_fd().try_clone_to_owned().unwrap(); // for a child process, for example
/// assert_eq!(std::fs::File::from(passed_on).metadata().unwrap().len(), 5000);
/// # Ok::<(), deepring::Error>(())
/// ```
impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // Closed only by the last `File` of the descriptor, which is consumed.
        self.file.fd().as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.file.raw()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.file.path).field("direct", &self.direct()).finish_non_exhaustive()
    }
}

/// The same with callbacks, for [`crate::binding`].
impl File {
    /// # Safety
    /// See [`RawTransfer`].
    pub(crate) unsafe fn submit(&self, transfer: RawTransfer, completion: Arc<dyn Completion>) {
        self.engine.submit(Target::File(Arc::clone(&self.file)), transfer, completion);
    }

    /// See [`File::read_buffer_at`]. `canceled` as for [`File::sync_then`].
    pub(crate) fn read_buffer_then(
        &self,
        position: u64,
        length: usize,
        handle: Option<Arc<Handle>>,
        canceled: Arc<AtomicBool>,
        then: impl FnOnce(Completed<Buffer>) + Send + 'static,
    ) {
        self.submit_buffer(position, length, handle, Then::new(canceled, then));
    }
}
