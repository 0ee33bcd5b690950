//! [`Plan`]: which bytes of which file go where in memory. Pure.
//!
//! Tensors that follow each other are read together, in groups that each become one buffer. Within a buffer, a run of bytes
//! begins at the same offset from a page as it does in the file (modulo 4096, **congruent**): then direct I/O reaches it
//! without a copy, wherever in the file the tensors begin. The pages that a long run begins and ends in are its own, so that
//! they are read whole: from a unit of the file to a unit of the file, in one operation. A tensor whose position in the file
//! breaks the alignment of its elements begins a run of its own, which is shifted until they are aligned, and which costs a
//! copy. Short runs are packed.
//!
//! A tensor in several pieces is put together in its buffer, which then has bytes of several files.

mod builder;
mod group;

use crate::error::Result;
use crate::slice::{Runs, Slice};
use crate::split::Overlap;
use crate::sums::{Summed, Sums};
use crate::table::{Selection, Table};
use builder::Builder;
use std::collections::HashMap;

pub(crate) use group::{Check, FileReads, Group};

/// What memory and positions of a direct transfer are multiples of, on every file system that has direct I/O.
const PAGE_BYTES: u64 = 4096;

/// Shorter runs are packed: reading them costs a copy in any case, and a page of room would cost more.
const PACKED_BYTES_MAX: u64 = 16 << 10;

/// Where a packed run begins: a cache line, which suits every element type.
const PACKED_ALIGN: u64 = 64;

/// Runs shorter than this are read together over small gaps.
pub(crate) const SPARSE_BYTES_MAX: u64 = 16 << 10;

/// Bytes between them that are read and dropped: about what a drive reads in the time of one more operation.
pub(crate) const GAP_BYTES: u64 = 32 << 10;

/// Ranges of one call: less than the engine takes.
pub(crate) const PIECES_MAX: usize = 1 << 19;

/// How to plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'s> {
    /// A group has no more bytes, unless one tensor has.
    pub(crate) group_bytes: u64,
    /// Each tensor is a range of its own, and nothing is read beside it.
    pub(crate) separate: bool,
    /// There is nothing between the tensors: their memory is given.
    pub(crate) packed: bool,
    /// Each chunk that is read as a whole is a range of its own, so that it gets its own checksum.
    pub(crate) sums: Option<&'s Sums>,
}

impl<'s> Rules<'s> {
    /// Groups of this size, which are checked if there are checksums.
    pub(crate) fn new(group_bytes: u64, sums: Option<&'s Sums>) -> Self {
        Self { group_bytes, separate: sums.is_some(), packed: false, sums }
    }
}

/// Where a tensor is: the group, and the offset in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) offset: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) groups: Vec<Group>,
    /// By the place of a tensor in the selection.
    pub(crate) places: Vec<Place>,
    /// The same of tensors that are sliced, by their index in the table.
    pub(crate) sliced: HashMap<u32, Runs>,
    /// Bytes of the tensors, and slices of tensors.
    pub(crate) bytes: u64,
    /// Tensors whose position in the file breaks the alignment of their elements.
    pub(crate) realigned: u64,
}

/// Bytes of a tensor that are wanted.
enum Wanted<'p> {
    /// They lie side by side.
    Run(Run),
    /// A slice of several runs.
    Runs(&'p Runs),
    /// A slice, or all, of a tensor in several pieces.
    Tiles(Vec<Overlap>),
}

/// Bytes side by side.
#[derive(Debug, Clone, Copy)]
struct Run {
    position: u64,
    len: u64,
}

impl Plan {
    /// The plan for these tensors, in their order, of which some are sliced.
    pub(crate) fn new(table: &Table, selection: &Selection, slices: &HashMap<u32, Slice>, rules: Rules<'_>) -> Result<Self> {
        let mut runs_of = HashMap::new();
        for (&index, slice) in slices {
            runs_of.insert(index, table.runs(index as usize, slice)?);
        }
        let extent = |index: u32| {
            let (position, len) = (table.columns.begins[index as usize], table.columns.lens[index as usize]);
            match runs_of.get(&index) {
                _ if table.split.of(index).is_some() => None,
                None => Some(Run { position, len }),
                Some(runs) if runs.count() <= 1 => Some(Run { position: position + runs.iter().next().unwrap_or(0), len: runs.len }),
                Some(_) => None,
            }
        };
        let mut builder = Builder::new(table, rules, rests(selection, extent));
        let mut bytes = 0;
        for (nth, &index) in selection.indices.iter().enumerate() {
            let wanted = match (extent(index), table.split.of(index), runs_of.get(&index)) {
                (Some(run), ..) => Wanted::Run(run),
                (None, Some(tiles), _) => Wanted::Tiles(table.overlaps(index as usize, tiles, slices.get(&index))?),
                (None, None, Some(runs)) => Wanted::Runs(runs),
                (None, None, None) => continue,
            };
            bytes += runs_of.get(&index).map_or(table.columns.lens[index as usize], Runs::bytes);
            builder.add(nth, index, &wanted);
        }
        let (groups, places, realigned) = builder.end();
        Ok(Self { groups, places, sliced: runs_of, bytes, realigned })
    }

    /// The plan that reads these bytes to check them, in their order: that of the files, and of the bytes in each.
    pub(crate) fn of_sums(table: &Table, summed: impl IntoIterator<Item = Summed>, group_bytes: u64) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut bytes = 0;
        for summed in summed {
            bytes += summed.len;
            let fits = groups.last_mut().is_some_and(|group| group.add_sum(summed, group_bytes));
            if !fits {
                groups.push(Group::of_sum(summed, table.known_end(summed.file as usize)));
            }
        }
        Self { groups, places: Vec::new(), sliced: HashMap::new(), bytes, realigned: 0 }
    }
}

/// Of each tensor of a selection, how many bytes from its first on follow each other in the file, as far as it matters. From
/// the last one on, because a header can make each look at all that follow.
fn rests(selection: &Selection, extent: impl Fn(u32) -> Option<Run>) -> Vec<u64> {
    let mut rests = vec![0; selection.len()];
    let (mut next, mut rest) = (None, 0);
    for (nth, &index) in selection.indices.iter().enumerate().rev() {
        let Some(Run { position, len }) = extent(index) else {
            next = None;
            continue;
        };
        let behind = if next == Some(position + len) { rest } else { 0 };
        rest = (len + behind).min(PACKED_BYTES_MAX);
        rests[nth] = rest;
        next = Some(position);
    }
    rests
}

#[cfg(test)]
mod tests;
