//! [`Staging`]: blocks of memory that have copies of tensors until they are written.

use crate::error::Result;
use deepring::{Buffer, Engine};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes of a block: enough that the drive is at its best.
pub(super) const STAGED_BYTES: usize = 4 << 20;

/// Blocks that gather small tensors, if there is nothing else: one is filled, the others are at the drive.
const BLOCKS_MIN: usize = 4;

/// Blocks of one writer. They go back to the engine with it.
#[derive(Debug)]
pub(super) struct Staging {
    /// Whether tensors are copied that could be written from where they are.
    is_asked: bool,
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
    /// Blocks of at least `bytes` in all, whose pages are made present ahead, on a thread of the engine.
    pub(super) fn new(engine: &Engine, bytes: u64) -> Result<Arc<Self>> {
        // One more, because the one whose pages are being made cannot be taken.
        let count = if bytes > 0 { (bytes as usize).div_ceil(STAGED_BYTES).max(BLOCKS_MIN) + 1 } else { BLOCKS_MIN };
        let mut whole = if bytes > 0 { engine.buffer(count * STAGED_BYTES)? } else { engine.pooled_buffer(count * STAGED_BYTES)? };
        let fresh = (0..count).rev().map(|nth| whole.split_off(nth * STAGED_BYTES)).collect();
        let state = Mutex::new(State { ready: Vec::new(), fresh });
        let staging = Arc::new(Self { is_asked: bytes > 0, state });
        if staging.is_asked {
            let weak = Arc::downgrade(&staging);
            // Nothing waits for it: a block that is used before has its pages made then.
            drop(engine.run_blocking(move || populate(&weak)));
        }
        Ok(staging)
    }

    /// Whether the caller gave memory for copies.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
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

/// Makes pages present, until all are or the writer has gone. Blocks.
fn populate(staging: &Weak<Staging>) {
    while let Some(staging) = staging.upgrade() {
        let Some(mut block) = staging.lock().fresh.pop() else { return };
        block.populate();
        staging.give(block);
    }
}
