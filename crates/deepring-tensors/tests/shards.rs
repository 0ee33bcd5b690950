//! Models in several files: written so that the old one or the new one is there, and nothing of the old one is left.

mod harness;

use deepring::Engine;
use deepring_tensors::{DType, Error, Safetensors, SaveOptions, Source, save_sharded};
use harness::{names_in, source};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;

const INDEX: &str = "model.safetensors.index.json";

fn tensors(prefix: &str, count: u64, bytes: u64) -> Vec<Source<Vec<u8>>> {
    (0..count).map(|nth| source(&format!("{prefix}{nth}"), DType::U8, &[bytes])).collect()
}

/// The files of a directory are those of its index, whose tensors the reference finds in them.
fn check(engine: &Engine, directory: &Path, tensors: &[Source<Vec<u8>>], files: usize) {
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(directory.join(INDEX)).expect("an index")).expect("JSON");
    let map: BTreeMap<String, String> = serde_json::from_value(index["weight_map"].clone()).expect("a map");
    let total: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
    assert_eq!((map.len(), index["metadata"]["total_size"].as_u64()), (tensors.len(), Some(total as u64)));
    let mut expected: Vec<String> = map.values().cloned().collect();
    expected.push(INDEX.into());
    expected.sort();
    expected.dedup();
    assert_eq!(names_in(directory), expected, "no other file is left");
    assert_eq!(expected.len(), files + 1);
    for name in expected.iter().filter(|name| *name != INDEX) {
        let file = std::fs::read(directory.join(name)).expect("a file");
        let found = SafeTensors::deserialize(&file).expect("the reference reads it");
        assert!(!found.is_empty(), "{name} has tensors");
        for (tensor, view) in found.tensors() {
            assert_eq!(map[&tensor], *name);
            assert!(tensors.iter().any(|source| source.declared.name == tensor && source.data == view.data()));
        }
    }
    let model = Safetensors::open(engine, directory).wait().expect("a model");
    assert!(model.missing().is_empty() && model.unindexed().is_empty());
    let loaded = model.load(&model.table().all()).wait().expect("loaded");
    assert!(tensors.iter().all(|tensor| loaded.get(&tensor.declared.name).expect("there").bytes() == tensor.data));
}

#[test]
fn a_model_of_fewer_files_replaces_one_of_more() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let directory = directory.path();
    let save = |tensors: &[Source<Vec<u8>>], shard_bytes| {
        save_sharded(&engine, directory, tensors.to_vec(), shard_bytes, SaveOptions::new()).wait().expect("saved")
    };
    let (old, new) = (tensors("old", 10, 100_000), tensors("new", 6, 100_000));
    assert_eq!(save(&old, 200_000).files, 5);
    check(&engine, directory, &old, 5);
    assert!(names_in(directory).contains(&"model-00001-of-00005.safetensors".to_owned()), "the usual names");
    let opened = Safetensors::open(&engine, directory).wait().expect("a model");
    assert_eq!(save(&new, 200_000).files, 3);
    check(&engine, directory, &new, 3);
    // Who had opened the old one has it whole.
    let loaded = opened.load(&opened.table().all()).wait().expect("loaded");
    assert!(old.iter().all(|tensor| loaded.get(&tensor.declared.name).expect("there").bytes() == tensor.data));
    // The same number of files, and back.
    save(&old, 400_000);
    check(&engine, directory, &old, 3);
    save(&new, 1 << 40);
    check(&engine, directory, &new, 1);
}

#[test]
fn a_tensor_larger_than_a_shard_has_its_own_and_none_is_empty() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let mut model = tensors("small", 3, 1000);
    model.insert(0, source("large", DType::F32, &[50_000]));
    model.push(source("last", DType::F32, &[50_000]));
    save_sharded(&engine, directory.path(), model.clone(), 10_000, SaveOptions::new().checksums(true)).wait().expect("saved");
    check(&engine, directory.path(), &model, 3);
    let opened = Safetensors::open(&engine, directory.path()).wait().expect("a model");
    assert!(opened.verify(None).wait().expect("verified").is_whole());
    save_sharded(&engine, directory.path(), model.clone(), 0, SaveOptions::new()).wait().expect("saved");
    check(&engine, directory.path(), &model, 5);
}

