//! What one writer was promised, and whether the promise was kept.
//!
//! A file is divided into slots of odd lengths. Each write replaces one slot with unique content,
//! recognizable to the byte, and a slot has at most one write in flight. The ledger knows which
//! bytes are durable, and for every slot what was written since. After a crash each block of a slot
//! must be the durable one or one of those.

use crate::harness::{Rng, bytes};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a file system writes whole or not at all.
const BLOCK_BYTES: usize = 4096;

/// Lengths of neighboring slots: less than a block, a block, more, with and without edges that two
/// slots share.
const SLOT_LENS: [usize; 8] = [4096, 5000, 512, 8192, 300, 12_345, 65_536, 20_480];
const SLOTS: usize = 48;

/// Most writes in one round.
const ROUND_MAX: u64 = 8;

pub(super) struct Ledger {
    path: PathBuf,
    /// Distinguishes the content of this file from any other.
    salt: u64,
    slots: Vec<Slot>,
    /// What must be there, unless it was overwritten since.
    durable: Vec<u8>,
    /// Whether the file itself must be there.
    exists: bool,
    /// Whether a sync of the file has failed: the engine then never reports success for another
    /// one.
    distrusted: bool,
    /// Writes acknowledged since the last crash.
    acknowledged: u64,
}

struct Slot {
    position: usize,
    len: usize,
    /// The number of its last write.
    last: u64,
    /// Writes whose bytes can be there instead of the durable ones.
    since: Vec<u64>,
}

