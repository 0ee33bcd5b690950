//! How a request becomes leases: waits for what was granted to come from the drive, and finds places for new versions.

use super::entry::{Block, Memory};
use super::extents::pages;
use super::grant::{Access, Granted, Hold, Request};
use super::lease::{Own, SwapLease};
use super::planted::PlantedBug;
use super::read::slice_of;
use super::shared::Shared;
use super::space::{self, Room};
use super::version::Version;
use crate::budget::Permit;
use crate::error::{Error, Result};
use crate::order::Declared;
use crate::slice::Slice;
use deepring::{Buffer, Engine, Priority};
use std::sync::Arc;

/// Leases that read tensors, all of them at once.
pub(super) async fn read(shared: &Arc<Shared>, names: Vec<Arc<str>>) -> Result<Vec<SwapLease>> {
    let Granted { holds, .. } = Request::new(shared, names, Access::Read, Priority::Latency).granted().await?;
    let mut leases = Vec::with_capacity(holds.len());
    for hold in holds {
        leases.push(lease(hold).await?);
    }
    Ok(leases)
}

/// The lease of a tensor that is held, when it is there.
pub(super) async fn lease(mut hold: Hold) -> Result<SwapLease> {
    let (version, block) = arrived(&mut hold).await?;
    Ok(SwapLease::reading(hold, version, block))
}

/// A lease of a slice, in memory of its own: read from the drive unless the tensor is there, or on its way.
pub(super) async fn slice(shared: &Arc<Shared>, name: Arc<str>, slice: Slice) -> Result<SwapLease> {
    let Granted { mut holds, permit, runs } = Request::sliced(shared, name, slice.clone()).granted().await?;
    let mut hold = holds.swap_remove(0);
    // Returned before the hold, which wakes those who wait for memory.
    let permit = permit;
    let (Some(runs), Some(version)) = (runs, hold.version.clone()) else { return Err(gone(&hold.name)) };
    let ((buffer, start), read) = if hold.is_drive() {
        (slice_of(shared, &hold.name, &version, (&slice, &runs)).await?, runs.bytes())
    } else {
        let (_, whole) = arrived(&mut hold).await?;
        let mut buffer = shared.engine.pooled_buffer(pages(runs.bytes()) as usize)?;
        for (run, bytes) in runs.iter().zip(buffer.chunks_exact_mut(runs.len.max(1) as usize)) {
            bytes.copy_from_slice(&whole.part(version.len as usize)[run as usize..][..bytes.len()]);
        }
        ((buffer, 0), 0)
    };
    let permit = permit_of(shared, permit, &hold.name)?;
    let part = Version { shape: runs.shape.clone(), len: runs.bytes(), crc: None, ..Version::clone(&version) };
    Ok(SwapLease::sliced(hold, part, Block { bytes: buffer.freeze(), start, permit }, read))
}

/// The version that is held, when it is there.
async fn arrived(hold: &mut Hold) -> Result<(Arc<Version>, Arc<Block>)> {
    let shared = Arc::clone(&hold.shared);
    let (Some(version), Some(arrival)) = (hold.version.clone(), hold.take_arrival()) else { return Err(gone(&hold.name)) };
    let mixes = shared.has(PlantedBug::MixesVersions);
    let block = shared.until(|state| match state.entries.get(&hold.name).map(|entry| &entry.memory) {
        Some(Memory::Here(block)) if mixes => Some(Ok(Arc::clone(block))),
        _ => arrival.get(),
    });
    Ok((version, block.await?))
}

fn gone(name: &str) -> Error {
    Error::NotFound { tensor: name.to_owned() }
}