#[test]
fn a_model_of_no_tensors_can_be_saved() {
    let (directory, engine) = (harness::directory(), harness::engine());
    save_sharded(&engine, directory.path(), Vec::<Source<Vec<u8>>>::new(), 1000, SaveOptions::new()).wait().expect("saved");
    let model = Safetensors::open(&engine, directory.path()).wait().expect("a model");
    assert!(model.table().is_empty());
}

#[test]
fn what_is_refused_leaves_the_old_model_and_nothing_else() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let old = tensors("old", 4, 50_000);
    save_sharded(&engine, directory.path(), old.clone(), 100_000, SaveOptions::new()).wait().expect("saved");
    let refused = |tensors: Vec<Source<Vec<u8>>>, options: SaveOptions| {
        let error = save_sharded(&engine, directory.path(), tensors, 100_000, options).wait().expect_err("refused");
        assert!(matches!(error, Error::Argument(_)), "{error}");
        check(&engine, directory.path(), &old, 2);
    };
    let mut twice = tensors("a", 4, 90_000);
    twice.push(source("a0", DType::U8, &[3]));
    refused(twice, SaveOptions::new());
    refused(vec![source("a", DType::U8, &[3]), source("__metadata__", DType::U8, &[100_000])], SaveOptions::new());
    refused(tensors("a", 2, 3), SaveOptions::new().align(3));
    let missing = directory.path().join("missing");
    let error = save_sharded(&engine, &missing, tensors("a", 2, 3), 100, SaveOptions::new()).wait().expect_err("no directory");
    assert_eq!(error.code(), "ENOENT");
}

#[test]
fn files_that_the_old_index_does_not_name_stay() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let old = tensors("old", 4, 50_000);
    save_sharded(&engine, directory.path(), old, 100_000, SaveOptions::new()).wait().expect("saved");
    for name in ["config.json", "model-00009-of-00009.safetensors", "adapter.safetensors"] {
        std::fs::write(directory.path().join(name), "other").expect("a file");
    }
    let new = tensors("new", 3, 50_000);
    save_sharded(&engine, directory.path(), new, 100_000, SaveOptions::new()).wait().expect("saved");
    let names = names_in(directory.path());
    assert_eq!(names.len(), 3 + 2 + 1, "{names:?}");
    assert!(
        ["config.json", "model-00009-of-00009.safetensors", "adapter.safetensors"]
            .iter()
            .all(|name| names.iter().any(|found| found == name))
    );
}

#[test]
fn two_savers_of_one_directory_leave_one_of_their_models() {
    let (directory, engine) = (harness::directory(), harness::engine());
    for round in 0..4 {
        let models = [tensors(&format!("a{round}-"), 6, 90_000), tensors(&format!("b{round}-"), 4, 120_000)];
        std::thread::scope(|scope| {
            for model in &models {
                let (engine, directory) = (&engine, directory.path());
                scope.spawn(move || save_sharded(engine, directory, model.clone(), 200_000, SaveOptions::new().durable(false)).wait());
            }
        });
        let opened = Safetensors::open(&engine, directory.path()).wait().expect("one of them");
        let winner = models.iter().find(|model| opened.table().find(&model[0].declared.name).is_some()).expect("one of them");
        let loaded = opened.load(&opened.table().all()).wait().expect("loaded");
        assert_eq!(loaded.len(), winner.len());
        assert!(winner.iter().all(|tensor| loaded.get(&tensor.declared.name).expect("there").bytes() == tensor.data));
    }
}
