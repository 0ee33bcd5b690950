//! Loading: selections, slices, what is misplaced in a file, and files that change after they were opened.

mod harness;

use deepring::{Direct, ErrorKind};
use deepring_tensors::binding::{self, Destination};
use deepring_tensors::{DType, Error, LoadOptions, OpenOptions, Order, Reason, Row, Safetensors, SaveOptions, Slice, Tensors};
use harness::{Rng, source};
use std::fmt::Write as _;
use std::fs::File;

/// Tensors of 1 MiB, one behind the other.
fn three() -> Vec<deepring_tensors::Source<Vec<u8>>> {
    ["a", "b", "c"].map(|name| source(name, DType::U8, &[1 << 20])).into()
}

fn given() -> SaveOptions {
    SaveOptions::new().order(Order::Given)
}

#[test]
fn a_file_that_was_cut_after_it_was_opened_is_an_error_that_names_the_tensor() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors = three();
    for (cut, missing) in [(1, "c"), ((1 << 20) + 10_000, "b"), (3 << 20, "a")] {
        let path = harness::saved(&engine, directory.path(), "model", &tensors, given());
        for direct in [Direct::Prefer, Direct::Never] {
            let model = Safetensors::open_with(&engine, &path, OpenOptions::new().direct(direct)).wait().expect("a model");
            let len = std::fs::metadata(&path).expect("the file").len();
            File::options().write(true).open(&path).and_then(|file| file.set_len(len - cut)).expect("cut");
            let error = model.load(&model.table().all()).wait().expect_err("cut");
            assert!(matches!(&error, Error::Io { error, .. } if error.kind() == ErrorKind::Eof), "{error:?}");
            assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_EOF", Some(missing)), "{error}");
            let error = model.tensor("c", None).wait().expect_err("cut");
            assert_eq!(error.tensor(), Some("c"));
            if missing != "a" {
                assert_eq!(model.tensor("a", None).wait().expect("whole").bytes(), tensors[0].data);
            }
            // Never zeros: what follows is a file of the old length again.
            File::options().write(true).open(&path).and_then(|file| file.set_len(len)).expect("extended");
        }
    }
}

#[test]
fn a_file_that_is_replaced_or_grows_keeps_its_contents_for_who_has_opened_it() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors = three();
    let path = harness::saved(&engine, directory.path(), "model", &tensors, given());
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    harness::saved(&engine, directory.path(), "model", &[source("other", DType::F32, &[7])], given());
    let loaded = model.load(&model.table().all()).wait().expect("the old file");
    assert!(tensors.iter().all(|tensor| loaded.get(&tensor.declared.name).expect("there").bytes() == tensor.data));

    let path = harness::saved(&engine, directory.path(), "grows", &tensors, given());
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let len = std::fs::metadata(&path).expect("the file").len();
    File::options().write(true).open(&path).and_then(|file| file.set_len(len + 5000)).expect("extended");
    assert_eq!(model.tensor("c", None).wait().expect("whole").bytes(), tensors[2].data);
}

#[test]
fn a_selection_of_nothing_reads_nothing_and_a_name_twice_is_one_tensor() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = harness::saved(&engine, directory.path(), "model", &three(), given());
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let before = engine.stats().submitted;
    let nothing = model.table().select([]).expect("nothing");
    let loaded = model.load(&nothing).wait().expect("nothing");
    assert!(loaded.is_empty() && loaded.get("a").is_none() && loaded.iter().next().is_none());
    assert!(model.stream(&nothing, &deepring_tensors::StreamOptions::new()).expect("nothing").wait_next().is_none());
    assert_eq!(engine.stats().submitted, before);

    let error = model.table().select(["a", "z"]).expect_err("unknown");
    assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_NOT_FOUND", Some("z")));
    let twice = model.table().select(["b", "a", "b"]).expect("two");
    assert_eq!((twice.len(), twice.bytes()), (2, 2 << 20));
    let loaded = model.load(&twice).wait().expect("loaded");
    assert_eq!(loaded.iter().map(|tensor| tensor.name().to_owned()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(loaded.get("c").is_none());
}

#[test]
fn a_tensor_that_breaks_its_alignment_is_moved_and_counted() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let mut rng = Rng::new();
    let path = directory.path().join("model");
    for pad in 0..8usize {
        // Sizes on both sides of what is packed, and odd ones in between.
        let types = [("F64", 8u64), ("U8", 1), ("I64", 8), ("F32", 4), ("BF16", 2), ("U8", 1), ("F32", 4), ("F16", 2)];
        let (mut header, mut data) = (String::from("{"), Vec::new());
        for (nth, (dtype, bytes)) in types.iter().enumerate() {
            let elements = if rng.once_in(2) { 1 + rng.below(40) } else { 5000 + rng.below(20_000) };
            let (begin, end) = (data.len() as u64, data.len() as u64 + elements * bytes);
            let comma = if nth == 0 { "" } else { "," };
            let _ = write!(header, "{comma}\"{nth}\":{{\"dtype\":\"{dtype}\",\"shape\":[{elements}],\"data_offsets\":[{begin},{end}]}}");
            data.extend(harness::bytes((end - begin) as usize, nth as u64));
        }
        header.push('}');
        header += &" ".repeat(8 - header.len() % 8 + pad);
        harness::raw_file(&path, &header, &data);
        let model = Safetensors::open(&engine, &path).wait().expect("a model");
        let misplaced =
            model.table().iter().filter(|info| !info.position.is_multiple_of(info.dtype.expect("known").align() as u64)).count();
        assert!(pad == 0 || misplaced > 0);
        for group_bytes in [1, 50_000, 64 << 20] {
            let loaded = model.load_with(&model.table().all(), LoadOptions::new().group_bytes(group_bytes)).wait().expect("loaded");
            assert_eq!(loaded.receipt().realigned, misplaced as u64, "{pad}");
            for tensor in loaded.iter() {
                let start =
                    (model.table().info(model.table().find(tensor.name()).expect("there")).position - 8 - header.len() as u64) as usize;
                assert!(tensor.bytes() == &data[start..start + tensor.bytes().len()], "{pad}: {}", tensor.name());
                assert!(tensor.bytes().as_ptr().addr().is_multiple_of(tensor.dtype().expect("known").align()));
            }
        }
    }
}

