//! Joining the headers of all data files of a generation, and what the parts say of them, into one table. Pure.
//!
//! A tensor in a file is whole, unless the part lists it as a piece. Whatever the parts list must be in the files, just so; the
//! pieces of a tensor cover it.

use super::part::{Part, PartFile, SplitPiece};
use super::tiling::{self, Untiled};
use crate::columns::{Columns, Kind, Refusal};
use crate::dtype::DType;
use crate::error::{Fault, Reason};
use crate::header::Header;
use crate::split::{Split, Tile};
use crate::sums::Sums;
use crate::table::{Table, TableFile};
use std::collections::HashMap;
use std::path::PathBuf;

/// A data file as it was found.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    /// Where the data begins.
    pub(super) start: u64,
}

/// What is wrong, and which of the files is.
pub(super) struct Wrong {
    pub(super) place: Place,
    pub(super) fault: Fault,
}

/// A file of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Manifest,
    /// The part of a writer.
    Part(u32),
    /// A data file, by its place in the list.
    Data(usize),
}

impl Place {
    fn wrong(self, fault: Fault) -> Wrong {
        Wrong { place: self, fault }
    }
}

/// A tensor in pieces, and what was found of it.
struct Pieces<'p> {
    shape: &'p [u64],
    writer: u32,
    /// In the order of the files.
    listed: Vec<(usize, &'p SplitPiece)>,
    found: Vec<FoundPiece<'p>>,
    dtype: Option<DType>,
    /// Its place in the table.
    index: Option<u32>,
}

struct FoundPiece<'p> {
    file: usize,
    piece: &'p SplitPiece,
    position: u64,
    len: u64,
    crcs: &'p [u32],
}

/// The table of a generation, and the checksums of its tensors. The files are those of all parts, one after the other.
pub(super) fn join(parts: &[Part], files: Vec<Found>) -> Result<(Table, Sums), Wrong> {
    let listed: Vec<(&Part, &PartFile)> = parts.iter().flat_map(|part| part.files.iter().map(move |file| (part, file))).collect();
    let mut split = listed_pieces(parts)?;
    let mut sums = Sums::of_chunks(listed.iter().map(|(part, _)| part.chunk).collect());
    let (mut columns, mut table_files) = (Columns::default(), Vec::with_capacity(files.len()));
    for (number, (found, &(part, file))) in files.into_iter().zip(&listed).enumerate() {
        let (first, Found { path, header: Header { columns: own, .. }, start }) = (columns.len(), found);
        let at = |fault| Place::Data(number).wrong(fault);
        let places = file.places(part.chunk, own.lens.iter().copied()).map_err(at)?;
        for tensor in 0..own.len() {
            let (name, position) = (own.names.get(tensor), start + own.begins[tensor]);
            let crcs = &file.crcs[places[tensor]..places[tensor + 1]];
            let Some(pieces) = split.get_mut(name) else {
                columns.take(&own, tensor, position).map_err(|refusal| at(refused(name, refusal)))?;
                sums.add(Some(crcs));
                continue;
            };
            let found = pieces.add(number, &own, tensor, position, crcs).map_err(at)?;
            if found.is_home(pieces) {
                pieces.index = Some(columns.len() as u32);
                found.begin(pieces, name, &mut columns).map_err(at)?;
                let is_all = found.piece.shape == pieces.shape || found.len == 0;
                sums.add(is_all.then_some(crcs));
            }
            pieces.found.push(found);
        }
        table_files.push(TableFile { path, tensors: first..columns.len() });
    }
    let mut in_pieces = Vec::new();
    // In the order of their names, so that the same error is found each time.
    let mut split: Vec<(&str, Pieces<'_>)> = split.into_iter().collect();
    split.sort_unstable_by_key(|&(name, _)| name);
    for (name, pieces) in split {
        let tiles = pieces.tiles(name, &listed)?;
        if let (Some(index), 2..) = (pieces.index, tiles.len()) {
            for found in pieces.found.iter().filter(|found| found.len > 0) {
                sums.add_tile(found.crcs);
            }
            in_pieces.push((index, tiles));
        }
    }
    Ok((Table::with_split(columns, table_files, Split::new(in_pieces)), sums))
}

/// All tensors in pieces, by name.
fn listed_pieces(parts: &[Part]) -> Result<HashMap<&str, Pieces<'_>>, Wrong> {
    let mut split: HashMap<&str, Pieces<'_>> = HashMap::new();
    let mut files = 0;
    for part in parts {
        for tensor in &part.split {
            let pieces = split.entry(&tensor.name).or_insert_with(|| Pieces {
                shape: &tensor.shape,
                writer: part.writer,
                listed: Vec::new(),
                found: Vec::new(),
                dtype: None,
                index: None,
            });
            if *pieces.shape != *tensor.shape {
                let (shape, writer) = (&tensor.shape, pieces.writer);
                let detail = format!("its shape is {shape:?} here, and {:?} in the part of writer {writer}", pieces.shape);
                return Err(Place::Part(part.writer).wrong(Fault::of(Reason::Part, &tensor.name, detail)));
            }
            pieces.listed.extend(tensor.pieces.iter().map(|piece| (files + piece.file as usize, piece)));
        }
        files += part.files.len();
    }
    Ok(split)
}

