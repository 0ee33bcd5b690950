//! One writer.

use crate::harness::{bytes, directory, engine, names_in, source};
use crate::model::{check, data_files, generation, is_clean, mixed, read, store};
use deepring_tensors::checkpoint::{BeginOptions, CheckpointOptions, Checkpoints, PutOptions, StoreOptions};
use deepring_tensors::{DType, Error, Safetensors, Source};
use std::time::{Duration, Instant};

#[test]
fn what_is_put_and_saved_comes_back_byte_for_byte() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let (single, many) = (mixed("single"), mixed("many"));
    let writer = store.begin(BeginOptions::new().step(7)).wait().expect("a writer");
    for tensor in single.clone() {
        let expected = tensor.data.clone();
        assert!(writer.put(tensor, PutOptions::new()).wait().expect("put") == expected, "the memory comes back");
    }
    let returned = writer.put_all(many.clone(), "frozen").wait().expect("put");
    assert!(returned.iter().zip(&many).all(|(data, tensor)| *data == tensor.data), "the memory comes back in its order");
    assert_eq!(names_in(place.path()).iter().filter(|name| name.starts_with(".tmp-")).count(), 1);
    assert!(store.list().wait().expect("a list").is_empty());
    let made = writer.commit().wait().expect("a commit");
    assert_eq!((made.number, made.files), (1, 3));
    assert!(is_clean(place.path()));
    let all: Vec<_> = [single, many].concat();
    let at = generation(place.path(), 1);
    check(&engine, &at, &all);
    let names = ["data-00000-frozen-00000.safetensors", "data-00000-main-00000.safetensors", "data-00000-main-00001.safetensors"];
    assert_eq!(data_files(&at), names);
    // A model without split tensors is one that every reader of safetensors knows.
    let model = Safetensors::open(&engine, &at).wait().expect("a model");
    assert_eq!((model.table().len(), model.unindexed().len()), (all.len(), 0));

    let saved = store.save(all.clone(), CheckpointOptions::new().step(8)).wait().expect("captured");
    assert_eq!(saved.commit().wait().expect("a commit").number, 2);
    check(&engine, &generation(place.path(), 2), &all);
    assert_eq!(store.list().wait().expect("a list"), [1, 2]);
}

#[test]
fn an_empty_checkpoint_is_one() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let made = store.begin(BeginOptions::new()).wait().expect("a writer").commit().wait().expect("a commit");
    assert_eq!((made.number, made.files, made.bytes), (1, 0, 0));
    assert_eq!(names_in(&generation(place.path(), 1)), ["manifest.json", "part-00000.json"]);
}

#[test]
fn tensors_that_fill_blocks_begin_on_one() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new()).wait().expect("a writer");
    for nth in 0..5u64 {
        writer.put(source(&format!("odd{nth}"), DType::U8, &[300_001 + nth]), PutOptions::new()).wait().expect("put");
        writer.put(source(&format!("even{nth}"), DType::U8, &[4096 * (nth + 100)]), PutOptions::new()).wait().expect("put");
    }
    writer.commit().wait().expect("a commit");
    let at = generation(place.path(), 1);
    let model = Safetensors::open(&engine, &at).wait().expect("a model");
    let aligned = model.table().iter().filter(|info| info.position.is_multiple_of(4096)).count();
    assert!(aligned >= 5, "{aligned} of 10 tensors begin on a block");
    assert_eq!(data_files(&at).len(), 2);
}

#[test]
fn many_small_tensors_take_seconds_and_a_few_files() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new()).wait().expect("a writer");
    let tensors: Vec<_> = (0..20_000).map(|nth| source(&format!("model.layers.{nth}.bias"), DType::F32, &[32])).collect();
    let began = Instant::now();
    for tensor in tensors.clone() {
        writer.put(tensor, PutOptions::new()).wait().expect("put");
    }
    writer.commit().wait().expect("a commit");
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    let at = generation(place.path(), 1);
    assert!(data_files(&at).len() <= 8, "{} files", data_files(&at).len());
    check(&engine, &at, &tensors);
}