#[test]
fn what_cannot_be_sliced_is_refused_before_anything_is_read() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors = [
        source("m", DType::F32, &[8, 6]),
        source("s", DType::F32, &[]),
        source("packed", DType::F4, &[4, 3, 2]),
        source("long", DType::U8, &[5_000_000, 2]),
    ];
    let path = harness::saved(&engine, directory.path(), "model", &tensors, given());
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let before = engine.stats().submitted;
    let refused = |name: &str, slice: Slice| {
        let error = model.tensor(name, Some(slice)).wait().expect_err("refused");
        assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_SLICE", Some(name)), "{error}");
    };
    refused("m", Slice::new([Some(0..9)]));
    refused("m", Slice::new([None, Some(7..8)]));
    refused("m", Slice::new([None, None, None]));
    refused("m", Slice::new([Some(u64::MAX - 1..u64::MAX)]));
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    refused("m", Slice::new([Some(5..2)]));
    refused("s", Slice::new([Some(0..1)]));
    refused("packed", Slice::new([None, None, Some(1..2)]));
    refused("long", Slice::new([None, Some(0..1)]));
    let other = model.table().select(["m"]).expect("there");
    let error = model.load_with(&other, LoadOptions::new().slice("s", Slice::default())).wait().expect_err("not selected");
    assert!(matches!(error, Error::NotFound { tensor } if tensor == "s"));
    assert_eq!(engine.stats().submitted, before);

    let whole = model.tensor("m", Some(Slice::new([Some(0..8), None]))).wait().expect("whole");
    assert_eq!((whole.shape(), whole.bytes()), (&[8, 6][..], &tensors[0].data[..]));
    let empty = model.tensor("m", Some(Slice::new([Some(3..3)]))).wait().expect("empty");
    assert_eq!((empty.shape(), empty.bytes()), (&[0, 6][..], &[][..]));
    let scalar = model.tensor("s", Some(Slice::default())).wait().expect("a scalar");
    assert_eq!((scalar.shape(), scalar.bytes()), (&[][..], &tensors[1].data[..]));
    let packed = model.tensor("packed", Some(Slice::new([Some(1..3), Some(2..3)]))).wait().expect("whole bytes");
    assert_eq!((packed.shape(), packed.bytes()), (&[2, 1, 2][..], &[tensors[2].data[5], tensors[2].data[8]][..]));
}

#[test]
fn a_tensor_of_an_unknown_type_is_bytes_and_has_no_slices() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = directory.path().join("model");
    harness::raw_file(
        &path,
        r#"{"a":{"dtype":"U3","shape":[5],"data_offsets":[0,2]},"b":{"dtype":"f32","shape":[1],"data_offsets":[2,6]}}"#,
        &[1, 2, 3, 4, 5, 6],
    );
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let tensor = model.tensor("b", None).wait().expect("bytes");
    assert_eq!((tensor.dtype(), tensor.dtype_name(), tensor.shape(), tensor.bytes()), (None, "f32", &[1][..], &[3, 4, 5, 6][..]));
    let error = model.tensor("a", Some(Slice::new([Some(0..1)]))).wait().expect_err("no slices");
    assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_SLICE", Some("a")));
}

