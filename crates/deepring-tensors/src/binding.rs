//! The one seam for bindings: memory that another runtime lends and takes over, and steps that it decides between.
//!
//! A load hands over its groups as buffers, with the place of each tensor as numbers, because a runtime makes its own objects.
//! A save stops before it becomes visible, so that the runtime can look whether the memory that it lent is still there, and a
//! checkpoint, so that an abort before that moment leaves nothing, and one after it changes nothing.

use crate::budget;
use crate::checkpoint::{self, CheckpointWriter, Generation};
use crate::columns::Kind;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::load::{self, LoadOptions, check, load_groups};
use crate::plan::{Plan, Rules};
use crate::read::{self, LoadReceipt, Read};
use crate::save::{self, SaveOptions, SaveReceipt, Source};
use crate::shards;
use crate::slice::Slice;
use crate::stream::{GroupStream, StreamOptions};
use crate::swap::{GroupLease, SwapLease};
use crate::table::{Selection, Table};
use crate::tensor;
use crate::tensors::Tensors;
use crate::written;
use deepring::{Buffer, Engine, IoBuf, IoBufMut};
use std::collections::HashMap;
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

/// Memory of exactly the size of a tensor, or of a slice of it, to read it into.
#[derive(Debug)]
pub struct Destination<B> {
    /// The index of the tensor in its table. No other destination has it.
    pub index: u32,
    /// Of this part.
    pub slice: Option<Slice>,
    /// Where it goes.
    pub memory: B,
}

/// Memory of the caller that is being filled.
pub type Filling<B> = Job<Result<(Vec<B>, LoadReceipt)>>;

/// Loads tensors into memory of the caller: a job, and in it one request, for at most `group_bytes` in one file, unless one
/// tensor has more. Each returns its memory.
///
/// The jobs fail as [`Tensors::load_with`].
///
/// # Errors
/// [`Error::Slice`], and [`Error::Argument`] for memory of any other size.
pub fn load_into<B: IoBufMut>(
    tensors: &Tensors,
    mut destinations: Vec<Destination<B>>,
    group_bytes: u64,
    verify: Option<bool>,
) -> Result<Vec<Filling<B>>> {
    destinations.sort_by_key(|destination| destination.index);
    let selection = tensors.table().selection(destinations.iter().map(|destination| destination.index as usize).collect());
    let (mut slices, mut memory) = (HashMap::new(), Vec::with_capacity(destinations.len()));
    for destination in destinations {
        slices.extend(destination.slice.map(|slice| (destination.index, slice)));
        memory.push(destination.memory);
    }
    let sums = tensors.sums(verify);
    let verify = sums.is_some();
    let rules = Rules { separate: true, packed: true, ..Rules::new(group_bytes, sums) };
    let plan = Arc::new(Plan::new(tensors.table(), &selection, &slices, rules)?);
    for (&index, memory) in selection.indices.iter().zip(&memory) {
        let (_, bytes) = tensor::extent(tensors, &plan, index);
        if memory.len() as u64 != bytes {
            return Err(Error::Argument(format!("the memory has {} bytes, and the tensor {bytes}", memory.len())));
        }
    }
    let mut memory = memory.into_iter();
    let group = |number: usize| {
        let own: Vec<B> = memory.by_ref().take(plan.groups[number].tensors.len()).collect();
        let (tensors, plan) = (tensors.clone(), Arc::clone(&plan));
        Job::new(async move {
            let Read { memory, receipt, checksums } = read::start_into(&tensors, &plan, number, own, verify).await?;
            if verify {
                check(&tensors, &plan, number, &checksums)?;
            }
            Ok((memory, receipt))
        })
    };
    Ok((0..plan.groups.len()).map(group).collect())
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

/// As [`CheckpointWriter::put_all`], of tensors that are made when the job runs.
pub fn put_all<B: IoBuf>(
    writer: &CheckpointWriter,
    sources: impl FnOnce() -> Vec<Source<B>> + Send + 'static,
    group: String,
) -> Job<Result<Vec<B>>> {
    let writer = writer.share();
    Job::new(async move { writer.put_all(sources(), group).await })
}

/// A generation of a checkpoint that is written, and not visible yet. Dropping it removes it. Of a writer that has joined: its
/// part is durable.
#[derive(Debug)]
pub struct Prepared(checkpoint::Prepared);

/// As [`CheckpointWriter::commit`], up to the moment before the generation becomes visible.
pub fn prepare(writer: CheckpointWriter) -> Job<Result<Prepared>> {
    Job::new(async move { writer.prepare().await.map(Prepared) })
}

impl Prepared {
    /// Makes it visible.
    pub fn commit(self) -> Job<Result<Generation>> {
        Job::new(self.0.commit())
    }

    /// Removes it, and waits for that.
    pub fn abandon(self) -> Job<Result<()>> {
        Job::new(self.0.abandon())
    }
}

/// Reports the bytes of tensors that a writer has written from now on, of this many: at most 20 times a second, and once at
/// the end, when the generation is visible.
pub fn report(writer: &CheckpointWriter, total: u64, function: impl Fn(u64, u64) + Send + Sync + 'static) {
    writer.report(Some(Arc::new(function)), total);
}

pub use crate::swap::lent::Lent;

/// The memory of a lease, which the runtime gives back before it ends the lease. `None` if it has ended. Of one that only reads,
/// nothing must be changed: others have the same memory.
pub fn lend(lease: &mut SwapLease) -> Option<Lent> {
    lease.lend()
}

/// The memory of the parts of a group, in the same way: parameters, states, and the gradient if there is one.
pub fn lend_parts(lease: &mut GroupLease) -> Vec<Lent> {
    lease.lend()
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
