//! The one seam for bindings: memory that another runtime lends and takes over, and steps that it decides between.
//!
//! A load hands over its groups as buffers, with the place of each tensor as numbers, because a runtime makes its own objects.
//! A save stops before it becomes visible, so that the runtime can look whether the memory that it lent is still there.

use crate::budget;
use crate::columns::Kind;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::load::{self, LoadOptions, load_groups};
use crate::plan::PIECES_MAX;
use crate::read::LoadReceipt;
use crate::save::{self, SaveOptions, SaveReceipt, Source};
use crate::shards;
use crate::slice::{Runs, Slice};
use crate::stream::{GroupStream, StreamOptions};
use crate::table::{Selection, Table};
use crate::tensors::Tensors;
use crate::written;
use deepring::{Buffer, Engine, IoBuf, IoBufMut, ManyOptions, Piece};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Tensors that were loaded, in the order of their bytes.
#[derive(Debug)]
pub struct Loaded {
    /// What was read together.
    pub groups: Vec<Buffer>,
    /// The index of each tensor in its table.
    pub indices: Vec<u32>,
    /// The group that each is in.
    pub group_of: Vec<u32>,
    /// Where each begins in its group.
    pub offsets: Vec<f64>,
    /// How they were loaded.
    pub receipt: LoadReceipt,
}

/// Adds what another part of a load did.
pub fn add_receipt(receipt: &mut LoadReceipt, other: &LoadReceipt) {
    receipt.add(other);
}

/// As [`Tensors::load_with`].
pub fn load(tensors: &Tensors, selection: Selection, options: LoadOptions) -> Job<Result<Loaded>> {
    let tensors = tensors.clone();
    Job::new(async move {
        let selection = selection.in_file_order();
        let load::Loaded { plan, groups, receipt } = load_groups(&tensors, &selection, options).await?;
        let group_of = plan.places.iter().map(|place| place.group).collect();
        let offsets = plan.places.iter().map(|place| place.offset as f64).collect();
        Ok(Loaded { groups, indices: selection.indices, group_of, offsets, receipt })
    })
}

/// Loads one tensor, or a slice of it, into memory of exactly its size.
///
/// The job fails as [`Tensors::load_with`], and with [`Error::Argument`] for any other size.
pub fn load_into<B: IoBufMut>(
    tensors: &Tensors,
    index: usize,
    slice: Option<Slice>,
    buf: B,
    verify: bool,
) -> Job<Result<(B, LoadReceipt)>> {
    let tensors = tensors.clone();
    Job::new(async move { read_into(&tensors, index, slice.as_ref(), buf, verify).await })
}

async fn read_into<B: IoBufMut>(
    tensors: &Tensors,
    index: usize,
    slice: Option<&Slice>,
    mut buf: B,
    verify: bool,
) -> Result<(B, LoadReceipt)> {
    let columns = &tensors.table().columns;
    let (begin, len) = (columns.begins[index], columns.lens[index]);
    let file = tensors.table().file_of(index);
    let runs = slice.map(|slice| tensors.table().runs(index, slice)).transpose()?;
    let bytes = runs.as_ref().map_or(len, Runs::bytes);
    if buf.len() as u64 != bytes {
        return Err(Error::Argument(format!("the memory has {} bytes, and the tensor {bytes}", buf.len())));
    }
    let mut receipt = LoadReceipt::NONE;
    let verify = verify && runs.is_none() && tensors.checksum(index).is_some();
    let (run_bytes, positions): (u64, Vec<u64>) = match &runs {
        None => (len, vec![begin]),
        Some(runs) => (runs.len, runs.iter().map(|at| begin + at).collect()),
    };
    let mut offset = 0;
    // Without bytes, there is nothing to read.
    for round in positions.chunks(if bytes == 0 { usize::MAX } else { PIECES_MAX }).filter(|_| bytes > 0) {
        let pieces: Vec<Piece> = round
            .iter()
            .map(|&position| {
                let piece = Piece::new(position, offset, run_bytes as usize);
                offset += run_bytes as usize;
                piece
            })
            .collect();
        let options = ManyOptions::new().exact(true).checksums(verify);
        let ended = tensors.inner.files[file].read_scatter_with(buf, &pieces, options).await;
        let (scattered, part) = ended.ok().map_err(|error| Error::io(error, Some(columns.names.get(index))))?;
        receipt.bytes += part.bytes;
        receipt.bounced += part.bounced;
        receipt.overread += scattered.overread();
        receipt.direct &= part.direct;
        if let (true, Some(expected), Some(&[actual])) = (verify, tensors.checksum(index), scattered.checksums())
            && actual != expected
        {
            return Err(tensors.mismatch(index, expected, actual));
        }
        buf = scattered.buf;
    }
    Ok((buf, receipt))
}

/// The budget of a stream.
#[derive(Debug, Clone)]
pub struct Budget(Arc<budget::Budget>);

