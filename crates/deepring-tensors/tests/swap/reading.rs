//! A store over the files of a model.

use crate::harness::{directory, engine, names_in, saved, source};
use crate::model::{assert_idle, eventually};
use deepring_tensors::swap::{SwapState, SwapStore};
use deepring_tensors::{DType, Declared, Error, Safetensors, SaveOptions, Source};

#[test]
fn a_model_larger_than_memory_is_read_from_its_own_files() {
    let (place, engine) = (directory(), engine());
    let tensors: Vec<Source<Vec<u8>>> = (0..40u64).map(|nth| source(&format!("expert.{nth}"), DType::BF16, &[3 + nth, 1000])).collect();
    let path = saved(&engine, place.path(), "model.safetensors", &tensors, SaveOptions::new());
    let before = names_in(place.path());
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let store = SwapStore::over(&model, 300_000);
    let names: Vec<&str> = tensors.iter().map(|tensor| &*tensor.declared.name).collect();
    store.plan(names.iter().copied(), true);
    for _ in 0..3 {
        for Source { declared, data } in &tensors {
            let lease = store.get(&declared.name).wait().expect("a lease");
            assert_eq!((lease.dtype(), lease.shape()), (Some(DType::BF16), &declared.shape[..]));
            assert!(lease.bytes() == data, "{}", declared.name);
            let into = store.get_into(&declared.name, vec![0; data.len()]).wait().expect("copied");
            assert!(into == *data);
        }
    }
    assert_eq!(store.names().len(), 40);
    assert_idle(&store);
    assert!(store.stats().prefetched > 0 && store.stats().read > 2 * model.table().bytes());
    assert_eq!(names_in(place.path()), before, "nothing is copied");
}

#[test]
fn nothing_is_written_to_a_model() {
    let (place, engine) = (directory(), engine());
    let path = saved(&engine, place.path(), "model.safetensors", &[source("x", DType::F32, &[2])], SaveOptions::new());
    let store = SwapStore::over(&Safetensors::open(&engine, &path).wait().expect("a model"), 1 << 20);
    let declared = || Declared { name: "x".into(), dtype: DType::F32, shape: vec![2] };
    let is_refused = |error: Option<Error>| matches!(error, Some(Error::Argument(_)));
    assert!(is_refused(store.put(Source { declared: declared(), data: vec![0; 8] }).wait().err()));
    assert!(is_refused(store.lease(declared()).wait().err()) && is_refused(store.get_mut("x").wait().err()));
    assert!(is_refused(store.remove("x").wait().err()));
    assert!(matches!(store.get("y").wait(), Err(Error::NotFound { .. })));
    store.prefetch(["x", "y"], std::time::Duration::from_secs(9));
    eventually("the guess", || store.state("x") == Some(SwapState::Resident));
    store.evict("x").wait().expect("evicted");
    store.flush().wait().expect("there is nothing to flush");
    store.close().wait().expect("closed");
}

#[test]
fn a_model_that_is_damaged_is_found() {
    let (place, engine) = (directory(), engine());
    let options = SaveOptions::new().checksums(true);
    let path = saved(&engine, place.path(), "model.safetensors", &[source("x", DType::F32, &[5000])], options);
    let mut bytes = std::fs::read(&path).expect("the file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("the file");
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let store = SwapStore::over(&model, 1 << 20);
    // As a load: verified only if it is a checkpoint.
    assert_eq!(store.get("x").wait().expect("read").bytes().len(), 20_000);
    std::fs::OpenOptions::new().write(true).open(&path).expect("the file").set_len(10_000).expect("cut");
    store.evict("x").wait().expect("evicted");
    let error = store.get("x").wait().expect_err("cut");
    assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_EOF", Some("x")));
}

#[test]
fn a_store_says_what_a_tensor_is() {
    let (place, engine) = (directory(), engine());
    let path = saved(&engine, place.path(), "model.safetensors", &[source("x", DType::BF16, &[2, 3])], SaveOptions::new());
    let store = SwapStore::over(&Safetensors::open(&engine, &path).wait().expect("a model"), 1 << 20);
    let info = store.info("x").expect("a tensor");
    assert_eq!((info.dtype, &info.shape[..], info.len, info.state), (Some(DType::BF16), &[2, 3][..], 12, SwapState::Stored));
    let lease = store.get("x").wait().expect("a lease");
    assert_eq!(store.info("x").map(|info| info.state), Some(SwapState::Leased));
    drop(lease);
    assert_eq!((store.state("x"), store.info("y")), (Some(SwapState::Resident), None));
}
