//! Bugs planted between the script and the engine, each of which a trial must catch.

use super::model::Model;

/// A planted bug. The engine is given a request that differs from the script, so the outcome is as
/// wrong as if the engine had made the mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A few bytes in the middle of a write stay as they were.
    DropsRange,
    /// A write goes to the sector after the one it was meant for.
    MisplacesBySector,
    /// A file that a write extended ends a byte too early.
    TrimsByte,
    /// A write reported as done has not happened.
    SwallowsWrite,
    /// The first byte of a write to a reopened file stays as it was.
    LosesEdgeAfterReopen,
    /// A read reported as complete has a wrong last byte.
    ReadsWrong,
}

const SECTOR_BYTES: u64 = 512;

/// Shorter writes are left alone: there must be something to damage.
pub(crate) const LEN_MIN: u64 = 64;

impl PlantedBug {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::DropsRange, Self::MisplacesBySector, Self::TrimsByte, Self::SwallowsWrite, Self::LosesEdgeAfterReopen, Self::ReadsWrong];

    /// Changes a write of `content` at `position` into what a broken engine would do. Returns the
    /// position to write to.
    pub(crate) fn spoil(self, content: &mut [u8], position: u64, model: &Model) -> u64 {
        let len = content.len();
        let before = model.piece(position, len);
        match self {
            Self::DropsRange => content[len / 2..len / 2 + 3].copy_from_slice(&before[len / 2..len / 2 + 3]),
            Self::SwallowsWrite => content.copy_from_slice(&before),
            Self::MisplacesBySector => return position + SECTOR_BYTES,
            Self::LosesEdgeAfterReopen => content[0] = before[0],
            Self::TrimsByte | Self::ReadsWrong => {}
        }
        position
    }
}
