//! What jobs with checkpoints bring, as JavaScript gets it.

use crate::convert::Detail;
use crate::failure::Failure;
use crate::tensors::OpenedTable;
use crate::tensors_detail::Fresh;
use deepring::Engine;
use deepring_tensors::checkpoint::{self, Checkpoint, CheckpointWriter, Skipped};
use napi_derive::napi;
use std::time::SystemTime;

/// A writer that has begun or joined a generation.
#[napi(object, object_from_js = false)]
pub struct BegunCheckpoint {
    pub writer: u32,
    pub generation: f64,
    /// What others need to join.
    pub token: String,
}

impl BegunCheckpoint {
    pub fn of(number: u32, writer: &CheckpointWriter) -> Self {
        Self { writer: number, generation: writer.number() as f64, token: writer.token().to_string() }
    }
}

/// The detail of a writer that has begun or joined.
pub fn begun(writer: CheckpointWriter, engine: Engine) -> Detail {
    Detail::Fresh(Box::new(Fresh::Begun(writer, engine)))
}

/// A generation that was opened.
#[napi(object, object_from_js = false)]
pub struct OpenedCheckpoint {
    pub table: OpenedTable,
    pub generation: f64,
    pub step: Option<f64>,
    /// JSON.
    pub meta: String,
    /// Since 1970.
    pub created_ms: f64,
}

impl OpenedCheckpoint {
    pub fn of(table: OpenedTable, checkpoint: &Checkpoint) -> Self {
        Self {
            table,
            generation: checkpoint.number() as f64,
            step: checkpoint.step().map(|step| step as f64),
            meta: checkpoint.meta().to_owned(),
            created_ms: checkpoint.created().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64),
        }
    }
}

/// A generation that is damaged.
#[napi(object, object_from_js = false)]
pub struct SkippedGeneration {
    pub generation: f64,
    pub failure: Failure,
}

impl From<&Skipped> for SkippedGeneration {
    fn from(skipped: &Skipped) -> Self {
        Self { generation: skipped.generation as f64, failure: Failure::from(&skipped.reason) }
    }
}

/// The newest generation that is whole, and those after it.
#[napi(object, object_from_js = false)]
pub struct LatestCheckpoint {
    /// Absent: there is none.
    pub checkpoint: Option<OpenedCheckpoint>,
    pub skipped: Vec<SkippedGeneration>,
}

/// Bytes that were taken over from an older generation.
#[napi(object, object_from_js = false)]
pub struct Reused {
    pub linked: f64,
    pub cloned: f64,
    pub copied: f64,
}

impl From<checkpoint::Reused> for Reused {
    fn from(reused: checkpoint::Reused) -> Self {
        Self { linked: reused.linked as f64, cloned: reused.cloned as f64, copied: reused.copied as f64 }
    }
}

/// What a commit has made.
#[napi(object, object_from_js = false)]
pub struct Committed {
    pub number: f64,
    pub bytes: f64,
    pub files: u32,
    pub reused: Reused,
}

impl From<checkpoint::Generation> for Committed {
    fn from(generation: checkpoint::Generation) -> Self {
        let checkpoint::Generation { number, bytes, files, reused, .. } = generation;
        Self { number: number as f64, bytes: bytes as f64, files, reused: reused.into() }
    }
}

/// What was removed from a store.
#[napi(object, object_from_js = false)]
pub struct Collected {
    pub generations: Vec<f64>,
    pub temporaries: f64,
    pub bytes: f64,
}

impl From<checkpoint::Collected> for Collected {
    fn from(collected: checkpoint::Collected) -> Self {
        Self { generations: numbers_of(&collected.generations), temporaries: collected.temporaries as f64, bytes: collected.bytes as f64 }
    }
}

/// Numbers of generations, each below 2^53.
pub fn numbers_of(numbers: &[u64]) -> Vec<f64> {
    numbers.iter().map(|&number| number as f64).collect()
}
