//! Puts: an object in one call.

use crate::failure::{Failure, Use};
use crate::publish::Condition;
use crate::stats::add;
use crate::store::DeepringStore;
use crate::version::Version;
use bytes::Bytes;

/// Objects up to this size are written through the page cache, in one job on one thread: a flush then costs as much, and three
/// changes of thread less.
const SMALL_BYTES: u64 = 256 << 10;

impl DeepringStore {
    /// Publishes an object of these bytes, one behind the other.
    pub(crate) async fn put_object(&self, location: &str, payload: Vec<Bytes>, condition: Condition) -> Result<Version, Failure> {
        let path = self.file_of(location)?;
        let size = payload.iter().map(|part| part.len() as u64).sum();
        if size <= SMALL_BYTES {
            let version = self.publish_small(&path, payload, condition).await?;
            add(&self.counters().puts, 1);
            return Ok(version);
        }
        let replacement = self.begin(&path, size, &condition).await?;
        if let Err(error) = replacement.file().write_vectored(payload, 0).await.ok() {
            return Err(self.abandon(replacement, Failure::of(error, &path, Use::Makes)).await);
        }
        let version = self.commit(replacement, &path, condition).await?;
        add(&self.counters().puts, 1);
        Ok(version)
    }
}
