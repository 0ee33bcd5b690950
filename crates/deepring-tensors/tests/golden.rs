//! Files that the Python wheel wrote (`npm run oracle -- --golden`, safetensors 0.8.0): what we find in them is what the reference crate finds,
//! and what we write from it is the same file.

mod harness;

use deepring_tensors::{DType, Declared, Order, Safetensors, SaveOptions, Source, save};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn files_of_the_python_wheel_are_read_as_the_reference_reads_them() {
    let engine = harness::engine();
    for (name, count) in [("types.safetensors", 22), ("names.safetensors", 5), ("empty.safetensors", 0)] {
        let model = Safetensors::open(&engine, golden(name)).wait().expect("a model");
        let loaded = model.load(&model.table().all()).wait().expect("loaded");
        let file = std::fs::read(golden(name)).expect("the file");
        let expected = SafeTensors::deserialize(&file).expect("the reference reads it");
        assert_eq!((loaded.len(), expected.len()), (count, count), "{name}");
        for (tensor, view) in expected.tensors() {
            let found = loaded.get(&tensor).expect("there");
            let dtype = serde_json::to_value(view.dtype()).expect("a type");
            assert_eq!(
                (found.dtype_name(), found.shape(), found.bytes()),
                (dtype.as_str().expect("a name"), view.shape(), view.data()),
                "{name}: {tensor:?}"
            );
        }
    }
}

#[test]
fn every_type_that_the_wheel_writes_has_its_place_and_its_bytes() {
    let engine = harness::engine();
    let model = Safetensors::open(&engine, golden("types.safetensors")).wait().expect("a model");
    let loaded = model.load(&model.table().all()).wait().expect("loaded");
    // Types in the order of the script: the bytes of each depend on its number.
    for (salt, &dtype) in DType::ALL.iter().enumerate() {
        let name = format!("of {dtype}");
        // This wheel has no names for these.
        if matches!(dtype, DType::F6E2M3 | DType::F6E3M2) {
            assert!(loaded.get(&name).is_none());
            continue;
        }
        let tensor = loaded.get(&name).expect("there");
        let expected: Vec<u8> = (0..24 * dtype.bits() as usize / 8).map(|place| ((salt * 37 + 11 * place) % 251) as u8).collect();
        assert_eq!((tensor.dtype(), tensor.shape(), tensor.bytes()), (Some(dtype), &[3, 8][..], &expected[..]));
    }
    assert_eq!(loaded.get("empty").map(|tensor| tensor.shape().to_vec()), Some(vec![0, 7]));
    assert_eq!(loaded.get("scalar").map(|tensor| tensor.shape().to_vec()), Some(vec![]));
}

#[test]
fn a_copy_in_the_order_of_the_reference_is_the_file_of_the_wheel() {
    let (directory, engine) = (harness::directory(), harness::engine());
    for name in ["types.safetensors", "empty.safetensors"] {
        let model = Safetensors::open(&engine, golden(name)).wait().expect("a model");
        let loaded = model.load(&model.table().all()).wait().expect("loaded");
        let tensors = loaded.iter().map(|tensor| {
            let shape = tensor.shape().iter().map(|&extent| extent as u64).collect();
            let declared = Declared { name: tensor.name().into(), dtype: tensor.dtype().expect("known"), shape };
            Source { declared, data: tensor.to_buffer() }
        });
        let copy = directory.path().join(name);
        save(&engine, &copy, tensors.collect(), SaveOptions::new().order(Order::Reference).align(8)).wait().expect("saved");
        assert_eq!(std::fs::read(&copy).expect("the copy"), std::fs::read(golden(name)).expect("the file"), "{name}");
    }
}
