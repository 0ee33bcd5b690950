//! Saving: what is written is what the reference crate reads, and nothing is ever half replaced.

mod harness;

use deepring::Engine;
use deepring_tensors::{DType, Declared, Error, Order, Safetensors, SaveOptions, Source, StreamOptions, save};
use harness::{Rng, names_in, saved, source};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Tensors of every type, some of them empty, scalar, or whole blocks.
fn every_type(rng: &mut Rng) -> Vec<Source<Vec<u8>>> {
    let mut tensors: Vec<_> = DType::ALL
        .iter()
        .map(|&dtype| {
            let shape: Vec<u64> = match rng.below(5) {
                0 => vec![4096, 8],
                1 => vec![0, 8],
                2 => vec![8],
                _ => vec![rng.below(40), 1 + rng.below(30), 8],
            };
            source(&format!("of {dtype}"), dtype, &shape)
        })
        .collect();
    tensors.extend([source("scalar", DType::F64, &[]), source("é\n\"\\", DType::U8, &[3]), source("__proto__", DType::I16, &[1, 1, 1])]);
    rng.shuffle(&mut tensors);
    tensors
}

fn reference_type(dtype: DType) -> safetensors::Dtype {
    serde_json::from_str(&format!("\"{dtype}\"")).expect("a type of the reference")
}

/// The reference crate finds these tensors in a file.
#[track_caller]
fn read_by_reference(path: &Path, tensors: &[Source<Vec<u8>>]) {
    let file = std::fs::read(path).expect("the file");
    let found = SafeTensors::deserialize(&file).expect("the reference reads it");
    assert_eq!(found.len(), tensors.len());
    for Source { declared, data } in tensors {
        let tensor = found.tensor(&declared.name).expect("there");
        let shape: Vec<u64> = tensor.shape().iter().map(|&extent| extent as u64).collect();
        assert_eq!((tensor.dtype(), shape), (reference_type(declared.dtype), declared.shape.clone()), "{}", declared.name);
        assert!(tensor.data() == data, "{}", declared.name);
    }
}

#[track_caller]
fn read_by_us(engine: &Engine, path: &Path, tensors: &[Source<Vec<u8>>]) {
    let model = Safetensors::open(engine, path).wait().expect("a model");
    let loaded = model.load(&model.table().all()).wait().expect("loaded");
    assert_eq!(loaded.len(), tensors.len());
    assert!(tensors.iter().all(|tensor| loaded.get(&tensor.declared.name).expect("there").bytes() == tensor.data));
}

#[test]
fn what_is_written_in_any_order_is_what_the_reference_reads() {
    let (directory, engine, mut rng) = (harness::directory(), harness::engine(), Rng::new());
    for order in [Order::Blocks, Order::Reference, Order::Given] {
        for align in [8, 64, 4096, 1 << 20] {
            for checksums in [false, true] {
                let tensors = every_type(&mut rng);
                let options = SaveOptions::new().order(order).align(align).checksums(checksums).durable(rng.once_in(4));
                let path = saved(&engine, directory.path(), "model", &tensors, options);
                read_by_reference(&path, &tensors);
                read_by_us(&engine, &path, &tensors);
                let model = Safetensors::open(&engine, &path).wait().expect("a model");
                let start = model.table().iter().map(|info| info.position).min().expect("tensors");
                assert!(start.is_multiple_of(align));
                assert_eq!(model.metadata().get("format"), Some("pt"));
                // The widest types come first, so that nothing is misplaced.
                if order != Order::Given {
                    let misplaced =
                        |info: &deepring_tensors::TensorInfo<'_>| !info.position.is_multiple_of(info.dtype.expect("known").align() as u64);
                    assert!(!model.table().iter().any(|info| misplaced(&info)));
                }
            }
        }
    }
}

#[test]
fn in_the_order_of_the_reference_a_file_is_that_of_the_reference() {
    let (directory, engine, mut rng) = (harness::directory(), harness::engine(), Rng::new());
    for metadata in [
        BTreeMap::new(),
        BTreeMap::from([("format".to_owned(), "pt".to_owned())]),
        BTreeMap::from([("format".to_owned(), "é\"\n\u{1}\u{7f}".to_owned())]),
    ] {
        let tensors = every_type(&mut rng);
        let options = SaveOptions::new().order(Order::Reference).align(8).metadata(metadata.clone());
        let path = saved(&engine, directory.path(), "model", &tensors, options);
        let views = tensors.iter().map(|Source { declared, data }| {
            let shape = declared.shape.iter().map(|&extent| extent as usize).collect();
            (declared.name.as_str(), TensorView::new(reference_type(declared.dtype), shape, data).expect("a view"))
        });
        // Without metadata, ours has the format that programs on PyTorch ask for.
        let metadata: HashMap<_, _> =
            if metadata.is_empty() { HashMap::from([("format".into(), "pt".into())]) } else { metadata.into_iter().collect() };
        let expected = safetensors::serialize(views, Some(metadata)).expect("serialized");
        assert!(std::fs::read(&path).expect("the file") == expected);
    }
}

