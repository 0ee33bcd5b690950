//! Transfers that the client makes in many ranges: their range of the file is cut at random, and the parts lie in another
//! order in memory. So they are judged as any transfer, once the parts are in their order again.

use super::prng::Prng;
use super::world::violate;
use crate::error::Error;
use crate::many::{Piece, Ranges};
use crate::pieces::Segment;

/// The ranges of one transfer.
pub(crate) struct Split {
    /// As they are passed to the engine.
    pub(crate) parts: Vec<Piece>,
    start: u64,
    pub(crate) ranges: Ranges,
}

impl Split {
    /// Cuts a range of `len` bytes.
    pub(crate) fn draw(rng: &mut Prng, start: u64, len: usize, exact: bool) -> Self {
        let mut cuts: Vec<usize> = (0..rng.between(1, 12)).map(|_| rng.index(len + 1)).collect();
        if rng.one_in(3) {
            for cut in &mut cuts {
                *cut -= *cut % 512;
            }
        }
        cuts.extend([0, len]);
        cuts.sort_unstable();
        let mut parts: Vec<_> = cuts.windows(2).map(|cut| Piece::new(start + cut[0] as u64, 0, cut[1] - cut[0])).collect();
        shuffle(rng, &mut parts);
        let mut next = 0;
        for part in &mut parts {
            part.offset = next;
            next += part.len;
        }
        shuffle(rng, &mut parts);
        Self { parts, start, ranges: Ranges::new(exact) }
    }

    pub(crate) fn segments(&self, address: u64) -> Vec<Segment> {
        self.parts.iter().map(|part| Segment::new(part.position, part.len as u64, address + part.offset as u64)).collect()
    }

    /// The bytes in the order in which they are in the file, from those in memory.
    pub(crate) fn in_order(&self, memory: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; memory.len()];
        for part in &self.parts {
            let at = (part.position - self.start) as usize;
            bytes[at..at + part.len].copy_from_slice(&memory[part.offset..part.offset + part.len]);
        }
        bytes
    }

    /// Brings bytes that are in the order of the file into that of memory.
    pub(crate) fn scatter(&self, memory: &mut [u8]) {
        let bytes = memory.to_vec();
        for part in &self.parts {
            let at = (part.position - self.start) as usize;
            memory[part.offset..part.offset + part.len].copy_from_slice(&bytes[at..at + part.len]);
        }
    }

    /// The error of a range names that, and where it is.
    pub(crate) fn judge_error(&self, id: u64, error: &Error) {
        let Some(index) = error.index() else { return };
        let named = self.parts.get(index as usize).map(|part| (Some(part.position), part.len as u64));
        if named != Some((error.position(), error.requested())) || error.transferred() >= error.requested() {
            violate(format!("request {id} failed with another range than it names: {error}"));
        }
    }

    /// The counts add up to what the request reports, and follow one another in the file.
    pub(crate) fn judge_counts(&self, id: u64, got: u64) {
        let counts = self.ranges.counts();
        let wrong = self
            .parts
            .iter()
            .zip(&counts)
            .any(|(part, &count)| count != (self.start + got).saturating_sub(part.position).min(part.len as u64));
        if wrong || counts.len() != self.parts.len() {
            violate(format!("request {id} read {got} bytes, and its ranges {counts:?}"));
        }
    }
}

fn shuffle(rng: &mut Prng, parts: &mut [Piece]) {
    for end in (1..parts.len()).rev() {
        parts.swap(end, rng.index(end + 1));
    }
}
