//! What a part says comes back, and what it cannot say is refused.

use super::{CHUNK_BYTES, PART_BYTES_MAX, Part, PartFile, SplitPiece, SplitTensor};
use crate::checkpoint::names::{Id, Member, Origin, WRITERS_MAX};
use crate::checkpoint::processor_time;
use crate::error::{Fault, Reason};
use crate::sealed::seal;
use proptest::prelude::*;
use std::time::Duration;

fn file(writer: u32, group: &str, number: u32, crcs: Vec<u32>) -> PartFile {
    let name = Member::Data { writer, group, file: number }.to_string();
    PartFile { name, bytes: 4096, origin: Origin { id: Id(1), writer }, header_crc: 0xab, crcs }
}

/// Two files, and a tensor that is split over them.
fn small() -> Part {
    let piece = |file| SplitPiece { file, start: vec![2 * u64::from(file), 0], shape: vec![2, 2] };
    let split = vec![SplitTensor { name: "w".into(), shape: vec![4, 2], pieces: vec![piece(0), piece(1)] }];
    let files = vec![file(3, "main", 0, vec![1, 2]), file(3, "main", 1, vec![])];
    Part { id: Id(1), writer: 3, chunk: CHUNK_BYTES, files, split }
}

fn fields(part: &Part) -> String {
    let text = part.text().expect("small");
    let fields = text.strip_prefix("{\"format\":\"deepring-checkpoint\",\"version\":1,").expect("the beginning");
    fields.rsplit_once(",\"crc32c\"").expect("the end").0.to_owned()
}

/// What is found in a part whose fields were changed, and sealed again.
fn fault(from: &str, to: &str) -> Fault {
    let fields = fields(&small());
    assert!(fields.contains(from), "{fields}");
    Part::parse(seal(&fields.replacen(from, to, 1)).as_bytes()).expect_err(to)
}

#[test]
fn the_form_is_that_of_the_format() {
    let id = "00000000000000000000000000000001";
    let file = |number: u32, crcs: &str| {
        format!(
            "{{\"name\":\"data-00003-main-0000{number}.safetensors\",\"bytes\":4096,\"id\":\"{id}:3\",\"headerCrc\":\"000000ab\",\"crcs\":\"{crcs}\"}}"
        )
    };
    let piece = |file: u32, start: u32| format!("{{\"file\":{file},\"start\":[{start},0],\"shape\":[2,2]}}");
    let expected = format!(
        "\"id\":\"{id}\",\"writer\":3,\"chunk\":1048576,\"files\":[{},{}],\"tensors\":{{\"w\":{{\"shape\":[4,2],\"parts\":[{},{}]}}}}",
        file(0, "AQAAAAIAAAA="),
        file(1, ""),
        piece(0, 0),
        piece(1, 2)
    );
    assert_eq!(fields(&small()), expected);
    assert_eq!(Part::parse(small().text().expect("small").as_bytes()), Ok(small()));
    // A field that a later release adds.
    assert_eq!(Part::parse(seal(&format!("\"new\":{{\"id\":[]}},{expected}")).as_bytes()), Ok(small()));
}

#[test]
fn equal_tables_have_equal_texts() {
    let mut one = small();
    one.split.push(SplitTensor { name: "a\n".into(), ..one.split[0].clone() });
    let mut other = one.clone();
    other.split.reverse();
    other.split[1].pieces.reverse();
    assert_eq!(one.text().expect("small"), other.text().expect("small"));
    assert!(Part::parse(one.text().expect("small").as_bytes()).is_ok());
}

#[test]
fn a_file_has_a_name_that_the_writer_gives() {
    for name in [
        "../data-00003-main-00000.safetensors",
        "/etc/passwd",
        "",
        "part-00003.json",
        "data-00002-main-00000.safetensors",
        "data-3-main-0.safetensors",
        "data-00003-main/../x-00000.safetensors",
        "data-00003-main-00000.safetensors\\u0000",
        "data-00003-main-00001.safetensors",
    ] {
        let fault = fault("data-00003-main-00000.safetensors", name);
        assert_eq!((fault.reason, fault.tensor), (Reason::Part, None), "{name}");
    }
}

