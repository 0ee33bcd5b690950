//! delta-rs on deepring: one registration, and every table under `file:///` is read and written through the store.

use deepring_object_store::DeepringStore;
use deltalake_core::DeltaResult;
use deltalake_core::logstore::{ObjectStoreFactory, ObjectStoreRef, StorageConfig, object_store_factories};
use object_store::path::Path;
use std::sync::Arc;
use url::Url;

/// Makes delta-rs open `file:///` with this store in place of `LocalFileSystem`, in this process.
///
/// The log store stays that of delta-rs: it commits a version by a put of mode `Create`, which one of several writers wins.
///
/// # Errors
/// Fails for no input; delta-rs parses the scheme.
pub fn register(store: &DeepringStore) -> Result<(), url::ParseError> {
    object_store_factories().insert(Url::parse("file://")?, Arc::new(Factory { store: Arc::new(store.clone()) }));
    Ok(())
}

struct Factory {
    store: Arc<DeepringStore>,
}

impl ObjectStoreFactory for Factory {
    fn parse_url_opts(&self, url: &Url, _config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        Ok((self.store.clone(), Path::from_url_path(url.path())?))
    }
}
