//! How an object becomes visible: written beside its name, flushed, and then put in its place, under a condition.
//!
//! ```text
//!   begin ──► (directories made) ──► .deepring-PID-N#0 reserved     (the caller writes)
//!   commit ──► time set ──► flushed ──► directory held ──► condition ──► renamed ──► let go ──► directory flushed
//! ```

use crate::directories::open_made;
use crate::failure::{Failure, Kind, Use};
use crate::held::Held;
use crate::stats::add;
use crate::store::DeepringStore;
use crate::version::Version;
use bytes::Bytes;
use deepring::{Directory, FileStat, ReplaceOptions, Replacement, TemporaryNames};
use std::ffi::OsString;
use std::path::Path;

/// How often directories are made again that others remove at the same time.
const MADE_MAX: u32 = 16;

/// What must hold for an object to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    /// There is no object of this name.
    Absent,
    /// There is one, with this `ETag`.
    Is(String),
}

impl DeepringStore {
    fn options(&self, condition: &Condition) -> ReplaceOptions {
        ReplaceOptions::new()
            .durable(self.settings().is_synced())
            .keep_existing(*condition == Condition::Absent)
            .temporary_names(TemporaryNames::Numbered)
            .stamp(true)
    }

    /// Makes the file that is to become the object, with room for `size` bytes.
    pub(crate) async fn begin(&self, path: &Path, size: u64, condition: &Condition) -> Result<Replacement, Failure> {
        let options = self.options(condition).size(size);
        let mut made = 0;
        loop {
            match self.engine().replace(path, options).await {
                Err(error) if error.errno() == Some(libc::ENOENT) && made < MADE_MAX => {
                    made += 1;
                    self.make_directory_of(path).await?;
                }
                Err(error) => return Err(self.count_lost(Failure::of(error, path, Use::Makes))),
                Ok(replacement) => return Ok(replacement),
            }
        }
    }

    async fn make_directory_of(&self, path: &Path) -> Result<(), Failure> {
        let file = path.to_owned();
        self.job(path, move |store| {
            let above = file.parent().unwrap_or(&file);
            open_made(above, store.settings().is_synced()).map(drop).map_err(|error| Failure::of(error, above, Use::Makes))
        })
        .await
    }

    /// Publishes the file if the condition holds. If not, or if anything fails before it has its name, the old object stays.
    pub(crate) async fn commit(&self, replacement: Replacement, path: &Path, condition: Condition) -> Result<Version, Failure> {
        let (store, file) = (self.clone(), path.to_owned());
        let admit = move |directory: &Directory, new: &FileStat| store.admit(directory, new, &file, &condition);
        self.published(replacement.commit_when(admit).await, path)
    }

    /// Makes and publishes a small object at once.
    pub(crate) async fn publish_small(&self, path: &Path, payload: Vec<Bytes>, condition: Condition) -> Result<Version, Failure> {
        let options = self.options(&condition);
        let mut made = 0;
        loop {
            let (store, file, condition) = (self.clone(), path.to_owned(), condition.clone());
            let admit = move |directory: &Directory, new: &FileStat| store.admit(directory, new, &file, &condition);
            match self.engine().replace_with(path, payload.clone(), options, admit).await {
                Err(error) if error.errno() == Some(libc::ENOENT) && made < MADE_MAX => {
                    made += 1;
                    self.make_directory_of(path).await?;
                }
                replaced => return self.published(replaced, path),
            }
        }
    }

    fn published(&self, replaced: deepring::Result<Result<FileStat, Failure>>, path: &Path) -> Result<Version, Failure> {
        match replaced {
            Err(error) => Err(self.count_lost(Failure::of(error, path, Use::Makes))),
            Ok(Err(refusal)) => Err(refusal),
            Ok(Ok(stat)) => {
                add(&self.counters().bytes_put, stat.size);
                Ok(Version::of(&stat))
            }
        }
    }

    /// Gives up a file that is not to become an object, because of this failure.
    pub(crate) async fn abandon(&self, replacement: Replacement, failure: Failure) -> Failure {
        // The caller gets the failure that made this necessary.
        let _ = replacement.abandon().await;
        failure
    }

    /// Whether a file that is ready may take its name, and what it holds meanwhile. Blocks.
    fn admit(&self, directory: &Directory, new: &FileStat, path: &Path, condition: &Condition) -> Result<Held, Failure> {
        let held = Held::take(self.settings().locking, &[directory], self.counters());
        let Condition::Is(tag) = condition else {
            // Without a lock that the directory refuses, no conditional put is right here, and none is made.
            return Ok(held.unwrap_or(Held::Nothing));
        };
        let held = held.map_err(|error| Failure::of(error, path, Use::Makes))?;
        if !held.is_safe() {
            let why = "PutMode::Update needs locks on directories, which the file system does not have";
            return Err(Failure::new(Kind::NotSupported, path, why));
        }
        if Version::of(new).is_coarse() {
            let why = "PutMode::Update needs times in nanoseconds, which the file system does not keep";
            return Err(Failure::new(Kind::NotSupported, path, why));
        }
        let name = path.file_name().map(OsString::from).unwrap_or_default();
        let lost = |why: String| {
            add(&self.counters().updates_lost, 1);
            Err(Failure::new(Kind::Precondition, path, why))
        };
        match directory.stat(&name) {
            Ok(stat) if Version::of(&stat).has(tag) => Ok(held),
            Ok(stat) => lost(format!("the object has the ETag {}, not {tag}", Version::of(&stat))),
            Err(error) if error.errno() == Some(libc::ENOENT) => lost(format!("there is no object, and so none with the ETag {tag}")),
            Err(error) => Err(Failure::of(error, path, Use::Makes)),
        }
    }

    /// Counts an object that was in the way.
    pub(crate) fn count_lost(&self, failure: Failure) -> Failure {
        if failure.kind == Kind::AlreadyExists {
            add(&self.counters().creates_lost, 1);
        }
        failure
    }
}
