//! The limit of what is in flight at one device, in blocks, requests *and* bytes, however much is
//! queued.
//!
//! Depth belongs to the device, not to a thread or a call. It is counted in blocks. The kernel can
//! make several device requests of one, so each block costs a number of requests beside its bytes.

/// What one operation takes from the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) blocks: u32,
    pub(crate) requests: u32,
    pub(crate) bytes: u64,
}

impl Cost {
    pub(crate) const NOTHING: Self = Self { blocks: 0, requests: 0, bytes: 0 };

    pub(crate) fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.requests += other.requests;
        self.bytes += other.bytes;
    }

    pub(crate) fn sub(&mut self, other: Self) {
        debug_assert!(self.blocks >= other.blocks && self.requests >= other.requests && self.bytes >= other.bytes);
        self.blocks -= other.blocks;
        self.requests -= other.requests;
        self.bytes -= other.bytes;
    }

    /// Whether a cost fits while this is in flight. One that is larger than the limit fits alone; otherwise it never would.
    pub(crate) fn admits(&self, other: Self, limit: Self) -> bool {
        self.requests == 0 || self.fits_beside(other, limit)
    }

    /// Whether this and another together are within the limit.
    pub(crate) fn fits_beside(&self, other: Self, limit: Self) -> bool {
        self.blocks + other.blocks <= limit.blocks
            && self.requests + other.requests <= limit.requests
            && self.bytes + other.bytes <= limit.bytes
    }
}

#[derive(Debug)]
pub(crate) struct Budget {
    limit: Cost,
    used: Cost,
}

impl Budget {
    /// A budget of at least one block of one request and one byte.
    pub(crate) fn new(limit: Cost) -> Self {
        let Cost { blocks, requests, bytes } = limit;
        Self { limit: Cost { blocks: blocks.max(1), requests: requests.max(1), bytes: bytes.max(1) }, used: Cost::NOTHING }
    }

    /// Another limit from now on. What is in flight can exceed it until it completes.
    pub(crate) fn set_limit(&mut self, limit: Cost) {
        *self = Self { used: self.used, ..Self::new(limit) };
    }

    pub(crate) fn limit(&self) -> Cost {
        self.limit
    }

    /// Takes the cost if it fits, and returns whether it did. See [`Cost::admits`].
    pub(crate) fn take(&mut self, cost: Cost) -> bool {
        let fits = self.fits(cost);
        if fits {
            self.used.add(cost);
        }
        fits
    }

    /// Whether the cost fits now.
    pub(crate) fn fits(&self, cost: Cost) -> bool {
        self.used.admits(cost, self.limit)
    }

    /// Whether the cost fits now for one of several parties, which has `used` already: as [`Budget::fits`], and a party
    /// gets at most three quarters of what the others have left. So however many are stuck, something is left.
    pub(crate) fn fits_share(&self, cost: Cost, used: Cost) -> bool {
        let blocks = self.limit.blocks.saturating_sub(self.used.blocks - used.blocks);
        let requests = self.limit.requests.saturating_sub(self.used.requests - used.requests);
        let bytes = self.limit.bytes.saturating_sub(self.used.bytes - used.bytes);
        let share = Cost { blocks: blocks - blocks / 4, requests: requests - requests / 4, bytes: bytes - bytes / 4 };
        self.fits(cost) && used.admits(cost, share)
    }

    pub(crate) fn give(&mut self, cost: Cost) {
        self.used.sub(cost);
    }

    /// What is taken and not given back.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(crate) fn used(&self) -> Cost {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_operation_larger_than_the_budget_runs_alone() {
        let mut budget = Budget::new(Cost { blocks: 9, requests: 4, bytes: 1000 });
        let huge = Cost { blocks: 1, requests: 9, bytes: 5000 };
        let small = Cost { blocks: 1, requests: 1, bytes: 1 };
        assert!(budget.take(huge));
        assert!(!budget.take(small));
        budget.give(huge);
        assert!(budget.take(small));
        assert!(!budget.take(huge));
    }

    proptest! {
        #[test]
        fn what_is_taken_never_exceeds_the_limit(costs in proptest::collection::vec((1u32..4, 1u64..400, any::<bool>()), 1..300)) {
            let mut budget = Budget::new(Cost { blocks: 5, requests: 8, bytes: 1000 });
            let mut held: Vec<Cost> = Vec::new();
            for (requests, bytes, give) in costs {
                if give && !held.is_empty() {
                    budget.give(held.remove(0));
                }
                let cost = Cost { blocks: 1, requests, bytes };
                if budget.take(cost) {
                    held.push(cost);
                }
                prop_assert!(held.len() <= 5);
                prop_assert!(held.iter().map(|cost| cost.requests).sum::<u32>() <= 8);
                prop_assert!(held.iter().map(|cost| cost.bytes).sum::<u64>() <= 1000);
            }
        }
    }
}
