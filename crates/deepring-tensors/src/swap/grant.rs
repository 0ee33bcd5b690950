//! Who gets what, and when: a [`Request`] waits until all of its tensors are free for it, and there is memory for those that
//! are not there. While it waits it holds nothing, so that no two requests can wait for each other.

use super::entry::{Arrival, Entry, Memory};
use super::extents::pages;
use super::shared::Shared;
use super::state::{State, Work};
use super::version::Version;
use crate::budget::Permit;
use crate::error::{Error, Result};
use crate::slice::{Runs, Slice};
use deepring::Priority;
use std::sync::Arc;

/// Of the budget, what can be in memory alone before a new version waits.
pub(super) const UNWRITTEN_SHARE: u64 = 4;

/// What is wanted of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To read them.
    Read,
    /// To change them in place.
    Write,
    /// To bring a new version, of so many bytes.
    Create(u64),
    /// To read them from the drive into other memory, unless they are in this one.
    Drive,
    /// The same of a slice, into memory of the budget.
    Slice,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Request {
    shared: Arc<Shared>,
    names: Vec<Arc<str>>,
    access: Access,
    /// Of one tensor.
    slice: Option<Slice>,
    /// Those of the slice in the newest version.
    runs: Option<Runs>,
    priority: Priority,
    ticket: u64,
    has_waited: bool,
}

/// What a request has got.
#[derive(Debug)]
pub(super) struct Granted {
    /// The tensors: held, in the order of the names.
    pub(super) holds: Vec<Hold>,
    /// The memory of a new version, or of a slice.
    pub(super) permit: Option<Permit>,
    /// Those of a slice.
    pub(super) runs: Option<Runs>,
}

/// A tensor that is kept for a lease. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    /// The version, which a new one does not have yet.
    pub(super) version: Option<Arc<Version>>,
    /// Of one that is only read: its memory, until a lease has it.
    arrival: Option<Arrival>,
    number: u64,
    /// `None` once it was given back.
    access: Option<Access>,
}

impl Request {
    pub(super) fn new(shared: &Arc<Shared>, names: Vec<Arc<str>>, access: Access, priority: Priority) -> Self {
        let ticket = shared.lock().tick();
        Self { shared: Arc::clone(shared), names, access, slice: None, runs: None, priority, ticket, has_waited: false }
    }

    pub(super) fn sliced(shared: &Arc<Shared>, name: Arc<str>, slice: Slice) -> Self {
        let mut request = Self::new(shared, vec![name], Access::Slice, Priority::Latency);
        request.slice = Some(slice);
        request
    }

    /// Waits for it.
    pub(super) async fn granted(mut self) -> Result<Granted> {
        let shared = Arc::clone(&self.shared);
        shared.until(|state| self.try_grant(state).transpose()).await
    }

    fn try_grant(&mut self, state: &mut State) -> Result<Option<Granted>> {
        state.check_open()?;
        let absent = self.look(state)?;
        let Some(absent) = absent else {
            // Others do not wait for what keeps this one.
            state.tickets.retain(|ticket| *ticket != self.ticket);
            return Ok(None);
        };
        if (absent > 0 || self.brings() > 0) && !self.has_room(state, absent + self.brings())? {
            return Ok(None);
        }
        state.tickets.retain(|ticket| *ticket != self.ticket);
        self.take(state).map(Some)
    }

    /// Bytes of memory beside those of the tensors.
    fn brings(&self) -> u64 {
        match self.access {
            Access::Create(bytes) => pages(bytes),
            Access::Slice => self.runs.as_ref().map_or(0, |runs| pages(runs.bytes())),
            Access::Read | Access::Write | Access::Drive => 0,
        }
    }

    /// Bytes of the tensors that are not in memory, if all are free for this request.
    fn look(&mut self, state: &mut State) -> Result<Option<u64>> {
        let (mut absent, mut all, mut pinned, mut is_free) = (0, 0, state.pinned_bytes, true);
        for (nth, name) in self.names.iter().enumerate() {
            if let Access::Create(_) = self.access {
                is_free &= state.entries.get(name).is_none_or(|entry| !entry.has_writer && entry.is_unread());
                continue;
            }
            let (entry, version) = state.find(name)?;
            let is_written = entry.is_written();
            is_free &= match self.access {
                Access::Read => entry.is_readable(),
                Access::Drive | Access::Slice => entry.is_readable() && (!matches!(entry.memory, Memory::Absent) || is_written),
                _ => !entry.has_writer && entry.readers == 0 && is_written && entry.drive_readers == 0,
            };
            let (is_absent, is_pinned) = (matches!(entry.memory, Memory::Absent), entry.pins > 0);
            if let Some(slice) = &self.slice {
                let runs = Runs::of(slice, &version.shape, version.dtype);
                self.runs = Some(runs.map_err(|detail| Error::Slice { tensor: name.to_string(), detail })?);
            }
            if self.names[..nth].contains(name) || matches!(self.access, Access::Drive | Access::Slice) {
                continue;
            }
            absent += if is_absent { version.bytes() } else { 0 };
            all += version.bytes();
            pinned -= if is_pinned { version.bytes() } else { 0 };
            if self.access == Access::Write && !is_written {
                // Once, a write that has failed is tried again.
                if !std::mem::replace(&mut self.has_waited, true) {
                    state.stuck.remove(name);
                } else if let Some(error) = state.stuck.get(name) {
                    return Err(error.clone());
                }
                state.urgent.push(Arc::clone(name));
            }
        }
        let budget = state.budget.limit();
        all += self.brings();
        if all + pinned > budget {
            return Err(Error::Budget { needed: all + pinned, budget, tensor: self.names.first().map(ToString::to_string) });
        }
        Ok(is_free.then_some(absent))
    }

