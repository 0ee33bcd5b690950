//! Tiers before remotes in memory, and what tests do with them.

use crate::harness::{bytes, directory, engines};
use crate::remote::Remote;
use deepring::Engine;
use deepring_tier::v014::TieredStore;
use deepring_tier::v014::object_store::path::Path;
use deepring_tier::v014::object_store::{ObjectStore, ObjectStoreExt};
use deepring_tier::{Tier, TierBuilder, Validate};
use std::sync::Arc;
use tempfile::TempDir;

/// The size of a cell by default.
pub(crate) const CELL: u64 = 64 << 10;
pub(crate) const EXTENT: u64 = 4 << 20;
pub(crate) const MIB: u64 = 1 << 20;

/// A tier in a directory of its own, before a remote.
pub(crate) struct Place {
    pub(crate) remote: Arc<Remote>,
    pub(crate) store: TieredStore,
    pub(crate) tier: Tier,
    pub(crate) directory: TempDir,
    pub(crate) engine: Engine,
}

impl Place {
    pub(crate) fn new(engine: &Engine, capacity: u64, set: impl FnOnce(TierBuilder) -> TierBuilder) -> Self {
        let directory = directory();
        let tier = set(Tier::builder(engine)).open(directory.path(), capacity).expect("a tier");
        let remote = Arc::new(Remote::new());
        let store = TieredStore::new(&tier, Arc::clone(&remote) as Arc<dyn ObjectStore>, "memory://");
        Self { remote, store, tier, directory, engine: engine.clone() }
    }

    /// One in which nothing is asked for twice.
    pub(crate) fn immutable(engine: &Engine) -> Self {
        Self::new(engine, 64 << 20, |tier| tier.otherwise(Validate::Immutable))
    }

    /// Closes the tier and opens it again, on the same directory and before the same remote.
    pub(crate) async fn reopened(self, set: impl FnOnce(TierBuilder) -> TierBuilder, capacity: u64) -> Self {
        self.tier.flush().await;
        let Self { remote, store, tier, directory, engine } = self;
        drop((store, tier));
        let tier = set(Tier::builder(&engine)).open(directory.path(), capacity).expect("a tier");
        let store = TieredStore::new(&tier, Arc::clone(&remote) as Arc<dyn ObjectStore>, "memory://");
        Self { remote, store, tier, directory, engine }
    }

    /// Puts an object behind the back of the tier, and returns its bytes.
    pub(crate) async fn put(&self, path: &str, len: u64, salt: u64) -> Vec<u8> {
        let content = bytes(0, len as usize, salt);
        self.remote.objects.put(&at(path), content.clone().into()).await.expect("a put");
        content
    }

    pub(crate) async fn get(&self, path: &str) -> Vec<u8> {
        self.store.get(&at(path)).await.expect("an object").bytes().await.expect("its bytes").to_vec()
    }

    pub(crate) async fn range(&self, path: &str, range: std::ops::Range<u64>) -> Vec<u8> {
        self.store.get_range(&at(path), range).await.expect("a range").to_vec()
    }
}

pub(crate) fn at(path: &str) -> Path {
    Path::from(path)
}

/// Runs a test on either backend, in a runtime of one thread.
#[expect(clippy::needless_pass_by_value, reason = "a test is written as an argument")]
pub(crate) fn each(test: impl AsyncFn(&Engine)) {
    for engine in engines() {
        run(test(&engine));
    }
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}
