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
pub(super) struct Idle(Mutex<Vec<Buffer>>);

impl Idle {
    /// Gives all of them back to the engine.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks of one writer.
#[derive(Debug)]
pub(super) struct Staging {
    /// How many the caller asked for. Then tensors are copied that could be written from where they are.
    asked: usize,
    /// Where they go with the writer.
    idle: Arc<Idle>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Their pages are there.
    ready: Vec<Buffer>,
    /// Their pages come with their first use.
    fresh: Vec<Buffer>,
}

impl Staging {
    /// Blocks of at least `bytes` in all. The pages of those that are fresh are made present ahead, on a thread of the engine.
    pub(super) fn new(engine: &Engine, idle: &Arc<Idle>, bytes: u64) -> Result<Arc<Self>> {
        // One more, because the one whose pages are being made cannot be taken.
        let asked = if bytes > 0 { (bytes as usize).div_ceil(STAGED_BYTES).max(BLOCKS_MIN) + 1 } else { 0 };
        let mut ready = Vec::new();
        if asked > 0 {
            let mut idle = idle.lock();
            let rest = idle.len().saturating_sub(asked);
            ready = idle.split_off(rest);
        }
        let missing = asked.max(BLOCKS_MIN) - ready.len();
        let mut whole = if asked > 0 { engine.buffer(missing * STAGED_BYTES)? } else { engine.pooled_buffer(missing * STAGED_BYTES)? };
        let fresh: Vec<Buffer> = (0..missing).rev().map(|nth| whole.split_off(nth * STAGED_BYTES)).collect();
        let populates = asked > 0 && !fresh.is_empty();
        let staging = Arc::new(Self { asked, idle: Arc::clone(idle), state: Mutex::new(State { ready, fresh }) });
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
        let mut state = self.lock();
        if state.ready.len() + state.fresh.len() < count {
            return None;
        }
        let State { ready, fresh } = &mut *state;
        Some((0..count).filter_map(|_| ready.pop().or_else(|| fresh.pop())).collect())
    }

    /// Blocks that are free.
    pub(super) fn free(&self) -> usize {
        let state = self.lock();
        state.ready.len() + state.fresh.len()
    }

    /// Gives a block back.
    pub(super) fn give(&self, block: Buffer) {
        self.lock().ready.push(block);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.asked > 0 {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            let mut idle = self.idle.lock();
            idle.append(&mut state.ready);
            idle.truncate(self.asked);
        }
    }
}

/// Makes pages present, until all are or the writer has gone. Blocks.
fn populate(staging: &Weak<Staging>) {
    while let Some(staging) = staging.upgrade() {
        let Some(mut block) = staging.lock().fresh.pop() else { return };
        block.populate();
        staging.give(block);
    }
}
