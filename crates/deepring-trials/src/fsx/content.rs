//! The content of a trial's files: each aligned word of eight bytes identifies its own position and
//! the write that wrote it.
//!
//! A reversible function scrambles the words, so that no part of one looks like a hole, and so that
//! a word found in the wrong place shows where it belongs.

/// The unit that identifies itself, in bytes.
const WORD_BYTES: u64 = 8;

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection of all 64-bit numbers.
fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The inverse of [`scramble`].
fn unscramble(value: u64) -> u64 {
    let value = (value ^ (value >> 31) ^ (value >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    let value = (value ^ (value >> 27) ^ (value >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    value ^ (value >> 30) ^ (value >> 60)
}

/// The word at this index of a file, as write `generation` writes it.
fn word(index: u64, generation: u32) -> [u8; 8] {
    scramble(u64::from(generation) << 32 | index).to_le_bytes()
}

/// Fills `out` with what write `generation` (1 or more) writes at `position`.
pub(crate) fn fill(out: &mut [u8], position: u64, generation: u32) {
    let skipped = (position % WORD_BYTES) as usize;
    let first = position / WORD_BYTES;
    let head = if skipped == 0 { 0 } else { out.len().min(WORD_BYTES as usize - skipped) };
    let (edge, rest) = out.split_at_mut(head);
    edge.copy_from_slice(&word(first, generation)[skipped..skipped + head]);
    let from = first + u64::from(head > 0);
    for (index, chunk) in (from..).zip(rest.chunks_mut(WORD_BYTES as usize)) {
        chunk.copy_from_slice(&word(index, generation)[..chunk.len()]);
    }
}

/// What write `generation` writes at `position..position + len`.
pub(crate) fn bytes(position: u64, len: usize, generation: u32) -> Vec<u8> {
    let mut out = vec![0; len];
    fill(&mut out, position, generation);
    out
}

/// Where a byte belongs: its position in the file, and the write that wrote it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) position: u64,
    pub(crate) generation: u32,
}

/// Where the byte `found[at]` belongs, if the whole word around it is there. A valid word is one of
/// a file of at most `file_max` bytes, from one of the first `generations` writes.
pub(crate) fn origin(found: &[u8], at: usize, file_max: u64, generations: u32) -> Option<Origin> {
    (0..WORD_BYTES as usize).find_map(|shift| {
        let start = at.checked_sub(shift)?;
        let whole: [u8; 8] = found.get(start..start + WORD_BYTES as usize)?.try_into().ok()?;
        let plain = unscramble(u64::from_le_bytes(whole));
        let (generation, index) = ((plain >> 32) as u32, plain & u64::from(u32::MAX));
        let plausible = (1..=generations).contains(&generation) && index * WORD_BYTES < file_max;
        plausible.then_some(Origin { position: index * WORD_BYTES + shift as u64, generation })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_identifies_its_position_and_its_write() {
        let written = bytes(1003, 4000, 17);
        for at in 8..written.len() - 8 {
            let expected = Origin { position: 1003 + at as u64, generation: 17 };
            assert_eq!(origin(&written, at, 1 << 22, 300), Some(expected));
        }
    }

    #[test]
    fn a_piece_equals_the_same_part_of_the_whole() {
        let whole = bytes(0, 300, 5);
        for start in 0..40 {
            for end in start..80 {
                assert_eq!(bytes(start, (end - start) as usize, 5), whole[start as usize..end as usize]);
            }
        }
    }

    #[test]
    fn zeros_have_no_origin() {
        assert_eq!(origin(&[0; 64], 20, 1 << 22, 300), None);
    }
}