/// Elements of a slice, one by one.
fn model_slice(data: &[u8], shape: &[u64], ranges: &[std::ops::Range<u64>], width: usize) -> Vec<u8> {
    let elements: u64 = shape.iter().product();
    let mut found = Vec::new();
    for element in 0..elements {
        let mut rest = element;
        let inside = (0..shape.len()).rev().all(|dimension| {
            let at = rest % shape[dimension];
            rest /= shape[dimension];
            ranges[dimension].contains(&at)
        });
        if inside {
            found.extend_from_slice(&data[element as usize * width..(element as usize + 1) * width]);
        }
    }
    found
}

#[test]
fn random_slices_of_a_file_are_the_elements_of_their_definition() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let mut rng = Rng::new();
    for round in 0..12 {
        let types = [DType::U8, DType::BF16, DType::F32, DType::C64, DType::F64];
        let tensors: Vec<_> = (0..8)
            .map(|nth| {
                let dimensions = rng.below(4);
                let shape: Vec<u64> = (0..dimensions).map(|_| if rng.once_in(4) { rng.below(3) } else { 1 + rng.below(60) }).collect();
                source(&format!("t{nth}"), *rng.pick(&types), &shape)
            })
            .collect();
        let align = if rng.once_in(2) { 8 } else { 4096 };
        let path = harness::saved(&engine, directory.path(), &format!("model-{round}"), &tensors, given().align(align));
        let model = Safetensors::open(&engine, &path).wait().expect("a model");
        for _ in 0..10 {
            let mut options = LoadOptions::new().group_bytes(1 + rng.below(200_000));
            let mut expected = Vec::new();
            for tensor in &tensors {
                let shape = &tensor.declared.shape;
                let ranges: Vec<_> = shape
                    .iter()
                    .map(|&extent| {
                        let (a, b) = (rng.below(extent + 1), rng.below(extent + 1));
                        if rng.once_in(3) { 0..extent } else { a.min(b)..a.max(b) }
                    })
                    .collect();
                let width = tensor.declared.dtype.bits() as usize / 8;
                let sliced = rng.once_in(2);
                let bytes = if sliced { model_slice(&tensor.data, shape, &ranges, width) } else { tensor.data.clone() };
                let extents: Vec<usize> = if sliced {
                    ranges.iter().map(|range| (range.end - range.start) as usize).collect()
                } else {
                    shape.iter().map(|&extent| extent as usize).collect()
                };
                if sliced {
                    // Trailing dimensions that are whole can be left out.
                    let whole = ranges.iter().zip(shape).rev().take_while(|(range, extent)| **range == (0..**extent)).count();
                    let given = ranges.len() - if rng.once_in(2) { whole } else { 0 };
                    options = options.slice(&tensor.declared.name, Slice::new(ranges[..given].iter().cloned().map(Some)));
                }
                expected.push((extents, bytes));
            }
            let loaded = model.load_with(&model.table().all(), options).wait().expect("loaded");
            for (tensor, (shape, bytes)) in tensors.iter().zip(&expected) {
                let found = loaded.get(&tensor.declared.name).expect("there");
                assert_eq!(found.shape(), shape);
                assert!(found.bytes() == bytes, "{:?} of {:?}", tensor.declared, shape);
                assert!(bytes.is_empty() || found.bytes().as_ptr().addr().is_multiple_of(tensor.declared.dtype.align()));
            }
        }
    }
}

#[test]
fn neighbors_that_go_into_memory_of_the_program_are_one_request() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let mut tensors: Vec<_> = (0..100).map(|nth| source(&format!("t{nth}"), DType::U8, &[nth % 7 * 50])).collect();
    tensors.push(source("matrix", DType::F32, &[300, 20]));
    let path = harness::saved(&engine, directory.path(), "model", &tensors, given().align(8).checksums(true));
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    assert!(model.table().names().eq(tensors.iter().map(|tensor| tensor.declared.name.as_str())));
    let column = Slice::new([None, Some(3..5)]);
    let into = |group_bytes, verify| {
        let destination = |(index, tensor): (usize, &deepring_tensors::Source<Vec<u8>>)| {
            let is_sliced = tensor.declared.name == "matrix";
            let len = if is_sliced { 300 * 8 } else { tensor.data.len() };
            Destination { index: index as u32, slice: is_sliced.then(|| column.clone()), memory: vec![0; len] }
        };
        let destinations = tensors.iter().enumerate().map(destination).rev().collect();
        let before = engine.stats().submitted;
        let jobs = binding::load_into(&model, destinations, group_bytes, verify).expect("sizes that fit");
        let (mut memory, mut bytes) = (Vec::new(), 0);
        for job in jobs {
            let (part, receipt) = job.wait().expect("read");
            memory.extend(part);
            bytes += receipt.bytes;
        }
        for (found, tensor) in memory.iter().zip(&tensors) {
            let sliced = tensor.declared.name == "matrix";
            let expected = if sliced { model_slice(&tensor.data, &[300, 20], &[0..300, 3..5], 4) } else { tensor.data.clone() };
            assert!(*found == expected, "{:?}", tensor.declared);
        }
        assert_eq!((memory.len(), bytes), (101, memory.iter().map(|memory| memory.len() as u64).sum()));
        engine.stats().submitted - before
    };
    for verify in [false, true] {
        assert_eq!(into(64 << 20, Some(verify)), 1);
        assert!(into(5000, Some(verify)) > 2);
    }
    let wrong = vec![Destination { index: 1, slice: None, memory: vec![0; 49] }];
    let error = binding::load_into(&model, wrong, 1, Some(false)).expect_err("50 bytes");
    assert!(matches!(error, Error::Argument(_)), "{error}");

    // A byte of a tensor changes: only that one is wrong.
    let fourth = model.table().info(4);
    let file = File::options().write(true).open(&path).expect("the file");
    std::os::unix::fs::FileExt::write_all_at(&file, &[0], fourth.position + 7).expect("written");
    for (index, is_right) in [(3, true), (4, false)] {
        let memory = vec![0; tensors[index].data.len()];
        let one = vec![Destination { index: index as u32, slice: None, memory }];
        let mut jobs = binding::load_into(&model, one, 1, Some(true)).expect("sizes that fit");
        let result = jobs.remove(0).wait();
        assert_eq!(result.map_err(|error| error.code().as_str().to_owned()).is_ok(), is_right);
    }
}