#[test]
fn a_name_that_fits_no_usual_header_gets_a_file_of_its_own() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new()).wait().expect("a writer");
    let tensors = vec![source("a", DType::U8, &[5]), source(&"\u{1}n".repeat(100_000), DType::U8, &[5]), source("b", DType::U8, &[5])];
    for tensor in tensors.clone() {
        writer.put(tensor, PutOptions::new()).wait().expect("put");
    }
    writer.commit().wait().expect("a commit");
    check(&engine, &generation(place.path(), 1), &tensors);
}

#[test]
fn puts_from_many_threads_are_all_there() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new().staging(16 << 20)).wait().expect("a writer");
    let all: Vec<Vec<_>> = (0..4).map(|thread| mixed(&format!("thread{thread}"))).collect();
    std::thread::scope(|scope| {
        for tensors in &all {
            scope.spawn(|| tensors.iter().for_each(|tensor| drop(writer.put(tensor.clone(), PutOptions::new()).wait().expect("put"))));
        }
    });
    writer.commit().wait().expect("a commit");
    check(&engine, &generation(place.path(), 1), &all.concat());
}

#[test]
fn meta_is_kept_as_it_was_given_and_has_its_limits() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let writer = store.begin(BeginOptions::new().step(3)).wait().expect("a writer");
    for wrong in ["", "{", "{} x", "nan"] {
        assert!(matches!(writer.set_meta(wrong), Err(Error::Argument(_))), "{wrong:?}");
    }
    let longest = format!("\"{}\"", "x".repeat((16 << 20) - 2));
    assert!(matches!(writer.set_meta(&format!(" {longest}")), Err(Error::Argument(_))));
    writer.set_meta(&longest).expect("just 16 MiB");
    let given = r#"{ "loss": 0.10, "crc32c":"x", "ä": [1e400, 12345678901234567890] }"#;
    writer.set_meta(given).expect("JSON");
    writer.commit().wait().expect("a commit");
    let manifest = std::fs::read_to_string(generation(place.path(), 1).join("manifest.json")).expect("a manifest");
    assert!(manifest.contains(&format!("\"meta\":{given},\"crc32c\":")), "{manifest}");
    assert!(manifest.contains("\"generation\":1,\"step\":3,"));
}

#[test]
fn what_is_wrong_with_a_tensor_is_refused_and_the_rest_is_saved() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new()).wait().expect("a writer");
    let good = source("good", DType::U8, &[10]);
    writer.put(good.clone(), PutOptions::new()).wait().expect("put");
    let refused = |put| assert!(matches!(put, Err(Error::Argument(_))), "{put:?}");
    refused(writer.put(good.clone(), PutOptions::new()).wait());
    refused(writer.put(Source { data: vec![0; 9], ..source("short", DType::U8, &[10]) }, PutOptions::new()).wait());
    for group in ["", "Main", "../x", "a b"] {
        refused(writer.put(source("x", DType::U8, &[1]), PutOptions::new().group(group)).wait());
    }
    refused(writer.put(source("p", DType::U8, &[2]), PutOptions::new().within([3], [2])).wait());
    refused(writer.put(source("p", DType::U8, &[2]), PutOptions::new().within([3, 3], [0, 0])).wait());
    refused(writer.put(source("p", DType::U8, &[2]), PutOptions::new().within([u64::MAX], [u64::MAX])).wait());
    assert!(matches!(writer.put_all(vec![good.clone(), good.clone()], "main").wait(), Err(Error::Argument(_))));
    writer.commit().wait().expect("a commit");
    check(&engine, &generation(place.path(), 1), &[good]);
}

