//! Room in the file: what is taken before a version is accepted, so that a full drive is found at once.

use super::directory::lengthen;
use super::shared::Shared;
use crate::error::Result;
use std::ops::Range;
use std::sync::Arc;

/// The least by which the file grows, and the most unless more is needed at once.
const GROWTH_BYTES: Range<u64> = 16 << 20..1 << 30;

/// Bytes of the file that are taken. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Room {
    shared: Arc<Shared>,
    range: Range<u64>,
}

impl Room {
    /// Where it begins.
    pub(super) fn start(&self) -> u64 {
        self.range.start
    }

    /// The same. From here on it is the caller's.
    pub(super) fn keep(mut self) -> u64 {
        let start = self.range.start;
        self.range = start..start;
        start
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let range = std::mem::take(&mut self.range);
        if !range.is_empty() {
            self.shared.change(|state| state.extents.give(range));
        }
    }
}

/// Only one call at a time makes the file longer.
struct Growing(Arc<Shared>);

impl Drop for Growing {
    fn drop(&mut self) {
        self.0.change(|state| state.is_growing = false);
    }
}

/// Takes so many bytes of the file, whole pages that lie side by side, and makes it longer if it must be.
pub(super) async fn reserve(shared: &Arc<Shared>, bytes: u64) -> Result<Room> {
    let disk = shared.disk()?;
    loop {
        let found = shared.until(|state| match state.extents.take(bytes) {
            Some(start) => Some(Ok(start)),
            None if state.is_growing => None,
            None => {
                state.is_growing = true;
                Some(Err((state.extents.capacity(), state.extents.missing(bytes))))
            }
        });
        match found.await {
            Ok(start) => return Ok(Room { shared: Arc::clone(shared), range: start..start + bytes }),
            Err((capacity, missing)) => {
                let growing = Growing(Arc::clone(shared));
                let step = missing.max(capacity.clamp(GROWTH_BYTES.start, GROWTH_BYTES.end));
                let grown = match lengthen(&disk.file, capacity, step).await {
                    // For less, there can be room.
                    Err(_) if step > missing => lengthen(&disk.file, capacity, missing).await.map(|()| missing),
                    grown => grown.map(|()| step),
                }?;
                shared.change(|state| state.extents.grow(capacity + grown));
                drop(growing);
            }
        }
    }
}
