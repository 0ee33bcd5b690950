//! [`SwapLease`]: a tensor in memory, for as long as it is used.

use super::entry::{Block, Memory};
use super::grant::Hold;
use super::lent::Lent;
use super::planted::PlantedBug;
use super::shared::Shared;
use super::space::Room;
use super::version::Version;
use crate::budget::Permit;
use crate::convert::convert_into;
use crate::dtype::DType;
use crate::error::{Error, Result};
use deepring::binding::MemoryLease;
use deepring::{Buffer, IoBuf};
use std::fmt;
use std::sync::Arc;

/// Bytes that are converted at once: they stay in the cache. A multiple of all elements.
const CONVERTED_BYTES: usize = 256 << 10;

/// A tensor of a [store](super::SwapStore) in memory, or a slice of one. It counts against the budget until it is closed or dropped, and it stays as
/// it is meanwhile: a new version that comes in between is another one.
pub struct SwapLease {
    hold: Hold,
    version: Arc<Version>,
    /// `None` once it is closed.
    memory: Option<Leased>,
}

enum Leased {
    Shared(Arc<Block>),
    /// A slice has its memory for itself.
    Slice(Block),
    Own(Own),
}

/// Memory that a lease can change.
pub(super) struct Own {
    buffer: Buffer,
    permit: Permit,
    /// What is written when it is closed: it has a place for that.
    next: Version,
    /// What was taken for this place.
    room: Option<Room>,
    /// What was lent to be changed.
    touched: bool,
    /// It is a new version: before it is closed, nobody else knows of it.
    is_new: bool,
}

impl Own {
    pub(super) fn new(buffer: Buffer, permit: Permit, next: Version, room: Option<Room>, is_new: bool) -> Self {
        Self { buffer, permit, next, room, touched: is_new, is_new }
    }
}

impl SwapLease {
    pub(super) fn reading(hold: Hold, version: Arc<Version>, block: Arc<Block>) -> Self {
        Self { hold, version, memory: Some(Leased::Shared(block)) }
    }

    /// A lease of a slice, which is this version to it. `read`: bytes that came from the drive. Its tensor is free from here on.
    pub(super) fn sliced(mut hold: Hold, version: Version, block: Block, read: u64) -> Self {
        let shared = Arc::clone(&hold.shared);
        shared.change(|state| {
            state.sliced_bytes += block.permit.bytes();
            state.stats.read += read;
            hold.end(state);
        });
        Self { hold, version: Arc::new(version), memory: Some(Leased::Slice(block)) }
    }

