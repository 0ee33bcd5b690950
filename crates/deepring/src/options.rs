//! [`ReadOptions`] and [`WriteOptions`]: what one call asks for beside its buffer and its position.

use crate::handle::Handle;
use crate::priority::Priority;
use std::sync::Arc;

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
}

impl ReadOptions {
    /// All defaults: a read ends short at the end of the file, and has the limits of the engine
    /// alone.
    pub const fn new() -> Self {
        Self { exact: false, handle: None, priority: None }
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
/// let handle = Arc::new(engine.handle(HandleLimits { queue_depth: 4, ..HandleLimits::default() }));
/// let (_, receipt) = file.write_with(vec![7u8; 1 << 20], 0, WriteOptions::new().handle(handle)).wait().ok()?;
/// assert_eq!(receipt.bytes, 1 << 20);
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WriteOptions {
    pub(crate) handle: Option<Arc<Handle>>,
    pub(crate) priority: Option<Priority>,
}

impl WriteOptions {
    /// All defaults: the write has the limits of the engine alone.
    pub const fn new() -> Self {
        Self { handle: None, priority: None }
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
}
