//! [`ReadOptions`], [`WriteOptions`] and [`ManyOptions`]: what one call asks for beside its buffer and its position.

use crate::digest::Checksum;
use crate::handle::Handle;
use crate::priority::Priority;
use std::sync::Arc;
use std::time::Instant;

/// How to read. The defaults are those of [`crate::File::read_at`].
///
/// ```
/// use deepring::{Engine, ErrorKind, OpenOptions, ReadOptions};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("weights.bin");
/// # std::fs::write(&path, vec![7u8; 1000]).unwrap();
/// let engine = Engine::builder().build()?;
/// let file = engine.open(&path, OpenOptions::new().read(true))?;
/// let (_, receipt) = file.read_with(engine.buffer(4096)?, 0, ReadOptions::new()).wait().ok()?;
/// assert_eq!(receipt.bytes, 1000);
/// let error = file.read_with(engine.buffer(4096)?, 0, ReadOptions::new().exact(true)).wait().ok().unwrap_err();
/// assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 1000));
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    pub(crate) exact: bool,
    pub(crate) handle: Option<Arc<Handle>>,
    pub(crate) priority: Option<Priority>,
    pub(crate) checksum: Checksum,
    pub(crate) deadline: Option<Instant>,
}

impl ReadOptions {
    /// All defaults: a read ends short at the end of the file, and has the limits of the engine
    /// alone.
    pub const fn new() -> Self {
        Self { exact: false, handle: None, priority: None, checksum: Checksum::None, deadline: None }
    }

    /// Whether meeting the end of the file before the buffer is full is an error of kind
    /// [`crate::ErrorKind::Eof`]; off by default.
    #[must_use]
    pub fn exact(mut self, yes: bool) -> Self {
        self.exact = yes;
        self
    }

    /// The handle whose [limits](crate::binding::HandleLimits) the read shares; none by default.
    #[must_use]
    pub fn handle(mut self, handle: Arc<Handle>) -> Self {
        self.handle = Some(handle);
        self
    }

    /// The class of the read; by default that of its handle, else of its file.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Whether [`Receipt::checksum`](crate::Receipt::checksum) is the CRC-32C of the bytes that were
    /// read; off by default. They are summed soon after they came, from the cache where they fit.
    #[must_use]
    pub fn checksum(mut self, yes: bool) -> Self {
        self.checksum = if yes { Checksum::Sum } else { Checksum::None };
        self
    }

    /// As [`ReadOptions::checksum`], and any other checksum than this is an error of kind
    /// [`crate::ErrorKind::Checksum`]. The buffer has the bytes all the same.
    ///
    /// ```
    /// use deepring::{Engine, ErrorKind, OpenOptions, ReadOptions, crc32c};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// # std::fs::write(&path, b"123456789").unwrap();
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().read(true))?;
    /// let read = file.read_with(engine.buffer(9)?, 0, ReadOptions::new().expect(0xE306_9283)).wait();
    /// assert_eq!(read.result?.checksum, Some(0xE306_9283));
    /// let read = file.read_with(engine.buffer(8)?, 1, ReadOptions::new().expect(7)).wait();
    /// let error = read.result.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Checksum { expected: 7, actual: crc32c(b"23456789") });
    /// assert_eq!((error.position(), read.buf.as_deref()), (Some(1), Some(&b"23456789"[..])));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    #[must_use]
    pub fn expect(mut self, checksum: u32) -> Self {
        self.checksum = Checksum::Expect(checksum);
        self
    }

    /// When the read is given up: what is queued then leaves at once, blocks at the device complete first,
    /// and the result is an error of kind [`crate::ErrorKind::TimedOut`]. None by default.
    ///
    /// ```
    /// use deepring::{Engine, ErrorKind, OpenOptions, ReadOptions};
    /// use std::time::{Duration, Instant};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// # std::fs::write(&path, vec![7u8; 1000]).unwrap();
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().read(true))?;
    /// let in_time = ReadOptions::new().deadline(Instant::now() + Duration::from_secs(60));
    /// assert_eq!(file.read_with(vec![0u8; 1000], 0, in_time).wait().result?.bytes, 1000);
    /// let too_late = ReadOptions::new().deadline(Instant::now());
    /// let error = file.read_with(vec![0u8; 1000], 0, too_late).wait().result.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TimedOut);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// How to write. The defaults are those of [`crate::File::write_at`].
