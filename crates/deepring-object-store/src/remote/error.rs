//! [`RemoteError`]: why a checkpoint could not travel.

use super::object_store;
use object_store::path::Path;
use std::ops::Range;

/// Why a checkpoint could not be sent, found or fetched.
///
/// ```
/// # #[cfg(feature = "v014")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use deepring_object_store::v014::object_store::memory::InMemory;
/// use deepring_object_store::v014::{RemoteCheckpoints, RemoteError};
/// # use deepring_tensors::checkpoint::{Checkpoints, StoreOptions};
/// # let directory = tempfile::tempdir()?;
/// # let engine = deepring::Engine::builder().build()?;
/// # let store = Checkpoints::open(&engine, directory.path(), StoreOptions::new()).wait()?;
/// let remote = RemoteCheckpoints::new(std::sync::Arc::new(InMemory::new()), "runs/1");
/// let error = pollster::block_on(remote.download_latest(&store)).unwrap_err();
/// assert!(matches!(error, RemoteError::NoGeneration { generation: None, .. }));
/// assert_eq!(error.to_string(), "there is no generation below 'runs/1'");
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "v014"))]
/// # fn main() {}
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The object store has failed.
    #[error("{error}, object '{path}'")]
    Store {
        /// The object, or the prefix that was listed.
        path: Path,
        /// What the store reports.
        #[source]
        error: object_store::Error,
    },
    /// What has arrived does not have its checksums, or is no checkpoint; or the local store has failed or refused. The path of a
    /// remote file is that of its object.
    #[error(transparent)]
    Checkpoint(#[from] deepring_tensors::Error),
    /// There is no generation of this number in the object store, or none at all. One without its manifest does not count.
    #[error("there is no {} below '{prefix}'", .generation.map_or("generation".to_owned(), |number| format!("generation {number}")))]
    NoGeneration {
        /// The number.
        generation: Option<u64>,
        /// Where it was looked for.
        prefix: Path,
    },
    /// Another checkpoint has this number in the object store, or has begun to be sent under it. Nothing of it was changed.
    #[error("generation {generation} is another checkpoint there, or was begun as one, object '{path}'")]
    Exists {
        /// The number.
        generation: u64,
        /// The object that is another one's.
        path: Path,
    },
    /// The object store has no conditional put, so that two checkpoints could be mixed under one number.
    /// [`RemoteCheckpoints::unconditional`](super::RemoteCheckpoints::unconditional) sends all the same.
    #[error("the object store does not put an object only if there is none, which keeps two uploads of one number apart ({why}): {store}")]
    Unconditional {
        /// The object store, as it calls itself.
        store: String,
        /// How that was found out.
        why: String,
    },
    /// An object was replaced or removed while it was being read.
    #[error("the object was changed while it was being read: '{path}'")]
    Changed {
        /// The object.
        path: Path,
    },
    /// A file of a generation is not there as an object, although its manifest is.
    #[error("the object is missing: '{path}'")]
    Missing {
        /// The object.
        path: Path,
    },
    /// An object, or the answer to a request, is longer or shorter than it must be.
    #[error("{actual} bytes came, and {expected} must, object '{path}'")]
    Length {
        /// The object.
        path: Path,
        /// What the manifest, the part or the request says.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// An answer is of other bytes than were asked for.
    #[error("bytes {}..{} came, and {}..{} were asked for, object '{path}'", .actual.start, .actual.end, .expected.start, .expected.end)]
    Range {
        /// The object.
        path: Path,
        /// What was asked for.
        expected: Range<u64>,
        /// What the answer is said to be.
        actual: Range<u64>,
    },
    /// A setting is outside its range.
    #[error("{setting} is {value}; it must be {allowed}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was asked for.
        value: u64,
        /// What is possible.
        allowed: &'static str,
    },
}

/// The result of every fallible call.
pub(super) type Result<T> = std::result::Result<T, RemoteError>;
