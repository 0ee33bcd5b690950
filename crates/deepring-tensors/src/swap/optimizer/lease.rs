//! [`GroupLease`]: a group in memory, for the time of its computation.

use super::coverage::Coverage;
use super::geometry::Geometry;
use super::shared::Claim;
use crate::budget::Permit;
use crate::error::Result;
use crate::swap::lent::Lent;
use deepring::Buffer;
use std::fmt;
use std::sync::PoisonError;
use std::time::Instant;

/// What of a lease is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Parameters and states.
    All,
    /// Nothing: the group and its gradient are as before.
    Nothing,
    /// Parts of these names: `param`, those of states, or `gradient`, which is kept then. Changes of the others are lost.
    Parts(Vec<String>),
}

/// The parts of a group, little-endian, at addresses that are multiples of 4096.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts<'l> {
    /// The parameters.
    pub param: &'l mut [u8],
    /// The states, in the order of the group.
    pub states: Vec<&'l mut [u8]>,
    /// The gradient, if the group has one: zero where nothing was put.
    pub gradient: Option<&'l mut [u8]>,
}

/// A group of a [`Step`](super::Step). Closing it writes it behind the program; dropping it writes nothing.
pub struct GroupLease {
    claim: Claim,
    group: usize,
    parts: Vec<Buffer>,
    permit: Option<Permit>,
    begun: Instant,
}

impl GroupLease {
    pub(super) fn new(claim: Claim, group: usize, parts: Vec<Buffer>, permit: Permit) -> Self {
        claim.shared.lock().leases += 1;
        Self { claim, group, parts, permit: Some(permit), begun: Instant::now() }
    }

    /// The name of the group.
    pub fn name(&self) -> &str {
        self.claim.shared.name(self.group)
    }

    /// How many parameters it has.
    pub fn numel(&self) -> u64 {
        self.geometry().group.numel
    }

    /// Its parts, to be read and changed.
    pub fn parts(&mut self) -> Parts<'_> {
        let geometry = &self.claim.shared.groups[self.group];
        let mut parts = self.parts.iter_mut().zip(&geometry.lens).map(|(memory, len)| &mut memory[..*len as usize]);
        let param = parts.next().unwrap_or_default();
        let states = parts.by_ref().take(geometry.group.states.len()).collect();
        Parts { param, states, gradient: parts.next() }
    }

    /// The memory of its parts, in their order, to be lent to another runtime.
    pub(crate) fn lend(&mut self) -> Vec<Lent> {
        let geometry = &self.claim.shared.groups[self.group];
        self.parts.iter_mut().zip(&geometry.lens).map(|(memory, len)| Lent::of(memory, *len as usize)).collect()
    }

    /// Ends the lease, and begins to write: the call does not wait for that. With anything but [`Write::Nothing`] the gradient
    /// has been used, and the next one can come.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) for a part that the group does not have; nothing is written then. A write
    /// that fails is reported by the next call that needs the group.
    pub fn close(mut self, write: Write) -> Result<()> {
        let geometry = self.geometry();
        let which = match write {
            Write::All => (0..geometry.kept()).collect(),
            Write::Nothing => return Ok(()),
            Write::Parts(names) => {
                let mut which = names.iter().map(|name| geometry.part(name)).collect::<Result<Vec<_>>>()?;
                which.sort_unstable();
                which.dedup();
                which
            }
        };
        self.write(&which)
    }

    fn write(&mut self, which: &[usize]) -> Result<()> {
        let Some(permit) = self.permit.take() else { return Ok(()) };
        let (shared, mut parts) = (&self.claim.shared, std::mem::take(&mut self.parts));
        let geometry = &shared.groups[self.group];
        let mut state = shared.lock();
        let own = &mut state.groups[self.group];
        let keeps_gradient = geometry.gradient().is_some_and(|part| which.contains(&part));
        own.come = match geometry.gradient() {
            Some(part) if keeps_gradient => Coverage::full(geometry.lens[part]),
            _ => Coverage::default(),
        };
        let Some(resident) = &mut own.resident else {
            return shared.write_parts(&mut state, self.group, parts, which, Some(permit));
        };
        resident.is_dirty |= which.iter().any(|part| *part < geometry.kept());
        let mut kept = resident.parts.lock().unwrap_or_else(PoisonError::into_inner);
        for part in which {
            std::mem::swap(&mut kept[*part], &mut parts[*part]);
        }
        if let Some(part) = geometry.gradient().filter(|_| !keeps_gradient) {
            kept[part].fill(0);
        }
        Ok(())
    }

    fn geometry(&self) -> &Geometry {
        &self.claim.shared.groups[self.group]
    }
}

impl Drop for GroupLease {
    fn drop(&mut self) {
        // Before its claim ends, so that whoever waits for that finds room.
        self.parts.clear();
        self.permit = None;
        let duration = self.begun.elapsed();
        self.claim.shared.lock().times.compute.add(self.begun, duration);
    }
}

impl fmt::Debug for GroupLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupLease({:?})", self.name())
    }
}