///
/// ```
/// use deepring::binding::{EngineBinding, HandleLimits};
/// use deepring::{Engine, OpenOptions, WriteOptions};
/// use std::sync::Arc;
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("weights.bin");
/// let engine = Engine::builder().build()?;
/// let file = engine.open(&path, OpenOptions::new().write(true).create(true))?;
/// let handle = Arc::new(engine.handle(HandleLimits::new().queue_depth(4)));
/// let (_, receipt) = file.write_with(vec![7u8; 1 << 20], 0, WriteOptions::new().handle(handle)).wait().ok()?;
/// assert_eq!(receipt.bytes, 1 << 20);
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WriteOptions {
    pub(crate) handle: Option<Arc<Handle>>,
    pub(crate) priority: Option<Priority>,
    pub(crate) checksum: Checksum,
    pub(crate) deadline: Option<Instant>,
}

impl WriteOptions {
    /// All defaults: the write has the limits of the engine alone.
    pub const fn new() -> Self {
        Self { handle: None, priority: None, checksum: Checksum::None, deadline: None }
    }

    /// The handle whose [limits](crate::binding::HandleLimits) the write shares; none by default.
    #[must_use]
    pub fn handle(mut self, handle: Arc<Handle>) -> Self {
        self.handle = Some(handle);
        self
    }

    /// The class of the write; by default that of its handle, else of its file.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Whether [`Receipt::checksum`](crate::Receipt::checksum) is the CRC-32C of the bytes that were
    /// handed over; off by default. They are summed once, at some time before the write has ended.
    /// If something else changes them in between, the file can hold other bytes than were summed.
    ///
    /// ```
    /// use deepring::{Engine, OpenOptions, WriteOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// let engine = Engine::builder().build()?;
    /// let file = engine.open(&path, OpenOptions::new().write(true).create(true))?;
    /// let written = file.write_with(b"123456789".to_vec(), 0, WriteOptions::new().checksum(true)).wait();
    /// assert_eq!(written.result?.checksum, Some(0xE306_9283));
    /// # Ok::<(), deepring::Error>(())
    /// ```
    #[must_use]
    pub fn checksum(mut self, yes: bool) -> Self {
        self.checksum = if yes { Checksum::Sum } else { Checksum::None };
        self
    }

    /// When the write is given up: what is queued then leaves at once, blocks at the device complete
    /// first, and the result is an error of kind [`crate::ErrorKind::TimedOut`]. Any part of it can have
    /// reached the file. None by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// How to read or write many ranges.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ManyOptions {
    pub(crate) exact: bool,
    pub(crate) partial: bool,
    pub(crate) gap: u64,
    pub(crate) sums: bool,
    pub(crate) expected: Option<Vec<u32>>,
    pub(crate) handle: Option<Arc<Handle>>,
    pub(crate) priority: Option<Priority>,
    pub(crate) deadline: Option<Instant>,
}

impl ManyOptions {
    /// All defaults: ranges end short at the end of the file, the first failure ends the call, and only ranges that touch are
    /// read together.
    pub const fn new() -> Self {
        Self { exact: false, partial: false, gap: 0, sums: false, expected: None, handle: None, priority: None, deadline: None }
    }

    /// Whether a range that the file ends in or before is an error of kind [`crate::ErrorKind::Eof`]; off by default. Reads only.
    #[must_use]
    pub fn exact(mut self, yes: bool) -> Self {
        self.exact = yes;
        self
    }

    /// Whether the call goes on after a range that failed, and succeeds; [`crate::Scattered::failures`] has the errors. Off
    /// by default. Reads only.
    #[must_use]
    pub fn partial(mut self, yes: bool) -> Self {
        self.partial = yes;
        self
    }

    /// Small ranges are read together if at most this many bytes are between them, at most 1 MiB; those bytes are read and
    /// dropped. 0 by default: they must touch. Worth it up to the device's bandwidth divided by its operations per second.
    /// Reads only.
    #[must_use]
    pub fn gap(mut self, bytes: u64) -> Self {
        self.gap = bytes;
        self
    }

    /// Whether to sum the bytes of each range, for [`crate::Scattered::checksums`]; off by default. Of a read when all bytes have
    /// come, of a write before it begins; on a thread of the engine.
    #[must_use]
    pub fn checksums(mut self, yes: bool) -> Self {
        self.sums = yes;
        self
    }

    /// The CRC-32C that each range must have, by its index. With any other, the range has failed with
    /// [`crate::ErrorKind::Checksum`]; the buffer has its bytes. Asks for checksums, too. Reads only.
    #[must_use]
    pub fn expect(mut self, expected: Vec<u32>) -> Self {
        (self.sums, self.expected) = (true, Some(expected));
        self
    }

    /// The handle whose [limits](crate::binding::HandleLimits) the call shares; none by default.
    #[must_use]
    pub fn handle(mut self, handle: Arc<Handle>) -> Self {
        self.handle = Some(handle);
        self
    }

    /// The class of the call; by default that of its handle, else of its file.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// When the call is given up, as [`ReadOptions::deadline`] of a read. None by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }
}
