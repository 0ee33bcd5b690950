//! [`Staging`]: blocks of memory that have copies of tensors until they are written.
//!
//! Memory that was never touched costs more to fill than to copy to. So the blocks of a writer that has ended stay with the
//! store, for the next one that asks for them.

use crate::error::Result;
use deepring::{Buffer, Engine};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes of a block: enough that the drive is at its best.
pub(super) const STAGED_BYTES: usize = 4 << 20;

/// Blocks that gather small tensors, if there is nothing else: one is filled, the others are at the drive.
const BLOCKS_MIN: usize = 4;

/// Blocks of a store that no writer has: not more than the last writer had.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Blocks>);

impl Idle {
    /// Gives all of them back to the engine.
    pub(super) fn clear(&self) {
        *self.lock() = Blocks::default();
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Blocks {
    /// Their pages are there.
    ready: Vec<Buffer>,
    /// Their pages come with their first use. They are parts of the same memory: without them, it would stay all the same.
    fresh: Vec<Buffer>,
}

impl Blocks {
    fn len(&self) -> usize {
        self.ready.len() + self.fresh.len()
    }

    /// One of them, of those whose pages are there if possible.
    fn pop(&mut self) -> Option<Buffer> {
        self.ready.pop().or_else(|| self.fresh.pop())
    }

    /// At most this many.
    fn split(&mut self, count: usize) -> Self {
        let ready = self.ready.split_off(self.ready.len().saturating_sub(count));
        let fresh = self.fresh.split_off(self.fresh.len().saturating_sub(count - ready.len()));
        Self { ready, fresh }
    }

    fn append(&mut self, other: &mut Self) {
        self.ready.append(&mut other.ready);
        self.fresh.append(&mut other.fresh);
    }
}

/// Blocks of one writer.
#[derive(Debug)]
pub(super) struct Staging {
    /// How many the caller asked for. Then tensors are copied that could be written from where they are.
    asked: usize,
    /// Where they go with the writer.
    idle: Arc<Idle>,
    blocks: Mutex<Blocks>,
}

impl Staging {
    /// Blocks of at least `bytes` in all. The pages of those that are fresh are made present ahead, on a thread of the engine.
    pub(super) fn new(engine: &Engine, idle: &Arc<Idle>, bytes: u64) -> Result<Arc<Self>> {
        // One more, because the one whose pages are being made cannot be taken.
        let asked = if bytes > 0 { (bytes as usize).div_ceil(STAGED_BYTES).max(BLOCKS_MIN) + 1 } else { 0 };
        let mut blocks = idle.lock().split(asked);
        let missing = asked.max(BLOCKS_MIN) - blocks.len();
        let mut whole = if asked > 0 { engine.buffer(missing * STAGED_BYTES)? } else { engine.pooled_buffer(missing * STAGED_BYTES)? };
        blocks.fresh.extend((0..missing).rev().map(|nth| whole.split_off(nth * STAGED_BYTES)));
        let populates = asked > 0 && !blocks.fresh.is_empty();
        let staging = Arc::new(Self { asked, idle: Arc::clone(idle), blocks: Mutex::new(blocks) });
        if populates {
            let weak = Arc::downgrade(&staging);
            // Nothing waits for it: a block that is used before has its pages made then.
            drop(engine.run_blocking(move || populate(&weak)));
        }
        Ok(staging)
    }

    /// Whether the caller gave memory for copies.
    pub(super) fn is_asked(&self) -> bool {
        self.asked > 0
    }

    /// This many blocks, if so many are free.
    pub(super) fn take(&self, count: usize) -> Option<Vec<Buffer>> {
        let mut blocks = self.lock();
        (blocks.len() >= count).then(|| (0..count).filter_map(|_| blocks.pop()).collect())
    }

    /// Blocks that are free.
    pub(super) fn free(&self) -> usize {
        self.lock().len()
    }

    /// Gives a block back.
    pub(super) fn give(&self, block: Buffer) {
        self.lock().ready.push(block);
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.asked > 0 {
            let blocks = self.blocks.get_mut().unwrap_or_else(PoisonError::into_inner);
            let mut idle = self.idle.lock();
            idle.append(blocks);
            *idle = idle.split(self.asked);
        }
    }
}

/// Makes pages present, until all are or the writer has gone, which does not wait for the block at hand. Blocks.
fn populate(staging: &Weak<Staging>) {
    while let Some(mut block) = staging.upgrade().and_then(|staging| staging.lock().fresh.pop()) {
        block.populate();
        if let Some(staging) = staging.upgrade() {
            staging.give(block);
        }
    }
}
