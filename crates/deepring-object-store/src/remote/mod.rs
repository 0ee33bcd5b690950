//! [`RemoteCheckpoints`]: checkpoints in an object store. `v013.rs` and `v014.rs` mount this directory each with its own version
//! of `object_store`.
//!
//! ```text
//!   PREFIX/000000000042/upload.json                         whose the number is: put first, if there is none
//!                       data-00000-main-00000.safetensors   the files of the generation, as they are on the drive
//!                       part-00000.json
//!                       model.safetensors.index.json
//!                       manifest.json                       put last, if there is none: from here on the generation is there
//! ```
//!
//! Files of the same name can be of different generations, because every machine counts its own. So an upload claims the number
//! before it sends a byte: only uploads of the same content ever put objects below it. What they put twice is the same.

mod claim;
mod download;
mod error;
mod fetch;
mod upload;

use super::object_store;
use crate::transfer::{Limits, OnProgress, PART_BYTES_DEFAULT, PART_BYTES_MAX, PARTS_DEFAULT, PARTS_MAX};
use deepring_tensors::checkpoint::Listing;
pub use error::RemoteError;
use error::Result;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Checkpoints in an object store, below a prefix. Each is there as a whole or not at all, whatever happens to the process that
/// sends it, and what comes back is compared with its checksums. Clones share the object store.
///
/// Nothing of it needs a runtime, if the object store needs none. Dropping a future ends what it does: what it has left is not
/// visible, and the next call of the same kind goes on from there.
///
/// ```
/// # #[cfg(feature = "v014")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use deepring_tensors::checkpoint::{Check, CheckpointOptions, Checkpoints, StoreOptions};
/// # use deepring_tensors::{DType, Declared, Source};
/// use deepring_object_store::v014::RemoteCheckpoints;
/// use deepring_object_store::v014::object_store::memory::InMemory; // or S3, or any other
/// use std::sync::Arc;
/// # let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # let engine = deepring::Engine::builder().build()?;
/// # let store = Checkpoints::open(&engine, here.path(), StoreOptions::new()).wait()?;
/// # let elsewhere = Checkpoints::open(&engine, there.path(), StoreOptions::new()).wait()?;
/// # let declared = Declared { name: "bias".into(), dtype: DType::U8, shape: vec![3] };
/// # let save = store.save(vec![Source { declared, data: vec![1u8, 2, 3] }], CheckpointOptions::new());
/// # save.wait()?.commit().wait()?;
/// # pollster::block_on(async {
/// let remote = RemoteCheckpoints::new(Arc::new(InMemory::new()), "runs/1").parts_in_flight(16);
/// let checkpoint = store.latest(Check::Sizes).await?.checkpoint.expect("one was saved");
/// let sent = remote.upload(&checkpoint).await?;
/// assert_eq!((sent.moved, sent.found), (sent.bytes, 0));
///
/// let newest = remote.latest().await?.expect("one was sent"); // on another machine
/// let fetched = remote.download(&elsewhere, newest).await?;
/// assert_eq!(fetched.moved, sent.bytes);
/// let copy = elsewhere.generation(newest).await?;
/// assert_eq!(copy.tensor("bias", None).await?.bytes(), [1, 2, 3]);
/// # Ok(())
/// # })
/// # }
/// # #[cfg(not(feature = "v014"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
#[must_use = "it does nothing by itself"]
pub struct RemoteCheckpoints {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    limits: Limits,
    unconditional: bool,
    on_progress: Option<OnProgress>,
}

impl fmt::Debug for RemoteCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, prefix, limits, unconditional, .. } = self;
        let mut all = f.debug_struct("RemoteCheckpoints");
        all.field("store", &store.to_string()).field("prefix", prefix).field("limits", limits);
        all.field("unconditional", unconditional).finish_non_exhaustive()
    }
}

