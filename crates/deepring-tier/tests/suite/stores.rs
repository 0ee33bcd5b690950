//! The tiers that the suite runs over, and what of it the crate `deepring-object-store` does not have: attributes.

use super::TieredStore;
use super::object_store::{ObjectStore, integration as suite, memory::InMemory};
use crate::harness::{builders, directory, say};
use deepring_tier::{Tier, Validate};
use std::sync::Arc;

/// Runs a function of the suite with each backend and either rule.
pub(crate) fn each(case: &impl AsyncFn(&(dyn ObjectStore + 'static))) {
    for builder in builders() {
        for validate in [Validate::Always, Validate::Immutable] {
            let place = directory();
            let engine = builder.clone().build().expect("an engine");
            let tier = Tier::builder(&engine).otherwise(validate).bypass::<&str>([]).open(place.path(), 16 << 20).expect("a tier");
            let store = TieredStore::new(&tier, Arc::new(InMemory::new()), "memory://");
            say(&format!("{:?}, {validate:?}", engine.info().backend));
            // The suite spawns tasks; the tier needs no runtime.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(case(&store));
        }
    }
}

#[test]
fn put_get_attributes() {
    each(&async |store| suite::put_get_attributes(store).await);
}
