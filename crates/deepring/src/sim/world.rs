//! What the engine's surroundings look like in a simulation, and what they have seen: clock, devices, descriptors, files, memory.
//!
//! There is one world per thread, found through a thread-local, because a backend, a completion, a freed buffer and a system call all meet
//! in it and have nothing else in common. It never calls into the engine.

use super::flight::Devices;
use super::prng::{Prng, mix};
use super::profile::Profile;
use super::ranges::{Owner, Ranges};
use crate::completion::{Outcome, Receipt};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// How many events of a traced run are kept.
const TRACE_LEN: usize = 4000;

/// How a request ended, for whoever checks it.
#[derive(Debug)]
pub(crate) enum Reported {
    /// A transfer: how it went, and whether its memory is lost; `None` if its [`crate::Op`] knows.
    Transfer {
        id: u64,
        outcome: Option<(Result<Receipt>, bool)>,
    },
    Control {
        id: u64,
        result: Result<()>,
    },
}

/// An open descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor {
    /// Descriptors are reused; this number is not.
    pub(crate) opening: u64,
    pub(crate) inode: u64,
    pub(crate) direct: bool,
}

/// What the world has decided about a file, and done to it.
#[derive(Debug, Clone)]
pub(crate) struct FileFacts {
    pub(crate) device: u32,
    pub(crate) offset_alignment: u32,
    pub(crate) memory_alignment: u32,
    pub(crate) refuses_direct: bool,
    pub(crate) refuses_nowait: bool,
    /// Errors that operations on the file were given, one bit per number.
    pub(crate) injected: u128,
    /// A truncation or a look at the size failed, so the file may have been left longer than it should be.
    pub(crate) untrimmed: bool,
}

/// What was done, for the summary.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) device_operations: u64,
    pub(crate) moved_bytes: u64,
    pub(crate) faults: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: Prng,
    pub(crate) now_ns: u64,
    pub(crate) profile: Profile,
    pub(crate) devices: Devices,
    pub(crate) ranges: Ranges,
    pub(crate) reported: Vec<Reported>,
    pub(crate) tally: Tally,
    pub(crate) lost_rings: u32,
    /// Buffers made and not freed.
    pub(crate) live_buffers: u64,
    /// Whether calls are refused; off while the campaign itself looks at files.
    pub(crate) injecting: bool,
    /// As [`FileFacts::injected`], for calls that have no file yet.
    pub(crate) injected_anywhere: u128,
    pub(super) descriptors: BTreeMap<RawFd, Descriptor>,
    pub(super) openings: u64,
    files: BTreeMap<u64, FileFacts>,
    /// Requests that were submitted and have not settled, with the memory they lent.
    unsettled: BTreeMap<u64, (u64, u64)>,
    violation: Option<String>,
    digest: u64,
    trace: Option<Vec<String>>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Does something with this thread's world, if there is one.
pub(crate) fn with<T>(f: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.with_borrow_mut(|world| world.as_mut().map(f))
}

/// Makes this the world of this thread.
pub(crate) fn enter(world: World) {
    WORLD.set(Some(world));
}

/// Ends this thread's world.
pub(crate) fn leave() -> Option<World> {
    WORLD.take()
}

/// Reports what must never happen. The first report counts.
pub(crate) fn violate(what: impl Into<String>) {
    with(|world| world.violate(what));
}

impl World {
    pub(crate) fn new(rng: Prng, profile: Profile, traced: bool) -> Self {
        Self {
            rng,
            now_ns: 0,
            profile,
            devices: Devices::default(),
            ranges: Ranges::default(),
            reported: Vec::new(),
            tally: Tally::default(),
            lost_rings: 0,
            live_buffers: 0,
            injecting: false,
            injected_anywhere: 0,
            descriptors: BTreeMap::new(),
            openings: 0,
            files: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            violation: None,
            digest: 0,
            trace: traced.then(Vec::new),
        }
    }

    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(|| format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.violation.is_some()
    }

    pub(crate) fn take_violation(&mut self) -> Option<String> {
        self.violation.take()
    }

