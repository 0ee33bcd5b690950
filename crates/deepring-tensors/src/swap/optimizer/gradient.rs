//! Gradients: pieces of any size at any place are packed into blocks, and full blocks are written behind.
//!
//! A block that lacks bytes stays in memory, also with pieces that do not begin or end with a unit of the drive. Only if memory
//! is short, what a block has is written as it is, and the engine completes the units at its edges from the file.

use super::coverage::Coverage;
use super::geometry::{Slot, UNIT_BYTES};
use super::shared::{Shared, State};
use super::swapper::part_name;
use crate::budget::Permit;
use crate::error::{Error, Result, quoted};
use deepring::{Buffer, IoBuf, Op, Piece};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// Bytes of a block: enough that the drive is at its best.
const BLOCK_BYTES: u64 = 4 << 20;

/// A block that is being filled.
#[derive(Debug)]
pub(super) struct Block {
    memory: Buffer,
    /// The bytes that it has, counted from the beginning of the gradient.
    own: Coverage,
    permit: Permit,
}

/// Packs a piece of a gradient, from the element `offset` on. Its memory is the caller's again.
pub(super) async fn put<B: IoBuf>(shared: Arc<Shared>, group: usize, offset: u64, data: B) -> Result<B> {
    let range = range_of(&shared, group, offset, data.len() as u64)?;
    check(&shared, &shared.lock(), group, &range)?;
    let (mut data, mut at) = (data, range.start);
    while at < range.end {
        let end = range.end.min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
        let (from, mut held) = ((at - range.start) as usize, Some(data));
        let packing = shared.until(|state| {
            let packed = held.as_ref().and_then(|data| pack(&shared, state, group, at..end, data, from))?;
            held.take().map(|data| packed.map(|()| data))
        });
        data = packing.await?;
        at = end;
    }
    Ok(data)
}

/// The bytes of a piece.
fn range_of(shared: &Shared, group: usize, offset: u64, bytes: u64) -> Result<Range<u64>> {
    let geometry = &shared.groups[group];
    let (Some(dtype), Some(part)) = (geometry.group.gradient, geometry.gradient()) else {
        return Err(Error::Argument(format!("group {} has no gradient", quoted(shared.name(group)))));
    };
    let tensor = || part_name(shared.name(group), super::geometry::GRADIENT);
    let inside = "begins or ends inside of an element";
    let len = geometry.lens[part];
    let Some(start) = offset.checked_mul(dtype.bits().into()) else {
        return Err(Error::OutOfRange { tensor: tensor(), start: u64::MAX, end: u64::MAX, len });
    };
    if !start.is_multiple_of(8) || !(bytes * 8).is_multiple_of(dtype.bits().into()) {
        return Err(Error::Argument(format!("a piece of {} {inside}", quoted(&tensor()))));
    }
    let (start, end) = (start / 8, (start / 8).saturating_add(bytes));
    if end > len {
        return Err(Error::OutOfRange { tensor: tensor(), start, end, len });
    }
    Ok(start..end)
}

/// Checks that a piece can come now.
fn check(shared: &Shared, state: &State, group: usize, range: &Range<u64>) -> Result<()> {
    state.check()?;
    let own = &state.groups[group];
    if own.is_claimed() {
        return Err(shared.directory.busy(format!("group {} is in use, and its gradient cannot change", quoted(shared.name(group)))));
    }
    if let Some(error) = &own.failed {
        return Err(error.clone());
    }
    own.come.overlap(range).map_or(Ok(()), |other| {
        let tensor = part_name(shared.name(group), super::geometry::GRADIENT);
        Err(Error::Overlap { tensor, start: other.start.max(range.start), end: other.end.min(range.end) })
    })
}

/// Packs a piece that lies in one block, whose bytes are those of `data` from `from` on. `None` as long as there is no memory.
fn pack<B: IoBuf>(shared: &Shared, state: &mut State, group: usize, piece: Range<u64>, data: &B, from: usize) -> Option<Result<()>> {
    if let Err(error) = check(shared, state, group, &piece) {
        return Some(Err(error));
    }
    let source = from..from + (piece.end - piece.start) as usize;
    let geometry = &shared.groups[group];
    let part = geometry.gradient()?;
    if let Some(resident) = &state.groups[group].resident {
        let mut parts = resident.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts[part].copy_from(piece.start as usize, data, source);
        drop(parts);
        state.groups[group].come.add(piece);
        return Some(Ok(()));
    }
    let number = piece.start / BLOCK_BYTES;
    let whole = number * BLOCK_BYTES..geometry.lens[part].min((number + 1) * BLOCK_BYTES);
    if !state.groups[group].blocks.contains_key(&number) {
        let bytes = (whole.end - whole.start).next_multiple_of(UNIT_BYTES);
        let permit = match shared.room(state, bytes, group)? {
            Ok(permit) => permit,
            Err(error) => return Some(Err(error)),
        };
        let memory = match shared.engine.pooled_buffer(bytes as usize) {
            Ok(memory) => memory,
            Err(error) => return Some(Err(Error::io(error, Some(shared.name(group))))),
        };
        state.groups[group].blocks.insert(number, Block { memory, own: Coverage::default(), permit });
    }
    let own = &mut state.groups[group];
    let block = own.blocks.get_mut(&number)?;
    block.memory.copy_from((piece.start - whole.start) as usize, data, source);
    block.own.add(piece.clone());
    own.come.add(piece);
    if own.come.has(&whole) {
        shared.spill(state, group, number);
    }
    Some(Ok(()))
}

impl Shared {
    /// Writes the bytes of a block behind, and forgets it.
    fn spill(&self, state: &mut State, group: usize, number: u64) {
        let geometry = &self.groups[group];
        let (Some(part), Some(block)) = (geometry.gradient(), state.groups[group].blocks.remove(&number)) else { return };
        let Block { mut memory, own, permit } = block;
        let (start, len) = (number * BLOCK_BYTES, geometry.lens[part]);
        let position = geometry.position(part, Slot::First) + start;
        let piece = |run: Range<u64>| {
            // The end of the gradient is padded, so that no unit is written in part.
            let end = if run.end == len { start + memory.len() as u64 } else { run.end };
            let offset = (run.start - start) as usize;
            Piece { position: position + offset as u64, offset, len: (end - run.start) as usize }
        };
        let pieces: Vec<Piece> = own.runs().map(piece).collect();
        if let Some(padding) = memory.get_mut((len - start) as usize..) {
            padding.fill(0);
        }
        let op: Op<Buffer> = self.data.write_gather(memory, &pieces);
        state.write(group, vec![op], Some(permit));
    }

    /// Writes all blocks of a group behind.
    pub(super) fn spill_group(&self, state: &mut State, group: usize) {
        let numbers: Vec<u64> = state.groups[group].blocks.keys().copied().collect();
        for number in numbers {
            self.spill(state, group, number);
        }
    }

    /// The same of all groups. Whether there were any.
    pub(super) fn spill_all(&self, state: &mut State) -> bool {
        let has_any = state.groups.iter().any(|group| !group.blocks.is_empty());
        (0..state.groups.len()).for_each(|group| self.spill_group(state, group));
        has_any
    }
}
