use super::group::{ends, is_long};
use super::*;
use crate::columns::{Columns, Kind};
use crate::dtype::DType;
use crate::split::tests::{part, tiling};
use crate::split::{Split, Tile};
use crate::table::TableFile;
use deepring::Piece;
use proptest::prelude::*;
use std::ops::Range;

const TYPES: [DType; 5] = [DType::U8, DType::BF16, DType::F32, DType::F64, DType::F4];

/// A file of tensors one behind the other, from `start` on.
fn table(start: u64, tensors: &[(usize, u64)]) -> Table {
    let mut columns = Columns::default();
    let mut position = start;
    for (index, &(dtype, elements)) in tensors.iter().enumerate() {
        let dtype = TYPES[dtype];
        let elements = if dtype == DType::F4 { elements * 2 } else { elements };
        columns.names.add(&index.to_string()).expect("a new name");
        columns.kinds.push(Kind::Known(dtype));
        columns.shapes.push([elements]);
        columns.begins.push(position);
        columns.lens.push(dtype.bytes_of(elements).expect("whole bytes"));
        position += columns.lens[index];
    }
    let files = vec![TableFile { path: "model".into(), tensors: 0..tensors.len() }];
    Table::new(columns, files)
}

/// What a group has of its one file.
fn reads_of(group: &Group) -> &FileReads {
    assert_eq!(group.files.len(), 1);
    &group.files[0]
}

fn pieces_of(group: &Group) -> &[Piece] {
    group.files.first().map_or(&[], |reads| &reads.pieces)
}

/// What is read has all of the pieces, and neither overlaps in the buffer nor leaves it nor the file. With what is not
/// read, it is the buffer. Of long runs it is whole units.
fn check_reads(group: &Group, file_end: u64, separate: bool, backwards: bool) -> std::result::Result<(), TestCaseError> {
    let pieces = &reads_of(group).pieces;
    let reads: Vec<Piece> = group.reads(|_| 0..pieces.len()).concat();
    prop_assert_eq!(reads.len(), pieces.len());
    let (mut end, mut file_end_before) = (0, 0);
    for (nth, (read, piece)) in reads.iter().zip(pieces).enumerate() {
        prop_assert!(read.offset >= end && piece.len > 0);
        let head = piece.offset - read.offset;
        prop_assert_eq!(piece.position - read.position, head as u64);
        prop_assert!(read.len >= head + piece.len && read.position + read.len as u64 <= file_end);
        prop_assert!(backwards || read.position >= file_end_before, "the same bytes twice");
        (end, file_end_before) = (read.offset + read.len, read.position + read.len as u64);
        if separate || backwards || !is_long(piece) {
            prop_assert!(read == piece || backwards);
            continue;
        }
        // Both ends are those of units, unless a neighbor has bytes in the unit, or the file ends there.
        let first = piece.position - piece.position % PAGE_BYTES;
        let last = (piece.position + piece.len as u64).next_multiple_of(PAGE_BYTES);
        let shared = nth > 0 && ends(&pieces[nth - 1]).0 > first;
        prop_assert!(read.position == first || shared, "{:?} of {:?}", read, piece);
        let shared = pieces.get(nth + 1).is_some_and(|next| next.position < last);
        prop_assert!(file_end_before == last || shared || last > file_end, "{:?} of {:?}", read, piece);
    }
    prop_assert!(end as u64 <= group.bytes);
    let gaps: usize = group.gaps().map(|gap| gap.len()).sum();
    prop_assert_eq!(gaps + reads.iter().map(|read| read.len).sum::<usize>(), group.bytes as usize);
    Ok(())
}

fn sizes() -> impl Strategy<Value = (usize, u64)> {
    (0..TYPES.len(), prop_oneof![0..9u64, 1000..2000u64, 5000..40_000u64])
}

