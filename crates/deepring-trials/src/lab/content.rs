//! The content of generations: bytes that identify their generation and their position.
//!
//! Words of eight bytes alternate: one holds the masked number of the generation, the next one
//! proves it. So a checker can identify the generation of a sector without knowing what to expect.
//! A sector in the wrong place, of another stream, of another run of the lab, or mixed from two,
//! belongs to no generation: it is foreign.

use super::protocol::{Found, Stream};
use std::collections::BTreeSet;

/// The smallest unit that a drive writes whole or not at all, and so the unit in which content is
/// judged.
pub const SECTOR_BYTES: u64 = 512;

/// Bytes of one generation in place. Not a multiple of anything, so that the slots share a sector
/// at their border, which both rewrite.
pub const SLOT_BYTES: u64 = (1 << 20) + 777;

/// Where the first of the two slots begins: not at a sector border either.
pub const SLOTS_START: u64 = 1000;

const WORD_BYTES: u64 = 8;

/// The most pieces into which the requests of one generation cut a sector: three of them rarely
/// meet in one, four never.
const PIECES_MAX: usize = 4;

/// The content of one stream in one run of the lab.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    key: u64,
    stream: Stream,
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let z = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Content {
    /// The content of `stream` in the run with this seed.
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self { key: mix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (stream as u64 + 1)), stream }
    }

    /// The length of a generation in bytes. Files have all lengths, so that their tails end
    /// anywhere in a sector.
    pub fn len(&self, generation: u64) -> u64 {
        if self.stream.is_in_place() {
            return SLOT_BYTES;
        }
        let number = mix(self.key ^ mix(generation));
        let (kind, number) = (number % 4, number / 4);
        match kind {
            0 => 32 + number % (64 << 10),
            1 => 1 + number % (1 << 20),
            2 => 1 + number % (3 << 20),
            _ => (1 + number % 512) << 12,
        }
    }

    fn word(&self, generation: u64, index: u64) -> u64 {
        let mask = mix(self.key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        if index.is_multiple_of(2) { generation ^ mask } else { mix(mask ^ generation.rotate_left(32)) }
    }

    /// Fills memory with the content at `position` of a generation.
    pub fn fill(&self, generation: u64, position: u64, out: &mut [u8]) {
        let (mut position, mut rest) = (position, out);
        while !rest.is_empty() {
            let word = self.word(generation, position / WORD_BYTES).to_le_bytes();
            let from = &word[(position % WORD_BYTES) as usize..];
            let count = from.len().min(rest.len());
            rest[..count].copy_from_slice(&from[..count]);
            rest = &mut rest[count..];
            position += count as u64;
        }
    }

    /// A whole generation.
    pub fn make(&self, generation: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.len(generation) as usize];
        self.fill(generation, 0, &mut bytes);
        bytes
    }

    /// The generation that a piece claims: the number in its first whole numbered word.
    fn claim(&self, piece: &[u8], position: u64) -> Option<u64> {
        let start = position.next_multiple_of(2 * WORD_BYTES);
        let at = (start - position) as usize;
        let word = piece.get(at..at + WORD_BYTES as usize)?;
        Some(u64::from_le_bytes(word.try_into().ok()?) ^ self.word(0, start / WORD_BYTES))
    }

    fn is_of(&self, generation: u64, piece: &[u8], position: u64) -> bool {
        let mut expected = [0; SECTOR_BYTES as usize];
        let expected = &mut expected[..piece.len()];
        self.fill(generation, position, expected);
        piece == expected
    }

    /// Reports, sector by sector, which generations `bytes` consist of. The first byte is the first
    /// of a generation, at position `at` of its file or device. `id` identifies the file or slot.
    ///
    /// Where two requests of a generation met inside a sector, a cut can leave the sector half new
    /// and half old. Such a sector counts for both generations. The ledger decides whether that is
    /// allowed.
    pub fn look(&self, id: u64, bytes: &[u8], at: u64) -> Found {
        let mut found = Found { stream: self.stream, id, len: bytes.len() as u64, made_of: Vec::new(), foreign: 0, first_foreign: None };
        let mut seen = BTreeSet::from([id]);
        let mut others = Vec::new();
        let mut position = 0;
        while position < found.len {
            let end = (position + SECTOR_BYTES - (at + position) % SECTOR_BYTES).min(found.len);
            let piece = &bytes[position as usize..end as usize];
            match self.claim(piece, position) {
                Some(generation) if self.is_of(generation, piece, position) => {
                    found.count(generation);
                    seen.insert(generation);
                }
                _ => others.push((position, piece)),
            }
            position = end;
        }
        for (position, piece) in others {
            match self.pieces(&seen, piece, position) {
                Some(generations) => generations.into_iter().for_each(|generation| found.count(generation)),
                None => found.count_foreign(position),
            }
        }
        found
    }

    /// The generations that the piece consists of, out of those in `seen` and those that the piece
    /// claims. `None` if it has a byte of none of them, or changes between them more often than
    /// requests can meet in a sector.
    fn pieces(&self, seen: &BTreeSet<u64>, piece: &[u8], position: u64) -> Option<BTreeSet<u64>> {
        // A claim without its proof, the word after it, is a damaged byte and not a generation.
        let cell_bytes = 2 * WORD_BYTES as usize;
        let first = (position.next_multiple_of(2 * WORD_BYTES) - position) as usize;
        let cells = (first..piece.len()).step_by(cell_bytes).filter_map(|at| Some((at, piece.get(at..at + cell_bytes)?)));
        let claimed = cells.filter_map(|(at, cell)| {
            let generation = self.claim(cell, position + at as u64)?;
            self.is_of(generation, cell, position + at as u64).then_some(generation)
        });
        let mut candidates = Vec::new();
        for generation in seen.iter().copied().chain(claimed) {
            let mut expected = vec![0; piece.len()];
            self.fill(generation, position, &mut expected);
            candidates.push((generation, expected));
        }
        let (mut from, mut generations) = (0, BTreeSet::new());
        for _ in 0..PIECES_MAX {
            let reach =
                |expected: &[u8]| piece[from..].iter().zip(&expected[from..]).take_while(|(found, expected)| found == expected).count();
            let (reached, generation) = candidates.iter().map(|(generation, expected)| (reach(expected), *generation)).max()?;
            if reached == 0 {
                return None;
            }
            generations.insert(generation);
            from += reached;
            if from == piece.len() {
                return Some(generations);
            }
        }
        None
    }
}
