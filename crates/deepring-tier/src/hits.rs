//! Cells that are read from the slab: all of a call at once, into memory of the engine, checked, and not copied. A call is one
//! request of the engine; a large one is several, so that what has come is checked while the rest comes.
//!
//! Cells that follow each other in the object do so in memory, whichever slots they are in. Short runs share a buffer, which is
//! freed with the last result that is in it; a longer one has its own.

use crate::cells::{EXTENT_BYTES, Geometry, padded};
use crate::extent::Extent;
use crate::stats::{Counters, add};
use bytes::Bytes;
use deepring::{Buffer, Engine, File, ManyOptions, Op, Piece, Result, Scattered, crc32c};
use std::ops::Range;
use std::sync::Arc;

/// Runs of at most this many bytes share a buffer,
const SMALL_BYTES: u64 = 256 << 10;
/// of this size. Who keeps a result of one keeps at most this in memory.
const PACK_BYTES: u64 = 1 << 20;

/// Requests end when they have this many bytes: a few milliseconds of a fast drive.
const BATCH_BYTES: u64 = 16 << 20;

/// Cells of one extent that are in the slab.
#[derive(Debug)]
pub(crate) struct Hit {
    /// Keeps the slot from being given to others.
    pub(crate) extent: Arc<Extent>,
    /// Which cells of the object.
    pub(crate) cells: Range<u64>,
    pub(crate) sums: Vec<u32>,
}

/// The slab, and what reading from it needs.
#[derive(Debug)]
pub(crate) struct Slab {
    pub(crate) engine: Engine,
    pub(crate) file: File,
    pub(crate) geometry: Geometry,
    pub(crate) counters: Arc<Counters>,
}

/// Where a run of hits goes.
#[derive(Debug)]
struct Run {
    hits: Range<usize>,
    cells: Range<u64>,
    buffer: usize,
    offset: u64,
}

/// Runs that are read by one request.
type Batch = (Vec<Run>, Op<Scattered<Vec<Buffer>>>);

impl Slab {
    /// Where a cell of an object is.
    pub(crate) fn position(&self, extent: &Extent, cell: u64) -> u64 {
        u64::from(extent.slot) * EXTENT_BYTES + cell % self.geometry.per_extent() * self.geometry.cell
    }

    /// Reads hits, which are in the order of their cells, of an object of this size. Returns what is good, by position. What is
    /// not leaves its extent.
    ///
    /// # Errors
    /// If nothing could be read at all.
    pub(crate) async fn read(&self, hits: &[Hit], size: u64) -> Result<Vec<(u64, Bytes)>> {
        // All are on their way before the first is waited for.
        let batches = self.batches(hits, size).into_iter().map(|runs| self.begin(hits, runs, size)).collect::<Result<Vec<_>>>()?;
        let mut good = Vec::new();
        for (runs, read) in batches {
            let (read, _) = read.await.ok()?;
            let counts = read.counts();
            let buffers: Vec<Bytes> = read.buf.into_iter().map(Bytes::from_owner).collect();
            let first = runs.first().map_or(0, |run| run.hits.start);
            for run in &runs {
                let bytes = self.geometry.bytes(&run.cells, size);
                let memory = buffers[run.buffer].slice(run.offset as usize..(run.offset + padded(bytes.end - bytes.start)) as usize);
                let counts = &counts[run.hits.start - first..run.hits.end - first];
                for cells in self.check(&hits[run.hits.clone()], counts, &memory, size) {
                    let part = self.geometry.bytes(&cells, size);
                    add(&self.counters.hits, cells.end - cells.start);
                    add(&self.counters.bytes_from_drive, part.end - part.start);
                    good.push((part.start, memory.slice((part.start - bytes.start) as usize..(part.end - bytes.start) as usize)));
                }
            }
        }
        Ok(good)
    }

    /// Submits a batch.
    fn begin(&self, hits: &[Hit], mut runs: Vec<Run>, size: u64) -> Result<Batch> {
        let lengths = self.place(&mut runs, size);
        let buffers = lengths.iter().map(|&len| self.engine.pooled_buffer(len as usize)).collect::<Result<Vec<_>>>()?;
        let mut end = 0;
        let start_of = |len: &u64| {
            end += len;
            end - len
        };
        let starts: Vec<u64> = lengths.iter().map(start_of).collect();
        let mut pieces = Vec::with_capacity(hits.len());
        for run in &runs {
            for hit in &hits[run.hits.clone()] {
                let offset = starts[run.buffer] + run.offset + (hit.cells.start - run.cells.start) * self.geometry.cell;
                pieces.push(Piece::new(self.position(&hit.extent, hit.cells.start), offset as usize, self.len(&hit.cells, size) as usize));
            }
        }
        Ok((runs, self.file.read_scatter_vectored(buffers, &pieces, ManyOptions::new().partial(true))))
    }

    /// What cells of an object take in the slab.
    fn len(&self, cells: &Range<u64>, size: u64) -> u64 {
        let bytes = self.geometry.bytes(cells, size);
        padded(bytes.end - bytes.start)
    }

    /// The runs of these hits, in batches.
    fn batches(&self, hits: &[Hit], size: u64) -> Vec<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        for (number, hit) in hits.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.cells.end == hit.cells.start => {
                    run.cells.end = hit.cells.end;
                    run.hits.end = number + 1;
                }
                _ => runs.push(Run { hits: number..number + 1, cells: hit.cells.clone(), buffer: 0, offset: 0 }),
            }
        }
        let (mut batches, mut room): (Vec<Vec<Run>>, u64) = (Vec::new(), 0);
        for run in runs {
            let len = self.len(&run.cells, size);
            if let Some(batch) = batches.last_mut().filter(|_| room > 0) {
                batch.push(run);
            } else {
                batches.push(vec![run]);
                room = BATCH_BYTES;
            }
            room = room.saturating_sub(len);
        }
        batches
    }

    /// Finds memory for runs. Returns the lengths of the buffers.
    fn place(&self, runs: &mut [Run], size: u64) -> Vec<u64> {
        let (mut lengths, mut pack): (Vec<u64>, Option<usize>) = (Vec::new(), None);
        for run in runs {
            let len = self.len(&run.cells, size);
            let shared = pack.filter(|&number| len <= SMALL_BYTES && lengths[number] + len <= PACK_BYTES);
            let number = shared.unwrap_or_else(|| {
                lengths.push(0);
                lengths.len() - 1
            });
            if len <= SMALL_BYTES {
                pack = Some(number);
            }
            (run.buffer, run.offset) = (number, lengths[number]);
            lengths[number] += len;
        }
        lengths
    }

    /// The cells of a run whose checksums match, as runs.
    fn check(&self, hits: &[Hit], counts: &[u64], memory: &[u8], size: u64) -> Vec<Range<u64>> {
        let mut good: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        for (hit, &count) in hits.iter().zip(counts) {
            let start = at;
            for (cell, &sum) in hit.cells.clone().zip(&hit.sums) {
                let len = self.len(&(cell..cell + 1), size) as usize;
                let has_come = (at + len - start) as u64 <= count;
                if has_come && crc32c(&memory[at..at + len]) == sum {
                    match good.last_mut() {
                        Some(run) if run.end == cell => run.end += 1,
                        _ => good.push(cell..cell + 1),
                    }
                } else if hit.extent.clear(cell % self.geometry.per_extent(), sum) {
                    add(&self.counters.bad_cells, 1);
                }
                at += len;
            }
        }
        good
    }
}