impl Ledger {
    pub(super) fn new(path: PathBuf, salt: u64) -> Self {
        let mut position = 0;
        let slots = (0..SLOTS).map(|index| {
            let len = SLOT_LENS[index % SLOT_LENS.len()];
            position += len;
            Slot { position: position - len, len, last: 0, since: Vec::new() }
        });
        Self { path, salt, slots: slots.collect(), durable: Vec::new(), exists: false, distrusted: false, acknowledged: 0 }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file for good.
    pub(super) fn remove_file(&mut self, crashing: &AtomicBool) {
        let removed = std::fs::remove_file(&self.path);
        let parent = self.path.parent().and_then(|parent| std::fs::File::open(parent).ok());
        let durable = parent.is_some_and(|parent| parent.sync_all().is_ok()) && !crashing.load(Ordering::SeqCst);
        if removed.is_ok() && durable {
            self.durable = Vec::new();
            self.exists = false;
        } else if removed.is_ok() {
            // The crash came in between: the file can be there or not, with its durable content.
            self.exists = false;
        }
    }

    /// A sync of it has failed.
    pub(super) fn distrust(&mut self) {
        self.distrusted = true;
    }

    /// Replaces a file that the engine distrusts with a copy of it, as after a restart.
    pub(super) fn replace_distrusted(&mut self) -> std::io::Result<()> {
        if !std::mem::take(&mut self.distrusted) || !self.path.exists() {
            return Ok(());
        }
        let copy = self.path.with_extension("copy");
        std::fs::copy(&self.path, &copy)?;
        std::fs::File::open(&copy)?.sync_all()?;
        std::fs::rename(&copy, &self.path)?;
        self.path.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
    }

    /// The file was opened, and its name was flushed if it was new.
    pub(super) fn opened(&mut self) {
        self.exists = true;
    }

    /// Slots to write in one round.
    pub(super) fn some_slots(rng: &mut Rng) -> Vec<usize> {
        let slots: BTreeSet<usize> = (0..=rng.below(ROUND_MAX)).map(|_| rng.below(SLOTS as u64) as usize).collect();
        let mut slots: Vec<usize> = slots.into_iter().collect();
        rng.shuffle(&mut slots);
        slots
    }

    /// The next content of a slot, and where it goes.
    pub(super) fn issue(&mut self, slot: usize) -> (u64, Vec<u8>) {
        let salt = self.salt;
        let slot = &mut self.slots[slot];
        slot.last += 1;
        slot.since.push(slot.last);
        (slot.position as u64, slot.content(slot.last, salt))
    }

    /// A sync succeeded that covers the last writes of these slots.
    pub(super) fn acknowledge(&mut self, slots: &[usize]) {
        for &index in slots {
            let slot = &mut self.slots[index];
            let end = slot.position + slot.len;
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            self.durable[slot.position..end].copy_from_slice(&slot.content(slot.last, self.salt));
            slot.since.clear();
        }
        self.acknowledged += slots.len() as u64;
    }

    /// After a crash: compares the file with the promises, and takes what it finds as durable from
    /// now on. Returns the number of acknowledged writes it found, and of other writes with lost
    /// bytes.
    pub(super) fn judge(&mut self) -> Result<(u64, u64), String> {
        let name = self.path.display();
        let Some(len) = super::length_of(&self.path) else {
            if self.exists {
                return Err(format!("{name} was opened, and is gone"));
            }
            self.durable.clear();
            self.slots.iter_mut().for_each(|slot| slot.since.clear());
            return Ok((0, 0));
        };
        let mut found = std::fs::read(&self.path).map_err(|error| format!("{name} cannot be read: {error}"))?;
        if self.exists && found.len() < self.durable.len() {
            return Err(format!("{name} has {len} bytes; {} were acknowledged", self.durable.len()));
        }
        let found_len = found.len();
        let end = self.slots.last().map_or(0, |slot| slot.position + slot.len);
        if found_len > end.next_multiple_of(BLOCK_BYTES) {
            return Err(format!("{name} has {len} bytes; nothing was written beyond {end}"));
        }
        found.resize(found_len.max(end), 0);
        self.durable.resize(found_len.max(end), 0);
        if let Some(at) = found[end..].iter().position(|&byte| byte != 0) {
            return Err(format!("{name} has bytes at {}, where nothing was written", end + at));
        }
        let mut lost = 0;
        for slot in &mut self.slots {
            let written: Vec<Vec<u8>> = slot.since.iter().map(|&number| slot.content(number, self.salt)).collect();
            let mut complete = true;
            let mut from = slot.position;
            let slot_end = slot.position + slot.len;
            while from < slot_end {
                let to = (from + 1).next_multiple_of(BLOCK_BYTES).min(slot_end);
                let piece = &found[from..to];
                let newest = written.last().is_none_or(|content| &content[from - slot.position..to - slot.position] == piece);
                let any = written.iter().any(|content| &content[from - slot.position..to - slot.position] == piece);
                let old = piece == &self.durable[from..to];
                let never_there = !self.exists && piece.iter().all(|&byte| byte == 0);
                if !(any || old || never_there) {
                    let empty = if piece.iter().all(|&byte| byte == 0) { " (all zero)" } else { "" };
                    return Err(format!(
                        "{name}: bytes {from}..{to}{empty} are neither what was acknowledged nor any of {} later writes",
                        written.len()
                    ));
                }
                complete &= newest;
                from = to;
            }
            lost += u64::from(!complete);
            slot.since.clear();
        }
        found.truncate(found_len);
        self.durable = found;
        self.exists = true;
        Ok((std::mem::take(&mut self.acknowledged), lost))
    }
}

impl Slot {
    fn content(&self, number: u64, salt: u64) -> Vec<u8> {
        bytes(self.position as u64, self.len, salt ^ number << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(place: &tempfile::TempDir) -> Ledger {
        let mut ledger = Ledger::new(place.path().join("file"), 7);
        ledger.opened();
        ledger
    }

    #[test]
    fn the_ledger_tells_old_new_and_foreign_bytes_apart() {
        let place = crate::harness::directory();
        let mut ledger = ledger(&place);
        let write = |ledger: &Ledger, content: &[u8]| std::fs::write(ledger.path(), content).expect("the file");
        let (_, first) = ledger.issue(0);
        ledger.acknowledge(&[0]);
        write(&ledger, &first);
        assert_eq!(ledger.judge(), Ok((1, 0)));
        let (_, second) = ledger.issue(0);
        write(&ledger, &first);
        assert_eq!(ledger.judge(), Ok((0, 1)), "an unacknowledged write can be lost");
        let (_, third) = ledger.issue(0);
        write(&ledger, &second);
        assert!(ledger.judge().is_err(), "a lost write does not come back");
        write(&ledger, &third);
        ledger.issue(0);
        ledger.acknowledge(&[0]);
        assert!(ledger.judge().is_err(), "an acknowledged write must not be lost");
    }

    #[test]
    fn the_ledger_reports_a_short_file_a_missing_file_and_a_torn_block() {
        let place = crate::harness::directory();
        let mut ledger = ledger(&place);
        assert!(ledger.judge().is_err(), "the file is gone");
        let (_, first) = ledger.issue(0);
        ledger.acknowledge(&[0]);
        std::fs::write(ledger.path(), &first[..4095]).expect("the file");
        assert!(ledger.judge().is_err(), "a byte is gone");
        let (_, second) = ledger.issue(0);
        let torn = [&first[..2048], &second[2048..]].concat();
        std::fs::write(ledger.path(), torn).expect("the file");
        assert!(ledger.judge().is_err(), "half of a block");
    }
}
