//! What a store says of itself.

use crate::dtype::DType;

/// Where the newest version of a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwapState {
    /// On the drive alone.
    Stored,
    /// On its way into memory.
    Reading,
    /// In memory, and on the drive.
    Resident,
    /// In memory, and not on the drive yet.
    Dirty,
    /// In memory, and on its way to the drive.
    Writing,
    /// In memory, as long as a lease of it lasts.
    Leased,
}

/// What a store says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SwapInfo {
    /// Its element type. `None` if this crate does not know it: then the tensor is bytes.
    pub dtype: Option<DType>,
    /// Its extents, outermost first.
    pub shape: Vec<u64>,
    /// How many bytes it has.
    pub len: u64,
    /// Where its newest version is.
    pub state: SwapState,
}

/// What a store has done, and what it has in memory. All are bytes unless it is said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SwapStats {
    /// The budget.
    pub memory: u64,
    /// Of it, what is taken: the sum of the four that follow, and of memory for what is on its way in or out.
    pub used: u64,
    /// In memory and on the drive, and free to go.
    pub resident: u64,
    /// Being read.
    pub reading: u64,
    /// Not on the drive yet.
    pub dirty: u64,
    /// Kept by leases, of slices too, and pins.
    pub leased: u64,
    /// The largest sum that there was.
    pub used_max: u64,
    /// Of the file.
    pub capacity: u64,
    /// Of it, what tensors have.
    pub stored: u64,
    /// Taken over from the program without a copy.
    pub adopted: u64,
    /// Read from the drive.
    pub read: u64,
    /// Written to the drive.
    pub written: u64,
    /// How many tensors were written together with a neighbor.
    pub joined: u64,
    /// How many gets found their tensor in memory.
    pub hits: u64,
    /// How many gets waited for the drive.
    pub misses: u64,
    /// How many tensors were read ahead.
    pub prefetched: u64,
    /// How many of these were asked for afterwards.
    pub prefetch_hits: u64,
    /// How many guesses were dropped before their read began.
    pub expired: u64,
    /// How many tensors were dropped from memory to make room.
    pub evicted: u64,
}