/// A lease that changes a tensor in place.
pub(super) async fn change(shared: &Arc<Shared>, name: Arc<str>, priority: Priority) -> Result<SwapLease> {
    shared.disk()?;
    let Granted { mut holds, .. } = Request::new(shared, vec![name], Access::Write, priority).granted().await?;
    let hold = holds.swap_remove(0);
    // While it is read.
    let version = hold.version.clone().ok_or_else(|| gone(&hold.name))?;
    let (next, room) = placed(shared, Version::clone(&version), Some(&version)).await?;
    let found = shared.until(|state| {
        let entry = state.entries.get_mut(&hold.name)?;
        match std::mem::take(&mut entry.memory) {
            Memory::Here(block) => {
                entry.memory = Memory::Lent;
                Some(Ok(block))
            }
            reading @ Memory::Reading(_) => {
                entry.memory = reading;
                None
            }
            other => {
                entry.memory = other;
                Some(Err(entry.read_fault.clone().unwrap_or_else(|| gone(&hold.name))))
            }
        }
    });
    let block = found.await?;
    let in_use = || Error::Argument("the memory of the tensor is in use".into());
    let Block { bytes, permit, .. } = Arc::try_unwrap(block).map_err(|_| in_use())?;
    // A ring that was lost while it wrote them can still read them: then they are copied.
    let buffer = bytes.try_thaw().or_else(|kept| copied(&shared.engine, &kept)).inspect_err(|_| {
        // The drive has them.
        shared.change(|state| state.entries.get_mut(&hold.name).map(|entry| entry.memory = Memory::Absent));
    })?;
    Ok(SwapLease::writing(hold, Own::new(buffer, permit, next, room, false)))
}

fn copied(engine: &Engine, bytes: &[u8]) -> Result<Buffer> {
    let mut buffer = engine.pooled_buffer(bytes.len())?;
    buffer.copy_from_slice(bytes);
    Ok(buffer)
}

/// The memory of a new version.
pub(super) enum Fresh {
    Zeroed,
    /// Anything: all bytes will be written.
    Unset,
    /// That of the program, with its bytes: whole pages.
    Adopted(Buffer),
}

/// A lease of a new version.
pub(super) async fn create(shared: &Arc<Shared>, declared: &Declared, memory: Fresh) -> Result<SwapLease> {
    shared.disk()?;
    let len = declared.bytes()?;
    let name: Arc<str> = Arc::from(declared.name.as_str());
    let request = Request::new(shared, vec![name], Access::Create(len), Priority::Latency);
    let Granted { mut holds, permit, .. } = request.granted().await?;
    let hold = holds.swap_remove(0);
    // Returned before the hold, which wakes those who wait for memory.
    let permit = permit;
    let version = Version { dtype: Some(declared.dtype), shape: declared.shape.clone(), len, position: 0, crc: None };
    let is_zeroed = matches!(memory, Fresh::Zeroed);
    let mut buffer = match memory {
        Fresh::Adopted(buffer) => buffer,
        Fresh::Zeroed | Fresh::Unset => shared.engine.pooled_buffer(pages(len) as usize)?,
    };
    // Old bytes of the process do not reach the file.
    buffer[if is_zeroed { 0 } else { len as usize }..].fill(0);
    let (next, room) = placed(shared, version, hold.version.as_ref()).await?;
    let permit = permit_of(shared, permit.filter(|_| !shared.has(PlantedBug::ForgetsMemory)), &hold.name)?;
    Ok(SwapLease::writing(hold, Own::new(buffer, permit, next, room, true)))
}

/// What has no bytes has a permit of none.
fn permit_of(shared: &Shared, permit: Option<Permit>, name: &str) -> Result<Permit> {
    permit.or_else(|| shared.lock().budget.take(0)).ok_or_else(|| gone(name))
}

/// The version with a place: that of `base` if it is written in place, else room that is taken for it.
async fn placed(shared: &Arc<Shared>, version: Version, base: Option<&Arc<Version>>) -> Result<(Version, Option<Room>)> {
    let is_durable = shared.lock().is_durable();
    if let Some(base) = base.filter(|base| !is_durable && base.bytes() == version.bytes()) {
        return Ok((Version { position: base.position, ..version }, None));
    }
    let room = space::reserve(shared, version.bytes()).await?;
    Ok((Version { position: room.start(), ..version }, Some(room)))
}