#[test]
fn most_bytes_of_a_model_begin_on_a_block() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors: Vec<_> = (0..40)
        .flat_map(|nth| [source(&format!("w{nth}"), DType::F32, &[64, 48]), source(&format!("b{nth}"), DType::F32, &[48])])
        .collect();
    let path = saved(&engine, directory.path(), "model", &tensors, SaveOptions::new());
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let aligned: u64 = model.table().iter().filter(|info| info.position.is_multiple_of(4096)).map(|info| info.len).sum();
    assert!(aligned * 100 > model.table().bytes() * 98, "{aligned} of {}", model.table().bytes());
}

#[test]
fn what_cannot_be_written_is_refused_and_nothing_is_created() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = directory.path().join("model");
    let refused = |tensors: Vec<Source<Vec<u8>>>, options: SaveOptions| {
        let error = save(&engine, &path, tensors, options).wait().expect_err("refused");
        assert!(matches!(error, Error::Argument(_)), "{error}");
        assert_eq!(names_in(directory.path()), [""; 0]);
    };
    let declared = |dtype, shape: &[u64]| Declared { name: "a".into(), dtype, shape: shape.into() };
    let plain = SaveOptions::new;
    refused(vec![source("a", DType::U8, &[1]), source("b", DType::U8, &[1]), source("a", DType::U8, &[2])], plain());
    refused(vec![source("__metadata__", DType::U8, &[1])], plain());
    refused(vec![Source { declared: declared(DType::F4, &[3]), data: vec![0; 2] }], plain());
    refused(vec![Source { declared: declared(DType::F6E2M3, &[2]), data: vec![0; 2] }], plain());
    refused(vec![Source { declared: declared(DType::F32, &[2]), data: vec![0; 7] }], plain());
    refused(vec![Source { declared: declared(DType::U8, &[u64::MAX, 2]), data: Vec::new() }], plain());
    refused(vec![Source { declared: declared(DType::U8, &[1 << 53, 0]), data: Vec::new() }], plain());
    for align in [0, 1, 4, 12, 1 << 21] {
        refused(vec![source("a", DType::U8, &[1])], plain().align(align));
    }
    let long = BTreeMap::from([("a".to_owned(), "x".repeat(100_000_000))]);
    refused(vec![source("a", DType::U8, &[1])], plain().metadata(long));
}

#[test]
fn a_header_of_exactly_the_limit_is_written_and_read() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors = [source("a", DType::U8, &[1])];
    let json = "{\"__metadata__\":{\"a\":\"\",\"format\":\"pt\"},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}".len();
    let metadata = |len| BTreeMap::from([("a".to_owned(), "x".repeat(len))]);
    let path = saved(&engine, directory.path(), "model", &tensors, SaveOptions::new().align(8).metadata(metadata(100_000_000 - json)));
    read_by_reference(&path, &tensors);
    read_by_us(&engine, &path, &tensors);
    let error = save(&engine, &path, tensors.to_vec(), SaveOptions::new().align(8).metadata(metadata(100_000_001 - json)))
        .wait()
        .expect_err("too long");
    assert!(matches!(error, Error::Argument(_)));
    read_by_us(&engine, &path, &tensors);
}

#[test]
fn a_file_is_replaced_with_its_mode_and_a_link_is_not_followed() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let (old, new) = ([source("old", DType::U8, &[5000])], [source("new", DType::F32, &[900])]);
    let path = saved(&engine, directory.path(), "model", &old, SaveOptions::new().mode(0o600));
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let other = directory.path().join("other name");
    std::fs::hard_link(&path, &other).expect("a link");
    saved(&engine, directory.path(), "model", &new, SaveOptions::new());
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    read_by_us(&engine, &path, &new);
    read_by_us(&engine, &other, &old);
    assert_ne!(std::fs::metadata(&path).expect("there").ino(), std::fs::metadata(&other).expect("there").ino());

    let link = directory.path().join("link");
    std::os::unix::fs::symlink("other name", &link).expect("a link");
    saved(&engine, directory.path(), "link", &new, SaveOptions::new());
    assert!(!std::fs::symlink_metadata(&link).expect("there").is_symlink());
    read_by_us(&engine, &other, &old);
    read_by_us(&engine, &link, &new);

    std::fs::create_dir(directory.path().join("folder")).expect("a directory");
    let code =
        |name: &str| save(&engine, directory.path().join(name), new.to_vec(), SaveOptions::new()).wait().expect_err("refused").code();
    assert_eq!((code("folder").as_str(), code("missing/model").as_str()), ("EISDIR", "ENOENT"));
    assert_eq!(names_in(directory.path()), ["folder", "link", "model", "other name"]);
}

