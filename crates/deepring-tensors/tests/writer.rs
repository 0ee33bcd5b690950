//! The writer: tensors in any order and in parts, complete or not at all.

mod harness;

use deepring_tensors::{DType, Declared, Error, Order, Safetensors, SaveOptions, Source, Writer};
use harness::{Rng, names_in, saved, source};

fn declared(tensors: &[Source<Vec<u8>>]) -> Vec<Declared> {
    tensors.iter().map(|tensor| tensor.declared.clone()).collect()
}

/// Parts of all tensors: which one, where, and how many bytes.
fn parts(rng: &mut Rng, tensors: &[Source<Vec<u8>>]) -> Vec<(usize, usize, usize)> {
    let mut parts = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        let mut start = 0;
        while start < tensor.data.len() {
            let len = (1 + rng.below(60_000) as usize).min(tensor.data.len() - start);
            parts.push((index, start, len));
            start += len;
        }
    }
    rng.shuffle(&mut parts);
    parts
}

#[test]
fn parts_in_any_order_from_several_threads_make_the_file_of_a_save() {
    let (directory, engine, mut rng) = (harness::directory(), harness::engine(), Rng::new());
    for checksums in [false, true] {
        let sizes = [0, 1, 5000, 4096, 100_000, 250_001];
        let tensors: Vec<_> = sizes.iter().enumerate().map(|(nth, &size)| source(&format!("t{nth}"), DType::U8, &[size])).collect();
        let options = SaveOptions::new().order(Order::Given).checksums(checksums);
        let path = directory.path().join("written");
        let writer = Writer::create(&engine, &path, declared(&tensors), options.clone()).wait().expect("a writer");
        let parts = parts(&mut rng, &tensors);
        std::thread::scope(|scope| {
            for share in parts.chunks(parts.len().div_ceil(3)) {
                let (writer, tensors) = (&writer, &tensors);
                scope.spawn(move || {
                    for &(index, start, len) in share {
                        let Source { declared, data } = &tensors[index];
                        let bytes = data[start..start + len].to_vec();
                        let back = writer.write(&declared.name, bytes.clone(), start as u64).wait().expect("written");
                        assert!(back == bytes);
                    }
                });
            }
        });
        assert!(!path.exists(), "nothing is visible before it is finished");
        let receipt = writer.finish().wait().expect("finished");
        let expected = saved(&engine, directory.path(), "saved", &tensors, options);
        assert!(std::fs::read(&path).expect("written") == std::fs::read(&expected).expect("saved"));
        assert_eq!(receipt.bytes, std::fs::metadata(&path).expect("written").len());
        if checksums {
            let model = Safetensors::open(&engine, &path).wait().expect("a model");
            assert!(model.verify(None).wait().expect("verified").is_whole());
        }
        assert_eq!(names_in(directory.path()), ["saved", "written"]);
        std::fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn bytes_that_overlap_or_leave_a_tensor_are_refused() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = directory.path().join("model");
    let tensors = [source("a", DType::F32, &[100]), source("b", DType::U8, &[0])];
    let writer = Writer::create(&engine, &path, declared(&tensors), SaveOptions::new()).wait().expect("a writer");
    let write = |name: &str, start: u64, len: usize| writer.write(name, vec![7u8; len], start).wait();
    write("a", 100, 50).expect("written");
    for (start, len) in [(100, 50), (100, 1), (149, 1), (99, 2), (0, 400), (120, 10), (90, 200)] {
        assert!(matches!(write("a", start, len), Err(Error::Argument(_))), "{start}, {len}");
    }
    for (start, len) in [(400, 1), (399, 2), (u64::MAX, 1), (1, 400)] {
        assert!(matches!(write("a", start, len), Err(Error::Argument(_))), "{start}, {len}");
    }
    assert!(matches!(write("b", 0, 1), Err(Error::Argument(_))));
    assert_eq!(write("z", 0, 1).expect_err("unknown").code(), "ERR_DEEPRING_NOT_FOUND");
    // Nothing at all is legal anywhere inside.
    for start in [0, 120, 400] {
        write("a", start, 0).expect("nothing");
    }
    write("a", 0, 100).expect("up to the part that is there");
    write("a", 150, 250).expect("from its end on");
    writer.finish().wait().expect("whole");
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    assert_eq!(model.tensor("a", None).wait().expect("a").bytes(), [7; 400]);
}

#[test]
fn a_writer_that_lacks_bytes_or_is_dropped_leaves_what_was_there() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let old = [source("old", DType::U8, &[10_000])];
    let path = saved(&engine, directory.path(), "model", &old, SaveOptions::new());
    let before = std::fs::read(&path).expect("the file");
    let tensors = [source("a", DType::U8, &[10_000]), source("b", DType::U8, &[10])];
    let create = || Writer::create(&engine, &path, declared(&tensors), SaveOptions::new().checksums(true)).wait().expect("a writer");
    let unchanged = || {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while names_in(directory.path()) != ["model"] {
            assert!(std::time::Instant::now() < deadline, "{:?} are left", names_in(directory.path()));
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(std::fs::read(&path).expect("the file") == before);
    };
    for missing in ["nothing", "end", "begin", "middle", "b"] {
        let writer = create();
        let write = |name: &str, start: usize, end: usize| {
            writer.write(name, vec![1u8; end - start], start as u64).wait().map(drop).expect("written");
        };
        match missing {
            "nothing" => {}
            "end" => write("a", 0, 9_999),
            "begin" => write("a", 1, 10_000),
            "middle" => {
                write("a", 0, 5_000);
                write("a", 5_001, 10_000);
            }
            _ => write("a", 0, 10_000),
        }
        if missing != "b" {
            write("b", 0, 10);
        }
        let error = writer.finish().wait().expect_err("bytes are missing");
        assert!(
            matches!(&error, Error::Argument(text) if text.contains(if missing == "b" { "\"b\"" } else { "\"a\"" })),
            "{missing}: {error}"
        );
        unchanged();
    }
    let writer = create();
    writer.write("a", vec![1u8; 10_000], 0).wait().map(drop).expect("written");
    drop(writer);
    unchanged();
    create().abort().wait().expect("given up");
    unchanged();
    drop(Writer::create(&engine, &path, declared(&tensors), SaveOptions::new()));
    unchanged();
    let twice = vec![tensors[0].declared.clone(), tensors[0].declared.clone()];
    assert!(matches!(Writer::create(&engine, &path, twice, SaveOptions::new()).wait(), Err(Error::Argument(_))));
    unchanged();
}

#[test]
fn a_writer_does_not_finish_before_its_writes() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors = [source("a", DType::U8, &[10])];
    let writer = Writer::create(&engine, directory.path().join("model"), declared(&tensors), SaveOptions::new()).wait().expect("a writer");
    let write = writer.write("a", vec![1u8; 10], 0);
    let error = writer.finish().wait().expect_err("a write is not done");
    assert!(matches!(error, Error::Argument(_)), "{error}");
    write.wait().map(drop).expect("written");
}
