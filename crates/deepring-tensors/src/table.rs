//! [`Table`]: tensors in files, by name and in the order of their bytes.

use crate::columns::Columns;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::slice::{Runs, Slice, check_count};
use crate::split::{Overlap, Split};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Tensors and where their bytes are: in the order of their files, and within a file in that of their bytes.
///
/// A table is columns rather than objects, so 400 000 tensors take about 40 MB.
#[derive(Debug)]
pub struct Table {
    pub(crate) columns: Columns,
    pub(crate) files: Vec<TableFile>,
    pub(crate) bytes: u64,
    /// Where the tensors are that have several pieces. Among the columns, such a tensor is in the place of one of them, with all
    /// of its bytes.
    pub(crate) split: Split,
}

/// A file of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableFile {
    pub(crate) path: PathBuf,
    /// The indices of its tensors.
    pub(crate) tensors: Range<usize>,
}

/// One tensor of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type. `None` if this crate does not know it: then the tensor is bytes.
    pub dtype: Option<DType>,
    /// The name of its element type.
    pub dtype_name: &'a str,
    /// Its extents, outermost first; empty for a scalar. They count elements, also where elements are packed.
    pub shape: Vec<u64>,
    /// Its file; of a tensor in several pieces, that of one of them.
    pub path: &'a Path,
    /// Where its bytes begin in the file; of a tensor in several pieces, those of the piece that is there.
    pub position: u64,
    /// How many bytes it has.
    pub len: u64,
    /// In how many pieces it is: several only in a checkpoint whose writers have split it.
    pub pieces: usize,
}

impl Table {
    pub(crate) fn new(columns: Columns, files: Vec<TableFile>) -> Self {
        Self::with_split(columns, files, Split::default())
    }

    pub(crate) fn with_split(mut columns: Columns, files: Vec<TableFile>, split: Split) -> Self {
        columns.shrink();
        let bytes = columns.lens.iter().sum();
        Self { columns, files, bytes, split }
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the largest tensor: the least memory with which all can be streamed.
    pub fn largest(&self) -> u64 {
        self.columns.lens.iter().copied().max().unwrap_or(0)
    }

    /// The paths of the files, in the order of their tensors.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| &*file.path)
    }

    /// The index of the tensor with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.columns.names.find(name)
    }

    /// As [`Table::find`].
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn index_of(&self, name: &str) -> Result<usize> {
        self.find(name).ok_or_else(|| Error::NotFound { tensor: name.to_owned() })
    }

    /// The tensor at an index below [`Table::len`].
    ///
    /// # Panics
    /// If there is none, like indexing.
    pub fn info(&self, index: usize) -> TensorInfo<'_> {
        let columns = &self.columns;
        TensorInfo {
            name: columns.names.get(index),
            dtype: columns.dtype(index),
            dtype_name: columns.dtype_name(index),
            shape: columns.shapes.get(index).collect(),
            path: &self.files[self.file_of(index)].path,
            position: columns.begins[index],
            len: columns.lens[index],
            pieces: self.split.of(index as u32).map_or(1, |tiles| tiles.len()),
        }
    }

    /// All tensors.
    pub fn iter(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        (0..self.len()).map(|index| self.info(index))
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.names.iter()
    }

    /// The tensors with these names. A name that is there twice counts once.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn select<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Selection> {
        let indices = names.into_iter().map(|name| self.index_of(name)).collect::<Result<Vec<_>>>()?;
        Ok(self.selection(indices))
    }

    /// The tensors for which `wanted` holds.
    pub fn filter(&self, mut wanted: impl FnMut(&TensorInfo<'_>) -> bool) -> Selection {
        self.selection((0..self.len()).filter(|&index| wanted(&self.info(index))).collect())
    }

    /// All tensors.
    pub fn all(&self) -> Selection {
        Selection { indices: (0..self.len() as u32).collect(), bytes: self.bytes }
    }

    /// The tensors at these indices, in this order; one that is there twice counts once.
    ///
    /// # Panics
    /// If an index is not below [`Table::len`], like indexing.
    pub fn selection(&self, indices: Vec<usize>) -> Selection {
        let mut seen = vec![false; self.len()];
        let indices: Vec<u32> =
            indices.into_iter().filter(|&index| !std::mem::replace(&mut seen[index], true)).map(|index| index as u32).collect();
        let bytes = indices.iter().map(|&index| self.columns.lens[index as usize]).sum();
        Selection { indices, bytes }
    }

    /// The runs of bytes of a slice of a tensor.
    pub(crate) fn runs(&self, index: usize, slice: &Slice) -> Result<Runs> {
        let shape: Vec<u64> = self.columns.shapes.get(index).collect();
        let tensor = || self.columns.names.get(index).to_owned();
        Runs::of(slice, &shape, self.columns.dtype(index)).map_err(|detail| Error::Slice { tensor: tensor(), detail })
    }

    /// What the tiles of a tensor have of a slice of it, or of all of it.
    pub(crate) fn overlaps(&self, index: usize, tiles: Range<u32>, slice: Option<&Slice>) -> Result<Vec<Overlap>> {
        let overlaps = || {
            let shape: Vec<u64> = self.columns.shapes.get(index).collect();
            let ranges = slice.unwrap_or(&Slice::default()).ranges(&shape)?;
            let dtype = self.columns.dtype(index).ok_or("its element type is unknown, so that its pieces cannot be joined")?;
            let mut overlaps = Vec::with_capacity(tiles.len());
            for tile in tiles {
                overlaps.extend(Overlap::of(tile, self.split.tile(tile), &ranges, dtype)?);
            }
            check_count(overlaps.iter().fold(0, |count: u64, overlap| count.saturating_add(overlap.count())))?;
            Ok(overlaps)
        };
        overlaps().map_err(|detail: String| Error::Slice { tensor: self.columns.names.get(index).to_owned(), detail })
    }

    pub(crate) fn file_of(&self, index: usize) -> usize {
        self.files.partition_point(|file| file.tensors.end <= index)
    }

    /// Where the last tensor of a file ends: the file is at least as long.
    pub(crate) fn known_end(&self, file: usize) -> u64 {
        // A tensor in several pieces can have most of its bytes elsewhere.
        let last = self.files[file].tensors.clone().next_back().filter(|&last| self.split.of(last as u32).is_none());
        last.map_or(0, |last| self.columns.end(last)).max(self.split.end(file))
    }

    /// The name of the tensor that has the byte at `position` of a file, if one does.
    pub(crate) fn name_at(&self, file: usize, position: u64) -> Option<&str> {
        if let Some(tensor) = self.split.tensor_at(file, position) {
            return Some(self.columns.names.get(tensor as usize));
        }
        let tensors = self.files[file].tensors.clone();
        let after = tensors.start + self.columns.begins[tensors.clone()].partition_point(|&begin| begin <= position);
        let has_it = |&index: &usize| position < self.columns.end(index).max(self.columns.begins[index] + 1);
        let found = (tensors.start..after).rev().find(|index| self.split.of(*index as u32).is_none() && has_it(index))?;
        Some(self.columns.names.get(found))
    }
}

/// Some tensors of a [`Table`]. Making one reads nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub(crate) indices: Vec<u32>,
    pub(crate) bytes: u64,
}

impl Selection {
    /// How many tensors it has.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Bytes of all its tensors.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The indices of its tensors in the table.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.indices.iter().map(|&index| index as usize)
    }

    /// The same tensors in the order of their bytes.
    pub(crate) fn in_file_order(&self) -> Self {
        let mut indices = self.indices.clone();
        indices.sort_unstable();
        Self { indices, bytes: self.bytes }
    }
}
