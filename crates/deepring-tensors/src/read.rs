//! Reading the groups of a plan.

use crate::error::{Error, Result};
use crate::plan::{Group, PIECES_MAX, Plan};
use crate::tensors::Tensors;
use deepring::{Buffer, ManyOptions, Receipt};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A group that was read.
pub(crate) struct Read {
    pub(crate) buffer: Buffer,
    pub(crate) receipt: LoadReceipt,
    /// Of each piece, if asked for.
    pub(crate) checksums: Vec<u32>,
}

/// A group that is being read.
pub(crate) type Reading = Pin<Box<dyn Future<Output = Result<Read>> + Send>>;

/// What a load did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReceipt {
    /// Bytes of the tensors.
    pub bytes: u64,
    /// Bytes that were read beside them and dropped, to read neighbors together.
    pub overread: u64,
    /// Bytes that were copied, because position or address did not suit the device.
    pub bounced: u64,
    /// Tensors whose position in their file breaks the alignment of their elements: they were moved.
    pub realigned: u64,
    /// Whether everything was read past the page cache.
    pub direct: bool,
}

impl LoadReceipt {
    /// Of nothing.
    pub(crate) const NONE: Self = Self { bytes: 0, overread: 0, bounced: 0, realigned: 0, direct: true };

    pub(crate) fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.overread += other.overread;
        self.bounced += other.bounced;
        self.realigned += other.realigned;
        self.direct &= other.direct;
    }

    fn of(receipt: &Receipt, overread: u64) -> Self {
        Self { bytes: receipt.bytes, overread, bounced: receipt.bounced, realigned: 0, direct: receipt.direct }
    }
}

/// The outcome of one operation.
type Outcome = (Option<Buffer>, deepring::Result<Receipt>, u64, Vec<u32>);

/// Begins to read a group: its first operation is in the engine's queue when this returns.
pub(crate) fn start(tensors: &Tensors, plan: &Arc<Plan>, number: usize, checksums: bool) -> Reading {
    let group = &plan.groups[number];
    let first = memory_of(tensors, group).map(|buffer| read(tensors, group, buffer, 0, checksums));
    let (tensors, plan) = (tensors.clone(), Arc::clone(plan));
    Box::pin(async move {
        let group = &plan.groups[number];
        let mut done = Read { buffer: tensors.inner.engine.pooled_buffer(0)?, receipt: LoadReceipt::NONE, checksums: Vec::new() };
        let mut next = first?;
        // More than one round only for a slice with more runs than a call takes.
        for round in 1.. {
            let (buffer, result, overread, sums) = next.await;
            let receipt = result.map_err(|error| tensors.failed(group.file, error))?;
            done.receipt.add(&LoadReceipt::of(&receipt, overread));
            done.checksums.extend(sums);
            // The engine returns the buffer with every success.
            let Some(buffer) = buffer else { return Err(Error::Argument("the engine has lost the memory".into())) };
            if round * PIECES_MAX >= group.pieces.len() {
                done.buffer = buffer;
                break;
            }
            next = read(&tensors, group, buffer, round, checksums);
        }
        Ok(done)
    })
}

/// Memory for a group. What nothing is read into is zeroed: old bytes of the process are not shown.
fn memory_of(tensors: &Tensors, group: &Group) -> Result<Buffer> {
    let mut buffer = tensors.inner.engine.pooled_buffer(group.bytes as usize)?;
    for gap in group.gaps() {
        buffer[gap].fill(0);
    }
    Ok(buffer)
}

/// One round: submits it, and returns its end.
fn read(tensors: &Tensors, group: &Group, buffer: Buffer, round: usize, checksums: bool) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
    let file = &tensors.inner.files[group.file];
    let pieces = group.pieces.chunks(PIECES_MAX).nth(round).unwrap_or_default();
    if let ([piece], false) = (pieces, checksums) {
        let op = file.read_exact_at(buffer.slice(piece.offset..piece.offset + piece.len), piece.position);
        return Box::pin(async move {
            let ended = op.await;
            (ended.buf.map(deepring::Slice::into_inner), ended.result, 0, Vec::new())
        });
    }
    let options = ManyOptions::new().exact(true).gap(group.gap).checksums(checksums);
    let op = file.read_scatter_with(buffer, pieces, options);
    Box::pin(async move {
        let ended = op.await;
        let Some(scattered) = ended.buf else { return (None, ended.result, 0, Vec::new()) };
        let sums = scattered.checksums().map(<[u32]>::to_vec).unwrap_or_default();
        let overread = scattered.overread();
        (Some(scattered.buf), ended.result, overread, sums)
    })
}