impl RemoteCheckpoints {
    /// Those below this prefix, which can be empty.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: impl Into<Path>) -> Self {
        let limits = Limits { part_bytes: PART_BYTES_DEFAULT, parts_in_flight: PARTS_DEFAULT };
        Self { store, prefix: prefix.into(), limits, unconditional: false, on_progress: None }
    }

    /// Bytes of a part: what one request moves; 8 MiB by default, at most 5 GiB. S3 and others want 5 MiB or more. A file with more
    /// than 10 000 parts gets larger ones; a chunk that is larger is fetched as a whole.
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.limits.part_bytes = bytes;
        self
    }

    /// How many parts are in memory at once, of all files together, 1 to 1024; 8 by default.
    pub fn parts_in_flight(mut self, parts: usize) -> Self {
        self.limits.parts_in_flight = parts;
        self
    }

    /// Whether to send to an object store that cannot put an object only if there is none; off by default. Two uploads of different
    /// checkpoints under one number, at the same time, can then leave one that is damaged. Those that follow each other are
    /// told apart as ever.
    pub fn unconditional(mut self, yes: bool) -> Self {
        self.unconditional = yes;
        self
    }

    /// A function that is called with the bytes of data files that are done and with those of all: at most 20 times a second, and
    /// once when all are. On whatever thread polls.
    pub fn on_progress(mut self, function: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(function));
        self
    }

    /// The numbers of all generations that are there as a whole, in ascending order. One whose manifest was not put yet is not
    /// there.
    ///
    /// # Errors
    /// [`RemoteError::Store`].
    pub async fn list(&self) -> Result<Vec<u64>> {
        self.check()?;
        let has = |number: u64| async move { Ok(self.head(&self.path_of(number, Listing::MANIFEST)).await?.map(|_| number)) };
        let found = stream::iter(self.numbers().await?).map(has).buffered(self.limits.parts_in_flight);
        found.try_filter_map(|number| std::future::ready(Ok(number))).try_collect().await
    }

    /// The number of the newest generation that is there as a whole. None: there is none.
    ///
    /// It is not read. If it turns out to be damaged, [`RemoteCheckpoints::list`] has older ones.
    ///
    /// # Errors
    /// [`RemoteError::Store`].
    pub async fn latest(&self) -> Result<Option<u64>> {
        self.check()?;
        for number in self.numbers().await?.into_iter().rev() {
            if self.head(&self.path_of(number, Listing::MANIFEST)).await?.is_some() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// The numbers that have objects.
    async fn numbers(&self) -> Result<Vec<u64>> {
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let listed = self.store.list_with_delimiter(prefix).await.map_err(|error| failed(&self.prefix, error))?;
        let number = |path: &Path| path.filename().and_then(Listing::generation_of);
        let mut numbers: Vec<u64> = listed.common_prefixes.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Where a generation is.
    fn place_of(&self, generation: u64) -> Path {
        self.prefix.clone().join(Listing::name_of(generation))
    }

    /// Where a file of a generation is.
    fn path_of(&self, generation: u64, name: &str) -> Path {
        self.place_of(generation).join(name)
    }

    /// Checks the settings.
    fn check(&self) -> Result<()> {
        let Limits { part_bytes, parts_in_flight } = self.limits;
        if !(1..=PART_BYTES_MAX).contains(&part_bytes) {
            return Err(RemoteError::Setting { setting: "part_bytes", value: part_bytes, allowed: "1 to 5 GiB" });
        }
        if !(1..=PARTS_MAX).contains(&parts_in_flight) {
            return Err(RemoteError::Setting { setting: "parts_in_flight", value: parts_in_flight as u64, allowed: "1 to 1024" });
        }
        Ok(())
    }

    /// What a transfer has in memory.
    fn budget(&self) -> Budget {
        Budget { limits: self.limits, permits: Arc::new(Semaphore::new(self.limits.permits() as usize)) }
    }
}

/// Bytes that can be in memory.
struct Budget {
    limits: Limits,
    permits: Arc<Semaphore>,
}

impl Budget {
    /// Waits until there is room. None is only for a semaphore that is closed, which this one never is.
    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_many_owned(self.limits.permits_for(bytes)).await.ok()
    }
}

fn failed(path: &Path, error: object_store::Error) -> RemoteError {
    RemoteError::Store { path: path.clone(), error }
}
