//! The limit of what is in flight at one device, in requests *and* in bytes, however much is
//! queued.
//!
//! Depth belongs to the device, not to a thread or a call. An operation on scattered 4 KiB pages is
//! several device requests, so each operation costs a number of requests beside its bytes.

/// What one operation takes from the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) requests: u32,
    pub(crate) bytes: u64,
}

impl Cost {
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
    }

    pub(crate) fn sub(&mut self, other: Self) {
        debug_assert!(self.requests >= other.requests && self.bytes >= other.bytes);
        self.requests -= other.requests;
        self.bytes -= other.bytes;
    }
}

#[derive(Debug)]
pub(crate) struct Budget {
    limit: Cost,
    used: Cost,
}

impl Budget {
    pub(crate) fn new(requests: u32, bytes: u64) -> Self {
        Self { limit: Cost { requests: requests.max(1), bytes: bytes.max(1) }, used: Cost { requests: 0, bytes: 0 } }
    }

    /// Takes the cost if it fits, and returns whether it did. An operation larger than the whole
    /// budget fits when nothing else is in flight; otherwise it never would.
    pub(crate) fn take(&mut self, cost: Cost) -> bool {
        let fits = self.fits(cost);
        if fits {
            self.used.add(cost);
        }
        fits
    }

    /// Whether the cost fits now.
    pub(crate) fn fits(&self, cost: Cost) -> bool {
        let alone = self.used.requests == 0;
        alone || self.used.requests + cost.requests <= self.limit.requests && self.used.bytes + cost.bytes <= self.limit.bytes
    }

    /// Whether the cost fits now for one of several parties, which has `used` already: as [`Budget::fits`], and a party
    /// gets at most three quarters of what the others have left. So however many are stuck, something is left.
    pub(crate) fn fits_share(&self, cost: Cost, used: Cost) -> bool {
        let others = Cost { requests: self.used.requests - used.requests, bytes: self.used.bytes - used.bytes };
        let requests = self.limit.requests.saturating_sub(others.requests);
        let bytes = self.limit.bytes.saturating_sub(others.bytes);
        let within = used.requests + cost.requests <= requests - requests / 4 && used.bytes + cost.bytes <= bytes - bytes / 4;
        self.fits(cost) && (used.requests == 0 || within)
    }

    pub(crate) fn give(&mut self, cost: Cost) {
        self.used.sub(cost);
    }

    /// What is taken and not given back.
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
        let mut budget = Budget::new(4, 1000);
        let huge = Cost { requests: 9, bytes: 5000 };
        let small = Cost { requests: 1, bytes: 1 };
        assert!(budget.take(huge));
        assert!(!budget.take(small));
        budget.give(huge);
        assert!(budget.take(small));
        assert!(!budget.take(huge));
    }

    proptest! {
        #[test]
        fn what_is_taken_never_exceeds_the_limit(costs in proptest::collection::vec((1u32..4, 1u64..400, any::<bool>()), 1..300)) {
            let mut budget = Budget::new(8, 1000);
            let mut held: Vec<Cost> = Vec::new();
            for (requests, bytes, give) in costs {
                if give && !held.is_empty() {
                    budget.give(held.remove(0));
                }
                let cost = Cost { requests, bytes };
                if budget.take(cost) {
                    held.push(cost);
                }
                prop_assert!(held.iter().map(|cost| cost.requests).sum::<u32>() <= 8);
                prop_assert!(held.iter().map(|cost| cost.bytes).sum::<u64>() <= 1000);
            }
        }
    }
}