proptest! {
    #[test]
    fn every_byte_comes_to_its_place_and_every_tensor_is_aligned(
        start in 0..5000u64,
        tensors in prop::collection::vec(sizes(), 1..40),
        chosen in prop::collection::vec((any::<bool>(), prop::option::of((0..4u64, 0..5u64))), 40),
        (separate, packed, backwards) in prop_oneof![
            4 => any::<bool>().prop_map(|separate| (separate, false, false)),
            1 => Just((true, true, false)),
            1 => Just((false, false, true)),
        ],
        group_bytes in 1..300_000u64,
    ) {
        let table = table(start, &tensors);
        let mut indices: Vec<usize> = (0..tensors.len()).filter(|&index| chosen[index].0).collect();
        if backwards {
            indices.reverse();
        }
        let selection = table.selection(indices);
        // Of some, some quarters.
        let sliced = |index: u32| {
            let elements = table.info(index as usize).shape[0];
            let (first, last) = chosen[index as usize].1?;
            let at = |quarter: u64| elements * quarter / 8 * 2;
            Some(at(first.min(last))..if last == 4 { elements } else { at(first.max(last)) })
        };
        let extent = |index: u32| {
            let info = table.info(index as usize);
            let bytes = |elements| info.dtype.expect("known").bytes_of(elements).expect("whole bytes");
            sliced(index).map_or((info.position, info.len), |range| (info.position + bytes(range.start), bytes(range.end - range.start)))
        };
        let slices = selection.indices.iter().filter_map(|&index| Some((index, Slice::new([Some(sliced(index)?)])))).collect();
        let plan = Plan::new(&table, &selection, &slices, Rules { separate, packed, ..Rules::new(group_bytes, None) }).expect("a plan");
        prop_assert_eq!(plan.bytes, selection.indices.iter().map(|&index| extent(index).1).sum::<u64>());
        let mut nth = 0;
        for group in &plan.groups {
            if !group.files.is_empty() {
                check_reads(group, table.known_end(0), separate, backwards)?;
            }
            let several = group.tensors.len() > 1 && pieces_of(group).len() > 1;
            prop_assert!(!several || group.bytes <= group_bytes.next_multiple_of(PAGE_BYTES) || group.tensors.len() == 1
                || group.tensors.clone().filter(|&nth| extent(selection.indices[nth]).1 > 0).count() == 1);
            prop_assert_eq!(group.tensors.start, nth);
            nth = group.tensors.end;
        }
        prop_assert_eq!(nth, selection.len());
        for (&index, place) in selection.indices.iter().zip(&plan.places) {
            let (position, len) = extent(index);
            let align = table.columns.dtype(index as usize).expect("known").align() as u64;
            prop_assert!(packed || place.offset % align == 0);
            if len == 0 { continue; }
            let group = &plan.groups[place.group as usize];
            // One piece has the whole tensor, and brings it where the place says.
            let piece = pieces_of(group).iter().find(|piece| {
                (piece.offset as u64) <= place.offset && place.offset + len <= (piece.offset + piece.len) as u64
            }).expect("a piece");
            prop_assert_eq!(piece.position + (place.offset - piece.offset as u64), position);
            // A large tensor is reached directly, unless the file forbids it.
            if len >= PACKED_BYTES_MAX && position % align == 0 && !packed {
                prop_assert_eq!(place.offset % PAGE_BYTES, position % PAGE_BYTES);
            }
        }
    }
}

#[test]
fn a_whole_file_is_one_run_a_group() {
    let table = table(3224, &[(2, 1000); 100]);
    let plan = Plan::new(&table, &table.all(), &HashMap::new(), Rules::new(100_000, None)).expect("a plan");
    assert!(plan.groups.iter().all(|group| pieces_of(group).len() == 1), "{:?}", plan.groups);
    assert_eq!((plan.groups.len(), pieces_of(&plan.groups[0])[0].offset), (5, 3224));
}

