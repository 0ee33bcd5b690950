//! [`Tensors`]: a table whose files are open.

use crate::error::Error;
use crate::sums::{Summed, Sums};
use crate::table::Table;
use deepring::{Engine, File};
use std::path::Path;
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
    pub(crate) stated: Stated,
}

/// What files state of their bytes.
#[derive(Debug, Default)]
pub(crate) struct Stated {
    pub(crate) sums: Sums,
    /// Of the header of each file, where it is stated.
    pub(crate) headers: Vec<Option<HeaderSum>>,
    /// Loads and streams verify unless a program says otherwise.
    pub(crate) verify: bool,
}

/// The checksum of a header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderSum {
    /// Bytes of the file in front of its data.
    pub(crate) bytes: u64,
    /// Where in them the checksum itself is, if it is there.
    pub(crate) place: Option<usize>,
    pub(crate) expected: u32,
}

/// Bytes that do not have the checksum that is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The index of the tensor.
    pub(crate) tensor: u32,
    pub(crate) file: usize,
    pub(crate) position: u64,
    pub(crate) len: u64,
    pub(crate) expected: u32,
    pub(crate) actual: u32,
}

impl Tensors {
    pub(crate) fn new(engine: &Engine, table: Table, files: Vec<File>, stated: Stated) -> Self {
        Self { inner: Arc::new(Inner { engine: engine.clone(), table: Arc::new(table), files, stated }) }
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

    /// The CRC-32C of the tensor at an index, if its file states it. Of a tensor in several pieces it is not known.
    pub fn checksum(&self, index: usize) -> Option<u32> {
        let (table, sums) = (self.table(), &self.inner.stated.sums);
        let first = sums.of_tensor(index).filter(|_| table.split.of(index as u32).is_none())?;
        Some(sums.combined(first, table.file_of(index), table.columns.lens[index]))
    }

    /// The checksums to verify by, if a program wants that.
    pub(crate) fn sums(&self, verify: Option<bool>) -> Option<&Sums> {
        let Stated { sums, verify: by_default, .. } = &self.inner.stated;
        Some(sums).filter(|sums| verify.unwrap_or(*by_default) && !sums.is_empty())
    }

    pub(crate) fn path(&self, file: usize) -> &Path {
        &self.inner.table.files[file].path
    }

    /// Whether all bytes of a tensor have checksums.
    pub(crate) fn is_summed(&self, index: usize) -> bool {
        let sums = &self.inner.stated.sums;
        match self.inner.table.split.of(index as u32) {
            None => sums.of_tensor(index).is_some(),
            Some(mut tiles) => tiles.all(|tile| sums.of_tile(tile).is_some()),
        }
    }

    /// All bytes that have a checksum, in the order of the files and of the bytes in each.
    pub(crate) fn summed(&self) -> Vec<Summed> {
        (0..self.inner.files.len()).flat_map(|file| self.summed_in(file)).collect()
    }

    /// Those of a file.
    pub(crate) fn summed_in(&self, file: usize) -> Vec<Summed> {
        let (table, sums) = (&*self.inner.table, &self.inner.stated.sums);
        let mut summed = Vec::new();
        for index in table.files[file].tensors.clone().filter(|&index| table.split.of(index as u32).is_none()) {
            let (position, len) = (table.columns.begins[index], table.columns.lens[index]);
            summed.extend(sums.summed(sums.of_tensor(index), index as u32, file, position, len));
        }
        let tiles = table.split.in_file(file);
        for &(number, tensor) in tiles {
            let tile = table.split.tile(number);
            summed.extend(sums.summed(sums.of_tile(number), tensor, file, tile.position, tile.len));
        }
        if !tiles.is_empty() {
            summed.sort_unstable_by_key(|summed| summed.position);
        }
        summed
    }

    /// The error of bytes that do not have their checksum.
    pub(crate) fn mismatched(&self, mismatch: Mismatch) -> Error {
        let Mismatch { tensor, file, position, expected, actual, .. } = mismatch;
        let tensor = self.inner.table.columns.names.get(tensor as usize).to_owned();
        Error::Checksum { tensor, path: self.path(file).to_owned(), position, expected, actual }
    }
}