impl<'p> Pieces<'p> {
    /// A tensor of this name in a file, which must be a piece that is listed.
    fn add(&mut self, file: usize, own: &Columns, tensor: usize, position: u64, crcs: &'p [u32]) -> Result<FoundPiece<'p>, Fault> {
        let wrong = |detail: String| Fault::of(Reason::Part, own.names.get(tensor), detail);
        let Ok(place) = self.listed.binary_search_by_key(&file, |&(file, _)| file) else {
            return Err(Fault::of(Reason::Duplicate, own.names.get(tensor), "it is in pieces in other files, and no part lists this one"));
        };
        let piece = self.listed[place].1;
        if !own.shapes.get(tensor).eq(piece.shape.iter().copied()) {
            let shape: Vec<u64> = own.shapes.get(tensor).collect();
            return Err(wrong(format!("the piece has the shape {shape:?}, and the part lists {:?}", piece.shape)));
        }
        let Kind::Known(dtype) = own.kinds[tensor] else {
            return Err(wrong("its element type is unknown, so that its pieces cannot be joined".into()));
        };
        let other = *self.dtype.get_or_insert(dtype);
        if other != dtype {
            return Err(wrong(format!("the piece is {dtype}, and one in another file {other}")));
        }
        Ok(FoundPiece { file, piece, position, len: own.lens[tensor], crcs })
    }

    /// The tiles, if all pieces were found and they cover the tensor.
    fn tiles(&self, name: &str, listed: &[(&Part, &PartFile)]) -> Result<Vec<Tile>, Wrong> {
        let Self { shape, listed: pieces, found, .. } = self;
        if let Some(&(file, _)) = pieces.iter().find(|(file, _)| found.binary_search_by_key(file, |found| found.file).is_err()) {
            let (part, PartFile { name: file_name, .. }) = listed[file];
            let detail = format!("the part of writer {} lists a piece of it in {file_name}, which does not have it", part.writer);
            return Err(Place::Data(file).wrong(Fault::of(Reason::Part, name, detail)));
        }
        let boxes: Vec<tiling::Piece<'_>> =
            pieces.iter().map(|(_, piece)| tiling::Piece { start: &piece.start, shape: &piece.shape }).collect();
        tiling::check(shape, &boxes).map_err(|untiled| {
            let reason = match untiled {
                Untiled::Hole(_) => Reason::Hole,
                Untiled::Overlap { .. } => Reason::Overlap,
                Untiled::Outside { .. } | Untiled::Dimensions(_) => Reason::Part,
            };
            Place::Manifest.wrong(Fault::of(reason, name, untiled.to_string()))
        })?;
        let mut tiles = Vec::new();
        for &FoundPiece { file, piece, position, len, .. } in found.iter().filter(|found| found.len > 0) {
            let (start, extents) = (piece.start.clone().into(), piece.shape.clone().into());
            let tile = Tile { file: file as u32, position, len, start, shape: extents };
            if let Some(dtype) = self.dtype {
                tile.fits(shape, dtype).map_err(|detail| Place::Data(file).wrong(Fault::of(Reason::Bits, name, detail)))?;
            }
            tiles.push(tile);
        }
        Ok(tiles)
    }
}

impl FoundPiece<'_> {
    /// Whether the tensor is to be in the place of this piece: the first one with bytes, if it has any.
    fn is_home(&self, pieces: &Pieces<'_>) -> bool {
        pieces.index.is_none() && (self.len > 0 || pieces.shape.contains(&0))
    }

