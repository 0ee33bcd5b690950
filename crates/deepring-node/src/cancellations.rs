//! [`Cancellations`]: what cancels transfers together, however many: one flag, which each of them holds.
//!
//! JavaScript gives the numbers, one for the transfers of a signal, and never again. A flag that no transfer holds is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Flags that are kept before the first are forgotten.
const KEPT_MIN: usize = 64;

#[derive(Default)]
pub struct Cancellations {
    flags: HashMap<u64, Weak<AtomicBool>>,
    /// Those that were held when the others were forgotten last.
    held: usize,
    /// The one that was joined last: neighbors mostly share it.
    last: Option<(u64, Arc<AtomicBool>)>,
}

impl Cancellations {
    /// The flag of a transfer; of number 0, none.
    pub fn join(&mut self, number: u64) -> Option<Arc<AtomicBool>> {
        if number == 0 {
            return None;
        }
        if let Some((last, flag)) = &self.last
            && *last == number
        {
            return Some(Arc::clone(flag));
        }
        let known = self.flags.get(&number).and_then(Weak::upgrade);
        let flag = known.unwrap_or_else(|| self.add(number));
        self.last = Some((number, Arc::clone(&flag)));
        Some(flag)
    }

    fn add(&mut self, number: u64) -> Arc<AtomicBool> {
        if self.flags.len() >= KEPT_MIN.max(2 * self.held) {
            self.flags.retain(|_, flag| flag.strong_count() > 0);
            self.held = self.flags.len();
        }
        let flag = Arc::default();
        self.flags.insert(number, Arc::downgrade(&flag));
        flag
    }

    /// Cancels the transfers that have joined.
    pub fn cancel(&mut self, number: u64) {
        if let Some(flag) = self.flags.remove(&number).and_then(|flag| flag.upgrade()) {
            flag.store(true, Ordering::Release);
        }
    }
}
