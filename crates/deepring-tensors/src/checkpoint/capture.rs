//! [`Capture`]: tensors that are copied at once, by several threads, so that their memory is free as soon as it can be.
//!
//! ```text
//!   tensors of a file   |   a   |  b |          c          | d |
//!   blocks of 4 MiB     |     0     |     1     |     2    |        a thread takes the next block, and fills it
//! ```
//!
//! Nothing else is done before the last byte is copied: the blocks are written behind the caller.

use super::block::{Block, Bytes};
use super::data::Data;
use super::part::CHUNK_BYTES;
use super::staging::STAGED_BYTES;
use crate::error::{Error, Result};
use crate::layout::BLOCK_BYTES;
use deepring::{Buffer, IoBuf, Steady, Task};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

/// Threads that copy: with more, memory is no faster.
const COPIERS_MAX: usize = 4;

/// A tensor that is copied.
pub(super) struct Copied<B> {
    /// Its place in the file, and where it begins.
    pub(super) tensor: usize,
    pub(super) position: u64,
    pub(super) data: B,
}

/// See the module.
pub(super) struct Capture<B> {
    work: Arc<Work<B>>,
    copiers: Vec<Task<()>>,
}

struct Work<B> {
    data: Arc<Data>,
    file: usize,
    /// Side by side in the file.
    tensors: Vec<Copied<Steady<B>>>,
    /// Where the first block begins, on a block of the file system, and where the last tensor ends.
    base: u64,
    end: u64,
    count: usize,
    next: AtomicUsize,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    empty: Vec<Buffer>,
    full: Vec<Block>,
}

/// Blocks that tensors take which begin here.
pub(super) fn blocks_of(position: u64, len: u64) -> usize {
    if len == 0 { 0 } else { (position % BLOCK_BYTES + len).div_ceil(STAGED_BYTES as u64) as usize }
}

impl<B: IoBuf> Capture<B> {
    /// Begins to copy tensors, which lie side by side in a file, into as many blocks as they take.
    pub(super) fn begin(data: &Arc<Data>, file: usize, tensors: Vec<Copied<B>>, empty: Vec<Buffer>) -> Self {
        let first = tensors.first().map_or(0, |tensor| tensor.position);
        let end = tensors.last().map_or(first, |tensor| tensor.position + tensor.data.len() as u64);
        let steady = |Copied { tensor, position, data }| Copied { tensor, position, data: Steady::new(data) };
        let work = Arc::new(Work {
            data: Arc::clone(data),
            file,
            tensors: tensors.into_iter().map(steady).collect(),
            base: first - first % BLOCK_BYTES,
            end,
            count: blocks_of(first, end - first),
            next: AtomicUsize::new(0),
            blocks: Mutex::new(Blocks { empty, full: Vec::new() }),
        });
        let processors = available_parallelism().map_or(1, usize::from);
        let copiers = (0..work.count.min(processors).min(COPIERS_MAX)).map(|_| {
            let work = Arc::clone(&work);
            data.engine.run_blocking(move || work.copy())
        });
        Self { copiers: copiers.collect(), work }
    }

    /// Waits for the last byte. What was copied is left to be written.
    pub(super) async fn end(self) -> Result<Vec<B>> {
        let Self { work, copiers } = self;
        for copier in copiers {
            copier.await?;
        }
        let Work { data, file, tensors, blocks, .. } =
            Arc::into_inner(work).ok_or_else(|| Error::Argument("a copy has not ended".into()))?;
        let Blocks { mut full, empty } = blocks.into_inner().unwrap_or_else(PoisonError::into_inner);
        for block in empty {
            data.staging.give(block);
        }
        if !full.is_empty() {
            full.sort_unstable_by_key(|block| block.position);
            data.lock().leave(file, full);
            data.write_behind(file);
        }
        Ok(tensors.into_iter().map(|tensor| tensor.data.into_inner()).collect())
    }
}

impl<B: IoBuf> Work<B> {
    /// Fills one block after the other.
    fn copy(&self) {
        loop {
            let nth = self.next.fetch_add(1, Ordering::Relaxed);
            if nth >= self.count {
                return;
            }
            let empty = self.lock().empty.pop();
            let Some(buffer) = empty else { return };
            let block = self.fill(nth as u64, buffer);
            self.lock().full.push(block);
        }
    }

    fn fill(&self, nth: u64, buffer: Buffer) -> Block {
        let begin = self.base + nth * STAGED_BYTES as u64;
        let (from, end) = (begin.max(self.first()), (begin + STAGED_BYTES as u64).min(self.end));
        let mut block = Block::new(buffer, from);
        let mut at = from;
        let mut which = self.tensors.partition_point(|tensor| tensor.position + tensor.data.len() as u64 <= from);
        while at < end {
            let Some(Copied { tensor, position, data }) = self.tensors.get(which) else { break };
            let inside = at - position;
            let chunk_end = (inside / CHUNK_BYTES + 1) * CHUNK_BYTES;
            let part = chunk_end.min(data.len() as u64).min(inside + end - at) - inside;
            block.take(Bytes { tensor: *tensor, at: inside, len: part }, data);
            at += part;
            which += usize::from(inside + part == data.len() as u64);
            // Those without bytes.
            while self.tensors.get(which).is_some_and(|tensor| tensor.data.is_empty()) {
                which += 1;
            }
        }
        block
    }

    fn first(&self) -> u64 {
        self.tensors.first().map_or(0, |tensor| tensor.position)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
