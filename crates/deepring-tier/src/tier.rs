//! [`Tier`]: a cache on a drive, for any number of stores.

use crate::inner::Inner;
use crate::stats::TierStats;
use deepring::Engine;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A cache in a directory of a local drive. It has a file of a fixed size with the bytes of objects, and an index. Clones share it,
/// and any number of stores can use it: `TieredStore::new` of the module [`v013`](crate::v013) or [`v014`](crate::v014).
///
/// ```
/// # use deepring_tier::v014::object_store;
/// use deepring_tier::{Tier, Validate, v014::TieredStore};
/// use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
/// use std::sync::Arc;
/// # let directory = tempfile::tempdir()?;
/// # let nvme = directory.path();
/// # pollster::block_on(async {
/// let engine = deepring::Engine::builder().build()?;
/// let tier = Tier::builder(&engine).validate("*.parquet", Validate::Immutable).open(nvme.join("tier"), 64 << 20)?;
/// let remote = Arc::new(InMemory::new());
/// let store = TieredStore::new(&tier, remote, "memory://example");
///
/// store.put(&Path::from("part-0.parquet"), vec![7; 100_000].into()).await?;
/// store.get_range(&Path::from("part-0.parquet"), 10..20).await?; // from the remote
/// store.get_range(&Path::from("part-0.parquet"), 30..40).await?; // not again
/// assert_eq!(tier.stats().fetches, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tier {
    pub(crate) inner: Arc<Inner>,
}

impl Tier {
    /// What the tier has done so far, over all its stores.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let engine = deepring::Engine::builder().build()?;
    /// let tier = deepring_tier::Tier::builder(&engine).open(directory.path(), 64 << 20)?;
    /// assert_eq!((tier.stats().hits, tier.stats().slots), (0, 16));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> TierStats {
        self.inner.stats()
    }

    /// Waits until what was fetched before this call is on the drive, or has been given up. Nothing depends on it but when hits
    /// begin, and when the last clone lets go of the directory: without a flush before it, that is when the writes in progress
    /// have ended.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let engine = deepring::Engine::builder().build()?;
    /// let tier = deepring_tier::Tier::builder(&engine).open(directory.path(), 64 << 20)?;
    /// pollster::block_on(tier.flush());
    /// assert_eq!(tier.stats().fills_in_progress, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn flush(&self) {
        self.inner.fills.flushed().await;
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The engine that reads and writes.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("path", &self.inner.path).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
