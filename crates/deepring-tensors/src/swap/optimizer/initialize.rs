//! Parts that get their first bytes: from memory of the program, or from tensors in files.

use super::coverage::Coverage;
use super::geometry::Slot;
use super::shared::{Claim, Shared};
use crate::convert::{convert_into, converts, unit};
use crate::dtype::DType;
use crate::error::{Error, Result, quoted};
use crate::slice::Slice;
use crate::tensor::Tensor;
use crate::tensors::Tensors;
use deepring::{Buffer, IoBuf};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// Bytes of a tensor that are read, converted and written at once: several blocks of the drive.
const CHUNK_BYTES: u64 = 32 << 20;

/// Chunks of a part that the budget has room for, so that some are read while others are written.
const CHUNKS_MIN: u64 = 4;

/// A group whose parts are being written. If it ends before all of them are, the group cannot be used.
struct Unfinished {
    claim: Claim,
    group: usize,
    is_done: bool,
}

impl Unfinished {
    async fn begin(shared: &Arc<Shared>, group: usize, parts: &[usize]) -> Result<Self> {
        let claim = shared.claim(vec![group])?;
        let before = shared.settled(group).await;
        if parts.len() < shared.groups[group].kept() {
            before?;
        }
        shared.mark().await?;
        let own = &mut shared.lock().groups[group];
        if own.failed.take().is_some() {
            // It can be the gradient that could not be written.
            (own.come, own.blocks) = (Coverage::default(), std::collections::BTreeMap::new());
        }
        Ok(Self { claim, group, is_done: false })
    }

    /// All writes have ended well: the parts are in these slots.
    fn end(mut self, slots: &[(usize, Slot)]) {
        let shared = &self.claim.shared;
        let own = &mut shared.lock().groups[self.group];
        if let Some(resident) = &mut own.resident {
            resident.is_dirty = true;
        } else {
            for (part, slot) in slots {
                own.now[*part] = Some(*slot);
            }
        }
        self.is_done = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            let name = quoted(self.claim.shared.name(self.group));
            let error = Error::Argument(format!("group {name} was initialized in part only: initialize all of its parts"));
            self.claim.shared.lock().groups[self.group].failed.get_or_insert(error);
        }
    }
}

