//! Transfers that are made in many ranges: a third of those that are waited for. Their parts lie in reverse order in memory,
//! so that what is next to each other in the file is not in memory.

use super::script::Range;
use deepring::Piece;

/// Parts of one transfer, at most.
const PARTS_MAX: u64 = 40;

/// The ranges of a transfer that is made in many. It depends on nothing but the range, so a script repeats it.
pub(super) fn parts_of(range: Range) -> Option<Vec<Piece>> {
    let Range { position, len } = range;
    let mixed = (position ^ len.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    if len < 2 || !mixed.is_multiple_of(3) {
        return None;
    }
    // Some on boundaries of sectors.
    let step = (1 + mixed % len).max(len.div_ceil(PARTS_MAX));
    let step = if mixed.is_multiple_of(2) { step.next_multiple_of(512) } else { step };
    let part = |first: u64| {
        let part = step.min(len - first);
        Piece::new(position + first, (len - first - part) as usize, part as usize)
    };
    Some((0..len).step_by(step as usize).map(part).collect())
}

/// Brings bytes that are in the order of the file into that of memory, or back.
pub(super) fn reorder(parts: &[Piece], bytes: &[u8], to_memory: bool) -> Vec<u8> {
    let mut reordered = vec![0; bytes.len()];
    let first = parts.iter().map(|part| part.position).min().unwrap_or(0);
    for part in parts {
        let (in_file, in_memory) = ((part.position - first) as usize, part.offset);
        let (from, to) = if to_memory { (in_file, in_memory) } else { (in_memory, in_file) };
        reordered[to..to + part.len].copy_from_slice(&bytes[from..from + part.len]);
    }
    reordered
}
