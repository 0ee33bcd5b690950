//! How to open a store.

use crate::dtype::DType;
use deepring::Direct;

/// How to open a [`SwapStore`](super::SwapStore).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SwapOptions {
    pub(super) memory: u64,
    pub(super) capacity: u64,
    pub(super) durable: bool,
    pub(super) checksum: bool,
    pub(super) create: bool,
    pub(super) direct: Direct,
}

impl SwapOptions {
    /// With this many bytes of memory, and otherwise all defaults: no space ahead, not durable, no checksums, in a directory
    /// that is there.
    pub fn new(memory: u64) -> Self {
        Self { memory, capacity: 0, durable: false, checksum: false, create: false, direct: Direct::Prefer }
    }

    /// Bytes of the file that get their space on the drive when the store is opened; 0 by default. It grows beyond them, and
    /// then a put can find the drive full.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// Whether a crash leaves every tensor as of the last [flush](super::SwapStore::flush); off by default. A new version then
    /// goes to another place than the last one that was flushed, so the file has up to twice the bytes that change between two
    /// flushes. Without it, versions are written in place, and a store that was not flushed since is
    /// [torn](crate::Error::Torn).
    #[must_use]
    pub fn durable(mut self, yes: bool) -> Self {
        self.durable = yes;
        self
    }

    /// Whether what is read must have the CRC-32C of what was written; off by default.
    #[must_use]
    pub fn checksum(mut self, yes: bool) -> Self {
        self.checksum = yes;
        self
    }

    /// Whether the directory is made if it is missing, and a store that is torn begins anew, empty; off by default.
    #[must_use]
    pub fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// Whether the file is read and written past the page cache; [`Direct::Prefer`] by default. What goes through the cache
    /// takes memory that no budget bounds.
    #[must_use]
    pub fn direct(mut self, direct: Direct) -> Self {
        self.direct = direct;
        self
    }
}

/// How to [put](super::SwapStore::put_with) a tensor.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SwapPutOptions {
    pub(super) pin: bool,
    pub(super) convert: Option<DType>,
}

impl SwapPutOptions {
    /// All defaults: nothing is pinned or converted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the version is pinned from the moment on at which it is accepted, as by [`SwapStore::pin`](super::SwapStore::pin);
    /// off by default.
    #[must_use]
    pub fn pin(mut self, yes: bool) -> Self {
        self.pin = yes;
        self
    }

    /// Elements become this type on their way into the store, by the rules of [`convert`](crate::convert).
    #[must_use]
    pub fn convert(mut self, to: DType) -> Self {
        self.convert = Some(to);
        self
    }
}
