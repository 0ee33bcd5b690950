//! Stores in fresh directories, and what is in those.

use crate::harness::{directory, engines};
use deepring::Engine;
use deepring_object_store::{DeepringStore, DeepringStoreBuilder, Durability};
use object_store_014::path::Path as Location;
use object_store_014::{ObjectStore, ObjectStoreExt, PutMode, PutResult, Result, UpdateVersion};
use pollster::block_on;
use std::path::Path;
use tempfile::TempDir;

/// A store that flushes nothing.
pub(crate) fn cached(engine: &Engine, place: &Path) -> DeepringStore {
    built(DeepringStore::builder(engine).prefix(place).durability(Durability::Cached))
}

pub(crate) fn built(builder: DeepringStoreBuilder) -> DeepringStore {
    builder.build().expect("a store")
}

/// A store of each backend that flushes nothing, in a directory of its own.
pub(crate) fn stores() -> Vec<(TempDir, DeepringStore)> {
    let each = |engine: Engine| {
        let place = directory();
        let store = cached(&engine, place.path());
        (place, store)
    };
    engines().into_iter().map(each).collect()
}

pub(crate) fn at(location: &str) -> Location {
    Location::parse(location).expect("a path")
}

pub(crate) fn put(store: &DeepringStore, location: &str, bytes: impl Into<bytes::Bytes>) -> PutResult {
    block_on(store.put(&at(location), bytes.into().into())).expect("a put")
}

pub(crate) fn put_when(store: &DeepringStore, location: &str, bytes: &[u8], mode: PutMode) -> Result<PutResult> {
    block_on(store.put_opts(&at(location), bytes.to_vec().into(), mode.into()))
}

/// Only over this version.
pub(crate) fn over(result: &PutResult) -> PutMode {
    PutMode::Update(UpdateVersion { e_tag: result.e_tag.clone(), version: None })
}

pub(crate) fn get(store: &DeepringStore, location: &str) -> Result<Vec<u8>> {
    block_on(async { Ok(store.get(&at(location)).await?.bytes().await?.to_vec()) })
}

/// The paths of all objects, sorted.
pub(crate) fn listed(store: &DeepringStore, prefix: &str) -> Vec<String> {
    use futures_util::TryStreamExt;
    let prefix = (!prefix.is_empty()).then(|| at(prefix));
    let metas: Vec<_> = block_on(store.list(prefix.as_ref()).try_collect()).expect("a listing");
    let mut paths: Vec<String> = metas.into_iter().map(|meta| meta.location.to_string()).collect();
    paths.sort_unstable();
    paths
}

/// Every file below a directory, objects and others, sorted.
pub(crate) fn files(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![place.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(place).expect("below it").to_string_lossy().into_owned());
            }
        }
    }
    found.sort_unstable();
    found
}