/// The indices of parts that are kept, each once.
pub(super) fn kept<'n>(shared: &Shared, group: usize, names: impl Iterator<Item = &'n str>) -> Result<Vec<usize>> {
    let geometry = &shared.groups[group];
    let mut parts = Vec::new();
    for name in names {
        let part = geometry.part(name)?;
        if part >= geometry.kept() {
            return Err(Error::Argument(format!("a gradient is put, and not initialized, group {}", quoted(shared.name(group)))));
        }
        if parts.contains(&part) {
            return Err(Error::Argument(format!("the part {} is there twice, group {}", quoted(name), quoted(shared.name(group)))));
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Writes parts from memory of the program, which is returned in its order.
pub(super) async fn from_memory<B: IoBuf>(shared: Arc<Shared>, group: usize, parts: Vec<(String, B)>) -> Result<Vec<B>> {
    let which = kept(&shared, group, parts.iter().map(|(name, _)| name.as_str()))?;
    let geometry = &shared.groups[group];
    for (part, (name, data)) in which.iter().zip(&parts) {
        let len = geometry.lens[*part];
        if data.len() as u64 != len {
            let (name, group) = (quoted(name), quoted(shared.name(group)));
            return Err(Error::Argument(format!("the part {name} has {len} bytes, and {} were given, group {group}", data.len())));
        }
    }
    let unfinished = Unfinished::begin(&shared, group, &which).await?;
    let slots: Vec<(usize, Slot)> = {
        let state = shared.lock();
        which.iter().map(|part| (*part, shared.target(&state, group, *part))).collect()
    };
    let resident = shared.lock().groups[group].resident.as_ref().map(|resident| Arc::clone(&resident.parts));
    let mut returned = Vec::with_capacity(parts.len());
    if let Some(resident) = resident {
        let mut resident = resident.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, (_, data)) in which.iter().zip(parts) {
            resident[*part].copy_from(0, &data, 0..data.len());
            returned.push(data);
        }
    } else {
        let begun = std::time::Instant::now();
        let write = |((part, slot), (_, data)): (&(usize, Slot), (String, B))| shared.data.write_at(data, geometry.position(*part, *slot));
        let ops: Vec<_> = slots.iter().zip(parts).map(write).collect();
        for op in ops {
            match op.await.ok() {
                Ok((data, receipt)) => {
                    shared.lock().wrote(begun, &receipt);
                    returned.push(data);
                }
                Err(error) => return Err(shared.fail(&mut shared.lock(), group, error)),
            }
        }
    }
    unfinished.end(&slots);
    Ok(returned)
}

/// Writes parts from tensors, a chunk at a time.
pub(super) async fn from_tensors(
    shared: Arc<Shared>,
    group: usize,
    source: Tensors,
    parts: Vec<(String, String)>,
    convert: bool,
) -> Result<()> {
    let which = kept(&shared, group, parts.iter().map(|(name, _)| name.as_str()))?;
    let mut froms = Vec::with_capacity(parts.len());
    for (_, tensor) in &parts {
        froms.push(Origin::new(&shared, group, &source, tensor, convert)?);
    }
    let unfinished = Unfinished::begin(&shared, group, &which).await?;
    let mut slots = Vec::with_capacity(which.len());
    for (part, from) in which.into_iter().zip(froms) {
        let slot = shared.target(&shared.lock(), group, part);
        slots.push((part, slot));
        for rows in from.chunks(shared.budget.limit()) {
            copy(&shared, group, part, slot, &source, &from, rows).await?;
        }
    }
    shared.settled(group).await?;
    unfinished.end(&slots);
    Ok(())
}

/// A tensor that a part is made of.
struct Origin {
    name: String,
    dtype: DType,
    to: DType,
    shape: Vec<u64>,
    /// Elements of one index of its first dimension.
    row: u64,
}

impl Origin {
    fn new(shared: &Shared, group: usize, source: &Tensors, name: &str, convert: bool) -> Result<Self> {
        let to = &shared.groups[group].group;
        let info = source.table().info(source.table().index_of(name)?);
        let wrong = |what: String| Error::Argument(format!("{what}, tensor {}, group {}", quoted(name), quoted(&to.name)));
        let numel = info.shape.iter().try_fold(1u64, |numel, extent| numel.checked_mul(*extent));
        if numel != Some(to.numel) {
            return Err(wrong(format!("a shape of {:?} has not {} elements", info.shape, to.numel)));
        }
        let dtype = info.dtype.filter(|dtype| if convert { converts(*dtype, to.dtype) } else { *dtype == to.dtype });
        let dtype = dtype.ok_or_else(|| wrong(format!("{} is not {}, and is not converted", info.dtype_name, to.dtype)))?;
        let row = info.shape.iter().skip(1).product();
        Ok(Self { name: name.to_owned(), dtype, to: to.dtype, shape: info.shape, row })
    }

    /// Ranges of the first dimension: as many elements as the budget has room for, or one index.
    fn chunks(&self, budget: u64) -> Vec<Range<u64>> {
        let rows = self.shape.first().copied().unwrap_or(1);
        if self.row == 0 || rows == 0 {
            return Vec::new();
        }
        let bits = u64::from(self.dtype.bits() + self.to.bits());
        let elements = (budget / CHUNKS_MIN).min(CHUNK_BYTES) * 8 / bits;
        // Chunks begin with a page of the file if they can, and never inside of a byte.
        let whole = [4096 * 8, unit(self.to).elements as u64].into_iter().find(|whole| elements >= *whole * self.row).unwrap_or(1);
        let step = (elements / self.row / whole * whole).max(unit(self.to).elements as u64);
        (0..rows).step_by(step as usize).map(|start| start..rows.min(start + step)).collect()
    }
}

/// Reads, converts and writes rows of a tensor. The write is not waited for.
async fn copy(
    shared: &Arc<Shared>,
    group: usize,
    part: usize,
    slot: Slot,
    source: &Tensors,
    from: &Origin,
    rows: Range<u64>,
) -> Result<()> {
    let elements = (rows.end - rows.start) * from.row;
    let bytes = |dtype: DType, elements| dtype.bytes_of(elements).ok_or_else(|| Error::Argument("a row ends inside of a byte".into()));
    let (read, written) = (bytes(from.dtype, elements)?, bytes(from.to, elements)?);
    let start = bytes(from.to, rows.start * from.row)?;
    let loan = shared.loan(read + written, group).await?;
    let slice = (!from.shape.is_empty()).then(|| Slice::new([Some(rows)]));
    let tensor: Tensor = source.tensor(&from.name, slice).await?;
    let mut memory = shared.engine.pooled_buffer(written as usize)?;
    let (dtype, to) = (from.dtype, from.to);
    let converting = move || convert_into(dtype, tensor.bytes(), to, &mut memory).map(|()| memory);
    let memory: Buffer = shared.engine.run_blocking(converting).await??;
    let mut state = shared.lock();
    let resident = state.groups[group].resident.as_ref().map(|resident| Arc::clone(&resident.parts));
    if let Some(resident) = resident {
        let mut resident = resident.lock().unwrap_or_else(PoisonError::into_inner);
        resident[part][start as usize..(start + written) as usize].copy_from_slice(&memory);
        return Ok(());
    }
    let position = shared.groups[group].position(part, slot) + start;
    let permit = loan.into_permit(&mut state);
    state.write(group, vec![shared.data.write_at(memory, position)], permit);
    Ok(())
}
