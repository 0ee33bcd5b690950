//! [`Upload`]: an object in parts, which are written side by side, each at its place.

use crate::failure::{Failure, Kind, Use};
use crate::publish::Condition;
use crate::stats::add;
use crate::store::DeepringStore;
use crate::version::Version;
use bytes::Bytes;
use deepring::Replacement;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module. Dropped before it is complete, it leaves no file.
#[derive(Debug)]
pub(crate) struct Upload {
    store: DeepringStore,
    path: PathBuf,
    /// Until the upload has ended.
    replacement: Option<Replacement>,
    /// Where the next part begins.
    end: u64,
    parts: Arc<Parts>,
}

/// The state of the parts.
#[derive(Debug, Default)]
struct Parts {
    in_progress: AtomicUsize,
    failed: AtomicBool,
    /// Of the first that failed.
    why: Mutex<Option<String>>,
}

/// A part in progress. Dropped without an end, it has failed: its future was dropped.
struct Part(Arc<Parts>, bool);

impl Part {
    fn end(mut self, failure: Option<&Failure>) {
        self.1 = true;
        if let Some(failure) = failure {
            let mut why = self.0.why.lock().unwrap_or_else(PoisonError::into_inner);
            why.get_or_insert_with(|| failure.source.to_string());
            drop(why);
            self.0.failed.store(true, Ordering::Release);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.1 {
            self.0.failed.store(true, Ordering::Release);
        }
        self.0.in_progress.fetch_sub(1, Ordering::AcqRel);
    }
}

impl DeepringStore {
    /// Begins an upload.
    pub(crate) async fn upload(&self, location: &str) -> Result<Upload, Failure> {
        let path = self.file_of(location)?;
        let replacement = self.begin(&path, 0, &Condition::None).await?;
        Ok(Upload { store: self.clone(), path, replacement: Some(replacement), end: 0, parts: Arc::default() })
    }
}

impl Upload {
    /// Writes the next part. It is on its way when this returns; the future waits for it, and cancels it if dropped.
    pub(crate) fn part(&mut self, payload: Vec<Bytes>) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        let size: u64 = payload.iter().map(|bytes| bytes.len() as u64).sum();
        let at = self.end;
        self.end += size;
        self.parts.in_progress.fetch_add(1, Ordering::AcqRel);
        let part = Part(Arc::clone(&self.parts), false);
        let written = match &self.replacement {
            None => Err(ended(&self.path)),
            Some(_) if size == 0 => Ok(None),
            Some(replacement) => Ok(Some(replacement.file().write_vectored(payload, at))),
        };
        let path = self.path.clone();
        async move {
            let result = match written {
                Ok(None) => Ok(()),
                Ok(Some(write)) => write.await.ok().map(drop).map_err(|error| Failure::of(error, &path, Use::Makes)),
                Err(failure) => Err(failure),
            };
            part.end(result.as_ref().err());
            result
        }
    }

    /// Publishes the object, if all parts were written.
    pub(crate) async fn complete(&mut self) -> Result<Version, Failure> {
        let refused = |path: &Path, why: String| Err(Failure::new(Kind::Other, path, why));
        if self.replacement.is_some() {
            let in_progress = self.parts.in_progress.load(Ordering::Acquire);
            if in_progress > 0 {
                return refused(
                    &self.path,
                    format!("parts of the upload are still in progress: {in_progress}; wait for their futures first"),
                );
            }
            if self.parts.failed.load(Ordering::Acquire) {
                let why = self.parts.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let why = why.unwrap_or_else(|| "its future was dropped".to_owned());
                return refused(&self.path, format!("a part of the upload failed, so that it can only be aborted: {why}"));
            }
        }
        let Some(replacement) = self.replacement.take() else { return Err(ended(&self.path)) };
        let version = self.store.commit(replacement, &self.path, Condition::None).await?;
        add(&self.store.counters().uploads, 1);
        Ok(version)
    }

    /// Gives the upload up, and removes what was written.
    pub(crate) async fn abort(&mut self) -> Result<(), Failure> {
        let Some(replacement) = self.replacement.take() else { return Err(ended(&self.path)) };
        replacement.abandon().await.map_err(|error| Failure::of(error, &self.path, Use::Makes))
    }
}

fn ended(path: &Path) -> Failure {
    Failure::new(Kind::Other, path, "the upload was completed or aborted before")
}