#[test]
fn long_runs_of_a_file_without_alignment_are_read_without_a_copy() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors: Vec<_> = (0..12u64).map(|nth| source(&format!("t{nth}"), DType::BF16, &[64, 3000 + 17 * nth])).collect();
    let path = harness::saved(&engine, directory.path(), "model", &tensors, given().align(8));
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let rows = |name: &str| (name.to_owned(), Slice::new([Some(16..32)]));
    let options = tensors
        .iter()
        .map(|tensor| rows(&tensor.declared.name))
        .fold(LoadOptions::new(), |options, (name, slice)| options.slice(name, slice));
    let loaded = model.load_with(&model.table().all(), options).wait().expect("loaded");
    let receipt = loaded.receipt();
    for tensor in &tensors {
        let found = loaded.get(&tensor.declared.name).expect("there");
        let row = tensor.data.len() / 64;
        assert!(found.bytes() == &tensor.data[16 * row..32 * row], "{:?}", tensor.declared);
        assert!(!model.direct() || found.bytes().as_ptr().addr() % 4096 == position_of(&model, &tensor.declared.name, 16 * row) % 4096);
    }
    assert_eq!(receipt.bytes, tensors.iter().map(|tensor| tensor.data.len() as u64 / 4).sum::<u64>());
    assert!(receipt.overread > 0 && receipt.overread <= 12 * 2 * 4096);
    assert!(!receipt.direct || receipt.bounced == 0, "{receipt:?}");
}

fn position_of(model: &Safetensors, name: &str, behind: usize) -> usize {
    let index = model.table().find(name).expect("there");
    model.table().info(index).position as usize + behind
}

#[test]
fn rows_of_another_format_can_share_bytes_but_not_leave_their_file() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = directory.path().join("weights");
    let data = harness::bytes(100_000, 3);
    std::fs::write(&path, &data).expect("a file");
    let row =
        |name: &str, position, len| Row { name: name.into(), dtype: "U8".into(), shape: vec![len], path: path.clone(), position, len };
    let rows = vec![
        row("whole", 0, 100_000),
        row("part", 33_333, 44_444),
        row("same", 33_333, 44_444),
        row("end", 99_999, 1),
        row("empty", 100_000, 0),
    ];
    let tensors = Tensors::of_rows(&engine, rows.clone(), Direct::Prefer).wait().expect("a table");
    let loaded = tensors.load(&tensors.table().all()).wait().expect("loaded");
    for row in &rows {
        let bytes = &data[row.position as usize..(row.position + row.len) as usize];
        assert!(loaded.get(&row.name).expect("there").bytes() == bytes, "{}", row.name);
    }
    let refused = |row: Row, reason: Reason| {
        let error = Tensors::of_rows(&engine, vec![rows[0].clone(), row], Direct::Prefer).wait().expect_err("refused");
        assert!(matches!(&error, Error::Format { reason: found, .. } if *found == reason), "{error}");
    };
    refused(row("far", 99_999, 2), Reason::Truncated);
    refused(row("farther", u64::MAX, 2), Reason::Overflow);
    refused(row("whole", 0, 1), Reason::Duplicate);
    refused(Row { dtype: "F32".into(), ..row("size", 0, 5) }, Reason::Size);
    refused(Row { shape: vec![u64::MAX, 2], ..row("many", 0, 5) }, Reason::Overflow);
}
