//! Reads of tensors into memory of the store.

use super::entry::{Block, Memory};
use super::extents::pages;
use super::shared::{Disk, Place, Shared};
use super::version::Version;
use crate::budget::Permit;
use crate::error::{Error, Result};
use crate::load::check;
use crate::plan::{GAP_BYTES, PIECES_MAX, Plan, Rules, SPARSE_BYTES_MAX};
use crate::slice::{Runs, Slice};
use crate::table::Selection;
use crate::tensors::Tensors;
use deepring::{Buffer, Engine, ErrorKind, IoBufMut, ManyOptions, Piece, Priority, ReadOptions};
use std::collections::HashMap;
use std::sync::Arc;

/// Reads a tensor that was absent, and reports how that ended.
pub(super) async fn read(shared: Arc<Shared>, name: Arc<str>, version: Arc<Version>, permit: Permit, priority: Priority) {
    let read = match &shared.place {
        Place::Own(disk) => own(&shared.engine, disk, &name, &version, priority).await.map(|buffer| (buffer, 0)),
        Place::Table(tensors) => of_table(tensors, &name, None, priority).await,
    };
    shared.end(|state| {
        if priority == Priority::Background {
            state.ahead -= 1;
        }
        state.stats.read += version.bytes();
        if read.is_err() {
            state.end_guess(&name);
        }
        let Some(entry) = state.entries.get_mut(&name) else { return };
        let read = read.map(|(buffer, start)| Arc::new(Block { bytes: buffer.freeze(), start, permit }));
        let here = read.clone().map_or_else(
            |error| {
                entry.read_fault = Some(error);
                Memory::Absent
            },
            Memory::Here,
        );
        if let Memory::Reading(arrival) = std::mem::replace(&mut entry.memory, here) {
            arrival.end(read);
        }
        state.rank(&name);
    });
}

/// Reads a version of the store's own file, in whole pages.
pub(super) async fn own(engine: &Engine, disk: &Disk, name: &str, version: &Version, priority: Priority) -> Result<Buffer> {
    let buffer = engine.pooled_buffer(version.bytes() as usize)?;
    let options = ReadOptions::new().exact(true).priority(priority);
    let options = version.crc.into_iter().fold(options, ReadOptions::expect);
    let read = disk.file.read_with(buffer, version.position, options).await.ok();
    Ok(read.map_err(|error| read_error(error, disk, name))?.0)
}

/// The error of a read for the bytes of a tensor.
fn read_error(error: deepring::Error, disk: &Disk, name: &str) -> Error {
    match error.kind() {
        ErrorKind::Checksum { expected, actual } => {
            let position = error.position().unwrap_or(0);
            Error::Checksum { tensor: name.to_owned(), path: disk.file.path().to_owned(), position, expected, actual }
        }
        _ => Error::io(error, Some(name)),
    }
}

/// Reads a tensor of a model, or a slice of one.
async fn of_table(tensors: &Tensors, name: &str, slice: Option<Slice>, priority: Priority) -> Result<(Buffer, usize)> {
    let index = tensors.table().index_of(name)?;
    let selection = Selection { indices: vec![index as u32], bytes: tensors.table().columns.lens[index] };
    let sums = tensors.sums(None);
    let slices: HashMap<u32, Slice> = slice.map(|slice| (index as u32, slice)).into_iter().collect();
    let plan = Arc::new(Plan::new(tensors.table(), &selection, &slices, Rules::new(u64::MAX, sums))?);
    let read = crate::read::start_with(tensors, &plan, 0, sums.is_some(), Some(priority)).await?;
    if sums.is_some() {
        check(tensors, &plan, 0, &read.checksums)?;
    }
    Ok((read.memory, plan.places[0].offset as usize))
}

/// Reads a version of the store's own file into memory of the caller.
pub(super) async fn read_into<B: IoBufMut>(disk: &Disk, name: &str, version: &Version, buf: B) -> Result<B> {
    let position = version.position;
    let options = ReadOptions::new().exact(true).priority(Priority::Latency).checksum(version.crc.is_some());
    let (buf, receipt) = disk.file.read_with(buf, position, options).await.ok().map_err(|error| read_error(error, disk, name))?;
    let Some(expected) = version.crc else { return Ok(buf) };
    // That of all pages, whose rest is zeros.
    let rest = vec![0; (version.bytes() - version.len) as usize];
    let actual = deepring::crc32c_append(receipt.checksum.unwrap_or(0), &rest);
    if actual != expected {
        return Err(Error::Checksum { tensor: name.to_owned(), path: disk.file.path().to_owned(), position, expected, actual });
    }
    Ok(buf)
}

/// Reads the runs of a slice alone, one behind the other. Returns where they begin in the memory.
pub(super) async fn slice_of(shared: &Shared, name: &str, version: &Version, (slice, runs): (&Slice, &Runs)) -> Result<(Buffer, usize)> {
    let disk = match &shared.place {
        Place::Own(disk) => disk,
        Place::Table(tensors) => return of_table(tensors, name, Some(slice.clone()), Priority::Latency).await,
    };
    let mut buffer = shared.engine.pooled_buffer(pages(runs.bytes()) as usize)?;
    let gap = if runs.len < SPARSE_BYTES_MAX { GAP_BYTES } else { 0 };
    let mut first = 0;
    while first < runs.count() {
        let piece = |(nth, run): (usize, u64)| Piece::new(version.position + run, nth * runs.len as usize, runs.len as usize);
        let pieces: Vec<Piece> = runs.iter().enumerate().skip(first as usize).take(PIECES_MAX).map(piece).collect();
        let options = ManyOptions::new().exact(true).gap(gap).priority(Priority::Latency);
        let read = disk.file.read_scatter_with(buffer, &pieces, options).await.ok();
        buffer = read.map_err(|error| read_error(error, disk, name))?.0.buf;
        first += pieces.len() as u64;
    }
    Ok((buffer, 0))
}