    /// Adds an event to the trace, if one is kept.
    pub(crate) fn note(&mut self, event: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= TRACE_LEN {
                trace.drain(..TRACE_LEN / 2);
            }
            trace.push(format!("{:>9} {}", self.now_ns, event()));
        }
    }

    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// Adds to the fingerprint of the run: two runs of one seed must have the same.
    pub(crate) fn digest(&mut self, values: &[u64]) {
        for value in values {
            self.digest = mix(self.digest ^ value);
        }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.digest
    }

    // ---- files ----

    pub(crate) fn descriptor(&self, fd: RawFd) -> Option<Descriptor> {
        self.descriptors.get(&fd).copied()
    }

    /// What is decided about a file; decided now if it is new.
    pub(crate) fn facts(&mut self, inode: u64) -> &mut FileFacts {
        let (rng, profile) = (&mut self.rng, &self.profile);
        self.files.entry(inode).or_insert_with(|| FileFacts {
            device: rng.below(profile.devices.into()) as u32,
            offset_alignment: profile.offset_alignment,
            memory_alignment: profile.memory_alignment,
            refuses_direct: rng.chance(profile.refuses_direct),
            refuses_nowait: rng.chance(profile.refuses_nowait),
            injected: 0,
            untrimmed: false,
        })
    }

    /// Remembers that the file may now answer with this error.
    pub(crate) fn inject(&mut self, inode: u64, errno: Errno) {
        self.tally.faults += 1;
        self.facts(inode).injected |= bit(errno);
    }

    /// Whether an operation on the file may have ended with this error.
    pub(crate) fn was_injected(&mut self, inode: Option<u64>, errno: Errno) -> bool {
        let anywhere = self.injected_anywhere;
        let here = inode.map_or(0, |inode| self.facts(inode).injected);
        (anywhere | here) & bit(errno) != 0
    }

    // ---- requests ----

    /// A request is about to be submitted, with this memory.
    pub(crate) fn submitted(&mut self, id: u64, address: u64, len: u64) {
        self.unsettled.insert(id, (address, len));
        self.ranges.lend(address, len, Owner::Request(id));
    }

    pub(crate) fn is_unsettled(&self, id: u64) -> bool {
        self.unsettled.contains_key(&id)
    }

    /// A request has ended, and its memory is the client's again unless it is lost.
    pub(crate) fn settled(&mut self, id: u64, lost: Option<bool>) {
        let Some((address, len)) = self.unsettled.remove(&id) else {
            return self.violate(format!("request {id} settled twice"));
        };
        self.digest(&[id, self.now_ns]);
        if self.devices.holds(address, len) {
            self.violate(format!("request {id} settled while the device still has its memory"));
        }
        // Of an operation that was dropped, nobody says whether its memory is lost: then it must be leaked if it is.
        let still_lost = self.devices.has_lost(address, len);
        if lost == Some(false) && still_lost {
            self.violate(format!("request {id} gives back memory that a lost ring may still write to"));
        }
        if lost.unwrap_or(still_lost) {
            self.ranges.leak(address);
        } else {
            self.ranges.give_back(address);
        }
    }

    pub(crate) fn transfer_settled(&mut self, id: u64, outcome: Outcome) {
        self.note(|| format!("request {id} settled: {:?}", outcome.result.as_ref().map_err(Error::to_string)));
        self.settled(id, Some(outcome.memory_lost));
        self.reported.push(Reported::Transfer { id, outcome: Some((outcome.result, outcome.memory_lost)) });
    }

    /// An [`crate::Op`] has ended; how, it tells whoever still has it.
    pub(crate) fn op_settled(&mut self, id: u64) {
        self.note(|| format!("request {id} settled"));
        self.settled(id, None);
        self.reported.push(Reported::Transfer { id, outcome: None });
    }

    /// A sync, a truncation or a close has ended. `before`: requests that had to settle first.
    pub(crate) fn control_settled(&mut self, id: u64, result: Result<()>, before: &[u64]) {
        self.note(|| format!("control {id} settled: {:?}", result.as_ref().map_err(Error::to_string)));
        let early = before.iter().find(|&&request| self.is_unsettled(request));
        let was_run = !result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Canceled);
        if let (Some(request), true) = (early, was_run) {
            self.violate(format!("control {id} ran before request {request} had settled"));
        }
        self.settled(id, None);
        self.reported.push(Reported::Control { id, result });
    }

    /// The memory of a buffer went back to the allocator.
    pub(crate) fn buffer_freed(&mut self, id: u64, address: u64, len: u64, intact: bool) {
        self.live_buffers -= 1;
        if !intact {
            self.violate(format!("bytes beside the memory of request {id} were overwritten"));
        }
        if self.is_unsettled(id) {
            self.violate(format!("the memory of request {id} was freed before it settled"));
        }
        if self.devices.holds(address, len) || self.devices.has_lost(address, len) {
            self.violate(format!("the memory of request {id} was freed while the device may still touch it"));
        }
    }
}

/// The error's bit in a set of errors.
pub(super) fn bit(errno: Errno) -> u128 {
    1u128.checked_shl(errno as u32).unwrap_or(0)
}
