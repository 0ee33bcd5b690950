//! What holds with every object store.

mod conditional;
mod damaged;
mod dropped;
mod limits;
mod places;
mod racing;
mod resumed;
mod trips;
pub(crate) mod watched;

use super::object_store;
use super::{RemoteCheckpoints, RemoteError};
use crate::generations::Local;
use deepring_tensors::Error;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use pollster::block_on;
use std::sync::Arc;
use watched::Watched;

/// Parts that are small, so that there are several.
const PART_BYTES: u64 = 1 << 20;

const PREFIX: &str = "runs/1";

/// Checkpoints in memory, and what is called.
fn watched() -> (RemoteCheckpoints, Arc<Watched>) {
    let store = Arc::new(Watched::new(Arc::new(InMemory::new())));
    (remote(Arc::clone(&store) as Arc<dyn ObjectStore>), store)
}

fn remote(store: Arc<dyn ObjectStore>) -> RemoteCheckpoints {
    RemoteCheckpoints::new(store, PREFIX).part_bytes(PART_BYTES).parts_in_flight(3)
}

/// Where a file of a generation is.
fn at(number: u64, name: &str) -> Path {
    Path::from(format!("{PREFIX}/{number:012}/{name}"))
}

/// The names of the objects of a generation.
fn objects(store: &dyn ObjectStore, number: u64) -> Vec<String> {
    let place = Path::from(format!("{PREFIX}/{number:012}"));
    let listed = block_on(store.list_with_delimiter(Some(&place))).expect("a listing");
    let mut names: Vec<String> = listed.objects.iter().filter_map(|meta| meta.location.filename().map(str::to_owned)).collect();
    names.sort_unstable();
    names
}

fn get(store: &dyn ObjectStore, path: &Path) -> Vec<u8> {
    block_on(async { store.get(path).await?.bytes().await }).expect("an object").to_vec()
}

fn put(store: &dyn ObjectStore, path: &Path, bytes: Vec<u8>) {
    block_on(store.put(path, bytes.into())).expect("a put");
}

/// Sends the only generation of a store.
fn sent(remote: &RemoteCheckpoints, local: &Local) {
    let transfer = block_on(remote.upload(&local.generation(1))).expect("sent");
    assert_eq!((transfer.moved, transfer.found, transfer.complete), (transfer.bytes, 0, false));
}

/// Downloads, also if what was dropped before holds the place for a moment.
fn download(remote: &RemoteCheckpoints, local: &Local, number: u64) -> Result<deepring_object_store::Transfer, RemoteError> {
    let mut result = Err(RemoteError::NoGeneration { generation: None, prefix: Path::default() });
    crate::harness::eventually(std::time::Duration::from_secs(20), "nothing else arrives", || {
        result = block_on(remote.download(&local.store, number));
        !matches!(&result, Err(RemoteError::Checkpoint(Error::Conflict { detail, .. })) if detail == "it is arriving already")
    });
    result
}
