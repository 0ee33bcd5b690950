//! What an inode still holds when no request is at work on it: nothing.

use super::{Inode, lock};

impl Inode {
    /// What is held, claimed, counted or active, if anything is. Waiters may be left over: they are woken once more
    /// than needed.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let state = lock(&self.state);
        let (ranges, writes, gate) = (state.ranges.left(), state.epochs.len(), &state.gate);
        let (claims, extenders) = state.files[self.place].end.open();
        let busy = ranges.is_some() || !claims.is_empty() || writes > 0 || extenders > 0 || gate.is_busy();
        if let Some(hold) = self.end_hold.leftovers() {
            return Some(hold);
        }
        busy.then(|| format!("ranges {ranges:?}, claims {claims:?}, {writes} writes accepted, {extenders} extenders, {gate:?}"))
    }
}
