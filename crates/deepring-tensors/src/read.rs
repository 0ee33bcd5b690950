//! Reading the groups of a plan.

use crate::error::{Error, Result};
use crate::plan::{FileReads, Group, PIECES_MAX, Plan};
use crate::tensors::Tensors;
use deepring::{Buffer, Completed, Engine, FileRanges, IoBufMut, ManyOptions, Piece, Priority, ReadOptions, Receipt, ScatteredFiles};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

/// A group that was read, and its memory.
pub(crate) struct Read<M> {
    pub(crate) memory: M,
    pub(crate) receipt: LoadReceipt,
    /// Of each piece of each file, if asked for.
    pub(crate) checksums: Vec<Vec<u32>>,
}

/// A group that is being read.
pub(crate) type Reading<M> = Pin<Box<dyn Future<Output = Result<Read<M>>> + Send>>;

/// What a load did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReceipt {
    /// Bytes of the tensors.
    pub bytes: u64,
    /// Bytes that were read beside them, to read neighbors together, and whole units of the device.
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

    fn of(receipt: &Receipt, bytes: u64, overread: u64) -> Self {
        Self { bytes, overread, bounced: receipt.bounced, realigned: 0, direct: receipt.direct }
    }
}

/// The outcome of one operation: the memory, bytes that were read beside the ranges, and the checksums of those of each file.
type Outcome<M> = (Option<M>, deepring::Result<Receipt>, u64, Vec<Vec<u32>>);

/// An operation that is under way.
type Pending<M> = Pin<Box<dyn Future<Output = Outcome<M>> + Send>>;

/// How a group is read.
#[derive(Debug, Clone, Copy)]
struct How {
    /// Ranges that are at most so many bytes apart are read together.
    gap: u64,
    checksums: bool,
    /// By default, that of each file.
    priority: Option<Priority>,
}

/// Begins to read ranges of files into memory.
type Submit<M> = fn(&Engine, M, &[FileRanges<'_>], How) -> Pending<M>;

/// Begins to read a group: its first operation is in the engine's queue when this returns.
pub(crate) fn start(tensors: &Tensors, plan: &Arc<Plan>, number: usize, checksums: bool) -> Reading<Buffer> {
    start_with(tensors, plan, number, checksums, None)
}

/// The same in a class of its own.
pub(crate) fn start_with(
    tensors: &Tensors,
    plan: &Arc<Plan>,
    number: usize,
    checksums: bool,
    priority: Option<Priority>,
) -> Reading<Buffer> {
    let memory = memory_of(tensors, &plan.groups[number]);
    begin(tensors, plan, number, memory, How { gap: 0, checksums, priority }, into_one)
}

/// The same into memory that lies one behind the other in the group's buffer.
pub(crate) fn start_into<B: IoBufMut>(
    tensors: &Tensors,
    plan: &Arc<Plan>,
    number: usize,
    memory: Vec<B>,
    checksums: bool,
) -> Reading<Vec<B>> {
    begin(tensors, plan, number, Ok(memory), How { gap: 0, checksums, priority: None }, into_several)
}

fn begin<M: Send + 'static>(
    tensors: &Tensors,
    plan: &Arc<Plan>,
    number: usize,
    memory: Result<M>,
    how: How,
    submit: Submit<M>,
) -> Reading<M> {
    let (tensors, plan) = (tensors.clone(), Arc::clone(plan));
    let round = move |tensors: &Tensors, group: &Group, memory, first: usize| {
        let reads = group.reads(|reads| of_round(reads, first));
        let wanted = group.files.iter().map(|reads| bytes_of(&reads.pieces[of_round(reads, first)])).sum::<u64>();
        let beside = reads.iter().map(|pieces| bytes_of(pieces)).sum::<u64>() - wanted;
        let of_file = |(reads, ranges): (&FileReads, _)| FileRanges { file: &tensors.inner.files[reads.file], ranges };
        let files: Vec<FileRanges<'_>> = group.files.iter().zip(reads.iter().map(Vec::as_slice)).map(of_file).collect();
        (submit(&tensors.inner.engine, memory, &files, How { gap: group.gap, ..how }), wanted, beside)
    };
    let begun = memory.map(|memory| round(&tensors, &plan.groups[number], memory, 0));
    Box::pin(async move {
        let group = &plan.groups[number];
        let (mut receipt, mut sums) = (LoadReceipt::NONE, vec![Vec::new(); group.files.len()]);
        let mut next = begun?;
        // More than one round only for a slice with more runs than a call takes.
        let mut first = 0;
        loop {
            let (pending, wanted, beside) = next;
            let (memory, result, overread, own) = pending.await;
            let part = result.map_err(|error| failed(&tensors, group, first, error))?;
            receipt.add(&LoadReceipt::of(&part, wanted, beside + overread));
            for (sums, own) in sums.iter_mut().zip(own) {
                sums.extend(own);
            }
            // The engine returns the memory with every success.
            let Some(memory) = memory else { return Err(Error::Argument("the engine has lost the memory".into())) };
            first += PIECES_MAX;
            if first >= group.pieces_max() {
                return Ok(Read { memory, receipt, checksums: sums });
            }
            next = round(&tensors, group, memory, first);
        }
    })
}

/// The pieces of a file that are read in one operation, from this one on.
fn of_round(reads: &FileReads, first: usize) -> Range<usize> {
    let end = reads.pieces.len();
    first.min(end)..(first + PIECES_MAX).min(end)
}

fn bytes_of(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.len as u64).sum()
}

