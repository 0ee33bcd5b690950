//! `ObjectStore` for [`DeepringStore`], in the words of one version of `object_store`. `v013.rs` and `v014.rs` mount this file
//! each with its own version, and bring what differs between them.

use super::object_store::path::Path;
use super::object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result, UploadPart,
};
use super::{get_result, list_result, put_result, tag};
use crate::copy::Target;
use crate::failure::{Failure, Kind};
use crate::get::Meta;
use crate::publish::Condition;
use crate::store::DeepringStore;
use crate::upload::Upload;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use std::error::Error as StdError;
use std::ops::Range;

/// The name of the store in errors.
const STORE: &str = "Deepring";

/// Deletes that one job makes: their directories are flushed once.
const DELETES: usize = 128;

/// Jobs of a stream of deletes that run at once.
const DELETE_JOBS: usize = 2;

impl From<Failure> for Error {
    fn from(Failure { kind, path, source }: Failure) -> Self {
        match kind {
            Kind::NotFound => Self::NotFound { path, source },
            Kind::AlreadyExists => Self::AlreadyExists { path, source },
            Kind::Precondition => Self::Precondition { path, source },
            Kind::Denied => Self::PermissionDenied { path, source },
            Kind::NotSupported => Self::NotSupported { source },
            Kind::Other => generic(source),
        }
    }
}

fn generic(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

fn object_meta(location: Path, meta: &Meta) -> ObjectMeta {
    // Nanoseconds of 64 bits end in 2262.
    let modified = i64::try_from(meta.modified_ns).unwrap_or(i64::MAX);
    let last_modified: DateTime<Utc> = DateTime::from_timestamp_nanos(modified);
    ObjectMeta { location, last_modified, size: meta.size, e_tag: Some(tag(meta.version)), version: None }
}

/// An object that was listed.
fn listed(meta: &Meta) -> Result<ObjectMeta> {
    Ok(object_meta(Path::parse(&meta.location)?, meta))
}

fn payload_parts(payload: &PutPayload) -> Vec<Bytes> {
    payload.iter().filter(|part| !part.is_empty()).cloned().collect()
}

fn not_implemented(store: &DeepringStore, operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: store.to_string() }
}

/// What of an object is to be read, if the conditions hold.
fn wanted(options: &GetOptions, meta: &ObjectMeta) -> Result<Range<u64>> {
    options.check_preconditions(meta)?;
    match &options.range {
        None => Ok(0..meta.size),
        Some(range) => range.as_range(meta.size).map_err(generic),
    }
}

#[async_trait]
impl ObjectStore for DeepringStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if !options.attributes.is_empty() {
            return Err(not_implemented(self, "`put_opts` with `attributes`"));
        }
        let condition = match options.mode {
            PutMode::Overwrite => Condition::None,
            PutMode::Create => Condition::Absent,
            PutMode::Update(version) => {
                Condition::Is(version.e_tag.ok_or_else(|| generic("`PutMode::Update` needs the ETag of the version that is replaced"))?)
            }
        };
        let version = self.put_object(location.as_ref(), payload_parts(&payload), condition).await?;
        Ok(put_result(tag(version)))
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return Err(not_implemented(self, "`put_multipart_opts` with `attributes`"));
        }
        Ok(Box::new(Parts(self.upload(location.as_ref()).await?)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.version.is_some() {
            return Err(Error::NotSupported { source: "the store keeps no versions but the current one".into() });
        }
        if options.head {
            let meta = object_meta(location.clone(), &self.describe(location.as_ref()).await?);
            let range = wanted(&options, &meta)?;
            return Ok(get_result(GetResultPayload::Stream(stream::empty().boxed()), meta, range));
        }
        let object = self.open(location.as_ref()).await?;
        let meta = object_meta(location.clone(), &object.meta);
        let range = wanted(&options, &meta)?;
        let bytes = object.stream(range.clone()).map_err(Error::from).boxed();
        Ok(get_result(GetResultPayload::Stream(bytes), meta, range))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.open(location.as_ref()).await?.read_ranges(ranges).await?)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let removed = move |locations: Vec<Result<Path>>| {
            let store = store.clone();
            async move {
                let named = locations.iter().flatten().map(ToString::to_string).collect();
                let mut results = store.remove(named).await.into_iter();
                let result = |location: Result<Path>| -> Result<Path> {
                    let location = location?;
                    results.next().unwrap_or(Ok(()))?;
                    Ok(location)
                };
                stream::iter(locations.into_iter().map(result).collect::<Vec<_>>())
            }
        };
        locations.ready_chunks(DELETES).map(removed).buffered(DELETE_JOBS).flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix.map_or("", AsRef::as_ref), None).map(|meta| listed(&meta?)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix.map_or("", AsRef::as_ref), Some(offset.as_ref())).map(|meta| listed(&meta?)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listing = self.list_level(prefix.map_or("", AsRef::as_ref)).await?;
        let prefixes = listing.prefixes.iter().map(|prefix| Path::parse(prefix).map_err(Error::from)).collect::<Result<_>>()?;
        Ok(list_result(prefixes, listing.objects.iter().map(listed).collect::<Result<_>>()?))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let target = match options.mode {
            CopyMode::Overwrite => Target::Overwrite,
            CopyMode::Create => Target::Create,
        };
        Ok(self.copy_object(from.as_ref(), to.as_ref(), target).await?)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let target = match options.target_mode {
            RenameTargetMode::Overwrite => Target::Overwrite,
            RenameTargetMode::Create => Target::Create,
        };
        Ok(self.rename_object(from.as_ref(), to.as_ref(), target).await?)
    }
}

/// A multipart upload.
#[derive(Debug)]
struct Parts(Upload);

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.0.part(payload_parts(&data));
        async move { Ok(part.await?) }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        Ok(put_result(tag(self.0.complete().await?)))
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(self.0.abort().await?)
    }
}
