//! What must be on the drive, and the verdict on what is.
//!
//! **Lost** is an acknowledged generation that is missing (replaced by an older one, or by none).
//! **Mixed** is anything that is neither one whole generation nor absent where the protocol
//! promises that: part of a generation, two generations in one file, bytes of none.
//!
//! Generations are numbered upward, and no number is used for two attempts. After a cut the writer
//! continues 3 further, because one more than was acknowledged can have been begun. (3 and not 2,
//! so that it continues in the slot that was being written, and not in the one that holds the last
//! acknowledged generation.) A generation found whole after a reboot counts as acknowledged from
//! then on.

use super::content::{Content, SLOT_BYTES};
use super::protocol::{Found, Stream};
use crate::saves::{Broken, Seen, Tally};
use std::collections::{BTreeMap, BTreeSet};

/// Files of a stream that keeps them that stay; older ones are removed after a newer one is acknowledged.
pub const FILES_KEPT: usize = 4;

const SLOTS: usize = 2;

/// The result of one verification.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged generations that are not there.
    pub lost: Vec<String>,
    /// Anything neither whole nor absent.
    pub mixed: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.lost.is_empty() && self.mixed.is_empty()
    }
}

#[derive(Debug, Default, Clone)]
struct Account {
    /// The last acknowledged generation; 0 before the first.
    last: u64,
    /// Files that must be there.
    files: BTreeSet<u64>,
    /// Generations that the sectors of each slot can belong to; `None` before the first
    /// acknowledgment there.
    slots: [Option<BTreeSet<u64>>; SLOTS],
    acknowledged: u64,
}

/// The accounts of one run.
#[derive(Debug, Clone)]
pub struct Ledger {
    seed: u64,
    accounts: BTreeMap<Stream, Account>,
    models: BTreeMap<Stream, Tally>,
}

fn slot_of(generation: u64) -> usize {
    (generation % SLOTS as u64) as usize
}

impl Account {
    fn acknowledge(&mut self, generation: u64) {
        self.last = self.last.max(generation);
        self.files.insert(generation);
        while self.files.len() > FILES_KEPT {
            self.files.pop_first();
        }
        self.slots[slot_of(generation)] = Some(BTreeSet::from([generation]));
        self.begin(generation + 1);
    }

    /// From now on the slot of this generation can hold some of it.
    fn begin(&mut self, generation: u64) {
        if let Some(may_hold) = &mut self.slots[slot_of(generation)] {
            may_hold.insert(generation);
        }
    }
}

impl Ledger {
    /// Nothing acknowledged yet.
    pub fn new(seed: u64) -> Self {
        let accounts = Stream::GENERATIONS.iter().map(|&stream| (stream, Account::default())).collect();
        Self { seed, accounts, models: Stream::VERSIONS.iter().map(|&stream| (stream, Tally::default())).collect() }
    }

    fn account(&mut self, stream: Stream) -> &mut Account {
        self.accounts.entry(stream).or_default()
    }

    /// The number of the first generation of the next attempt, from which the writer counts up by
    /// one.
    pub fn first_of_next(&mut self, stream: Stream) -> u64 {
        if let Some(model) = self.models.get_mut(&stream) {
            let first = model.next();
            model.begin(first);
            return first;
        }
        let account = self.account(stream);
        let first = if account.last == 0 { 2 } else { account.last } + 3;
        account.begin(first);
        first
    }

    /// Records an acknowledgment.
    pub fn acknowledge(&mut self, stream: Stream, generation: u64) {
        if let Some(model) = self.models.get_mut(&stream) {
            model.acknowledge(generation);
            // The guest has sent this before it began the next one.
            model.begin(generation + 1);
            return;
        }
        let account = self.account(stream);
        account.acknowledge(generation);
        account.acknowledged += 1;
    }

    /// How many were acknowledged in all.
    pub fn acknowledged(&self) -> u64 {
        let commits: u64 = self.accounts.values().map(|account| account.acknowledged).sum();
        commits + self.models.values().map(Tally::acknowledged).sum::<u64>()
    }