    /// A lease that can change its bytes: those of the newest version, or of a new one.
    pub(super) fn writing(hold: Hold, own: Own) -> Self {
        let version = Arc::new(own.next.clone());
        Self { hold, version, memory: Some(Leased::Own(own)) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.hold.name
    }

    /// Its element type. `None` if this crate does not know it: then the tensor is bytes.
    pub fn dtype(&self) -> Option<DType> {
        self.version.dtype
    }

    /// Its extents, outermost first; of a slice, those of the slice.
    pub fn shape(&self) -> &[u64] {
        &self.version.shape
    }

    /// Its elements, row by row, little-endian. They begin at an address that suits their type.
    pub fn bytes(&self) -> &[u8] {
        let len = self.version.len as usize;
        match &self.memory {
            Some(Leased::Shared(block)) => block.part(len),
            Some(Leased::Slice(block)) => block.part(len),
            Some(Leased::Own(own)) => &own.buffer[..len],
            None => &[],
        }
    }

    /// The same, to be changed. What is changed is [written](Self::close) or forgotten.
    ///
    /// # Errors
    /// [`Error::Argument`] if the lease only reads.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        match &mut self.memory {
            Some(Leased::Own(own)) => {
                own.touched = true;
                Ok(&mut own.buffer[..self.version.len as usize])
            }
            _ => Err(reads()),
        }
    }

    /// Its memory, to be lent to another runtime. What can be changed counts as changed from then on.
    pub(crate) fn lend(&mut self) -> Option<Lent> {
        let len = self.version.len as usize;
        let lent = |block: &Block| {
            let address = block.part(len).as_ptr() as u64;
            Lent { memory: MemoryLease::of_shared(&block.bytes), address, len }
        };
        match self.memory.as_mut()? {
            Leased::Shared(block) => Some(lent(block)),
            Leased::Slice(block) => Some(lent(block)),
            Leased::Own(own) => {
                own.touched = true;
                Some(Lent::of(&mut own.buffer, len))
            }
        }
    }

    /// Copies all of its bytes from elsewhere.
    pub(super) fn fill(&mut self, data: &impl IoBuf) {
        if let Some(Leased::Own(own)) = &mut self.memory {
            own.buffer.copy_from(0, data, 0..data.len());
        }
    }

    /// Converts all of its elements from others, which are elsewhere. Blocks.
    pub(super) fn convert(&mut self, from: DType, data: &impl IoBuf) -> Result<()> {
        let (Some(Leased::Own(own)), Some(to)) = (&mut self.memory, self.version.dtype) else { return Ok(()) };
        let mut source = self.hold.shared.engine.pooled_buffer(CONVERTED_BYTES.min(data.len()))?;
        // Types that are converted have whole bytes.
        let at = |byte: usize| byte / (from.bits() as usize / 8) * (to.bits() as usize / 8);
        for start in (0..data.len()).step_by(CONVERTED_BYTES) {
            let end = data.len().min(start + CONVERTED_BYTES);
            source.copy_from(0, data, start..end);
            convert_into(from, &source[..end - start], to, &mut own.buffer[at(start)..at(end)])?;
        }
        Ok(())
    }

    /// Ends the lease. With `write`, its bytes are the newest version from now on, and go to the drive behind the program; without
    /// it, what was changed is forgotten. A lease that is dropped ends without.
    ///
    /// # Errors
    /// [`Error::Argument`] if the lease only reads and `write` was asked for, or the store was closed meanwhile. The error of an
    /// earlier write of the tensor, which was not reported yet: this version is accepted all the same.
    pub fn close(self, write: bool) -> Result<()> {
        if write { self.accept(true, false) } else { Ok(()) }
    }

    /// Ends the lease with a write. `reports`: and fails with the error of an earlier one, which is left to the next call otherwise.
    /// `pins`: and keeps the version in memory.
    pub(super) fn accept(mut self, reports: bool, pins: bool) -> Result<()> {
        if matches!(self.memory, Some(Leased::Shared(_) | Leased::Slice(_))) {
            return Err(reads());
        }
        let (shared, hold, memory) = (Arc::clone(&self.hold.shared), &mut self.hold, &mut self.memory);
        shared.change(|state| {
            state.check_open()?;
            let Some(Leased::Own(Own { buffer, permit, next, room, .. })) = memory.take() else { return Err(reads()) };
            room.map(Room::keep);
            state.accept(&hold.name, next, Block { bytes: buffer.freeze(), start: 0, permit });
            if pins {
                state.pin(&hold.name);
            }
            let fault = if reports { state.faults.remove(&hold.name) } else { None };
            hold.end(state);
            fault.map_or(Ok(()), Err)
        })
    }
}

/// The error of a lease that cannot change anything.
fn reads() -> Error {
    Error::Argument("the lease only reads".into())
}

impl Drop for SwapLease {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.hold.shared);
        match self.memory.take() {
            Some(Leased::Own(own)) => give_back(&shared, &mut self.hold, own),
            // Before the entry is free: its memory must be its alone then.
            Some(Leased::Shared(block)) => drop(block),
            Some(Leased::Slice(block)) => {
                let bytes = block.permit.bytes();
                drop(block);
                shared.change(|state| state.sliced_bytes -= bytes);
            }
            None => {}
        }
    }
}

/// Forgets what a lease has changed.
fn give_back(shared: &Arc<Shared>, hold: &mut Hold, own: Own) {
    let Own { buffer, permit, room, touched, is_new, .. } = own;
    drop(room);
    let keeps = shared.has(PlantedBug::KeepsForgotten);
    shared.change(|state| {
        if let (false, Some(entry)) = (is_new, state.entries.get_mut(&hold.name)) {
            let block = Block { bytes: buffer.freeze(), start: 0, permit };
            entry.memory = if touched && !keeps { Memory::Absent } else { Memory::Here(Arc::new(block)) };
        }
        hold.end(state);
    });
}

impl fmt::Debug for SwapLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = self.version.dtype.map_or("bytes", DType::name);
        write!(f, "SwapLease({:?}, {dtype} {:?})", self.name(), self.version.shape)
    }
}