#[test]
fn planning_takes_no_longer_than_a_table_is() {
    // Each of the first breaks the run before it, and all are followed by half a million.
    let mut sizes = [(0, 1), (2, 1)].repeat(5_000);
    sizes.resize(500_000, (0, 0));
    let table = table(8, &sizes);
    let begun = std::time::Instant::now();
    let plan = Plan::new(&table, &table.all(), &HashMap::new(), Rules::new(64 << 20, None)).expect("a plan");
    assert_eq!((plan.groups.len(), plan.places.len()), (1, 500_000));
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn the_budget_of_the_largest_tensor_suffices() {
    let table = table(3224, &[(2, 25_000); 3]);
    let plan = Plan::new(&table, &table.all(), &HashMap::new(), Rules::new(1, None)).expect("a plan");
    assert_eq!(plan.groups.iter().map(Group::cost).collect::<Vec<_>>(), [100_000; 3]);
}

#[test]
fn slices_are_packed_and_sparse_ones_read_over_gaps() {
    let table = table(8, &[(2, 1 << 20), (2, 10)]);
    let mut columns = table.columns;
    columns.shapes = crate::shapes::Shapes::default();
    columns.shapes.push([1024, 1024]);
    columns.shapes.push([10]);
    let table = Table::new(columns, table.files);
    let rules = Rules::new(64 << 20, None);
    let rows = HashMap::from([(0, Slice::new([Some(100..228)]))]);
    let plan = Plan::new(&table, &table.all(), &rows, rules).expect("a plan");
    let group = &plan.groups[0];
    assert_eq!((pieces_of(group)[0].len, group.gap, pieces_of(group).len(), plan.bytes), (128 * 4096, 0, 2, 128 * 4096 + 40));
    let column = HashMap::from([(0, Slice::new([None, Some(3..5)]))]);
    let plan = Plan::new(&table, &table.all(), &column, rules).expect("a plan");
    let group = &plan.groups[0];
    assert_eq!((pieces_of(group).len(), group.gap, pieces_of(group)[1]), (1025, GAP_BYTES, Piece::new(8 + 4096 + 12, 8, 8)));
}

/// Tensors of random shapes, some in random pieces, each in a file of its own or behind others, and the bytes of all files.
struct World {
    table: Table,
    sums: Sums,
    /// The bytes of each file.
    files: Vec<Vec<u8>>,
    /// The bytes of each tensor.
    tensors: Vec<Vec<u8>>,
}

const FILES: usize = 4;

/// Type, shape and cuts of a tensor.
type Shaped = (usize, Vec<u64>, Vec<(usize, u64)>);

fn world(shapes: &[Shaped], start: u64, chunk: u64) -> World {
    let mut files: Vec<Vec<u8>> = vec![vec![0xee; start as usize]; FILES];
    let mut stored = Vec::new();
    let mut tensors = Vec::new();
    for (index, (dtype, shape, cuts)) in shapes.iter().enumerate() {
        let dtype = TYPES[*dtype];
        let unit = if dtype == DType::F4 { 2 } else { 1 };
        let mut shape = shape.clone();
        match shape.last_mut() {
            Some(last) => *last *= unit,
            None => shape.extend((unit == 2).then_some(2)),
        }
        let bits = u64::from(dtype.bits());
        let len = shape.iter().product::<u64>() * bits / 8;
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251 + index as u64 * 31) as u8).collect();
        let mut tiles = Vec::new();
        // One of each in a file.
        for (file, (begin, extents)) in tiling(&shape, &cuts[..cuts.len().min(FILES - 1)], unit).into_iter().enumerate() {
            let ranges: Vec<Range<u64>> = begin.iter().zip(&extents).map(|(&begin, &extent)| begin..begin + extent).collect();
            let own = part(&bytes, &shape, &ranges, bits);
            let position = files[file].len() as u64;
            files[file].extend(&own);
            tiles.push((Tile { file: file as u32, position, len: own.len() as u64, start: begin.into(), shape: extents.into() }, own));
        }
        tensors.push(bytes);
        stored.push((dtype, shape, len, tiles));
    }
    // All are in the place of their first piece, in the first file.
    let (mut columns, mut split, mut sums) = (Columns::default(), Vec::new(), Sums::of_chunks(vec![chunk; FILES]));
    let crcs = |bytes: &[u8]| bytes.chunks(chunk as usize).map(deepring::crc32c).collect::<Vec<u32>>();
    for (index, (dtype, shape, len, tiles)) in stored.iter().enumerate() {
        columns.names.add(&index.to_string()).expect("a new name");
        columns.kinds.push(Kind::Known(*dtype));
        columns.shapes.push(shape.iter().copied());
        columns.begins.push(tiles.first().map_or(start, |(tile, _)| tile.position));
        columns.lens.push(*len);
        if tiles.len() > 1 {
            split.push((index as u32, tiles.iter().map(|(tile, _)| tile.clone()).collect()));
            sums.add(None);
        } else {
            sums.add(Some(&tiles.first().map_or_else(Vec::new, |(_, bytes)| crcs(bytes))));
        }
    }
    for (_, bytes) in stored.iter().filter(|(.., tiles)| tiles.len() > 1).flat_map(|(.., tiles)| tiles) {
        sums.add_tile(&crcs(bytes));
    }
    let table_files = (0..FILES).map(|file| TableFile {
        path: file.to_string().into(),
        tensors: if file == 0 { 0..shapes.len() } else { shapes.len()..shapes.len() },
    });
    World { table: Table::with_split(columns, table_files.collect(), Split::new(split)), sums, files, tensors }
}

