//! Writes and truncations of one file keep out of each other's way.
//!
//! A truncation runs alone: no write is active, and no other truncation runs. It is announced first, and from then on
//! no further write becomes active, so that a stream of writes cannot hold it up forever.

#[derive(Debug, Default)]
pub(super) struct Gate {
    active_writes: u32,
    truncations_announced: u32,
    truncation_runs: bool,
}

impl Gate {
    /// Makes a write active, unless a truncation runs or waits for its turn. Returns whether it did.
    pub(super) fn enter_write(&mut self) -> bool {
        let free = self.is_open();
        if free {
            self.active_writes += 1;
        }
        free
    }

    /// Whether writes become active: no truncation runs or waits for its turn.
    pub(super) fn is_open(&self) -> bool {
        !self.truncation_runs && self.truncations_announced == 0
    }

    /// Returns whether no write is active any more.
    pub(super) fn leave_write(&mut self) -> bool {
        debug_assert!(self.active_writes > 0);
        self.active_writes -= 1;
        self.active_writes == 0
    }

    pub(super) fn announce_truncation(&mut self) {
        self.truncations_announced += 1;
    }

    /// Takes an announcement back.
    pub(super) fn withdraw_truncation(&mut self) {
        debug_assert!(self.truncations_announced > 0);
        self.truncations_announced -= 1;
    }

    /// Starts an announced truncation, unless a write or another truncation is at work. Returns whether it did.
    pub(super) fn enter_truncation(&mut self) -> bool {
        let free = self.active_writes == 0 && !self.truncation_runs;
        if free {
            self.withdraw_truncation();
            self.truncation_runs = true;
        }
        free
    }

    pub(super) fn leave_truncation(&mut self) {
        debug_assert!(self.truncation_runs);
        self.truncation_runs = false;
    }

    /// Whether anything is active or waits.
    #[cfg(feature = "sim")]
    pub(super) fn is_busy(&self) -> bool {
        self.active_writes > 0 || self.truncations_announced > 0 || self.truncation_runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_truncation_waits_for_active_writes_and_keeps_further_ones_out() {
        let mut gate = Gate::default();
        assert!(gate.enter_write());
        gate.announce_truncation();
        assert!(!gate.enter_truncation());
        assert!(!gate.enter_write());
        gate.leave_write();
        assert!(gate.enter_truncation());
        assert!(!gate.enter_write());
        gate.leave_truncation();
        assert!(gate.enter_write());
    }

    #[test]
    fn a_truncation_that_is_withdrawn_lets_writes_in_again() {
        let mut gate = Gate::default();
        gate.announce_truncation();
        gate.withdraw_truncation();
        assert!(gate.enter_write());
    }
}
