//! [`State`]: the books of a store. Everything in here is decided under one lock, and nothing in here waits.

use super::entry::{Block, Entry, Memory, Rank, Unwritten};
use super::extents::Extents;
use super::forecast::Forecast;
use super::stats::{SwapInfo, SwapState, SwapStats};
use super::version::Version;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::table::Table;
use deepring::Priority;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// A name that will probably be asked for.
#[derive(Debug)]
pub(super) struct Guess {
    pub(super) name: Arc<str>,
    pub(super) expires: Instant,
}

/// What the index on the drive says of a store that is written in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    /// That nothing was written since.
    Whole,
    /// It is being removed.
    Going,
    /// It is gone: the store is torn until its next flush.
    Torn,
}

/// What the flush or the snapshot needs that is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// There is none.
    Free,
    /// That the file does not change, and there is no other.
    Still,
    /// That there is no other.
    Alone,
}

/// Work that can begin.
#[derive(Debug)]
pub(super) enum Work {
    Read(Arc<str>, Arc<Version>, crate::budget::Permit, Priority),
    /// Versions that lie side by side in the file.
    Write(Vec<(Arc<str>, Unwritten)>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub(super) entries: HashMap<Arc<str>, Entry>,
    /// Of a store that only reads: what it has.
    pub(super) table: Option<Arc<Table>>,
    pub(super) budget: Arc<Budget>,
    pub(super) extents: Extents,
    /// Extents that the index on the drive names, and the next one will not.
    pub(super) superseded: Vec<Range<u64>>,
    /// Extents that the index on the drive names, if the store is durable.
    pub(super) committed: Option<BTreeSet<u64>>,
    /// The same of the index that is being written.
    pub(super) committing: BTreeSet<u64>,
    pub(super) marked: Marked,
    pub(super) ranks: BTreeSet<Rank>,
    pub(super) evictable_bytes: u64,
    pub(super) pinned_bytes: u64,
    /// Leases of slices, which have memory of their own.
    pub(super) sliced_bytes: u64,
    /// Unwritten versions in the order of their turns.
    pub(super) unwritten: BTreeMap<u64, Arc<str>>,
    pub(super) unwritten_bytes: u64,
    pub(super) writes: usize,
    /// Who waits for memory, in the order in which they came.
    pub(super) tickets: VecDeque<u64>,
    /// Entries whose write another waits for.
    pub(super) urgent: Vec<Arc<str>>,
    /// Entries whose last write has failed, and why. It is not tried again until that can help.
    pub(super) stuck: BTreeMap<Arc<str>, Error>,
    /// Why writes have failed, by their entries, until that is reported.
    pub(super) faults: BTreeMap<Arc<str>, Error>,
    /// Entries whose bytes on the drive are of no one version, because a write in place has failed.
    pub(super) damaged: BTreeMap<Arc<str>, Error>,
    /// Flushes that wait until everything is written.
    pub(super) flushes: u32,
    pub(super) moment: Moment,
    pub(super) is_growing: bool,
    pub(super) guesses: VecDeque<Guess>,
    pub(super) forecast: Forecast,
    /// The first use of the plan that can lack its tensor.
    pub(super) ahead_from: u64,
    /// Reads ahead that are under way.
    pub(super) ahead: usize,
    /// Bytes of what was read ahead, or is being read, and not asked for yet.
    pub(super) guessed_bytes: u64,
    /// Counts what happens.
    pub(super) clock: u64,
    pub(super) is_closed: bool,
    pub(super) stats: SwapStats,
    /// Work that was granted.
    pub(super) work: Vec<Work>,
    /// Who waits for a change, in the order in which they came.
    pub(super) wakers: BTreeMap<u64, Waker>,
}

impl State {
    pub(super) fn new(budget: Arc<Budget>, is_durable: bool) -> Self {
        Self {
            entries: HashMap::new(),
            table: None,
            budget,
            extents: Extents::default(),
            superseded: Vec::new(),
            committed: is_durable.then(BTreeSet::new),
            committing: BTreeSet::new(),
            marked: Marked::Torn,
            ranks: BTreeSet::new(),
            evictable_bytes: 0,
            pinned_bytes: 0,
            sliced_bytes: 0,
            unwritten: BTreeMap::new(),
            unwritten_bytes: 0,
            writes: 0,
            tickets: VecDeque::new(),
            urgent: Vec::new(),
            stuck: BTreeMap::new(),
            faults: BTreeMap::new(),
            damaged: BTreeMap::new(),
            flushes: 0,
            moment: Moment::Free,
            is_growing: false,
            guesses: VecDeque::new(),
            forecast: Forecast::default(),
            ahead_from: 0,
            ahead: 0,
            guessed_bytes: 0,
            clock: 0,
            is_closed: false,
            stats: SwapStats::default(),
            work: Vec::new(),
            wakers: BTreeMap::new(),
        }
    }