#[test]
fn a_file_that_is_being_streamed_can_be_saved_over() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let tensors: Vec<_> = (0..16).map(|nth| source(&format!("t{nth:02}"), DType::F32, &[1 << 18])).collect();
    let path = saved(&engine, directory.path(), "model", &tensors, SaveOptions::new().order(Order::Given));
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let mut stream = model.stream(&model.table().all(), &StreamOptions::new().memory(4 << 20)).expect("a stream");
    let first = stream.wait_next().expect("there").expect("read");
    assert!(first.bytes() == tensors[0].data);
    // The file of a tensor that is held, from this tensor.
    let declared = Declared { name: "first".into(), dtype: DType::F32, shape: vec![1 << 18] };
    save(&engine, &path, vec![Source { declared: declared.clone(), data: first.to_buffer() }], SaveOptions::new()).wait().expect("saved");
    drop(first);
    for expected in &tensors[1..] {
        assert!(stream.wait_next().expect("there").expect("read").bytes() == expected.data);
    }
    read_by_us(&engine, &path, &[Source { declared, data: tensors[0].data.clone() }]);
}

#[test]
fn of_several_savers_of_one_path_one_wins_and_nothing_is_left() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = directory.path().join("model");
    for round in 0..5 {
        let models: Vec<_> =
            (0..4u64).map(|saver| vec![source(&format!("{round}-{saver}"), DType::U8, &[(saver + 1) * 300_000])]).collect();
        std::thread::scope(|scope| {
            for model in &models {
                let (engine, path) = (&engine, &path);
                scope.spawn(move || save(engine, path, model.clone(), SaveOptions::new().durable(false)).wait().expect("saved"));
            }
        });
        let found = Safetensors::open(&engine, &path).wait().expect("a model");
        let name = found.table().info(0).name;
        let winner = models.iter().find(|model| model[0].declared.name == name).expect("one of them");
        read_by_us(&engine, &path, winner);
        assert_eq!(names_in(directory.path()), ["model"]);
    }
}

#[test]
fn a_save_that_is_dropped_leaves_what_was_there() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let (old, new) = ([source("old", DType::U8, &[100_000])], [source("new", DType::U8, &[8 << 20])]);
    let path = saved(&engine, directory.path(), "model", &old, SaveOptions::new());
    for polls in 0..6 {
        let mut job = save(&engine, &path, new.to_vec(), SaveOptions::new());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut ended = false;
        for _ in 0..polls {
            ended |= std::pin::Pin::new(&mut job).poll(&mut context).is_ready();
            if ended {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        drop(job);
        if ended {
            break;
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while names_in(directory.path()) != ["model"] {
            assert!(std::time::Instant::now() < deadline, "{:?} are left", names_in(directory.path()));
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        // With the last poll, the commit can have begun. Then it goes on.
        let is_new = Safetensors::open(&engine, &path).wait().expect("a model").table().find("new").is_some();
        assert!(!is_new || polls == 5, "after {polls} polls, nothing was committed");
        read_by_us(&engine, &path, if is_new { &new } else { &old });
    }
}

#[test]
fn progress_ends_with_everything_and_a_receipt_counts_the_file() {
    use std::sync::{Arc, Mutex};
    let (directory, engine) = (harness::directory(), harness::engine());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reports = Arc::clone(&seen);
    let options = SaveOptions::new().on_progress(move |done, total| reports.lock().expect("the reports").push((done, total)));
    let path = directory.path().join("model");
    let receipt = save(&engine, &path, vec![source("a", DType::U8, &[10_000_000])], options).wait().expect("saved");
    let len = std::fs::metadata(&path).expect("there").len();
    assert_eq!((receipt.bytes, receipt.files), (len, 1));
    let seen = seen.lock().expect("the reports");
    assert_eq!(seen.last(), Some(&(len, len)));
    assert_eq!(seen.iter().filter(|(done, total)| done == total).count(), 1);
    assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}