    /// Adds the whole tensor in the place of this piece.
    fn begin(&self, pieces: &Pieces<'_>, name: &str, columns: &mut Columns) -> Result<(), Fault> {
        let elements = pieces.shape.iter().product();
        let len = pieces.dtype.and_then(|dtype| dtype.bytes_of(elements));
        let (Some(dtype), Some(len)) = (pieces.dtype, len) else {
            return Err(Fault::of(Reason::Bits, name, format!("{elements} elements of it do not have a whole number of bytes")));
        };
        columns.names.add(name).map_err(|index| refused(name, Refusal::Twice(index)))?;
        columns.kinds.push(Kind::Known(dtype));
        columns.shapes.push(pieces.shape.iter().copied());
        columns.begins.push(self.position);
        columns.lens.push(len);
        Ok(())
    }
}

fn refused(name: &str, refusal: Refusal) -> Fault {
    match refusal {
        Refusal::Twice(_) => Fault::of(Reason::Duplicate, name, "another file has the name, too"),
        Refusal::TooManyTypes => Fault::of(Reason::Field, name, "there are too many unknown element types"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Place, join};
    use crate::checkpoint::names::{Id, Origin};
    use crate::checkpoint::part::{Part, PartFile, SplitPiece, SplitTensor};
    use crate::checkpoint::processor_time;
    use crate::error::Reason;
    use crate::header;
    use crate::sums::Sums;
    use crate::table::Table;
    use std::time::Duration;

    /// A tensor of a file: name, type, shape, bytes.
    type Stored<'n> = (&'n str, &'n str, &'n [u64], u64);

    /// A piece that a part lists: file, start, shape.
    type Listed<'n> = (u32, &'n [u64], &'n [u64]);

    /// A tensor that it lists: name, shape, pieces.
    type Split<'n> = (&'n str, &'n [u64], &'n [Listed<'n>]);

    fn found(tensors: &[Stored<'_>]) -> Found {
        let mut end = 0;
        let entries: Vec<String> = tensors
            .iter()
            .map(|&(name, dtype, shape, len)| {
                let begin = end;
                end += len;
                format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}")
            })
            .collect();
        let json = format!("{{{}}}", entries.join(","));
        Found { path: "data".into(), header: header::parse(json.as_bytes(), end, true).expect("a header"), start: 1000 }
    }

    /// A part with chunks of 16 bytes.
    fn part(writer: u32, files: &[&[Stored<'_>]], split: &[Split<'_>]) -> Part {
        let id = Id(7);
        let file = |(number, tensors): (usize, &&[Stored<'_>])| {
            let crcs = tensors.iter().map(|&(.., len)| len.div_ceil(16)).sum::<u64>();
            let crcs = (0..crcs as u32).map(|nth| writer * 1000 + number as u32 * 100 + nth).collect();
            PartFile { name: number.to_string(), bytes: 0, origin: Origin { id, writer }, header_crc: 0, crcs }
        };
        let piece = |&(file, start, shape): &Listed<'_>| SplitPiece { file, start: start.into(), shape: shape.into() };
        let tensor = |&(name, shape, pieces): &Split<'_>| SplitTensor {
            name: name.into(),
            shape: shape.into(),
            pieces: pieces.iter().map(piece).collect(),
        };
        let split = split.iter().map(tensor).collect();
        Part { id, writer, chunk: 16, files: files.iter().enumerate().map(file).collect(), split }
    }

    fn joined(parts: &[Part], files: &[&[Stored<'_>]]) -> Result<(Table, Sums), (Place, Reason, String)> {
        join(parts, files.iter().map(|file| found(file)).collect())
            .map_err(|wrong| (wrong.place, wrong.fault.reason, format!("{:?}: {}", wrong.fault.tensor, wrong.fault.detail)))
    }

    /// Rows of a tensor of 4 by 2 bytes, a piece in each of two files of two writers.
    fn halves(second: Stored<'_>, shape: &[u64], start: &[u64], extents: &[u64]) -> Result<(Table, Sums), (Place, Reason, String)> {
        let first: &[Stored<'_>] = &[("w", "U8", &[2, 2], 4)];
        let parts = [
            part(0, &[first], &[("w", &[4, 2], &[(0, &[0, 0], &[2, 2])])]),
            part(1, &[&[second]], &[("w", shape, &[(0, start, extents)])]),
        ];
        joined(&parts, &[first, &[second]])
    }

    #[test]
    fn a_name_is_one_tensor_whatever_its_pieces() {
        let files: [&[Stored<'_>]; 3] = [
            &[("a", "U8", &[40], 40), ("w", "U8", &[0, 2], 0)],
            &[("w", "U8", &[3, 2], 6), ("b", "F32", &[], 4)],
            &[("w", "U8", &[1, 2], 2)],
        ];
        let parts = [
            part(0, &files[..2], &[("w", &[4, 2], &[(0, &[4, 0], &[0, 2]), (1, &[1, 0], &[3, 2])])]),
            part(1, &files[2..], &[("w", &[4, 2], &[(0, &[0, 0], &[1, 2])])]),
        ];
        let (table, sums) = joined(&parts, &files).expect("a table");
        assert_eq!(table.names().collect::<Vec<_>>(), ["a", "w", "b"]);
        let info = table.info(1);
        assert_eq!((info.shape, info.len, info.position, info.pieces, table.file_of(1)), (vec![4, 2], 8, 1000, 2, 1));
        let tiles = table.split.of(1).expect("tiles");
        let tile = |nth: u32| table.split.tile(tiles.start + nth);
        assert_eq!((tile(0).file, &*tile(0).start, tile(1).file, &*tile(1).start), (1, &[1, 0][..], 2, &[0, 0][..]));
        let crc = |first: Option<u32>| first.map(|first| sums.get(first));
        assert_eq!((crc(sums.of_tensor(0)), crc(sums.of_tensor(1)), crc(sums.of_tensor(2))), (Some(0), None, Some(101)));
        assert_eq!((crc(sums.of_tile(tiles.start)), crc(sums.of_tile(tiles.start + 1))), (Some(100), Some(1000)));
        assert_eq!((table.name_at(2, 1001), table.name_at(1, 1003), table.name_at(1, 1007)), (Some("w"), Some("w"), Some("b")));
    }

    #[test]
    fn one_piece_that_is_all_of_it_is_a_tensor_like_any_other() {
        let files: [&[Stored<'_>]; 2] = [&[("w", "U8", &[0, 2], 0), ("none", "U8", &[0, 1], 0)], &[("w", "U8", &[4, 2], 8)]];
        let parts = [
            part(0, &files[..1], &[("none", &[0, 2], &[(0, &[0, 0], &[0, 1])]), ("w", &[4, 2], &[(0, &[0, 0], &[0, 2])])]),
            part(1, &files[1..], &[("w", &[4, 2], &[(0, &[0, 0], &[4, 2])])]),
        ];
        let (table, sums) = joined(&parts, &files).expect("a table");
        assert_eq!(table.iter().map(|info| (info.name, info.len, info.pieces)).collect::<Vec<_>>(), [("none", 0, 1), ("w", 8, 1)]);
        assert!(sums.of_tensor(0).is_some(), "no byte of it is without a checksum");
        assert_eq!((table.split.is_empty(), sums.of_tensor(1).map(|first| sums.get(first))), (true, Some(1000)));
    }

    #[test]
    fn what_does_not_agree_names_the_file_and_the_tensor() {
        let piece = |start: u64, rows: u64| {
            halves(("w", "U8", &[rows, 2], rows * 2), &[4, 2], &[start, 0], &[rows, 2]).map(|(table, _)| table.info(0).pieces)
        };
        assert_eq!(piece(2, 2), Ok(2));
        let (place, reason, detail) = piece(2, 1).expect_err("a hole at the end");
        assert_eq!((place, reason), (Place::Manifest, Reason::Hole));
        assert!(detail.contains("\"w\"") && detail.contains("[3..4, 0..2]"), "{detail}");
        assert_eq!(piece(1, 3).expect_err("an overlap").1, Reason::Overlap);
        let second = |stored: Stored<'_>, shape: &[u64]| halves(stored, shape, &[2, 0], &[2, 2]).map(drop).expect_err("wrong");
        let (place, reason, detail) = second(("w", "I8", &[2, 2], 4), &[4, 2]);
        assert_eq!((place, reason), (Place::Data(1), Reason::Part));
        assert!(detail.contains("I8") && detail.contains("U8"), "{detail}");
        assert_eq!(second(("w", "U8", &[4, 1], 4), &[4, 2]).0, Place::Data(1), "another shape than the part lists");
        assert_eq!(second(("w", "U8", &[2, 2], 4), &[5, 2]).0, Place::Part(1), "another shape of the whole");
        assert_eq!(second(("other", "U8", &[2, 2], 4), &[4, 2]).1, Reason::Part, "a piece that is not there");
        assert_eq!(second(("w", "X9", &[2, 2], 4), &[4, 2]).1, Reason::Part, "an unknown type");
    }

    #[test]
    fn a_tensor_that_no_part_lists_as_a_piece_has_its_name_for_itself() {
        let whole: &[Stored<'_>] = &[("w", "U8", &[4, 2], 8)];
        let twice = joined(&[part(0, &[whole], &[]), part(1, &[whole], &[])], &[whole, whole]).map(drop);
        let (place, reason, _) = twice.expect_err("it is there twice");
        assert_eq!((place, reason), (Place::Data(1), Reason::Duplicate));
        let pieces = part(0, &[whole], &[("w", &[4, 2], &[(0, &[0, 0], &[4, 2])])]);
        let both = joined(&[pieces, part(1, &[whole], &[])], &[whole, whole]).map(drop);
        assert_eq!(both.expect_err("whole as well").1, Reason::Duplicate);
    }

    #[test]
    fn pieces_that_cut_a_byte_and_sums_that_do_not_fit_are_refused() {
        let piece: &[Stored<'_>] = &[("w", "F4", &[2, 3], 3)];
        let parts = [
            part(0, &[piece], &[("w", &[2, 6], &[(0, &[0, 0], &[2, 3])])]),
            part(1, &[piece], &[("w", &[2, 6], &[(0, &[0, 3], &[2, 3])])]),
        ];
        assert_eq!(joined(&parts, &[piece, piece]).map(drop).expect_err("three elements").1, Reason::Bits);
        let mut parts = [part(0, &[&[("w", "U8", &[40], 40)]], &[])];
        parts[0].files[0].crcs.pop();
        let few = joined(&parts, &[&[("w", "U8", &[40], 40)]]).map(drop).expect_err("three chunks");
        assert_eq!((few.0, few.1), (Place::Data(0), Reason::Part));
    }

    #[test]
    fn joining_takes_no_longer_than_the_tables_are() {
        // A hundred writers, each with a row of each of two thousand tensors.
        let names: Vec<String> = (0..2000).map(|nth| format!("{nth:04}")).collect();
        let tensors: Vec<Stored<'_>> = names.iter().map(|name| (name.as_str(), "U8", &[1, 3][..], 3)).collect();
        let starts: Vec<[u64; 2]> = (0..100).map(|writer| [writer, 0]).collect();
        let pieces: Vec<[Listed<'_>; 1]> = starts.iter().map(|start| [(0, &start[..], &[1, 3][..])]).collect();
        let part = |writer: usize| {
            let split: Vec<Split<'_>> = names.iter().map(|name| (name.as_str(), &[100, 3][..], &pieces[writer][..])).collect();
            part(writer as u32, &[&tensors], &split)
        };
        let parts: Vec<Part> = (0..100).map(part).collect();
        let files: Vec<Found> = (0..100).map(|_| found(&tensors)).collect();
        let before = processor_time();
        let (table, _) = join(&parts, files).map_err(|wrong| wrong.fault).expect("a table");
        let took = processor_time().saturating_sub(before);
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!((table.len(), table.info(1999).pieces), (2000, 100));
    }
}
