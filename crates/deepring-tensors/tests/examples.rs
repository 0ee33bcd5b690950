//! The examples of this crate do what they say.

use deepring::Engine;
use deepring_tensors::{DType, Declared, Safetensors, SaveOptions, Source, save, save_sharded};
use std::fs;
use std::path::Path;

#[path = "../examples/adam.rs"]
#[allow(dead_code, reason = "its main function does not run here")]
mod adam;
#[path = "../examples/convert.rs"]
#[allow(dead_code, reason = "its main function does not run here")]
mod convert;
#[path = "../examples/list.rs"]
#[allow(dead_code, reason = "its main function does not run here")]
mod list;

mod harness;

fn source(name: &str, dtype: DType, shape: &[u64], data: Vec<u8>) -> Source<Vec<u8>> {
    Source { declared: Declared { name: name.into(), dtype, shape: shape.to_vec() }, data }
}

/// 1, 2, 3, ... and what is not converted.
fn sources() -> Vec<Source<Vec<u8>>> {
    let floats: Vec<u8> = (1..=1000u16).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    vec![
        source("weight", DType::F32, &[10, 100], floats),
        source("bias", DType::F64, &[2], [0.5f64.to_le_bytes(), (-2f64).to_le_bytes()].concat()),
        source("half", DType::BF16, &[1], vec![0x80, 0x3f]),
        source("steps", DType::I64, &[], 7i64.to_le_bytes().to_vec()),
        source("empty", DType::F32, &[0, 4], Vec::new()),
    ]
}

fn bytes_of(path: &Path, name: &str) -> (Option<DType>, Vec<u8>) {
    let engine = Engine::builder().build().expect("an engine");
    let model = Safetensors::open(&engine, path).wait().expect("a model");
    let tensor = model.tensor(name, None).wait().expect("a tensor");
    (tensor.dtype(), tensor.bytes().to_vec())
}

#[test]
fn convert_makes_one_file_of_shards_and_converts_floats_only() {
    let place = tempfile::tempdir().expect("a directory");
    let (sharded, target) = (place.path().join("sharded"), place.path().join("one.safetensors"));
    fs::create_dir(&sharded).expect("a directory");
    let engine = Engine::builder().build().expect("an engine");
    let receipt = save_sharded(&engine, &sharded, sources(), 100, SaveOptions::new()).wait().expect("a save");
    assert!(receipt.files > 1);

    convert::convert(&sharded, &target, DType::BF16).expect("a conversion");
    let (dtype, weight) = bytes_of(&target, "weight");
    // Whole numbers up to 256 are exact: the upper half of the F32.
    let expected: Vec<u8> = (1..=256u16).flat_map(|n| f32::from(n).to_le_bytes()[2..].to_vec()).collect();
    assert_eq!((dtype, weight.len(), &weight[..512]), (Some(DType::BF16), 2000, &expected[..]));
    assert_eq!(bytes_of(&target, "bias"), (Some(DType::BF16), vec![0x00, 0x3f, 0x00, 0xc0]));
    assert_eq!(bytes_of(&target, "half"), (Some(DType::BF16), vec![0x80, 0x3f]));
    assert_eq!(bytes_of(&target, "steps"), (Some(DType::I64), 7i64.to_le_bytes().to_vec()));
    assert_eq!(bytes_of(&target, "empty"), (Some(DType::BF16), Vec::new()));
}

#[test]
fn convert_leaves_nothing_if_it_fails() {
    let place = tempfile::tempdir().expect("a directory");
    assert!(convert::convert(&place.path().join("none"), &place.path().join("out"), DType::F16).is_err());
    assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 0);
}

#[test]
fn list_has_a_line_for_each_tensor_and_finds_damage() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("model.safetensors");
    let engine = Engine::builder().build().expect("an engine");
    save(&engine, &path, sources(), SaveOptions::new().checksums(true)).wait().expect("a save");
    let (text, whole) = list::list(&path, list::Form::Verified).expect("a list");
    assert!(whole);
    assert!(text.contains("        4000 F32      [10, 100] weight\n"), "{text}");
    assert!(text.contains("        4026 bytes in 5 tensors and 1 files\n5 tensors verified, 0 without a checksum\n"), "{text}");

    let mut bytes = fs::read(&path).expect("the file");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&path, bytes).expect("the file");
    let (text, whole) = list::list(&path, list::Form::Verified).expect("a list");
    assert!(!whole);
    assert!(text.contains("DAMAGED half, 2 bytes at "), "{text}");
}

#[test]
fn adam_learns_the_same_from_a_swapper_as_from_memory() {
    use adam::{InMemory, Swapped, state_bytes, train};
    use deepring_tensors::swap::Depth;
    let (width, steps) = (48, 30);
    let memory = train(&mut InMemory::new(width), width, steps).expect("trained");
    for depth in 1..=4 {
        let place = harness::directory();
        let mut optimizer = Swapped::open(place.path(), width, Depth::Groups(depth)).expect("a swapper");
        assert!(train(&mut optimizer, width, steps).expect("trained") == memory, "depth {depth}");
        let stats = optimizer.finish().expect("closed");
        assert!(depth > 1 || stats.memory * 2 < state_bytes(width), "the budget has more than half of the state");
        assert!(stats.used_max <= stats.memory && stats.read > 20 * state_bytes(width), "{stats:?}");
    }
    assert!(memory.losses[steps - 1] < memory.losses[0] / 2.0, "{:?}", memory.losses);
}