    /// Whether new versions go elsewhere than those that were flushed.
    pub(super) fn is_durable(&self) -> bool {
        self.committed.is_some()
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_closed {
            return Err(Error::Argument("the store is closed".into()));
        }
        Ok(())
    }

    /// The entry of a name, and its newest version.
    pub(super) fn find(&mut self, name: &str) -> Result<(&mut Entry, Arc<Version>)> {
        self.learn(name);
        let found = self.entries.get_mut(name).and_then(|entry| {
            let version = Arc::clone(entry.newest()?);
            Some((entry, version))
        });
        found.ok_or_else(|| Error::NotFound { tensor: name.to_owned() })
    }

    /// Makes the entry of a tensor that a table has.
    fn learn(&mut self, name: &str) {
        let Some(table) = &self.table else { return };
        if let (false, Some(index)) = (self.entries.contains_key(name), table.find(name)) {
            let info = table.info(index);
            let version = Version { dtype: info.dtype, shape: info.shape, len: info.len, position: 0, crc: None };
            let entry = Entry { stored: Some(Arc::new(version)), ..Entry::default() };
            self.entries.insert(Arc::from(name), entry);
        }
    }

    /// A tensor is asked for.
    pub(super) fn used(&mut self, name: &Arc<str>) {
        let age = self.tick();
        let past = self.forecast.used(name);
        if self.end_guess(name) {
            self.stats.prefetch_hits += 1;
        }
        let left_out: Vec<_> = past.filter_map(|number| self.forecast.name(number).cloned()).collect();
        if let Some(entry) = self.entries.get_mut(name) {
            entry.age = age;
            match entry.memory {
                Memory::Here(_) => self.stats.hits += 1,
                _ => self.stats.misses += 1,
            }
        }
        for name in left_out {
            self.rank(&name);
        }
    }

    /// An entry is not only a guess any more. Returns whether it was.
    pub(super) fn end_guess(&mut self, name: &str) -> bool {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.is_guess) else { return false };
        entry.is_guess = false;
        self.guessed_bytes -= entry.newest().map_or(0, |version| version.bytes());
        true
    }

    /// Puts an entry in its place among what can be dropped, after any change of it.
    pub(super) fn rank(&mut self, name: &str) {
        let Some((name, _)) = self.entries.get_key_value(name) else { return };
        let (name, next_use) = (Arc::clone(name), self.forecast.next_use(name));
        let Some(entry) = self.entries.get_mut(&name) else { return };
        let bytes = entry.newest().map_or(0, |version| version.bytes());
        if let Some(rank) = entry.rank.take() {
            self.ranks.remove(&rank);
            self.evictable_bytes -= bytes;
        }
        if entry.is_evictable() {
            let rank = (next_use, u64::MAX - entry.age, name);
            entry.rank = Some(rank.clone());
            self.ranks.insert(rank);
            self.evictable_bytes += bytes;
        }
    }

