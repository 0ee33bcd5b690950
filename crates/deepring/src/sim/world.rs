//! The state of everything around the engines: clock, devices, descriptors, files and lent memory,
//! with the first violation and the trace.
//!
//! There is one world per thread, in a thread-local: backends, completions, freed buffers and
//! system calls all report to it and share nothing else. It never calls into the engine.

use super::checksum::Summed;
use super::flight::Devices;
use super::pages::Pages;
use super::prng::{Prng, mix};
use super::profile::Profile;
use super::ranges::{Owner, Ranges};
use crate::completion::{Outcome, Receipt};
use crate::error::{Error, ErrorKind, Result};
use crate::inode::Inode;
use crate::sys::Errno;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

/// Events that a traced run keeps.
const TRACE_LEN: usize = 4000;

/// The reported outcome of a request, not yet judged.
#[derive(Debug)]
pub(crate) enum Reported {
    /// The result of a transfer and whether its memory is lost; `None` if its [`crate::Op`] holds
    /// them.
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
    /// Unique, unlike the descriptor's number.
    pub(crate) opening: u64,
    pub(crate) inode: u64,
    pub(crate) direct: bool,
    /// It was direct once. Else nothing is reserved or padded, and the file grows in order.
    pub(crate) was_direct: bool,
}

/// What was drawn for a file, and what was done to it.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about a file")]
pub(crate) struct FileFacts {
    pub(crate) device: u32,
    pub(crate) offset_alignment: u32,
    pub(crate) memory_alignment: u32,
    pub(crate) refuses_direct: bool,
    pub(crate) refuses_nowait: bool,
    /// The file is reported to have holes.
    pub(crate) has_holes: bool,
    /// The engine's inode.
    pub(crate) inode: Weak<Inode>,
    /// Errors injected into operations on the file, one bit per number.
    pub(crate) injected: u128,
    /// A truncation or a query of the size failed, so the file can be longer than promised.
    pub(crate) untrimmed: bool,
    /// Another process has cut the file, once or more.
    pub(crate) cut: bool,
}

/// Counts for the summary.
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
    pub(crate) pages: Pages,
    pub(crate) reported: Vec<Reported>,
    pub(crate) tally: Tally,
    pub(crate) lost_rings: u32,
    /// Drivers that have unwound.
    pub(crate) unwound: u32,
    /// Whether a thread of an engine runs, not the client.
    pub(crate) in_engine: bool,
    /// Guarded buffers that are not freed yet.
    pub(crate) live_buffers: u64,
    /// Which copy of the engine opens files now.
    pub(crate) copy: u32,
    /// Whether calls can fail. Off while the campaign itself inspects files.
    pub(crate) injecting: bool,
    /// As [`FileFacts::injected`], for calls without a file.
    pub(crate) injected_anywhere: u128,
    pub(super) descriptors: BTreeMap<RawFd, Descriptor>,
    pub(super) openings: u64,
    files: BTreeMap<u64, FileFacts>,
    /// Submitted requests that have not settled, with the address and length that they lent.
    unsettled: BTreeMap<u64, (u64, u64)>,
    /// Requests of many ranges: their bytes are in no order in their memory.
    scattered: BTreeSet<u64>,
    /// What requests ask for about checksums, and what was flipped of them.
    pub(super) summed: Summed,
    /// A mount of its own for every run: what is remembered of mounts must not reach the next one.
    pub(super) mount: u64,
    violation: Option<String>,
    digest: u64,
    trace: Option<Vec<String>>,
}

static MOUNTS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Calls `f` with this thread's world, if there is one.
pub(crate) fn with<T>(f: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.with_borrow_mut(|world| world.as_mut().map(f))
}

/// Makes `world` the world of this thread.
pub(crate) fn enter(world: World) {
    WORLD.set(Some(world));
}

/// Ends this thread's world.
pub(crate) fn leave() -> Option<World> {
    WORLD.take()
}

/// The client's code on a thread of an engine panics now and then.
pub(crate) fn panic_sometimes() {
    let panics = |world: &mut World| world.in_engine && world.profile.panics > 0 && world.rng.chance(world.profile.panics);
    if with(panics).unwrap_or(false) {
        with(|world| world.note(|| "the client's code panics".into()));
        std::panic::resume_unwind(Box::new("the client's code panics".to_owned()));
    }
}

