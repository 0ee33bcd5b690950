//! 4 KiB random reads, thousands in one call: the engine's `read_scatter`.
//!
//! Two calls are in flight, so that the device has work while one is prepared. With `ranges` as large as it can be, the
//! figure is the memory that a call takes.

use deepring::{Completed, Engine, OpenOptions, Piece};

use crate::arguments::Arguments;
use crate::meter::{Meter, forget_peak, peak_bytes, resident_bytes, with_extra};
use crate::random::Reads;
use crate::tiles::PAGE_BYTES;

pub(crate) fn run(arguments: &Arguments) -> Result<String, String> {
    let ranges = arguments.number("ranges")? as usize;
    let reads = Reads::of(arguments)?;
    arguments.finish()?;

    let fail = |error| reads.failure(&error);
    let (engine, file) = reads.open()?;
    let mut buffers = Vec::new();
    for _ in 0..2 {
        buffers.push(engine.buffer(ranges * PAGE_BYTES).map_err(fail)?);
    }
    for buffer in &mut buffers {
        buffer.fill(0x5a);
    }
    let meter = Meter::start()?;
    let mut running = std::collections::VecDeque::new();
    let mut last = None;
    let mut chunks = reads.positions.chunks(ranges);
    loop {
        if let Some(buffer) = buffers.pop()
            && let Some(chunk) = chunks.next()
        {
            let pieces: Vec<_> =
                chunk.iter().enumerate().map(|(place, &position)| Piece::new(position, place * PAGE_BYTES, PAGE_BYTES)).collect();
            running.push_back((file.read_scatter(buffer, &pieces), chunk));
            continue;
        }
        let Some((op, chunk)) = running.pop_front() else { break };
        let Completed { buf, result } = op.wait();
        result.map_err(fail)?;
        let buffer = buf.ok_or("the ring was lost")?;
        last = Some((buffer.as_ptr() as usize, chunk));
        buffers.push(buffer);
    }
    let measured = meter.stop()?;
    if let Some((address, chunk)) = last
        && let Some(buffer) = buffers.iter().find(|buffer| buffer.as_ptr() as usize == address)
    {
        for (page, &position) in buffer.chunks_exact(PAGE_BYTES).zip(chunk).step_by(97) {
            reads.check(page, position)?;
        }
    }
    Ok(reads.json(&measured, &engine))
}

/// The memory that one call with as many ranges as possible takes beside the caller's, per range: while it runs, and after.
pub(crate) fn memory(arguments: &Arguments) -> Result<String, String> {
    const RANGES: usize = 1 << 20;
    const LEN: usize = 16;
    let path = arguments.path("file")?;
    let bytes = arguments.number("bytes")?;
    arguments.finish()?;
    let fail = |error: deepring::Error| format!("{}: {error}", path.display());
    let engine = Engine::builder().build().map_err(fail)?;
    let file = engine.open(&path, OpenOptions::new().read(true)).map_err(fail)?;
    let mut buffer = engine.buffer(RANGES * LEN).map_err(fail)?;
    buffer.fill(0x5a);
    let spread = (bytes - LEN as u64) / RANGES as u64;
    // Backwards, so that they have to be sorted.
    let pieces: Vec<_> = (0..RANGES).rev().map(|index| Piece::new(index as u64 * spread, index * LEN, LEN)).collect();
    // What the engine keeps anyway.
    let (buffer, _) = file.read_exact_at(buffer, 0).wait().ok().map_err(fail)?;
    forget_peak()?;
    let before = resident_bytes()?;
    let meter = Meter::start()?;
    let op = file.read_scatter(buffer, &pieces);
    let (buffer, _) = op.wait().ok().map_err(fail)?;
    let peak = peak_bytes()?;
    let measured = meter.stop()?;
    let after = resident_bytes()?;
    drop(buffer);
    let json = measured.json((RANGES * LEN) as u64, RANGES as u64, "");
    let per_range = |now: u64| now.saturating_sub(before) as f64 / RANGES as f64;
    Ok(with_extra(&json, &[("bytesPerRange", per_range(peak)), ("keptPerRange", per_range(after))]))
}