#[test]
fn pieces_that_could_not_be_joined_again_are_refused() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new()).wait().expect("a writer");
    let put = |name: &str, shape: &[u64], whole: &[u64], start: &[u64]| {
        writer.put(source(name, DType::F4, shape), PutOptions::new().within(whole, start)).wait().map(drop)
    };
    let refused = |put: Result<(), Error>, why: &str| {
        let error = put.expect_err("refused");
        assert!(matches!(error, Error::Argument(_)) && error.to_string().contains(why), "{error}");
    };
    // Two elements have a byte: columns 0 to 2 would cut one in two, and so would 3 to 5.
    refused(put("w", &[4, 3], &[4, 6], &[0, 0]), "inside of a byte");
    refused(put("w", &[4, 3], &[4, 6], &[0, 3]), "inside of a byte");
    refused(put("w", &[1, 2], &[4, 6], &[0, 1]), "inside of a byte");
    // All of it has no whole number of bytes; its elements cannot be counted; readers refuse so many dimensions.
    refused(put("w", &[2, 3], &[3, 3], &[0, 0]), "a whole number of bytes");
    refused(put("w", &[1, 2], &[1 << 40, 1 << 40], &[0, 0]), "a whole number of bytes");
    refused(put("w", &[2], &[1 << 53], &[0]), "2^53");
    let many: Vec<u64> = [1].repeat(64).into_iter().chain([2]).collect();
    refused(put("w", &many, &many, &[0; 65]), "extents");
    for (shape, start) in [([4, 2], [0, 0]), ([1, 4], [0, 2]), ([3, 4], [1, 2])] {
        put("w", &shape, &[4, 6], &start).expect("whole bytes");
    }
    let number = writer.commit().wait().expect("a commit").number;
    let checkpoint = store(&engine, place.path()).generation(number).wait().expect("it opens");
    assert_eq!(checkpoint.tensor("w", None).wait().expect("the tensor").shape(), [4, 6]);
}

#[test]
fn an_abort_and_a_drop_leave_nothing() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let put = || {
        let writer = store.begin(BeginOptions::new().staging(8 << 20)).wait().expect("a writer");
        for tensor in mixed("t") {
            writer.put(tensor, PutOptions::new()).wait().expect("put");
        }
        writer
    };
    put().abort().wait().expect("an abort");
    assert!(is_clean(place.path()));
    drop(put());
    let captured = store.save(mixed("t"), CheckpointOptions::new()).wait().expect("captured");
    drop(captured);
    let began = Instant::now();
    while !is_clean(place.path()) {
        assert!(began.elapsed() < Duration::from_secs(20), "something is left: {:?}", names_in(place.path()));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(store.list().wait().expect("a list").is_empty());
}

#[test]
fn a_store_is_created_if_that_is_asked_for() {
    let (place, engine) = (directory(), engine());
    let path = place.path().join("a/b");
    let error = Checkpoints::open(&engine, &path, StoreOptions::new()).wait().expect_err("no directory");
    assert_eq!(error.code(), "ENOENT");
    let store = Checkpoints::open(&engine, &path, StoreOptions::new().create(true)).wait().expect("a store");
    let clone = store.clone();
    store.close().wait().expect("closed");
    assert!(matches!(clone.list().wait(), Err(Error::Argument(_))));
    std::fs::write(place.path().join("file"), b"x").expect("a file");
    let error = Checkpoints::open(&engine, place.path().join("file"), StoreOptions::new().create(true)).wait().expect_err("a file");
    assert_eq!(error.code(), "ENOTDIR");
}

#[test]
fn many_calls_for_many_tensors_keep_few_files_open() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new()).wait().expect("a writer");
    let open = || std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
    let before = open();
    let all: Vec<_> = (0..100).map(|call| source(&format!("t{call}"), DType::U8, &[1000 + call])).collect();
    for tensor in all.clone() {
        writer.put_all(vec![tensor], "main").wait().expect("put");
    }
    // Other tests of this process have files open, too.
    assert!(open() < before + 90, "{} descriptors more", open() - before);
    writer.commit().wait().expect("a commit");
    assert_eq!(read(&engine, &generation(place.path(), 1)).len(), 100);
    assert!(all.iter().all(|tensor| tensor.data != bytes(tensor.data.len(), 0)));
}

#[test]
fn a_name_that_no_file_can_have_is_refused_by_the_put_alone() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    let odd = || source("__metadata__", DType::U8, &[3]);
    let refused = [
        writer.put(odd(), PutOptions::new()).wait().map(|_| ()),
        writer.put_all(vec![source("a", DType::U8, &[1]), odd()], "main").wait().map(|_| ()),
    ];
    for result in refused {
        assert!(matches!(result, Err(Error::Argument(message)) if message.contains("__metadata__")));
    }
    let tensor = source("a", DType::U8, &[5]);
    writer.put(tensor.clone(), PutOptions::new()).wait().expect("put");
    writer.commit().wait().expect("a commit");
    check(&engine, &generation(place.path(), 1), &[tensor]);
}
