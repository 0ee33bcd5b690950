//! What one operation can have done, given the file before its batch and the operations that ran
//! beside it.

use super::batch::Batch;
use super::content;
use super::model::Model;
use super::script::{Patience, Range};
use deepring::{Error, ErrorKind, FileStat, Receipt, Result};

/// A violated promise, in words.
pub(crate) type Verdict<T> = std::result::Result<T, String>;

/// Bytes that a canceled write may or may not have written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uncertain {
    pub(crate) generation: u32,
    pub(crate) range: Range,
}

fn is_canceled(error: &Error, patience: Patience) -> bool {
    patience != Patience::Waits && error.kind() == ErrorKind::Canceled
}

/// How many bytes of a write are certain, counted from its start.
pub(crate) fn written(range: Range, patience: Patience, result: &Result<Receipt>) -> Verdict<u64> {
    match result {
        Ok(receipt) if receipt.bytes == range.len => Ok(range.len),
        Ok(receipt) => Err(format!("is reported as done with {} of {} bytes", receipt.bytes, range.len)),
        Err(error) if is_canceled(error, patience) && error.transferred() <= range.len => Ok(error.transferred()),
        Err(error) => Err(format!("failed: {error}")),
    }
}

/// Judges a read that ran in `batch`.
pub(crate) fn read(
    model: &Model,
    batch: &Batch,
    range: Range,
    exact: bool,
    patience: Patience,
    (found, result): (&[u8], &Result<Receipt>),
) -> Verdict<()> {
    let (least, largest) = batch.sizes(model.size());
    let there = |size: u64| size.saturating_sub(range.position).min(range.len);
    let (at_least, at_most) = (there(least), there(largest));
    let (bytes, complete) = match result {
        Ok(receipt) if exact && receipt.bytes < range.len => {
            return Err(format!("is exact and was reported as done with {} of {} bytes", receipt.bytes, range.len));
        }
        Ok(receipt) => (receipt.bytes, true),
        Err(error) if error.kind() == ErrorKind::Eof && exact && error.transferred() < range.len => {
            if (error.position(), error.requested()) != (Some(range.position), range.len) {
                return Err(format!("failed with an error about another range: {error}"));
            }
            (error.transferred(), true)
        }
        Err(error) if is_canceled(error, patience) => (error.transferred(), false),
        Err(error) => return Err(format!("failed: {error}")),
    };
    if bytes > at_most || complete && bytes < at_least {
        return Err(format!("got {bytes} bytes, where the file has {at_least} to {at_most}"));
    }
    let got = &found[..bytes as usize];
    if got == model.there(Range { len: bytes, ..range }) {
        return Ok(());
    }
    // Where a write was in flight, new bytes are as good as old ones.
    let mut expected = model.piece(range.position, got.len());
    for (number, write) in batch.writes().filter(|(_, write)| write.overlaps(range)) {
        let start = write.position.max(range.position);
        let end = write.end().min(range.position + bytes);
        if start >= end {
            continue;
        }
        let new = content::bytes(start, (end - start) as usize, number as u32);
        let at = (start - range.position) as usize;
        for (index, &byte) in new.iter().enumerate() {
            if got[at + index] == byte {
                expected[at + index] = byte;
            }
        }
    }
    if got == expected {
        return Ok(());
    }
    Err(model.describe(got, &expected, range.position))
}

/// Judges the size that a `stat` returned.
pub(crate) fn stat(model: &Model, batch: &Batch, result: &Result<FileStat>) -> Verdict<()> {
    let (least, largest) = batch.sizes(model.size());
    match result {
        Ok(stat) if (least..=largest).contains(&stat.size) => Ok(()),
        Ok(stat) => Err(format!("returned a size of {}, where it is {least} to {largest}", stat.size)),
        Err(error) => Err(format!("failed: {error}")),
    }
}
