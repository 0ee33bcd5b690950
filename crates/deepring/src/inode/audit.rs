//! What an inode still holds when nobody works on it: nothing.

use super::{Inode, lock};

impl Inode {
    /// What is held, claimed, counted or waited for, if anything is. Waiters may be left over: they are told once more than needed.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let state = lock(&self.state);
        let writes: u64 = state.epochs.iter().sum();
        let busy = !state.holds.is_empty()
            || !state.ends.is_empty()
            || writes > 0
            || state.active_writes > 0
            || state.extending > 0
            || state.truncates_waiting > 0
            || state.truncate_running;
        busy.then(|| {
            format!(
                "locks {:?}, ends {:?}, {writes} writes accepted, {} active, {} extending, {} truncations waiting, running {}",
                state.holds, state.ends, state.active_writes, state.extending, state.truncates_waiting, state.truncate_running
            )
        })
    }
}
