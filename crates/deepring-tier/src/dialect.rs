//! `ObjectStore` for [`TieredStore`], and the remote behind it, in the words of one version of `object_store`. `v013.rs` and
//! `v014.rs` mount this file each with its own version, and bring what differs between them.

use super::get_result;
use super::object_store::path::Path;
use super::object_store::{
    Attribute, AttributeValue, Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use crate::attributes::{Attributes as Kept, Name};
use crate::failure::{Failure, Kind};
use crate::remote::{Answer, Ask, Asked, Meta, Remote};
use crate::serve::Wanted;
use crate::store::{Changing, Outcome, Store};
use crate::tier::Tier;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The name of the store in errors.
const STORE: &str = "DeepringTier";

/// A store behind a tier: an `ObjectStore` that reads from the drive what it has read before.
///
/// Puts, copies, renames, deletes and listings go to the remote as they are. What they change is forgotten.
///
/// ```
/// # #[cfg(feature = "v014")] {
/// # use deepring_tier::v014::object_store;
/// use deepring_tier::{Tier, v014::TieredStore};
/// use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
/// use std::sync::Arc;
/// # let directory = tempfile::tempdir()?;
/// let engine = deepring::Engine::builder().build()?;
/// let tier = Tier::builder(&engine).open(directory.path(), 16 << 20)?;
/// let [sales, stock] = ["s3://sales", "s3://stock"].map(|name| TieredStore::new(&tier, Arc::new(InMemory::new()), name));
/// # pollster::block_on(async {
/// sales.put(&Path::from("part-0"), "sold".into()).await?;
/// stock.put(&Path::from("part-0"), "in stock".into()).await?;
/// assert_eq!(sales.get(&Path::from("part-0")).await?.bytes().await?, "sold");
/// assert_eq!(stock.get(&Path::from("part-0")).await?.bytes().await?, "in stock");
/// # Ok::<(), object_store::Error>(())
/// # })?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TieredStore {
    store: Store,
    remote: Arc<dyn ObjectStore>,
}

impl TieredStore {
    /// Puts a tier before a remote store. The name tells it from all other remotes of the tier, also after a restart: the URL of
    /// its root, `s3://bucket` for example. Two stores of one name must be the same store.
    #[must_use]
    pub fn new(tier: &Tier, remote: Arc<dyn ObjectStore>, name: impl AsRef<str>) -> Self {
        let behind = Arc::new(Behind(Arc::clone(&remote)));
        Self { store: Store::new(Arc::clone(&tier.inner), behind, name.as_ref()), remote }
    }

    /// The store behind the tier.
    pub fn remote(&self) -> &Arc<dyn ObjectStore> {
        &self.remote
    }

    /// The tier.
    pub fn tier(&self) -> Tier {
        Tier { inner: Arc::clone(&self.store.inner) }
    }
}

impl fmt::Display for TieredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TieredStore({}, {})", self.store.name(), self.remote)
    }
}

impl fmt::Debug for TieredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredStore").field("name", &self.store.name()).field("remote", &self.remote).field("tier", &self.tier()).finish()
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let (kind, path) = (failure.kind, failure.path.clone());
        let source = failure.into_source();
        match kind {
            Kind::NotFound => Self::NotFound { path, source },
            Kind::AlreadyExists => Self::AlreadyExists { path, source },
            Kind::Precondition | Kind::Lost | Kind::Differs => Self::Precondition { path, source },
            Kind::NotModified => Self::NotModified { path, source },
            Kind::Denied => Self::PermissionDenied { path, source },
            Kind::Unauthenticated => Self::Unauthenticated { path, source },
            Kind::NotSupported => Self::NotSupported { source },
            Kind::Other => Self::Generic { store: STORE, source },
        }
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::NotFound { path, source } => Failure::new(Kind::NotFound, path, source),
        Error::AlreadyExists { path, source } => Failure::new(Kind::AlreadyExists, path, source),
        Error::Precondition { path, source } => Failure::new(Kind::Precondition, path, source),
        Error::NotModified { path, source } => Failure::new(Kind::NotModified, path, source),
        Error::PermissionDenied { path, source } => Failure::new(Kind::Denied, path, source),
        Error::Unauthenticated { path, source } => Failure::new(Kind::Unauthenticated, path, source),
        Error::NotSupported { source } => Failure::new(Kind::NotSupported, "", source),
        other => Failure::new(Kind::Other, "", other),
    }
}

