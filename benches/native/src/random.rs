//! 4 KiB random reads through the deepring crate: the engine without JavaScript.
//!
//! `depth` lanes, each with its own buffer, read pages from a shared, seeded list of positions. The
//! lanes are futures on one thread. A lane is polled when its read has completed and submits its
//! next at once, so the depth stays constant.

use std::cell::Cell;
use std::path::PathBuf;

use deepring::{Completed, Direct, Engine, File, OpenOptions};
use futures_executor::block_on;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::arguments::Arguments;
use crate::meter::{Measured, Meter};
use crate::through::ran;
use crate::tiles::{PAGE_BYTES, Pattern, Tiles};

/// The generator behind the positions, the same as in `lib/measure/positions.ts`: a 32-bit linear
/// congruential generator, because it takes one line in both languages. Only its upper bits are
/// used.
pub(crate) fn next(state: u32) -> u32 {
    state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

/// Positions of whole pages in a file of `bytes` bytes.
fn positions(count: usize, bytes: u64, seed: u32) -> Vec<u64> {
    let pages = bytes / PAGE_BYTES as u64;
    let mut state = seed;
    let mut position = || {
        state = next(state);
        u64::from(state) * pages / (1 << 32) * PAGE_BYTES as u64
    };
    (0..count).map(|_| position()).collect()
}

/// What a run reads, and what is there.
pub(crate) struct Reads {
    path: PathBuf,
    pub(crate) positions: Vec<u64>,
    pattern: Pattern,
    tiles: Tiles,
}

impl Reads {
    pub(crate) fn of(arguments: &Arguments) -> Result<Self, String> {
        let path = arguments.path("file")?;
        let (bytes, operations) = (arguments.number("bytes")?, arguments.number("operations")? as usize);
        let positions = positions(operations, bytes, arguments.number("order")? as u32);
        let pattern = Pattern { origin: 0, seed: arguments.number("seed")? as u32 };
        Ok(Self { path, positions, pattern, tiles: Tiles::open(&arguments.path("source")?)? })
    }

    pub(crate) fn open(&self) -> Result<(Engine, File), String> {
        let fail = |error| self.failure(&error);
        let engine = Engine::builder().build().map_err(fail)?;
        let file = engine.open(&self.path, OpenOptions::new().read(true).direct(Direct::Require)).map_err(fail)?;
        Ok((engine, file))
    }

    pub(crate) fn failure(&self, error: &deepring::Error) -> String {
        format!("{}: {error}", self.path.display())
    }

    /// Whether the page that was read at `position` is right.
    pub(crate) fn check(&self, page: &[u8], position: u64) -> Result<(), String> {
        self.tiles.check(page, self.pattern, position)
    }

    /// The outcome of a run that has read all of it.
    pub(crate) fn json(&self, measured: &Measured, engine: &Engine) -> String {
        let operations = self.positions.len();
        measured.json((operations * PAGE_BYTES) as u64, operations as u64, &ran(engine))
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<String, String> {
    let depth = arguments.number("depth")? as usize;
    let reads = Reads::of(arguments)?;
    arguments.finish()?;

    let fail = |error| reads.failure(&error);
    let (engine, file) = reads.open()?;
    let buffers = (0..depth).map(|_| engine.buffer(PAGE_BYTES)).collect::<Result<Vec<_>, _>>().map_err(fail)?;
    let cursor = Cell::new(0);
    let lane = async |mut buffer: deepring::Buffer| -> Result<(deepring::Buffer, Option<u64>), String> {
        let mut last = None;
        loop {
            let index = cursor.get();
            let Some(position) = reads.positions.get(index) else { return Ok((buffer, last)) };
            cursor.set(index + 1);
            let Completed { buf, result } = file.read_exact_at(buffer, *position).await;
            result.map_err(fail)?;
            buffer = buf.ok_or("the ring was lost")?;
            last = Some(*position);
        }
    };

    let meter = Meter::start()?;
    let mut lanes: FuturesUnordered<_> = buffers.into_iter().map(lane).collect();
    let mut ended = Vec::with_capacity(depth);
    block_on(async {
        while let Some(outcome) = lanes.next().await {
            ended.push(outcome?);
        }
        Ok::<(), String>(())
    })?;
    let measured = meter.stop()?;

    for (buffer, position) in &ended {
        if let Some(position) = position {
            reads.check(buffer, *position)?;
        }
    }
    Ok(reads.json(&measured, &engine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_lie_on_pages_inside_the_file() {
        let bytes = 1 << 20;
        let positions = positions(1000, bytes, 7);
        assert!(positions.iter().all(|position| position % 4096 == 0 && position + 4096 <= bytes));
        let distinct: std::collections::BTreeSet<_> = positions.into_iter().collect();
        assert!(distinct.len() > 200);
    }
}
