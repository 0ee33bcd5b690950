//! Reading objects: each answer is of the object that was seen first, and as long as it must be.

use super::error::{RemoteError, Result};
use super::object_store::path::Path;
use super::object_store::{Error, GetOptions, GetRange, GetResult, ObjectStoreExt};
use super::{RemoteCheckpoints, failed};
use bytes::Bytes;
use futures_util::stream::StreamExt;
use std::ops::Range;

/// An object as it was seen first.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) path: Path,
    pub(super) bytes: u64,
    /// Its version. `None` if the store reports none, or one that does not tell all versions apart.
    tag: Option<String>,
}

impl Seen {
    fn new(path: &Path, bytes: u64, tag: Option<&String>) -> Self {
        // A weak tag can stay when bytes change, and never matches a condition.
        let tag = tag.filter(|tag| !tag.starts_with("W/")).cloned();
        Self { path: path.clone(), bytes, tag }
    }
}

impl RemoteCheckpoints {
    /// Looks at an object. `None`: there is none.
    pub(super) async fn head(&self, path: &Path) -> Result<Option<Seen>> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(Seen::new(path, meta.size, meta.e_tag.as_ref()))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(path, error)),
        }
    }

    /// A small object, of at most this many bytes. `None`: there is none.
    pub(super) async fn whole(&self, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let result = match self.store.get_opts(path, GetOptions::default()).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            result => result.map_err(|error| failed(path, error))?,
        };
        let bytes = result.meta.size;
        if bytes > bytes_max {
            return Err(RemoteError::Length { path: path.clone(), expected: bytes_max, actual: bytes });
        }
        Ok(Some(collect(path, result, bytes).await?.concat()))
    }

    /// The first bytes of an object of this length, and the object as it was seen.
    pub(super) async fn first(&self, path: &Path, bytes: u64, wanted: u64) -> Result<(Seen, Vec<Bytes>)> {
        let options = GetOptions { range: Some(GetRange::Bounded(0..wanted)), ..GetOptions::default() };
        let result = match self.store.get_opts(path, options).await {
            Ok(result) => result,
            Err(Error::NotFound { .. }) => return Err(RemoteError::Missing { path: path.clone() }),
            // An object without bytes has no such range.
            Err(error) => match self.head(path).await? {
                Some(seen) if seen.bytes != bytes => {
                    return Err(RemoteError::Length { path: path.clone(), expected: bytes, actual: seen.bytes });
                }
                _ => return Err(failed(path, error)),
            },
        };
        let seen = Seen::new(path, result.meta.size, result.meta.e_tag.as_ref());
        if seen.bytes != bytes {
            return Err(RemoteError::Length { path: path.clone(), expected: bytes, actual: seen.bytes });
        }
        check_range(path, &result, &(0..wanted))?;
        Ok((seen, collect(path, result, wanted).await?))
    }

    /// Bytes of an object that was seen before.
    pub(super) async fn range(&self, seen: &Seen, range: Range<u64>) -> Result<Vec<Bytes>> {
        let Seen { path, bytes, tag } = seen;
        let changed = || RemoteError::Changed { path: path.clone() };
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), if_match: tag.clone(), ..GetOptions::default() };
        let result = match self.store.get_opts(path, options).await {
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => return Err(changed()),
            // A store without conditions could have said so of every range. It is seen whether the object is still the same.
            result => result.map_err(|error| failed(path, error))?,
        };
        let now = Seen::new(path, result.meta.size, result.meta.e_tag.as_ref());
        if now.bytes != *bytes || tag.is_some() && now.tag != *tag {
            return Err(changed());
        }
        check_range(path, &result, &range)?;
        collect(path, result, range.end - range.start).await
    }
}

/// Checks that an answer is of the bytes that were asked for.
fn check_range(path: &Path, result: &GetResult, expected: &Range<u64>) -> Result<()> {
    let actual = &result.range;
    if actual == expected {
        return Ok(());
    }
    Err(RemoteError::Range { path: path.clone(), expected: expected.clone(), actual: actual.clone() })
}

/// The bytes of an answer, which must be this many.
async fn collect(path: &Path, result: GetResult, expected: u64) -> Result<Vec<Bytes>> {
    let (mut chunks, mut actual) = (Vec::new(), 0);
    let mut stream = result.into_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| failed(path, error))?;
        actual += chunk.len() as u64;
        if actual > expected {
            break;
        }
        chunks.push(chunk);
    }
    if actual == expected { Ok(chunks) } else { Err(RemoteError::Length { path: path.clone(), expected, actual }) }
}