fn shaped() -> impl Strategy<Value = Shaped> {
    let shape = prop_oneof![
        3 => prop::collection::vec(0..6u64, 0..4),
        1 => (1..200u64, 1..300u64).prop_map(|(rows, columns)| vec![rows, columns]),
        1 => (20_000..60_000u64).prop_map(|elements| vec![elements]),
    ];
    (0..TYPES.len(), shape, prop::collection::vec((0..3usize, any::<u64>()), 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn tensors_in_pieces_come_together(
        shapes in prop::collection::vec(shaped(), 1..6),
        start in 0..5000u64,
        chunk in prop_oneof![Just(16u64), Just(4096), Just(1 << 20)],
        sliced in prop::collection::vec(prop::option::of((0..6u64, 0..300u64)), 6),
        checked in any::<bool>(),
        packed in any::<bool>(),
        group_bytes in prop_oneof![1..2000u64, Just(1 << 20)],
    ) {
        let world = world(&shapes, start, chunk);
        let table = &world.table;
        // Of some, a range of the last two dimensions.
        let mut slices = HashMap::new();
        let mut wanted = Vec::new();
        for (index, bytes) in world.tensors.iter().enumerate() {
            let info = table.info(index);
            let dtype = info.dtype.expect("known");
            let unit = if dtype == DType::F4 { 2 } else { 1 };
            let range = |dimension: usize| {
                let (extent, last) = (info.shape[dimension], dimension + 1 == info.shape.len());
                let Some((from, count)) = sliced[index].filter(|_| dimension + 2 >= info.shape.len()) else { return 0..extent };
                let unit = if last { unit } else { 1 };
                let from = (from * unit).min(extent);
                from..extent.min(from + count * unit)
            };
            let ranges: Vec<Range<u64>> = (0..info.shape.len()).map(range).collect();
            if sliced[index].is_some() {
                slices.insert(index as u32, Slice::new(ranges.iter().cloned().map(Some)));
            }
            wanted.push(part(bytes, &info.shape, &ranges, u64::from(dtype.bits())));
        }
        let sums = checked.then_some(&world.sums);
        let rules = Rules { separate: checked || packed, packed, ..Rules::new(group_bytes, sums) };
        let plan = Plan::new(table, &table.all(), &slices, rules).expect("a plan");
        prop_assert_eq!(plan.bytes, wanted.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
        let mut buffers = Vec::new();
        for group in &plan.groups {
            let mut buffer = vec![None; group.bytes as usize];
            for gap in group.gaps() {
                for byte in &mut buffer[gap] { prop_assert_eq!(byte.replace(0), None); }
            }
            for (reads, pieces) in group.files.iter().zip(group.reads(|reads| 0..reads.pieces.len())) {
                let file = &world.files[reads.file];
                for piece in pieces {
                    let bytes = &file[piece.position as usize..piece.position as usize + piece.len];
                    for (byte, &read) in buffer[piece.offset..].iter_mut().zip(bytes) { prop_assert_eq!(byte.replace(read), None, "read twice"); }
                }
                for check in &reads.checks {
                    let piece = reads.pieces[check.piece as usize];
                    let bytes = &file[piece.position as usize..piece.position as usize + piece.len];
                    prop_assert_eq!(world.sums.get(check.sum), deepring::crc32c(bytes));
                }
            }
            let whole: Option<Vec<u8>> = buffer.into_iter().collect();
            buffers.push(whole.expect("no byte of a buffer is left as it was"));
        }
        for (index, (place, wanted)) in plan.places.iter().zip(&wanted).enumerate() {
            let (group, offset) = (place.group as usize, place.offset as usize);
            prop_assert_eq!(&buffers[group][offset..offset + wanted.len()], &wanted[..], "tensor {}", index);
            prop_assert!(packed || place.offset % table.columns.dtype(index).expect("known").align() as u64 == 0);
        }
        // What is whole in the plan is checked as a whole.
        let checks = plan.groups.iter().flat_map(|group| &group.files).map(|reads| reads.checks.len()).sum::<usize>();
        if checked && slices.is_empty() && table.split.is_empty() {
            let chunks = wanted.iter().map(|bytes| bytes.len().div_ceil(chunk as usize)).sum::<usize>();
            prop_assert_eq!(checks, chunks);
        }
        prop_assert!(checked || checks == 0);
    }
}

#[test]
fn pieces_of_whole_rows_are_read_where_they_belong_and_are_checked() {
    // Cut at row 120 of 200: one piece in each of two files.
    let world = world(&[(2, vec![200, 256], vec![(0, 120)])], 4096, 4096);
    let plan = Plan::new(&world.table, &world.table.all(), &HashMap::new(), Rules::new(64 << 20, None)).expect("a plan");
    let [one, two] = &plan.groups[0].files[..] else { panic!("two files: {plan:?}") };
    assert_eq!((&one.pieces[..], &two.pieces[..]), (&[Piece::new(4096, 0, 120 << 10)][..], &[Piece::new(4096, 120 << 10, 80 << 10)][..]));
    let plan = Plan::new(&world.table, &world.table.all(), &HashMap::new(), Rules::new(64 << 20, Some(&world.sums))).expect("a plan");
    assert_eq!(plan.groups[0].files.iter().map(|reads| reads.checks.len()).collect::<Vec<_>>(), [30, 20]);
}

#[test]
fn groups_of_several_files_are_read_from_page_to_page_where_there_is_room() {
    // Of each of two tensors, a piece in each of two files, from byte 100 on.
    let world = world(&[(0, vec![81_920], vec![(0, 40_960)]), (0, vec![50_000], vec![(0, 25_000)])], 100, 4096);
    let reads = |indices| {
        let selection = world.table.selection(indices);
        let plan = Plan::new(&world.table, &selection, &HashMap::new(), Rules::new(64 << 20, None)).expect("a plan");
        let [group] = &plan.groups[..] else { panic!("one group: {plan:?}") };
        group.reads(|reads| 0..reads.pieces.len())
    };
    // The first piece ends in the page that the second one begins in.
    let (first, second) = (Piece::new(0, 0, 41_060), Piece::new(100, 41_060, 40_960));
    assert_eq!(reads(vec![0]), [[first], [Piece { len: 40_960 + 3996, ..second }]]);
    // Behind both, their files have bytes of the other tensor.
    assert_eq!(reads(vec![0, 1]), [[first, Piece::new(41_060, 86_116, 25_000)], [second, Piece::new(41_060, 111_116, 25_000)]]);
}

#[test]
fn groups_of_checksums_follow_the_file() {
    let table = table(100, &[(0, 5000), (0, 5000)]);
    let summed = |position, len, sum| Summed { file: 0, position, len, tensor: 0, sum };
    let plan = Plan::of_sums(&table, [summed(100, 4000, 0), summed(4100, 1000, 1), summed(5100, 4000, 2), summed(9200, 900, 3)], 6000);
    let pieces: Vec<_> = plan.groups.iter().map(|group| (pieces_of(group).to_vec(), group.bytes)).collect();
    let first = vec![Piece::new(100, 100, 4000), Piece::new(4100, 4100, 1000)];
    assert_eq!(pieces, [(first, 5100), (vec![Piece::new(5100, 1004, 4000)], 5004), (vec![Piece::new(9200, 1008, 900)], 1908)]);
    assert_eq!(plan.bytes, 9900);
}
