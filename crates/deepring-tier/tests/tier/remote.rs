//! A remote in memory that counts what it is asked, answers when it may, and misbehaves as it is told.

use async_trait::async_trait;
use bytes::Bytes;
use deepring_tier::v014::object_store::memory::InMemory;
use deepring_tier::v014::object_store::path::Path;
use deepring_tier::v014::object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;

/// What a remote does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Trouble {
    #[default]
    None,
    Hangs,
    HangsInTheBody,
    Short,
    Long,
    OtherRange,
    /// Every `If-Match` fails.
    AlwaysLost,
    NoTag,
    WeakTag,
    /// Each answer has another `ETag`, whatever was asked for.
    OtherTag,
    Fails,
    /// It looks at the object at once, and answers when it may.
    AnswersLate,
}

/// One request for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) range: Option<GetRange>,
    pub(crate) head: bool,
    pub(crate) if_match: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) objects: InMemory,
    trouble: Mutex<Trouble>,
    asked: Mutex<Vec<Asked>>,
    tags: AtomicU64,
    answers: watch::Sender<bool>,
    takes_puts: watch::Sender<bool>,
}

impl Remote {
    pub(crate) fn new() -> Self {
        Self {
            objects: InMemory::new(),
            trouble: Mutex::default(),
            asked: Mutex::default(),
            tags: AtomicU64::new(0),
            answers: watch::channel(true).0,
            takes_puts: watch::channel(true).0,
        }
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        *self.trouble.lock().expect("a lock") = trouble;
    }

    /// Whether it answers from now on; until then it keeps requests waiting.
    pub(crate) fn answers(&self, yes: bool) {
        self.answers.send_replace(yes);
    }

    /// Whether it takes puts from now on; until then it keeps them waiting.
    pub(crate) fn takes_puts(&self, yes: bool) {
        self.takes_puts.send_replace(yes);
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().expect("a lock")
    }

    /// The ranges that it was asked for since the last call.
    pub(crate) fn take_ranges(&self) -> Vec<Range<u64>> {
        let asked = std::mem::take(&mut *self.asked());
        let range = |asked: Asked| match asked.range {
            Some(GetRange::Bounded(range)) => range,
            other => panic!("not a range: {other:?}"),
        };
        asked.into_iter().filter(|asked| !asked.head).map(range).collect()
    }

    /// How often it was asked for bytes, and for descriptions, since the last call.
    pub(crate) fn take_counts(&self) -> (usize, usize) {
        let asked = std::mem::take(&mut *self.asked());
        let heads = asked.iter().filter(|asked| asked.head).count();
        (asked.len() - heads, heads)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.takes_puts.subscribe().wait_for(|takes| *takes).await.expect("the remote is there");
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let asked = Asked { range: options.range.clone(), head: options.head, if_match: options.if_match.clone() };
        self.asked().push(asked);
        let trouble = *self.trouble.lock().expect("a lock");
        let (mut answers, path) = (self.answers.subscribe(), location.clone());
        let may_answer = answers.wait_for(|answers| *answers);
        if trouble == Trouble::AnswersLate {
            let result = self.objects.get_opts(&path, options).await;
            drop(may_answer.await.expect("the remote is there"));
            return result;
        }
        drop(may_answer.await.expect("the remote is there"));
        let trouble = *self.trouble.lock().expect("a lock");
        match trouble {
            Trouble::Hangs => std::future::pending().await,
            Trouble::Fails => return Err(Error::Generic { store: "Remote", source: "it fails".into() }),
            Trouble::AlwaysLost if options.if_match.is_some() => {
                return Err(Error::Precondition { path: location.to_string(), source: "412".into() });
            }
            Trouble::OtherTag | Trouble::NoTag | Trouble::WeakTag => options.if_match = None,
            _ => {}
        }
        let head = options.head;
        let mut result = self.objects.get_opts(location, options).await?;
        let tag = result.meta.e_tag.clone().unwrap_or_default();
        match trouble {
            Trouble::NoTag => result.meta.e_tag = None,
            Trouble::WeakTag => result.meta.e_tag = Some(format!("W/{tag}")),
            Trouble::OtherTag => result.meta.e_tag = Some(format!("\"{}-{tag}", self.tags.fetch_add(1, Ordering::Relaxed))),
            Trouble::OtherRange => result.range = result.range.start + 1..result.range.end,
            _ => {}
        }
        if head {
            return Ok(result);
        }
        let (meta, range, attributes, extensions) =
            (result.meta.clone(), result.range.clone(), result.attributes.clone(), result.extensions.clone());
        let bytes = result.bytes().await?;
        let half = bytes.slice(..bytes.len() / 2);
        let body: BoxStream<'static, Result<Bytes>> = match trouble {
            Trouble::HangsInTheBody => stream::iter([Ok(half)]).chain(stream::pending()).boxed(),
            Trouble::Short => stream::iter([Ok(half)]).boxed(),
            Trouble::Long => stream::iter([Ok(bytes), Ok(Bytes::from_static(b"more"))]).boxed(),
            // In several chunks, as from a network.
            _ => stream::iter([Ok(half.clone()), Ok(Bytes::new()), Ok(bytes.slice(half.len()..))]).boxed(),
        };
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes, extensions })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.objects.rename_opts(from, to, options).await
    }
}