#[test]
fn what_is_wrong_in_a_file_or_the_part_itself_is_refused() {
    for (from, to) in [
        ("\"id\":\"0", "\"id\":\""),
        ("\"writer\":3", "\"writer\":65536"),
        ("\"writer\":3", "\"writer\":\"3\""),
        ("\"writer\":3,", ""),
        ("\"writer\":3", "\"writer\":3,\"writer\":3"),
        ("\"chunk\":1048576", "\"chunk\":0"),
        ("\"chunk\":1048576", "\"chunk\":1000000"),
        ("\"chunk\":1048576", "\"chunk\":2147483648"),
        ("\"files\":[", "\"files\":[1,"),
        ("\"bytes\":4096", "\"bytes\":1"),
        ("\"bytes\":4096", "\"bytes\":4096.5"),
        ("\"bytes\":4096", "\"bytes\":18446744073709551615"),
        (":3\",\"headerCrc\"", ":03\",\"headerCrc\""),
        ("000000ab", "000000AB"),
        ("AQAAAAIAAAA=", "AQAAAAIAAAA"),
        ("AQAAAAIAAAA=", "AQAAAAIAAAB="),
        ("AQAAAAIAAAA=", "AQAAAAIA"),
        ("\"tensors\":{", "\"tensors\":[],\"other\":{"),
    ] {
        let fault = fault(from, to);
        assert_eq!((fault.reason, fault.tensor), (Reason::Part, None), "{from} {to}");
    }
}

#[test]
fn a_wrong_piece_names_its_tensor() {
    for (from, to) in [
        ("\"shape\":[4,2]", "\"shape\":[3,2]"),
        ("\"shape\":[4,2]", "\"shape\":[4]"),
        ("\"shape\":[4,2]", "\"shape\":[4,2,1]"),
        ("\"shape\":[4,2]", "\"shape\":[4503599627370496,4503599627370496]"),
        ("\"start\":[0,0]", "\"start\":[0]"),
        ("\"start\":[0,0]", "\"start\":[0,1]"),
        ("\"start\":[0,0]", "\"start\":[9007199254740991,0]"),
        ("\"start\":[0,0]", "\"start\":[-1,0]"),
        ("\"file\":0", "\"file\":1"),
        ("\"file\":1", "\"file\":2"),
        ("\"file\":1", "\"file\":4294967297"),
        ("\"parts\":[", "\"parts\":[],\"other\":["),
        ("\"tensors\":{", "\"tensors\":{\"w\":{\"shape\":[],\"parts\":[{\"file\":0,\"start\":[],\"shape\":[]}]},"),
    ] {
        let fault = fault(from, to);
        assert_eq!((fault.reason, fault.tensor.as_deref()), (Reason::Part, Some("w")), "{from} {to}");
    }
    let deep = format!("\"shape\":[{}]", vec!["1"; 65].join(","));
    assert_eq!(fault("\"shape\":[4,2]", &deep).tensor.as_deref(), Some("w"));
}

#[test]
fn sums_find_their_tensors() {
    let file = file(0, "main", 0, vec![0; 6]);
    assert_eq!(file.places(10, [20, 0, 1, 21]), Ok(vec![0, 2, 2, 3, 6]));
    for lens in [vec![20, 0, 1, 20], vec![61], vec![], vec![u64::MAX, u64::MAX]] {
        assert_eq!(file.places(10, lens).expect_err("other sums").reason, Reason::Part);
    }
    assert!(file.places(1, [u64::MAX, 2]).is_err(), "a number that wraps");
}

