//! [`Tensors`]: a table whose files are open.

use crate::error::Error;
use crate::table::Table;
use deepring::{Engine, File};
use std::sync::Arc;

/// Tensors in open files, to be loaded, streamed and verified. Clones share the files, which close with the last one.
#[derive(Debug, Clone)]
pub struct Tensors {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) engine: Engine,
    /// Shared, because it can outlive the open files.
    pub(crate) table: Arc<Table>,
    /// One for each file of the table.
    pub(crate) files: Vec<File>,
    /// The CRC-32C of each tensor, by its index, where its file states it.
    pub(crate) checksums: Vec<Option<u32>>,
    /// The same of the header of each file.
    pub(crate) headers: Vec<Option<HeaderSum>>,
}

/// The checksum of a header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderSum {
    /// Bytes of the file in front of its data.
    pub(crate) bytes: u64,
    /// Where in them the checksum itself is.
    pub(crate) place: usize,
    pub(crate) expected: u32,
}

impl Tensors {
    /// Without checksums.
    pub(crate) fn new(engine: &Engine, table: Table, files: Vec<File>) -> Self {
        Self::with_checksums(engine, table, files, Vec::new(), Vec::new())
    }

    pub(crate) fn with_checksums(
        engine: &Engine,
        table: Table,
        files: Vec<File>,
        checksums: Vec<Option<u32>>,
        headers: Vec<Option<HeaderSum>>,
    ) -> Self {
        Self { inner: Arc::new(Inner { engine: engine.clone(), table: Arc::new(table), files, checksums, headers }) }
    }

    /// The names, types, shapes and places.
    pub fn table(&self) -> &Table {
        &self.inner.table
    }

    /// The engine that reads them.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Whether every file is read past the page cache.
    pub fn direct(&self) -> bool {
        self.inner.files.iter().all(File::direct)
    }

    /// The CRC-32C of the tensor at an index, if its file states one.
    pub fn checksum(&self, index: usize) -> Option<u32> {
        self.inner.checksums.get(index).copied().flatten()
    }

    /// The error of a tensor whose bytes do not have the checksum that its file states.
    pub(crate) fn mismatch(&self, index: usize, expected: u32, actual: u32) -> Error {
        let info = self.inner.table.info(index);
        Error::Checksum { tensor: info.name.to_owned(), path: info.path.to_owned(), position: info.position, expected, actual }
    }
}
