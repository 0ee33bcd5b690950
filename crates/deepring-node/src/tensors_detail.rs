//! What jobs with tensors bring: values without a number yet, and what JavaScript gets for them.

use crate::checkpoints_detail::{BegunCheckpoint, LatestCheckpoint, OpenedCheckpoint, SkippedGeneration};
use crate::checkpoints_writer::OpenWriter;
use crate::convert::Detail;
use crate::session::State;
use crate::swap::OpenSwap;
use crate::tensors::{Model, OpenedTable};
use deepring::{Buffer, Engine, File, Replacement};
use deepring_tensors::binding::{Loaded, Permit, Prepared, StreamedGroup, Written};
use deepring_tensors::checkpoint::{Checkpoint, CheckpointWriter, Checkpoints, Latest};
use deepring_tensors::swap::{GroupLease, OptimizerSwapper, SwapLease, SwapStore};
use deepring_tensors::{LoadReceipt, SaveReceipt, Verification, Writer};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::Arc;

/// What gets a number when its record is drained, on the thread that keeps the tables.
pub enum Fresh {
    Model(Model),
    Loaded(Loaded),
    Group(StreamedGroup),
    Memory(Buffer, Permit),
    Written(Written, Engine),
    Writer(Writer, Engine),
    Store(Checkpoints, Engine),
    Begun(CheckpointWriter, Engine),
    Prepared(Box<Prepared>, Engine),
    Checkpoint(Checkpoint),
    Latest(Latest),
    Swap(SwapStore, Engine),
    SwapLeases(Vec<SwapLease>),
    Swapper(OptimizerSwapper, Engine),
    GroupLease(GroupLease),
    Replacement(Replacement, File, Engine),
}

/// How tensors were loaded.
#[napi(object, object_from_js = false)]
#[derive(Clone, Copy)]
pub struct TensorReceipt {
    pub bytes: f64,
    pub overread: f64,
    pub bounced: f64,
    pub realigned: f64,
    pub direct: bool,
}

impl From<LoadReceipt> for TensorReceipt {
    fn from(receipt: LoadReceipt) -> Self {
        Self {
            bytes: receipt.bytes as f64,
            overread: receipt.overread as f64,
            bounced: receipt.bounced as f64,
            realigned: receipt.realigned as f64,
            direct: receipt.direct,
        }
    }
}

/// Tensors that were loaded.
#[napi(object, object_from_js = false)]
pub struct LoadedTensors {
    /// Numbers for `take_memory`; 0 for a group without bytes.
    pub memories: Uint32Array,
    /// Bytes of the largest group.
    pub largest: f64,
    /// In the order of their bytes.
    pub indices: Uint32Array,
    pub group_of: Uint32Array,
    pub offsets: Float64Array,
    pub receipt: TensorReceipt,
}

/// A group of a stream.
#[napi(object, object_from_js = false)]
pub struct StreamGroup {
    pub memory: u32,
    pub indices: Uint32Array,
    pub offsets: Float64Array,
}

/// What a save has written, before it is visible.
#[napi(object, object_from_js = false)]
pub struct WrittenSave {
    pub written: u32,
    pub bytes: f64,
}

/// What a save did.
#[napi(object, object_from_js = false)]
pub struct Saved {
    pub bytes: f64,
    pub bounced: f64,
    pub direct: bool,
    pub files: u32,
}

impl From<SaveReceipt> for Saved {
    fn from(receipt: SaveReceipt) -> Self {
        let SaveReceipt { bytes, bounced, direct, files, .. } = receipt;
        Self { bytes: bytes as f64, bounced: bounced as f64, direct, files }
    }
}

/// Bytes that do not have their checksum.
#[napi(object, object_from_js = false)]
pub struct Damaged {
    /// Absent: the header.
    pub tensor: Option<String>,
    pub path: String,
    pub position: f64,
    pub length: f64,
    pub expected: u32,
    pub actual: u32,
}

#[napi(object, object_from_js = false)]
pub struct Verified {
    pub ok: bool,
    pub matching: f64,
    pub unverifiable: f64,
    pub damaged: Vec<Damaged>,
    /// Bytes that were read for it.
    pub bytes: f64,
}

