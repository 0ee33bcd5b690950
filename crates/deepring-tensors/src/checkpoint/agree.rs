//! Whether the tensors of all writers are one model: a whole tensor is there once, and pieces of one agree and cover it. Pure.

use super::files::Within;
use super::tiling;
use crate::dtype::DType;
use crate::error::{Error, Result, quoted};
use std::collections::HashMap;

/// A tensor, or a piece of one, in a file of a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) dtype: Option<DType>,
    /// Of the piece.
    pub(super) shape: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) within: Option<Within>,
    pub(super) writer: u32,
    pub(super) file: String,
}

/// Checks all tensors of a generation. Returns whether none is in pieces.
pub(super) fn check(generation: u64, listed: &[Listed]) -> Result<bool> {
    let conflict = |name: &str, what: String| Error::Conflict { generation, detail: format!("{what}, tensor {}", quoted(name)) };
    let mut by_name: HashMap<&str, Vec<&Listed>> = HashMap::with_capacity(listed.len());
    for tensor in listed {
        by_name.entry(&tensor.name).or_default().push(tensor);
    }
    let mut all_whole = true;
    // In the order of the list, so that the same error is found each time.
    for first in listed {
        let Some(pieces) = by_name.remove(first.name.as_str()) else { continue };
        let Some(Within { shape, .. }) = &first.within else {
            if let Some(other) = pieces.get(1) {
                let what = format!("writers {} and {} both have it, and not in pieces", first.writer, other.writer);
                return Err(conflict(&first.name, what));
            }
            continue;
        };
        all_whole = false;
        for other in &pieces {
            let Some(within) = &other.within else {
                return Err(conflict(&first.name, format!("writer {} has it whole, and writer {} a piece", other.writer, first.writer)));
            };
            if other.dtype != first.dtype {
                let name = |dtype: Option<DType>| dtype.map_or_else(|| "another type".to_owned(), |dtype| dtype.to_string());
                let what =
                    format!("writers {} and {} have it as {} and {}", first.writer, other.writer, name(first.dtype), name(other.dtype));
                return Err(conflict(&first.name, what));
            }
            if within.shape != *shape {
                let what = format!("writers {} and {} have it in the shapes {shape:?} and {:?}", first.writer, other.writer, within.shape);
                return Err(conflict(&first.name, what));
            }
        }
        let tiles: Vec<tiling::Piece<'_>> =
            pieces.iter().filter_map(|piece| Some(tiling::Piece { start: &piece.within.as_ref()?.start, shape: &piece.shape })).collect();
        tiling::check(shape, &tiles).map_err(|untiled| conflict(&first.name, untiled.to_string()))?;
    }
    Ok(all_whole)
}

#[cfg(test)]
mod tests {
    use super::{Listed, check};
    use crate::checkpoint::files::Within;
    use crate::dtype::DType;

    fn whole(name: &str, writer: u32) -> Listed {
        let (name, dtype, file) = (name.into(), Some(DType::F32), "data".into());
        Listed { name, dtype, shape: vec![4, 2], bytes: 32, within: None, writer, file }
    }

    fn piece(writer: u32, start: [u64; 2], shape: [u64; 2]) -> Listed {
        let within = Some(Within { shape: vec![4, 2], start: start.into() });
        Listed { shape: shape.into(), within, ..whole("w", writer) }
    }

    fn error(listed: &[Listed]) -> String {
        check(7, listed).expect_err("they do not agree").to_string()
    }

    #[test]
    fn whole_tensors_and_pieces_that_cover_agree() {
        assert!(check(7, &[whole("a", 0), whole("b", 1)]).expect("whole"));
        assert!(!check(7, &[whole("a", 0), piece(1, [2, 0], [2, 2]), piece(0, [0, 0], [2, 2])]).expect("pieces"));
        assert!(check(7, &[]).expect("nothing"));
    }

    #[test]
    fn what_does_not_agree_names_the_tensor_and_the_range() {
        assert!(error(&[whole("w", 0), whole("w", 1)]).contains("writers 0 and 1 both have it"));
        assert!(error(&[piece(0, [0, 0], [4, 2]), whole("w", 1)]).contains("writer 1 has it whole"));
        let holes = error(&[piece(0, [0, 0], [2, 2]), piece(1, [3, 0], [1, 2])]);
        assert!(holes.contains("[2..3, 0..2]") && holes.ends_with("tensor \"w\", generation 7"), "{holes}");
        let tail = error(&[piece(0, [0, 0], [2, 2]), piece(1, [2, 0], [1, 2])]);
        assert!(tail.contains("[3..4, 0..2]"), "{tail}");
        let overlap = error(&[piece(0, [0, 0], [3, 2]), piece(1, [2, 0], [2, 2])]);
        assert!(overlap.contains("[2..3, 0..2]"), "{overlap}");
        let other = Listed { dtype: Some(DType::I32), ..piece(1, [2, 0], [2, 2]) };
        assert!(error(&[piece(0, [0, 0], [2, 2]), other]).contains("as F32 and I32"));
        let mut other = piece(1, [2, 0], [2, 2]);
        other.within = Some(Within { shape: vec![5, 2], start: vec![2, 0] });
        assert!(error(&[piece(0, [0, 0], [2, 2]), other]).contains("[4, 2] and [5, 2]"));
    }
}