    /// Drops the memory of an entry that can go.
    pub(super) fn drop_memory(&mut self, name: &str) {
        self.end_guess(name);
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.is_evictable()) else { return };
        let rank = entry.rank.take();
        let bytes = entry.newest().map_or(0, |version| version.bytes());
        if let Memory::Here(block) = std::mem::take(&mut entry.memory) {
            drop(block);
        }
        if let Some(rank) = rank {
            self.evictable_bytes -= bytes;
            self.ahead_from = self.ahead_from.min(rank.0);
            self.ranks.remove(&rank);
        }
        self.stats.evicted += 1;
    }

    /// Makes room for so many bytes, if what can be dropped is enough: of what ranks above `least`, and not of `kept`.
    pub(super) fn make_room(&mut self, bytes: u64, kept: &[Arc<str>], least: u64) -> bool {
        let left = self.budget.left();
        if left >= bytes {
            return true;
        }
        if left + self.evictable_bytes < bytes {
            return false;
        }
        let (mut found, mut names) = (left, Vec::new());
        for (_, _, name) in self.ranks.range((least, 0, Arc::from(""))..).rev().filter(|(_, _, name)| !kept.contains(name)) {
            found += self.entries[name].newest().map_or(0, |version| version.bytes());
            names.push(Arc::clone(name));
            if found >= bytes {
                break;
            }
        }
        if found < bytes {
            return false;
        }
        for name in names {
            self.drop_memory(&name);
        }
        true
    }

    /// A version that is in memory alone becomes the newest.
    pub(super) fn accept(&mut self, name: &Arc<str>, version: Version, memory: Block) {
        let (since, bytes) = (self.tick(), version.bytes());
        self.end_guess(name);
        let version = Arc::new(version);
        let before = self.entries.get(name).and_then(|entry| Some(entry.newest()?.bytes())).unwrap_or(0);
        let turn = self.forget_unwritten(name, Some(&version)).unwrap_or(since);
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.pins > 0 {
            self.pinned_bytes = self.pinned_bytes - before + bytes;
        }
        let memory = Arc::new(memory);
        entry.memory = Memory::Here(Arc::clone(&memory));
        entry.unwritten = Some(Unwritten { version, memory, since, turn });
        entry.number = since;
        entry.readers = 0;
        self.stuck.remove(name);
        self.unwritten.insert(turn, Arc::clone(name));
        self.unwritten_bytes += bytes;
    }

    /// Keeps the newest version of an entry in memory, once more than before.
    pub(super) fn pin(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.pins += 1;
        if entry.pins == 1 {
            self.pinned_bytes += entry.newest().map_or(0, |version| version.bytes());
        }
    }

    /// The unwritten version of an entry, if there is one, is not any more. Its place is free unless others have it or it is on
    /// its way to the drive. Returns its turn, which a newer one takes if the drive never gets it.
    pub(super) fn forget_unwritten(&mut self, name: &Arc<str>, newer: Option<&Arc<Version>>) -> Option<u64> {
        let entry = self.entries.get_mut(name)?;
        let before = entry.unwritten.take()?;
        self.unwritten.remove(&before.turn);
        self.unwritten_bytes -= before.version.bytes();
        let (stored, writing) = (entry.stored.clone(), entry.writing.clone());
        if writing.as_ref().is_some_and(|(since, _)| *since == before.since) {
            return None;
        }
        // One that is written in place can have the place of an older one, which is on its way.
        self.release(&before.version, &[stored.as_ref(), newer, writing.as_ref().map(|(_, version)| version)]);
        Some(before.turn)
    }

    /// A write has failed. The next call that names the entry fails, or the next flush.
    pub(super) fn report(&mut self, name: &Arc<str>, error: Error) {
        self.faults.insert(Arc::clone(name), error.clone());
        if !self.is_durable() {
            self.damaged.insert(Arc::clone(name), error);
        }
    }

    /// Gives the place of a version back, unless one of the others has it. One that the index on the drive names stays until
    /// the next index.
    pub(super) fn release(&mut self, version: &Version, others: &[Option<&Arc<Version>>]) {
        let range = version.range();
        if range.is_empty() || others.iter().flatten().any(|other| other.range() == range) {
            return;
        }
        if self.is_named(&range) {
            self.superseded.push(range);
        } else {
            self.extents.give(range);
        }
    }

    /// Whether the index on the drive names this place, or one that is being written does.
    fn is_named(&self, range: &Range<u64>) -> bool {
        self.committing.contains(&range.start) || self.committed.as_ref().is_some_and(|committed| committed.contains(&range.start))
    }

    /// There is another index: gives back what it does not name.
    pub(super) fn free_superseded(&mut self) {
        for range in std::mem::take(&mut self.superseded) {
            if self.is_named(&range) {
                self.superseded.push(range);
            } else {
                self.extents.give(range);
            }
        }
    }

    pub(super) fn info(&mut self, name: &str) -> Option<SwapInfo> {
        let (entry, version) = self.find(name).ok()?;
        let state = match &entry.memory {
            _ if entry.readers > 0 || entry.has_writer => SwapState::Leased,
            Memory::Reading(_) => SwapState::Reading,
            _ if entry.is_being_written() => SwapState::Writing,
            _ if !entry.is_written() => SwapState::Dirty,
            Memory::Here(_) => SwapState::Resident,
            Memory::Absent | Memory::Lent => SwapState::Stored,
        };
        Some(SwapInfo { dtype: version.dtype, shape: version.shape.clone(), len: version.len, state })
    }

    pub(super) fn stats(&self) -> SwapStats {
        let (memory, used) = (self.budget.limit(), self.budget.limit() - self.budget.left());
        let bytes = |wanted: fn(&Entry) -> bool| {
            let of = self.entries.values().filter(|entry| wanted(entry));
            of.map(|entry| entry.newest().map_or(0, |version| version.bytes())).sum::<u64>()
        };
        SwapStats {
            memory,
            used,
            used_max: self.budget.used_max(),
            resident: self.evictable_bytes,
            reading: bytes(|entry| matches!(entry.memory, Memory::Reading(_))),
            dirty: bytes(|entry| entry.unwritten.is_some() && entry.readers == 0),
            leased: self.sliced_bytes
                + bytes(|entry| {
                    matches!(entry.memory, Memory::Here(_) | Memory::Lent) && (entry.readers > 0 || entry.has_writer || entry.pins > 0)
                }),
            capacity: self.extents.capacity(),
            stored: self.extents.taken(),
            ..self.stats
        }
    }
}
