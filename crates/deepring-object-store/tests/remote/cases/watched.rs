//! [`Watched`]: an object store that records its calls, fails one of them, and counts the bytes that are alive.

use super::object_store::path::Path;
use super::object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fails {
    /// Nothing is done.
    Before,
    /// It is done, and its answer is lost.
    After,
}

/// What a put does that asks for no object to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Conditions {
    #[default]
    Held,
    NotImplemented,
    NotSupported,
    Ignored,
}

/// What comes of the bytes of a range, and of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Answers {
    #[default]
    Right,
    /// A byte is missing at the end, or is too much there.
    Short,
    Long,
    /// In chunks of a few bytes.
    Crumbs,
    /// It is said to be of other bytes.
    Shifted,
    /// Objects have no version, or one that does not tell all bytes apart.
    Untagged,
    Weak,
}

type Hook = Arc<dyn Fn(usize, &str) + Send + Sync>;

#[derive(Default)]
struct Rules {
    calls: Vec<String>,
    fails: Option<(usize, Fails)>,
    conditions: Conditions,
    answers: Answers,
    hook: Option<Hook>,
    /// How often each call waits.
    pauses: usize,
}

/// Bytes that are alive.
#[derive(Debug, Default)]
pub(crate) struct Alive {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// See the module.
pub(crate) struct Watched {
    inner: Arc<dyn ObjectStore>,
    rules: Arc<Mutex<Rules>>,
    pub(crate) alive: Arc<Alive>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

/// Bytes that are counted as long as they are alive.
struct Counted(Bytes, Arc<Alive>);

impl Counted {
    fn new(bytes: Bytes, alive: &Arc<Alive>) -> Self {
        let now = alive.now.fetch_add(bytes.len(), Ordering::AcqRel) + bytes.len();
        alive.most.fetch_max(now, Ordering::AcqRel);
        Self(bytes, Arc::clone(alive))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len(), Ordering::AcqRel);
    }
}

impl Alive {
    /// The most that were alive at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Acquire)
    }

    pub(crate) fn now(&self) -> usize {
        self.now.load(Ordering::Acquire)
    }
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, rules: Arc::default(), alive: Arc::default() }
    }

    /// What it stands in front of.
    pub(crate) fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// The calls since the last time, in their order.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.rules.lock().expect("rules").calls)
    }

    /// Lets a call fail, counted from now.
    pub(crate) fn fail(&self, fails: Option<(usize, Fails)>) {
        let mut rules = self.rules.lock().expect("rules");
        rules.calls.clear();
        rules.fails = fails;
    }

    pub(crate) fn conditions(&self, conditions: Conditions) {
        self.rules.lock().expect("rules").conditions = conditions;
    }

    pub(crate) fn answers(&self, answers: Answers) {
        self.rules.lock().expect("rules").answers = answers;
    }

    /// Calls this before each call.
    pub(crate) fn hook(&self, hook: impl Fn(usize, &str) + Send + Sync + 'static) {
        self.rules.lock().expect("rules").hook = Some(Arc::new(hook));
    }

    /// Does this before the call of this name and number: `1` is the second of that name from now. A number among all calls would
    /// not say which call it is, where several files are on their way.
    pub(crate) fn before(&self, name: String, number: usize, change: impl Fn() + Send + Sync + 'static) {
        let calls = AtomicUsize::new(0);
        self.hook(move |_, call| {
            if call == name && calls.fetch_add(1, Ordering::Relaxed) == number {
                change();
            }
        });
    }

    /// Lets every call wait, so that others begin meanwhile.
    pub(crate) fn pauses(&self, times: usize) {
        self.rules.lock().expect("rules").pauses = times;
    }

    async fn around<T>(&self, call: String, inner: impl Future<Output = Result<T>>) -> Result<T> {
        around(&self.rules, call, inner).await
    }
}

