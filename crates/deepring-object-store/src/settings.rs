//! What a store does, and how.

use deepring::Direct;

/// Whether what succeeded outlives a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When a put, a copy, a rename or a delete has succeeded, it is on the drive: the bytes, the name, the directory, and the
    /// directories that were made for it.
    #[default]
    Synced,
    /// Nothing is flushed. Every change still becomes visible as a whole, but after a power failure an object can be missing,
    /// old, empty or damaged.
    Cached,
}

/// What keeps two conditional puts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locking {
    /// A mutex: `PutMode::Update` is right among the stores of this process that are set so.
    Process,
    /// A lock on the directory of the object (`flock`), for the moment in which a name changes: it is right among all processes
    /// of the host. A process that is stopped in this moment keeps the others waiting. On file systems without such locks,
    /// `Update` is refused.
    #[default]
    Host,
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) durability: Durability,
    pub(crate) locking: Locking,
    pub(crate) direct: Direct,
    pub(crate) gap: u64,
    pub(crate) fetch_max: u64,
    pub(crate) chunk: u64,
    pub(crate) ahead: usize,
    pub(crate) whole_max: u64,
}

impl Settings {
    pub(crate) fn is_synced(&self) -> bool {
        self.durability == Durability::Synced
    }
}
