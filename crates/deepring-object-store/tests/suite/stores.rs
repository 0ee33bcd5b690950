//! The stores that the suite runs over.

use super::object_store::ObjectStore;
use crate::harness::{builders, directory, say};
use deepring_object_store::{DeepringStore, Durability};

/// Runs a function of the suite with each backend and each durability.
pub(crate) fn each(case: &impl AsyncFn(&(dyn ObjectStore + 'static))) {
    for builder in builders() {
        for durability in [Durability::Synced, Durability::Cached] {
            let place = directory();
            let engine = builder.clone().build().expect("an engine");
            let store = DeepringStore::builder(&engine).prefix(place.path()).durability(durability).build().expect("a store");
            say(&format!("{:?}, {durability:?}", engine.info().backend));
            // The suite spawns tasks; the store needs no runtime.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(case(&store));
        }
    }
}