/// Reports something that must never happen. Only the first report is kept.
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
            pages: Pages::default(),
            reported: Vec::new(),
            tally: Tally::default(),
            lost_rings: 0,
            unwound: 0,
            in_engine: false,
            live_buffers: 0,
            copy: 0,
            injecting: false,
            injected_anywhere: 0,
            descriptors: BTreeMap::new(),
            openings: 0,
            files: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            scattered: BTreeSet::new(),
            summed: Summed::default(),
            mount: MOUNTS.fetch_add(1, Ordering::Relaxed),
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

    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(crate) fn take_violation(&mut self) -> Option<String> {
        self.violation.take()
    }

    /// Adds an event to the trace if the run is traced.
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

    /// Adds to the fingerprint of the run.
    pub(crate) fn digest(&mut self, values: &[u64]) {
        for value in values {
            self.digest = mix(self.digest ^ value);
        }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.digest
    }

    // ---- files ----

    /// How many descriptors the engines have of the file.
    pub(crate) fn descriptors_of(&self, inode: u64) -> usize {
        self.descriptors.values().filter(|descriptor| inode > 0 && descriptor.inode == inode).count()
    }

    /// Whether the descriptor of this opening is open.
    pub(crate) fn is_open(&self, opening: u64) -> bool {
        self.descriptors.values().any(|descriptor| descriptor.opening == opening)
    }

    pub(crate) fn descriptor(&self, fd: RawFd) -> Option<Descriptor> {
        self.descriptors.get(&fd).copied()
    }

    /// The facts about a file; drawn now if the file is new.
    pub(crate) fn facts(&mut self, inode: u64) -> &mut FileFacts {
        let (rng, profile, has_holes) = (&mut self.rng, &self.profile, self.files.len() % 3 == 1);
        self.files.entry(inode).or_insert_with(|| FileFacts {
            device: rng.below(profile.devices.into()) as u32,
            offset_alignment: profile.offset_alignment,
            memory_alignment: profile.memory_alignment,
            refuses_direct: rng.chance(profile.refuses_direct),
            refuses_nowait: rng.chance(profile.refuses_nowait),
            has_holes,
            inode: Weak::new(),
            injected: 0,
            untrimmed: false,
            cut: false,
        })
    }

    /// Records that an operation on the file was given this error.
    pub(crate) fn inject(&mut self, inode: u64, errno: Errno) {
        self.tally.faults += 1;
        self.facts(inode).injected |= bit(errno);
    }

    /// Whether an operation on the file was given this error.
    pub(crate) fn was_injected(&mut self, inode: Option<u64>, errno: Errno) -> bool {
        let anywhere = self.injected_anywhere;
        let here = inode.map_or(0, |inode| self.facts(inode).injected);
        (anywhere | here) & bit(errno) != 0
    }

    // ---- requests ----

    /// A request is about to be submitted. It lends this memory.
    pub(crate) fn submitted(&mut self, id: u64, address: u64, len: u64) {
        self.unsettled.insert(id, (address, len));
        self.ranges.lend(address, len, Owner::Request(id));
    }

    /// The position in its file of the request of one range that lent this memory, if an operation has it at `position`.
    pub(crate) fn start_of(&self, address: u64, position: u64) -> Option<u64> {
        let (id, (start, _)) = self.unsettled.iter().find(|&(_, &(start, len))| (start..start + len).contains(&address))?;
        (!self.scattered.contains(id)).then(|| position.saturating_sub(address - start))
    }

    pub(crate) fn is_scattered(&self, id: u64) -> bool {
        self.scattered.contains(&id)
    }

    /// The request has many ranges.
    pub(crate) fn scatters(&mut self, id: u64) {
        self.scattered.insert(id);
    }

    pub(crate) fn is_unsettled(&self, id: u64) -> bool {
        self.unsettled.contains_key(&id)
    }

    /// A request has settled. Its memory is the client's again unless it is lost; `lost` is `None`
    /// if the client has not seen the outcome.
    pub(crate) fn settled(&mut self, id: u64, lost: Option<bool>) {
        let Some((address, len)) = self.unsettled.remove(&id) else {
            return self.violate(format!("request {id} settled twice"));
        };
        self.digest(&[id, self.now_ns]);
        self.summed.settled(id);
        self.pages.put(&(address..address + len));
        if self.devices.holds(address, len) {
            self.violate(format!("request {id} settled while the device still has its memory"));
        }
        // Of a dropped operation the client sees no outcome: its memory must be leaked if it is
        // lost.
        let still_lost = self.devices.has_lost(address, len);
        if lost == Some(false) && still_lost {
            self.violate(format!("request {id} gives back memory that a lost ring can still write to"));
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

    /// An [`crate::Op`] has settled. Its outcome is in the `Op`.
    pub(crate) fn op_settled(&mut self, id: u64) {
        self.note(|| format!("request {id} settled"));
        self.settled(id, None);
        self.reported.push(Reported::Transfer { id, outcome: None });
    }

    /// A sync, a truncation or a close has settled. `before`: requests that had to settle first.
    pub(crate) fn control_settled(&mut self, id: u64, result: Result<()>, before: &[u64]) {
        self.note(|| format!("control {id} settled: {:?}", result.as_ref().map_err(Error::to_string)));
        let early = before.iter().find(|&&request| self.is_unsettled(request));
        let was_run = !result.as_ref().is_err_and(|error| [ErrorKind::Canceled, ErrorKind::Panicked].contains(&error.kind()));
        if let (Some(request), true) = (early, was_run) {
            self.violate(format!("control {id} ran before request {request} had settled"));
        }
        self.settled(id, None);
        self.reported.push(Reported::Control { id, result });
    }

    /// A guarded buffer was freed.
    pub(crate) fn buffer_freed(&mut self, id: u64, address: u64, len: u64, intact: bool) {
        self.live_buffers -= 1;
        if !intact {
            self.violate(format!("bytes beside the memory of request {id} were overwritten"));
        }
        if self.is_unsettled(id) {
            self.violate(format!("the memory of request {id} was freed before it settled"));
        }
        if self.devices.holds(address, len) || self.devices.has_lost(address, len) {
            self.violate(format!("the memory of request {id} was freed while the device can still touch it"));
        }
    }
}

/// The bit of an error in a set of errors.
pub(super) fn bit(errno: Errno) -> u128 {
    1u128.checked_shl(errno as u32).unwrap_or(0)
}