/// The error of an operation for the pieces from the first one on, with the name of the tensor that needs the bytes: not of its
/// neighbor, if the error is at bytes that were read beside it.
fn failed(tensors: &Tensors, group: &Group, first: usize, error: deepring::Error) -> Error {
    let mut all = group.files.iter().flat_map(|reads| reads.pieces[of_round(reads, first)].iter().map(|piece| (reads.file, piece)));
    let piece = all.nth(error.index().unwrap_or(0) as usize);
    let at = error.position().zip(piece).map(|(position, (file, piece))| {
        let last = piece.position + piece.len as u64 - 1;
        (file, (position + error.transferred()).clamp(piece.position, last))
    });
    Error::io(error, at.and_then(|(file, at)| tensors.table().name_at(file, at)))
}

/// Memory for a group. What nothing is read into is zeroed: old bytes of the process are not shown.
fn memory_of(tensors: &Tensors, group: &Group) -> Result<Buffer> {
    let mut buffer = tensors.inner.engine.pooled_buffer(group.bytes as usize)?;
    for gap in group.gaps() {
        buffer[gap].fill(0);
    }
    Ok(buffer)
}

fn into_one(engine: &Engine, buffer: Buffer, files: &[FileRanges<'_>], how: How) -> Pending<Buffer> {
    if let ([FileRanges { file, ranges: [read], .. }], false) = (files, how.checksums) {
        let options = how.priority.into_iter().fold(ReadOptions::new().exact(true), ReadOptions::priority);
        let op = file.read_with(buffer.slice(read.offset..read.offset + read.len), read.position, options);
        return Box::pin(async move {
            let ended = op.await;
            (ended.buf.map(deepring::Slice::into_inner), ended.result, 0, Vec::new())
        });
    }
    let op = engine.read_scatter(buffer, files, options(how));
    Box::pin(async move { outcome(op.await) })
}

fn into_several<B: IoBufMut>(engine: &Engine, memory: Vec<B>, files: &[FileRanges<'_>], how: How) -> Pending<Vec<B>> {
    let op = engine.read_scatter_vectored(memory, files, options(how));
    Box::pin(async move { outcome(op.await) })
}

fn options(How { gap, checksums, priority }: How) -> ManyOptions {
    let options = ManyOptions::new().exact(true).gap(gap).checksums(checksums);
    priority.into_iter().fold(options, ManyOptions::priority)
}

fn outcome<M>(ended: Completed<ScatteredFiles<M>>) -> Outcome<M> {
    let Some(scattered) = ended.buf else { return (None, ended.result, 0, Vec::new()) };
    let sums = (0..scattered.files()).map(|file| scattered.checksums(file).map(<[u32]>::to_vec).unwrap_or_default()).collect();
    let overread = scattered.overread();
    (Some(scattered.buf), ended.result, overread, sums)
}