/// Texts of the largest size, which are sealed well, and hostile in themselves.
#[test]
fn a_large_part_is_read_or_refused_soon() {
    const TENSORS: usize = 900_000;
    let began = processor_time();
    let room = PART_BYTES_MAX as usize - 1000;
    let front = "\"id\":\"00000000000000000000000000000001\",\"writer\":3,\"chunk\":1048576,";
    let refused = |rest: String| Part::parse(seal(&format!("{front}{rest}")).as_bytes()).expect_err("hostile").reason;
    assert_eq!(refused(format!("\"files\":{}", "[".repeat(room))), Reason::Part);
    assert_eq!(refused(format!("\"files\":[{}1]", "1,".repeat(room / 2))), Reason::Part);
    let deep = format!("\"files\":[],\"new\":{}{},\"tensors\":{{}}", "[".repeat(room / 2), "]".repeat(room / 2));
    assert!(Part::parse(seal(&format!("{front}{deep}")).as_bytes()).is_ok());
    let numbers = "1,".repeat(room / 2);
    assert_eq!(refused(format!("\"files\":[],\"tensors\":{{\"w\":{{\"shape\":[{numbers}1],\"parts\":[]}}}}")), Reason::Part);
    let name = "x".repeat(room / 2);
    assert_eq!(refused(format!("\"files\":[],\"tensors\":{{\"{name}\":{{\"shape\":[],\"parts\":[]}}}}")), Reason::Part);
    assert_eq!(refused(format!("\"files\":[{{\"name\":\"{name}\"}}]")), Reason::Part);
    // Nearly as many tensors as there is room for, and one of them twice.
    let tensors = (0..TENSORS).map(|nth| format!("\"{nth:08}\":{{\"shape\":[],\"parts\":[{{\"file\":0,\"start\":[],\"shape\":[]}}]}}"));
    let tensors = tensors.collect::<Vec<_>>().join(",");
    let files = fields(&small());
    let files = files.split_once("\"files\"").and_then(|(_, rest)| rest.split_once(",\"tensors\"")).expect("both").0;
    let many = |last: &str| Part::parse(seal(&format!("{front}\"files\"{files},\"tensors\":{{{tensors}{last}}}")).as_bytes());
    assert_eq!(many("").map(|part| part.split.len()), Ok(TENSORS));
    assert_eq!(many(",\"00000000\":{}").expect_err("twice").tensor.as_deref(), Some("00000000"));
    let mut largest = small();
    largest.files[0] = PartFile { bytes: 1 << 40, ..file(3, "main", 0, vec![7; room / 16 * 12 / 4]) };
    assert_eq!(Part::parse(largest.text().expect("allowed").as_bytes()), Ok(largest.clone()));
    largest.files[0].crcs = vec![7; PART_BYTES_MAX as usize / 16 * 12 / 4];
    assert_eq!(largest.text().expect_err("too large").code(), "ERR_DEEPRING_INVALID");
    assert_eq!(Part::parse(&vec![b'0'; 100_000_000]).expect_err("too large").reason, Reason::TooLarge);
    let took = processor_time().saturating_sub(began);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// A group and a number; sums, bytes, the id, the sum of the header.
type AnyFile = ((String, u32), (Vec<u32>, u64, u128, u32));

/// A name; the rank, and places of pieces.
type AnyTensor = (String, (usize, Vec<Vec<(u64, u64)>>));

fn part() -> impl Strategy<Value = Part> {
    let sums = prop::collection::vec(any::<u32>(), 0..5);
    let files = prop::collection::btree_map(("[a-z0-9_-]{1,8}", 0..3u32), (sums, 5..1u64 << 53, any::<u128>(), any::<u32>()), 1..5);
    let places = prop::collection::vec((0..9u64, 0..9u64), 3);
    let split = prop::collection::btree_map(".{0,4}", (0..=3usize, prop::collection::vec(places, 1..5)), 0..4);
    (any::<u128>(), 0..WRITERS_MAX, 0..=30u32, files, split).prop_map(|(id, writer, chunk, files, split)| {
        let named = |((group, number), (crcs, bytes, id, header_crc)): AnyFile| {
            let origin = Origin { id: Id(id), writer: header_crc % WRITERS_MAX };
            PartFile { bytes, origin, header_crc, ..file(writer, &group, number, crcs) }
        };
        let files: Vec<PartFile> = files.into_iter().map(named).collect();
        let tensor = |(name, (rank, places)): AnyTensor| {
            let of = |(file, places): (u32, Vec<(u64, u64)>)| {
                let (start, shape) = places.into_iter().take(rank).unzip();
                SplitPiece { file, start, shape }
            };
            let pieces = (0..files.len() as u32).zip(places).map(of).collect();
            SplitTensor { name, shape: vec![17; rank], pieces }
        };
        let split = split.into_iter().map(tensor).collect();
        Part { id: Id(id), writer, chunk: 1 << chunk, files, split }
    })
}

proptest! {
    #[test]
    fn a_part_comes_back(part in part()) {
        prop_assert_eq!(Part::parse(part.text().expect("small").as_bytes()), Ok(part));
    }

    #[test]
    fn fields_that_are_changed_at_random_are_refused_or_checked(part in part(), at in any::<prop::sample::Index>(), with in "[0-9\"{}\\[\\],:a-z]{0,2}") {
        let mut fields = fields(&part);
        let at = (0..=at.index(fields.len())).rev().find(|&at| fields.is_char_boundary(at)).unwrap_or(0);
        let end = (at + 1..fields.len()).find(|&end| fields.is_char_boundary(end)).unwrap_or(fields.len());
        fields.replace_range(at..end, &with);
        if let Ok(found) = Part::parse(seal(&fields).as_bytes()) {
            for file in &found.files {
                let own = matches!(Member::parse(&file.name), Some(Member::Data { writer, .. }) if writer == found.writer);
                prop_assert!(own);
            }
            prop_assert_eq!(Part::parse(found.text().expect("small").as_bytes()), Ok(found));
        }
    }
}