/// Bytes of a budget, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    _taken: budget::Permit,
}

impl Budget {
    /// Takes this many bytes for a tensor that is kept.
    ///
    /// # Errors
    /// [`Error::Budget`] if there is no room for them.
    pub fn take(&self, bytes: u64, tensor: &str) -> Result<Permit> {
        let taken = self.0.take(bytes);
        let refused = || Error::Budget { needed: bytes, budget: self.0.limit(), tensor: Some(tensor.to_owned()) };
        Ok(Permit { _taken: taken.ok_or_else(refused)? })
    }
}

/// A group of a stream.
#[derive(Debug)]
pub struct StreamedGroup {
    /// The bytes.
    pub buffer: Buffer,
    /// What they take of the budget.
    pub permit: Permit,
    /// The index of each of its tensors in the table.
    pub indices: Vec<u32>,
    /// Where each begins in the buffer.
    pub offsets: Vec<f64>,
}

/// A stream of groups.
pub struct Groups(GroupStream);

impl Groups {
    /// As [`Tensors::stream`].
    ///
    /// # Errors
    /// As there.
    pub fn new(tensors: &Tensors, selection: &Selection, options: &StreamOptions) -> Result<Self> {
        GroupStream::new(tensors, selection, options).map(Self)
    }

    /// The budget of everything that the stream yields.
    pub fn budget(&self) -> Budget {
        Budget(Arc::clone(&self.0.budget))
    }

    /// The next group; `None` at the end. After an error, there is no other.
    ///
    /// # Errors
    /// As [`TensorStream::next`](crate::TensorStream::next).
    pub async fn next(&mut self) -> Result<Option<StreamedGroup>> {
        let Some(group) = self.0.next().await.transpose()? else { return Ok(None) };
        self.0.check(&group)?;
        let GroupStream { plan, selection, .. } = &self.0;
        let tensors = plan.groups[group.number].tensors.clone();
        let indices = selection.indices[tensors.clone()].to_vec();
        let offsets = plan.places[tensors].iter().map(|place| place.offset as f64).collect();
        Ok(Some(StreamedGroup { buffer: group.buffer, permit: Permit { _taken: group.permit }, indices, offsets }))
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").finish_non_exhaustive()
    }
}

/// A model that is written, and not visible yet. Dropping it leaves what was there before.
pub struct Written(written::Written<SaveReceipt>);

/// As [`save`](crate::save()), or with `shard_bytes` as [`save_sharded`](crate::save_sharded), up to the moment before the new
/// model becomes visible.
pub fn write<B: IoBuf>(
    engine: &Engine,
    path: PathBuf,
    tensors: Vec<Source<B>>,
    shard_bytes: Option<u64>,
    options: SaveOptions,
) -> Job<Result<Written>> {
    let engine = engine.clone();
    Job::new(async move {
        let written = match shard_bytes {
            None => save::write(&engine, &path, tensors, options).await,
            Some(bytes) => shards::write(&engine, &path, tensors, bytes, options).await,
        };
        written.map(Written)
    })
}

impl Written {
    /// What was written.
    pub fn receipt(&self) -> SaveReceipt {
        self.0.receipt
    }

    /// Makes it visible.
    pub fn commit(self) -> Job<Result<SaveReceipt>> {
        Job::new(self.0.commit())
    }

    /// Removes it, and waits for that.
    pub fn abandon(self) -> Job<Result<()>> {
        Job::new(self.0.abandon())
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

/// The table of open tensors, which outlives them.
pub fn table_of(tensors: &Tensors) -> Arc<Table> {
    Arc::clone(&tensors.inner.table)
}

/// The number of a tensor's element type: its place in [`DType::ALL`], or behind it that among [`unknown_dtypes`].
pub fn dtype_number(table: &Table, index: usize) -> u32 {
    match table.columns.kinds[index] {
        Kind::Known(dtype) => dtype as u32,
        Kind::Unknown(name) => (DType::ALL.len() + usize::from(name)) as u32,
    }
}

/// Names of element types in a table that this crate does not know.
pub fn unknown_dtypes(table: &Table) -> &[String] {
    &table.columns.unknown
}

/// The place of a tensor's file among [`Table::paths`].
pub fn file_of(table: &Table, index: usize) -> usize {
    table.file_of(index)
}

/// The extents of a tensor.
pub fn shape_of(table: &Table, index: usize) -> impl Iterator<Item = u64> + '_ {
    table.columns.shapes.get(index)
}

/// Where the bytes of a tensor begin in its file, and how many there are.
pub fn extent_of(table: &Table, index: usize) -> (u64, u64) {
    (table.columns.begins[index], table.columns.lens[index])
}

/// The name of a tensor.
pub fn name_of(table: &Table, index: usize) -> &str {
    table.columns.names.get(index)
}