impl Verified {
    pub fn of(found: &Verification, bytes: u64) -> Self {
        let damaged = found.damaged.iter().map(|damage| Damaged {
            tensor: damage.tensor.clone(),
            path: damage.path.to_string_lossy().into_owned(),
            position: damage.position as f64,
            length: damage.len as f64,
            expected: damage.expected,
            actual: damage.actual,
        });
        Self {
            ok: found.is_whole(),
            matching: found.verified as f64,
            unverifiable: found.unverifiable as f64,
            damaged: damaged.collect(),
            bytes: bytes as f64,
        }
    }
}

impl State {
    /// Gives a value its number.
    pub fn register(&self, fresh: Fresh) -> Detail {
        let open = &self.tensors;
        match fresh {
            Fresh::Model(model) => Detail::Table(Box::new(self.register_model(model))),
            Fresh::Loaded(Loaded { groups, indices, group_of, offsets, receipt }) => {
                let largest = groups.iter().map(|buffer| buffer.len()).max().unwrap_or(0) as f64;
                let memories = groups.into_iter().map(|buffer| self.register_memory(buffer, None)).collect();
                Detail::Loaded(Box::new(LoadedTensors {
                    memories: Uint32Array::new(memories),
                    largest,
                    indices: Uint32Array::new(indices),
                    group_of: Uint32Array::new(group_of),
                    offsets: Float64Array::new(offsets),
                    receipt: receipt.into(),
                }))
            }
            Fresh::Group(StreamedGroup { buffer, permit, indices, offsets }) => Detail::Group(Box::new(StreamGroup {
                memory: self.register_memory(buffer, Some(permit)),
                indices: Uint32Array::new(indices),
                offsets: Float64Array::new(offsets),
            })),
            Fresh::Memory(buffer, permit) => Detail::Number(self.register_memory(buffer, Some(permit))),
            Fresh::Written(written, engine) => {
                let number = self.number();
                let bytes = written.receipt().bytes as f64;
                open.written.borrow_mut().insert(number, (written, engine));
                Detail::Written(WrittenSave { written: number, bytes })
            }
            Fresh::Replacement(replacement, file, engine) => self.register_replacement(replacement, file, engine),
            Fresh::Writer(writer, engine) => {
                let number = self.number();
                open.writers.borrow_mut().insert(number, (writer, engine));
                Detail::Number(number)
            }
            Fresh::Store(store, engine) => {
                let number = self.number();
                self.checkpoints.stores.borrow_mut().insert(number, (store, engine));
                Detail::Number(number)
            }
            Fresh::Begun(writer, engine) => {
                let number = self.number();
                let begun = BegunCheckpoint::of(number, &writer);
                let writer = OpenWriter { writer, engine, gauge: Arc::default() };
                self.checkpoints.writers.borrow_mut().insert(number, writer);
                Detail::Begun(begun)
            }
            Fresh::Prepared(prepared, engine) => {
                let number = self.number();
                self.checkpoints.prepared.borrow_mut().insert(number, (*prepared, engine));
                Detail::Number(number)
            }
            Fresh::Checkpoint(checkpoint) => Detail::Checkpoint(Box::new(self.register_checkpoint(&checkpoint))),
            Fresh::Latest(latest) => {
                let checkpoint = latest.checkpoint.map(|checkpoint| self.register_checkpoint(&checkpoint));
                let skipped = latest.skipped.iter().map(SkippedGeneration::from).collect();
                Detail::Latest(Box::new(LatestCheckpoint { checkpoint, skipped }))
            }
            Fresh::Swap(store, engine) => Detail::Number(self.register_swap(OpenSwap::own(store, engine))),
            Fresh::SwapLeases(leases) => Detail::SwapLeases(self.register_leases(leases)),
            Fresh::Swapper(swapper, engine) => Detail::Number(self.register_swapper(swapper, engine)),
            Fresh::GroupLease(lease) => Detail::GroupLeased(self.register_group(lease)),
        }
    }

    fn register_model(&self, model: Model) -> OpenedTable {
        let number = self.number();
        let opened = OpenedTable::of(number, &model);
        self.tensors.tables.borrow_mut().insert(number, Arc::new(model));
        opened
    }

    fn register_checkpoint(&self, checkpoint: &Checkpoint) -> OpenedCheckpoint {
        OpenedCheckpoint::of(self.register_model(Model::of_checkpoint(checkpoint)), checkpoint)
    }

    /// 0 for memory without bytes.
    fn register_memory(&self, buffer: Buffer, permit: Option<Permit>) -> u32 {
        if buffer.is_empty() {
            return 0;
        }
        let number = self.number();
        self.tensors.memories.borrow_mut().insert(number, buffer, permit);
        number
    }
}
