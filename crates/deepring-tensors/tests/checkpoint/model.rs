//! Generations, read without the reader of checkpoints: their data files alone.

use crate::harness::{names_in, source};
use deepring::Engine;
use deepring_tensors::checkpoint::{Checkpoints, StoreOptions};
use deepring_tensors::{DType, Declared, OpenOptions, Safetensors, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tensors of a generation: by name, what each file has.
pub(crate) type Model = BTreeMap<String, Vec<(String, Vec<u64>, Vec<u8>)>>;

pub(crate) fn store(engine: &Engine, directory: &Path) -> Checkpoints {
    Checkpoints::open(engine, directory, StoreOptions::new()).wait().expect("a store")
}

pub(crate) fn generation(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}"))
}

/// Names of the data files of a generation.
pub(crate) fn data_files(directory: &Path) -> Vec<String> {
    names_in(directory).into_iter().filter(|name| name.ends_with(".safetensors")).collect()
}

/// Reads all data files of a generation, each for itself.
pub(crate) fn read(engine: &Engine, directory: &Path) -> Model {
    let mut model = Model::new();
    for name in data_files(directory) {
        let file = Safetensors::open_files(engine, vec![directory.join(&name)], OpenOptions::new()).wait();
        let file = file.unwrap_or_else(|error| panic!("{name}: {error}"));
        let loaded = file.load(&file.table().all()).wait().expect("loaded");
        for info in file.table().iter() {
            let bytes = loaded.get(info.name).expect("the tensor").bytes().to_vec();
            model.entry(info.name.to_owned()).or_default().push((info.dtype_name.to_owned(), info.shape.clone(), bytes));
        }
    }
    model
}

/// Checks that a generation has just these tensors, whole, and the names that it should.
pub(crate) fn check(engine: &Engine, directory: &Path, expected: &[Source<Vec<u8>>]) {
    let found = read(engine, directory);
    assert_eq!(found.len(), expected.len(), "tensors of {}", directory.display());
    for Source { declared: Declared { name, dtype, shape }, data } in expected {
        let [(found_dtype, found_shape, bytes)] = &found[name][..] else { panic!("{name} is there {} times", found[name].len()) };
        assert_eq!((found_dtype.as_str(), found_shape), (dtype.to_string().as_str(), shape), "{name}");
        assert!(bytes == data, "the bytes of {name}");
    }
    let others: Vec<String> = names_in(directory).into_iter().filter(|name| !name.ends_with(".safetensors")).collect();
    assert!(others.contains(&"manifest.json".into()) && others.contains(&"part-00000.json".into()), "{others:?}");
    assert!(!others.iter().any(|name| name.starts_with("lock-") || name.starts_with('.')), "something is left: {others:?}");
}

/// The text of a manifest or a part, with its checksum at its end.
pub(crate) fn sealed(text: &str) -> Vec<u8> {
    let front = &text[..text.rfind(",\"crc32c\"").expect("a seal")];
    format!("{front},\"crc32c\":\"{:08x}\"}}\n", deepring::crc32c(front.as_bytes())).into_bytes()
}

/// Tensors of all sorts of sizes: empty, a scalar, odd, whole blocks, larger than a chunk, larger than a block of memory.
pub(crate) fn mixed(prefix: &str) -> Vec<Source<Vec<u8>>> {
    let sizes: [&[u64]; 9] = [&[], &[0, 3], &[1], &[127], &[4096], &[3, 4096], &[(1 << 20) + 7], &[2 << 20], &[(5 << 20) + 1]];
    let dtypes = [DType::F32, DType::U8, DType::U8, DType::I8, DType::U8, DType::BF16, DType::U8, DType::U8, DType::U8];
    sizes.iter().zip(dtypes).enumerate().map(|(nth, (shape, dtype))| source(&format!("{prefix}.{nth}"), dtype, shape)).collect()
}

/// Nothing is in progress, and nothing is left of anything.
pub(crate) fn is_clean(directory: &Path) -> bool {
    names_in(directory).iter().all(|name| !name.starts_with(".tmp-") && !name.starts_with(".trash-"))
}
