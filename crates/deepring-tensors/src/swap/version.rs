//! [`Version`]: what a tensor is, and where its bytes are. Pure.

use super::extents::pages;
use crate::dtype::DType;
use std::ops::Range;

/// A tensor at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// `None` if this crate does not know the type.
    pub(super) dtype: Option<DType>,
    pub(super) shape: Vec<u64>,
    pub(super) len: u64,
    /// Where it begins in the store's own file.
    pub(super) position: u64,
    /// Of all its pages, if checksums are kept.
    pub(super) crc: Option<u32>,
}

impl Version {
    /// Bytes of memory, and of the file: whole pages.
    pub(super) fn bytes(&self) -> u64 {
        pages(self.len)
    }

    /// Its bytes in the file.
    pub(super) fn range(&self) -> Range<u64> {
        self.position..self.position + self.bytes()
    }
}
