//! The flush: everything that was written becomes what the next open finds.

use super::memory::Reading;
use super::shared::{Resident, Shared, WrittenDown};
use crate::error::Result;
use std::sync::Arc;

/// Flushes groups that are all claimed.
pub(super) async fn flush(shared: &Arc<Shared>) -> Result<()> {
    for group in 0..shared.groups.len() {
        shared.settled(group).await?;
    }
    for group in 0..shared.groups.len() {
        write_resident(shared, group).await?;
    }
    {
        let state = shared.lock();
        // In place, the slots are the same after a write; then the index says that it is torn.
        if state.written_down == WrittenDown::Flush && state.groups.iter().all(|group| group.now == group.flushed) {
            return Ok(());
        }
        shared.check_unread(&state)?;
    }
    shared.commit().await
}

/// Writes a group that stays in memory, if it has changed.
async fn write_resident(shared: &Arc<Shared>, group: usize) -> Result<()> {
    let is_dirty = |resident: &Resident| resident.is_dirty;
    if !shared.lock().groups[group].resident.as_ref().is_some_and(is_dirty) {
        return Ok(());
    }
    shared.mark().await?;
    let geometry = &shared.groups[group];
    let loan = shared.loan(geometry.bytes(), group).await?;
    let mut copying = Reading::begin(shared, &shared.lock(), group)?;
    let parts = copying.end(shared).await?;
    let kept: Vec<usize> = (0..geometry.kept()).collect();
    {
        let mut state = shared.lock();
        let permit = loan.into_permit(&mut state);
        shared.write_parts(&mut state, group, parts, &kept, permit)?;
        if let Some(resident) = &mut state.groups[group].resident {
            resident.is_dirty = false;
        }
    }
    shared.settled(group).await
}