async fn around<T>(rules: &Mutex<Rules>, call: String, inner: impl Future<Output = Result<T>>) -> Result<T> {
    let (number, fails, hook, pauses) = {
        let mut rules = rules.lock().expect("rules");
        let number = rules.calls.len();
        rules.calls.push(call.clone());
        let fails = rules.fails.filter(|&(at, _)| at == number).map(|(_, fails)| fails);
        (number, fails, rules.hook.clone(), rules.pauses)
    };
    if let Some(hook) = hook {
        hook(number, &call);
    }
    pause(pauses).await;
    let failed = || Error::Generic { store: "Watched", source: format!("call {number} fails: {call}").into() };
    match fails {
        Some(Fails::Before) => Err(failed()),
        Some(Fails::After) => {
            drop(inner.await);
            Err(failed())
        }
        None => inner.await,
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let alive: Vec<Counted> = payload.iter().map(|bytes| Counted::new(bytes.clone(), &self.alive)).collect();
        let call = if matches!(options.mode, PutMode::Create) { format!("create {location}") } else { format!("put {location}") };
        let inner = async {
            let conditions = self.rules.lock().expect("rules").conditions;
            if matches!(options.mode, PutMode::Create) {
                match conditions {
                    Conditions::Held => {}
                    Conditions::Ignored => options.mode = PutMode::Overwrite,
                    Conditions::NotSupported => return Err(Error::NotSupported { source: "no conditions".into() }),
                    Conditions::NotImplemented => {
                        return Err(Error::NotImplemented { operation: "PutMode::Create".into(), implementer: self.to_string() });
                    }
                }
            }
            self.inner.put_opts(location, payload, options).await
        };
        let result = self.around(call, inner).await;
        drop(alive);
        result
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.around(format!("begin {location}"), self.inner.put_multipart_opts(location, options)).await?;
        let (rules, alive) = (Arc::clone(&self.rules), Arc::clone(&self.alive));
        Ok(Box::new(Parts { inner: upload, location: location.clone(), rules, alive }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head" } else { "get" };
        let (has_range, has_condition) = (options.range.is_some(), options.if_match.is_some());
        let mut result = self.around(format!("{what} {location}"), self.inner.get_opts(location, options)).await?;
        let (answers, pauses) = {
            let rules = self.rules.lock().expect("rules");
            (rules.answers, rules.pauses)
        };
        if let Answers::Untagged | Answers::Weak = answers {
            assert!(!has_condition, "no version can be asked for");
            result.meta.e_tag = (answers == Answers::Weak).then(|| "W/\"1\"".to_owned());
        }
        if answers == Answers::Shifted && has_range {
            result.range = result.range.start + 1..result.range.end + 1;
        }
        if let GetResultPayload::Stream(stream) = &mut result.payload {
            let inner = std::mem::replace(stream, futures_util::stream::empty().boxed());
            let inner = if has_range { changed(inner, answers) } else { inner };
            *stream = counted(inner, Arc::clone(&self.alive), pauses);
        }
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let call = format!("list {}", prefix.map_or("", AsRef::as_ref));
        self.around(call, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Bytes that came as the answers say.
fn changed(stream: BoxStream<'static, Result<Bytes>>, answers: Answers) -> BoxStream<'static, Result<Bytes>> {
    let cut = |chunk: Result<Bytes>| chunk.map(|bytes| bytes.slice(..bytes.len() - 1));
    match answers {
        Answers::Short => stream.map(cut).boxed(),
        Answers::Long => stream.chain(futures_util::stream::iter([Ok(Bytes::from_static(&[7]))])).boxed(),
        Answers::Crumbs => {
            let crumbs = |chunk: Result<Bytes>| {
                let bytes = chunk.unwrap_or_default();
                let crumbs: Vec<_> = (0..bytes.len()).step_by(13).map(|at| Ok(bytes.slice(at..bytes.len().min(at + 13)))).collect();
                futures_util::stream::iter(crumbs)
            };
            stream.flat_map(crumbs).boxed()
        }
        _ => stream,
    }
}

/// Bytes that are counted, each chunk of which waits.
fn counted(stream: BoxStream<'static, Result<Bytes>>, alive: Arc<Alive>, pauses: usize) -> BoxStream<'static, Result<Bytes>> {
    let counted = move |chunk: Result<Bytes>| {
        let chunk = chunk.map(|bytes| Bytes::from_owner(Counted::new(bytes, &alive)));
        async move {
            pause(pauses).await;
            chunk
        }
    };
    stream.then(counted).boxed()
}

struct Parts {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    rules: Arc<Mutex<Rules>>,
    alive: Arc<Alive>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let alive: Vec<Counted> = data.iter().map(|bytes| Counted::new(bytes.clone(), &self.alive)).collect();
        let (rules, call, part) = (Arc::clone(&self.rules), format!("part {}", self.location), self.inner.put_part(data));
        Box::pin(async move {
            let result = around(&rules, call, part).await;
            drop(alive);
            result
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let call = format!("complete {}", self.location);
        around(&self.rules, call, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        let call = format!("abort {}", self.location);
        around(&self.rules, call, self.inner.abort()).await
    }
}

/// Waits this many times, so that others have their turn.
async fn pause(times: usize) {
    for _ in 0..times {
        let mut has_waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut has_waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
