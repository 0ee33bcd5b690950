//! [`Index`]: the file of records, one for each slot. Everything here blocks.

use crate::record::{RECORD_BYTES, Record};
use deepring::{Completed, Engine, File, Priority, Result, WriteOptions};
use std::sync::atomic::{AtomicU64, Ordering};

/// Records that are read at once.
const READ_RECORDS: u32 = 2048;

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    engine: Engine,
    file: File,
    /// Of the next record that is written: of two records for one extent, the later one counts.
    generation: AtomicU64,
}

impl Index {
    pub(crate) fn new(engine: Engine, file: File) -> Self {
        Self { engine, file, generation: AtomicU64::new(1) }
    }

    /// The records of all slots, those written last at the end.
    pub(crate) fn load(&self, slots: u32, cell: u64) -> Result<Vec<(u32, Record)>> {
        let mut found = Vec::new();
        for first in (0..slots).step_by(READ_RECORDS as usize) {
            let count = READ_RECORDS.min(slots - first) as usize;
            let (buffer, receipt) = self.file.read_buffer_at(u64::from(first) * RECORD_BYTES as u64, count * RECORD_BYTES).wait().ok()?;
            let pages = buffer[..receipt.bytes as usize].chunks_exact(RECORD_BYTES).zip(first..);
            found.extend(pages.filter_map(|(page, slot)| Some((slot, Record::decode(page, slot, cell)?))));
        }
        found.sort_unstable_by_key(|(_, record)| record.generation);
        let next = found.last().map_or(1, |(_, record)| record.generation.saturating_add(1));
        self.generation.store(next, Ordering::Relaxed);
        Ok(found)
    }

    pub(crate) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn write(&self, slot: u32, record: &Record) -> Result<()> {
        self.put(slot, |page| record.encode(slot, page))
    }

    /// Removes a record.
    pub(crate) fn clear(&self, slot: u32) -> Result<()> {
        self.put(slot, |page| page.fill(0))
    }

    fn put(&self, slot: u32, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut page = self.engine.pooled_buffer(RECORD_BYTES)?;
        fill(&mut page);
        let options = WriteOptions::new().priority(Priority::Background);
        let Completed { result, .. } = self.file.write_with(page, u64::from(slot) * RECORD_BYTES as u64, options).wait();
        result.map(drop)
    }
}
