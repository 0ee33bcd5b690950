//! What one writer was promised, and whether it was kept.
//!
//! A file is divided into slots of odd lengths. Each write replaces one slot with content of its own, recognisable to the byte, and no two
//! writes of one slot are under way at once. The ledger knows what is durable, byte by byte, and for every slot what was written since. After a
//! crash each block of a slot must be the durable one or one of those.

use crate::harness::{Rng, bytes};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a file system writes whole or not at all.
const BLOCK_BYTES: usize = 4096;

/// Lengths of neighbouring slots: less than a block, a block, more, with and without edges that two of them share.
const SLOT_LENS: [usize; 8] = [4096, 5000, 512, 8192, 300, 12_345, 65_536, 20_480];
const SLOTS: usize = 48;

/// Most writes of one round.
const ROUND_MAX: u64 = 8;

pub(super) struct Ledger {
    path: PathBuf,
    /// Tells the content of this file from that of any other.
    salt: u64,
    slots: Vec<Slot>,
    /// What must be there, as far as nothing was written since.
    durable: Vec<u8>,
    /// Whether the file itself must be there.
    exists: bool,
    /// Whether the engine has seen a sync of it fail: it will never say yes to another one.
    distrusted: bool,
    /// Writes acknowledged since the last crash.
    acknowledged: u64,
}

struct Slot {
    position: usize,
    len: usize,
    /// The number of its last write.
    last: u64,
    /// Writes that may be there instead of what is durable.
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

    /// Removes the file, for good.
    pub(super) fn remove_file(&mut self, crashing: &AtomicBool) {
        let removed = std::fs::remove_file(&self.path);
        let parent = self.path.parent().and_then(|parent| std::fs::File::open(parent).ok());
        let durable = parent.is_some_and(|parent| parent.sync_all().is_ok()) && !crashing.load(Ordering::SeqCst);
        if removed.is_ok() && durable {
            self.durable = Vec::new();
            self.exists = false;
        } else if removed.is_ok() {
            // The crash came in between: it may be there or not, with what was durable.
            self.exists = false;
        }
    }

    /// A sync of it has failed.
    pub(super) fn distrust(&mut self) {
        self.distrusted = true;
    }

    /// A file that the engine distrusts goes on as another one of the same content, as after a restart.
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

    /// The file was opened, and its name flushed if it was new.
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

    /// A sync said yes to the last writes of these slots.
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

    /// After a crash: compares the file with what was promised, and takes what it finds for durable from now on. Returns how many
    /// acknowledged writes it found, and of how many others something was gone.
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
            return Err(format!("{name} has {len} bytes; nobody wrote beyond {end}"));
        }
        found.resize(found_len.max(end), 0);
        self.durable.resize(found_len.max(end), 0);
        if let Some(at) = found[end..].iter().position(|&byte| byte != 0) {
            return Err(format!("{name} has something at {}, where nobody wrote", end + at));
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
        assert_eq!(ledger.judge(), Ok((0, 1)), "an unacknowledged write may be lost");
        let (_, third) = ledger.issue(0);
        write(&ledger, &second);
        assert!(ledger.judge().is_err(), "what was lost once does not come back");
        write(&ledger, &third);
        ledger.issue(0);
        ledger.acknowledge(&[0]);
        assert!(ledger.judge().is_err(), "an acknowledged write may not be lost");
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
