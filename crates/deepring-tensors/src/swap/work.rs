//! What begins next: writes of what is in memory alone, and reads ahead of the program. What the program asks for comes first:
//! its reads begin when they are granted.

use super::entry::{Arrival, Memory, Unwritten};
use super::forecast::NEVER;
use super::grant::UNWRITTEN_SHARE;
use super::state::{Moment, State, Work};
use super::version::Version;
use deepring::Priority;
use std::sync::Arc;
use std::time::Instant;

/// Writes at the drive at once: enough for small tensors, too.
const WRITES_MAX: usize = 64;

/// A tensor of at most this many bytes is written together with its neighbors: the engine copies what is so small rather than
/// make an operation of it.
const JOINED_BYTES_MAX: u64 = 64 << 10;

/// Bytes that are written together: what the engine copies for one operation.
const RUN_BYTES_MAX: u64 = 1 << 20;

/// Reads ahead at once.
const AHEAD_MAX: usize = 4;

/// Of the budget, what was read ahead in place of something else, and was not asked for yet. The rest keeps what is used again
/// soon: each tensor that is read before its time drops one that a later read would not have dropped.
const AHEAD_SHARE: u64 = 4;

impl State {
    /// Finds the work that can begin.
    pub(super) fn plan_work(&mut self) {
        if self.is_closed {
            // Another can have the files by now.
            return;
        }
        self.plan_writes();
        self.plan_ahead();
    }

    fn plan_writes(&mut self) {
        if self.moment == Moment::Still {
            return;
        }
        let urgent = std::mem::take(&mut self.urgent);
        let begun = urgent.iter().filter_map(|name| self.begin_write(name)).collect();
        self.join(begun);
        let is_much = self.unwritten_bytes > self.budget.limit() / UNWRITTEN_SHARE / 2;
        if !is_much && self.flushes == 0 && self.tickets.is_empty() {
            return;
        }
        let next: Vec<Arc<str>> = self.unwritten.values().take(self.writes + self.stuck.len() + WRITES_MAX).cloned().collect();
        let mut begun = Vec::new();
        for name in next {
            if self.writes >= WRITES_MAX {
                break;
            }
            begun.extend(self.begin_write(&name));
        }
        self.join(begun);
    }

    fn begin_write(&mut self, name: &Arc<str>) -> Option<(Arc<str>, Unwritten)> {
        let entry = self.entries.get_mut(name).filter(|_| !self.stuck.contains_key(name))?;
        if entry.writing.is_some() || entry.drive_readers > 0 {
            return None;
        }
        let unwritten = entry.unwritten.clone()?;
        entry.writing = Some((unwritten.since, Arc::clone(&unwritten.version)));
        self.writes += 1;
        Some((Arc::clone(name), unwritten))
    }

    /// Makes writes of versions that begin at once: one of those that lie side by side in the file.
    fn join(&mut self, mut begun: Vec<(Arc<str>, Unwritten)>) {
        // What is empty lies nowhere.
        begun.sort_by_key(|(_, unwritten)| (unwritten.version.len == 0, unwritten.version.position));
        let mut run: Vec<(Arc<str>, Unwritten)> = Vec::new();
        for next in begun {
            let version = &next.1.version;
            let joins = run.last().is_some_and(|(_, last)| {
                let is_small = last.version.bytes().max(version.bytes()) <= JOINED_BYTES_MAX;
                let touches = version.len > 0 && last.version.range().end == version.position;
                touches && is_small && version.range().end - run[0].1.version.position <= RUN_BYTES_MAX
            });
            if !joins && !run.is_empty() {
                self.work.push(Work::Write(std::mem::take(&mut run)));
            }
            run.push(next);
        }
        if !run.is_empty() {
            self.work.push(Work::Write(run));
        }
    }

    /// Reads ahead while nothing waits for memory.
    fn plan_ahead(&mut self) {
        if !self.tickets.is_empty() {
            return;
        }
        while self.ahead < AHEAD_MAX {
            let Some(guess) = self.guesses.pop_front() else { break };
            if guess.expires <= Instant::now() {
                self.stats.expired += 1;
            } else if let Some(version) = self.is_absent(&guess.name)
                && !self.read_ahead(&guess.name, &version, NEVER)
            {
                self.guesses.push_front(guess);
                break;
            }
        }
        while self.ahead < AHEAD_MAX {
            let Some((number, name)) = self.forecast.ahead(self.ahead_from).next().map(|(number, name)| (number, Arc::clone(name))) else {
                return;
            };
            if let Some(version) = self.is_absent(&name)
                && !self.read_ahead(&name, &version, number + 1)
            {
                return;
            }
            self.ahead_from = number + 1;
        }
    }

    /// The version that a read ahead would bring.
    fn is_absent(&mut self, name: &Arc<str>) -> Option<Arc<Version>> {
        let (entry, version) = self.find(name).ok()?;
        let is_absent = matches!(entry.memory, Memory::Absent) && entry.is_readable() && entry.read_fault.is_none();
        is_absent.then_some(version)
    }

    /// Reads ahead, if there is room without what is used sooner. False if there is none.
    fn read_ahead(&mut self, name: &Arc<str>, version: &Arc<Version>, least: u64) -> bool {
        let bytes = version.bytes();
        let has_share = self.guessed_bytes == 0 || self.guessed_bytes + bytes <= self.budget.limit() / AHEAD_SHARE;
        if self.budget.left() < bytes && !(has_share && self.make_room(bytes, &[], least)) {
            return false;
        }
        let Some(permit) = self.budget.take(bytes) else { return false };
        if let Some(entry) = self.entries.get_mut(name) {
            entry.memory = Memory::Reading(Arrival::default());
            entry.is_guess = true;
        }
        self.ahead += 1;
        self.guessed_bytes += bytes;
        self.stats.prefetched += 1;
        self.work.push(Work::Read(Arc::clone(name), Arc::clone(version), permit, Priority::Background));
        true
    }
}
