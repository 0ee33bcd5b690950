//! The data of every file: real weights, tiled, with a stamp on each page.
//!
//! Byte x of a file is byte (origin + x) mod L of the source, the concatenated weights of real
//! models, except that the first eight bytes of each 4096-byte page hold the page's number in its
//! file and a seed, both as little-endian u32. No page is zero or equal to another, so nothing on
//! the way to the disk can compress or merge pages away. Filling is one memcpy. The stamp reveals a
//! page that arrives in the wrong place, or never. `benches/tiles.ts` is the same definition for
//! the JavaScript contenders.

use std::fs;
use std::path::Path;

/// The unit that carries a stamp.
pub(crate) const PAGE_BYTES: usize = 4096;

/// One page in this many is compared in full; of the others only the stamp.
const FULL_EVERY: usize = 64;

/// The source bytes.
pub(crate) struct Tiles {
    source: Vec<u8>,
}

/// Which part of the tiling a file holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    /// Where in the tiling the file begins.
    pub(crate) origin: u64,
    /// Identifies one write of the file.
    pub(crate) seed: u32,
}

impl Tiles {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let source = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if source.len() < PAGE_BYTES {
            return Err(format!("{} has only {} bytes; weights are expected", path.display(), source.len()));
        }
        Ok(Self { source })
    }

    /// Fills `bytes` with the content at `position` of a file. `position` is a multiple of a page.
    pub(crate) fn fill(&self, bytes: &mut [u8], pattern: Pattern, position: u64) {
        debug_assert_eq!(position % PAGE_BYTES as u64, 0);
        self.copy(bytes, pattern.origin + position);
        for (index, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            let stamp = stamp(position, index, pattern.seed);
            let length = page.len().min(stamp.len());
            page[..length].copy_from_slice(&stamp[..length]);
        }
    }

    /// Checks that `bytes` is the content at `position` of a file. The error names the first wrong
    /// page.
    pub(crate) fn check(&self, bytes: &[u8], pattern: Pattern, position: u64) -> Result<(), String> {
        let mut expected = [0_u8; PAGE_BYTES];
        for (index, page) in bytes.chunks(PAGE_BYTES).enumerate() {
            let at = position + (index * PAGE_BYTES) as u64;
            let stamp = stamp(position, index, pattern.seed);
            let length = page.len().min(stamp.len());
            let mut same = page[..length] == stamp[..length];
            if same && index.is_multiple_of(FULL_EVERY) {
                self.fill(&mut expected[..page.len()], pattern, at);
                same = page == &expected[..page.len()];
            }
            if !same {
                return Err(format!("the page at position {at} does not hold what was written there"));
            }
        }
        Ok(())
    }

    fn copy(&self, mut bytes: &mut [u8], position: u64) {
        let mut from = (position % self.source.len() as u64) as usize;
        while !bytes.is_empty() {
            let length = bytes.len().min(self.source.len() - from);
            let (now, later) = bytes.split_at_mut(length);
            now.copy_from_slice(&self.source[from..from + length]);
            bytes = later;
            from = 0;
        }
    }
}

fn stamp(position: u64, index: usize, seed: u32) -> [u8; 8] {
    let page = (position / PAGE_BYTES as u64) as u32 + index as u32;
    (u64::from(seed) << 32 | u64::from(page)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiles() -> Tiles {
        Tiles { source: (0..10_007_u32).map(|value| (value % 251) as u8 + 1).collect() }
    }

    #[test]
    fn pieces_of_a_file_join_to_the_whole() {
        let pattern = Pattern { origin: 777, seed: 5 };
        let mut whole = vec![0; 20 * PAGE_BYTES];
        tiles().fill(&mut whole, pattern, 0);
        let mut piece = vec![0; 7 * PAGE_BYTES];
        tiles().fill(&mut piece, pattern, 9 * PAGE_BYTES as u64);
        assert_eq!(piece, whole[9 * PAGE_BYTES..16 * PAGE_BYTES]);
        assert_eq!(tiles().check(&whole, pattern, 0), Ok(()));
    }

    #[test]
    fn a_page_in_the_wrong_place_is_found() {
        let pattern = Pattern { origin: 0, seed: 5 };
        let mut bytes = vec![0; 20 * PAGE_BYTES];
        tiles().fill(&mut bytes, pattern, 0);
        bytes.copy_within(3 * PAGE_BYTES..4 * PAGE_BYTES, 11 * PAGE_BYTES);
        assert!(tiles().check(&bytes, pattern, 0).is_err_and(|message| message.contains("45056")));
    }

    #[test]
    fn an_earlier_write_is_not_taken_for_this_one() {
        let mut bytes = vec![0; 2 * PAGE_BYTES];
        tiles().fill(&mut bytes, Pattern { origin: 0, seed: 1 }, 0);
        assert!(tiles().check(&bytes, Pattern { origin: 0, seed: 2 }, 0).is_err());
    }
}
