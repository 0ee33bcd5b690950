//! Leases of swap stores and of optimizer swappers: memory that JavaScript has until it ends the lease.
//!
//! ```text
//!   lease ──► Lent ──first look──► Shown, an ArrayBuffer
//!     │                               │ endLease: detached, then the lease ends
//!     └── here, by its number ◄───────┘ collected: dropLease
//! ```
//!
//! An `ArrayBuffer` comes with the first look at the memory, because each counts for the garbage collector. It holds the memory
//! by itself, so that one that outlives its lease shows old bytes, and never those of another.

use crate::failure::Failure;
use crate::memory::{RawValue, View};
use crate::memory_lent::Shown;
use crate::session::{Session, State, unknown};
use crate::swap_detail::{GroupLeased, SwapLeased};
use deepring_tensors::binding::{Lent, lend, lend_parts};
use deepring_tensors::swap::{GroupLease, SwapLease, Write};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::collections::HashMap;

enum Lease {
    Tensor(SwapLease),
    Group(GroupLease),
}

/// A lease that JavaScript has.
pub struct OpenLease {
    lease: Lease,
    /// Its memory, part by part, from the first look at each on.
    shown: HashMap<u32, Shown>,
}

impl OpenLease {
    fn lend(&mut self, part: u32) -> Option<Lent> {
        match &mut self.lease {
            Lease::Tensor(lease) => lend(lease).filter(|_| part == 0),
            Lease::Group(lease) => lend_parts(lease).into_iter().nth(part as usize),
        }
    }
}

impl State {
    fn register_lease(&self, lease: Lease) -> u32 {
        let number = self.number();
        self.swaps.leases.borrow_mut().insert(number, OpenLease { lease, shown: HashMap::new() });
        number
    }

    /// Gives leases their numbers.
    pub fn register_leases(&self, leases: Vec<SwapLease>) -> Vec<SwapLeased> {
        let register = |lease: SwapLease| {
            let given = SwapLeased::of(&lease);
            SwapLeased { lease: self.register_lease(Lease::Tensor(lease)), ..given }
        };
        leases.into_iter().map(register).collect()
    }

    /// The same of a group.
    pub fn register_group(&self, lease: GroupLease) -> GroupLeased {
        let group = lease.name().to_owned();
        GroupLeased { lease: self.register_lease(Lease::Group(lease)), group }
    }
}

#[napi]
impl Session {
    // ---- leases of swap stores and swappers ----

    /// A part of the memory of a lease, which has bytes: that of a tensor, or of a group the parameters, the states and the
    /// gradient. Once for each.
    #[napi(ts_return_type = "Uint8Array<ArrayBuffer>")]
    pub fn lease_memory(&self, env: &Env, lease: u32, part: u32) -> Result<RawValue> {
        let mut leases = self.state.swaps.leases.borrow_mut();
        let open = leases.get_mut(&lease).ok_or_else(|| unknown("lease", lease))?;
        let lent = open.lend(part).ok_or_else(|| unknown("memory of lease", lease))?;
        let (array, shown) = Shown::of(env.raw(), lent)?;
        open.shown.insert(part, shown);
        Ok(RawValue::of(array))
    }

    /// Ends a lease. With `write`, its tensor or group is what is in its memory from now on; of a group, it can be the names of
    /// some parts. `views` are the parts of its memory that were looked at, and are detached. Returns what has failed.
    #[napi]
    pub fn end_lease(&self, env: &Env, lease: u32, write: Either<bool, Vec<String>>, views: Vec<Option<View>>) -> Result<Option<Failure>> {
        let removed = self.state.swaps.leases.borrow_mut().remove(&lease);
        let OpenLease { lease, mut shown } = removed.ok_or_else(|| unknown("lease", lease))?;
        let is_written = !matches!(write, Either::A(false));
        for (part, view) in (0..).zip(&views) {
            if let (Some(shown), Some(view)) = (shown.remove(&part), view) {
                shown.withdraw(env.raw(), view, is_written)?;
            }
        }
        let ended = match lease {
            Lease::Tensor(lease) => lease.close(is_written),
            Lease::Group(lease) => lease.close(match write {
                Either::A(true) => Write::All,
                Either::A(false) => Write::Nothing,
                Either::B(parts) => Write::Parts(parts),
            }),
        };
        Ok(ended.err().map(|error| Failure::from(&error)))
    }

    /// Ends a lease that was collected.
    #[napi]
    pub fn drop_lease(&self, lease: u32) {
        let removed = self.state.swaps.leases.borrow_mut().remove(&lease);
        drop(removed);
    }
}
