//! [`Step`]: the groups one after the other, read ahead of the program and written behind it.

use super::lease::GroupLease;
use super::memory::Reading;
use super::shared::{Claim, Shared, State};
use crate::budget::Permit;
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// One pass over groups. Dropping it cancels what is being read; what was closed is written.
pub struct Step {
    /// Of the groups that have no lease yet.
    claim: Claim,
    order: VecDeque<usize>,
    ahead: VecDeque<Ahead>,
    has_failed: bool,
}

/// A group that is being read.
struct Ahead {
    group: usize,
    permit: Permit,
    reading: Reading,
}

impl Step {
    pub(super) fn new(claim: Claim, order: Vec<usize>) -> Self {
        let shared = &claim.shared;
        // All at once: they are at the drive while the first groups are read.
        shared.spill_all(&mut shared.lock());
        let mut step = Self { claim, order: order.into(), ahead: VecDeque::new(), has_failed: false };
        step.fill();
        step
    }

    /// The next group; `None` at the end. After an error, there is no other.
    ///
    /// The error can be [`Error::Io`], which names the group, also of an earlier write of it; [`Error::Budget`] if the program
    /// keeps so many leases that waiting would never end.
    pub async fn next(&mut self) -> Option<Result<GroupLease>> {
        if self.has_failed || (self.ahead.is_empty() && self.order.is_empty()) {
            return None;
        }
        let begun = Instant::now();
        let found = self.lease().await;
        self.claim.shared.lock().times.stall += begun.elapsed();
        if found.is_err() {
            self.has_failed = true;
            self.ahead.clear();
        }
        Some(found)
    }

    /// As [`Step::next`]; blocks this thread.
    pub fn wait_next(&mut self) -> Option<Result<GroupLease>> {
        pollster::block_on(self.next())
    }

    async fn lease(&mut self) -> Result<GroupLease> {
        let shared = Arc::clone(&self.claim.shared);
        shared.mark().await?;
        self.fill();
        if let (true, Some(&group)) = (self.ahead.is_empty(), self.order.front()) {
            let begun = shared.until(|state| begin(&shared, state, group, true)).await?;
            self.order.pop_front();
            self.ahead.push_back(begun);
            self.fill();
        }
        let gone = || Error::Argument("a group is gone".into());
        let parts = self.ahead.front_mut().ok_or_else(gone)?.reading.end(&shared).await?;
        let Ahead { group, permit, .. } = self.ahead.pop_front().ok_or_else(gone)?;
        Ok(GroupLease::new(self.claim.split(group), group, parts, permit))
    }

    /// Begins with as many groups as the depth allows, beside the one that comes next, and the memory.
    fn fill(&mut self) {
        let shared = Arc::clone(&self.claim.shared);
        let mut state = shared.lock();
        while shared.reap(&mut state) {}
        while self.ahead.len() <= shared.depth
            && let Some(&group) = self.order.front()
            && let Some(Ok(begun)) = begin(&shared, &mut state, group, false)
        {
            self.order.pop_front();
            self.ahead.push_back(begun);
        }
    }
}

/// Begins to read a group. `None`: its writes have not ended, or there is no memory yet. Only what is awaited asks for room.
fn begin(shared: &Shared, state: &mut State, group: usize, is_awaited: bool) -> Option<Result<Ahead>> {
    if !state.groups[group].is_settled() {
        return None;
    }
    if let Some(error) = &state.groups[group].failed {
        return Some(Err(error.clone()));
    }
    let bytes = shared.groups[group].bytes();
    let permit = if is_awaited { shared.room(state, bytes, group)? } else { Ok(shared.budget.take(bytes)?) };
    Some(permit.and_then(|permit| {
        let reading = Reading::begin(shared, state, group)?;
        Ok(Ahead { group, permit, reading })
    }))
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("left", &(self.order.len() + self.ahead.len())).finish_non_exhaustive()
    }
}
