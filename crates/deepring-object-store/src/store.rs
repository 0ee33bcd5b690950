//! [`DeepringStore`]: the store itself, without a version of `object_store`.

use crate::failure::{Failure, Use};
use crate::names;
use crate::settings::Settings;
use crate::stats::{Counters, StoreStats};
use deepring::{Engine, Task};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An object store on the files of a directory. The [crate] documentation lists what it promises.
///
/// It implements `ObjectStore` of each version of the crate `object_store` whose feature is on. Clones share everything.
#[derive(Clone)]
pub struct DeepringStore {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    prefix: PathBuf,
    settings: Settings,
    counters: Counters,
}

impl DeepringStore {
    pub(crate) fn new(engine: Engine, prefix: PathBuf, settings: Settings) -> Self {
        Self { inner: Arc::new(Inner { engine, prefix, settings, counters: Counters::default() }) }
    }

    /// The directory that paths start from.
    pub fn prefix(&self) -> &Path {
        &self.inner.prefix
    }

    /// The engine that reads and writes.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// What the store has done so far.
    pub fn stats(&self) -> StoreStats {
        self.inner.counters.snapshot()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    pub(crate) fn file_of(&self, location: &str) -> Result<PathBuf, Failure> {
        names::file_of(self.prefix(), location)
    }

    /// Runs a job that blocks on a thread of the engine.
    pub(crate) async fn job<T: Send + 'static>(
        &self,
        path: &Path,
        job: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = self.clone();
        let task: Task<_> = self.engine().run_blocking(move || job(&store));
        task.await.map_err(|error| Failure::of(error, path, Use::Makes))?
    }
}

impl fmt::Display for DeepringStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeepringStore({})", self.prefix().display())
    }
}

impl fmt::Debug for DeepringStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeepringStore").field("prefix", &self.prefix()).field("settings", self.settings()).finish_non_exhaustive()
    }
}