    /// How many files saves have left beside models, of all verifications.
    pub fn leftovers(&self) -> u64 {
        self.models.values().map(Tally::leftovers).sum()
    }

    /// Judges everything found after a cut, and continues from there.
    pub fn judge(&mut self, found: &[Found], seen: &[Seen]) -> Verdict {
        let mut verdict = Verdict::default();
        for stream in Stream::GENERATIONS {
            let found: Vec<_> = found.iter().filter(|found| found.stream == stream).collect();
            if stream.is_kept() {
                self.judge_files(stream, &found, &mut verdict);
            } else if stream.is_in_place() {
                self.judge_slots(stream, &found, &mut verdict);
            } else {
                self.judge_replaced(stream, &found, &mut verdict);
            }
        }
        for (&stream, model) in &mut self.models {
            let nothing = Seen { stream, version: None, leftovers: 0, wrong: None };
            match model.judge(seen.iter().find(|seen| seen.stream == stream).unwrap_or(&nothing)) {
                Ok(()) => {}
                Err(Broken::Lost(what)) => verdict.lost.push(what),
                Err(Broken::Mixed(what)) => verdict.mixed.push(what),
            }
        }
        verdict
    }

    fn judge_files(&mut self, stream: Stream, found: &[&Found], verdict: &mut Verdict) {
        let content = Content::new(self.seed, stream);
        let account = self.account(stream);
        let mut there = BTreeSet::new();
        for file in found {
            if is_whole(file, &content) && file.pure() == Some(file.id) {
                there.insert(file.id);
            } else {
                verdict.mixed.push(format!("file {file}"));
                // Reported once; it is no longer this generation.
                account.files.remove(&file.id);
            }
        }
        for generation in account.files.difference(&there) {
            verdict.lost.push(format!("{stream}: file {generation} is not there"));
        }
        account.files.clear();
        for generation in there {
            account.acknowledge(generation);
        }
    }

    fn judge_replaced(&mut self, stream: Stream, found: &[&Found], verdict: &mut Verdict) {
        let content = Content::new(self.seed, stream);
        let account = self.account(stream);
        let last = account.last;
        match found {
            [] if last == 0 => {}
            [] => verdict.lost.push(format!("{stream}: the file of generation {last} is gone")),
            [file, ..] => match file.pure() {
                Some(generation) if is_whole(file, &content) && generation >= last => account.acknowledge(generation),
                Some(generation) if is_whole(file, &content) => {
                    verdict.lost.push(format!("{stream}: generation {last} is gone and {generation} is back"));
                }
                _ => verdict.mixed.push(format!("the replaced file, last of {last}: {file}")),
            },
        }
    }

    fn judge_slots(&mut self, stream: Stream, found: &[&Found], verdict: &mut Verdict) {
        let account = self.account(stream);
        let last = account.last;
        for slot in 0..SLOTS {
            let Some(may_hold) = account.slots[slot].clone() else { continue };
            let Some(held) = found.iter().find(|found| found.id == slot as u64) else {
                verdict.lost.push(format!("{stream} slot {slot} is not there"));
                continue;
            };
            let holds: BTreeSet<_> = held.made_of.iter().map(|&(generation, _)| generation).collect();
            if held.foreign > 0 || held.len != SLOT_BYTES {
                verdict.mixed.push(held.to_string());
            } else if !holds.is_subset(&may_hold) {
                // Older generations in place of an acknowledged one.
                verdict.lost.push(format!("{stream} slot {slot} can hold only {may_hold:?}: {held}"));
            }
            match held.pure() {
                Some(generation) if generation > last => account.acknowledge(generation),
                _ => account.slots[slot] = Some(holds),
            }
        }
    }
}

fn is_whole(found: &Found, content: &Content) -> bool {
    found.pure().is_some_and(|generation| found.len == content.len(generation))
}
