//! Snapshots: all groups as tensors of a checkpoint, and back.

use super::flush::flush;
use super::geometry::UNIT_BYTES;
use super::shared::Shared;
use super::swapper::part_name;
use crate::checkpoint::{CheckpointWriter, PutOptions};
use crate::error::{Error, Result};
use crate::layout::Declared;
use crate::save::Source;
use deepring::{Buffer, Completed, Op};
use std::sync::Arc;
use std::time::Instant;

/// A part on its way into a checkpoint.
struct Part {
    declared: Declared,
    group: usize,
    /// Where it is in the file. `None` is all zeros.
    position: Option<u64>,
    len: u64,
}

/// Flushes, and puts the parts of all groups.
pub(super) async fn snapshot(shared: Arc<Shared>, writer: CheckpointWriter) -> Result<()> {
    let claim = shared.claim_all()?;
    flush(&shared).await?;
    let parts = parts(&shared);
    // What the last flush has is not written as long as it is the last one. In place, everything has to wait.
    let _snapshot = Snapshot::begin(&shared);
    let _held = (!shared.durable).then_some(claim);
    let mut reading = None;
    for (nth, part) in parts.iter().enumerate() {
        let read = match reading.take() {
            Some(reading) => reading,
            None => Reading::begin(&shared, part)?,
        };
        let data = read.end(&shared, part).await?;
        // The next one is read while this one is written.
        reading = parts.get(nth + 1).map(|next| Reading::begin(&shared, next)).transpose()?;
        let source = Source { declared: part.declared.clone(), data };
        match part.position {
            Some(position) => writer.put_from(source, &shared.data, position).await?,
            None => drop(writer.put(source, PutOptions::new()).await?),
        }
    }
    Ok(())
}

/// The parts of all groups, as of the last flush.
fn parts(shared: &Shared) -> Vec<Part> {
    let state = shared.lock();
    let mut parts = Vec::new();
    for (group, (geometry, own)) in shared.groups.iter().zip(&state.groups).enumerate() {
        for (part, name) in geometry.kept_names().enumerate() {
            let (name, shape) = (part_name(shared.name(group), name), vec![geometry.group.numel]);
            let declared = Declared { name, dtype: geometry.group.dtype, shape };
            let position = own.flushed[part].map(|slot| geometry.position(part, slot));
            parts.push(Part { declared, group, position, len: geometry.lens[part] });
        }
    }
    parts
}

/// A part that is being read.
enum Reading {
    Zeros(Buffer),
    Op(Op<Buffer>, Instant),
}

impl Reading {
    fn begin(shared: &Shared, part: &Part) -> Result<Self> {
        Ok(match part.position {
            Some(position) if part.len > 0 => {
                // Whole units, which are read past the page cache.
                let memory = shared.engine.pooled_buffer(part.len.next_multiple_of(UNIT_BYTES) as usize)?;
                Self::Op(shared.data.read_exact_at(memory, position), Instant::now())
            }
            _ => Self::Zeros(shared.engine.buffer(part.len as usize)?),
        })
    }

    async fn end(self, shared: &Shared, part: &Part) -> Result<Buffer> {
        match self {
            Self::Zeros(memory) => Ok(memory),
            Self::Op(op, begun) => {
                let ended: Completed<Buffer> = op.await;
                let (mut memory, receipt) = ended.ok().map_err(|error| Error::io(error, Some(shared.name(part.group))))?;
                shared.lock().has_read(begun, &receipt);
                memory.truncate(part.len as usize);
                Ok(memory)
            }
        }
    }
}

/// A snapshot in progress: there is no other flush before it has ended.
struct Snapshot(Arc<Shared>);

impl Snapshot {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.lock().snapshots += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.0.lock().snapshots -= 1;
    }
}