/// The remote, as the tier sees it.
#[derive(Debug)]
struct Behind(Arc<dyn ObjectStore>);

impl Remote for Behind {
    fn get(&self, path: &str, ask: Ask) -> BoxFuture<'static, std::result::Result<Answer, Failure>> {
        let (remote, path) = (Arc::clone(&self.0), Path::parse(path));
        async move {
            let path = path.map_err(|error| failure(error.into()))?;
            let range = match ask.asked {
                Asked::All => None,
                Asked::Bounded(range) => Some(GetRange::Bounded(range)),
                Asked::Offset(start) => Some(GetRange::Offset(start)),
                Asked::Suffix(bytes) => Some(GetRange::Suffix(bytes)),
            };
            let options = GetOptions { range, if_match: ask.if_match, head: ask.head, ..GetOptions::default() };
            let result = remote.get_opts(&path, options).await.map_err(failure)?;
            let ObjectMeta { last_modified, size, e_tag, version, .. } = result.meta.clone();
            let meta = Meta { e_tag, size, modified: last_modified, version, attributes: known(&result.attributes) };
            let range = result.range.clone();
            let body = if ask.head { stream::empty().boxed() } else { result.into_stream().map_err(failure).boxed() };
            Ok(Answer { meta, range, body })
        }
        .boxed()
    }
}

fn object_meta(location: &Path, meta: &Meta) -> ObjectMeta {
    let Meta { e_tag, size, modified, version, .. } = meta.clone();
    ObjectMeta { location: location.clone(), last_modified: modified, size, e_tag, version }
}

/// Attributes as the tier keeps them. `None` if there is one that is of a later version than this crate knows.
fn known(attributes: &Attributes) -> Option<Arc<Kept>> {
    let one = |(name, value): (&Attribute, &AttributeValue)| {
        let name = match name {
            Attribute::ContentDisposition => Name::ContentDisposition,
            Attribute::ContentEncoding => Name::ContentEncoding,
            Attribute::ContentLanguage => Name::ContentLanguage,
            Attribute::ContentType => Name::ContentType,
            Attribute::CacheControl => Name::CacheControl,
            Attribute::StorageClass => Name::StorageClass,
            Attribute::Metadata(own) => Name::Metadata(own.to_string()),
            _ => return None,
        };
        Some((name, value.to_string()))
    };
    attributes.iter().map(one).collect::<Option<_>>().map(|list| Arc::new(Kept(list)))
}

/// The attributes of an object, if all are known.
fn attributes(meta: &Meta) -> Option<Attributes> {
    let one = |(name, value): &(Name, String)| {
        let name = match name {
            Name::ContentDisposition => Attribute::ContentDisposition,
            Name::ContentEncoding => Attribute::ContentEncoding,
            Name::ContentLanguage => Attribute::ContentLanguage,
            Name::ContentType => Attribute::ContentType,
            Name::CacheControl => Attribute::CacheControl,
            Name::StorageClass => Attribute::StorageClass,
            Name::Metadata(own) => Attribute::Metadata(own.clone().into()),
        };
        (name, value.clone())
    };
    Some(meta.attributes.as_ref()?.0.iter().map(one).collect())
}