    /// Whether it is this request's turn, and there is memory for it.
    fn has_room(&mut self, state: &mut State, bytes: u64) -> Result<bool> {
        if !state.tickets.contains(&self.ticket) {
            state.tickets.push_back(self.ticket);
        }
        // A new version does not need the one before.
        let kept = if matches!(self.access, Access::Create(_)) { &[] } else { &self.names[..] };
        let is_first = state.tickets.front() == Some(&self.ticket);
        let unwritten_max = state.budget.limit() / UNWRITTEN_SHARE;
        let is_full =
            matches!(self.access, Access::Create(_)) && state.unwritten_bytes > 0 && state.unwritten_bytes + bytes > unwritten_max;
        if is_first && !is_full && state.make_room(bytes, kept, 0) {
            return Ok(true);
        }
        if !std::mem::replace(&mut self.has_waited, true) {
            // Once for each request, writes that have failed are tried again.
            state.stuck.clear();
        } else if is_first
            && state.writes == 0
            && let Some(error) = state.stuck.values().next()
        {
            return Err(error.clone());
        }
        Ok(false)
    }

    /// Takes everything.
    fn take(&self, state: &mut State) -> Result<Granted> {
        let permit = match self.brings() {
            0 => None,
            bytes => Some(state.budget.take(bytes).ok_or_else(|| no_room(state, bytes))?),
        };
        let mut holds = Vec::with_capacity(self.names.len());
        for name in &self.names {
            if let Access::Create(_) = self.access {
                // The error of a write that was not reported yet.
                if let Some(error) = state.faults.remove(name) {
                    return Err(error);
                }
                // A lease can outlive the entry that it read: one that is made anew under its name must not take it for its own.
                let number = state.tick();
                let entry = state.entries.entry(Arc::clone(name)).or_insert_with(|| Entry { number, ..Entry::default() });
                entry.has_writer = true;
                let (version, number) = (entry.newest().cloned(), entry.number);
                holds.push(self.hold(name, version, None, number, self.access));
                state.rank(name);
                continue;
            }
            state.used(name);
            let (entry, version) = state.find(name)?;
            let access = match self.access {
                Access::Drive | Access::Slice if matches!(entry.memory, Memory::Absent) => Access::Drive,
                Access::Drive | Access::Slice => Access::Read,
                access => access,
            };
            match access {
                Access::Write => entry.has_writer = true,
                Access::Drive => entry.drive_readers += 1,
                _ => entry.readers += 1,
            }
            let number = entry.number;
            if matches!(entry.memory, Memory::Absent) && access != Access::Drive {
                entry.memory = Memory::Reading(Arrival::default());
                entry.read_fault = None;
                let bytes = version.bytes();
                let permit = state.budget.take(bytes).ok_or_else(|| no_room(state, bytes))?;
                state.work.push(Work::Read(Arc::clone(name), Arc::clone(&version), permit, self.priority));
            }
            state.rank(name);
            let memory = state.entries.get(name).filter(|_| access == Access::Read).map(|entry| &entry.memory);
            let arrival = match memory {
                Some(Memory::Here(block)) => Some(Arrival::of(Arc::clone(block))),
                Some(Memory::Reading(arrival)) => Some(arrival.clone()),
                _ => None,
            };
            holds.push(self.hold(name, Some(version), arrival, number, access));
        }
        Ok(Granted { holds, permit, runs: self.runs.clone() })
    }

    fn hold(&self, name: &Arc<str>, version: Option<Arc<Version>>, arrival: Option<Arrival>, number: u64, access: Access) -> Hold {
        let (shared, name) = (Arc::clone(&self.shared), Arc::clone(name));
        Hold { shared, name, version, arrival, number, access: Some(access) }
    }
}

/// Room was made before this: it is never returned.
fn no_room(state: &State, needed: u64) -> Error {
    Error::Budget { needed, budget: state.budget.limit(), tensor: None }
}

impl Drop for Request {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.shared.change(|state| state.tickets.retain(|other| *other != ticket));
    }
}

impl Hold {
    /// Whether it reads from the drive.
    pub(super) fn is_drive(&self) -> bool {
        self.access == Some(Access::Drive)
    }

    /// Its memory, which is not kept for it any more. `None` if it does not only read.
    pub(super) fn take_arrival(&mut self) -> Option<Arrival> {
        self.arrival.take()
    }

    /// Gives the tensor back, while the state is locked.
    pub(super) fn end(&mut self, state: &mut State) {
        let (Some(access), Some(entry)) = (self.access.take(), state.entries.get_mut(&self.name)) else { return };
        match access {
            Access::Read if entry.number == self.number => entry.readers -= 1,
            Access::Read | Access::Slice => {}
            Access::Drive => entry.drive_readers -= 1,
            Access::Write | Access::Create(_) => entry.has_writer = false,
        }
        if entry.newest().is_none() && !entry.has_writer {
            state.entries.remove(&self.name);
        }
        state.rank(&self.name);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        // Before the entry is free: its memory must be its alone then.
        drop(self.take_arrival());
        if self.access.is_some() {
            shared.change(|state| self.end(state));
        }
    }
}
