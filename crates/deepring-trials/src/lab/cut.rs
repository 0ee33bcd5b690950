//! What a power cut does to unflushed writes. Drives lose them in different ways, and the lab
//! chooses one by seed.
//!
//! The surviving writes are applied in the order in which the drive took them. Writes with FUA
//! always survive.

use super::cache::Unflushed;
use crate::harness::Rng;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A way to lose unflushed writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// Each write or not, at random: a cache that writes back in any order.
    Subset,
    /// As [`Loss::Subset`], and of one write only the part up to a sector, or from a sector on,
    /// survives.
    Torn,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Everything, Self::Subset, Self::Torn];
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Everything => "everything",
            Self::Subset => "subset",
            Self::Torn => "torn",
        })
    }
}

/// What a cut did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Unflushed writes.
    pub unflushed: usize,
    /// Their bytes.
    pub unflushed_bytes: u64,
    /// Those that survived whole.
    pub kept: usize,
    /// Whether one was torn.
    pub torn: bool,
}

/// What survives of each write, as ranges of its bytes. The same writes, way and seed give the same
/// ranges. A write is torn at a multiple of what the drive writes whole or not at all at that
/// offset.
pub fn survivors(writes: &[Unflushed], loss: Loss, seed: u64, unit_bytes: impl Fn(u64) -> u64) -> Vec<Range<usize>> {
    let mut rng = Rng::seeded(seed);
    // Not always half: some drives lose nearly nothing, some nearly everything.
    let keep_percent = *rng.pick(&[5, 25, 50, 75, 95]);
    let mut ranges: Vec<_> = (writes.iter())
        .map(|write| {
            let keep = loss != Loss::Everything && rng.below(100) < keep_percent;
            0..if keep || write.forced { write.data.len() } else { 0 }
        })
        .collect();
    if loss == Loss::Torn {
        let units = |index: usize| writes[index].data.len() as u64 / unit_bytes(writes[index].offset);
        let tearable: Vec<_> = (0..writes.len()).filter(|&index| !writes[index].forced && units(index) > 1).collect();
        if !tearable.is_empty() {
            let index = *rng.pick(&tearable);
            let cut = ((1 + rng.below(units(index) - 1)) * unit_bytes(writes[index].offset)) as usize;
            ranges[index] = if rng.once_in(2) { 0..cut } else { cut..writes[index].data.len() };
        }
    }
    ranges
}

/// Makes the image what the drive holds after the cut, and empties the journal.
///
/// # Errors
/// Those of the files.
pub fn settle(image: &Path, journal: &Path, loss: Loss, seed: u64, unit_bytes: impl Fn(u64) -> u64) -> io::Result<Damage> {
    let writes = super::cache::unflushed(journal)?;
    let file = OpenOptions::new().write(true).open(image)?;
    let mut damage = Damage { unflushed: writes.len(), ..Damage::default() };
    for (write, range) in writes.iter().zip(survivors(&writes, loss, seed, unit_bytes)) {
        file.write_all_at(&write.data[range.clone()], write.offset + range.start as u64)?;
        damage.unflushed_bytes += write.data.len() as u64;
        damage.kept += usize::from(range.len() == write.data.len());
        damage.torn |= !range.is_empty() && range.len() < write.data.len();
    }
    File::create(journal)?;
    Ok(damage)
}