fn asked(range: Option<&GetRange>) -> Asked {
    match range {
        None => Asked::All,
        Some(GetRange::Bounded(range)) => Asked::Bounded(range.clone()),
        Some(GetRange::Offset(start)) => Asked::Offset(*start),
        Some(GetRange::Suffix(bytes)) => Asked::Suffix(*bytes),
    }
}

#[async_trait]
impl ObjectStore for TieredStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let changing = self.store.changing(location.as_ref()).await;
        let result = self.remote.put_opts(location, payload, options).await;
        changing.end().await;
        result
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.remote.put_multipart_opts(location, options).await?;
        Ok(Box::new(Upload { parts: upload, store: self.store.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.as_ref();
        let Some(validate) = self.store.rule(path) else { return self.remote.get_opts(location, options).await };
        if options.version.is_some() {
            self.store.count_bypass();
            return self.remote.get_opts(location, options).await;
        }
        let check = |meta: &Meta| options.check_preconditions(&object_meta(location, meta)).map_err(failure);
        let asked = asked(options.range.as_ref());
        if options.head {
            let meta = self.store.describe(path, validate, &check).await?;
            let Some(attributes) = attributes(&meta) else { return self.remote.get_opts(location, options).await };
            let range = asked.resolve(meta.size).map_err(|fault| Failure::fault(path, fault))?;
            return Ok(get_result(GetResultPayload::Stream(stream::empty().boxed()), object_meta(location, &meta), range, attributes));
        }
        let Outcome::Served(served) = self.store.serve(path, validate, Wanted::One(&asked, &check)).await? else {
            return self.remote.get_opts(location, options).await;
        };
        let Some(attributes) = attributes(served.meta()) else { return self.remote.get_opts(location, options).await };
        let (meta, range) = (object_meta(location, served.meta()), served.ranges.first().cloned().unwrap_or_default());
        let bytes = served.into_stream(self.store.clone()).map_err(Error::from).boxed();
        Ok(get_result(GetResultPayload::Stream(bytes), meta, range, attributes))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let path = location.as_ref();
        let Some(validate) = self.store.rule(path) else { return self.remote.get_ranges(location, ranges).await };
        match self.store.serve(path, validate, Wanted::Many(ranges)).await? {
            Outcome::Served(served) => Ok(served.into_bytes()?),
            Outcome::Around => self.remote.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let changes: Arc<Mutex<HashMap<String, Changing>>> = Arc::default();
        let (store, begun) = (self.store.clone(), Arc::clone(&changes));
        let locations = locations.then(move |location| {
            let (store, begun) = (store.clone(), Arc::clone(&begun));
            async move {
                let location = location?;
                let changing = store.changing(location.as_ref()).await;
                let earlier = begun.lock().unwrap_or_else(PoisonError::into_inner).insert(location.to_string(), changing);
                drop(earlier);
                Ok(location)
            }
        });
        // Those whose end was not reported end with the stream.
        let deleted = self.remote.delete_stream(locations.boxed()).then(move |result| {
            let ended = result.as_ref().ok().and_then(|path| changes.lock().unwrap_or_else(PoisonError::into_inner).remove(path.as_ref()));
            async move {
                if let Some(changing) = ended {
                    changing.end().await;
                }
                result
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.remote.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.remote.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.remote.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let changing = self.store.changing(to.as_ref()).await;
        let result = self.remote.copy_opts(from, to, options).await;
        changing.end().await;
        result
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let gone = self.store.changing(from.as_ref()).await;
        let new = self.store.changing(to.as_ref()).await;
        let result = self.remote.rename_opts(from, to, options).await;
        gone.end().await;
        new.end().await;
        result
    }
}

/// A multipart upload of the remote: its object is there, or another one, when it is complete.
struct Upload {
    parts: Box<dyn MultipartUpload>,
    store: Store,
    location: Path,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("parts", &self.parts).field("location", &self.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let changing = self.store.changing(self.location.as_ref()).await;
        let result = self.parts.complete().await;
        changing.end().await;
        result
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.abort().await
    }
}
